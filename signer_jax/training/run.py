"""A whole run: the corpus, then each stage with what it needs, to the last checkpoint."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
from ml_collections import ConfigDict

from signer_jax import model as models
from signer_jax import ranges
from signer_jax import workdir as folder
from signer_jax.data import streams
from signer_jax.data.prepare import check as check_corpus
from signer_jax.data.prepare import prepare as prepare_corpus
from signer_jax.data.records import Corpus
from signer_jax.data.windows import Limits, MotionWindows, too_long
from signer_jax.distributed import first_makes
from signer_jax.errors import SignerError, closest
from signer_jax.model import TRAINED, Model
from signer_jax.pose.prior import Prior
from signer_jax.progress import progress
from signer_jax.renderer.latents import LatentStore
from signer_jax.renderer.vae_initialisation import initialise_from_frames
from signer_jax.slp_moe.retrieval import Retrieval, prior_entries
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.storage import REMAKE, plain_file, recover, write_file
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
    recover(path)
    if not path.exists():
        records = corpus.motions("train")
        samples = (records[i] for i in progress(range(len(records)), "prior"))
        Prior.build(prior_entries(samples), path, fps=corpus.about["fps"])
    return Prior.open(path, REMAKE)


@contextmanager
def claimed(config: ConfigDict, workdir: Path) -> Iterator[None]:
    """Checks a config, then holds the workdir for this run alone (`workdir.claimed`). Raises `SignerError`."""
    _check(config)
    check_corpus(config.data, workdir / "data")
    mesh = partitioning.make_mesh(config.mesh)
    for stage in config.stages:
        partitioning.local_rows(config.train[stage].batch, mesh)  # refused where it does not divide
    with folder.claimed(workdir, config):
        yield


def train(config: ConfigDict, workdir: Path) -> tuple[Model, dict[str, Any]]:
    """Trains every stage of the config, resuming each from its newest checkpoint; returns the model and its parameters.

    Inside of `claimed`. Raises `SignerError` for bad input; what was trained before it stays.
    """
    mesh = partitioning.make_mesh(config.mesh)
    # ---- Data ------------------------------------------------------------------------------------------------------
    with Clock(workdir, "data"):
        corpus = first_makes("corpus", lambda: prepare_corpus(config.data, config.data.seed, workdir / "data"))
        tokenizer = first_makes("tokenizer", lambda: open_tokenizer(config, workdir, corpus))
        if tokenizer is not None and "slul" in config.stages and jax.process_index() == 0:
            for line in too_long(corpus.texts("train"), tokenizer, limits(config)):
                print(f"signer: {line}", file=sys.stderr)
    # ---- Model -----------------------------------------------------------------------------------------------------
    model, published = models.build(config, tokenizer.vocab_size if tokenizer else 0)
    params = partitioning.to_host(models.init(model, config, published, config.seed))
    # ---- Stages ----------------------------------------------------------------------------------------------------
    monitor = Monitor(workdir / "tensorboard")
    for k, name in enumerate(config.stages):
        stage = stage_of(name, model, config, tokenizer.mask_id if tokenizer else 0)
        directory = workdir / "checkpoints" / name
        if latest_step(directory) == stage.steps:
            params |= read_params(directory)
            continue
        with Checkpoints(directory, config.keep_checkpoints) as checkpoints, Clock(workdir, name):
            fresh = checkpoints.latest() is None and not config.vae.init  # published weights are a start already
            if name == "vae" and config.vae.principal_start and fresh:
                params["vae"] = principal_start(model, params["vae"], corpus)
            batches = stage_batches(name, config, workdir, corpus, tokenizer, model, params, config.seed + k, mesh)
            params = fit(
                stage, params, batches,
                mesh=mesh, seed=config.seed + 1000 * (k + 1), checkpoints=checkpoints, monitor=monitor,
                log_every=config.log_every, checkpoint_every=config.checkpoint_every,
            )  # fmt: skip
    # What signing reads is there at the end, also where all stages were done and somebody removed it.
    if model.slp_moe is not None or model.renderer is not None:
        windows = motion_windows(config, workdir, corpus, tokenizer, model)
        if model.renderer is not None:
            cached_latents(config, workdir, corpus, windows, model, params)
    return model, params


def stage_batches(
    name: str, config: ConfigDict, workdir: Path, corpus: Corpus, tokenizer: Tokenizer | None, model: Model,
    params: Any, seed: int, mesh: jax.sharding.Mesh,
) -> grain.DatasetIterator:  # fmt: skip
    """The stage's training examples, made ready where they are not yet; of each batch, this process's rows."""
    batch, rows = config.train[name].batch, partitioning.local_rows(config.train[name].batch, mesh)
    reading = streams.Reading(batch, seed, config.data.read_threads, config.data.prefetch, rows)
    if name == "slul":
        assert tokenizer is not None
        return streams.text_batches(corpus.texts("train"), tokenizer, limits(config), reading)
    if name == "vae":
        return streams.video_batches(corpus, "train", config.vae.window, reading)
    windows = motion_windows(config, workdir, corpus, tokenizer, model)
    if name == "pose":
        return streams.pose_batches(windows, config.pose.window, reading)
    c = config.renderer
    latents = cached_latents(config, workdir, corpus, windows, model, params)
    return latent_cache.latent_batches(latents, corpus, windows, reading, length=c.window)


def motion_windows(
    config: ConfigDict, workdir: Path, corpus: Corpus, tokenizer: Tokenizer | None, model: Model
) -> MotionWindows:
    """Windows of the training motions, with the experts beside them where there is SLP-MoE; builds their prior."""
    retrieval = None
    if model.slp_moe is not None:
        prior = first_makes("prior", lambda: open_prior(workdir, corpus))
        retrieval = Retrieval(prior, model.joints, config.pose.dims, config.pose.experts, config.data.max_glosses)
    return MotionWindows(corpus.motions("train"), model.joints, config.pose.dims, limits(config), tokenizer, retrieval)


def cached_latents(
    config: ConfigDict, workdir: Path, corpus: Corpus, windows: MotionWindows, model: Model, params: Any
) -> LatentStore:
    """The training videos' latents, encoded where they are not yet."""
    c = config.renderer
    return first_makes(
        "latents",
        lambda: latent_cache.prepare(
            workdir / "latents", corpus, windows, model.vae, params["vae"],
            window=c.window, stride=c.stride, references=c.references, batch=8,
        ),
    )  # fmt: skip


