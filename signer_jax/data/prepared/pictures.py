"""A folder of pictures as a video: which frame each one is, by the number that ends its name."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from signer_jax import outside
from signer_jax.errors import SignerError

# What is told of a folder.
GAPS = "frames are missing in the folder: the nearest is shown in their place"
TWINS = "a picture is in the folder in several formats: one of each is taken"
SPACED = "numbers of the pictures go up by more than one: each is the frame after the one before"
UNNUMBERED = "names of the pictures do not number them: frames one after the other, in the names' order"

_MOST_PIXELS = 36_000_000
_NUMBER = re.compile(r"\d{1,12}$")  # behind a picture's name
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")  # of twins the first is taken


class NoTelling(SignerError):
    """The names do not say which frame each picture is."""


@dataclass(frozen=True)
class Pictures:
    """Pictures in the order of their frames."""

    files: tuple[Path, ...]
    frames: Int[np.ndarray, " n"]  # of each, from 0
    told: tuple[str, ...]

    @property
    def gaps(self) -> bool:
        return GAPS in self.told


def listed(folder: Path) -> Pictures:
    """The pictures of a folder; hidden files are passed over.

    Raises `SignerError` where there are none, and `NoTelling` where some have a number and others none, where there are
    several series, or where fewer than half of the numbers are there: these may be times, or frames that were lost.
    """
    found = [file for file in folder.iterdir() if file.suffix.lower() in _ENDINGS and not file.name.startswith(".")]
    if not found:
        raise SignerError(f"{folder}: holds no picture; extract it again")
    outside.check_inside(folder, [file.name for file in found], "extract it again")
    by_name = {file.stem: file for file in sorted(found, key=lambda file: _ENDINGS.index(file.suffix.lower()))[::-1]}
    told = [TWINS] * (len(by_name) < len(found))
    places = {stem: _place(stem) for stem in by_name}
    stems = sorted(by_name, key=lambda stem: (*places[stem], stem))
    if _numbered(folder, stems, places):
        stems.sort(key=lambda stem: places[stem][1])
        numbers = np.array([places[stem][1] for stem in stems])
        step = int(np.gcd.reduce(np.diff(numbers))) if len(stems) > 1 else 1
        frames = (numbers - numbers[0]) // step
        if frames[-1] >= 2 * len(stems):
            raise NoTelling(f"{folder}: {len(stems)} pictures have numbers from {numbers[0]} to {numbers[-1]}")
        told += [GAPS] * bool(frames[-1] >= len(stems)) + [SPACED] * (step > 1)
    else:
        frames = np.arange(len(stems))
        told.append(UNNUMBERED)
    return Pictures(tuple(by_name[stem] for stem in stems), frames, tuple(told))


def _place(stem: str) -> tuple[str, int]:
    """What stands before the number, and the number, -1 where there is none: 10 comes after 9, with zeros before it and
    without.
    """
    number = _NUMBER.search(stem)
    return (stem[: number.start()], int(number[0])) if number else (stem, -1)


def _numbered(folder: Path, stems: list[str], places: dict[str, tuple[str, int]]) -> bool:
    """Whether each picture has a number of its own; False where none has one, or the numbers tell none apart."""
    numbers = [places[stem][1] for stem in stems]
    if len(set(numbers)) == len(stems) and min(numbers) >= 0:
        return True
    if len({places[stem][0] for stem in stems}) == len(stems) and len(set(numbers)) == 1:
        return False  # `a`, `b`, or `fn000001-0`, `fn000002-0`
    without = next((stem for stem, number in zip(stems, numbers, strict=True) if number < 0), None)
    if without is not None:
        raise NoTelling(f"{folder}: the picture {without} has no number, and others have one")
    twice = next(stem for stem, number in zip(stems, numbers, strict=True) if numbers.count(number) > 1)
    others = [stem for stem in stems if places[stem][1] == places[twice][1]]
    raise NoTelling(f"{folder}: {others[0]} and {others[1]} have one number")


def picture(file: Path) -> UInt8[np.ndarray, "h w 3"]:
    with outside.reading(file, "resize it"):
        try:
            with outside.plain_file(file, "give a picture").open("rb") as data:
                opened = Image.open(data, formats=("PNG", "JPEG", "WEBP"))
                if opened.width * opened.height > _MOST_PIXELS:
                    raise SignerError(f"{file}: has more than {_MOST_PIXELS // 1_000_000} megapixels; resize it")
                return np.asarray(opened.convert("RGB"))
        except (OSError, ValueError, SyntaxError, TypeError, KeyError, EOFError) as error:
            if outside.passing(error):  # the disk's, and not the picture's
                raise
            raise SignerError(f"{file}: is a damaged picture ({outside.reason_of(error)}); extract it again") from None
