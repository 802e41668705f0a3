"""Low-rank adapters in other people's names: diffusers' LoRA files, PEFT's adapter folders, Wan's original names.

Ours are a tree with `lora_a [.., in, r]` and `lora_b [.., r, out]` beside the kernels that they belong to, stacked
over the layers; theirs are `PREFIX blocks.N.attn1.to_q.lora_A.weight [r, in]` and `lora_B.weight [out, r]`. The factor
α/r is multiplied into B on the way out, so that α = r, which every loader takes where it is told nothing, is the truth.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import safe_open
from safetensors.numpy import save_file

from signer_jax import storage
from signer_jax.errors import SignerError, closest
from signer_jax.interop import names, state_dict, t5, wan
from signer_jax.interop.model_config import plain_inside, read_json
from signer_jax.interop.names import TRANSPOSED, Row
from signer_jax.interop.wan_original import LAYERS
from signer_jax.json_files import CONFIG, parse_json
from signer_jax.slul.t5 import T5

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"  # what diffusers' load_lora_weights looks for in a folder
PEFT_FILE, _PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_DIFFUSERS, _PEFT, _ORIGINAL = "transformer.", "base_model.model.", "diffusion_model."
_HEADER = "lora_adapter_metadata"  # where diffusers keeps the LoraConfig
_LEAST, _MOST = 1e-9, 1e9  # of an α
_KIND = "LoRA adapter"
_KEY = re.compile(r"(?P<layer>.+)\.(?P<side>lora_A|lora_B|lora_down|lora_up)(\.default)?\.weight")
_SIDES = {"lora_A": "lora_a", "lora_down": "lora_a", "lora_B": "lora_b", "lora_up": "lora_b"}


class _Place(NamedTuple):
    """Where one of their dense layers stands with us."""

    ours: str  # path of the layer
    number: int  # in its stack, flat
    shape: tuple[int, ...]  # of the whole kernel: the stack's axes, in, out


def save_diffusers(path: str | Path, module: Any, adapters: Mapping, scale: float) -> None:
    """Writes a folder that diffusers' `load_lora_weights` (and `load_lora_adapter` of the transformer) loads.

    `module` is the `VideoTransformer`, `adapters` the tree of its adapters and `scale` their α/r. Raises `SignerError`
    where an adapter's layer has no name there.
    """
    with storage.new_folder(path, _KIND) as folder:
        write_diffusers(folder, module, adapters, scale)


def write_diffusers(folder: Path, module: Any, adapters: Mapping, scale: float) -> None:
    """`save_diffusers` into a folder that is there."""
    tensors = _to_theirs(_rows(module), adapters, scale, _DIFFUSERS)
    save_file(tensors, folder / DIFFUSERS_FILE, metadata={"format": "pt"})


def save_peft(path: str | Path, module: Any, adapters: Mapping, scale: float) -> None:
    """Writes a folder that `peft.PeftModel.from_pretrained` loads: of a T5 or a `VideoTransformer`."""
    with storage.new_folder(path, _KIND) as folder:
        write_peft(folder, module, adapters, scale)


def write_peft(folder: Path, module: Any, adapters: Mapping, scale: float) -> None:
    """`save_peft` into a folder that is there."""
    tensors = _to_theirs(_rows(module), adapters, scale, _PEFT)
    ranks = {_layer_of(n): len(v) for n, v in tensors.items() if ".lora_A." in n}
    most = max(ranks.values())
    config = {
        "peft_type": "LORA",
        "r": most,
        "lora_alpha": most,
        "rank_pattern": {name: rank for name, rank in ranks.items() if rank != most},
        "alpha_pattern": {name: rank for name, rank in ranks.items() if rank != most},
        "target_modules": sorted(ranks),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    (folder / _PEFT_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, folder / PEFT_FILE, metadata={"format": "pt"})


def combined(trees: Sequence[Mapping]) -> dict:
    """One tree of adapters that does what several do that were trained one after the other on the same base.

    Their ranks stand beside each other, and a layer with fewer than others gets zeros: loaders take one rank for all.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for tree in trees:
        for name, value in flatten_dict(dict(tree), sep="/").items():
            parts.setdefault(name, []).append(np.asarray(value, np.float32))
    axes = {name: -1 if name.endswith("/lora_a") else -2 for name in parts}
    whole = {name: np.concatenate(some, axes[name]) for name, some in parts.items()}
    rank = max((value.shape[axes[name]] for name, value in whole.items()), default=0)

    def padded(name: str, value: np.ndarray) -> np.ndarray:
        missing = rank - value.shape[axes[name]]
        return np.pad(value, [(0, missing if axis == axes[name] % value.ndim else 0) for axis in range(value.ndim)])

    return unflatten_dict({name: padded(name, value) for name, value in whole.items()}, sep="/")


