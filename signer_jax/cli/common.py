"""What several commands share: how an example is shown, a table, reading texts and pictures, where output may go."""

import argparse
import math
import os
import re
import struct
import unicodedata
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signer_jax import outside, storage
from signer_jax.errors import SignerError, one_line, piled

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

# Megapixels of the kinds that are read: a PNG takes 4 bytes a pixel while it is decoded, a WebP 16; a JPEG is decoded
# at an eighth to a half of its size, unless it comes in several passes, which are all held. Pillow starts programs for
# some of the other formats that it knows.
_PICTURES = {"PNG": 36, "JPEG": 64, "WEBP": 12}
_PASSES = 36  # megapixels of a progressive JPEG
_KEPT = 2048  # pixels of a side: a picture that has them is made smaller by whole numbers, down to these
_WIDEST = 4  # times a picture's shorter side: of a longer one the middle is kept
_BAND = 1 << 22  # pixels that are converted at once
SCORES = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge", "wer")  # of a back translation
_LINE_END = re.compile(r"\r\n|\n|\r")  # str.splitlines also ends lines at U+2028, form feeds and others


def command(
    commands: Any, name: str, summary: str, example: str, run: Callable[[argparse.Namespace], int | None]
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
        "  --config.data.size=64,96 --config.data.sentences=\"{'train': 500}\"",
    )


