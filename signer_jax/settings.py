"""The config as plain frozen values, and what each may be: the one place between a config and the library.

The fields have the keys of `configs/default.py`, where every value is explained; `validation.read` makes the one from
the other. A field without a range keeps its type, and every number is finite.
"""

import re
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, Literal, get_type_hints

from signer_jax.pose.skeleton import SUBSETS
from signer_jax.ranges import Range, each, number, one_of, range_of, whole
from signer_jax.renderer.variants import VARIANTS

CORPORA = ("builtin", "phoenix14t", "how2sign_clips", "openvid", "prepared")

# Whatever could take more memory or time than any machine has is bounded above too, beyond what any run needs: a slip
# of the keyboard is one line then.
Count = Annotated[int, whole(1, 10**9)]
Whole = Annotated[int, whole(0, 10**9)]
Seed = Annotated[int, whole(0, 2**31 - 1)]  # generators take 32 bits, and stages count on from it
Samples = Annotated[int, whole(0, 10**7)]
Width = Annotated[int, whole(1, 2**17)]  # features, units, heads
Channels = Annotated[int, whole(1, 1024)]  # of a latent
Layers = Annotated[int, whole(1, 1000)]
Blocks = Annotated[int, whole(0, 1000)]
Length = Annotated[int, whole(2, 10**5)]  # tokens
Frames = Annotated[int, whole(1, 10**5)]
Pixels = Annotated[int, whole(1, 8192)]
_SIDE = whole(8, 4096)
# Height and width; one number, which older runs have, is a square's side.
Size = Annotated[
    tuple[int, int],
    Range(
        f"{_SIDE.words}, or height and width, two such numbers",
        lambda v: _SIDE.holds(v) or (isinstance(v, tuple) and 1 <= len(v) <= 2 and all(map(_SIDE.holds, v))),
        read=lambda v: (v, v) if type(v) is int else v if len(v) == 2 else v * 2,
    ),
]
Sides = Range(
    "HEIGHTxWIDTH such as 832x480",
    lambda v: type(v) is str and re.fullmatch(r"[1-9][0-9]{0,3}x[1-9][0-9]{0,3}", v) is not None
    and all(map(_SIDE.holds, map(int, v.split("x")))),
)  # fmt: skip
Share = Annotated[float, number(0.0, 1.0)]
Positive = Annotated[float, number(0.0, 1e6, above=True)]
NotNegative = Annotated[float, number(0.0, 1e6)]
LearningRate = Annotated[float, number(0.0, 100.0, above=True)]
Dropout = Annotated[float, Range("a finite number of at least 0 and below 1", lambda v: number(0.0).holds(v) and v < 1)]
Odd = Annotated[
    int, Range("an odd whole number of at most 9999", lambda v: type(v) is int and 0 < v < 10**4 and v % 2 == 1)
]
Axis = Annotated[
    int,
    Range("-1 (what the other axes leave) or at least 1", lambda v: type(v) is int and (v == -1 or 1 <= v <= 10**6)),
]
_REMAT = ("none", "dots", "dots_no_batch", "attention", "offload", "full")  # renderer/remat.py
Remat = Annotated[
    str,
    Range(
        f"true, false or one of {', '.join(map(repr, _REMAT))}",
        lambda v: v is None or type(v) is bool or v in _REMAT,  # None is how a command line's "none" is read
        _REMAT,
        lambda v: {True: "attention", False: "dots_no_batch", None: "none"}.get(v, v),
    ),
]
PerSecond = Annotated[
    float, Range("0 (the corpus's own) or 1 to 1000", lambda v: number(0.0, 1000.0).holds(v) and (v == 0 or v >= 1))
]

Spike = Annotated[
    float, Range("0 (off) or more than 1, at most 1e+06", lambda v: number(0.0, 1e6).holds(v) and (v == 0 or v > 1))
]


def _is_pattern(value: Any) -> bool:
    try:
        return type(value) is str and bool(value) and bool(re.compile(value))
    except (re.error, RecursionError, OverflowError):
        return False