def check_written(path: Path, module: Any, shapes: Mapping, adapters: Mapping, scale: float) -> int:
    """Reads what was written back as a loader would, by its names; returns how many layers have an adapter.

    Raises `SignerError` unless every number of `adapters` is found again, to the bit: a trained B may be of any size.
    """
    found, wanted = load(path, module, shapes), dict(adapters)
    flat, other = flatten_dict(found, sep="/"), flatten_dict(wanted, sep="/")
    same = flat.keys() == other.keys() and all(
        np.array_equal(flat[name], _scaled(name, value, scale)) for name, value in other.items()
    )
    if not same:
        raise SignerError(f"{path}: what was written does not read back as what was trained; nothing is left there")
    return sum(int(np.prod(value.shape[:-2])) for name, value in flat.items() if name.endswith("/lora_a"))


def load(path: str | Path, module: Any, params: Mapping, scale: float = 1.0) -> dict:
    """The adapters of a file or folder as a tree beside a module's parameters (or their shapes), float32.

    `scale` is the α/r that they will be used with. Reads diffusers' names (behind `transformer.`), PEFT's (behind
    `base_model.model.`), and Wan's own (behind `diffusion_model.`).
    A layer of a stack that has none there gets zeros. Raises `SignerError` for a missing prefix, for names or shapes
    that are not this model's, and for half an adapter: whatever is in the file is used, or the file is not.
    """
    path = Path(path)
    for place in (path.parent, path):
        storage.recover(place)
    if path.is_dir():
        found = [path / name for name in (DIFFUSERS_FILE, PEFT_FILE) if (path / name).is_file()]
        if len(found) != 1:
            raise SignerError(f"{path}: holds no {DIFFUSERS_FILE} or {PEFT_FILE}; give the file itself")
        path = plain_inside(found[0], "give the file itself")
    tensors = state_dict.read_file(path)
    told, layers = _told_alpha(path), _layers(_rows(module), params)
    alphas = {n.removesuffix(".alpha"): _alpha(path, n, v) for n, v in tensors.items() if n.endswith(".alpha")}
    halves: dict[str, dict[str, np.ndarray]] = {}
    factors: dict[str, float] = {}  # α, where it is told; else the rank
    tensors = {name: value for name, value in tensors.items() if not name.endswith(".alpha")}
    prefix = _prefix_of(path, tensors, layers)
    if strange := sorted(alphas.keys() - {name.partition(".lora_")[0] for name in tensors}):
        raise SignerError(f"{path}: {strange[0][:120]} has an alpha and no adapter; save the adapter again")
    for name, value in tensors.items():
        key = _KEY.fullmatch(name.removeprefix(prefix))
        theirs = _renamed(key["layer"], prefix) if key else name
        if not key or theirs not in layers:
            raise SignerError(
                f"{path}: {name[:120]!r} is no adapter of this model{closest(theirs, layers)}; give a LoRA of a "
                "model of the same class and size"
            )
        both, side = halves.setdefault(theirs, {}), _SIDES[key["side"]]
        if side in both:
            raise SignerError(f"{path}: {name[:120]!r} is the second adapter of its layer; save the adapter again")
        both[side] = value
        if (alpha := alphas.get(prefix + key["layer"], told)) is not None:
            factors[theirs] = alpha
    return _to_ours(path, layers, halves, factors, scale)


# ---- Names -----------------------------------------------------------------------------------------------------------


