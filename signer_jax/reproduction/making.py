"""One table or figure after the other: what its rows lack is trained and scored, and it is written."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from signer_jax.configuration import shipped
from signer_jax.errors import SignerError
from signer_jax.evaluation.back_translation import TREATED
from signer_jax.metrics.text import bleu, signatures
from signer_jax.reproduction import depends, figures, paper, rows, texts, videos, written
from signer_jax.reproduction.claims import Verdict
from signer_jax.reproduction.paper import CURVES, EXPERT_TABLE, EXPERTS, FIGURES, JUDGED, LOSS_TABLE, TABLES
from signer_jax.reproduction.runs import (
    BASE,
    JOINT,
    MOE,
    PLAIN,
    PROGRESSIVE,
    READER,
    SAGM,
    SLUL,
    STAGES,
    WITHOUT,
    Workshop,
    fingerprint,
    say,
)  # fmt: skip
from signer_jax.reproduction.scored import FEW, Scored, read, write
from signer_jax.settings import Loss
from signer_jax.training.selection import SELECTED_ON

NEEDS = {
    **dict.fromkeys(("table4", LOSS_TABLE), ("slul",)),
    **dict.fromkeys(("table1", "table2", "table3", EXPERT_TABLE, "figure4"), ("slul", "pose")),
    **dict.fromkeys(("table5", "table6", "figure5", "figure6"), ("slul", "pose", "vae", "renderer", "joint")),
}  # fmt: skip
SCORER = 3  # counted up where a row is made, read or summed in another way
# The runs that a row of ours is made by, and the rows that the sign-to-text model reads.
RUNS = {
    rows.PROGRESSIVE: (PROGRESSIVE,), rows.MOE: (MOE,),
    rows.BASE: (BASE,), rows.SLUL: (SLUL,), rows.SAGM: (SAGM,), **dict.fromkeys(EXPERTS.ours, (MOE,)),
    **{row: (variant,) for row, variant in texts.UNDERSTOOD.items()},
    **dict.fromkeys((*TABLES["table5"].ours, *TABLES["table6"].ours), (JOINT,)),
    **dict.fromkeys((rows.PLAIN, rows.PLAIN_TEXT), (PLAIN, SAGM)),
}  # fmt: skip
_READ_BACK = ("table1", "table2", "table3")
READ = frozenset(row for name in _READ_BACK for row in TABLES[name].ours)
# Rows of copies: the reader learned these very recordings, of the training split.
COPIES = (rows.DICTIONARY, rows.RETRIEVAL, rows.BASE, rows.SLUL, rows.SAGM, rows.MOE)
_OF_VIDEOS = ("table5", "table6", "figure5")


def make(shop: Workshop, name: str) -> tuple[list[Path], list[Verdict]]:
    """Makes a table or figure; the files, and what became of the paper's claims.

    Raises `SignerError` where the config or the corpus has not what it is about, and as training does.
    """
    check(shop, name)
    table = JUDGED.get(name)
    if name in FIGURES:
        files = figures.write(shop, name)
        if table is None:
            return files, []
        found = written.write(shop.folder, name, table, figures.ends(shop, name), facts(shop, name))
        return [*files, *(shop.folder / f"{name}.{ending}" for ending in written.ENDINGS)], found
    assert table is not None
    scored = {row: scores(shop, row) for row in table.ours}
    found = written.write(shop.folder, name, table, scored, facts(shop, name) | counts(scored))
    return [shop.folder / f"{name}.{ending}" for ending in written.ENDINGS], found


def check(shop: Workshop, name: str) -> None:
    """Raises `SignerError` where the config or the corpus has not what a table or figure is about."""
    shop.check(NEEDS[name], name)
    _check_losses(shop, name)
    if name == LOSS_TABLE and not shop.settings.evaluate.noise:
        raise SignerError(
            f"{name}: reads noisy texts too, and config.evaluate.noise is 0; give the share of the words that are "
            "dropped, swapped or misspelt (--config.evaluate.noise=0.2)"
        )
    if name == LOSS_TABLE and not shop.corpus().count(SELECTED_ON, "text"):
        raise SignerError(f"{name}: scores texts of {SELECTED_ON}, and this corpus has none there; name another table")
    if name in _OF_VIDEOS:
        videos.check(shop, name)


def _check_losses(shop: Workshop, name: str) -> None:
    """Raises `SignerError` where rows of texts would be one, since losses that they differ by weigh nothing."""
    table = JUDGED.get(name)
    of: dict[Loss, str] = {}
    lacking: dict[str, float] = {}
    for row in () if table is None else table.ours:
        for variant in (one for one in RUNS.get(row, ()) if STAGES.get(one) == ("slul",)):
            other = of.setdefault(shop.losses_of(variant), variant)
            apart = set(WITHOUT.get(variant, ())) ^ set(WITHOUT.get(other, ()))
            lacking |= {loss: shipped("default").loss[loss] for loss in ("sagm", "kl", "contrastive") if loss in apart}
    if lacking:
        raise SignerError(
            f"{name}: some of its rows would be trained alike, since they differ by losses that weigh nothing; give "
            f"weights ({' '.join(f'--config.loss.{loss}={weight:g}' for loss, weight in lacking.items())}), or name "
            "another table"
        )


def scores(shop: Workshop, row: str) -> list[Scored]:
    """What a row scored, of each seed, or once where nothing in it is drawn; from its file where it is there."""
    if row in texts.ALONE:
        return [_kept(shop, row, None)]
    return [_kept(shop, row, seed) for seed in shop.seeds]


def _kept(shop: Workshop, row: str, seed: int | None) -> Scored:
    of = scored_of(shop, row, seed)
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
        write(score_file(shop, name, seed), one, scored_of(shop, name, seed))
    return made[row]


def scored_of(shop: Workshop, row: str, seed: int | None) -> str:
    """A hash of the config, the corpus, what scores, and the parameters of all that a row is made and read by."""
    runs_of = () if seed is None else RUNS[row]
    made_by = [f"{variant} {shop.parameters(variant, seed)}" for variant in runs_of if seed is not None]
    if row in READ:
        made_by.append(f"reader {shop.parameters(READER, 0)}")
    return fingerprint(shop.settings, "\n".join([row, str(seed), str(SCORER), shop.corpus_digest(), *made_by]))


def score_file(shop: Workshop, row: str, seed: int | None) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", row.lower().replace("+", "with ")).strip("-")  # "+ SLUL" is not "SLUL"
    return shop.folder / "scores" / f"{slug}{'' if seed is None else f'-{seed}'}.json"


def facts(shop: Workshop, name: str) -> dict[str, str]:
    """What the figures depend on."""
    corpus, c = shop.corpus().about["corpus"], shop.settings
    table = JUDGED[name]
    stages = [stage for stage in c.stages if stage in NEEDS[name]]
    stages += ["progressive"] * (rows.PROGRESSIVE in table.ours) + ["back_translation"] * (name in _READ_BACK)
    steps = ", ".join(f"{stage} {c.stage(stage).steps}" for stage in stages)
    said = {
        "corpus": f"{corpus}; the paper's figures are of How2Sign, and of other models: compare rows, not heights",
        "seeds": f"{', '.join(map(str, shop.seeds))}; ± is the standard deviation over them",
        "steps": steps,
        "intervals": "95 %, mean over seeds, sentences or clips drawn: paired bootstrap, of fewer than "
        f"{FEW} Student's t of the jackknife; a claim holds where all seeds and the interval say so",
        "paper": paper.SOURCE,
    }
    said |= depends.signatures(written.columns(table), c, whole=name in CURVES)
    read_back = name in _READ_BACK
    if name == LOSS_TABLE:
        said["dropped, swapped, misspelt"] = (
            f"config.evaluate.noise {c.evaluate.noise:g} of the words of each of dev's texts, misspelt of those of "
            "three letters and more"
        )
        weights = {loss: getattr(c.loss, loss) for loss in ("sagm", "kl", "contrastive")}
        said["weights of the losses"] = ", ".join(f"{loss} {weight:g}" for loss, weight in weights.items())
    if name in ("table4", LOSS_TABLE) and c.train.slul.select_every and c.train.slul.select_by != "last":
        said["chosen"] = (
            f"each run's parameters, by {c.train.slul.select_sentences} texts of dev at the most; {texts.HELD_OUT} are "
            "the texts of dev that chose nothing and that training has not"
        )
    if read_back or name in ("table4", LOSS_TABLE):
        treated = f"|{TREATED}" if read_back else ""
        said["texts"] = f"BLEU {bleu([''], [''])['signature']}{treated}; ROUGE-L {signatures()['rouge']}{treated}"
    if read_back:
        said["read by"] = f"one model for all rows: {texts.read_by(shop)}"
        said["copies of recordings that it learned"] = ", ".join(row for row in table.ours if row in COPIES)
    return said


def counts(scored: Mapping[str, Sequence[Scored]]) -> dict[str, str]:
    """What each row was scored on, of each seed, and what could not be made of it."""
    said = {}
    for row, each in scored.items():
        notes = ["; ".join(f"{split} {note}" for split, note in one.notes.items()) for one in each]
        lines = [f"seed {k}: {note}" if len(each) > 1 else note for k, note in enumerate(notes) if note]
        if lines:
            said[f"scored of “{row}”"] = " / ".join(lines)
    return said


def summary(shop: Workshop) -> str:
    """The claims of all tables and curves that are in the folder, in Markdown."""
    lines = ["# What of the paper holds here", ""]
    for name, table in JUDGED.items():
        if said := written.claims_in(shop.folder, name):
            lines += [f"## {name}: {table.title}", "", *([table.note, ""] if table.note else []), said, ""]
    return "\n".join(lines)
