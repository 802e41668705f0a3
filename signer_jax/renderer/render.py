"""Pose to latents: the control picture, one prediction of the velocity, and the sampling of a clip (paper 2.3).

The transformer sees the noisy latents and, in further channels, the reference image's latents on every frame (the
style); the pose enters once, after the patch embedding, through the ControlNeXt branch; SLUL's features enter the cross
attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from signer_jax.pose.rasterise import rasterise
from signer_jax.renderer.control import ControlBranch, fold_time
from signer_jax.renderer.losses import hand_weight
from signer_jax.renderer.sampler import sample
from signer_jax.renderer.schedule import sigmas, timestep
from signer_jax.renderer.video_transformer import VideoTransformer

# The transformer's output starts at zero, and so the gate at sigmoid(FIRST_GATE): the reference image but for a trace,
# which is right wherever nothing moves. GATE_SLOPE lets it open with few steps.
FIRST_GATE, GATE_SLOPE = 5.0, 4.0


@dataclass(frozen=True)
class Renderer:
    """The renderer's modules and the shapes that tie them together; its parameters are `{control, transformer}`."""

    transformer: VideoTransformer
    control: ControlBranch
    groups: Sequence[tuple[str, np.ndarray, float]]  # limbs a control channel, `pose.skeleton.limb_groups`
    control_size: int  # pixels of the control picture
    softness: float  # edge of a drawn limb, pixels
    temporal_ratio: int  # video frames a latent frame
    text_length: int  # rows of the cross attention's text, zeros past the sentence
    prediction: Literal["velocity", "gated"]  # what the transformer's output means, see `clean`

    def control_video(
        self, pose: Float[Array, "b t j c"], confidence: Float[Array, "b t j"]
    ) -> Float[Array, "b t y x c"]:
        """The differentiable control picture of every frame."""
        return jnp.asarray(rasterise(pose[..., :2], confidence, self.groups, self.control_size, softness=self.softness))

    def text(self, features: Float[Array, "b s d"] | None, mask: Bool[Array, "b s"] | None, batch: int) -> Array:
        """SLUL's features with zero rows for padding, as Wan pads its text; all zeros where there is no sentence."""
        if features is None or mask is None:
            return jnp.zeros((batch, self.text_length, self.transformer.text_dim), jnp.float32)
        return features * mask[..., None]

    def velocity(
        self,
        params: dict,
        noisy: Float[Array, "b t h w c"],
        sigma: Float[Array, " b"],
        reference: Float[Array, "b h w c"],
        control_video: Float[Array, "b t y x c"],
        text: Float[Array, "b s d"],
        keep: Float[Array, " b"],
    ) -> Float[Array, "b t h w c"]:
        """One prediction of ε - x0. `keep` 0 drops pose and text of an example: the unconditional half of guidance."""
        clean = self.clean(params, noisy, sigma, reference, control_video, text, keep)
        return (noisy - clean) / _column(sigma)

    def clean(
        self,
        params: dict,
        noisy: Float[Array, "b t h w c"],
        sigma: Float[Array, " b"],
        reference: Float[Array, "b h w c"],
        control_video: Float[Array, "b t y x c"],
        text: Float[Array, "b s d"],
        keep: Float[Array, " b"],
    ) -> Float[Array, "b t h w c"]:
        """One prediction of x0.

        "velocity": the transformer gives ε - x0, as published Wan weights do; x0 = x_σ - σ (ε - x0). "gated": it gives
        new latents and, in one more channel, a gate between them and the reference image's, x0 = g·reference +
        (1 - g)·new: what stands still is copied, and no capacity goes into carrying the noise through.
        """
        step = timestep(sigma)
        control = self.control.apply({"params": params["control"]}, fold_time(control_video, self.temporal_ratio), step)
        style = jnp.broadcast_to(reference[:, None], (*noisy.shape[:4], reference.shape[-1]))
        out: Any = self.transformer.apply(
            {"params": params["transformer"]},
            jnp.concatenate([noisy, style], axis=-1),
            step,
            text * keep[:, None, None],
            control=control,
            control_scale=keep,
        )
        if self.prediction == "velocity":
            return noisy - _column(sigma) * out
        gate = jax.nn.sigmoid(GATE_SLOPE * out[..., -1:] + FIRST_GATE)
        return gate * style + (1.0 - gate) * out[..., :-1]

    def render(
        self,
        params: dict,
        noise: Float[Array, "b t h w c"],
        pose: Float[Array, "b t j c"],
        confidence: Float[Array, "b t j"],
        reference: Float[Array, "b h w c"],
        text: Float[Array, "b s d"],
        *,
        steps: int,
        shift: float,
        guidance: float,
    ) -> Float[Array, "b t h w c"]:
        """Clean, normalised latents of each clip, by Euler steps from `noise`; t = temporal_ratio·k + 1 pose frames."""
        video = self.control_video(pose, confidence)
        keep = jnp.ones(pose.shape[0])

        def velocity(x: Array, sigma: Array, condition: tuple) -> Array:
            return self.velocity(params, x, sigma, *condition)

        return sample(
            velocity,
            noise,
            sigmas(steps, shift),
            guidance=guidance,
            condition=(reference, video, text, keep),
            null_condition=(reference, video, text, jnp.zeros_like(keep)),
        )

    def hand_weight(
        self, control_video: Float[Array, "b t y x c"], grid: int, gain: float
    ) -> Float[Array, "b k h w 1"]:
        """Loss weights on the latent grid: `gain` where a hand is drawn, 1 elsewhere (`losses.hand_weight`)."""
        hands = np.array(
            [i for i, (name, _, _) in enumerate(self.groups) if name.endswith(("palm", "index", "fingers"))]
        )
        drawn = jax.lax.stop_gradient(control_video[..., hands].max(axis=-1))
        return hand_weight(drawn, time_ratio=self.temporal_ratio, space_ratio=self.control_size // grid, gain=gain)


def _column(sigma: Float[Array, " b"]) -> Float[Array, "b 1 1 1 1"]:
    """One level an example, against latents."""
    return sigma[:, None, None, None, None]
