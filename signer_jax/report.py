"""One self-contained page with the results of a run: tables, curves, pictures and videos in one HTML file.

Nothing is loaded from outside and nothing is executed (the page's content security policy forbids both): styles are
inline, curves are SVG, media are data URLs. It follows the reader's light or dark setting. Every text is escaped.
`page` is the frame of the other pages too (`viewing/`), which may have one script of ours.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from html import escape as escape_html
from numbers import Integral, Real
from pathlib import Path

from signer_jax import storage
from signer_jax.errors import SignerError, one_line

Table = tuple[str, Sequence[str], Sequence[Sequence[object]], str]
Curves = tuple[str, Mapping[str, Sequence[tuple[float, float]]]]
Media = tuple[str, bytes]
Bars = tuple[str, Sequence[str], Mapping[str, Sequence[float]]]

# The first bytes of what browsers show: (offset, magic, MIME type).
_MAGIC = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF8", "image/gif"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (8, b"WEBP", "image/webp"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
)

_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1b1f27; --soft: #5b6472; --line: #e1e5eb;
  --band: #f3f5f8; --accent: #2f6fde; --s0: #2f6fde; --s1: #d9622b; --s2: #178a5c; --s3: #a23fb8; --s4: #b58a00;
  --s5: #0d8fa6; --s6: #d13a63; --s7: #6b7280; }
@media (prefers-color-scheme: dark) { :root { --page: #12151a; --card: #1a1f27; --ink: #e7eaf0; --soft: #9aa4b3;
  --line: #2c333e; --band: #20262f; --accent: #77a6ff; --s0: #77a6ff; --s1: #ff9a66; --s2: #56cf9c; --s3: #d58be6;
  --s4: #e8c14b; --s5: #5ccfe6; --s6: #ff86a4; --s7: #a7b0be; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1.25rem; letter-spacing: -0.01em; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 0.9rem; }
.card, figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin: 0 0 1.25rem; }
figure { padding: 1rem 1.1rem; min-width: 0; }
figcaption, caption { font-weight: 600; text-align: left; }
figcaption { margin-bottom: 0.7rem; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); overflow: hidden; }
.facts div { padding: 0.6rem 1rem; box-shadow: 1px 1px 0 var(--line); }
dl { margin: 0; } dt { color: var(--soft); font-size: 0.82rem; } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 0.42rem 0.8rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; font-size: 0.86rem; border-bottom-width: 2px; white-space: nowrap; }
tbody tr:nth-child(even) { background: var(--band); } tbody tr:last-child td { border-bottom: 0; }
.number { text-align: right; white-space: nowrap; }
.note { color: var(--soft); font-size: 0.88rem; margin: 0.7rem 0 0; overflow-wrap: anywhere; white-space: pre-line; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1.25rem; }
.media { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: 1.25rem;
  align-items: start; }
.films { display: grid; gap: 1.25rem; }
.curves figure, .media figure, .films figure { margin: 0; }
img, video { display: block; width: 100%; max-height: 34rem; object-fit: contain; border-radius: 6px;
  background: var(--band); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; font-family: inherit; }
.grid { stroke: var(--line); stroke-width: 1; } .axis { stroke: var(--soft); stroke-width: 1; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1.1rem; margin: 0.5rem 0 0; padding: 0; list-style: none;
  font-size: 0.88rem; }
.legend li { display: flex; align-items: center; gap: 0.45rem; overflow-wrap: anywhere; }
.legend i { width: 1.1rem; height: 3px; border-radius: 2px; flex: none; }
.legend b { font-weight: 600; font-variant-numeric: tabular-nums; }
.bars { display: grid; grid-template-columns: minmax(3rem, max-content) 1fr; gap: 0.35rem 0.8rem; align-items: center;
  font-size: 0.88rem; font-variant-numeric: tabular-nums; }
.bars > span { color: var(--soft); text-align: right; overflow-wrap: anywhere; max-width: 12rem; }
.bars div div { display: flex; align-items: center; gap: 0.5rem; line-height: 1.25; }
.bars i { height: 0.6rem; border-radius: 2px; flex: none; min-width: 1px; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); gap: 1.25rem;
  align-items: start; }
.samples figure { margin: 0; } .samples figcaption { font-weight: 400; white-space: pre-line; }
footer { color: var(--soft); font-size: 0.85rem; margin-top: 2.5rem; }
@media print { body { background: #fff; } .card, figure { break-inside: avoid; } }
"""

