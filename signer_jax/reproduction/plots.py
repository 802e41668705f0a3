"""Curves as a picture: one SVG by hand, and the same as PNG with Pillow. Panels stand beside each other."""

import io
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from xml.sax.saxutils import escape

from PIL import Image, ImageDraw, ImageFont

Points = Sequence[tuple[float, float]]
COLOURS = ("#1f5fa8", "#c8511b", "#2f8f4e", "#8a3fa0", "#a08a00", "#555555")
_WIDTH, _HEIGHT = 520, 356
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 50, 46
_TICKS = 5
_SCALE = 2  # pixels of the PNG a unit of the SVG


@dataclass(frozen=True)
class Curve:
    """A line, and the band of values around it (low, high at each point), if any."""

    points: Points
    band: Sequence[tuple[float, float]] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    across: str
    up: str
    curves: Mapping[str, Curve]


@dataclass(frozen=True)
class _Frame:
    """The range of a panel's values, and where they are drawn."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, point: tuple[float, float], place: int) -> tuple[float, float]:
        across, up = (
            (v - low) / (high - low) for v, (low, high) in zip(point, (self.x, self.y), strict=True)
        )  # fmt: skip
        left = place * _WIDTH + _LEFT
        return left + across * (_WIDTH - _LEFT - _RIGHT), _TOP + (1 - up) * (_HEIGHT - _TOP - _BOTTOM)


def _frame(panel: Panel) -> _Frame:
    points = [p for curve in panel.curves.values() for p in curve.points]
    edges = [v for curve in panel.curves.values() for pair in curve.band for v in pair]
    xs = [x for x, _ in points] or [0.0, 1.0]
    ys = [v for v in [*(y for _, y in points), *edges] if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(ys), max(ys)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    right = max(xs) if max(xs) > min(xs) else min(xs) + 1
    return _Frame((min(xs), right), (low - room, high + room))


def ticks(low: float, high: float) -> list[float]:
    """Round numbers within a range: 1, 2 or 5 times a power of ten apart."""
    step = 10 ** math.floor(math.log10((high - low) / _TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= _TICKS)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:.4g}"


def svg(panels: Sequence[Panel]) -> str:
    width = _WIDTH * len(panels)
    legend = max((len(panel.curves) for panel in panels), default=0) * 18
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT + legend}" width="{width}" '
        f'height="{_HEIGHT + legend}" font-family="DejaVu Sans, sans-serif" font-size="11">',
        f'<rect width="{width}" height="{_HEIGHT + legend}" fill="#ffffff"/>',
    ]
    for place, panel in enumerate(panels):
        frame = _frame(panel)
        for kind, *rest in _drawn(panel, frame, place):
            parts.append(_SVG[kind](*rest))
    return "\n".join([*parts, "</svg>"]) + "\n"


def png(panels: Sequence[Panel]) -> bytes:
    legend = max((len(panel.curves) for panel in panels), default=0) * 18
    picture = Image.new("RGB", (_WIDTH * len(panels) * _SCALE, (_HEIGHT + legend) * _SCALE), "#ffffff")
    canvas, font = ImageDraw.Draw(picture, "RGBA"), ImageFont.load_default(11 * _SCALE)
    for place, panel in enumerate(panels):
        for kind, *rest in _drawn(panel, _frame(panel), place):
            _PNG[kind](canvas, font, *rest)
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def _drawn(panel: Panel, frame: _Frame, place: int) -> list[tuple]:
    """Strokes and texts of a panel: both kinds of picture draw these."""
    left, right = place * _WIDTH + _LEFT, (place + 1) * _WIDTH - _RIGHT
    floor = _HEIGHT - _BOTTOM
    made: list[tuple] = [("text", ((left + right) / 2, 18), panel.title, "middle")]
    for y in ticks(*frame.y):
        _, down = frame.at((frame.x[0], y), place)
        made += [("line", [(left, down), (right, down)], "#dddddd", 1, False)]
        made += [("text", (left - 6, down + 4), _number(y), "end")]
    for x in ticks(*frame.x):
        across, _ = frame.at((x, frame.y[0]), place)
        made += [("line", [(across, floor), (across, floor + 4)], "#555555", 1, False)]
        made += [("text", (across, floor + 16), _number(x), "middle")]
    made += [("line", [(left, floor), (right, floor)], "#555555", 1, False)]
    made += [
        ("text", ((left + right) / 2, floor + 34), panel.across, "middle"),
        ("text", (left - 50, 38), panel.up, "start"),
    ]
    for k, (name, curve) in enumerate(panel.curves.items()):
        colour = COLOURS[k % len(COLOURS)]
        places = [frame.at(point, place) for point in curve.points]
        if curve.band:
            edges = [frame.at((x, v), place) for (x, _), (_, v) in zip(curve.points, curve.band, strict=True)]
            under = [frame.at((x, v), place) for (x, _), (v, _) in zip(curve.points, curve.band, strict=True)]
            made.append(("area", [*edges, *reversed(under)], colour))
        made.append(("line", places, colour, 2, curve.dashed))
        made += [("dot", at, colour) for at in places] if len(places) <= 12 else []
        at = _HEIGHT + 18 * k + 4
        made += [("line", [(left, at), (left + 24, at)], colour, 2, curve.dashed)]
        made += [("text", (left + 30, at + 4), name, "start")]
    return made


# ---- As SVG ----------------------------------------------------------------------------------------------------------


def _svg_line(points: Points, colour: str, width: int, dashed: bool) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="6 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>'


def _svg_area(points: Points, colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon points="{path}" fill="{colour}" fill-opacity="0.15"/>'


def _svg_dot(at: tuple[float, float], colour: str) -> str:
    return f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="3" fill="{colour}"/>'


def _svg_text(at: tuple[float, float], text: str, anchor: str) -> str:
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}" fill="#222222">{escape(text)}</text>'


# ---- As PNG ----------------------------------------------------------------------------------------------------------


def _scaled(points: Points) -> list[tuple[float, float]]:
    return [(x * _SCALE, y * _SCALE) for x, y in points]


def plain(text: str) -> str:
    """Without the marks on letters, which Pillow's own font has not."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _png_line(canvas: ImageDraw.ImageDraw, _: object, points: Points, colour: str, width: int, dashed: bool) -> None:
    at = _scaled(points)
    if not dashed:
        canvas.line(at, fill=colour, width=width * _SCALE, joint="curve")
        return
    for (x0, y0), (x1, y1) in pairwise(at):
        count = max(1, round(math.hypot(x1 - x0, y1 - y0) / (10 * _SCALE)))
        for k in range(count):
            a, b = k / count, (k + 0.6) / count
            ends = [(x0 + (x1 - x0) * s, y0 + (y1 - y0) * s) for s in (a, b)]
            canvas.line(ends, fill=colour, width=width * _SCALE)


def _png_area(canvas: ImageDraw.ImageDraw, _: object, points: Points, colour: str) -> None:
    canvas.polygon(_scaled(points), fill=f"{colour}26")


def _png_dot(canvas: ImageDraw.ImageDraw, _: object, at: tuple[float, float], colour: str) -> None:
    ((x, y),), r = _scaled([at]), 3 * _SCALE
    canvas.ellipse([x - r, y - r, x + r, y + r], fill=colour)


def _png_text(
    canvas: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, at: tuple[float, float], text: str, anchor: str
) -> None:  # fmt: skip
    ((x, y),) = _scaled([at])
    canvas.text(
        (x, y), plain(text), fill="#222222", font=font, anchor={"start": "ls", "middle": "ms", "end": "rs"}[anchor]
    )


_SVG: dict[str, Any] = {"line": _svg_line, "area": _svg_area, "dot": _svg_dot, "text": _svg_text}
_PNG: dict[str, Any] = {"line": _png_line, "area": _png_area, "dot": _png_dot, "text": _png_text}
