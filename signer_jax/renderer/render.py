"""Pose to latents: the control picture, one prediction of the velocity, and the sampling of a clip (paper 2.3).

The transformer sees the noisy latents and, in further channels, each frame's reference (`references`: the style); the
wanted pose and the reference's enter once, after the patch embedding, through the ControlNeXt branch; SLUL's features
enter the cross attention.
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

# The transformer's output starts at zero, and so the sources' logits at FIRST_GATE for the first reference and 0 for
# the others: mostly a copy, which is right wherever nothing moves. GATE_SLOPE lets them change with few steps.
FIRST_GATE, GATE_SLOPE, GATE_FLOOR = 2.0, 4.0, 0.02


def source_weights(logits: Float[Array, "*b r"]) -> Float[Array, "*b r+1"]:
    """How much of each reference and (last) of the new latents a place takes: a softmax whose small shares are cut.

    What falls below GATE_FLOOR counts nothing, so that a copy is exact, without a trace of noise. The new latents'
    logit is 0.
    """
    first = jnp.zeros(logits.shape[-1]).at[0].set(FIRST_GATE)
    scores = jnp.concatenate([GATE_SLOPE * logits + first, jnp.zeros_like(logits[..., :1])], axis=-1)
    shares = jax.nn.relu(jax.nn.softmax(scores, axis=-1) - GATE_FLOOR)
    return shares / shares.sum(axis=-1, keepdims=True)


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

    def draw(self, pose: Float[Array, "b t j c"], confidence: Float[Array, "b t j"]) -> Float[Array, "b t y x g"]:
        """The differentiable control picture of every frame, one channel a limb group."""
        return jnp.asarray(rasterise(pose[..., :2], confidence, self.groups, self.control_size, softness=self.softness))

    def control_video(
        self, wanted: Float[Array, "b t y x g"], reference: Float[Array, "b k y x g"]
    ) -> Float[Array, "b k y x c"]:
        """What the control branch sees of each latent frame: the frames that it covers, and its reference's pose."""
        return jnp.concatenate([fold_time(wanted, self.temporal_ratio), reference], axis=-1)

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
        reference: Float[Array, "b t h w r c"],
        control_video: Float[Array, "b t y x k"],
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
        reference: Float[Array, "b t h w r c"],
        control_video: Float[Array, "b t y x k"],
        text: Float[Array, "b s d"],
        keep: Float[Array, " b"],
    ) -> Float[Array, "b t h w c"]:
        """One prediction of x0.

        "velocity": the transformer gives ε - x0, as published Wan weights do; x0 = x_σ - σ (ε - x0). "gated": it gives
        new latents and, in r more channels, the logits of a choice between them and the references, x0 = Σ w_k
        reference_k + w_new new (`source_weights`): what stands still is copied, and no capacity goes into carrying the
        noise through.
        """
        step = timestep(sigma)
        control = self.control.apply({"params": params["control"]}, control_video, step)
        out: Any = self.transformer.apply(
            {"params": params["transformer"]},
            jnp.concatenate([noisy, reference.reshape(*noisy.shape[:4], -1)], axis=-1),
            step,
            text * keep[:, None, None],
            control=control,
            control_scale=keep,
        )
        if self.prediction == "velocity":
            return noisy - _column(sigma) * out
        channels = noisy.shape[-1]
        weights = source_weights(out[..., channels:])[..., None]
        return (weights[..., :-1, :] * reference).sum(axis=-2) + weights[..., -1, :] * out[..., :channels]

    def render(
        self,
        params: dict,
        noise: Float[Array, "b k h w c"],
        pose: Float[Array, "b t j c"],
        confidence: Float[Array, "b t j"],
        reference: Float[Array, "b k h w r c"],
        reference_pose: Float[Array, "b k j c"],
        reference_confidence: Float[Array, "b k j"],
        text: Float[Array, "b s d"],
        *,
        steps: int,
        shift: float,
        guidance: float,
    ) -> Float[Array, "b k h w c"]:
        """Clean, normalised latents of each clip, by Euler steps from `noise`; t = temporal_ratio·(k-1) + 1."""
        video = self.control_video(self.draw(pose, confidence), self.draw(reference_pose, reference_confidence))
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

    def hand_weight(self, wanted: Float[Array, "b t y x g"], grid: int, gain: float) -> Float[Array, "b k h w 1"]:
        """Loss weights on the latent grid: `gain` where a hand is drawn, 1 elsewhere (`losses.hand_weight`)."""
        hands = np.array(
            [i for i, (name, _, _) in enumerate(self.groups) if name.endswith(("palm", "index", "fingers"))]
        )
        drawn = jax.lax.stop_gradient(wanted[..., hands].max(axis=-1))
        return hand_weight(drawn, time_ratio=self.temporal_ratio, space_ratio=self.control_size // grid, gain=gain)


def _column(sigma: Float[Array, " b"]) -> Float[Array, "b 1 1 1 1"]:
    """One level an example, against latents."""
    return sigma[:, None, None, None, None]
