"""One table or figure after the other: what its rows lack is trained and scored, and it is written."""

import re
from collections.abc import Sequence
from pathlib import Path

from signer_jax.reproduction import claims, figures, paper, texts, videos, written
from signer_jax.reproduction.claims import Verdict
from signer_jax.reproduction.paper import EXPERT_TABLE, EXPERTS, FIGURES, TABLES, Table
from signer_jax.reproduction.runs import Workshop, fingerprint, say
from signer_jax.reproduction.scored import Scored, read, write

NEEDS = {
    **dict.fromkeys(("table1", "table2", "table3", "table4", EXPERT_TABLE, "figure4"), ("slul", "pose")),
    **dict.fromkeys(("table5", "table6", "figure5", "figure6"), ("slul", "pose", "vae", "renderer")),
}  # fmt: skip
_OF_VIDEOS = ("table5", "table6", "figure5")


def make(shop: Workshop, name: str) -> tuple[list[Path], list[Verdict]]:
    """Makes a table or figure; the files, and what became of the paper's claims.

    Raises `SignerError` where the config or the corpus has not what it is about, and as training does.
    """
    check(shop, name)
    if name in FIGURES:
        return figures.write(shop, name), []
    table = table_of(name)
    scored = {row: scores(shop, row) for row in table.ours}
    found = written.write(shop.folder, name, table, scored, facts(shop, name))
    return [shop.folder / f"{name}.{ending}" for ending in written.ENDINGS], found


def check(shop: Workshop, name: str) -> None:
    """Raises `SignerError` where the config or the corpus has not what a table or figure is about."""
    shop.check(NEEDS[name], name)
    if name in _OF_VIDEOS:
        videos.check(shop, name)


def table_of(name: str) -> Table:
    return EXPERTS if name == EXPERT_TABLE else TABLES[name]


def scores(shop: Workshop, row: str) -> list[Scored]:
    """What a row scored, of each seed, or once where nothing in it is drawn; from its file where it is there."""
    if row in texts.ALONE:
        return [_kept(shop, row, None)]
    return [_kept(shop, row, seed) for seed in shop.seeds]


def _kept(shop: Workshop, row: str, seed: int | None) -> Scored:
    of = fingerprint(shop.settings, f"{row}\n{seed}")
    file = score_file(shop, row, seed)
    if (found := read(file, of)) is not None:
        return found
    say(f"scoring “{row}”{'' if seed is None else f', seed {seed}'}")
    if seed is None:
        made = {row: texts.ALONE[row](shop)}
    elif row in texts.SEEDED:
        made = {row: texts.SEEDED[row](shop, seed)}
    else:
        made = videos.TOGETHER[row](shop, seed)
    for name, one in made.items():
        write(score_file(shop, name, seed), one, fingerprint(shop.settings, f"{name}\n{seed}"))
    return made[row]


def score_file(shop: Workshop, row: str, seed: int | None) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", row.lower()).strip("-")
    return shop.folder / "scores" / f"{slug}{'' if seed is None else f'-{seed}'}.json"


def facts(shop: Workshop, name: str) -> dict[str, str]:
    """What the figures depend on."""
    corpus, c = shop.corpus().about["corpus"], shop.settings
    steps = ", ".join(f"{stage} {c.stage(stage).steps}" for stage in c.stages)
    said = {
        "corpus": f"{corpus}; the paper's figures are of How2Sign, and of other models: compare rows, not heights",
        "seeds": f"{', '.join(map(str, shop.seeds))}; ± is the standard deviation over them",
        "steps": steps,
        "intervals": "95 %, paired bootstrap over sentences or clips, mean over seeds; a claim holds where all seeds "
        "and the interval say so",
        "paper": paper.SOURCE,
    }
    if name in ("table1", "table2", "table3"):
        said["read by"] = (
            f"one sign-to-text model for all rows, {c.stage('back_translation').steps} steps on true poses of training"
        )
    return said


def summary(made: Sequence[tuple[str, Sequence[Verdict]]]) -> str:
    """The claims of all tables, in Markdown."""
    lines = ["# What of the paper holds here", ""]
    for name, found in made:
        if found:
            lines += [f"## {name}: {table_of(name).title}", "", claims.summary(found), ""]
            lines += [*(f"- {one.text}" for one in found), ""]
    return "\n".join(lines)