def _is_rate(value: Any) -> bool:
    pattern, equals, factor = value.rpartition("=") if type(value) is str else ("", "", "")
    try:
        return bool(equals) and _is_pattern(pattern) and number(0.0, 1e6).holds(float(factor))
    except ValueError:
        return False


Bucket = Range(
    "FRAMESxHEIGHTxWIDTH such as 81x480x832",
    lambda v: type(v) is str and re.fullmatch(r"[1-9][0-9]{0,4}(x[1-9][0-9]{0,4}){2}", v) is not None,
)
TextBucket = Range(
    "SOURCExTARGET in tokens such as 12x8",
    lambda v: type(v) is str and re.fullmatch(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", v) is not None,
)
Pattern = Range("a regular expression", _is_pattern)
Rate = Range("PATTERN=FACTOR, a regular expression and a number of at least 0 and at most 1e+06", _is_rate)


@dataclass(frozen=True)
class Splits:
    train: Samples
    dev: Samples
    test: Samples


@dataclass(frozen=True)
class Augment:
    """How far training examples are changed (`data.augmentation`); 0 is not at all."""

    mirror: Share
    not_mirrored: Annotated[tuple[str, ...], each(range_of(str), most=10**5)]
    speed: Annotated[float, number(0.0, 3.0)]
    turn: Annotated[float, number(0.0, 180.0)]
    grow: Annotated[float, number(0.0, 3.0)]
    shift: Annotated[float, number(0.0, 3.0)]
    colour: Annotated[float, number(0.0, 1.0)]
    copies: Annotated[int, whole(1, 100)]

    @property
    def mirrors_alone(self) -> bool:
        """Whether a changed copy, which keeps its speed, is the clip or its mirror image."""
        return self.mirror > 0 and not any((self.turn, self.grow, self.shift, self.colour))


@dataclass(frozen=True)
class Data:
    corpus: Annotated[str, one_of(*CORPORA)]
    source: str
    weights: Annotated[tuple[float, ...], each(number(0.0, 1e6, above=True), most=1000)]
    encoded: str
    seed: Seed
    size: Size
    other_sizes: Annotated[tuple[str, ...], each(Sides, most=100)]
    fps: PerSecond
    glosses_by: Annotated[tuple[str, ...], each(one_of("human", "rules", "slul", "unknown"), most=4)]
    sentences: Splits
    poses: Splits
    videos: Splits
    guests: Samples
    max_source: Length
    max_target: Length
    max_glosses: Annotated[int, whole(1, 10**5)]
    text_buckets: Annotated[tuple[str, ...], each(TextBucket, most=100)]
    crop: Share
    enlarge: Positive
    augment: Augment
    language_temperature: Annotated[float, number(1.0, 1e6)]
    read_threads: Annotated[int, whole(0, 1024)]
    decode_processes: Annotated[int, whole(0, 1024)]
    prefetch: Annotated[int, whole(1, 10**5)]


@dataclass(frozen=True)
class Tokens:
    path: str
    mask: str
    vocab_size: Annotated[int, whole(1, 10**6)]
    whole_glosses: Annotated[int, whole(0, 10**6)]
    dropout: Dropout


@dataclass(frozen=True)
class Slul:
    init: str
    d_model: Width
    d_kv: Width
    d_ff: Width
    heads: Width
    encoder_layers: Layers
    decoder_layers: Layers
    relative_buckets: Annotated[int, whole(4, 10**5)]
    relative_max_distance: Annotated[int, whole(2, 10**9)]
    activation: Literal["gated-gelu", "relu"]
    tie_embeddings: bool
    relative_bias_every_layer: bool
    embedding_deviation: Annotated[float, number(0.0, 100.0)]
    dropout: Dropout
    mask_rate: Share
    temperature: Annotated[float, number(1e-4, 1e6)]
    stop_anchor_gradient: bool
    contrastive_cross: bool
    over_tokens: Literal["mean", "sum"]
    label_smoothing: Annotated[float, number(0.0, 0.99)]
    z_loss: Annotated[float, number(0.0, 100.0)]
    search: Literal["shared", "standard"]
    beams: Annotated[int, whole(1, 1000)]
    length_penalty: Annotated[float, number(-100.0, 100.0)]
    unknown: Literal["left_out", "pieces"]


@dataclass(frozen=True)
class Posing:
    joints: Annotated[str, one_of(*SUBSETS)]
    dims: Literal[2, 3]
    experts: Annotated[int, whole(1, 10**4)]
    gating: Literal["sentence", "gloss"]
    follow: Literal["chosen", "soft"]
    pool_hidden: Annotated[int, whole(0, 10**5)]
    gate_hidden: Width
    window: Annotated[int, whole(4, 10**5)]  # the third difference needs four frames
    smooth_order: Literal[2, 3]
    stabiliser_hidden: Width
    stabiliser_layers: Layers
    stabiliser_kernel: Odd
    stabiliser_reach: Annotated[float, number(0.0, 1e3)]
    transition: Annotated[float, number(0.0, 60.0)]


@dataclass(frozen=True)
class Vae:
    init: str
    base_dim: Width
    z_dim: Channels
    dim_mult: Annotated[tuple[int, ...], each(whole(1, 1000), least=1, most=10)]
    num_res_blocks: Blocks
    temporal_downsample: Annotated[tuple[bool, ...], each(range_of(bool), most=10)]
    patch_size: Annotated[int, whole(1, 64)]
    principal_start: bool
    window: Frames
    buckets: Annotated[tuple[str, ...], each(Bucket, most=1000)]
    kl_weight: NotNegative
    sharpness_weight: NotNegative


Guidance = Annotated[float, number(0.0, 1000.0)]


@dataclass(frozen=True)
class Guidances:
    """Of what can be dropped from a video's conditions without the rest (`renderer.conditions.DROPPED`)."""

    text: Guidance
    semantics: Guidance
    pose: Guidance
    face: Guidance
    reference: Guidance


@dataclass(frozen=True)
class Dropouts:
    """Of the same."""

    text: Share
    semantics: Share
    pose: Share
    face: Share
    reference: Share


@dataclass(frozen=True)
class Rendering:
    init: str
    variant: Annotated[str, one_of(*VARIANTS)]
    text_encoder: str
    negative_prompt: str
    image_encoder: str
    dim: Annotated[int, whole(2, 2**17)]
    heads: Width
    ffn_dim: Width
    layers: Layers
    freq_dim: Annotated[int, whole(2, 2**17)]
    patch: Annotated[tuple[int, int, int], each(whole(1, 64), exactly=3)]
    stem_features: Annotated[tuple[int, ...], each(whole(1, 2**17), most=10)]
    stem_blocks: Blocks
    head_blocks: Blocks
    window: Annotated[int, whole(0, 10**5)]
    buckets: Annotated[tuple[str, ...], each(Bucket, most=1000)]
    overlap: Annotated[int, whole(0, 10**5)]
    stride: Frames
    references: Annotated[int, whole(1, 10**7)]
    reference_dropout: Share
    control: Literal["variant", "branch", "none"]
    picture: Literal["limbs", "dwpose"]
    control_size: Pixels
    control_softness: Annotated[float, number(0.0, 1000.0, above=True)]
    control_channels: Annotated[tuple[int, ...], each(whole(4, 2**17), least=2, most=20)]
    control_fold: Pixels
    shift: Annotated[float, number(0.0, 1000.0)]
    times: Literal["shifted-uniform", "logit-normal"]
    times_mean: Annotated[float, number(-100.0, 100.0)]
    times_std: Annotated[float, number(0.0, 100.0, above=True)]
    noise_share: Share
    velocity_floor: NotNegative
    steps: Annotated[int, whole(1, 10**4)]
    solver: Literal["euler", "unipc", "dpm++"]
    shared_noise: bool
    temperature: Annotated[float, number(0.0, 10.0)]
    guidance: Guidance
    guidance_each: Guidances
    guidance_low_noise: Guidance
    condition_dropout: Share
    dropout_each: Dropouts
    hand_weight: NotNegative
    face_weight: NotNegative
    dtype: Literal["", "float32", "bfloat16"]
    context_attention: Literal["automatic", "ring", "all_to_all"]


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
    batch: Annotated[int, whole(1, 10**6)]
    accumulate: Annotated[int, whole(1, 10**6)]
    trains: Annotated[tuple[str, ...], each(Pattern, least=1, most=1000)]
    frozen_dtype: Literal["float32", "bfloat16"]
    optimizer: Literal["adamw", "adafactor", "muon"]
    learning_rate: LearningRate
    rates: Annotated[tuple[str, ...], each(Rate, most=1000)]
    schedule: Literal["cosine", "linear", "constant"]
    warmup: Whole
    weight_decay: NotNegative
    clip: Positive
    ema: Dropout


@dataclass(frozen=True)
class SlulTraining(Training):
    select_every: Whole
    select_by: Literal["bleu4", "last"]
    select_sentences: Samples
    patience: Whole
    average: Annotated[int, whole(1, 1000)]
    r_drop: NotNegative


@dataclass(frozen=True)
class Stages:
    slul: SlulTraining
    pose: Training
    vae: Training
    images: Training
    renderer: Training
    joint: Training
    back_translation: Training
    progressive: Training


@dataclass(frozen=True)
class BackTranslation:
    """What reads poses to judge a run (`signer_jax/back_translation/`); no run has it among its parameters."""

    joints: Annotated[str, one_of(*SUBSETS)]
    max_frames: Annotated[int, whole(4, 10**5)]
    kernel: Odd
    stride: Annotated[int, whole(1, 100)]
    d_model: Width
    d_kv: Width
    d_ff: Width
    heads: Width
    encoder_layers: Layers
    decoder_layers: Layers
    dropout: Dropout
    gloss_weight: NotNegative
    beams: Annotated[int, whole(1, 1000)]
    length_penalty: Annotated[float, number(-100.0, 100.0)]


@dataclass(frozen=True)
class Progressive:
    """A baseline, text to pose (`signer_jax/baselines/progressive/`); no run has it among its parameters."""

    joints: Annotated[str, one_of(*SUBSETS)]
    max_frames: Annotated[int, whole(4, 10**5)]
    d_model: Annotated[int, whole(2, 2**17)]
    heads: Width
    d_ff: Width
    encoder_layers: Layers
    decoder_layers: Layers
    dropout: Dropout
    future: Annotated[int, whole(1, 1000)]
    noise: NotNegative


@dataclass(frozen=True)
class Lora:
    rank: Width
    alpha: Positive
    targets: Annotated[tuple[str, ...], each(Pattern, least=1)]


@dataclass(frozen=True)
class AdamW:
    b1: Dropout
    b2: Dropout
    eps: Positive


@dataclass(frozen=True)
class Adafactor:
    momentum: Dropout
    decay: Share
    eps: Positive
    clip: Positive
    factored_from: Count


@dataclass(frozen=True)
class Muon:
    momentum: Dropout
    adam_rate: Positive


@dataclass(frozen=True)
class Optimizers:
    adamw: AdamW
    adafactor: Adafactor
    muon: Muon


@dataclass(frozen=True)
class Mesh:
    data: Axis
    fsdp: Axis
    context: Axis
    tensor: Axis


@dataclass(frozen=True)
class Evaluate:
    split: Literal["", "train", "dev", "test"]
    sentences: Whole
    noise: Share
    poses: Whole
    videos: Whole


@dataclass(frozen=True)
class Settings:
    seed: Seed
    stages: Annotated[tuple[str, ...], each(range_of(str), least=1)]  # their names and order: training/run.py
    data: Data
    tokenizer: Tokens
    slul: Slul
    pose: Posing
    vae: Vae
    renderer: Rendering
    loss: Loss
    train: Stages
    lora: Lora
    optimizers: Optimizers
    nonfinite_steps: Count
    spike: Spike
    dtype: Literal["float32", "bfloat16", "float16"]
    remat: Remat
    scan_unroll: Layers
    offload_optimizer: bool
    compiled: str
    mesh: Mesh
    allow_whole: bool
    log_every: Count
    checkpoint_every: Count
    keep_checkpoints: Count
    keep_best: bool
    samples_every: Whole
    evaluate: Evaluate
    back_translation: BackTranslation
    progressive: Progressive

    def stage(self, name: str) -> Training:
        return getattr(self.train, name)


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
