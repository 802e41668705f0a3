"""Pose to latents: the control picture, one prediction of the velocity, and the sampling of a clip (paper 2.3).

Flow matching from noise; the pose is the control, one reference picture the style, SLUL's features enter the cross
attention. The variant's record (`variants`) says how each of them reaches the transformer: its input channels, one more
frame in front, tokens, a control branch, or, between a convolutional stem and head (`hybrid`), the stem.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from signer_jax.errors import SignerError
from signer_jax.pose.rasterise import rasterise
from signer_jax.renderer import pose_picture
from signer_jax.renderer.conditions import Conditions, Encode, given, in_front, streams_of, without
from signer_jax.renderer.control import ControlBranch, fold_time
from signer_jax.renderer.hybrid import Head, Stem
from signer_jax.renderer.losses import covered, hand_and_face_weight, hand_weight
from signer_jax.renderer.pose_picture import Shapes
from signer_jax.renderer.sampler import Dropped, Experts, Field, guided
from signer_jax.renderer.schedule import NoiseSchedule, high_noise, linear_guess, timestep, velocity_to
from signer_jax.renderer.variants import Variant
from signer_jax.renderer.video_transformer import VideoTransformer
from signer_jax.types import Array as AnyArray

# What guidance leads away from, and what training drops for it, together. Animate's face is published to go with it.
GUIDED = ("pose", "text", "semantics", "face")
CLIP_TOKENS = 257  # of ViT-H/14, which published variants read


@dataclass(frozen=True)
class Renderer:
    """The renderer's modules and the shapes that tie them together.

    Its parameters are `{transformer, control}` (`{transformer}` without a branch), or `{transformer, stem, head}` where
    `hybrid` is given; a two-expert variant's `transformer` is `{high, low}`.
    """

    variant: Variant
    transformer: VideoTransformer
    control: ControlBranch | None  # where the pose comes through a branch
    hybrid: tuple[Stem, Head] | None
    schedule: NoiseSchedule
    groups: Sequence[tuple[str, np.ndarray, float]]  # limbs a control channel, `pose.skeleton.limb_groups`
    face: tuple[np.ndarray, float]  # limbs that cover the face, `pose.skeleton.face_area`
    shapes: Shapes | None  # of pictures in DWPose's convention, instead of the limbs' channels
    control_size: tuple[int, int]  # height and width of the control picture
    grid: tuple[int, int]  # of the latents of the videos that it is for; others have a picture of the same scale
    softness: float  # edge of a drawn limb, pixels
    temporal_ratio: int  # video frames a latent frame
    spatial_ratio: int  # pixels a side of a latent
    text_length: int  # rows of SLUL's features, zeros past the sentence

    # ---- What the renderer sees --------------------------------------------------------------------------------------
    def draw(
        self, pose: Float[Array, "b t j c"], confidence: Float[Array, "b t j"], grid: tuple[int, int]
    ) -> Float[Array, "b t y x g"]:
        """The differentiable control picture of every frame: a channel a limb group, or DWPose's colours; in 0…1. No
        channel where nothing is shown the pose.

        `grid`: height and width of the video's latents.
        """
        height, width = (self.control_size[i] * grid[i] // self.grid[i] for i in range(2))
        size = (height, width)
        if self.control is None and self.hybrid is None and self.shapes is None:
            return jnp.zeros((*pose.shape[:2], *size, 0))
        if self.shapes is None:
            return jnp.asarray(rasterise(pose[..., :2], confidence, self.groups, size, softness=self.softness))
        return pose_picture.draw(
            pose[..., :2], confidence, self.shapes, size, threshold=self.variant.threshold, softness=self.softness
        )

    def control_video(self, drawn: Float[Array, "b t y x g"]) -> Float[Array, "b k y x c"]:
        """What the renderer sees of each latent frame: the pictures of the frames that it covers."""
        return fold_time(drawn, self.temporal_ratio)

    def text(self, features: Float[Array, "b s d"] | None, mask: Bool[Array, "b s"] | None, batch: int) -> Array:
        """SLUL's features with zero rows for padding, as Wan pads its text; all zeros where there is no sentence."""
        if features is None or mask is None:
            width = self.transformer.text_dim if self.variant.text == "slul" else self.transformer.semantics_dim or 0
            return jnp.zeros((batch, self.text_length, width), jnp.float32)
        return features * mask[..., None]

    def conditions(
        self,
        reference: Float[Array, "b h w c"],
        drawn: Float[Array, "b t y x k"],
        text: Float[Array, "b s d"],
        *,
        encode: Encode | None = None,
        states: Float[Array, "b r e"] | None = None,
        null: Float[Array, "b n e"] | None = None,
        clip: Float[Array, "b i c"] | None = None,
        picture: Float[Array, "b y x 3"] | None = None,
        before: Float[Array, "b n y x 3"] | None = None,
        blank: Float[Array, "b k h w z"] | None = None,
        face: Float[Array, "b t y x 3"] | None = None,
    ) -> Conditions:
        """The streams that the variant takes, of what a run has.

        Args:
          drawn: what `draw` gives.
          text: what `text` gives.
          encode: the autoencoder, where the variant takes latents of pictures other than the reference.
          states, clip, face: of a text encoder, of CLIP, of the face's pictures; where None, what says nothing.
          picture: the reference in pixels, in [-1, 1], where the image stream is encoded from it (`shows_picture`).
          before: the last frames of the segment before, in [-1, 1], which this one begins with, zeros where it is the
            first; of a variant whose reference stands in front of the video.
          blank: latents of a grey video of these frames, where they are known: the same for every clip.
          null: the text encoder's states of the prompt that says nothing, zeros where None.
        """
        variant, b = self.variant, len(reference)
        found: dict[str, Any] = {}
        if variant.front or variant.first or "reference" in variant.streams:
            found["reference"] = reference
        if variant.clip_dim is not None:
            found["clip"] = jnp.zeros((b, CLIP_TOKENS, self.transformer.image_dim or 0)) if clip is None else clip
        if "image" in variant.streams and encode is not None:
            if variant.front and before is None:
                found["blank"] = self._blank(encode, drawn.shape[1], reference) if blank is None else blank
            elif variant.front:
                found["blank"], found["before"] = self._going_on(encode, drawn.shape[1], before)
            elif self.shows_picture:
                found["image"] = self._image(encode, drawn.shape[1], reference, picture)
        if self.control is not None or self.hybrid is not None:
            reader: Any = self.control if self.hybrid is None else self.hybrid[0]
            # In the type that its reader brings it to first of all: it is by far the largest of the streams.
            found |= {"picture": self.control_video(drawn).astype(reader.dtype), "scale": jnp.ones(b)}
        elif self.shapes is not None and encode is not None:  # as latents: Animate's tokens, Fun-Control's channels
            found["pose" if variant.pose == "tokens" else "control"] = encode(2.0 * drawn - 1.0)
        if self.transformer.face is not None:
            found["face"] = face
        return Conditions(**found, **self._texts(text, states, null))

    def _blank(self, encode: Encode, frames: int, reference: Array) -> Array:
        """Latents of a grey video, the same for every example."""
        height, width = (side * self.spatial_ratio for side in reference.shape[1:3])
        latents = jax.lax.stop_gradient(encode(jnp.zeros((1, frames, height, width, 3))))
        return jnp.broadcast_to(latents, (len(reference), *latents.shape[1:]))

    def _going_on(self, encode: Encode, frames: int, before: Array | None) -> tuple[Array, Array]:
        """Latents of the frames before and a grey video behind them, one causal pass; which video frames are given.

        Where there are none, grey ones stand for them (`_blank`'s latents), and nothing is given.
        """
        assert before is not None
        b, n, *rest = before.shape
        latents = encode(jnp.concatenate([before, jnp.zeros((b, frames - n, *rest), before.dtype)], axis=1))
        shown = np.arange(frames) < n
        first = np.repeat(shown[:1], self.temporal_ratio)  # the first latent frame is of one video frame
        mask = np.concatenate([first, shown[1:]]).reshape(-1, self.temporal_ratio).astype(np.float32)
        return jnp.asarray(jax.lax.stop_gradient(latents)), given(before)[:, None, None] * mask

    @property
    def shows_picture(self) -> bool:
        """Whether the image stream is encoded from the reference in pixels and grey pictures after it."""
        return "image" in self.variant.streams and self.variant.first and self.variant.rest == "grey"

    def _image(self, encode: Encode, frames: int, reference: Array, picture: Array | None) -> Array:
        """Latents of each picture and a grey video behind it, one causal pass; zeros where there is no reference."""
        if picture is None:
            raise ValueError("conditions: this variant's image stream is encoded from the picture in pixels; give it")
        grey = jnp.zeros((len(picture), frames - 1, *picture.shape[1:]), picture.dtype)
        latents = jnp.asarray(jax.lax.stop_gradient(encode(in_front(picture, grey))))
        return latents * given(reference)[:, None, None, None, None]

    def _texts(self, text: Array, states: Array | None, null: Array | None) -> dict[str, Array]:
        if self.variant.text == "slul":
            return {"text": text}
        rows = self.variant.text_rows or 0
        if states is None:
            states = jnp.zeros((len(text), rows, self.transformer.text_dim))
        streams = {"text": padded_rows(states, rows)}
        if null is not None:
            streams["text_null"] = padded_rows(null, rows)
        return streams if self.transformer.semantics_dim is None else streams | {"semantics": text}

    def whole(self, latents: Float[Array, "b k h w z"], reference: Float[Array, "b h w z"]) -> Array:
        """A clip's latents as the transformer makes them: with the reference in front, where the variant has one."""
        return in_front(reference, latents) if self.variant.front else latents

    # ---- One prediction ----------------------------------------------------------------------------------------------
    def velocity(
        self,
        params: dict,
        noisy: Float[Array, "b t h w z"],
        sigma: Float[Array, " b"],
        conditions: Conditions,
        *,
        high: bool | Bool[Array, ""] | None = None,
        branch: Float[Array, "a k h w d"] | None = None,
    ) -> Float[Array, "b t h w z"]:
        """One prediction of ε - x0, of all frames that `whole` gives.

        Of two experts one is run, for all examples: `high` says whether the one for high noise, by the first example's
        level where it is None. An example whose level is the other's gets NaN, not another model's answer. `branch`:
        what the control branch gives (`_branch`), where it is known, of the pictures that the rows have in turn.

        The transformer alone gives it itself, as published weights do; the head gives the clean latents that the
        velocity leads to, so that no noise has to be carried through the network to be taken out again. Raises
        `SignerError` for conditions of another size than the video's.
        """
        c, step = conditions, timestep(sigma)
        self._check(noisy, c)
        if self.hybrid is not None:
            return self._hybrid(params, noisy, sigma, c)
        inputs: dict[str, Any] = {}
        if self.control is not None and c.picture is not None:
            branch = self._branch(params, c.picture, sigma)
        if branch is not None:
            inputs |= {"control": jnp.tile(branch, (len(noisy) // len(branch), 1, 1, 1, 1)), "control_scale": c.scale}
        if c.clip is not None:
            inputs["image"] = c.clip
        if c.semantics is not None:
            inputs["semantics"] = c.semantics
        if self.transformer.face is not None:
            video = noisy[:, 1:]
            inputs |= {"pose": jnp.zeros_like(video) if c.pose is None else c.pose, "face": c.face}
        latents, step = self._inputs(noisy, step, c)
        return self._transform(params["transformer"], sigma, high, (latents, step, c.text), inputs)

    def _branch(self, params: dict, picture: AnyArray, sigma: Array) -> Array:
        """What the control branch gives of pictures, on the token grid."""
        branch: Any = self.control
        return branch.apply({"params": params["control"]}, picture, timestep(sigma))

    def fresh_velocity(
        self, noisy: Float[Array, "b t h w z"], sigma: Float[Array, " b"], reference: Float[AnyArray, "b h w z"] | None
    ) -> Float[Array, "b t h w z"]:
        """What `velocity` gives with fresh parameters, whatever they are: their last layers are zeros, so that the
        transformer's is 0, and the head's leads to half of the reference.
        """
        if self.hybrid is None:
            return jnp.zeros_like(noisy)
        assert reference is not None
        return velocity_to(jnp.broadcast_to(reference[:, None] / 2, noisy.shape), noisy, sigma)

    def _check(self, noisy: Array, c: Conditions) -> None:
        b, t, h, w, z = noisy.shape
        video = (b, t - self.variant.front, h, w, z)
        for name in ("control", "pose", "image", "blank", "reference"):
            value = getattr(c, name)
            needs = (b, h, w, z) if name == "reference" else video
            if value is not None and value.shape != needs:
                raise SignerError(
                    f"renderer: the {name} has latents {list(value.shape)}, this video needs {list(needs)}; draw and "
                    "encode it at the video's size and length"
                )

    def _hybrid(self, params: dict, noisy: Array, sigma: Array, c: Conditions) -> Array:
        assert self.hybrid is not None
        stem, head = (module.apply for module in self.hybrid)
        transformer: Any = self.transformer
        guess, step = linear_guess(noisy, sigma), timestep(sigma)
        levels: Any = stem({"params": params["stem"]}, guess, c.reference, c.picture, step)
        deep = transformer.apply({"params": params["transformer"]}, levels[-1], step, c.text)
        clean: Any = head({"params": params["head"]}, deep, levels, guess, c.reference, step)
        return velocity_to(clean, noisy, sigma)

    def _inputs(self, noisy: Array, step: Array, c: Conditions) -> tuple[Array, Array]:
        """The input channels in the variant's order, and the timestep of each example or of each token."""
        variant, frames = self.variant, noisy.shape[1]
        there = jnp.zeros(len(noisy)) if c.reference is None else given(c.reference)
        if variant.time == "token":
            noisy, step = self._given_in_front(noisy, step, c, there)
        parts = []
        for stream in variant.streams:
            if stream == "noise":
                parts.append(noisy)
            elif stream == "reference":
                assert c.reference is not None
                parts.append(jnp.broadcast_to(c.reference[:, None], (*noisy.shape[:4], c.reference.shape[-1])))
            elif stream == "mask":
                mask = jnp.zeros((*noisy.shape[:4], self.temporal_ratio))
                mask = mask.at[:, 0].set(there[:, None, None, None])
                parts.append(mask if c.before is None else mask.at[:, 1:].set(c.before[:, :, None, None]))
            elif stream == "image" and c.image is not None:
                parts.append(jnp.asarray(c.image))
            elif stream == "image":
                bare = c.blank is None or not variant.front
                rest = jnp.zeros_like(noisy[:, 1:]) if bare else jnp.asarray(c.blank)[:, : frames - 1]
                first = jnp.zeros_like(noisy[:, 0]) if c.reference is None else c.reference
                parts.append(in_front(first, rest))
            elif c.control is None:
                parts.append(jnp.zeros_like(noisy))
            else:
                parts.append(jnp.asarray(c.control))
        return jnp.concatenate(parts, axis=-1), step

    def _given_in_front(self, noisy: Array, step: Array, c: Conditions, there: Array) -> tuple[Array, Array]:
        """The reference, clean and at timestep 0, in place of the first frame; of examples without it all is noisy."""
        pt, ph, pw = self.transformer.patch
        b, t, h, w, _ = noisy.shape
        tokens = jnp.broadcast_to(step[:, None, None], (b, t // pt, (h // ph) * (w // pw)))
        if c.reference is not None:
            first = there[:, None, None, None]
            noisy = in_front(first * c.reference + (1.0 - first) * noisy[:, 0], noisy[:, 1:])
            tokens = tokens.at[:, 0].multiply(1.0 - there[:, None])
        return noisy, tokens.reshape(b, -1)

    def _transform(
        self, params: dict, sigma: Array, high: bool | Array | None, inputs: tuple, options: dict
    ) -> Array:  # fmt: skip
        """The transformer, or of two experts the one that the examples' levels belong to."""
        transformer: Any = self.transformer

        def run(params: dict) -> Array:
            return transformer.apply({"params": params}, *inputs, **options)

        if not self.variant.experts:
            return run(params)
        theirs = high_noise(sigma, self.variant.boundary or 0.0)
        high = theirs[0] if high is None else high
        first, second = (params[name] for name in self.variant.experts)
        if isinstance(high, bool):
            v = run(first if high else second)
        else:
            v = jax.lax.cond(high, lambda: run(first), lambda: run(second))
        return jnp.where((theirs == high)[:, None, None, None, None], v, jnp.nan)

    # ---- A clip ------------------------------------------------------------------------------------------------------
    def drawn_conditions(
        self,
        pose: Float[Array, "b t j c"],
        confidence: Float[Array, "b t j"],
        reference: Float[Array, "b h w c"],
        text: Float[Array, "b s d"],
        **others: Any,
    ) -> Conditions:
        """`conditions` of a pose."""
        _, height, width, _ = reference.shape
        return self.conditions(reference, self.draw(pose, confidence, (height, width)), text, **others)

    def field_of(
        self,
        params: dict,
        conditions: Conditions,
        *,
        guidance: float,
        apart: Mapping[str, float] = MappingProxyType({}),
        apart_low: Mapping[str, float] = MappingProxyType({}),
    ) -> Field | Experts[Field]:
        """`guidance` leads away from all of `GUIDED` together, `apart` from each of its names (of `DROPPED`) alone;
        `apart_low` is in its place for the expert of low noise, for the names that it has.

        No row is computed twice: sets that drop the same streams are one, one that drops none is left out, and the
        control branch is run on the rows of the full conditions alone, since those without a pose add none of it.
        """
        reads = self.control is not None and conditions.picture is not None
        rest = conditions._replace(picture=None) if reads else conditions

        def by(high: bool | None) -> Field:
            each = {**apart, **apart_low} if high is False else apart
            shares: dict[frozenset[str], float] = {}
            names: dict[frozenset[str], Sequence[str]] = {}
            for some, value in ((GUIDED, guidance), *(((name,), value) for name, value in each.items())):
                if value != 1.0 and (streams := streams_of(conditions, some)):
                    shares[streams] = shares.get(streams, 0.0) + value - 1.0
                    names[streams] = some
            dropped = [Dropped(1.0 + share, without(rest, names[streams])) for streams, share in shares.items()]

            def velocity(x: Array, sigma: Array, rows: Conditions) -> Array:
                picture = conditions.picture if reads else None
                branch = None if picture is None else self._branch(params, picture, sigma[: len(picture)])
                return self.velocity(params, x, sigma, rows, high=high, branch=branch)

            return guided(velocity, rest, dropped)

        if self.variant.boundary is None:
            return by(None)
        return Experts(self.variant.boundary, by(True), by(False))

    def made(self, latents: Float[Array, "b k h w z"], reference: Float[Array, "b h w z"]) -> Float[Array, "b t h w z"]:
        """The clip of what was solved: without the frame in front; a first frame that was given clean as it was."""
        if self.variant.front:
            return latents[:, 1:]
        if self.variant.first and self.variant.time == "token":
            there = given(reference)[:, None, None, None]
            return in_front(there * reference + (1.0 - there) * latents[:, 0], latents[:, 1:])
        return latents

    def loss_weight(
        self,
        pose: Float[Array, "b t j c"],
        confidence: Float[Array, "b t j"],
        drawn: Float[Array, "b t y x g"],
        grid: tuple[int, int],
        reference: Float[Array, "b h w z"] | None = None,
        *,
        hand: float,
        face: float,
    ) -> Float[Array, "b k h w 1"]:
        """Loss weights on the latent grid: `hand` where a hand is drawn, `face` where the face is and no hand before
        it, 1 elsewhere (`losses.hand_and_face_weight`).

        Of a frame in front 1 where there is a `reference`, whose copy it becomes, else 0; 0 of a first frame that is
        given clean, of which nothing is predicted.
        """
        groups = [i for i, (name, _, _) in enumerate(self.groups) if name.endswith(("palm", "index", "fingers"))]
        ratio = drawn.shape[2] // grid[0]
        by_group = self.shapes is None and drawn.shape[-1] > 0
        if by_group and drawn.shape[2:4] == (ratio * grid[0], ratio * grid[1]):
            shown = drawn[..., np.array(groups)].max(axis=-1)
            hands = covered(jax.lax.stop_gradient(shown), time_ratio=self.temporal_ratio, space_ratio=ratio)
        else:  # none is drawn, or DWPose's colours do not tell a hand from the rest, or a coarser picture a place
            hands = self._covered(pose, confidence, [self.groups[i][1:] for i in groups], grid)
        weight = hand_weight(hands, hand)
        if face != 1.0:  # which no control picture has as an area
            faces = self._covered(pose, confidence, [self.face], grid)
            weight = hand_and_face_weight(hands, faces, hand=hand, face=face)
        if self.variant.front:
            there = jnp.ones(len(weight)) if reference is None else given(reference)
            return in_front(jnp.ones_like(weight[:, 0]) * there[:, None, None, None], weight)
        if self.variant.first and self.variant.time == "token" and reference is not None:
            return weight.at[:, 0].multiply(1.0 - given(reference)[:, None, None, None])
        return weight

    def _covered(
        self, pose: Array, confidence: Array, limbs: Sequence[tuple[np.ndarray, float]], grid: tuple[int, int]
    ) -> Array:
        """What these limbs of the pose cover of the latent grid, `[b, k, h, w, 1]`; no gradient passes."""
        size = (2 * grid[0], 2 * grid[1])
        drawing = pose_picture.plain(limbs)
        shown = pose_picture.draw(pose[..., :2], confidence, drawing, size, threshold=0.0, softness=0.5)[..., 0]
        return covered(jax.lax.stop_gradient(shown), time_ratio=self.temporal_ratio, space_ratio=2)


def padded_rows(states: Float[AnyArray, "b r e"], rows: int) -> Float[Array, "b rows e"]:
    """A text encoder's states with zero rows up to `rows`. Raises `SignerError` where there are more."""
    if states.shape[1] > rows:
        raise SignerError(f"text states of {states.shape[1]} rows: this variant reads {rows}; cut the text to them")
    return jnp.pad(states, ((0, 0), (0, rows - states.shape[1]), (0, 0)))