def table(rows: list[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Columns under a header, numbers to the right."""
    rows = [tuple(map(one_line, row)) for row in rows]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(header, widths, strict=True)).rstrip()]
    lines.append("  ".join("-" * width for width in widths))
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def figures(metrics: dict[str, float], split: str) -> str:
    """The table of a run's figures on a split, or why there is none."""
    if not split:
        return "no evaluation was asked for (config.evaluate.split is empty); `signer evaluate` makes one"
    if not metrics:
        return f"nothing to evaluate: {split} holds nothing that this run's stages make"
    return table(metric_rows(metrics), (f"metric ({split})", "value"))


def judgement(metrics: Mapping[str, float], split: str, folder: str = "back") -> str:
    """The table of a back translation: a row for each kind of pose, the scores with their intervals.

    Beside what is read in videos stand stored poses, which no estimator found.
    """
    videos = folder == "back_video"
    ours = "the run's videos" if videos else "the run's"
    stored = ", stored poses" if videos else ""
    kinds = {
        "": ours, "_true_glosses": f"{ours}, of the true glosses", "_true_poses": "videos of the true poses",
        "_truth": f"ground truth{stored or ', unseen recordings'}",
        "_nearest_text": f"nearest training text's{stored or ' recording'} (retrieval)",
        "_shuffled": f"another's ground truth{stored} (floor)",
    }  # fmt: skip
    others = {"_truth": "ground truth", "_nearest_text": "retrieval", "_shuffled": "another's"}
    kinds |= {
        f"{first}_over{other}": f"{said} less {theirs}"
        for first, said in (("", ours), ("_true_poses", "videos of the true poses"), ("_truth", "ground truth"))
        for other, theirs in others.items()
    }

    def cell(name: str) -> str:
        if name not in metrics:
            return "-"
        low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
        return f"{metrics[name]:.1f} [{low:.1f}, {high:.1f}]" if math.isfinite(low) else f"{metrics[name]:.1f} [-]"

    rows = [
        (said, *(cell(f"{folder}/{score}{kind}") for score in SCORES))
        for kind, said in kinds.items() if f"{folder}/bleu4{kind}" in metrics
    ]  # fmt: skip
    return table(rows, (f"{folder} ({split}, {metrics[f'{folder}/sentences']:.0f} sentences)", *SCORES))


def metric_rows(metrics: dict[str, float]) -> list[tuple[str, ...]]:
    return [(name, _number(value)) for name, value in sorted(metrics.items())]


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.4g}" if abs(value) < 0.01 else f"{value:.3f}"


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text (with or without a byte order mark, any line ending) in Unicode's composed form (NFC).

    Raises `SignerError`, with the line, for another encoding.
    """
    path = outside.plain_file(path, "give a text file with a sentence a line")
    with outside.reading(path, "divide it"):
        return _lines(path, path.read_bytes())


def _lines(path: Path, data: bytes) -> list[str]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(_LINE_END.findall(data[: error.start].decode("latin-1"))) + 1
        kind = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else f"byte 0x{data[error.start]:02x}"
        raise SignerError(f"{path}: line {line} is no UTF-8 ({kind}); save the file as UTF-8") from None
    if "\0" in text:
        line = len(_LINE_END.findall(text[: text.index("\0")])) + 1
        raise SignerError(f"{path}: line {line} holds a zero byte (is it UTF-16?); save the file as UTF-8")
    lines = _LINE_END.split(text)
    if piled(text):
        line = next(i for i, one in enumerate(lines, start=1) if piled(one))
        raise SignerError(f"{path}: line {line} piles more than 30 marks on a letter; is it text?")
    lines = [unicodedata.normalize("NFC", line) for line in lines]
    return lines if lines[-1] else lines[:-1]


def check_text(text: str) -> None:
    """Raises `SignerError` for a text from the command line that no model can read."""
    if not text.strip():
        raise SignerError("the text is empty; give at least one word")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SignerError(f"the text {text[:40]!r} is no UTF-8; check the terminal's encoding") from None
    if piled(text):
        raise SignerError(f"the text {text[:40]!r} piles more than 30 marks on a letter; is it text?")


def open_picture(path: str) -> "Image":
    """A PNG, JPEG or WebP as RGB, upright, with a shorter side of less than twice `_KEPT` pixels; of a longer one the
    middle `_WIDEST` times that.

    Raises `SignerError` for what is none, damaged or (undecoded) too large.
    """
    from PIL import Image, UnidentifiedImageError

    file = outside.plain_file(path, "--style takes a PNG, JPEG or WebP of the signer, facing the camera")
    with warnings.catch_warnings(), outside.reading(f"--style {path}", "resize it"):
        warnings.simplefilter("ignore")  # Pillow reads on over a damaged note on the camera, or warns of a large one
        try:
            with file.open("rb") as data:
                return _read_picture(path, Image.open(data, formats=tuple(_PICTURES)))
        except Image.DecompressionBombError:
            raise _too_large(path, max(_PICTURES.values())) from None
        except UnidentifiedImageError:
            raise SignerError(f"--style {path}: is not a picture; give a PNG, JPEG or WebP") from None
        except (OSError, ValueError, SyntaxError, TypeError, KeyError, EOFError, OverflowError, struct.error) as error:
            reason = outside.reason_of(error)
            raise SignerError(f"--style {path}: is a damaged picture ({reason}); save it again as PNG") from None


def _read_picture(path: str, picture: "Image") -> "Image":
    from PIL import ImageOps

    # A JPEG with others behind it, as telephones write them, is one to Pillow from the first note on.
    kind = "JPEG" if picture.format == "MPO" else str(picture.format)
    most = _PASSES if kind == "JPEG" and "progressive" in picture.info else _PICTURES[kind]
    if picture.width * picture.height > most * 1_000_000:
        raise _too_large(path, most)
    picture.draft("RGB", (_KEPT, _KEPT))  # a JPEG is decoded to no more than twice that
    picture.load()
    small = _small(picture)
    small.info = picture.info  # which says how it is turned
    return ImageOps.exif_transpose(small)


def _small(picture: "Image") -> "Image":
    """The middle as RGB, made smaller, band by band: whole copies of a large picture take gigabytes."""
    from PIL import Image

    side = min(picture.size)
    width, height = (min(pixels, _WIDEST * side) for pixels in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    factor = max(1, side // _KEPT)
    small = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = max(1, _BAND // width // factor) * factor
    for start in range(0, height, rows):
        band = _rgb(picture.crop((left, top + start, left + width, top + min(start + rows, height))))
        small.paste(band.reduce(factor) if factor > 1 else band, (0, start // factor))
    return small


def _rgb(picture: "Image") -> "Image":
    import numpy as np
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits a pixel, which convert would clip rather than scale
        picture = Image.fromarray(np.clip(np.asarray(picture) >> 8, 0, 255).astype(np.uint8))
    # A palette's transparent colour goes through RGBA, as Pillow asks for.
    return (picture.convert("RGBA") if picture.mode == "P" else picture).convert("RGB")


def _too_large(path: str, megapixels: int) -> SignerError:
    return SignerError(f"--style {path}: has more than the {megapixels} megapixels that its kind may have; resize it")


def middle_of(picture: "Image", size: tuple[int, int]) -> "np.ndarray":
    """The middle of the picture, as large as the aspect of `size` (height, width) lets it, resized to that: uint8
    `[height, width, 3]`.
    """
    import numpy as np
    from PIL import Image

    height, width = size
    across = max(1, min(picture.width, round(picture.height * width / height)))
    down = max(1, min(picture.height, round(picture.width * height / width)))
    left, top = (picture.width - across) // 2, (picture.height - down) // 2
    middle = picture.crop((left, top, left + across, top + down))
    return np.asarray(middle.resize((width, height), Image.Resampling.BOX))


def output_folder(path: str, flag: str) -> Path:
    """The path, where a file can be written there. Raises `SignerError` otherwise, before any long work."""
    file = Path(path)
    try:
        if not file.parent.is_dir():
            raise SignerError(f"{flag} {path}: the folder {file.parent} does not exist; make it first")
        if file.is_dir():
            raise SignerError(f"{flag} {path}: is a folder; give a file's name")
        if file.exists():
            outside.plain_file(file, f"give {flag} another name")
        if not os.access(file.parent, os.W_OK | os.X_OK):  # what is new is made beside its name
            raise SignerError(f"{flag} {path}: may not be written (permission denied); give another place")
    except (OSError, ValueError, RuntimeError) as error:
        raise SignerError(f"{flag} {path}: cannot be written ({outside.reason_of(error)}); give another name") from None
    return file


def distinct(inputs: Mapping[str, str | None], outputs: Mapping[str, str | None]) -> None:
    """Raises `SignerError` where an output names an input or another output, through links too, or lies in a database,
    a lexicon or a run: something would be lost.

    Both are flag -> path as the user gave it; None where it was not given.
    """
    taken = {flag: path for flag, path in inputs.items() if path}
    for flag, path in outputs.items():
        if not path:
            continue
        for other, folder in taken.items():
            if _part_of(path, folder):
                raise SignerError(f"{flag} {path}: is a part of {other} and would replace it; give {flag} another name")
        for other, theirs in taken.items():
            if _same(path, theirs):
                raise SignerError(f"{flag} {path}: is {other} too and would replace it; give {flag} another name")
        storage.check_outside(path, f"{flag} {path}")
        taken[flag] = path


def _part_of(path: str, folder: str) -> bool:
    """Whether a path is one of the files that make up a run or a folder with a manifest."""
    try:
        inside = Path(os.path.realpath(path)).relative_to(os.path.realpath(folder))
    except (OSError, ValueError):
        return False
    return bool(inside.parts) and inside.parts[0] in {"config.json", *storage.RUN_FILES, *storage.files_of(folder)}


def _same(a: str, b: str) -> bool:
    try:
        return os.path.realpath(a) == os.path.realpath(b) or os.path.samefile(a, b)
    except (OSError, ValueError):  # one is not there yet
        return False


def inside_one_another(paths: Mapping[str, str]) -> None:
    """Raises `SignerError` where one of two folders (flag -> path) lies in the other: it would be read while it is
    written, or replaced.
    """
    (one, first), (other, second) = paths.items()
    real = {one: os.path.realpath(first), other: os.path.realpath(second)}
    if real[one] == real[other] or os.path.commonpath(real.values()) in real.values():
        raise SignerError(f"{other} {second}: must not lie in {one} {first}, nor {one} in it; choose another place")


def check_database(path: str) -> None:
    """Raises `SignerError` where something else than a plain file stands for one of a pose database's files."""
    folder = Path(path)
    if folder.is_dir():
        for file in sorted(folder.iterdir()):
            if not file.is_dir():
                outside.plain_file(file, "build the database again with signer prior build")
