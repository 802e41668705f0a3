"""The third station: pose, semantics and style -> video (paper 2.3), window by window.

With `overlap` 0 each window is a clip of its own, all from one noise; with more, neighbouring windows share frames and
are blended at every step (`renderer.windows`), and the whole is decoded as one video. All steps are one program, of two
experts one each, which is called once where nobody watches (`sampler.in_turn`). Where the autoencoder compresses time
it encodes and decodes chunk by chunk (`renderer.vae_chunks`).

`render` takes one pose and `render_many` several, by the same functions: signing and evaluation both come here.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, UInt8

from signer_jax.beside import beside
from signer_jax.data.streams import to_model_range, to_pixels_range
from signer_jax.errors import SignerError, closest
from signer_jax.pose.skeleton import on_joints
from signer_jax.progress import progress
from signer_jax.renderer import vae_chunks, windows
from signer_jax.renderer.references import ReferenceBank
from signer_jax.renderer.render import padded_rows
from signer_jax.renderer.sampler import in_turn
from signer_jax.stations.studio import ROWS, Said, Shots, Studio, in_model_range
from signer_jax.types import Array, Pose

States = Float[np.ndarray, "n e"]  # a text encoder's of one text, as many rows as it has pieces

_DRAWN = 1 << 31  # bytes of what the model sees of blended windows that are kept over the steps


@dataclass(frozen=True)
class Style:
    """What a video looks like: one picture, as latents, and the training signer whom it shows, "" for another one."""

    reference: Float[np.ndarray, "h w z"]
    signer: str = ""
    picture: UInt8[np.ndarray, "y x 3"] | None = None  # in pixels, for models that take it so
    clip: Float[np.ndarray, "i c"] | None = None  # CLIP's tokens of it


@dataclass(frozen=True)
class Rendered:
    """What `render` returns."""

    video: UInt8[np.ndarray, "t h w 3"]
    style: Style


# ---- Styles ------------------------------------------------------------------------------------------------------


def style(studio: Studio, *, picture: np.ndarray | None = None, signer: str = "") -> Style:
    """The style of a picture, uint8 `[h, w, 3]`, or else of a training signer's typical frame, the first one's for "".

    Raises `SignerError` for a signer without training videos or a picture of another size.
    """
    banks = studio.latents.banks
    if signer and signer not in banks:
        raise SignerError(f"signer {signer!r}: no training video{closest(signer, banks)}; known: {', '.join(banks)}")
    if picture is None:
        name = signer or next(iter(banks))
        return style_of(banks[name], name)
    height, width = studio.size
    if picture.shape[:2] != (height, width):
        raise SignerError(
            f"style: the reference image is {picture.shape[1]}x{picture.shape[0]}, this run needs {width}x{height}"
        )
    latents = studio.encode(studio.params["vae"], to_model_range(picture[None, None]))
    return Style(
        studio.latents.normalise(np.asarray(latents))[0, 0],
        "",
        picture,
        None if studio.see is None else studio.see(picture),
    )


def style_of(bank: ReferenceBank, signer: str) -> Style:
    """The typical frame of a signer's bank."""
    place = bank.typical_place()
    if place is None:
        return Style(bank.typical(), signer)
    picture, clip = (None if one is None else np.array(one[place]) for one in (bank.pictures, bank.clip))
    return Style(bank.typical(), signer, picture, clip)


def look_of(signer: str, studio: Studio) -> str:
    """A signer's own look where there is a training video of this one, else the first signer's who has one."""
    return signer if signer in studio.latents.banks else next(iter(studio.latents.banks))


def picture(style: Style, studio: Studio) -> UInt8[np.ndarray, "h w 3"]:
    """What a style's latents show."""
    latents = studio.latents.denormalise(style.reference)[None, None]
    return to_pixels_range(studio.decode(studio.params["vae"], latents))[0, 0]


def roundtrip(video: UInt8[np.ndarray, "b t h w 3"], studio: Studio) -> UInt8[np.ndarray, "b t h w 3"]:
    """Through the autoencoder and back."""
    vae = studio.params["vae"]
    return to_pixels_range(studio.decode(vae, studio.encode(vae, to_model_range(video))))


# ---- The station -------------------------------------------------------------------------------------------------


def render(
    pose: Pose, style: Style, H: Float[Array, "1 s d"] | None, mask: Bool[Array, "1 s"] | None, studio: Studio,
    states: States | None = None,
) -> Rendered:  # fmt: skip
    """One pose (all 128 joints) as a video; `H` and `mask` are its text's, from the first station, or None.

    `states`: what a published model's text encoder gives for the text, or None where the run has none.
    """
    return render_many([pose], [style], H, mask, studio, None if states is None else [states])[0]


