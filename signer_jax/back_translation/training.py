"""Training a sign-to-text model through the one train loop, in a folder of its own that no run's checkpoints enter."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax

from signer_jax import mirror, storage
from signer_jax import workdir as folder
from signer_jax.back_translation import examples, losses, model
from signer_jax.back_translation.translator import ABOUT, NAME, About, coding_of, module_of
from signer_jax.data import prepare, streams
from signer_jax.data.records import Corpus
from signer_jax.errors import SignerError
from signer_jax.masked import masked_mean
from signer_jax.settings import Settings
from signer_jax.slul.linker import shift_right
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.training import partitioning
from signer_jax.training.checkpoints import Checkpoints
from signer_jax.training.loop import Objective, Program, Stage, fit
from signer_jax.training.monitoring import Monitor
from signer_jax.training.preemption import Notice
from signer_jax.training.there import latest_step


def alone(settings: Settings) -> Settings:
    """The settings of a back translation's folder: a run's, with no stage but this one."""
    return replace(settings, stages=(NAME,))


@contextmanager
def claimed(settings: Settings, workdir: Path) -> Iterator[None]:
    """Holds the folder for this training alone (`workdir.claimed`); `settings` are `alone`. Raises `SignerError`."""
    c = settings.stage(NAME)
    partitioning.check_batch(NAME, c.batch, c.accumulate, _mesh())
    prepare.check(settings.data, workdir / "data", anew="data" in folder.outdated(workdir, settings))
    with folder.claimed(workdir, settings):
        yield


def train(settings: Settings, workdir: Path, notice: Notice | None = None) -> None:
    """Trains to the last step, from the newest checkpoint where there is one. Inside of `claimed`, in one process.

    Raises `SignerError` where the training split has nothing to learn from, and as `loop.fit`.
    """
    mesh, c = _mesh(), settings.stage(NAME)
    with folder.Clock(workdir, "data"):
        corpus = prepare.prepare(settings.data, settings.data.seed, workdir / "data")
        chosen = examples.choose(corpus, settings.back_translation.max_frames)
        for line in chosen.told(settings.back_translation.max_frames):
            print(f"signer: {line}", file=sys.stderr)
        if not chosen.places:
            raise SignerError(
                f"config.data.corpus {settings.data.corpus!r}: its training split has no pose with a sentence that a "
                "back translation could learn from; take a corpus with poses and texts, or prepare it with --poses"
            )
        tokenizer = _tokenizer(settings, workdir, chosen)
        about = _about(corpus, chosen)
        lengths = [len(tokenizer.encode_gloss(sentence.split())) for sentence in chosen.sentences]
        if long := sum(length > settings.data.max_source for length in lengths):
            print(
                f"signer: {long} of {len(lengths)} sentences are longer than config.data.max_source = "
                f"{settings.data.max_source} pieces (the longest has {max(lengths)}); they are cut behind a whole word",
                file=sys.stderr,
            )
        storage.write_file(workdir / ABOUT, storage.to_json(asdict(about)))
    checkpoints = mirror.checkpoints(workdir) / NAME
    if latest_step(checkpoints) == c.steps:
        return
    module = module_of(settings, tokenizer, about)
    reading = streams.Reading(
        c.batch, settings.seed, settings.data.read_threads, settings.data.prefetch,
        partitioning.local_rows(c.batch, mesh),
    )  # fmt: skip
    batches = examples.batches(corpus, chosen, coding_of(settings, tokenizer, about), reading)
    params = {NAME: init(module, settings)}
    program = Program(stage_of(module, settings), params, mesh)
    keeping = settings.keep_checkpoints, int(settings.keep_best)
    with Checkpoints(checkpoints, *keeping) as saved, folder.Clock(workdir, NAME):
        fit(
            program, params, batches, seed=settings.seed, checkpoints=saved, monitor=Monitor(workdir / "tensorboard"),
            log_every=settings.log_every, checkpoint_every=settings.checkpoint_every, notice=notice,
            stopped=workdir / "stopped",
        )  # fmt: skip


def stage_of(module: model.SignTranslator, settings: Settings) -> Stage:
    return Stage(
        name=NAME, objective=make_objective(module, settings.back_translation.gloss_weight), parts=(NAME,),
        training=settings.stage(NAME), optimizers=settings.optimizers, lora=settings.lora,
        nonfinite_steps=settings.nonfinite_steps, spike=settings.spike,
    )  # fmt: skip


def make_objective(module: model.SignTranslator, gloss_weight: float) -> Objective:
    """The text's cross entropy and the glosses' CTC loss, the latter over the examples that have one."""

    def objective(params: Any, batch: dict[str, Any], rng: Any) -> tuple[Any, dict[str, Any]]:
        target = batch["target"]
        outputs: Any = module.apply(
            {"params": params[NAME]}, batch["coordinates"], batch["confidence"], batch["valid"], batch["language"],
            shift_right(target), train=True, rngs={"dropout": rng},
        )  # fmt: skip
        logits, steps, text = outputs
        said, there = losses.gloss_loss(logits, steps, batch["classes"])
        terms = {"text": losses.text_loss(text, target).mean(), "glosses": masked_mean(said, there, axis=0)}
        return terms["text"] + gloss_weight * terms["glosses"], terms

    return objective


def init(module: model.SignTranslator, settings: Settings) -> Any:
    """Fresh parameters."""
    make: Callable[..., Any] = jax.jit(module.init)
    return make(jax.random.key(settings.seed), *model.example(settings.back_translation))["params"]


def shape() -> dict[str, int]:
    """The size of each axis of what it trains on."""
    return dict(_mesh().shape)


def _mesh() -> jax.sharding.Mesh:
    """Its devices share the rows of a batch: so small a model lies whole on each."""
    return partitioning.make_mesh({"data": -1})


def _tokenizer(settings: Settings, workdir: Path, chosen: examples.Chosen) -> Tokenizer:
    """The vocabulary of the sentences that are learned, made where it is not yet."""
    path = workdir / "tokenizer.model"
    storage.recover(path)
    if path.exists():
        return Tokenizer.load(path)
    return Tokenizer.train(sorted(set(chosen.sentences)), path, settings.tokenizer.vocab_size, (), glosses=())


def _about(corpus: Corpus, chosen: examples.Chosen) -> About:
    return About(
        corpus=corpus.about["corpus"], fps=float(corpus.about["fps"]), languages=sorted(corpus.about["languages"]),
        glosses=examples.glosses_of(corpus), poses=len(chosen.places), held_out=chosen.held_out,
        too_long=chosen.too_long, sentences=sorted({examples.key_of(sentence) for sentence in chosen.sentences}),
    )  # fmt: skip