def layers_of(module: Any) -> frozenset[str]:
    """Our paths of the layers whose adapters can be written: of a T5 or a `VideoTransformer`."""
    return frozenset(row.ours for row in _rows(module))


def _rows(module: Any) -> list[Row]:
    """The rows of the model's table that are dense layers' kernels, without the endings of both names."""
    table: Sequence[Row] = t5.table_of(module) if isinstance(module, T5) else wan.table_of(module)
    return [
        row._replace(ours=row.ours.removesuffix("/kernel"), theirs=row.theirs.removesuffix(".weight"))
        for row in table
        if row.ours.endswith("/kernel") and row.turn is TRANSPOSED
    ]


def _layers(rows: Sequence[Row], params: Mapping) -> dict[str, _Place]:
    """Their dense layers, each with its place in ours."""
    flat, found = flatten_dict(dict(params), sep="/"), {}
    for row in rows:
        shape = tuple(flat[f"{row.ours}/kernel"].shape)
        numbers = np.arange(int(np.prod(shape[:-2]))).reshape(*shape[:-2], 1, 1)
        for theirs, number in names.to_theirs([row], unflatten_dict({row.ours: numbers}, sep="/")).items():
            found[theirs] = _Place(row.ours, int(number[0, 0]), shape)
    return found


def _prefix_of(path: Path, tensors: Mapping[str, np.ndarray], layers: Mapping[str, Any]) -> str:
    """What all the names begin with. Raises `SignerError` where they do not begin with what loaders look for."""
    for prefix in (_DIFFUSERS, _PEFT, _ORIGINAL):
        if tensors and all(name.startswith(prefix) for name in tensors):
            return prefix
    if not tensors:
        raise SignerError(f"{path}: holds no adapter; give a LoRA's file")
    known = (_DIFFUSERS, _PEFT, _ORIGINAL)
    first = next(name for name in sorted(tensors) if not name.startswith(known[0]))
    bare = (key := _KEY.fullmatch(first)) is not None and key["layer"] in layers
    what = "the prefix is missing, and diffusers would load nothing of it" if bare else "which no loader knows"
    raise SignerError(
        f"{path}: names {first[:120]!r}: {what}; every name must begin with one of {', '.join(map(repr, known))}"
    )


def _renamed(layer: str, prefix: str) -> str:
    """Wan's own name of a layer, which ComfyUI's and kohya's files have, as diffusers has it; others as they are."""
    if prefix != _ORIGINAL:
        return layer
    number = re.match(r"blocks\.(\d+)\.", layer)
    theirs = LAYERS.get(layer if number is None else f"blocks.{{}}.{layer[number.end() :]}")
    return layer if theirs is None else theirs.replace("{}", number[1] if number else "")


def _layer_of(name: str) -> str:
    key = _KEY.fullmatch(name.removeprefix(_PEFT))
    assert key is not None, name
    return key["layer"]


# ---- What α is told --------------------------------------------------------------------------------------------------


def _told_alpha(file: Path) -> float | None:
    """The one α that PEFT's config beside the file or diffusers' in its header tells; None where it is the rank."""
    beside = file.parent / _PEFT_CONFIG
    if file.name == PEFT_FILE and beside.exists():
        return _alpha_of(beside, read_json(beside, f"it belongs to {PEFT_FILE}"))
    try:
        with safe_open(file, framework="np") as opened:
            header = (opened.metadata() or {}).get(_HEADER)
        config = parse_json(header.encode(), CONFIG) if header else {}
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise SignerError(f"{file}: its {_HEADER} is no JSON object; save the adapter again")
    return _alpha_of(file, {name.removeprefix(_DIFFUSERS): value for name, value in config.items()}) if config else None


def _alpha_of(file: Path, config: Mapping) -> float | None:
    """The α of a LoraConfig's values, or None where it is the rank. Raises `SignerError` for what is not read."""
    for key in ("use_rslora", "use_dora", "fan_in_fan_out", "modules_to_save"):
        if config.get(key):
            raise SignerError(f"{file}: {key} is {config[key]!r}, which is not read; give a plain LoRA")
    alpha, patterns = config.get("lora_alpha"), config.get("alpha_pattern")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not _LEAST < alpha < _MOST:
        raise SignerError(f"{file}: lora_alpha is {alpha!r}; it must be a number within {_LEAST:g} to {_MOST:g}")
    if not patterns:
        return float(alpha)
    if patterns == config.get("rank_pattern") and alpha == config.get("r"):
        return None  # as written here: α is the rank everywhere
    raise SignerError(f"{file}: an alpha_pattern is not read; save the adapter with one lora_alpha")