def render_many(
    poses: Sequence[Pose], styles: Sequence[Style], H: Float[Array, "b s d"] | None, mask: Bool[Array, "b s"] | None,
    studio: Studio, states: Sequence[States] | None = None,
    faces: Sequence[UInt8[np.ndarray, "t s s 3"]] | None = None,
) -> list[Rendered]:  # fmt: skip
    """`render` for several poses: each cut into windows, the last frame repeated up to a whole one.

    `faces`: for a model that takes one, the face's video that each pose is performed with (`data.faces`); black, which
    says nothing, where None.
    """
    seen = [on_joints(pose, studio.joints, studio.dims) for pose in poses]
    said = {"reference": np.stack([style.reference for style in styles])}
    if H is None or mask is None:
        said["text"] = np.asarray(studio.renderer.text(None, None, len(poses)))
    else:
        said["text"] = np.asarray(H * mask[..., None])
    if (clip := next((style.clip for style in styles if style.clip is not None), None)) is not None:
        said["clip"] = np.stack([np.zeros_like(clip) if style.clip is None else style.clip for style in styles])
    if studio.renderer.shows_picture:  # where there is no reference, of what stands here nothing is seen
        grey = np.full((*studio.size, 3), 128, np.uint8)
        said["picture"] = np.stack([grey if style.picture is None else style.picture for style in styles])
    if states is not None:
        rows = studio.renderer.variant.text_rows or max(map(len, states))
        said["states"] = np.concatenate([np.asarray(padded_rows(one[None], rows)) for one in states])
        if studio.null is not None:
            said["null"] = np.broadcast_to(studio.null, (len(poses), *studio.null.shape))
    if studio.renderer.variant.continues:
        videos = [
            _chained(
                pose, {name: v[i : i + 1] for name, v in said.items()}, None if faces is None else faces[i], studio
            )
            for i, pose in enumerate(seen)
        ]
    else:
        videos = (_blended if studio.overlap else _apart)(seen, said, studio)
    return [Rendered(video[: len(pose)], style) for video, pose, style in zip(videos, poses, styles, strict=True)]


