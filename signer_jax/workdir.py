"""What a run leaves in its folder, and how it is found again.

<workdir>/config.json        the run's config; another config is refused
         data/               the prepared corpus
         tokenizer.model     the SentencePiece model
         prior/              the pose prior database
         latents/            the training videos' latents
         checkpoints/STAGE/  Orbax
         tensorboard/
         result.json, report.html, sign.mp4
"""

import json
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from signer_jax.errors import SignerError

# Values that may change between the start of a run and its resumption: they do not change what is trained.
FREE = (
    "mesh.", "evaluate.", "log_every", "checkpoint_every", "keep_checkpoints", "data.read_threads", "data.prefetch",
    "data.source", "renderer.steps", "renderer.guidance", "slul.beams", "slul.length_penalty",
)  # fmt: skip


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value, as JSON sees it."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict | ConfigDict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def write_atomically(path: Path, text: str) -> None:
    """The file appears whole or not at all, also where several processes write it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text)
    partial.replace(path)


def claim(workdir: Path, config: ConfigDict) -> None:
    """Writes the config of a new run, or checks that a run to resume has the same one.

    Raises `SignerError` where the folder belongs to another config.
    """
    file = workdir / "config.json"
    if file.exists():
        before, now = flatten(load_config(workdir)), flatten(config)
        changed = [
            name for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name) and not name.startswith(FREE)
        ]  # fmt: skip
        if changed:
            name = changed[0]
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise SignerError(
                f"{workdir}: belongs to a run with another config ({name} was {before.get(name)!r}, "
                f"is now {now.get(name)!r}{more}); choose another --workdir, or give the values it was started with"
            )
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(config.to_dict(), indent=1) + "\n")


def load_config(workdir: Path) -> ConfigDict:
    """The config of a run. Raises `SignerError` where the folder holds none."""
    file = workdir / "config.json"
    try:
        values = json.loads(file.read_text())
    except FileNotFoundError:
        raise SignerError(
            f"{workdir}: holds no run (no config.json); train one with `signer train` or `signer demo`"
        ) from None
    except json.JSONDecodeError:
        raise SignerError(f"{file}: is not valid JSON; restore it, it names what the checkpoints hold") from None
    config = ConfigDict(_tuples(values))
    return config


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
