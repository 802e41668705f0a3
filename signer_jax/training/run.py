"""A whole run: the corpus, then each stage with what it needs, to the last checkpoint."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np

from signer_jax import model as models
from signer_jax import workdir as folder
from signer_jax.data import buckets, streams
from signer_jax.data.prepare import check as check_corpus
from signer_jax.data.prepare import prepare as prepare_corpus
from signer_jax.data.prepare import trains
from signer_jax.data.records import Corpus
from signer_jax.data.windows import Limits, MotionWindows, too_long
from signer_jax.distributed import first_makes, first_says
from signer_jax.errors import SignerError, closest
from signer_jax.interop import kept
from signer_jax.model import TRAINED, Model
from signer_jax.pose.prior import Prior
from signer_jax.progress import progress
from signer_jax.renderer.attention import exchanges
from signer_jax.renderer.latents import LatentStore
from signer_jax.renderer.remat import check_offload
from signer_jax.renderer.vae_initialisation import initialise_from_frames
from signer_jax.renderer.variants import frames_fault
from signer_jax.settings import Data, Settings, flatten
from signer_jax.slp_moe.retrieval import Retrieval, prior_entries
from signer_jax.slul.tokenizer import MASK, Tokenizer
from signer_jax.storage import REMAKE, recover
from signer_jax.training import bucketed, conditions, environment, partitioning, unreferenced
from signer_jax.training import latents as latent_cache
from signer_jax.training.checkpoints import Checkpoints, Damaged, latest_step, leave_behind, pass_over
from signer_jax.training.held import Weights
from signer_jax.training.loop import Program, Stage, cut, finished, fit
from signer_jax.training.monitoring import Monitor
from signer_jax.training.objectives import make_objective
from signer_jax.training.preemption import Notice
from signer_jax.training.trained import FULL, join

# What a stage builds on: trained before it, or published (`init`).
REQUIRES = {
    "pose": ("slul",),
    "images": ("vae",),
    "renderer": ("vae",),
    "joint": ("slul", "pose", "vae", "renderer"),
}
# What it uses where the run has it: H, which a renderer does without on videos that have no text.
USES = {"images": ("slul",), "renderer": ("slul",)}
# What it learns from, of the training split.
LEARNS_FROM = {
    "slul": ("sentences",),
    "pose": ("sentences", "poses"),
    "vae": ("videos",),
    "images": ("videos",),
    "renderer": ("videos",),
    "joint": ("sentences", "poses", "videos"),
}
PUBLISHED = ("slul", "vae", "renderer")  # parts that may come from elsewhere


def mesh_of(settings: Settings) -> jax.sharding.Mesh:
    return partitioning.make_mesh(asdict(settings.mesh))


def limits(data: Data) -> Limits:
    return Limits(data.max_source, data.max_target, data.max_glosses)


def stage_of(name: str, model: Model, settings: Settings, mask_id: int) -> Stage:
    return Stage(
        name=name,
        objective=make_objective(name, model, settings, mask_id),
        parts=TRAINED[name],
        training=settings.stage(name),
        optimizers=settings.optimizers,
        lora=settings.lora,
        nonfinite_steps=settings.nonfinite_steps,
        spike=settings.spike,
        tokens=tokens_of(name, model, settings),
        experts=experts_of(name, model),
    )


def tokens_of(name: str, model: Model, settings: Settings) -> Callable[[Mapping[str, Any]], int] | None:
    """What a stage's transformer reads of a batch, by its shapes: pieces of text or patches of latents, padding too."""
    if name == "slul":
        return lambda batch: batch["source"].size + batch["target"].size
    if model.renderer is None or "renderer" not in TRAINED[name]:
        return None
    halvings = max(len(settings.renderer.stem_features) - 1, 0)
    patch = math.prod(model.renderer.transformer.patch) * 4**halvings
    return lambda batch: math.prod(batch["latents"].shape[:4]) // patch


def experts_of(name: str, model: Model) -> tuple[str, ...]:
    """The beginnings of the paths of the video transformer's experts, where the stage trains a model of several."""
    if model.renderer is None or "renderer" not in TRAINED[name]:
        return ()
    return tuple(f"renderer/transformer/{expert}" for expert in model.renderer.variant.experts)


