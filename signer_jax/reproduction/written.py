"""A table as Markdown, CSV, LaTeX and HTML: the paper's rows and ours side by side, and what became of its claims."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from signer_jax import outside, report, storage
from signer_jax.reproduction import claims, paper
from signer_jax.reproduction.claims import digits
from signer_jax.reproduction.paper import TITLES, Table
from signer_jax.reproduction.scored import Mean, Scored, over_seeds

_CLAIMS, _FACTS = "## The paper's claims here", "## What the figures depend on"
ENDINGS = ("md", "csv", "tex", "html")
_TEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}",
       "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "–": "--", "“": "``", "”": "''"}
)  # fmt: skip


def write(
    folder: Path, name: str, table: Table, scored: Mapping[str, Sequence[Scored]], facts: Mapping[str, str]
) -> list[claims.Verdict]:  # fmt: skip
    """Writes `NAME.md`, `.csv`, `.tex` and `.html`; returns what became of the claims. `facts`: what the figures depend
    on, a line each.
    """
    found = claims.verdicts(table, scored)
    lines = [claims.summary(found), *(one.text for one in found)] if found else []
    made = {
        "md": markdown(name, table, scored, lines, facts), "csv": comma_separated(table, scored, noted(table, facts)),
        "tex": latex(name, table, scored, lines, noted(table, facts)),
    }  # fmt: skip
    for ending, text in made.items():
        storage.write_file(folder / f"{name}.{ending}", text)
    header = ("", "of", *(heading(figure) for figure in columns(table)))
    notes = "\n".join(line for line in (table.note, *lines) if line)
    report.write(
        folder / f"{name}.html", title=f"{name}: {table.title}",
        tables=[("The paper's rows and ours", header, list(cells(table, scored)), notes)], facts=facts,
    )  # fmt: skip
    return found


def noted(table: Table, facts: Mapping[str, str]) -> Mapping[str, str]:
    """The facts with the table's note before them, for what has no other place for it."""
    return {"note": table.note, **facts} if table.note else facts


def columns(table: Table) -> tuple[str, ...]:
    return (*table.figures, *table.extra)


def heading(figure: str) -> str:
    split, _, name = figure.partition("/")
    return f"{TITLES[name]}{' ↓' if name in paper.LOWER else ''}, {split}"


def cells(table: Table, scored: Mapping[str, Sequence[Scored]]) -> list[tuple[str, ...]]:
    """The rows as text: the paper's, then ours, "–" for what there is not."""
    rows = [
        (row, "the paper", *(_theirs(figures.get(figure), figure) for figure in columns(table)))
        for row, figures in table.rows.items()
    ]
    for row in table.ours:
        each = scored.get(row, ())
        rows.append((row, "here", *(ours(over_seeds(each, figure), figure) for figure in columns(table))))
    return rows


def _theirs(figure: float | None, name: str) -> str:
    return "–" if figure is None else f"{figure:.{digits(name.partition('/')[2])}f}"


def ours(mean: Mean | None, name: str) -> str:
    """The mean ± the standard deviation over seeds."""
    if mean is None:
        return "–"
    places = digits(name.partition("/")[2])
    return f"{mean.mean:.{places}f}" + (f" ± {mean.deviation:.{places}f}" if np.isfinite(mean.deviation) else "")


def markdown(
    name: str, table: Table, scored: Mapping[str, Sequence[Scored]], lines: Sequence[str], facts: Mapping[str, str]
) -> str:  # fmt: skip
    header = ["", "of", *(heading(figure) for figure in columns(table))]
    rows = [header, ["---"] * 2 + ["---:"] * (len(header) - 2), *cells(table, scored)]
    text = f"# {name}: {table.title}\n\n"
    text += "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    text += f"\n\n{table.note}\n" if table.note else "\n"
    if lines:
        text += "\n".join(["", _CLAIMS, "", lines[0], "", *(f"- {line}" for line in lines[1:])]) + "\n"
    return text + f"\n{_FACTS}\n" + "".join(f"\n{key}: {said}\n" for key, said in facts.items())


def claims_in(folder: Path, name: str) -> str:
    """What a table's Markdown says of the claims; nothing where it is not there."""
    file = folder / f"{name}.md"
    if not file.exists():
        return ""
    text = outside.plain_file(file, "remove it").read_text(encoding="utf-8", errors="replace")
    return text.partition(f"\n{_CLAIMS}\n")[2].partition(f"\n{_FACTS}\n")[0].strip()


def comma_separated(table: Table, scored: Mapping[str, Sequence[Scored]], facts: Mapping[str, str]) -> str:
    """A line a row, figure and side: mean, standard deviation, number of seeds, each seed's. Then the facts, whose `of`
    is "fact": their name as the row, what they say in a column of its own.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("of", "row", "figure", "value", "deviation", "seeds", "each", "said"))
    for row, figures in table.rows.items():
        for figure in columns(table):
            if (known := figures.get(figure)) is not None:
                writer.writerow(("paper", row, figure, known, "", "", "", ""))
    for row in table.ours:
        for figure in columns(table):
            if (mean := over_seeds(scored.get(row, ()), figure)) is not None:
                deviation = mean.deviation if np.isfinite(mean.deviation) else ""
                each = " ".join(repr(v) for v in mean.each)
                writer.writerow(("here", row, figure, mean.mean, deviation, len(mean.each), each, ""))
    for name, said in facts.items():
        writer.writerow(("fact", name, "", "", "", "", "", said))
    return out.getvalue()


def latex(
    name: str, table: Table, scored: Mapping[str, Sequence[Scored]], lines: Sequence[str], facts: Mapping[str, str]
) -> str:
    """A `tabular` and what the figures depend on beneath it, behind the claims as comments; needs `booktabs`."""
    shown = columns(table)
    body, before = [], ""
    for row in cells(table, scored):
        if before and row[1] != before:
            body.append(r"\midrule")
        before = row[1]
        body.append(" & ".join(cell.translate(_TEX) for cell in (row[0], *row[2:])) + r" \\")
    head = " & ".join(["", *(heading(figure).replace("↓", "down").translate(_TEX) for figure in shown)])
    comments = "".join(f"% {line}\n" for line in lines)
    return (
        f"{comments}\\begin{{table}}\n\\caption{{{table.title.translate(_TEX)}. Above the paper's ({paper.SOURCE}), "
        f"below ours, mean $\\pm$ standard deviation over seeds.}}\n\\label{{tab:{name}}}\n"
        f"\\begin{{tabular}}{{l{'r' * len(shown)}}}\n\\toprule\n{head} \\\\\n\\midrule\n"
        + "\n".join(body)
        + "\n\\bottomrule\n\\end{tabular}\n\n{\\footnotesize "
        + r" \\ ".join(f"{key}: {said}".translate(_TEX) for key, said in facts.items())
        + "}\n\\end{table}\n"
    )
