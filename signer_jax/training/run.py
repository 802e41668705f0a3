"""A whole run: the corpus, then each stage with what it needs, to the last checkpoint."""

import json
import time
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
from ml_collections import ConfigDict

from signer_jax import model as models
from signer_jax import workdir as folder
from signer_jax.data import pipeline
from signer_jax.data.prepare import prepare as prepare_corpus
from signer_jax.data.records import Corpus
from signer_jax.data.retrieval import Retrieval, prior_entries
from signer_jax.data.windows import Limits, MotionWindows
from signer_jax.distributed import first_makes
from signer_jax.errors import SignerError, closest
from signer_jax.model import TRAINED, Model
from signer_jax.pose.prior import Prior
from signer_jax.progress import progress
from signer_jax.renderer.vae_initialisation import initialise_from_frames
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.training import latents as latent_cache
from signer_jax.training import partitioning
from signer_jax.training.checkpoints import Checkpoints, latest_step, read_params
from signer_jax.training.loop import Stage, fit
from signer_jax.training.monitoring import Monitor
from signer_jax.training.objectives import make_objective

REQUIRES = {"pose": ("slul",), "joint": ("slul", "pose", "renderer")}  # stages that must have been trained before


def limits(config: ConfigDict) -> Limits:
    return Limits(config.data.max_source, config.data.max_target, config.data.max_glosses)


def stage_of(name: str, model: Model, config: ConfigDict, mask_id: int) -> Stage:
    c = config.train[name]
    return Stage(
        name=name,
        objective=make_objective(name, model, config, mask_id),
        trained=TRAINED[name],
        steps=c.steps,
        learning_rate=c.learning_rate,
        warmup=c.warmup,
        weight_decay=c.weight_decay,
        clip=c.clip,
    )


def open_tokenizer(config: ConfigDict, workdir: Path, corpus: Corpus) -> Tokenizer | None:
    """The published tokenizer that the config names, or the run's own, trained on the training split's texts."""
    if not corpus.count("train", "text"):
        return None
    if config.tokenizer.path:
        return Tokenizer.load(config.tokenizer.path, mask=config.tokenizer.mask)
    path = workdir / "tokenizer.model"
    if path.exists():
        return Tokenizer.load(path, mask=config.tokenizer.mask)
    records = corpus.texts("train")
    samples = [records[i] for i in range(len(records))]
    return Tokenizer.train(
        (sample.text for sample in samples),
        path,
        config.tokenizer.vocab_size,
        sorted(corpus.about["languages"]),
        glosses=(sample.glosses for sample in samples),
    )


def open_prior(workdir: Path, corpus: Corpus) -> Prior:
    """The pose prior database, built from the training split's performances and from nothing else."""
    path = workdir / "prior"
    if not path.exists():
        records = corpus.motions("train")
        samples = (records[i] for i in progress(range(len(records)), "prior"))
        Prior.build(prior_entries(samples), path, fps=corpus.about["fps"])
    return Prior.open(path)


def train(config: ConfigDict, workdir: str | Path) -> tuple[Model, dict[str, Any]]:
    """Trains every stage of the config, resuming each from its newest checkpoint; returns the model and its parameters.

    Raises `SignerError` for bad input; what was trained before it stays.
    """
    workdir = Path(workdir)
    _check(config)
    first_makes("workdir", lambda: folder.claim(workdir, config))
    mesh = partitioning.make_mesh(config.mesh)
    # ---- Data ------------------------------------------------------------------------------------------------------
    with Clock(workdir, "data"):
        corpus = first_makes("corpus", lambda: prepare_corpus(config.data, config.seed, workdir / "data"))
        tokenizer = first_makes("tokenizer", lambda: open_tokenizer(config, workdir, corpus))
    # ---- Model -----------------------------------------------------------------------------------------------------
    model, published = models.build(config, tokenizer.vocab_size if tokenizer else 0)
    params = partitioning.to_host(models.init(model, config, published, config.seed))
    monitor = Monitor(workdir / "tensorboard")
    # ---- Stages ----------------------------------------------------------------------------------------------------
    for k, name in enumerate(config.stages):
        stage = stage_of(name, model, config, tokenizer.mask_id if tokenizer else 0)
        directory = workdir / "checkpoints" / name
        if latest_step(directory) == stage.steps:
            params |= read_params(directory)
        else:
            checkpoints = Checkpoints(directory, config.keep_checkpoints)
            with Clock(workdir, name):
                if name == "vae" and config.vae.principal_start and checkpoints.latest() is None:
                    params["vae"] = principal_start(model, params["vae"], corpus)
                batches = stage_batches(name, config, workdir, corpus, tokenizer, model, params, config.seed + k)
                params = fit(
                    stage, params, batches,
                    mesh=mesh, seed=config.seed + 1000 * (k + 1), checkpoints=checkpoints, monitor=monitor,
                    log_every=config.log_every, checkpoint_every=config.checkpoint_every,
                )  # fmt: skip
            checkpoints.close()
    monitor.close()
    return model, params