_COLOURS = 8
_MOST_POINTS = 600  # of one curve: more cannot be told apart at this width
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 300, 58, 24, 10, 28


def write(
    path: str | Path,
    *,
    title: str,
    tables: Sequence[Table] = (),
    curves: Sequence[Curves] = (),
    pictures: Sequence[Media] = (),
    videos: Sequence[Media] = (),
    facts: Mapping[str, object] | None = None,
    bars: Sequence[Bars] = (),
    samples: Sequence[Media] = (),
    heading: str = "Results",
) -> None:
    """Writes the report to `path`, whole or not at all.

    `tables` are (caption, header, rows, note): floats from 1 on are shown with two decimals, smaller ones with three,
    None and NaN as a dash. `curves` are (caption, {series: [(step, value), …]}); values that are not finite break the
    line. `pictures` are (caption, PNG, GIF, JPEG or WebP bytes), `videos` (caption, MP4 or WebM bytes, or an animated
    picture). `facts` are shown at the top, in their order. `bars` are histograms: (caption, bins, {series: [a
    count a bin]}), each series by its shares; `samples` are as `videos`, two beside each other; `heading`
    stands above the tables. Raises `SignerError`
    for media of another kind and for a row that does not fit its header.
    """
    parts = [f"<h1>{escape(title)}</h1>", _facts(facts or {})]
    if videos:
        parts += ["<h2>Videos</h2>", '<div class="films">', *(_media(*video) for video in videos), "</div>"]
    if samples:
        parts += ["<h2>Samples</h2>", '<div class="samples">', *(_media(*sample) for sample in samples), "</div>"]
    if bars:
        parts += ["<h2>Histograms</h2>", '<div class="curves">', *(_bars(*each) for each in bars), "</div>"]
    if tables:
        parts += [f"<h2>{escape(heading)}</h2>", *(_table(*table) for table in tables)]
    if curves:
        parts += ["<h2>Training</h2>", '<div class="curves">', *(_curves(*curve) for curve in curves), "</div>"]
    if pictures:
        parts += ["<h2>Pictures</h2>", '<div class="media">', *(_media(*picture) for picture in pictures), "</div>"]
    body = "\n".join(part for part in parts if part)
    footer = "<footer>Written by signer_jax. This file holds everything it shows.</footer>"
    storage.write_file(path, page(title, f"{body}\n{footer}"))


def page(title: str, body: str, *, style: str = "", script: str = "", data: object = None, media: str = "data:") -> str:
    """An HTML page around a body that is HTML, with `style` behind the report's own.

    The content security policy lets `script` run, known by its hash, and no other: not even one that a name brings into
    the page. `data` is what it reads, JSON in the element "data"; `media` says where videos may come from.
    """
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src {media}"
    scripts = ""
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        policy += f"; script-src 'sha256-{digest}'"
        scripts = f'<script type="application/json" id="data">{_in_html(data)}</script>\n<script>{script}</script>\n'
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n<main>\n{body}\n"
        f"</main>\n{scripts}</body>\n</html>\n"
    )


