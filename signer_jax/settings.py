"""The config as plain frozen values, and what each may be: the one place between a config and the library.

The fields have the keys of `configs/default.py`, where every value is explained; `read` makes the one from the other
and checks it, before a run claims its folder, so that a mistake costs one line and no folder. A field without a range
keeps its type, and every number is finite.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, get_type_hints

from signer_jax.errors import SignerError, closest
from signer_jax.pose.skeleton import SUBSETS
from signer_jax.ranges import Range, each, number, one_of, range_of, whole

CORPORA = ("builtin", "phoenix14t", "how2sign_clips")

Count = Annotated[int, whole(1)]
Whole = Annotated[int, whole(0)]
Share = Annotated[float, number(0.0, 1.0)]
Positive = Annotated[float, number(0.0, above=True)]
NotNegative = Annotated[float, number(0.0)]
Dropout = Annotated[float, Range("a finite number of at least 0 and below 1", lambda v: number(0.0).holds(v) and v < 1)]
Odd = Annotated[int, Range("an odd whole number", lambda v: type(v) is int and v > 0 and v % 2 == 1)]
Axis = Annotated[
    int, Range("-1 (what the other axes leave) or at least 1", lambda v: type(v) is int and (v == -1 or v >= 1))
]


@dataclass(frozen=True)
class Splits:
    train: Whole
    dev: Whole
    test: Whole


@dataclass(frozen=True)
class Data:
    corpus: Annotated[str, one_of(*CORPORA)]
    source: str
    seed: Whole
    size: Annotated[int, whole(8)]
    fps: NotNegative
    sentences: Splits
    poses: Splits
    videos: Splits
    guests: Whole
    max_source: Annotated[int, whole(2)]
    max_target: Annotated[int, whole(2)]
    max_glosses: Count
    read_threads: Whole
    prefetch: Count


@dataclass(frozen=True)
class Tokens:
    path: str
    mask: str
    vocab_size: Count


@dataclass(frozen=True)
class Slul:
    init: str
    d_model: Count
    d_kv: Count
    d_ff: Count
    heads: Count
    encoder_layers: Count
    decoder_layers: Count
    relative_buckets: Annotated[int, whole(4)]
    relative_max_distance: Annotated[int, whole(2)]
    activation: Literal["gated-gelu", "relu"]
    tie_embeddings: bool
    relative_bias_every_layer: bool
    dropout: Dropout
    mask_rate: Share
    temperature: Positive
    stop_anchor_gradient: bool
    contrastive_cross: bool
    beams: Count
    length_penalty: float


@dataclass(frozen=True)
class Posing:
    joints: Annotated[str, one_of(*SUBSETS)]
    dims: Literal[2, 3]
    experts: Count
    gating: Literal["sentence", "gloss"]
    follow: Literal["chosen", "soft"]
    gate_hidden: Count
    window: Annotated[int, whole(4)]  # the third difference needs four frames
    smooth_order: Literal[2, 3]
    stabiliser_hidden: Count
    stabiliser_layers: Count
    stabiliser_kernel: Odd
    transition: NotNegative


@dataclass(frozen=True)
class Vae:
    init: str
    base_dim: Count
    z_dim: Count
    dim_mult: Annotated[tuple[int, ...], each(whole(1), least=1)]
    num_res_blocks: Whole
    temporal_downsample: tuple[bool, ...]
    patch_size: Count
    principal_start: bool
    window: Count
    kl_weight: NotNegative
    sharpness_weight: NotNegative


@dataclass(frozen=True)
class Rendering:
    init: str
    dim: Annotated[int, whole(2)]
    heads: Count
    ffn_dim: Count
    layers: Count
    freq_dim: Annotated[int, whole(2)]
    patch: Annotated[tuple[int, int, int], each(whole(1), exactly=3)]
    stem_features: Annotated[tuple[int, ...], each(whole(1))]
    stem_blocks: Whole
    head_blocks: Whole
    window: Count
    overlap: Whole
    stride: Count
    references: Count
    reference_dropout: Share
    control_size: Count
    control_softness: Positive
    control_channels: Annotated[tuple[int, ...], each(whole(4), least=2)]
    control_fold: Count
    shift: Positive
    times: Literal["shifted-uniform", "logit-normal"]
    times_mean: Annotated[float, number()]
    times_std: Positive
    noise_share: Share
    velocity_floor: Positive
    steps: Count
    solver: Literal["euler", "unipc", "dpm++"]
    shared_noise: bool
    guidance: NotNegative
    condition_dropout: Share
    hand_weight: NotNegative


@dataclass(frozen=True)
class Loss:
    sagm: NotNegative
    kl: NotNegative
    contrastive: NotNegative
    moe: NotNegative
    entropy: NotNegative
    smooth: NotNegative
    hand: NotNegative
    velocity: NotNegative
    pose: NotNegative
    diffusion: NotNegative


@dataclass(frozen=True)
class Training:
    steps: Count
    batch: Count
    learning_rate: Positive
    warmup: Whole
    weight_decay: NotNegative
    clip: Positive
    optimizer: Literal["adamw", "muon"]


@dataclass(frozen=True)
class Stages:
    slul: Training
    pose: Training
    vae: Training
    images: Training
    renderer: Training
    joint: Training


@dataclass(frozen=True)
class Mesh:
    data: Axis
    fsdp: Axis
    tensor: Axis


@dataclass(frozen=True)
class Evaluate:
    split: Literal["", "train", "dev", "test"]
    sentences: Whole
    poses: Whole
    videos: Whole


@dataclass(frozen=True)
class Settings:
    seed: Whole
    stages: Annotated[tuple[str, ...], each(range_of(str), least=1)]  # their names and order: training/run.py
    data: Data
    tokenizer: Tokens
    slul: Slul
    pose: Posing
    vae: Vae
    renderer: Rendering
    loss: Loss
    train: Stages
    dtype: Literal["float32", "bfloat16", "float16"]
    remat: bool
    scan_unroll: Count
    mesh: Mesh
    log_every: Count
    checkpoint_every: Count
    keep_checkpoints: Count
    evaluate: Evaluate

    def stage(self, name: str) -> Training:
        return getattr(self.train, name)


def read(config: Any) -> Settings:
    """The settings of a config (a ConfigDict, or a dict of dicts).

    Raises `SignerError` for a key that is missing or unknown, the first value that its field does not take, or one that
    does not fit another.
    """
    check_keys(config, "config")
    settings = _read(Settings, config, "config")
    for message in _misfits(settings):
        raise SignerError(message)
    return settings


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value, as JSON sees it, of a config, a dict or settings."""
    flat: dict[str, Any] = {}
    for name, value in (vars(values) if is_dataclass(values) else values).items():
        if is_dataclass(value) or hasattr(value, "items"):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def known(kind: Any = Settings, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> the type (and range) of its value."""
    flat: dict[str, Any] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        flat |= known(hint, f"{prefix}{name}.") if is_dataclass(hint) else {prefix + name: hint}
    return flat


def check_keys(config: Any, where: str) -> None:
    """Raises `SignerError` unless a config has the settings' keys, neither more (a typo makes a new one) nor fewer."""
    keys, found = known(), flatten(config)
    if extra := [name for name in found if name not in keys]:
        raise SignerError(f"{where}: the config sets an unknown key {extra[0]!r}{closest(extra[0], keys)}")
    if missing := [name for name in keys if name not in found]:
        raise SignerError(f"{where}: the config lacks {missing[0]!r}; start from shipped('default')")


def _read(hint: Any, value: Any, name: str) -> Any:
    if isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        return hint(**{field.name: _read(hints[field.name], value[field.name], f"{name}.{field.name}")
                       for field in fields(hint)})  # fmt: skip
    value = tuple(value) if isinstance(value, list) else value
    row = range_of(hint)
    if not row.holds(value):
        raise SignerError(f"{name} is {value!r}: it must be {row.words}{row.near(value)}")
    plain = getattr(hint, "__origin__", hint)  # of Annotated
    return float(value) if plain is float else value


def _misfits(settings: Settings) -> Iterable[str]:
    """One message for each group of values that do not go together, of the stages that the config trains."""
    stages, vae, renderer, size = settings.stages, settings.vae, settings.renderer, settings.data.size
    if "vae" in stages and not vae.init and len(vae.temporal_downsample) != len(vae.dim_mult) - 1:
        yield (
            f"config.vae.temporal_downsample {vae.temporal_downsample}: give one entry for each level of "
            f"config.vae.dim_mult {vae.dim_mult} but the last"
        )
    folded = vae.patch_size * 2 ** (len(vae.dim_mult) - 1)  # pixels a side of a latent
    if {"vae", "renderer"} & set(stages) and not vae.init and size % folded:
        yield f"config.data.size {size}: must be a multiple of {folded} (vae.patch_size and the levels)"
    if "renderer" in stages and not renderer.init:
        if renderer.dim % renderer.heads or renderer.dim // renderer.heads % 2:
            yield f"config.renderer.dim {renderer.dim}: must be {renderer.heads} heads of an even width"
        if renderer.freq_dim % 2:
            yield f"config.renderer.freq_dim {renderer.freq_dim}: must be even (sines and cosines)"
    ratio = 2 ** sum(vae.temporal_downsample)  # frames a latent frame, but the first
    if "renderer" in stages and not vae.init and (renderer.window - 1) % ratio:
        yield f"config.renderer.window {renderer.window}: must be 1 more than a multiple of {ratio} (vae in time)"
    shared = renderer.overlap
    if "renderer" in stages and not vae.init and (shared % ratio or 2 * shared > renderer.window + ratio - 1):
        yield (
            f"config.renderer.overlap {shared}: must be a multiple of {ratio} (vae in time), at most half of "
            f"config.renderer.window {renderer.window}"
        )
    if "vae" in stages and not vae.init and (vae.window - 1) % ratio:
        yield f"config.vae.window {vae.window}: must be 1 more than a multiple of {ratio} (vae in time)"
    if "vae" in stages and not vae.init and vae.principal_start:
        # What `vae_initialisation.initialise_from_frames` needs.
        channels, numbers = 2 * vae.z_dim + 1, 3 * vae.patch_size**2
        for name, wrong, needs in (
            (f"dim_mult {vae.dim_mult}", vae.dim_mult != (1,), "(1,), one level"),
            (f"base_dim {vae.base_dim}", vae.base_dim < channels, f"at least {channels}, 2 * vae.z_dim + 1"),
            (f"z_dim {vae.z_dim}", vae.z_dim > numbers, f"at most {numbers}, the values of a patch"),
        ):
            if wrong:
                yield (
                    f"config.vae.{name}: principal components need {needs}; change it or set "
                    "config.vae.principal_start=false"
                )
    trained = {"images", "renderer", "joint"} & set(stages) and not renderer.init
    if trained and renderer.guidance != 1 and renderer.condition_dropout == 0:
        yield (
            f"config.renderer.guidance {renderer.guidance}: guidance needs a renderer trained without pose and text "
            "too; set config.renderer.condition_dropout above 0, or guidance to 1"
        )