def _apart(seen: Sequence[Pose], said: Said, studio: Studio) -> list[UInt8[np.ndarray, "t h w 3"]]:
    """Each window a clip of its own."""
    counts = [-(-len(pose) // studio.window) for pose in seen]
    frames = [
        np.minimum(np.arange(count * studio.window), len(pose) - 1).reshape(count, studio.window)
        for pose, count in zip(seen, counts, strict=True)
    ]
    filmed = _film(
        {
            "pose": np.concatenate([pose.coordinates[at] for pose, at in zip(seen, frames, strict=True)]),
            "confidence": np.concatenate([pose.confidence[at] for pose, at in zip(seen, frames, strict=True)]),
            **{name: np.repeat(values, counts, axis=0) for name, values in said.items()},
        },
        studio,
    )
    return [video.reshape(-1, *video.shape[2:]) for video in np.split(filmed, np.cumsum(counts)[:-1])]


def _film(conditions: dict[str, np.ndarray], studio: Studio) -> UInt8[np.ndarray, "b t h w 3"]:
    """Windows, some at a time; the last one fills the batch."""
    count = len(conditions["pose"])
    rows = studio.rows(count)
    noise, starts = jnp.repeat(studio.noise, rows, 0), range(0, count, rows)

    def part(i: int) -> dict[str, np.ndarray]:
        at = np.minimum(np.arange(i, i + rows), count - 1)
        return {name: values[at] for name, values in conditions.items()}

    with _filming(studio, len(starts)) as film:

        def pixels(part: dict[str, np.ndarray]) -> UInt8[np.ndarray, "b t h w 3"]:
            return to_pixels_range(film(noise, part))

        parts, small = map(part, starts), rows >= ROWS and not studio.tells_steps
        filmed = beside(pixels, parts) if small else map(pixels, parts)  # of large ones memory has no two
        shown = studio.shows(count) and not studio.tells_steps
        videos = list(progress(filmed, "windows rendered", total=len(starts), shown=shown))
    return np.concatenate(videos)[:count]


@contextmanager
def _filming(studio: Studio, count: int) -> Iterator[Callable[[Any, dict], Any]]:
    """(noise, conditions) -> windows in [-1, 1], called `count` times: the studio's one program, or, where steps are
    told, its parts, under a bar over all steps.
    """
    if not studio.tells_steps:
        yield lambda noise, conditions: studio.film(studio.params, noise, conditions)
        return
    params = studio.params
    with progress(range(count * studio.renderer.schedule.steps), "steps") as bar:

        def film(noise: Any, conditions: dict) -> Any:
            seen = studio.look_at(params, conditions)
            state = studio.begin(params, studio.solver.start(jnp.asarray(noise)))
            x = in_turn(partial(studio.walk, params, seen), state, studio.parts, bar).x
            made = studio.renderer.made(x, jnp.asarray(conditions["reference"]))
            return studio.decode(params["vae"], studio.latents.denormalise(made))

        yield film


def _blended(seen: Sequence[Pose], said: Said, studio: Studio) -> list[UInt8[np.ndarray, "t h w 3"]]:
    """All windows of a clip as one: they share frames, and the clip is decoded whole, chunk by chunk."""
    ratio = studio.renderer.temporal_ratio
    length = 1 + (studio.window - 1) // ratio
    counts = [windows.latent_frames(len(pose), length, ratio) for pose in seen]
    plan = windows.plan(counts, length, studio.overlap // ratio)
    firsts = np.cumsum([0, *counts])
    frames = [
        np.minimum(ratio * (start - firsts[clip]) + np.arange(studio.window), len(seen[clip]) - 1)
        for start, clip in zip(plan.starts, plan.clips, strict=True)
    ]
    laid, calls = windows.laid(plan, studio.rows(len(plan.starts)))
    # Clips are filled up as the calls are, so that their number makes few programs.
    clips = np.minimum(np.arange(windows.doubled(len(seen))), len(seen) - 1)
    own = {
        "pose": np.stack([seen[clip].coordinates[at] for clip, at in zip(plan.clips, frames, strict=True)]),
        "confidence": np.stack([seen[clip].confidence[at] for clip, at in zip(plan.clips, frames, strict=True)]),
    }
    shots = Shots(
        {name: values[laid.at] for name, values in own.items()},
        {name: values[clips] for name, values in said.items()},
        plan.clips[laid.at],
    )
    params, drawn = studio.params, jax.eval_shape(studio.look_at_all, studio.params, shots, calls)
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(drawn)) <= _DRAWN
    given = studio.look_at_all(params, shots, calls) if kept else jax.tree.map(jnp.asarray, shots)
    noise = jnp.concatenate([studio.noise_of(count) for count in counts])
    clean = windows.solve(
        partial(studio.blend, params, given, laid, calls),
        studio.begin(params, windows.start(studio.solver, noise, laid)),
        studio.parts,
        calls,
        shown=studio.shows(len(plan.starts)),
    )[: plan.total]
    latents = studio.latents.denormalise(np.asarray(clean))
    return [_decoded(latents[first : first + count], studio) for first, count in zip(firsts, counts, strict=False)]


def _chained(pose: Pose, said: Said, face: np.ndarray | None, studio: Studio) -> UInt8[np.ndarray, "t h w 3"]:
    """Segments that go on from the last frames of the one before, as pixels.

    They are the segment's first frames again: of a model whose picture is the first frame as its picture (CLIP sees the
    look's own all the same), of one whose reference stands in front as given frames behind it: none of the first
    segment, as zeros, so that all segments are one program.
    """
    variant = studio.renderer.variant
    count = len(range(0, max(len(pose) - studio.overlap, 1), studio.window - studio.overlap))
    said = in_model_range(said)

    def segment_of(filmed: Callable, start: int, before: np.ndarray | None) -> np.ndarray:
        at = np.minimum(np.arange(start, start + studio.window), len(pose) - 1)
        conditions = said | {"pose": pose.coordinates[None, at], "confidence": pose.confidence[None, at]}
        if face is not None:
            conditions["face"] = face[None, np.minimum(at, len(face) - 1)]
        if variant.front:
            none = np.zeros((1, studio.overlap, *studio.size, 3), np.float32)
            conditions["before"] = none if before is None else before
        elif before is not None:
            latents = studio.encode(studio.params["vae"], before[:, -1:])
            conditions["reference"] = studio.latents.normalise(np.asarray(latents))[:, 0]
            if "picture" in said:
                conditions["picture"] = before[:, -1]
        return np.asarray(filmed(studio.noise, conditions))

    with _filming(studio, count) as filmed:
        segments = windows.chain(
            partial(segment_of, filmed),
            len(pose),
            length=studio.window,
            overlap=studio.overlap,
            ratio=studio.renderer.temporal_ratio,
            shown=len(pose) > studio.window and not studio.tells_steps,
        )
        return np.concatenate([to_pixels_range(segment)[0] for segment in segments])


def _decoded(latents: Float[np.ndarray, "k h w z"], studio: Studio) -> UInt8[np.ndarray, "t h w 3"]:
    chunks = vae_chunks.decoded(studio.vae, studio.params["vae"], latents[None], shown=studio.shows(len(latents)))
    return np.concatenate([to_pixels_range(np.asarray(chunk))[0] for chunk in chunks])
