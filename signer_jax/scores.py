"""How good a stage's parameters are, while it trains: by that it chooses what it gives (`training.selection`)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from signer_jax import mirror
from signer_jax.distributed import first_tells
from signer_jax.errors import SignerError
from signer_jax.evaluation.glosses import gloss_baselines, scored_samples
from signer_jax.metrics import text as text_metrics
from signer_jax.model import Model
from signer_jax.opened import along
from signer_jax.pipeline import Signer
from signer_jax.settings import Settings
from signer_jax.stations.understand import SEARCHES, understand_rows
from signer_jax.training.checkpoints import read_looked
from signer_jax.training.partitioning import here, on_mesh_of
from signer_jax.training.run import mesh_of
from signer_jax.training.selection import SELECTED_ON, Score


def gloss_score(settings: Settings, workdir: Path, model: Model) -> Score:
    """BLEU-4 of what SLUL says of dev's texts, of several languages the mean of each one's, without a beam: what a run
    may search by from start to start decides nothing. All processes call it; the first one reads the texts, on its own
    devices, and tells the others the score.

    Raises `SignerError` where dev has no texts.
    """
    mesh, axis, most = mesh_of(settings), along(settings), settings.train.slul.select_sentences
    signer = Signer(settings, workdir, replace(model, slp_moe=None, renderer=None), {"slul": None})
    there = signer.corpus.count(SELECTED_ON, "text")
    samples = scored_samples(signer.corpus, SELECTED_ON, most) if there else []
    if not samples:
        raise SignerError(
            f"config.train.slul.select_by {settings.train.slul.select_by!r}: scores texts of {SELECTED_ON}, and this "
            "corpus has none there; set config.train.slul.select_by=last, or config.train.slul.select_every=0"
        )
    texts, languages = [sample.text for sample in samples], [sample.language for sample in samples]
    truth = [" ".join(sample.glosses) for sample in samples]
    linker = replace(signer.linker, search=SEARCHES["shared"], beams=1)  # one beam is greedy

    rows_of = {
        language: [i for i, one in enumerate(languages) if one == language] for language in sorted(set(languages))
    }

    def bleu4(guesses: list[str]) -> float:
        each = [text_metrics.bleu([guesses[i] for i in rows], [truth[i] for i in rows]) for rows in rows_of.values()]
        return float(np.mean([one["bleu4"] for one in each]))

    def measured(params: dict[str, Any]) -> float:
        own = here({"slul": params["slul"]}, mesh, along=axis)

        def make() -> float:
            with on_mesh_of(own):
                said = understand_rows(texts, languages, replace(linker, params=own["slul"])).glosses
            return bleu4([" ".join(glosses) for glosses in said])

        return float(first_tells("score", make))

    signature = text_metrics.bleu(truth, truth)["signature"]
    floor = bleu4(gloss_baselines([], samples)["copy"])
    mean = f", the mean of {', '.join(rows_of)}" if len(rows_of) > 1 else ""
    what = f"BLEU-4 of {len(samples)} texts of {SELECTED_ON}{mean}, greedy"
    by = f"{what} (the texts themselves: {floor:.2f}; {signature})"
    return Score(measured, by, f"{SELECTED_ON}_bleu4", floor)


def chosen(settings: Settings, workdir: Path) -> dict[str, Any]:
    """What `result.json` says of the stages of a trained run that chose what they give: all their looks, and the steps
    that were given.
    """
    if "slul" not in settings.stages or not settings.train.slul.select_every:
        return {}
    return {"selected": {"slul": read_looked(mirror.checkpoints(workdir) / "slul")}}