def check_rules(stage: Stage, params: Any) -> None:
    """Raises `SignerError` where a rule on what the stage trains names nothing; `params` may be shapes."""
    jax.eval_shape(lambda params: cut(stage, params, 0), params)


def open_tokenizer(settings: Settings, workdir: Path, corpus: Corpus) -> Tokenizer | None:
    """The published tokenizer that the settings name, or the run's own, trained on the training split's texts."""
    if not corpus.count("train", "text"):
        return None
    if settings.tokenizer.path:
        return Tokenizer.load(settings.tokenizer.path, mask=settings.tokenizer.mask)
    path = workdir / "tokenizer.model"
    if path.exists():
        return Tokenizer.load(path, mask=settings.tokenizer.mask)
    records = corpus.texts("train")
    samples = [records[i] for i in range(len(records))]
    return Tokenizer.train(
        (sample.text for sample in samples),
        path,
        settings.tokenizer.vocab_size,
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
def claimed(settings: Settings, workdir: Path) -> Iterator[None]:
    """Checks the settings, then holds the workdir for this run alone (`workdir.claimed`). Raises `SignerError`."""
    _check(kept.local(settings, workdir))
    check_corpus(settings.data, workdir / "data", anew="data" in folder.outdated(workdir, settings))
    mesh = mesh_of(settings)
    for stage in settings.stages:
        c = settings.stage(stage)
        partitioning.check_batch(stage, c.batch, c.accumulate, mesh)
    with folder.claimed(workdir, settings):
        yield


def train(
    settings: Settings, workdir: Path, notice: Notice | None = None, profile: int = 0
) -> tuple[Model, dict[str, Any]]:
    """Trains every stage, resuming each from its newest checkpoint; returns the model and its parameters, on the mesh.

    Inside of `claimed`. So many steps of each stage as `profile` says are traced. Raises `SignerError` for bad input,
    and `Preempted` where `notice` stops it; what was trained before it stays.
    """
    while True:
        try:
            return _train(settings, workdir, notice, profile)
        except Damaged as damage:  # of a stage that was over: it goes on from the checkpoint before
            if jax.process_count() > 1:  # one may have met it alone, and the others wait elsewhere
                leave_behind(damage)
            pass_over(damage)


def _train(settings: Settings, workdir: Path, notice: Notice | None, profile: int) -> tuple[Model, dict[str, Any]]:
    named, settings = settings, kept.local(settings, workdir)
    mesh = mesh_of(settings)
    monitor = Monitor(workdir / "tensorboard")
    if jax.process_index() == 0:
        facts = environment.environment(mesh)
        environment.write(workdir, facts)
        monitor.text("environment", 0, environment.rows(facts), ("what", "of this start"))
    # ---- Data ------------------------------------------------------------------------------------------------------
    with folder.Clock(workdir, "data"):
        corpus = first_makes("corpus", lambda: prepare_corpus(settings.data, settings.data.seed, workdir / "data"))
        tokenizer = first_makes("tokenizer", lambda: open_tokenizer(settings, workdir, corpus))
        if tokenizer is not None and jax.process_index() == 0:
            for line in too_long(corpus.texts("train"), tokenizer, limits(settings.data)):
                print(f"signer: {line}", file=sys.stderr)
        if jax.process_index() == 0:
            for line in conditions.said(settings):
                print(f"signer: {line}", file=sys.stderr)
    # ---- Model -----------------------------------------------------------------------------------------------------
    vocab_size = tokenizer.vocab_size if tokenizer else 0
    weights = Weights.of(settings, vocab_size, workdir, mesh)
    model = weights.model
    stages = [stage_of(name, model, settings, tokenizer.mask_id if tokenizer else 0) for name in settings.stages]
    for stage in stages:
        check_rules(stage, weights.shapes)
    for part, batch in bucketed_parts(settings):
        plan = bucket_plan(part, settings, model, corpus)
        rows = bucket_windows(settings, model, corpus).plan if part == "renderer" else None
        lines = buckets.told(plan, batch, f"config.{part}.buckets", rows)
        if jax.process_index() == 0:
            print(*(f"signer: {line}" for line in lines), sep="\n", file=sys.stderr)
    if conditions.STAGES & set(settings.stages) and not settings.renderer.buckets and jax.process_index() == 0:
        for line in latent_cache.told(corpus, settings.renderer.window, settings.renderer.stride):
            print(f"signer: {line}", file=sys.stderr)
    if conditions.STAGES & set(settings.stages) and jax.process_index() == 0:
        of = bucket_windows(settings, model, corpus) if settings.renderer.buckets else None
        for line in unreferenced.told(settings, corpus, model, of):
            print(f"signer: {line}", file=sys.stderr)
    if said := first_makes("published", lambda: kept.keep(named, workdir)):
        print(f"signer: {said}", file=sys.stderr)
    settings = kept.local(named, workdir)  # what is read from here on is the run's own
    if settings != weights.settings:
        weights = Weights.of(settings, vocab_size, workdir, mesh)

    # ---- Stages ----------------------------------------------------------------------------------------------------
    params = _train_stages(stages, weights, corpus, tokenizer, monitor, notice, profile)
    params = weights.ready(params, weights.for_signing(), settings.stages)
    # What signing reads is there at the end, also where all stages were done and somebody removed it.
    if model.slp_moe is not None or model.renderer is not None:
        windows = motion_windows(settings, workdir, corpus, tokenizer, model, experts=True)
        if model.renderer is not None:
            latents = cached_latents(settings, workdir, corpus, windows, model, params, mesh)
            vae = partitioning.here(params["vae"], mesh)
            conditions.prepare(settings, workdir, corpus, windows, latents, model, vae)
    return model, params


def _train_stages(
    stages: Sequence[Stage], weights: Weights, corpus: Corpus, tokenizer: Tokenizer | None, monitor: Monitor,
    notice: Notice | None, profile: int,
) -> dict[str, Any]:  # fmt: skip
    """Trains every stage that is not over; returns the parameters that the last ones left in memory."""
    settings, workdir, mesh, model = weights.settings, weights.workdir, weights.mesh, weights.model
    params = dict[str, Any]()
    for k, (name, stage) in enumerate(zip(settings.stages, stages, strict=True)):
        directory = workdir / "checkpoints" / name
        folder.check_there(workdir)
        if first_says(latest_step(directory) or 0) == stage.steps:
            params = {part: tree for part, tree in params.items() if part not in stage.parts}
            continue
        warmup = settings.stage(name).warmup
        if warmup >= stage.steps > 1 and jax.process_index() == 0:
            print(
                f"signer: stage {name!r}: config.train.{name}.warmup of {warmup} steps does not end within its "
                f"{stage.steps}, so the learning rate is not reached; a twentieth of the steps is usual",
                file=sys.stderr,
            )
        keeping = settings.keep_checkpoints, settings.keep_best, weights.beside(name)
        with Checkpoints(directory, *keeping) as checkpoints, folder.Clock(workdir, name):
            moving, frozen = weights.for_stage(name)
            encoder = {path: kind for path, kind in frozen.items() if path.startswith("vae/")}
            if encoder and "vae" not in params:
                params |= weights.read(encoder, settings.stages[:k])
            # With it alone: text encoders are there for a while, and there may be no room for them and the renderer.
            batches = stage_batches(name, settings, workdir, corpus, tokenizer, model, params, settings.seed + k, mesh)
            begun = checkpoints.latest() is not None
            if not begun:
                params = weights.ready(params, moving | frozen, settings.stages[:k], merged=moving)
            else:  # which has what the stage trains
                params = weights.ready(params, frozen, settings.stages[:k])
                params = join(weights.shapes_of(moving), params)
            fresh = not begun and not settings.vae.init  # published weights are a start already
            if name == "vae" and settings.vae.principal_start and fresh:
                start = principal_start(model, partitioning.here(params["vae"], mesh), corpus)
                params["vae"] = jax.device_put(start, partitioning.tree_shardings(start, mesh))
            learned = fit(
                Program(stage, params, mesh), params, batches,
                seed=settings.seed + 1000 * (k + 1), checkpoints=checkpoints, monitor=monitor,
                log_every=settings.log_every, checkpoint_every=settings.checkpoint_every, notice=notice,
                stopped=workdir / "stopped", profile=profile,
            )  # fmt: skip
            left = params.keys() - weights.spent(params, learned)
            params, learned = ({part: tree[part] for part in tree if part in left} for tree in (params, learned))
            params = finished(stage, params, learned)
            del learned, batches  # and what they hold
    return params


def stage_batches(
    name: str, settings: Settings, workdir: Path, corpus: Corpus, tokenizer: Tokenizer | None, model: Model,
    params: Any, seed: int, mesh: jax.sharding.Mesh,
) -> grain.DatasetIterator:  # fmt: skip
    """The stage's training examples, made ready where they are not yet; of each batch, this process's rows."""
    batch, rows = settings.stage(name).batch, partitioning.local_rows(settings.stage(name).batch, mesh)
    reading = streams.Reading(batch, seed, settings.data.read_threads, settings.data.prefetch, rows)
    if name == "slul":
        assert tokenizer is not None
        return streams.text_batches(corpus.texts("train"), tokenizer, limits(settings.data), reading)
    if name == "vae" and settings.vae.buckets:
        plan = bucket_plan("vae", settings, model, corpus)
        videos, records = streams.video_indices(corpus, "train"), corpus.motions("train")
        return streams.bucketed_videos(lambda i: records.video(videos[i]), plan, reading)
    if name == "vae":
        return streams.video_batches(corpus, "train", settings.vae.window, reading)
    # The renderer's own stages read no candidates: none are laid out for them.
    windows = motion_windows(settings, workdir, corpus, tokenizer, model, experts=name in ("pose", "joint"))
    if name == "pose":
        return streams.pose_batches(windows, settings.pose.window, reading)
    c = settings.renderer
    latents = cached_latents(settings, workdir, corpus, windows, model, params, mesh)
    vae = partitioning.here(params["vae"], mesh)
    if c.buckets:
        of, stores = bucketed_latents(settings, workdir, corpus, windows, model, params, mesh, latents)
        sources = conditions.prepare(settings, workdir, corpus, windows, latents, model, vae, of)
        return bucketed.batches(
            of, stores, corpus, windows, reading,
            single=name == "images",
            temporal_ratio=model.vae.temporal_ratio,
            reference_dropout=c.reference_dropout,
            around=settings.pose.window if name == "joint" else 0,
            beside=sources.beside(), referenced=most_references(model) is None,
        )  # fmt: skip
    sources = conditions.prepare(settings, workdir, corpus, windows, latents, model, vae)
    return latent_cache.latent_batches(
        latents, corpus, windows, reading,
        length=1 if name == "images" else c.window,
        temporal_ratio=model.vae.temporal_ratio,
        reference_dropout=c.reference_dropout,
        around=settings.pose.window if name == "joint" else 0,
        beside=sources.beside(), referenced=most_references(model) is None,
    )  # fmt: skip


def bucketed_parts(settings: Settings) -> list[tuple[str, int]]:
    """The parts that train on buckets, each with the largest batch of its stages."""
    stages: dict[str, list[str]] = {"vae": ["vae"], "renderer": ["images", "renderer", "joint"]}
    sizes = {
        part: [settings.stage(stage).batch for stage in stages[part] if stage in settings.stages]
        for part in stages if getattr(settings, part).buckets
    }  # fmt: skip
    return [(part, max(batches)) for part, batches in sizes.items() if batches]


def bucket_sizes(part: str, settings: Settings, model: Model) -> tuple[tuple[buckets.Bucket, ...], int]:
    """The buckets of `config.PART.buckets`, and what their sides are multiples of. Raises `SignerError`."""
    spatial = model.vae.spatial_ratio
    if part == "renderer":
        spatial, _ = models.pixels_of_a_token(settings.renderer, spatial, model.renderer.transformer.patch)
    texts, where = getattr(settings, part).buckets, f"config.{part}.buckets"
    return buckets.read(texts, temporal=model.vae.temporal_ratio, spatial=spatial, where=where), spatial


def fitting_buckets(
    part: str, settings: Settings, model: Model, clips: Sequence[buckets.Clip]
) -> tuple[buckets.Bucket, ...]:
    """The buckets of `config.PART.buckets`. Raises `SignerError` for an aspect that none of the clips has."""
    sizes, spatial = bucket_sizes(part, settings, model)
    buckets.check_aspects(
        clips, sizes, crop=settings.data.crop, enlarge=settings.data.enlarge, spatial=spatial,
        where=f"config.{part}.buckets",
    )  # fmt: skip
    return sizes


def training_clips(corpus: Corpus) -> list[buckets.Clip]:
    """The training videos' sizes; none where the corpus says none."""
    size = corpus.size or (0, 0)
    return [buckets.Clip(frames, *size) for frames, video, _ in corpus.listed("train") if video]


def bucket_plan(part: str, settings: Settings, model: Model, corpus: Corpus) -> buckets.Plan:
    """Where the training videos go, of `config.PART.buckets`. Raises `SignerError` for an aspect that none has."""
    clips = training_clips(corpus)
    sizes = fitting_buckets(part, settings, model, clips)
    return buckets.plan(clips, sizes, crop=settings.data.crop, enlarge=settings.data.enlarge)


def bucket_windows(settings: Settings, model: Model, corpus: Corpus) -> bucketed.Windows:
    """The training windows of the renderer's buckets."""
    plan = bucket_plan("renderer", settings, model, corpus)
    return bucketed.Windows.of(corpus, training_clips(corpus), plan, settings.renderer.stride)


def motion_windows(
    settings: Settings, workdir: Path, corpus: Corpus, tokenizer: Tokenizer | None, model: Model, *, experts: bool
) -> MotionWindows:
    """Windows of the training motions, with `experts` the candidates beside them where there is SLP-MoE, from the prior
    that is built where it is not yet.
    """
    retrieval = None
    if experts and model.slp_moe is not None:
        prior = first_makes("prior", lambda: open_prior(workdir, corpus))
        retrieval = Retrieval(prior, model.joints, settings.pose.dims, settings.pose.experts, settings.data.max_glosses)
    return MotionWindows(
        corpus.motions("train"), model.joints, settings.pose.dims, limits(settings.data), tokenizer, retrieval,
        settings.pose.gating,
    )  # fmt: skip


def cached_latents(
    settings: Settings,
    workdir: Path,
    corpus: Corpus,
    windows: MotionWindows,
    model: Model,
    params: Any,
    mesh: jax.sharding.Mesh,
) -> LatentStore:
    """The training videos' latents, encoded where they are not yet."""
    c, vae = settings.renderer, partitioning.here(params["vae"], mesh)
    return first_makes(
        "latents",
        lambda: latent_cache.prepare(
            workdir / "latents", corpus, windows, model.vae, vae,
            window=c.window, stride=c.stride, references=c.references,
            batch=latent_cache.rows_at_once(c.window, *settings.data.size),
            constants=models.latent_constants(model, settings), banks_only=bool(c.buckets),
            most=most_references(model),
        ),
    )  # fmt: skip


def most_references(model: Model) -> int | None:
    """How many reference frames all signers' latents keep; None: each signer's own, of a variant that reads them."""
    assert model.renderer is not None
    return None if "reference" in model.renderer.variant.streams else latent_cache.FEW


def bucketed_latents(
    settings: Settings, workdir: Path, corpus: Corpus, windows: MotionWindows, model: Model, params: Any,
    mesh: jax.sharding.Mesh, base: LatentStore,
) -> tuple[bucketed.Windows, list[LatentStore | None]]:  # fmt: skip
    """The windows of the renderer's buckets and their latents, encoded where they are not yet; None of an empty one."""
    vae = partitioning.here(params["vae"], mesh)
    of = bucket_windows(settings, model, corpus)
    plan = of.plan

    def made(k: int) -> LatentStore:
        return bucketed.prepare(
            workdir / "buckets" / str(plan.buckets[k]), k, of, base, corpus, windows, model.vae, vae,
            references=settings.renderer.references, crop=settings.data.crop, enlarge=settings.data.enlarge,
            most=most_references(model),
        )  # fmt: skip

    stores = [
        first_makes(f"latents {size}", partial(made, k)) if plan.members(k) else None
        for k, size in enumerate(plan.buckets)
    ]
    return of, stores


def principal_start(model: Model, params: Any, corpus: Corpus, frames: int = 512) -> Any:
    """The autoencoder's first weights from the principal components of some training frames, spread over the videos."""
    records, videos = corpus.motions("train"), streams.video_indices(corpus, "train")
    each = max(1, frames // max(len(videos), 1))
    chosen = []
    for i in videos:
        video = records.video(i)
        chosen.append(video[np.linspace(0, len(video) - 1, each).round().astype(int)])
    if not chosen:
        return params  # the stream says what is missing
    return initialise_from_frames(model.vae, params, streams.to_model_range(np.concatenate(chosen)))


def _check(settings: Settings) -> None:
    for name, value in flatten(settings).items():
        named = name.endswith((".init", "_encoder")) or name == "tokenizer.path"
        if named and value and not Path(value).exists():
            raise SignerError(f"config.{name} {value}: no such file or folder; give where the published one lies")
    check_stages(settings)
    conditions.check(settings)
    model, published = models.describe(settings, _known_pieces(settings))  # refuses what does not fit
    if model.renderer is not None:
        exchanges(settings.renderer.context_attention, model.renderer.transformer.heads, mesh_of(settings).shape)
        check_offload(settings.remat, jax.local_devices()[0])
    for described in published.values():
        described.check()
    read = model.vae is not None and "vae" in settings.stages and not settings.vae.buckets
    if read and (fault := frames_fault(settings.vae.window, model.vae.temporal_ratio)):
        raise SignerError(f"config.vae.window {settings.vae.window}: {fault}")
    for part, _ in bucketed_parts(settings):  # of a corpus all videos have one size
        fitting_buckets(part, settings, model, [buckets.Clip(1, *settings.data.size)])
    ruled = [name for name in settings.stages if settings.stage(name).trains != FULL or settings.stage(name).rates]
    params = jax.eval_shape(lambda: models.init(model, settings, {}, 0)) if ruled else {}
    for name in ruled:
        check_rules(stage_of(name, model, settings, 0), params)


def check_stages(settings: Settings) -> None:
    """Raises `SignerError` for stages that are unknown, lack what they build on or the data that they learn from."""
    stages = settings.stages
    if unknown := [stage for stage in stages if stage not in TRAINED]:
        raise SignerError(
            f"config.stages: unknown stage {unknown[0]!r}{closest(unknown[0], TRAINED)}; known: {', '.join(TRAINED)}"
        )
    for i, name in enumerate(stages):
        if name in stages[:i]:
            raise SignerError(f"config.stages {stages}: {name!r} is named twice; name each stage once")
        needs = REQUIRES.get(name, ())
        for need in (*needs, *USES.get(name, ())):
            # One that comes later would change what this stage was trained on, published or not.
            if need in stages[i:] or (need in needs and need not in stages[:i] and not _published(settings, need)):
                other = f", or config.{need}.init" if need in needs and need in PUBLISHED and need not in stages else ""
                raise SignerError(f"config.stages {stages}: {name!r} needs {need!r} before it{other}")
        there = trains(settings.data)
        for kind in LEARNS_FROM[name]:
            if not there[kind]:
                ours = settings.data.corpus == "builtin"
                mend = f"raise config.data.{kind}.train" if ours else "choose another corpus"
                more = " (of the sentences the first are performed, of these the first are rendered)" if ours else ""
                raise SignerError(
                    f"config.stages {stages}: {name!r} learns from {kind}, of which the training split of "
                    f"{settings.data.corpus} has none{more}; {mend}, or leave that stage out"
                )
    if not settings.tokenizer.path and settings.tokenizer.mask != MASK:
        raise SignerError(
            f"config.tokenizer.mask {settings.tokenizer.mask!r}: the vocabulary that the run trains itself has "
            f"{MASK!r}; leave it so, or name a published one by config.tokenizer.path"
        )


def _known_pieces(settings: Settings) -> int:
    """The size of the vocabulary, as far as it is known before the run trains one of its own: at most the config's."""
    if settings.tokenizer.path and any("sentences" in LEARNS_FROM[stage] for stage in settings.stages):
        return Tokenizer.load(settings.tokenizer.path, mask=settings.tokenizer.mask).vocab_size
    return 0 if settings.slul.init else settings.tokenizer.vocab_size


def _published(settings: Settings, stage: str) -> bool:
    return stage in PUBLISHED and bool(getattr(settings, stage).init)
