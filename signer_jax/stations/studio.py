"""What the third station works with: modules and values, and the programs that they are compiled to.

`stations.render` calls them. All go by one velocity, which may be replaced (`Studio.by`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from signer_jax.data.streams import to_model_range
from signer_jax.errors import SignerError
from signer_jax.layout import constrain, ways
from signer_jax.renderer import solvers, vae_chunks, windows
from signer_jax.renderer.conditions import Conditions, encoder
from signer_jax.renderer.latents import LatentStore
from signer_jax.renderer.render import Renderer
from signer_jax.renderer.sampler import Experts, Field, by_expert, colour, shared_noise, solve, steps
from signer_jax.renderer.variants import overlap_fault
from signer_jax.types import Array

Said = dict[str, np.ndarray]  # what each clip is made from beside its pose; a row a clip

ROWS = 4  # windows that go through the renderer at a time
_PLACES = 1 << 15  # of the latents in them, but for a single window that has more
_MANY = 32  # windows from which on a progress bar counts them
_LONG = 1 << 18  # places times steps of a window from which on a bar counts every single one


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
                **in_model_range(conditions), encode=encoder(vae, params, latents.normalise)
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
        most = min(ROWS, max(1, _PLACES // self.places))
        return -(-most // ways("batch")) * ways("batch") if most == ROWS else min(most, count)

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


def in_model_range(conditions: dict) -> dict:
    """The conditions, pictures among them as models take them."""
    return conditions | {name: _ranged(conditions[name]) for name in ("picture", "face") if name in conditions}


def _lying(state: Any) -> Any:
    """A solver's arrays between its steps: rows of windows as a batch's, a clip's frames whole on each device."""
    return jax.tree.map(lambda x: constrain(x, *("batch",) * (x.ndim == 5), *(None,) * 4), state)


def _ranged(pictures: Any) -> Any:
    """uint8 pictures in [-1, 1]; others are there already."""
    return to_model_range(pictures) if pictures.dtype == np.uint8 else pictures