def principal_start(model: Model, params: Any, corpus: Corpus, frames: int = 512) -> Any:
    """The autoencoder's first weights from the principal components of some training frames, spread over the videos."""
    records, videos = corpus.motions("train"), streams.video_indices(corpus, "train")
    each = max(1, frames // max(len(videos), 1))
    chosen = []
    for i in videos:
        video = records[i].video
        assert video is not None
        chosen.append(video[np.linspace(0, len(video) - 1, each).round().astype(int)])
    if not chosen:
        return params  # the stream says what is missing
    return initialise_from_frames(model.vae, params, streams.to_model_range(np.concatenate(chosen)))


def _check(config: ConfigDict) -> None:
    ranges.check(config)
    ranges.check_paths(config)
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
    if not any(config[part].init for part in ("slul", "vae", "renderer")):
        models.build(config, config.tokenizer.vocab_size)  # refuses sizes that do not fit each other


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
            try:
                write_file(self.file, json.dumps(times) + "\n")
            except SignerError as error:  # a note for people: the work goes on without it
                print(f"signer: {error}", file=sys.stderr)


def read_times(workdir: Path) -> dict[str, float]:
    """Seconds by stage; none where the note is missing or damaged."""
    try:
        times = json.loads(plain_file(workdir / "wall_time.json", "").read_text(encoding="utf-8"))
        return {str(stage): float(seconds) for stage, seconds in times.items()}
    except (SignerError, OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
