"""What a config's values may be: one table, and the few rules that tie several values together.

`check` runs before a run claims its folder, so that a mistake costs one line and no folder. A value that no row names
still keeps the type that stands in `configs/default.py`, and every number is finite.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from signer_jax.data.prepare import CORPORA
from signer_jax.errors import SignerError, closest
from signer_jax.pose.skeleton import SUBSETS


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value, as JSON sees it."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict | ConfigDict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


@dataclass(frozen=True)
class Range:
    """What a value must be, in words and as a test; `known` are the names among which the nearest is suggested."""

    words: str
    holds: Callable[[Any], bool]
    known: tuple[str, ...] = ()


def whole(least: int) -> Range:
    return Range(f"a whole number of at least {least}", lambda v: type(v) is int and v >= least)


def number(least: float = -math.inf, most: float = math.inf, *, above: bool = False) -> Range:
    """A finite number from `least` (or above it) to `most`."""
    low = "" if least == -math.inf else f" {'above' if above else 'of at least'} {least:g}"
    high = "" if most == math.inf else f" and at most {most:g}" if low else f" of at most {most:g}"
    return Range(
        f"a finite number{low}{high}",
        lambda v: type(v) in (int, float) and math.isfinite(v) and (v > least if above else v >= least) and v <= most,
    )


def one_of(*names: Any) -> Range:
    words = ", ".join(repr(name) for name in names)
    return Range(f"one of {words}", lambda v: v in names, tuple(name for name in names if isinstance(name, str)))


def each(item: Range, *, least: int = 0, exactly: int | None = None) -> Range:
    count = f"a list of {exactly}" if exactly is not None else f"a list of at least {least}" if least else "a list"
    return Range(
        f"{count}, each {item.words}",
        lambda v: (
            isinstance(v, tuple | list)
            and (len(v) == exactly if exactly is not None else len(v) >= least)
            and all(item.holds(one) for one in v)
        ),
        item.known,
    )


TRUTH = Range("true or false", lambda v: type(v) is bool)
SHARE = number(0.0, 1.0)
POSITIVE = number(0.0, above=True)
NOT_NEGATIVE = number(0.0)

# Key (`*` stands for any part) -> its range.
RANGES: dict[str, Range] = {
    "seed": whole(0),
    "stages": each(Range("a stage", lambda v: isinstance(v, str)), least=1),  # their names and order: training/run.py
    "dtype": one_of("float32", "bfloat16", "float16"),
    "scan_unroll": whole(1),
    "log_every": whole(1),
    "checkpoint_every": whole(1),
    "keep_checkpoints": whole(1),
    "data.corpus": one_of(*CORPORA),
    "data.seed": whole(0),
    "data.size": whole(8),
    "data.fps": NOT_NEGATIVE,
    "data.sentences.*": whole(0),
    "data.poses.*": whole(0),
    "data.videos.*": whole(0),
    "data.max_source": whole(2),
    "data.max_target": whole(2),
    "data.max_glosses": whole(1),
    "data.read_threads": whole(0),
    "data.prefetch": whole(1),
    "tokenizer.vocab_size": whole(1),
    "slul.d_model": whole(1),
    "slul.d_kv": whole(1),
    "slul.d_ff": whole(1),
    "slul.heads": whole(1),
    "slul.encoder_layers": whole(1),
    "slul.decoder_layers": whole(1),
    "slul.relative_buckets": whole(4),
    "slul.relative_max_distance": whole(2),
    "slul.activation": one_of("gated-gelu", "relu"),
    "slul.dropout": Range("a finite number of at least 0 and below 1", lambda v: NOT_NEGATIVE.holds(v) and v < 1),
    "slul.mask_rate": SHARE,
    "slul.temperature": POSITIVE,
    "slul.beams": whole(1),
    "slul.length_penalty": number(),
    "pose.joints": one_of(*SUBSETS),
    "pose.dims": one_of(2, 3),
    "pose.experts": whole(1),
    "pose.gating": one_of("sentence", "gloss"),
    "pose.follow": one_of("chosen", "soft"),
    "pose.gate_hidden": whole(1),
    "pose.window": whole(4),  # the third difference needs four frames
    "pose.smooth_order": one_of(2, 3),
    "pose.stabiliser_hidden": whole(1),
    "pose.stabiliser_layers": whole(1),
    "pose.stabiliser_kernel": Range("an odd whole number", lambda v: type(v) is int and v > 0 and v % 2 == 1),
    "pose.transition": NOT_NEGATIVE,
    "vae.base_dim": whole(1),
    "vae.z_dim": whole(1),
    "vae.dim_mult": each(whole(1), least=1),
    "vae.num_res_blocks": whole(0),
    "vae.temporal_downsample": each(TRUTH),
    "vae.patch_size": whole(1),
    "vae.window": whole(1),
    "vae.kl_weight": NOT_NEGATIVE,
    "vae.sharpness_weight": NOT_NEGATIVE,
    "renderer.dim": whole(2),
    "renderer.heads": whole(1),
    "renderer.ffn_dim": whole(1),
    "renderer.layers": whole(1),
    "renderer.freq_dim": whole(2),
    "renderer.stem_features": whole(0),
    "renderer.stem_blocks": whole(0),
    "renderer.head_blocks": whole(0),
    "renderer.noise_share": SHARE,
    "renderer.velocity_floor": POSITIVE,
    "renderer.patch": each(whole(1), exactly=3),
    "renderer.window": whole(1),
    "renderer.stride": whole(1),
    "renderer.references": whole(1),
    "renderer.control_size": whole(1),
    "renderer.control_fold": whole(1),
    "renderer.control_channels": each(whole(4), least=2),
    "renderer.control_softness": POSITIVE,
    "renderer.shift": POSITIVE,
    "renderer.condition_dropout": SHARE,
    "renderer.hand_weight": NOT_NEGATIVE,
    "renderer.steps": whole(1),
    "renderer.guidance": NOT_NEGATIVE,
    "loss.*": NOT_NEGATIVE,
    "train.*.steps": whole(1),
    "train.*.batch": whole(1),
    "train.*.learning_rate": POSITIVE,
    "train.*.warmup": whole(0),
    "train.*.weight_decay": NOT_NEGATIVE,
    "train.*.clip": POSITIVE,
    "mesh.*": Range("-1 (what the other axes leave) or at least 1", lambda v: type(v) is int and (v == -1 or v >= 1)),
    "evaluate.split": one_of("", "train", "dev", "test"),
    "evaluate.sentences": whole(0),
    "evaluate.poses": whole(0),
    "evaluate.videos": whole(0),
}


def finite(value: Any) -> Any:
    """The value. Raises `ValueError` for a number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    return value