def stage_batches(
    name: str, config: ConfigDict, workdir: Path, corpus: Corpus, tokenizer: Tokenizer | None, model: Model,
    params: Any, seed: int,
) -> grain.DatasetIterator:  # fmt: skip
    """The stage's training examples, made ready where they are not yet."""
    reading = pipeline.Reading(config.train[name].batch, seed, config.data.read_threads, config.data.prefetch)
    if name == "slul":
        assert tokenizer is not None
        return pipeline.text_batches(corpus.texts("train"), tokenizer, limits(config), reading)
    if name == "vae":
        return pipeline.video_batches(corpus, "train", config.vae.window, reading)
    retrieval = None
    if model.slp_moe is not None:
        prior = first_makes("prior", lambda: open_prior(workdir, corpus))
        retrieval = Retrieval(prior, model.joints, config.pose.dims, config.pose.experts, config.data.max_glosses)
    windows = MotionWindows(
        corpus.motions("train"), model.joints, config.pose.dims, limits(config), tokenizer, retrieval
    )
    if name == "pose":
        return pipeline.pose_batches(windows, config.pose.window, reading)
    c = config.renderer
    latents = first_makes(
        "latents",
        lambda: latent_cache.prepare(
            workdir / "latents", corpus, windows, model.vae, params["vae"],
            window=c.window, stride=c.stride, references=c.references, batch=8,
        ),
    )  # fmt: skip
    return latent_cache.latent_batches(latents, corpus, windows, reading, length=c.window)


def principal_start(model: Model, params: Any, corpus: Corpus, frames: int = 512) -> Any:
    """The autoencoder's first weights from the principal components of some training frames, spread over the videos."""
    records, videos = corpus.motions("train"), pipeline.video_indices(corpus, "train")
    each = max(1, frames // max(len(videos), 1))
    chosen = []
    for i in videos:
        video = records[i].video
        assert video is not None
        chosen.append(video[np.linspace(0, len(video) - 1, each).round().astype(int)])
    if not chosen:
        return params  # the pipeline says what is missing
    return initialise_from_frames(model.vae, params, pipeline.to_model_range(np.concatenate(chosen)))


def _check(config: ConfigDict) -> None:
    stages = tuple(config.stages)
    if unknown := [stage for stage in stages if stage not in TRAINED]:
        raise SignerError(
            f"config.stages: unknown stage {unknown[0]!r}{closest(unknown[0], TRAINED)}; known: {', '.join(TRAINED)}"
        )
    for i, name in enumerate(stages):
        if missing := [
            need for need in REQUIRES.get(name, ()) if need not in stages[:i] and not _published(config, need)
        ]:
            raise SignerError(f"config.stages {stages}: {name!r} needs {missing[0]!r} before it")
    if "renderer" in stages and "vae" not in stages and not config.vae.init:
        raise SignerError(f"config.stages {stages}: 'renderer' needs 'vae' before it, or config.vae.init")


def _published(config: ConfigDict, stage: str) -> bool:
    return stage in ("slul", "renderer") and bool(config[stage].init)


class Clock:
    """Adds the seconds of a block to `<workdir>/wall_time.json`, over all the times that a run was resumed."""

    def __init__(self, workdir: Path, name: str):
        self.file, self.name = workdir / "wall_time.json", name

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        if jax.process_index() == 0:
            times = read_times(self.file.parent)
            times[self.name] = round(times.get(self.name, 0.0) + time.perf_counter() - self.started, 1)
            folder.write_atomically(self.file, json.dumps(times) + "\n")


def read_times(workdir: Path) -> dict[str, float]:
    """Seconds by stage."""
    file = workdir / "wall_time.json"
    return json.loads(file.read_text()) if file.exists() else {}
