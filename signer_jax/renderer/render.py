"""Pose to latents: the control picture, one prediction of the velocity, and the sampling of a clip (paper 2.3).

Flow matching from noise; the pose is the control, one reference picture the style, SLUL's features enter the cross
attention. In one of two forms: the transformer alone, as published weights want it (the reference's latents in further
input channels, the pose once after the patch embedding, through the ControlNeXt branch), or between a convolutional
stem and head (`hybrid`), which take the pose and the reference at the latents' own resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from signer_jax.pose.rasterise import rasterise
from signer_jax.renderer.control import ControlBranch, fold_time
from signer_jax.renderer.hybrid import Head, Stem
from signer_jax.renderer.losses import hand_weight
from signer_jax.renderer.sampler import Dropped, Field, guided, solve
from signer_jax.renderer.schedule import NoiseSchedule, linear_guess, timestep, velocity_to
from signer_jax.renderer.video_transformer import VideoTransformer


@dataclass(frozen=True)
class Renderer:
    """The renderer's modules and the shapes that tie them together.

    Its parameters are `{transformer, control}`, or `{transformer, stem, head}` where `hybrid` is given.
    """

    transformer: VideoTransformer
    control: ControlBranch | None  # where there is no stem and head
    hybrid: tuple[Stem, Head] | None
    schedule: NoiseSchedule
    groups: Sequence[tuple[str, np.ndarray, float]]  # limbs a control channel, `pose.skeleton.limb_groups`
    control_size: int  # pixels of the control picture
    softness: float  # edge of a drawn limb, pixels
    temporal_ratio: int  # video frames a latent frame
    text_length: int  # rows of the cross attention's text, zeros past the sentence

    def draw(self, pose: Float[Array, "b t j c"], confidence: Float[Array, "b t j"]) -> Float[Array, "b t y x g"]:
        """The differentiable control picture of every frame, one channel a limb group."""
        return jnp.asarray(rasterise(pose[..., :2], confidence, self.groups, self.control_size, softness=self.softness))

    def control_video(self, drawn: Float[Array, "b t y x g"]) -> Float[Array, "b k y x c"]:
        """What the renderer sees of each latent frame: the pictures of the frames that it covers."""
        return fold_time(drawn, self.temporal_ratio)

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
        control_video: Float[Array, "b t y x k"],
        text: Float[Array, "b s d"],
        keep: Float[Array, " b"],
    ) -> Float[Array, "b t h w c"]:
        """One prediction of ε - x0. `keep` 0 drops pose and text of an example: the unconditional half of guidance.

        The transformer alone gives it itself, as published weights do; the head gives the clean latents that the
        velocity leads to, so that no noise has to be carried through the network to be taken out again.
        """
        step, text = timestep(sigma), text * keep[:, None, None]
        transformer: Any = self.transformer
        if self.hybrid is None:
            assert self.control is not None
            control = self.control.apply({"params": params["control"]}, control_video, step)
            repeated = jnp.broadcast_to(reference[:, None], (*noisy.shape[:4], reference.shape[-1]))
            latents = jnp.concatenate([noisy, repeated], axis=-1)
            return transformer.apply(
                {"params": params["transformer"]}, latents, step, text, control=control, control_scale=keep
            )
        stem, head = (module.apply for module in self.hybrid)
        guess = linear_guess(noisy, sigma)
        levels: Any = stem({"params": params["stem"]}, guess, reference, _column(keep) * control_video, step)
        deep = transformer.apply({"params": params["transformer"]}, levels[-1], step, text)
        clean: Any = head({"params": params["head"]}, deep, levels, guess, reference, step)
        return velocity_to(clean, noisy, sigma)

    def field(
        self,
        params: dict,
        pose: Float[Array, "b t j c"],
        confidence: Float[Array, "b t j"],
        reference: Float[Array, "b h w c"],
        text: Float[Array, "b s d"],
        *,
        guidance: float,
    ) -> Field:
        """The guided velocity of each clip at (x, σ), for `sampler.solve` and `windows.solve`."""
        video = self.control_video(self.draw(pose, confidence))
        keep = jnp.ones(pose.shape[0])

        def velocity(x: Array, sigma: Array, condition: tuple) -> Array:
            return self.velocity(params, x, sigma, *condition)

        nothing = Dropped(guidance, (reference, video, text, jnp.zeros_like(keep)))
        return guided(velocity, (reference, video, text, keep), [nothing])

    def render(
        self, params: dict, noise: Float[Array, "b k h w c"], *, guidance: float, **conditions: Array
    ) -> Float[Array, "b k h w c"]:
        """Clean, normalised latents of each clip, from `noise`; t = temporal_ratio·(k-1) + 1.

        `conditions` are those of `field`: pose, confidence, reference, text.
        """
        field = self.field(params, **conditions, guidance=guidance)
        return solve(field, noise, self.schedule.levels(), solver=self.schedule.solver)

    def hand_weight(self, drawn: Float[Array, "b t y x g"], grid: int, gain: float) -> Float[Array, "b k h w 1"]:
        """Loss weights on the latent grid: `gain` where a hand is drawn, 1 elsewhere (`losses.hand_weight`)."""
        hands = np.array(
            [i for i, (name, _, _) in enumerate(self.groups) if name.endswith(("palm", "index", "fingers"))]
        )
        shown = jax.lax.stop_gradient(drawn[..., hands].max(axis=-1))
        return hand_weight(shown, time_ratio=self.temporal_ratio, space_ratio=self.control_size // grid, gain=gain)


def _column(value: Float[Array, " b"]) -> Float[Array, "b 1 1 1 1"]:
    """One value an example, against latents."""
    return value[:, None, None, None, None]