def check(config: ConfigDict) -> None:
    """Raises `SignerError` for the first value that is not what `RANGES` says, or that does not fit another."""
    for name, value in flatten(config).items():
        rows = [row for key, row in RANGES.items() if fnmatchcase(name, key)]
        if not rows:
            numbers = value if isinstance(value, tuple | list) else (value,)
            rows = [number()] if any(isinstance(v, float) and not math.isfinite(v) for v in numbers) else []
        for row in rows:
            if not row.holds(value):
                raise SignerError(f"config.{name} is {_shown(value)}: it must be {row.words}{_near(value, row.known)}")
    for message in _misfits(config):
        raise SignerError(message)


def check_paths(config: ConfigDict) -> None:
    """Raises `SignerError` where the config names published weights or a tokenizer that are not there."""
    for name, value in flatten(config).items():
        if (name.endswith(".init") or name == "tokenizer.path") and value and not Path(value).exists():
            raise SignerError(f"config.{name} {value}: no such file or folder; give where the published one lies")


def _misfits(config: ConfigDict) -> Iterable[str]:
    """One message for each group of values that do not go together, of the stages that the config trains."""
    stages, vae, renderer = config.stages, config.vae, config.renderer
    if "vae" in stages and not vae.init and len(vae.temporal_downsample) != len(vae.dim_mult) - 1:
        yield (
            f"config.vae.temporal_downsample {tuple(vae.temporal_downsample)}: give one entry for each level of "
            f"config.vae.dim_mult {tuple(vae.dim_mult)} but the last"
        )
    folded = vae.patch_size * 2 ** (len(vae.dim_mult) - 1)  # pixels a side of a latent
    if {"vae", "renderer"} & set(stages) and not vae.init and config.data.size % folded:
        yield f"config.data.size {config.data.size}: must be a multiple of {folded} (vae.patch_size and the levels)"
    if "renderer" in stages and not renderer.init:
        if renderer.dim % renderer.heads or renderer.dim // renderer.heads % 2:
            yield f"config.renderer.dim {renderer.dim}: must be {renderer.heads} heads of an even width"
        if renderer.freq_dim % 2:
            yield f"config.renderer.freq_dim {renderer.freq_dim}: must be even (sines and cosines)"
    ratio = 2 ** sum(bool(down) for down in vae.temporal_downsample)  # frames a latent frame, but the first
    if "renderer" in stages and not vae.init and (renderer.window - 1) % ratio:
        yield f"config.renderer.window {renderer.window}: must be 1 more than a multiple of {ratio} (vae in time)"


def _near(value: Any, known: tuple[str, ...]) -> str:
    wrong = [v for v in (value if isinstance(value, tuple | list) else (value,)) if isinstance(v, str)]
    wrong = [v for v in wrong if v not in known]
    return closest(wrong[0], known) if wrong and known else ""


def _shown(value: Any) -> str:
    return repr(tuple(value) if isinstance(value, list) else value)