def _in_html(data: object) -> str:
    """JSON in which nothing ends the element around it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)  # ASCII alone
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def escape(text: str) -> str:
    """As HTML; what would turn or end a line by itself is shown by its number."""
    return escape_html("\n".join(map(one_line, text.split("\n"))))


def _facts(facts: Mapping[str, object]) -> str:
    if not facts:
        return ""
    shown = [(escape(str(name)), escape(_text(_scalar(value)))) for name, value in facts.items()]
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in shown)
    return f'<dl class="card facts">{rows}</dl>'


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _text(value: object) -> str:
    """A value as the reader wants it: 0.1234 -> 0.123, 12.345 -> 12.35, 3 -> 3, NaN and None -> a dash."""
    if value is None:
        return "–"
    if not isinstance(value, Real) or isinstance(value, Integral):
        return str(value)
    number = float(value)
    if math.isnan(number):
        return "–"
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    if number == 0:
        return "0"
    if abs(number) >= 1e6 or abs(number) < 1e-3:
        return f"{number:.2e}".replace("-", "−")
    text = f"{number:.2f}" if abs(number) >= 1 else f"{number:.3f}"
    return text.replace("-", "−")


def _scalar(value: object) -> object:
    """Arrays of no dimension (numpy's, jax's) as the number they hold; everything else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def _table(caption: str, header: Sequence[str], rows: Sequence[Sequence[object]], note: str) -> str:
    for row in rows:
        if len(row) != len(header):
            raise SignerError(f"report: table {caption!r} has {len(header)} columns but a row of {len(row)}")
    rows = [[_scalar(value) for value in row] for row in rows]
    # A column is numeric where it holds numbers and nothing else (dashes aside).
    columns = [[row[i] for row in rows if row[i] is not None] for i in range(len(header))]
    numeric = [bool(column) and all(map(_is_number, column)) for column in columns]
    kind = [' class="number"' if number else "" for number in numeric]
    head = "".join(f'<th scope="col"{k}>{escape(str(name))}</th>' for k, name in zip(kind, header, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{k}>{escape(_text(v))}</td>" for k, v in zip(kind, row, strict=True)) + "</tr>\n"
        for row in rows
    )
    remark = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption><div class="scroll"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>{remark}</figure>"
    )


def _media(caption: str, data: bytes) -> str:
    kind = next((mime for offset, magic, mime in _MAGIC if data[offset : offset + len(magic)] == magic), None)
    if kind is None:
        raise SignerError(f"report: {caption!r} is no PNG, GIF, JPEG, WebP, MP4 or WebM; encode it as one of these")
    source = f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
    if kind.startswith("video/"):
        show = f'<video src="{source}" controls loop muted autoplay playsinline></video>'
    else:
        show = f'<img src="{source}" alt="{escape(caption)}">'
    return f"<figure><figcaption>{escape(caption)}</figcaption>{show}</figure>"


def _bars(caption: str, bins: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    totals = {name: sum(counts) or 1 for name, counts in series.items()}
    most = max((count / totals[name] for name, counts in series.items() for count in counts), default=0) or 1
    rows = []
    for at, label in enumerate(bins):
        shown = "".join(
            f'<div><i style="background:var(--s{i % _COLOURS});width:{75 * counts[at] / totals[name] / most:.1f}%'
            f'{"" if counts[at] else ";min-width:0"}"></i>'
            f"{escape(_text(counts[at]))}</div>"
            for i, (name, counts) in enumerate(series.items())
        )
        rows.append(f"<span>{escape(label)}</span><div>{shown}</div>")
    legend = "".join(
        f'<li><i style="background:var(--s{i % _COLOURS})"></i>{escape(name)}</li>' for i, name in enumerate(series)
    )
    key = f'<ul class="legend">{legend}</ul>' if len(series) > 1 else ""
    return f'<figure><figcaption>{escape(caption)}</figcaption><div class="bars">{"".join(rows)}</div>{key}</figure>'


def _ticks(low: float, high: float, count: int, least: float = 0.0) -> tuple[list[float], float]:
    """Round numbers from `low` to `high` and their distance: 1, 2 or 5 times a power of ten, at least `least`."""
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= count)
    step = max(step, least)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)], step


