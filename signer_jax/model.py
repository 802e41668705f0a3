"""The stations' modules from the settings, and their parameters: the only place where values become modules."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from signer_jax.errors import SignerError
from signer_jax.interop import t5 as interop_t5
from signer_jax.interop import wan as interop_wan
from signer_jax.interop.names import Described, Place, inside
from signer_jax.pose import skeleton
from signer_jax.pose.warping import hand_index
from signer_jax.ranges import nearest
from signer_jax.renderer import pose_picture, variants
from signer_jax.renderer.attention import ATTENTIONS
from signer_jax.renderer.control import ControlBranch
from signer_jax.renderer.hybrid import Head, Stem
from signer_jax.renderer.remat import again
from signer_jax.renderer.render import Renderer
from signer_jax.renderer.schedule import NoiseSchedule
from signer_jax.renderer.vae import VideoVAE
from signer_jax.renderer.variants import Variant
from signer_jax.renderer.video_transformer import VideoTransformer
from signer_jax.settings import Rendering, Settings, Slul, Vae
from signer_jax.slp_moe.experts import SLPMoE
from signer_jax.slp_moe.stabiliser import Stabiliser
from signer_jax.slul.t5 import T5
from signer_jax.validation import size_fault

# What a stage trains. `slul` and `vae` come first where a later stage needs them frozen.
TRAINED: dict[str, tuple[str, ...]] = {
    "slul": ("slul",),
    "pose": ("slp_moe", "stabiliser"),
    "vae": ("vae",),
    "images": ("renderer",),
    "renderer": ("renderer",),
    "joint": ("slul", "slp_moe", "stabiliser", "renderer"),
}
# What it reads beside them, of what the run has: H, and the encoder of what the renderer is shown.
READ = {"pose": ("slul",), "images": ("slul", "vae"), "renderer": ("slul", "vae"), "joint": ("vae",)}


class Readers(NamedTuple):
    """What looks at published models' folders: the path of one in, what it holds out, as `interop` gives it."""

    t5: Callable[[str], Any]
    vae: Callable[[str], Any]
    experts: Callable[[str, Sequence[str]], dict[str, Any]]


@dataclass(frozen=True)
class Model:
    """The modules of a run; a station that its stages do not need is None.

    Typed `Any` where Linen's `apply` returns a union that a checker cannot follow: T5, SLPMoE, Stabiliser, VideoVAE.
    """

    joints: np.ndarray  # [j] canonical indices that the models see
    hands: np.ndarray  # [42] positions of the hand joints among them
    slul: Any = None
    slp_moe: Any = None
    stabiliser: Any = None
    vae: Any = None
    renderer: Any = None


def build(settings: Settings, vocab_size: int, place: Place | None = None) -> tuple[Model, dict[str, Any]]:
    """Modules, and the published parameters that they name (`slul.init`, `vae.init`, `renderer.init`).

    `place` says where on the devices a published parameter goes, by its path; without it they are on the host.
    Raises `SignerError` as `describe` does, before any weights are read, and as `Described.check`.
    """
    model, published = describe(settings, vocab_size)
    params = {path: described.load(inside(place, path))[1] for path, described in published.items()}
    return model, unflatten_dict(params, sep="/")


def describe(
    settings: Settings, vocab_size: int, readers: Readers | None = None
) -> tuple[Model, dict[str, Described]]:  # fmt: skip
    """Modules, and the published models whose weights are theirs, by their paths among the parameters; none is read.

    `readers` look at the folders that the settings name; None for what reads them.

    Raises `SignerError` for values that do not fit each other, and for published models that are none, or do not fit
    each other or the config. Whether their folders hold all weights, in their configs' shapes, says `Described.check`.
    """
    read = readers or Readers(interop_t5.describe, interop_wan.describe_vae, interop_wan.describe_experts)
    parts = {part for stage in settings.stages for part in TRAINED[stage]}
    dtype = jnp.dtype(settings.dtype)
    compute: dict[str, Any] = {"dtype": dtype, "scan_unroll": settings.scan_unroll, "remat": again(settings.remat)}
    names = skeleton.SUBSETS.get(settings.pose.joints, ())
    joints = skeleton.subset(settings.pose.joints)
    published: dict[str, Described] = {}
    slul = slp_moe = stabiliser = vae = renderer = None

    if parts & {"slul", "slp_moe"}:
        slul = _slul(settings.slul, vocab_size, compute, published, read)
    if "slp_moe" in parts:
        slp_moe = SLPMoE(
            experts=settings.pose.experts,
            gating=settings.pose.gating,
            hidden=settings.pose.gate_hidden,
            layers=2,
            dtype=dtype,
            pool_hidden=settings.pose.pool_hidden,
        )
        stabiliser = Stabiliser(
            hidden=settings.pose.stabiliser_hidden,
            layers=settings.pose.stabiliser_layers,
            kernel=settings.pose.stabiliser_kernel,
            reach=settings.pose.stabiliser_reach,
            **compute,
        )
    if parts & {"vae", "renderer"}:
        vae = _vae(settings.vae, dtype, again(settings.remat), published, read)
    if "renderer" in parts:
        assert vae is not None
        compute["remat"] = settings.remat  # by its name: long attention has a choice
        renderer = _renderer(settings, vae, slul, names, compute, published, read)
    return Model(joints, hand_index(names), slul, slp_moe, stabiliser, vae, renderer), published


