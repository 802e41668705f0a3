"""A continuous corpus as a source of a pose database: sentences whose glosses have times, a JSON file beside each pose.

`NAME_metadata.json` beside `NAME_original.pose`, or `NAME.json` beside `NAME.pose`, anywhere below the folder, with
`{"id", "signer", "sentence": {"start", "end", "glosses": {"gloss": […], "start": […], "end": […]}}}`, times in
milliseconds of the recording; `id` and `signer` may lack. A pose comes in one of two forms, told by whether straight
lines part it into the glosses, else by its length:

- the sentence: it lasts from the sentence's start to its end, and a gloss is cut out by its own times.
- joined: sign-language-processing/fluent-pose-synthesis (data/create_data.py) keeps of a sentence the frames of its
  glosses alone and joins these with frames between them, on straight lines, leaving out some at each join. Its times
  are not the file's. The straight frames part the signs, which are told by their lengths; where these are not those
  of the glosses, the file is left out. Its `NAME_updated.pose` is made of other recordings and not read.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from signer_jax import outside
from signer_jax.errors import SignerError
from signer_jax.json_files import CONFIG, read_json
from signer_jax.pose.clean import gaps
from signer_jax.pose.entries import LONGEST, NO_PRIORITY, Entry
from signer_jax.pose.formats import pose_file
from signer_jax.pose.sources.common import SHORTEST, SHOWN, Cut, as_sign, inside, is_name
from signer_jax.types import Pose

METADATA = "_metadata.json"
_ORIGINAL = "_original.pose"
_SAME_LENGTH = 2  # frames that a sentence's pose may be longer or shorter than its times say
_STRAIGHT = 1e-4  # of a file's coordinates' extent: a smaller second difference lies on a straight line
_BETWEEN = 3  # frames on a straight line, at least, between two joined signs
_ROUNDING = 1  # frames that a joined sign may be longer than its times say
_KEPT = 0.6  # of a joined sign's frames, but for one, are kept at least
_LOST = 2  # frames: a sign that has so few may be gone altogether in a joined file
_MOST = 1000  # glosses of a sentence


class Gloss(NamedTuple):
    """One of a sentence's glosses; `start` and `end` in milliseconds of the recording."""

    name: str
    start: float
    end: float


def pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The JSON files below a folder that have a pose beside them, and `_metadata.json` that should have one, each with
    its pose; in no order.
    """
    for file in folder.rglob("*.json"):
        stem = file.name.removesuffix(METADATA) if file.name.endswith(METADATA) else file.stem
        pose = file.with_name(stem + (_ORIGINAL if file.name.endswith(METADATA) else ".pose"))
        if file.name.endswith(METADATA) or pose.exists():
            yield file, pose


def read_continuous(folder: Path, language: str) -> tuple[Iterator[tuple[Entry, Pose]], list[str]]:
    """The signs of a corpus in a sign language, as `read_lexicon`; the occurrences of a gloss by a signer are its
    variants, the source of each is the sentence's name: its path without `_original.pose` or `.pose`.

    A gloss whose frames cannot be told, or are fewer than three, is noted in the list, as is a sentence.
    Raises `SignerError` at once where no JSON lies beside a pose.
    """
    found = sorted(pairs(folder))
    if not any(pose.exists() for _, pose in found):
        raise SignerError(f"{folder}: has no {METADATA[1:]} beside a pose; give a corpus as docs/prior.md describes it")
    problems: list[str] = []
    return _signs(folder, found, language, problems), problems


def _signs(
    folder: Path, found: list[tuple[Path, Path]], language: str, problems: list[str]
) -> Iterator[tuple[Entry, Pose]]:
    variants: dict[tuple[str, str], int] = {}
    for about, file in found:
        source = str(file.relative_to(folder))
        name = source.removesuffix(".pose").removesuffix(_ORIGINAL.removesuffix(".pose"))
        try:
            inside(folder, str(about.relative_to(folder)))
            pose = pose_file.read(inside(folder, source))
            signer, start, end, glosses = _sentence(about)
            spans = spans_of(glosses, start, end, pose)
        except SignerError as error:
            problems.append(f"{source[:SHOWN]}: {error}")
            continue
        for number, (gloss, span) in enumerate(zip(glosses, spans, strict=True), start=1):
            try:
                if span is None or span[1] - span[0] < SHORTEST:
                    left = 0 if span is None else span[1] - span[0]
                    raise SignerError(f"has {left} frames, a sign has {SHORTEST} at least")
                sign, worth = as_sign(pose.slice(*span), False, Cut())
            except SignerError as error:
                problems.append(f"{source[:SHOWN]}, gloss {number} ({gloss.name[:SHOWN]}): {error}")
                continue
            variant = variants[gloss.name, signer] = variants.get((gloss.name, signer), -1) + 1
            entry = Entry(
                gloss.name, language, signer, variant=variant, source=name[-LONGEST:], priority=NO_PRIORITY,
                quality=worth,
            )  # fmt: skip
            yield entry, sign


def _sentence(file: Path) -> tuple[str, float, float, list[Gloss]]:
    """Signer, start, end and glosses. Raises `SignerError` for what is no such metadata."""
    with outside.reading(file, "divide it"):
        try:
            about = read_json(outside.plain_file(file, "give a file"), CONFIG)
            sentence, signer = about["sentence"], about.get("signer", "")
            timed = sentence["glosses"]
            columns = [timed[name] for name in ("gloss", "start", "end")]
            glosses = [Gloss(name, *map(_milliseconds, times)) for name, *times in zip(*columns, strict=True)]
            start, end = _milliseconds(sentence["start"]), _milliseconds(sentence["end"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"{type(error).__name__}: {str(error)[:SHOWN]}"
            raise SignerError(f"{file.name} is no sentence with timed glosses ({reason})") from None
    if not all(is_name(gloss.name) for gloss in glosses) or not (signer == "" or is_name(signer)):
        raise SignerError(f"{file.name} has a gloss or a signer without a name that can be one")
    if len(glosses) > _MOST:
        raise SignerError(f"{file.name} has {len(glosses)} glosses, a sentence {_MOST} at most")
    steps = [start, *(gloss.start for gloss in glosses), end]
    if any(before > after for before, after in pairwise(steps)) or any(one.end < one.start for one in glosses):
        raise SignerError(f"{file.name} has times that are not in their order")
    return signer, start, end, glosses


def _milliseconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise ValueError(f"{value!r} is no time in milliseconds")
    return float(value)


def spans_of(glosses: list[Gloss], start: float, end: float, pose: Pose) -> list[tuple[int, int] | None]:
    """The frames (first, past the last) of each gloss, None of one that the file does not have.

    Raises `SignerError` where the file is neither the sentence nor its glosses joined.
    """
    fps, seconds = pose.fps, (end - start) / 1000
    lengths = [int(np.ceil(one.end / 1000 * fps) - np.floor(one.start / 1000 * fps)) for one in glosses]
    # The joins first: what is joined may be as long as the sentence by chance. One piece is no join.
    spans = _matched(lengths, parts) if len(parts := pieces(pose)) > 1 else None
    if spans is not None:
        return spans
    if abs(len(pose) - seconds * fps) <= _SAME_LENGTH:
        frames = [(round((one.start - start) / 1000 * fps), round((one.end - start) / 1000 * fps)) for one in glosses]
        return [(first, min(last, len(pose))) for first, last in frames]
    if (spans := _matched(lengths, parts)) is None:
        raise SignerError(
            f"its {len(pose)} frames last {len(pose) / fps:.2f} s, the sentence {seconds:.2f} s, and what straight "
            "lines part in it are not its glosses: the times are not this file's"
        )
    return spans


def pieces(pose: Pose) -> list[tuple[int, int]]:
    """What the frames on straight lines, `_BETWEEN` at least on end, leave of a pose: first frame, past the last."""
    seen = pose.confidence > 0
    known = (seen[:-2] & seen[1:-1] & seen[2:])[..., None]
    second = np.abs(pose.coordinates[2:] - 2 * pose.coordinates[1:-1] + pose.coordinates[:-2]) * known
    extent = np.ptp(pose.coordinates[seen], axis=0).max(initial=0) if seen.any() else 0
    bent = second.max(axis=(1, 2), initial=0) > _STRAIGHT * extent
    straight = [(first + 1, last + 1) for first, last in gaps(bent) if last - first >= _BETWEEN]  # frames between two
    edges = [0, *(edge for run in straight for edge in run), len(pose)]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _matched(lengths: list[int], found: list[tuple[int, int]]) -> list[tuple[int, int] | None] | None:
    """The piece of each gloss in their order, by its length; None of one that is gone. None where they do not match."""
    spans: list[tuple[int, int] | None] = []
    left = list(found)
    for length in lengths:
        if left and _KEPT * length - _ROUNDING <= left[0][1] - left[0][0] <= length + _ROUNDING:
            spans.append(left.pop(0))
        elif length <= _LOST:
            spans.append(None)
        else:
            return None
    return None if left else spans
