"""Poses to look at (`signer view`): a page that plays them beside each other, a video and a picture of the same.

The page holds a pose as int16 in units of a 2048th of a shoulder width, x and y, of those joints that the clip shows at
all: 0.4 kilobytes a frame of 50 joints. It draws `pose/draw.py`'s strokes.
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape as escape_html
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from signer_jax import report, storage
from signer_jax.errors import SignerError, one_line
from signer_jax.pose import draw, skeleton
from signer_jax.pose.formats.clip import Clip
from signer_jax.types import Pose
from signer_jax.viewing import beside

MOST_CLIPS = 12  # on a page
MOST_VALUES = 24_000_000  # on a page: an hour of all joints at 25 frames a second, 64 MB
COLUMNS = 8  # moments of a picture
_UNITS = 2048  # of a shoulder width: what lies beyond 16 of these is drawn there
_MISSING = -32768  # a coordinate of what is not drawn
_LOWEST, _HIGHEST = -32767, 32767
_SPEEDS = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2)
_MARGIN = 0.15  # shoulder widths around the whole figure
_RARE = 0.5  # per cent at either end that the view of the whole figure may cut off


@dataclass(frozen=True)
class Shown:
    """A pose in shoulder widths, as it is looked at, and what is said beside it."""

    name: str
    pose: Pose
    facts: Mapping[str, str]
    remarks: Sequence[str] = ()
    first: int = 0  # which frame of the clip the pose begins with
    total: int = 0  # frames of the clip


def as_shown(clip: Clip, source: str, threshold: float) -> Shown:
    """A clip in shoulder widths around its shoulders; what has none to measure by is fitted into the view.

    As missing counts what is not drawn: a confidence at or below the threshold.
    """
    pose = clip.pose
    remarks = [*clip.remarks, *(f"not shown: {what}" for what in clip.lost)]
    if clip.beyond is not None:
        remarks.append(f"not shown: {clip.beyond.said}")
    try:
        pose = skeleton.normalise(pose)[0]
    except SignerError:
        pose = _fitted(pose)
        remarks.append("shows no shoulders to measure by, so its size and place are those of what is seen")
    seen = np.asarray(pose.confidence > 0)
    there, drawn = np.asarray(seen.any(0)), np.asarray(pose.confidence > threshold)
    parts = {"body": skeleton.BODY, "face": skeleton.FACE, "hands": (*skeleton.LEFT_HAND, *skeleton.RIGHT_HAND)}
    counts = {part: int(there[[skeleton.INDEX[name] for name in names]].sum()) for part, names in parts.items()}
    facts = {
        "file": source,
        "joints": f"{there.sum()} of {len(there)}: {', '.join(f'{n} {part}' for part, n in counts.items() if n)}",
        "frames": f"{len(pose)} at {pose.fps:.6g} a second, {len(pose) / pose.fps:.2f} s",
        "missing": f"{1 - drawn[:, there].mean():.1%} of these joints in all frames (confidence {threshold:g} or less)",
        "text": clip.text, "glosses": clip.gloss, "signer": clip.speaker,
    }  # fmt: skip
    return Shown(clip.name, pose, {name: text for name, text in facts.items() if text}, remarks, 0, len(pose))


def _fitted(pose: Pose) -> Pose:
    """What is seen, moved and scaled into the middle of the view."""
    seen = pose.confidence > 0
    xy = pose.coordinates[..., :2].astype(np.float64)
    low, high = xy[seen].min(0), xy[seen].max(0)
    scale = 0.8 * skeleton.VIEW_SIDE / max(float((high - low).max()), 1e-9)
    middle = np.array([0.0, skeleton.VIEW_SIDE / 2 - skeleton.VIEW_TOP])
    moved = ((xy - (low + high) / 2) * scale + middle) * seen[..., None]
    return Pose(moved.astype(np.float32), pose.confidence, pose.fps)


def between(shown: Sequence[Shown], start: float, most: int = MOST_VALUES) -> list[Shown]:
    """The clips from a time on, and of all as many seconds as a page may hold; what was cut off is a remark.

    Raises `SignerError` where a clip has ended by then.
    """
    each_second = sum(2 * one.pose.fps * int((one.pose.confidence > 0).any(0).sum()) for one in shown)
    seconds = most / each_second
    cut = []
    for one in shown:
        first = int(start * one.pose.fps + 1e-6)
        total = len(one.pose)
        if first >= total:
            raise SignerError(f"--from {start:g}: {one.name} has ended after {total / one.pose.fps:.2f} s; give less")
        last = min(total, first + max(1, int(seconds * one.pose.fps)))
        remarks = list(one.remarks)
        if (first, last) != (0, total):
            remarks.append(f"frames {first + 1} to {last} of {total} are shown; --from SECONDS shows others")
        cut.append(replace(one, pose=one.pose.slice(first, last), remarks=remarks, first=first))
    return cut


# ---- The page --------------------------------------------------------------------------------------------------------


def write_page(path: str | Path, shown: Sequence[Shown], threshold: float, start: float = 0.0) -> None:
    """Writes the page, whole or not at all, of clips that begin at `start` (seconds). Joints at or below the threshold
    are not drawn.
    """
    clips = [{**_packed(one.pose, threshold), "first": one.first, "total": one.total} for one in shown]
    data = {
        "units": _UNITS, "start": start, "view": [-skeleton.VIEW_SIDE / 2, -skeleton.VIEW_TOP, skeleton.VIEW_SIDE],
        "strokes": draw.STROKES, "clips": clips,
    }  # fmt: skip
    speeds = "".join(
        f'<option{" selected" if speed == 1 else ""} value="{speed}">{speed}×</option>' for speed in _SPEEDS
    )
    body = (
        "<h1>Poses</h1>\n"
        '<div class="card controls"><button id="play">Play</button>'
        '<button id="back" title="a frame back (←)">◀|</button><button id="next" title="a frame on (→)">|▶</button>'
        '<input id="time" type="range" min="0" step="any" value="0" aria-label="time"><span id="seconds"></span>'
        f'<label>speed <select id="speed">{speeds}</select></label>'
        '<label><input id="loop" type="checkbox" checked> again</label>'
        '<label title="m"><input id="mirror" type="checkbox"> mirrored</label>'
        '<label title="w"><input id="whole" type="checkbox"> whole figure</label></div>\n'
        f'<div class="panels">{"".join(map(_panel, shown))}</div>\n'
        f"<footer>Joints with a confidence of {threshold:g} or less are not drawn. Each clip is measured by its own "
        "shoulders, so that sizes and places of two clips do not compare. Space plays, ← and → go by a frame, "
        "m mirrors. Written by signer_jax; this file holds everything it shows.</footer>"
    )
    style, script = (beside(f"view.{kind}") for kind in ("css", "js"))
    storage.write_file(path, report.page("Poses", body, style=beside("controls.css") + style, script=script, data=data))


def _panel(one: Shown) -> str:
    facts = "".join(f"<div><dt>{name}</dt><dd>{report.escape(text)}</dd></div>" for name, text in one.facts.items())
    remarks = "".join(f'<p class="note">{report.escape(remark)}</p>' for remark in one.remarks)
    label = escape_html(one_line(one.name))
    return (
        f'<figure class="panel"><figcaption>{label}</figcaption><canvas role="img" aria-label="{label}"></canvas>'
        f'<p class="counter"></p><dl class="facts">{facts}</dl>{remarks}</figure>\n'
    )


def _packed(pose: Pose, threshold: float) -> dict[str, Any]:
    drawn = pose.confidence > threshold
    joints = np.flatnonzero(drawn.any(0))
    drawn, xy = drawn[:, joints], pose.coordinates[:, joints, :2]
    values = np.clip(np.rint(xy * _UNITS), _LOWEST, _HIGHEST).astype("<i2")
    values[~drawn] = _MISSING
    return {
        "fps": pose.fps, "frames": len(pose), "joints": joints.tolist(), "box": _box(xy[drawn]),
        "values": base64.b64encode(values.tobytes()).decode("ascii"),
    }  # fmt: skip


def _box(points: np.ndarray) -> list[float]:
    """Left, top and side of the square that shows the whole figure: never less than the view."""
    half, top = skeleton.VIEW_SIDE / 2, -skeleton.VIEW_TOP
    low, high = np.array([-half, top]), np.array([half, top + skeleton.VIEW_SIDE])
    if len(points):
        edges = np.percentile(points, (_RARE, 100 - _RARE), axis=0)
        low, high = np.minimum(low, edges[0] - _MARGIN), np.maximum(high, edges[1] + _MARGIN)
    side = float((high - low).max())
    left, top = (low + high) / 2 - side / 2
    return [float(left), float(top), side]


# ---- A video and a picture -------------------------------------------------------------------------------------------


def at_time(pose: Pose, seconds: float) -> int:
    """The frame that is shown then; the last one after the end."""
    return min(int(seconds * pose.fps + 1e-6), len(pose) - 1)


def frames(shown: Sequence[Shown], side: int, threshold: float) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The clips beside each other at the highest of their frame rates; one that is over stands still."""
    fps = max(one.pose.fps for one in shown)
    seconds = max(len(one.pose) / one.pose.fps for one in shown)
    for count in range(max(1, round(seconds * fps))):
        row = [_drawn(one.pose, at_time(one.pose, count / fps), side, threshold) for one in shown]
        yield np.concatenate(row, axis=1)


def picture(shown: Sequence[Shown], side: int, threshold: float) -> bytes:
    """A PNG with a row a clip: moments at even distances over the longest."""
    seconds = max(len(one.pose) / one.pose.fps for one in shown)
    moments = (np.arange(COLUMNS) + 0.5) / COLUMNS * seconds
    rows = [
        np.concatenate([_drawn(one.pose, at_time(one.pose, float(t)), side, threshold) for t in moments], axis=1)
        for one in shown
    ]
    file = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(file, "PNG")
    return file.getvalue()


def _drawn(pose: Pose, frame: int, side: int, threshold: float) -> UInt8[np.ndarray, "h w 3"]:
    return draw.draw(pose.slice(frame, frame + 1), side, threshold=threshold)[0]