def _slul(c: Slul, vocab_size: int, compute: dict, published: dict[str, Described], read: Readers) -> T5:
    """SLUL; where its weights are published, they are added to `published`, as by the others below."""
    if c.init:
        published["slul"] = read.t5(c.init)
        module = published["slul"].module
        if vocab_size > module.vocab_size:
            raise SignerError(
                f"config.slul.init {c.init}: its vocabulary of {module.vocab_size} is smaller than the tokenizer's "
                f"{vocab_size}; set config.tokenizer.path to the model's own spiece.model"
            )
        return module.clone(dropout=c.dropout, **compute)
    sizes = (
        "d_model", "d_kv", "d_ff", "heads", "encoder_layers", "decoder_layers", "relative_buckets",
        "relative_max_distance", "activation", "tie_embeddings", "relative_bias_every_layer", "dropout",
        "embedding_deviation",
    )  # fmt: skip
    return T5(vocab_size=vocab_size, **{name: getattr(c, name) for name in sizes}, **compute)


def _vae(c: Vae, dtype: jnp.dtype, remat: bool, published: dict[str, Described], read: Readers) -> VideoVAE:
    if c.init:
        published["vae"] = read.vae(c.init)
        return published["vae"].module.clone(dtype=dtype, remat=remat)
    z = c.z_dim
    folded = 3 * c.patch_size**2
    return VideoVAE(
        base_dim=c.base_dim,
        decoder_base_dim=c.base_dim,
        z_dim=z,
        dim_mult=tuple(c.dim_mult),
        num_res_blocks=c.num_res_blocks,
        temporal_downsample=tuple(c.temporal_downsample),
        in_channels=folded,
        out_channels=folded,
        patch_size=c.patch_size if c.patch_size > 1 else None,
        is_residual=False,
        latents_mean=(0.0,) * z,
        latents_std=(1.0,) * z,
        dtype=dtype,
        remat=remat,
    )


