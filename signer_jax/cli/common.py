"""What several commands share: how an example is shown, a table, reading a picture."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from signer_jax.errors import SignerError


def command(
    commands: Any, name: str, summary: str, example: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    """A subcommand with an example in its help."""
    parser = commands.add_parser(
        name, help=summary, description=summary, epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run)
    return parser


def say_overrides(parser: argparse.ArgumentParser) -> None:
    """The help of `--config.KEY=VALUE`; `main` takes these arguments out, since their names are the config's."""
    parser.add_argument_group(
        "overrides",
        "--config.KEY=VALUE sets one value of the config, parsed as the value that it replaces; every key is in\n"
        "configs/default.py. For example\n"
        "  --config.train.slul.steps=500 --config.remat=true --config.stages=slul,pose\n"
        "  --config.vae.temporal_downsample=False,True,True --config.data.sentences=\"{'train': 500}\"",
    )


def table(rows: list[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Columns under a header, numbers to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(header, widths, strict=True)).rstrip()]
    lines.append("  ".join("-" * width for width in widths))
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def metric_rows(metrics: dict[str, float]) -> list[tuple[str, ...]]:
    return [(name, f"{value:.4g}" if abs(value) < 0.01 else f"{value:.3f}") for name, value in sorted(metrics.items())]


def read_picture(path: str, size: int) -> np.ndarray:
    """A reference image as uint8 `[size, size, 3]`: the middle square, resized. Raises `SignerError` if unreadable."""
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(path).convert("RGB")
    except (FileNotFoundError, IsADirectoryError):
        raise SignerError(
            f"--style {path}: no such file; give a PNG or JPEG of the signer, facing the camera"
        ) from None
    except (UnidentifiedImageError, OSError):
        raise SignerError(f"--style {path}: is not a picture; give a PNG or JPEG") from None
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BOX)
    return np.asarray(square)


def output_folder(path: str, flag: str) -> Path:
    """The path, where its folder exists. Raises `SignerError` otherwise, before any long work."""
    file = Path(path)
    if not file.parent.is_dir():
        raise SignerError(f"{flag} {path}: the folder {file.parent} does not exist; make it first")
    return file
