"""The third station: pose, semantics and style -> video (paper 2.3), window by window.

With `overlap` 0 each window is a clip of its own, all from one noise; with more, neighbouring windows share frames and
are blended at every step (`renderer.windows`), and the whole is decoded as one video. All steps are one program, of two
experts one each, which is called once where nobody watches (`sampler.in_turn`). Where the autoencoder compresses time
it encodes and decodes chunk by chunk (`renderer.vae_chunks`).

`render` takes one pose and `render_many` several, by the same functions: signing and evaluation both come here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from signer_jax.beside import beside
from signer_jax.data.streams import to_model_range, to_pixels_range
from signer_jax.errors import SignerError, closest
from signer_jax.layout import constrain, ways
from signer_jax.pose.skeleton import on_joints
from signer_jax.progress import progress
from signer_jax.renderer import solvers, vae_chunks, windows
from signer_jax.renderer.conditions import Conditions, encoder
from signer_jax.renderer.latents import LatentStore
from signer_jax.renderer.references import ReferenceBank
from signer_jax.renderer.render import Renderer, padded_rows
from signer_jax.renderer.sampler import Experts, Field, by_expert, colour, in_turn, shared_noise, solve, steps
from signer_jax.renderer.variants import overlap_fault
from signer_jax.types import Array, Pose

States = Float[np.ndarray, "n e"]  # a text encoder's of one text, as many rows as it has pieces
Said = dict[str, np.ndarray]  # what each clip is made from beside its pose; a row a clip

_ROWS = 4  # windows that go through the renderer at a time
_PLACES = 1 << 15  # of the latents in them, but for a single window that has more
_MANY = 32  # windows from which on a progress bar counts them
_LONG = 1 << 18  # places times steps of a window from which on a bar counts every single one
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


# The parameters, what the model sees of windows -> their guided velocity; of two experts, of each.
Velocity = Callable[[dict[str, Any], Conditions], Field | Experts[Field]]


class Shots(NamedTuple):
    """What blended windows are made from, in the calls of `windows.Laid`."""

    own: Said  # [calls rows ...] each window's pose
    said: Said  # [clips ...]
    clips: Int[np.ndarray, "calls rows"]  # whose each window is

    def of(self, k: Any) -> dict[str, Any]:
        """The conditions of the k-th call."""
        own, said, clips = jax.tree.map(jnp.asarray, self)
        return {name: leaf[k] for name, leaf in own.items()} | {name: leaf[clips[k]] for name, leaf in said.items()}


@dataclass(frozen=True)
class Studio:
    """The station's modules and values, and its programs. Make one with `Studio.of`.

    With other `params` (`dataclasses.replace`) the programs stay, and nothing is compiled again; another velocity makes
    them anew (`by`).
    """

    renderer: Renderer
    params: dict[str, Any]  # of the renderer and the vae
    latents: LatentStore
    joints: np.ndarray  # [j] what the renderer sees of a pose
    dims: int
    size: tuple[int, int]  # height and width of its videos
    window: int  # frames
    overlap: int  # frames that two neighbouring windows share
    vae: Any
    # Of all frames that `Renderer.whole` gives. The same for every window: what does not move looks the same in all.
    noise: Float[Array, "1 f h w z"]
    noise_of: Callable[[int], Float[Array, "k h w z"]]  # a clip's, for so many latent frames; the longer begins alike
    velocity: Velocity  # by which every program goes
    film: Callable[..., Any]  # params, noise, conditions -> windows in [-1, 1]
    begin: Callable[..., Any]  # params, where a solver starts -> the same, lying as `walk` and `blend` leave it
    # `film` in its parts, for windows of which each step may be told: params, conditions -> what the model sees of
    # them; params, that, whether the expert of high noise, the state, from which step up to which -> its next state.
    look_at: Callable[..., Any]
    walk: Callable[..., Any]
    # The same of blended windows: params, their shots, calls -> what is seen of all; params, that or the shots, the
    # plan, calls, which expert, the blend, from which call up to which -> the next blend.
    look_at_all: Callable[..., Any]
    blend: Callable[..., Any]
    encode: Callable[..., Any]  # the vae's parameters, [b, t, h, w, 3] in [-1, 1] -> latents, not normalised
    decode: Callable[..., Any]  # and back, in [-1, 1]
    null: Float[np.ndarray, "n e"] | None = None  # the text encoder's states of the prompt that says nothing
    see: Callable[[UInt8[np.ndarray, "y x 3"]], Any] | None = None  # CLIP's tokens of a picture, or None

    @classmethod
    def of(
        cls, renderer: Renderer, vae: Any, params: dict[str, Any], latents: LatentStore, joints: np.ndarray, dims: int,
        *, size: tuple[int, int], window: int, guidance: float, share_noise: bool, seed: int, overlap: int = 0,
        null: Float[np.ndarray, "n e"] | None = None, see: Callable | None = None,
        guidance_each: Mapping[str, float] = MappingProxyType({}),
        guidance_low: Mapping[str, float] = MappingProxyType({}),
    ) -> "Studio":  # fmt: skip
        """`share_noise`, `seed`: of the noise that every window is made from; `null`, `see`: see the fields.
        `guidance_each`, `guidance_low`: `Renderer.field_of`'s `apart` and `apart_low`.

        Raises `SignerError` where windows of `window` frames cannot share `overlap`.
        """
        if not renderer.variant.continues and (fault := overlap_fault(overlap, window, renderer.temporal_ratio)):
            raise SignerError(f"config.renderer.overlap {overlap}: {fault}")
        h, w, z = latents.grid
        shape = (1, renderer.variant.front + 1 + (window - 1) // renderer.temporal_ratio, h, w, z)
        temperature = renderer.schedule.temperature
        noise = temperature * shared_noise(jax.random.key(seed), shape, shared=share_noise)
        if renderer.hybrid is not None:  # published weights know white noise alone
            noise = colour(noise, jnp.asarray(latents.noise_factor))

        def noise_of(frames: int) -> jax.Array:
            if share_noise:
                return jnp.broadcast_to(noise[0, :1], (frames, h, w, z))
            own = temperature * windows.noise_of(jax.random.key(seed), 0, frames, (h, w, z))
            return own if renderer.hybrid is None else colour(own[None], jnp.asarray(latents.noise_factor))[0]

        led: dict[str, Any] = {"guidance": guidance, "apart": guidance_each, "apart_low": guidance_low}

        def velocity(params: dict, seen: Conditions) -> Field | Experts[Field]:
            return renderer.field_of(params["renderer"], seen, **led)

        def begin(params: dict, start: Any) -> Any:  # on the parameters' devices, or its first call is compiled apart
            return _lying(jax.lax.optimization_barrier(start))

        def look_at(params: dict, conditions: dict) -> Conditions:
            return renderer.drawn_conditions(
                **_in_model_range(conditions), encode=encoder(vae, params, latents.normalise)
            )

        def look_at_all(params: dict, shots: Shots, calls: int) -> Conditions:
            one = jax.eval_shape(lambda: look_at(params, shots.of(0)))
            empty = jax.tree.map(lambda leaf: jnp.zeros((len(shots.clips), *leaf.shape), leaf.dtype), one)

            def look(k: Any, seen: Conditions) -> Conditions:
                return jax.tree.map(lambda all_, one: all_.at[k].set(one), seen, look_at(params, shots.of(k)))

            return jax.lax.fori_loop(0, calls, look, empty)

        def encode(params: dict, video: Any) -> Any:
            return vae_chunks.to_latents(vae, params, video)

        def decode(params: dict, latents: Array) -> Any:
            return vae_chunks.to_video(vae, params, latents)

        look = jax.jit(look_at)
        return cls(
            renderer, params, latents, joints, dims, size, window, overlap, vae, noise, noise_of, velocity,
            begin=jax.jit(begin, keep_unused=True), look_at=look, look_at_all=jax.jit(look_at_all),
            encode=jax.jit(encode), decode=jax.jit(decode), null=null, see=see,
            **_programs(renderer, vae, latents, look, velocity),
        )  # fmt: skip

    def by(self, velocity: Velocity, *, steps: int) -> "Studio":
        """The same station by another velocity, in so many of Euler's steps."""
        renderer = replace(self.renderer, schedule=replace(self.renderer.schedule, steps=steps, solver="euler"))
        programs = _programs(renderer, self.vae, self.latents, self.look_at, velocity)
        return replace(self, renderer=renderer, velocity=velocity, **programs)

    @property
    def places(self) -> int:
        """Of a window's latents."""
        return int(np.prod(self.noise.shape[1:4]))

    def rows(self, count: int) -> int:
        """How many of `count` windows go through the renderer at a time.

        Small ones are always filled up to as many, so that clips of any length are one program; devices that share a
        batch's rows divide them evenly. Of large ones a copy that nobody sees costs more than a program.
        """
        most = min(_ROWS, max(1, _PLACES // self.places))
        return -(-most // ways("batch")) * ways("batch") if most == _ROWS else min(most, count)

    def shows(self, count: int) -> bool:
        """Whether a progress bar counts so many windows: many, or each of them long."""
        return count > _MANY or self.tells_steps

    @property
    def tells_steps(self) -> bool:
        """Whether each step of a window is told, since one takes long."""
        return self.places * self.renderer.schedule.steps >= _LONG

    @property
    def parts(self) -> list[tuple[bool, slice]]:
        """Whether the expert of high noise takes them, and which steps; False of a model without experts."""
        boundary = self.renderer.variant.boundary
        return by_expert(False if boundary is None else Experts(boundary, True, False), self.renderer.schedule.levels())

    @property
    def solver(self) -> solvers.Solver:
        """What its programs step by."""
        return solvers.solver(self.renderer.schedule.solver, self.renderer.schedule.levels())


def _programs(
    renderer: Renderer, vae: Any, latents: LatentStore, look_at: Callable[[dict, Any], Conditions], velocity: Velocity
) -> dict[str, Any]:  # fmt: skip
    """Those of `Studio` that go by a velocity: `film`, `walk` and `blend`."""
    levels = renderer.schedule.levels()
    method = solvers.solver(renderer.schedule.solver, levels)

    def field_of(params: dict, seen: Conditions, high: bool) -> Field:
        field = velocity(params, seen)
        if isinstance(field, Experts):
            return field.high if high else field.low
        return field

    def film(params: dict, noise: jax.Array, conditions: dict) -> Any:
        field = velocity(params, look_at(params, conditions))
        clean = solve(field, noise, levels, solver=renderer.schedule.solver)
        clean = renderer.made(clean, jnp.asarray(conditions["reference"]))
        return vae_chunks.to_video(vae, params["vae"], latents.denormalise(clean))

    def walk(params: dict, seen: Conditions, high: bool, state: solvers.State, first: int, last: int) -> Any:
        return _lying(steps(field_of(params, seen, high), method, state, first, last))

    def blend(
        params: dict, seen: Conditions | Shots, laid: windows.Laid, calls: int, high: bool, blend: windows.Blend,
        first: int, last: int,
    ) -> windows.Blend:  # fmt: skip
        def at(x: jax.Array, sigma: jax.Array, k: jax.Array) -> Any:
            if isinstance(seen, Shots):
                return field_of(params, look_at(params, seen.of(k)), high)(x, sigma)
            return field_of(params, jax.tree.map(lambda leaf: leaf[k], seen), high)(x, sigma)

        return _lying(windows.blended(at, method, blend, laid, calls, first, last))

    return {"film": jax.jit(film), "walk": jax.jit(walk, static_argnums=2), "blend": jax.jit(blend, static_argnums=4)}


def _in_model_range(conditions: dict) -> dict:
    """The conditions, pictures among them as models take them."""
    return conditions | {name: _ranged(conditions[name]) for name in ("picture", "face") if name in conditions}


def _lying(state: Any) -> Any:
    """A solver's arrays between its steps: rows of windows as a batch's, a clip's frames whole on each device."""
    return jax.tree.map(lambda x: constrain(x, *("batch",) * (x.ndim == 5), *(None,) * 4), state)


def _ranged(pictures: Any) -> Any:
    """uint8 pictures in [-1, 1]; others are there already."""
    return to_model_range(pictures) if pictures.dtype == np.uint8 else pictures


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

        parts, small = map(part, starts), rows >= _ROWS and not studio.tells_steps
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
    said = _in_model_range(said)

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