def _renderer(
    settings: Settings, vae: VideoVAE, slul: T5 | None, joints: tuple[str, ...], compute: dict,
    published: dict[str, Described], read: Readers,
) -> Renderer:  # fmt: skip
    c, variant = settings.renderer, variants.find(settings.renderer.variant)
    if fault := variants.frames_fault(c.window, vae.temporal_ratio):
        raise SignerError(f"config.renderer.window {c.window}: {fault}")
    if not variant.continues and (fault := variants.overlap_fault(c.overlap, c.window, vae.temporal_ratio)):
        raise SignerError(f"config.renderer.overlap {c.overlap}: {fault}")
    transformer = _transformer(settings, variant, vae, slul, compute, published, read)
    unit, why = pixels_of_a_token(c, vae.spatial_ratio, transformer.patch)
    for fault in size_fault(settings.data.size, unit, why):
        raise SignerError(fault)
    (height, width), dtype = settings.data.size, compute["dtype"]
    grid = (height // vae.spatial_ratio, width // vae.spatial_ratio)
    control = hybrid = None
    by_latents = variant.pose != "branch" and c.control == "variant" and not c.stem_features
    if c.stem_features:
        if c.control_size % grid[0]:
            raise SignerError(
                f"config.renderer.control_size {c.control_size} must be a multiple of the latents' height {grid[0]} "
                f"(data.size {height} / VAE {vae.spatial_ratio}): {nearest(c.control_size, grid[0])}"
            )
        hybrid = (
            Stem(c.stem_features, c.stem_blocks, c.freq_dim, dtype),
            Head(c.stem_features, c.head_blocks, c.freq_dim, dtype),
        )
    elif c.control != "none" and not by_latents:
        control = _control(c, grid[0] // transformer.patch[1], transformer.dim, dtype)
    coloured = by_latents or (c.picture == "dwpose" and control is not None)
    # One scale for both sides: what is drawn has the videos' aspect.
    picture = (height, width) if by_latents else (c.control_size, c.control_size * width // height)
    return Renderer(
        variant,
        transformer,
        control,
        hybrid,
        NoiseSchedule(c.shift, c.steps, c.noise_share, c.times, c.times_mean, c.times_std, c.solver, c.temperature),
        skeleton.limb_groups(joints),
        skeleton.face_area(joints),
        pose_picture.shapes(joints, face=variant.face is None) if coloured else None,
        picture,
        grid,
        c.control_softness,
        vae.temporal_ratio,
        vae.spatial_ratio,
        settings.data.max_source,
    )


def pixels_of_a_token(c: Rendering, spatial: int, patch: tuple[int, int, int]) -> tuple[int, str]:
    """What the sides of a video must be a multiple of, and why: the autoencoder's `spatial` pixels, the stem's halvings
    and the transformer's patch.
    """
    halvings = max(len(c.stem_features) - 1, 0)
    stem = f" x stem {2**halvings}" if halvings else ""
    tall, wide = patch[1:]
    unit = spatial * 2**halvings * math.lcm(tall, wide)
    return unit, f"VAE {spatial}{stem} x patch {math.lcm(tall, wide)}"


def _transformer(
    settings: Settings, variant: Variant, vae: VideoVAE, slul: T5 | None, compute: dict,
    published: dict[str, Described], read: Readers,
) -> VideoTransformer:  # fmt: skip
    """The video transformer in the variant's layout."""
    c, z = settings.renderer, vae.z_dim
    beside = slul is not None and variant.text == "encoder"  # SLUL's features beside a published text
    compute = {
        **compute, "semantics_dim": slul.d_model if slul is not None and beside else None,
        "attend": ATTENTIONS[c.context_attention],
    }  # fmt: skip
    own_text = slul.d_model if slul is not None else settings.slul.d_model
    # With a stem and head the transformer takes and gives their features, alone latents.
    channels = (c.stem_features[-1],) * 2 if c.stem_features else (variant.channels(z, vae.temporal_ratio), z)
    if not c.init:
        sizes = {name: getattr(c, name) for name in ("dim", "heads", "ffn_dim", "layers", "freq_dim", "patch")}
        return VideoTransformer(
            in_channels=channels[0], out_channels=channels[1], text_dim=variant.text_dim or own_text,
            image_dim=variant.clip_dim, eps=1e-6, face=variant.face, **sizes, **compute,
        )  # fmt: skip
    where = f"config.renderer.init {c.init}"
    if c.stem_features:
        raise SignerError(
            "config.renderer.init: published weights take latents, not a stem's features; set renderer.stem_features=()"
        )
    described = read.experts(c.init, variant.experts)
    module = next(iter(described.values())).module
    published |= {f"renderer/transformer/{name}".rstrip("/"): one for name, one in described.items()}
    if (module.in_channels, module.out_channels) != channels:
        takes = [
            name for name, other in variants.VARIANTS.items()
            if (other.channels(z, vae.temporal_ratio), other.text) == (module.in_channels, variant.text)
        ]  # fmt: skip
        hint = f" (as {', '.join(takes)} do)" if takes and module.out_channels == z else ""
        raise SignerError(
            f"{where}: it takes {module.in_channels} channels and gives {module.out_channels}{hint}; "
            f"config.renderer.variant {c.variant!r} with this autoencoder has {channels[0]} "
            f"({', '.join(variant.streams)}) and {channels[1]}"
        )
    for what, has, needs in (
        ("CLIP's tokens of the reference", module.image_dim is not None, variant.clip_dim is not None),
        ("a face branch", module.face is not None, variant.face is not None),
    ):
        if has != needs:
            raise SignerError(
                f"{where}: a model {'with' if has else 'without'} {what}, config.renderer.variant {c.variant!r} is one "
                f"{'with' if needs else 'without'}; choose the variant that these weights are"
            )
    if variant.text == "slul" and module.text_dim != own_text:
        raise SignerError(
            f"{where}: it takes text of width {module.text_dim}; this chain gives {own_text}, SLUL's; set "
            "config.renderer.variant to the published model that it is, which reads SLUL's features beside its own text"
        )
    return module.clone(**compute)


def _control(c: Rendering, tokens: int, dim: int, dtype: jnp.dtype) -> ControlBranch:
    """ControlNeXt's branch, strided from the control picture down to a grid of `tokens` rows."""
    stages, groups = len(c.control_channels), min(8, c.control_channels[0] // 4)
    sizes = [tokens * c.control_fold * 2**i for i in range(stages + 1)]
    if c.control_size not in sizes:
        raise SignerError(
            f"config.renderer.control_size {c.control_size} must be the token grid {tokens} (data.size / VAE / patch) "
            f"times control_fold {c.control_fold} times a power of two up to 2^{stages}: " + ", ".join(map(str, sizes))
        )
    if odd := [width for width in c.control_channels if width % groups]:
        raise SignerError(
            f"config.renderer.control_channels {','.join(map(str, c.control_channels))}: each must be a multiple of "
            f"{groups}, the groups that they are normed in (a quarter of the first, at most 8); in place of {odd[0]} "
            f"take {nearest(odd[0], groups)}"
        )
    halvings = sizes.index(c.control_size)
    return ControlBranch(
        channels=tuple(c.control_channels),
        strides=(2,) * halvings + (1,) * (stages - halvings),
        dim=dim,
        groups=groups,
        freq_dim=c.freq_dim,
        time_dim=c.control_channels[-1],
        fold=c.control_fold,
        dtype=dtype,
    )


def init(
    model: Model, settings: Settings, published: dict[str, Any], seed: int, parts: Collection[str] | None = None
) -> dict[str, Any]:
    """All parameters, or those of these parts: published where there are such, else fresh; each part from a key of its
    own.
    """
    if parts is not None:
        published = {part: tree for part, tree in published.items() if part in parts}
    asked = {part: parts is None or part in parts for part in ("slul", "slp_moe", "stabiliser", "vae", "renderer")}
    keys = dict(
        zip(
            ("slul", "slp_moe", "stabiliser", "vae", "renderer"), jax.random.split(jax.random.key(seed), 5), strict=True
        )
    )
    j, c, e, n = len(model.joints), settings.pose.dims, settings.pose.experts, settings.data.max_glosses
    params: dict[str, Any] = {}

    if model.slul is not None and asked["slul"] and "slul" not in published:
        ids = jnp.ones((1, 4), jnp.int32)
        params["slul"] = _fresh(model.slul, keys["slul"], ids, ids)
    if model.slp_moe is not None and (asked["slp_moe"] or asked["stabiliser"]):
        assert model.slul is not None
        H, t = jnp.zeros((1, 4, model.slul.d_model)), 8
        params["slp_moe"] = _fresh(
            model.slp_moe, keys["slp_moe"], H, jnp.ones((1, 4), bool),
            jnp.zeros((1, e, t, j, c)), jnp.ones((1, e, t, j)), jnp.zeros((1, n, e, j * (3 * c + 1))),
            jnp.ones((1, n, e), bool), jnp.ones((1, t, n)) / n,
            gloss_query=jnp.zeros((1, n, model.slul.d_model)),
        )  # fmt: skip
        params["stabiliser"] = _fresh(
            model.stabiliser, keys["stabiliser"], jnp.zeros((1, t, j, c)), jnp.ones((1, t, j))
        )
    if model.vae is not None and asked["vae"] and "vae" not in published:
        params["vae"] = _fresh(model.vae, keys["vae"], jnp.zeros((1, 5, *settings.data.size, 3)))
    if model.renderer is not None and asked["renderer"]:
        known = published["renderer"]["transformer"] if "renderer" in published else None
        params["renderer"] = init_renderer(model, keys["renderer"], known)
    return {**published, **params}


def init_renderer(model: Model, key: jax.Array, published: Any = None) -> dict[str, Any]:
    """The renderer's parameters, with the transformer's `published` ones among them."""
    r = model.renderer
    first, second, third = jax.random.split(key, 3)
    channels = 3 if r.shapes is not None else len(r.groups)
    picture = jnp.zeros((1, 2, *r.control_size, r.temporal_ratio * channels))
    step, noisy = jnp.zeros((1,)), jnp.zeros((1, 2, *r.grid, model.vae.z_dim))
    params = {}
    if r.control is not None:
        params["control"] = _fresh(r.control, first, picture, step)
    if r.hybrid is not None:
        stem, head = r.hybrid
        params["stem"] = _fresh(stem, first, noisy, noisy[:, 0], picture, step)
        levels = [jnp.zeros((1, 2, *(side >> i for side in r.grid), width)) for i, width in enumerate(stem.features)]
        params["head"] = _fresh(head, third, levels[-1], levels, noisy, noisy[:, 0], step)
    inputs, options = transformer_inputs(r)
    experts = r.variant.experts
    keys = dict(zip(experts, jax.random.split(second, len(experts)), strict=True)) if experts else {"": second}
    made = {
        name: _fresh(r.transformer, key, *inputs, **options)
        if published is None
        else _fresh_rest(r.transformer, key, published[name] if experts else published, *inputs, **options)
        for name, key in keys.items()
    }
    return params | {"transformer": made if experts else made[""]}


def published_transformer(variant: Variant, *, ratio: int = 4, **compute: Any) -> VideoTransformer:
    """The module of a published variant at its full size, one expert's; `compute`: dtype, remat and the like."""
    sizes, z = variant.sizes, variant.latent_channels
    if sizes is None or z is None or variant.text_dim is None:
        raise ValueError("published_transformer: this variant has no sizes of its own; they are the config's")
    return VideoTransformer(
        in_channels=variant.channels(z, ratio), out_channels=z, dim=128 * sizes.heads, heads=sizes.heads,
        ffn_dim=sizes.ffn_dim, layers=sizes.layers, text_dim=variant.text_dim, freq_dim=256, patch=(1, 2, 2),
        image_dim=variant.clip_dim, eps=1e-6, face=variant.face, **compute,
    )  # fmt: skip


def published_vae(latents: int, **compute: Any) -> VideoVAE:
    """The module of the published autoencoder whose latents have so many channels: Wan 2.1's (16) or 2.2's (48).

    Its constants say nothing: they are weights of a kind, and stand in the folder.
    """
    if latents not in (16, 48):
        raise ValueError(f"published_vae: none has latents of {latents} channels; 16 and 48 do")
    folded = latents == 48
    return VideoVAE(
        base_dim=160 if folded else 96, decoder_base_dim=256 if folded else 96, z_dim=latents, dim_mult=(1, 2, 4, 4),
        num_res_blocks=2, temporal_downsample=(False, True, True), in_channels=12 if folded else 3,
        out_channels=12 if folded else 3, patch_size=2 if folded else None, is_residual=folded,
        latents_mean=(0.0,) * latents, latents_std=(1.0,) * latents, **compute,
    )  # fmt: skip


def transformer_inputs(r: Renderer) -> tuple[tuple, dict[str, Any]]:
    """Zeros in the shapes of the transformer's inputs: one video of few frames."""
    module, frames = r.transformer, 2 + r.variant.front
    height, width = r.grid if r.hybrid is None else (side >> len(r.hybrid[0].features) - 1 for side in r.grid)
    text = jnp.zeros((1, r.variant.text_rows or r.text_length, module.text_dim))
    options: dict[str, Any] = {}
    if module.image_dim is not None:
        options["image"] = jnp.zeros((1, 4, module.image_dim))
    if module.face is not None:
        options["pose"] = jnp.zeros((1, frames - 1, height, width, module.out_channels))
    if module.semantics_dim is not None:
        options["semantics"] = jnp.zeros((1, r.text_length, module.semantics_dim))
    return (jnp.zeros((1, frames, height, width, module.in_channels)), jnp.zeros((1,)), text), options


def latent_constants(model: Model, settings: Settings) -> tuple[np.ndarray, np.ndarray] | None:
    """The mean and deviation that normalise latents: a published autoencoder's where the variant is laid out for them.

    None: those of the corpus, which is all that an autoencoder of the run's own has.
    """
    if model.renderer is None or model.renderer.variant.constants == "corpus" or not settings.vae.init:
        return None
    return np.asarray(model.vae.latents_mean, np.float32), np.asarray(model.vae.latents_std, np.float32)


def _fresh_rest(module: Any, key: jax.Array, known: Any, *inputs: Any, **options: Any) -> Any:
    """The known parameters, and fresh ones of what they lack."""

    def make(key: jax.Array) -> dict:
        return flatten_dict(_fresh(module, key, *inputs, **options), sep="/")

    flat = flatten_dict(known, sep="/")
    lacking = sorted(jax.eval_shape(make, key).keys() - flat.keys())
    fresh = jax.jit(lambda key: {name: value for name, value in make(key).items() if name in lacking})(key)
    return unflatten_dict(flat | fresh, sep="/")


def _fresh(module: Any, key: jax.Array, *inputs: Any, **options: Any) -> Any:
    return _initialiser(module)(key, inputs, options)


@lru_cache(maxsize=64)
def _initialiser(module: Any) -> Callable[[jax.Array, tuple, dict[str, Any]], Any]:
    """A module's parameters from a key and its inputs; one function for all that are equal, which jax traces once.

    To initialise is to trace a whole forward pass, and a run asks for the shapes, then for the parameters of each part.
    """
    return jax.jit(lambda key, inputs, options: module.init(key, *inputs, **options)["params"])