def _alpha(path: Path, name: str, value: np.ndarray) -> float:
    if value.size != 1 or not _LEAST < (alpha := float(value.reshape(-1)[0])) < _MOST:
        raise SignerError(f"{path}: {name[:120]!r} is no number within {_LEAST:g} to {_MOST:g}; save the adapter again")
    return alpha


# ---- Arrays ----------------------------------------------------------------------------------------------------------


def _to_theirs(rows: Sequence[Row], adapters: Mapping, scale: float, prefix: str) -> dict[str, np.ndarray]:
    flat = flatten_dict(dict(adapters), sep="/")
    places = {name.removesuffix("/lora_a") for name in flat if name.endswith("/lora_a")}
    if not places:
        raise SignerError("there is no adapter to export; train with config.train.STAGE.trains=lora")
    if strange := sorted(places - {row.ours for row in rows}):
        raise SignerError(f"the adapter of {strange[0]} has no name there; leave it out of config.lora.targets")
    table = [
        row._replace(ours=f"{row.ours}/{ours}", theirs=f"{prefix}{row.theirs}.{theirs}.weight")
        for row in rows
        if row.ours in places
        for ours, theirs in (("lora_a", "lora_A"), ("lora_b", "lora_B"))
    ]
    with np.errstate(over="ignore"):
        scaled = {name: _scaled(name, value, scale) for name, value in flat.items()}
    if broken := sorted(name for name, value in scaled.items() if not np.isfinite(value).all()):
        raise SignerError(
            f"the adapter {broken[0]}, times alpha over r ({scale:g}), is not finite in float32; export an earlier "
            "checkpoint"
        )
    tensors = names.to_theirs(table, unflatten_dict(scaled, sep="/"))
    return {name: np.ascontiguousarray(value) for name, value in tensors.items()}


def _scaled(name: str, value: Any, scale: float) -> np.ndarray:
    """A number as it is written: float32, B times α/r."""
    value = np.asarray(value, np.float32)
    return value * np.float32(scale) if name.endswith("/lora_b") else value


def _to_ours(
    path: Path, layers: Mapping[str, _Place], halves: Mapping, alphas: Mapping[str, float], scale: float
) -> dict:
    flat: dict[str, np.ndarray] = {}
    for theirs, both in halves.items():
        if not {"lora_a", "lora_b"} <= both.keys():
            raise SignerError(f"{path}: {theirs} has one of lora_A and lora_B alone; save the adapter again")
        a, b, (ours, number, shape) = both["lora_a"].T, both["lora_b"].T, layers[theirs]
        rank = a.shape[-1] if a.ndim else 0
        if not rank or a.shape != (shape[-2], rank) or b.shape != (rank, shape[-1]):
            raise SignerError(
                f"{path}: {theirs} has lora_A {list(both['lora_a'].shape)} and lora_B {list(both['lora_b'].shape)}; "
                f"this model's layer takes [r, {shape[-2]}] and [{shape[-1]}, r]"
            )
        with np.errstate(over="ignore"):
            b = b * np.float32(alphas.get(theirs, rank) / rank / scale)
        if not np.isfinite(b).all():
            raise SignerError(f"{path}: {theirs}: alpha over r times lora_B is not finite; save the adapter again")
        for name, value in ((f"{ours}/lora_a", a), (f"{ours}/lora_b", b)):
            stack = flat.setdefault(name, np.zeros((*shape[:-2], *value.shape), np.float32))
            if stack.shape[-2:] != value.shape:
                raise SignerError(f"{path}: the layers' adapters of {ours} differ in rank; give them one")
            stack.reshape(-1, *value.shape)[number] = value
    return unflatten_dict(flat, sep="/")
