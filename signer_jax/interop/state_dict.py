"""Reads and writes the folders that Hugging Face libraries save: `config.json` beside safetensors files."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from signer_jax.errors import SignerError

_INDEX_ENDING = ".safetensors.index.json"


def read_config(path: str | Path) -> dict:
    """The folder's `config.json`. Raises `SignerError` where it is missing or is no JSON."""
    file = Path(path) / "config.json"
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise SignerError(f"{file}: not found; give the folder that save_pretrained wrote") from None
    except json.JSONDecodeError as error:
        raise SignerError(f"{file}: not valid JSON ({error}); download it again") from None


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """All tensors of the folder's safetensors files (one file, or shards with an index), as float32 numpy arrays.

    Raises `SignerError` where there are none or a shard is missing.
    """
    folder = Path(path)
    indices = sorted(folder.glob(f"*{_INDEX_ENDING}"))
    if indices:
        names = sorted(set(json.loads(indices[0].read_text())["weight_map"].values()))
    else:
        names = sorted(file.name for file in folder.glob("*.safetensors"))
    if not names:
        raise SignerError(f"{folder}: holds no .safetensors file; save the model with safe_serialization=True")
    tensors: dict[str, np.ndarray] = {}
    for name in names:
        if not (folder / name).exists():
            raise SignerError(f"{folder / name}: this shard is named in the index but is missing; download it again")
        tensors.update(_read_file(folder / name))
    return tensors


def _read_file(file: Path) -> dict[str, np.ndarray]:
    # Parsed by hand for one reason: numpy has no bfloat16, and the safetensors numpy reader refuses it.
    import ml_dtypes

    dtypes = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    data = np.memmap(file, np.uint8, "r")
    size = int(data[:8].view(np.uint64)[0])
    if size > len(data) - 8:
        raise SignerError(f"{file}: the header is longer than the file; it was cut short, download it again")
    header = json.loads(data[8 : 8 + size].tobytes())
    header.pop("__metadata__", None)
    body = data[8 + size :]
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in dtypes:
            continue  # integer buffers (position ids) are not weights
        start, end = entry["data_offsets"]
        if end > len(body):
            raise SignerError(f"{file}: tensor {name!r} reaches past the end of the file; download it again")
        raw = np.frombuffer(body[start:end].tobytes(), dtypes[entry["dtype"]])
        tensors[name] = raw.reshape(entry["shape"]).astype(np.float32)
    return tensors


def write(path: str | Path, config: Mapping, tensors: Mapping[str, np.ndarray], name: str = "model") -> None:
    """Writes `config.json` and `<name>.safetensors` so that the original library loads them."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(config), indent=2, sort_keys=True) + "\n")
    contiguous = {key: np.ascontiguousarray(value, np.float32) for key, value in tensors.items()}
    save_file(contiguous, folder / f"{name}.safetensors", metadata={"format": "pt"})


def check_names(used: set[str], found: set[str], path: str | Path, optional: tuple[str, ...] = ()) -> None:
    """Raises `SignerError` unless exactly the `used` tensors were `found` (those ending in `optional` may be extra)."""
    if missing := sorted(used - found):
        raise SignerError(
            f"{path}: lacks {len(missing)} tensors, the first {missing[0]!r}; is it the right model class?"
        )
    if extra := sorted(name for name in found - used if not name.endswith(optional or ("\0",))):
        raise SignerError(f"{path}: has {len(extra)} unknown tensors, the first {extra[0]!r}; is it the right class?")
