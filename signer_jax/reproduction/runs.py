"""The runs behind the tables: a folder a variant and seed, resumed where they are, with the stages that they share.

DIR/shared/             corpus, vocabulary and pose database: the same for all
    reader/             the sign-to-text model that reads all poses back
    runs/VARIANT-SEED/  a run (`workdir.py`); a stage that another one has trained alike is taken from there
    curves/             the DTW to the truth while a run trained
    scores/             what was scored, a file a row and seed
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from signer_jax import mirror, storage
from signer_jax import model as models
from signer_jax.back_translation import training as reading
from signer_jax.back_translation.translator import BackTranslator
from signer_jax.baselines.progressive import training as progressive
from signer_jax.data.prepare import prepare as prepare_corpus
from signer_jax.data.prepared.reading import opened
from signer_jax.data.records import Corpus
from signer_jax.errors import SignerError
from signer_jax.model import Model
from signer_jax.pipeline import Signer
from signer_jax.result import params_sha256
from signer_jax.scores import gloss_score
from signer_jax.settings import Loss, Settings
from signer_jax.training import input_pipeline, run
from signer_jax.training.checkpoints import read_params
from signer_jax.training.monitoring import Monitor
from signer_jax.training.preemption import Notice
from signer_jax.training.there import latest_step

BASE, SLUL, SAGM, MOE, PLAIN, JOINT = "base", "slul", "sagm", "moe", "plain", "joint"
MASKED, KL = "masked", "kl"
PROGRESSIVE, READER = "progressive", "reader"
# Of a variant: its stages, as far as the config has them; the losses that it leaves out; whose stages it takes over.
_TEXT, _POSE, _VIDEO = ("slul",), ("slul", "pose"), ("vae", "images", "renderer")
STAGES = {
    **dict.fromkeys((BASE, MASKED, KL, SLUL, SAGM), _TEXT), MOE: _POSE, PLAIN: _VIDEO,
    JOINT: (*_POSE, *_VIDEO, "joint"),
}  # fmt: skip
WITHOUT = {
    BASE: ("sagm", "kl", "contrastive"), MASKED: ("kl", "contrastive"), KL: ("sagm", "contrastive"),
    SLUL: ("sagm", "kl"),
}  # fmt: skip
TAKES = {MOE: {"slul": SAGM}, JOINT: {"slul": MOE, "pose": MOE, "vae": PLAIN}}
POINTS = 4  # of a curve, evenly over a stage: the paper's quarters
_LOOKS = 4  # for each point, so that one which a stop left out is made soon after it
SHARED = ("data", "prior", "tokenizer.model")
Watch = Callable[[str, int, str, Model, int, dict[str, Any]], None]  # variant, seed, stage, model, step, parameters


@dataclass
class Workshop:
    """Where the runs are, what they are made by, and the one that was opened last."""

    folder: Path
    settings: Settings
    seeds: tuple[int, ...]
    notice: Notice | None = None
    watch: Watch | None = None
    _held: dict[str, Any] = field(default_factory=dict)

    # ---- What all share ------------------------------------------------------------------------------------------
    @property
    def shared(self) -> Path:
        return self.folder / "shared"

    def corpus(self) -> Corpus:
        """Prepared where it is not yet, with vocabulary and pose database."""
        if "corpus" not in self._held:
            settings = replace(self.settings, stages=self.stages(MOE) or self.stages(PLAIN))
            with run.claimed(settings, self.shared):
                corpus = prepare_corpus(settings.data, settings.data.seed, self.shared / "data")
                input_pipeline.open_tokenizer(settings, self.shared, corpus)
                if "pose" in settings.stages:
                    input_pipeline.open_prior(self.shared, corpus)
            self._held["corpus"] = opened(self.shared / "data")
        return self._held["corpus"]

    def stages(self, variant: str) -> tuple[str, ...]:
        return tuple(stage for stage in self.settings.stages if stage in STAGES[variant])

    def check(self, needed: Iterable[str], what: str) -> None:
        """Raises `SignerError` where the config trains none of the stages that a table is about."""
        if lacking := [stage for stage in needed if stage not in self.settings.stages]:
            raise SignerError(
                f"{what}: needs the stage{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}, which config.stages "
                f"({', '.join(self.settings.stages)}) lacks; name another table, or a config that trains them"
            )

    # ---- Runs ------------------------------------------------------------------------------------------------------
    def losses_of(self, variant: str) -> Loss:
        return replace(self.settings.loss, **dict.fromkeys(WITHOUT.get(variant, ()), 0.0))

    def settings_of(self, variant: str, seed: int) -> Settings:
        losses = self.losses_of(variant)
        stages = self.stages(variant)
        least = min(self.settings.stage(stage).steps for stage in stages)
        return replace(
            self.settings, stages=stages, seed=seed, loss=losses, samples_every=max(1, least // (POINTS * _LOOKS)),
        )  # fmt: skip

    def workdir(self, variant: str, seed: int) -> Path:
        return self.folder / "runs" / f"{variant}-{seed}"

    def trained(self, variant: str, seed: int) -> Path:
        """The folder of a run that is over: trained as far as it is not."""
        self.corpus()
        workdir = self.workdir(variant, seed)
        settings = self.settings_of(variant, seed)
        for stage, other in TAKES.get(variant, {}).items():
            if stage in settings.stages and not finished(workdir, stage, settings):
                self.trained(other, seed)
        say(f"{workdir.name}: stages {', '.join(settings.stages)}")
        with run.claimed(settings, workdir):
            if all(finished(workdir, stage, settings) for stage in settings.stages) and (workdir / "data").exists():
                return workdir
            for name in SHARED:
                lend(self.shared / name, workdir / name)
            for stage, other in TAKES.get(variant, {}).items():
                if stage in settings.stages and not mirror.there(workdir / "checkpoints" / stage):
                    lend(self.workdir(other, seed) / "checkpoints" / stage, workdir / "checkpoints" / stage)

            def show(
                stage: str, model: Model, monitor: Monitor, step: int, params: dict[str, Any],
                asked: Callable[[], bool],
            ) -> None:  # fmt: skip
                if self.watch is not None and not asked():
                    self.watch(variant, seed, stage, model, step, params)

            run.train(settings, workdir, self.notice, show=show, scored=partial(gloss_score, settings, workdir))
        return workdir

    def signer(self, variant: str, seed: int) -> Signer:
        """A trained run, opened."""
        key = f"{variant}-{seed}"
        if key not in self._held:
            self._held = {name: one for name, one in self._held.items() if not isinstance(one, Signer)}
            self._held[key] = Signer.load(self.trained(variant, seed))
        return self._held[key]

    def linked(self, variant: str, seed: int) -> Signer:
        """One that has the SLUL of a trained run and performs nothing: for its glosses, and the database."""
        return self.linking({"slul": Signer.load(self.trained(variant, seed), parts=("slul",)).params["slul"]})

    def parameters(self, variant: str, seed: int) -> str:
        """The hash of what a run, or the reader, has trained; trained as far as it is not."""
        key = f"parameters {variant}-{seed}"
        if key not in self._held:
            if variant == READER:
                params = self.reader().params
            elif variant == PROGRESSIVE:
                params = self.progressive(seed).params
            else:
                folder = mirror.checkpoints(self.trained(variant, seed))
                params = {stage: read_params(folder / stage) for stage in self.stages(variant)}
            self._held[key] = params_sha256(params)
        return self._held[key]

    def corpus_digest(self) -> str:
        """The hash of what the prepared corpus says of itself."""
        self.corpus()
        return hashlib.sha256((self.shared / "data" / storage.MANIFEST).read_bytes()).hexdigest()

    def linking(self, params: dict[str, Any]) -> Signer:
        """A signer of these parameters of SLUL that performs nothing: for its glosses, and the database."""
        settings = replace(self.settings, stages=self.stages(MOE))
        tokenizer = input_pipeline.made_tokenizer(settings, self.shared, self.corpus())
        model, _ = models.describe(settings, tokenizer.vocab_size if tokenizer else 0)
        return Signer(settings, self.shared, model, params)

    def reader(self) -> BackTranslator:
        """The sign-to-text model of all rows, trained as far as it is not."""
        if "reader" not in self._held:
            settings, workdir = reading.alone(self.settings), self.folder / "reader"
            self.corpus()
            say("reader: the sign-to-text model")
            with reading.claimed(settings, workdir):
                lend(self.shared / "data", workdir / "data")
                reading.train(settings, workdir, self.notice)
            self._held["reader"] = BackTranslator.open(workdir)
        return self._held["reader"]

    def progressive(self, seed: int) -> progressive.Trained:
        settings = replace(progressive.alone(self.settings), seed=seed)
        workdir = self.workdir(PROGRESSIVE, seed)
        self.corpus()
        say(f"{workdir.name}: the Progressive Transformer")
        with progressive.claimed(settings, workdir):
            for name in ("data", "tokenizer.model"):
                lend(self.shared / name, workdir / name)
            progressive.train(settings, workdir, self.notice)
        return progressive.Trained.open(workdir)


def finished(workdir: Path, stage: str, settings: Settings) -> bool:
    return latest_step(mirror.checkpoints(workdir) / stage) == settings.stage(stage).steps


def say(line: str) -> None:
    if jax.process_index() == 0:
        print(f"signer: reproduce: {line}", file=sys.stderr)


def lend(source: Path, target: Path) -> None:
    """The same files at another place, where there is nothing yet: links, since none of them is ever changed where it
    is, or copies where a file system has none.
    """
    if not source.exists() or os.path.lexists(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.lent")
    if partial.is_dir():
        shutil.rmtree(partial)
    partial.unlink(missing_ok=True)
    if source.is_dir():
        shutil.copytree(source, partial, copy_function=_linked)
    else:
        _linked(source, partial)
    partial.rename(target)


def _linked(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def fingerprint(settings: Settings, of: str) -> str:
    """What a score depends on, as a hash: the config and the row."""
    return hashlib.sha256(f"{of}\n{storage.to_json(asdict(settings))}".encode()).hexdigest()