def _tick_text(value: float, step: float) -> str:
    if abs(value) < step / 2:
        return "0"
    if step < 1e-3 or abs(value) >= 1e6:
        text = f"{value:.3g}"
    elif step >= 1:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.{-math.floor(math.log10(step) + 1e-9)}f}"
    return text.replace("-", "−")


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about `_MOST_POINTS` points: of each stretch its lowest and its highest, so that no spike is lost."""
    if len(points) <= _MOST_POINTS:
        return points
    size = math.ceil(2 * len(points) / _MOST_POINTS)
    kept: list[tuple[float, float]] = [points[0]]
    for start in range(1, len(points) - 1, size):
        stretch = points[start : min(start + size, len(points) - 1)]
        ends = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
        kept += sorted(ends)
    return [*kept, points[-1]]


def _lines(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The stretches of finite points, in the order given."""
    lines: list[list[tuple[float, float]]] = [[]]
    for step, value in points:
        if math.isfinite(step) and math.isfinite(value):
            lines[-1].append((float(step), float(value)))
        elif lines[-1]:
            lines.append([])
    return [line for line in lines if line]


def _range(low: float, high: float) -> tuple[float, float]:
    """What the vertical axis shows: the values with a little room, and zero where they come near it."""
    if low == high:
        low, high = low - (abs(low) / 10 or 1), high + (abs(high) / 10 or 1)
    room = (high - low) * 0.04
    return 0.0 if 0 <= low < 0.3 * high else low - room, high + room


def _curves(caption: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    drawn = {name: _lines(points) for name, points in series.items()}
    points = [point for lines in drawn.values() for line in lines for point in line]
    title = f"<figcaption>{escape(caption)}</figcaption>"
    if not points:
        return f'<figure>{title}<p class="note">No values.</p></figure>'
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_low, x_high = (min(xs), max(xs)) if max(xs) > min(xs) else (xs[0] - 1, xs[0] + 1)
    y_low, y_high = _range(min(ys), max(ys))
    x_ticks, x_step = _ticks(x_low, x_high, 6, least=float(all(x.is_integer() for x in xs)))
    y_ticks, y_step = _ticks(y_low, y_high, 6)

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)
        return across, _TOP + (y_high - y) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)

    picture = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(caption)}">']
    for y in y_ticks:
        _, down = place(x_low, y)
        picture.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{down:.1f}" y2="{down:.1f}"/>')
        text = _tick_text(y, y_step)
        picture.append(f'<text x="{_LEFT - 8}" y="{down + 4:.1f}" text-anchor="end">{text}</text>')
    floor = _HEIGHT - _BOTTOM
    picture.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{floor}" y2="{floor}"/>')
    for x in x_ticks:
        across, _ = place(x, y_low)
        picture.append(f'<line class="axis" x1="{across:.1f}" x2="{across:.1f}" y1="{floor}" y2="{floor + 4}"/>')
        text = _tick_text(x, x_step)
        picture.append(f'<text x="{across:.1f}" y="{floor + 18}" text-anchor="middle">{text}</text>')
    legend = []
    for i, (name, lines) in enumerate(drawn.items()):
        colour = f"var(--s{i % _COLOURS})"
        # Past the last colour the series repeat them, dashed.
        dashes = ' stroke-dasharray="6 5"' if i >= _COLOURS else ""
        label = f"<title>{escape(name)}</title>"
        for line in lines:
            if len(line) == 1:
                across, down = place(*line[0])
                picture.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{colour}">{label}</circle>')
                continue
            path = "L".join(f"{a:.1f},{d:.1f}" for a, d in (place(*point) for point in _thin(line)))
            picture.append(f'<path class="curve" stroke="{colour}"{dashes} d="M{path}">{label}</path>')
        last = _text(lines[-1][-1][1]) if lines else "–"
        legend.append(f'<li><i style="background:{colour}"></i>{escape(name)} <b>{last}</b></li>')
    return f'<figure>{title}{"".join(picture)}</svg><ul class="legend">{"".join(legend)}</ul></figure>'
