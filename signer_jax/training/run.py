"""A whole run: the corpus, then each stage with what it needs, to the last checkpoint."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from signer_jax import mirror, storage
from signer_jax import model as models
from signer_jax import workdir as folder
from signer_jax.data import streams
from signer_jax.data.prepare import advice, trains, video_sizes, why_none
from signer_jax.data.prepare import check as check_corpus
from signer_jax.data.prepare import prepare as prepare_corpus
from signer_jax.data.prepared import reading
from signer_jax.data.records import Corpus
from signer_jax.distributed import first_makes, first_says
from signer_jax.errors import SignerError, closest
from signer_jax.interop import kept
from signer_jax.model import TRAINED, Model
from signer_jax.renderer.attention import check_exchange
from signer_jax.renderer.remat import check_offload
from signer_jax.renderer.vae_initialisation import initialise_from_frames
from signer_jax.renderer.variants import frames_fault
from signer_jax.settings import Settings, SlulTraining, flatten
from signer_jax.slul.tokenizer import MASK, Tokenizer
from signer_jax.training import compiled_step, conditions, encoders, environment, input_pipeline, lora, partitioning
from signer_jax.training.checkpoints import Checkpoints, Damaged
from signer_jax.training.held import Weights
from signer_jax.training.loop import Program, Stage, cut, finished, fit
from signer_jax.training.monitoring import Monitor
from signer_jax.training.objectives import make_objective
from signer_jax.training.preemption import Notice
from signer_jax.training.selection import Score, Selection
from signer_jax.training.there import latest_step, leave_behind, pass_over
from signer_jax.training.trained import FULL, LORA, join

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
Show = Callable[[str, Model, Monitor, int, dict[str, Any], Callable[[], bool]], None]  # of a stage: step and parameters
Scored = Callable[[Model], Score]  # how good SLUL's parameters are, made when its stage begins


def mesh_of(settings: Settings) -> jax.sharding.Mesh:
    return partitioning.make_mesh(asdict(settings.mesh))


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
        offload_optimizer=settings.offload_optimizer,
    )


def selection_of(name: str, model: Model, settings: Settings, scored: Scored | None) -> Selection | None:
    """How a stage chooses what it gives; None for what it has after its last step."""
    c = settings.stage(name)
    if not isinstance(c, SlulTraining) or not c.select_every:
        return None
    score = None
    if c.select_by != "last":
        if scored is None:
            raise ValueError("run: config.train.slul.select_by asks for a score; give `train` one (signer_jax.scores)")
        score = scored(model)
    return Selection(c.select_every, score, patience=c.patience, average=c.average)


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
    settings: Settings, workdir: Path, notice: Notice | None = None, profile: int = 0, show: Show | None = None,
    scored: Scored | None = None,
) -> tuple[Model, dict[str, Any]]:  # fmt: skip
    """Trains every stage, resuming each from its newest checkpoint; returns the model and its parameters, on the mesh.

    Inside of `claimed`. So many steps of each stage as `profile` says are traced. `show`, if any, is called every
    `samples_every` steps and at each stage's end; `scored` is needed where SLUL's stage chooses by a score. Raises
    `SignerError` for bad input, and `Preempted` where `notice` stops it; what was trained before it stays.
    """
    while True:
        try:
            return _train(settings, workdir, notice, profile, show, scored)
        except Damaged as damage:  # of a stage that was over: it goes on from the checkpoint before
            if jax.process_count() > 1:  # one may have met it alone, and the others wait elsewhere
                leave_behind(damage)
            pass_over(damage)


def _train(
    settings: Settings, workdir: Path, notice: Notice | None, profile: int, show: Show | None, scored: Scored | None
) -> tuple[Model, dict[str, Any]]:  # fmt: skip
    named, settings = settings, kept.local(settings, workdir)
    mesh = mesh_of(settings)
    monitor = Monitor(workdir / "tensorboard")
    if jax.process_index() == 0:
        facts = environment.environment(mesh)
        environment.write(workdir, facts)
        if any(
            latest_step(mirror.checkpoints(workdir) / name) != settings.stage(name).steps for name in settings.stages
        ):
            monitor.text("environment", 0, environment.rows(facts), ("what", "of this start"))
    # ---- Data ------------------------------------------------------------------------------------------------------
    with folder.Clock(workdir, "data"):
        said = advice(settings.data, workdir / "data", jax.process_count())
        if said and jax.process_index() == 0:
            print(f"signer: {said}", file=sys.stderr)
        corpus = first_makes(
            "corpus", lambda: prepare_corpus(settings.data, settings.data.seed, workdir / "data"),
            lambda: reading.opened(workdir / "data", settings.data.decode_processes),
            lambda: mirror.there(workdir / "data" / storage.MANIFEST),
        )  # fmt: skip
        tokenizer = first_makes(
            "tokenizer", lambda: input_pipeline.open_tokenizer(settings, workdir, corpus),
            lambda: input_pipeline.made_tokenizer(settings, workdir, corpus),
            lambda: mirror.there(workdir / "tokenizer.model"),
        )  # fmt: skip
        if tokenizer is not None and jax.process_index() == 0:
            for line in input_pipeline.told_of_texts(settings, corpus, tokenizer):
                print(f"signer: {line}", file=sys.stderr)
        if jax.process_index() == 0:
            for line in encoders.said(settings):
                print(f"signer: {line}", file=sys.stderr)
    # ---- Model -----------------------------------------------------------------------------------------------------
    vocab_size = tokenizer.vocab_size if tokenizer else 0
    weights = Weights.of(settings, vocab_size, workdir, mesh)
    model = weights.model
    stages = [stage_of(name, model, settings, tokenizer.mask_id if tokenizer else 0) for name in settings.stages]
    for stage in stages:
        check_rules(stage, weights.shapes)
    if not settings.allow_whole:
        _check_split(settings.stages, weights)
    for line in input_pipeline.told(settings, model, corpus):
        if jax.process_index() == 0:
            print(f"signer: {line}", file=sys.stderr)
    published = workdir / kept.NAME / storage.MANIFEST
    if said := first_makes("published", lambda: kept.keep(named, workdir), str, lambda: mirror.there(published)):
        print(f"signer: {said}", file=sys.stderr)
    settings = kept.local(named, workdir)  # what is read from here on is the run's own
    if settings != weights.settings:
        weights = Weights.of(settings, vocab_size, workdir, mesh)

    # ---- Stages ----------------------------------------------------------------------------------------------------
    params = _train_stages(stages, weights, corpus, tokenizer, monitor, notice, profile, show, scored)
    params = weights.ready(params, weights.for_signing(), settings.stages)
    # What signing reads is there at the end, also where all stages were done and somebody removed it.
    if model.slp_moe is not None or model.renderer is not None:
        rendered = input_pipeline.as_rendered(settings, corpus)
        windows = input_pipeline.motion_windows(settings, workdir, rendered, tokenizer, model, experts=True)
        if model.renderer is not None:
            latents = input_pipeline.cached_latents(settings, workdir, rendered, windows, model, params, mesh)
            vae = partitioning.here(params["vae"], mesh)
            conditions.prepare(settings, workdir, rendered, windows, latents, model, vae)
    return model, params


def _train_stages(
    stages: Sequence[Stage], weights: Weights, corpus: Corpus, tokenizer: Tokenizer | None, monitor: Monitor,
    notice: Notice | None, profile: int, show: Show | None, scored: Scored | None,
) -> dict[str, Any]:  # fmt: skip
    """Trains every stage that is not over; returns the parameters that the last ones left in memory."""
    settings, workdir, mesh, model = weights.settings, weights.workdir, weights.mesh, weights.model
    params = dict[str, Any]()
    for k, (name, stage) in enumerate(zip(settings.stages, stages, strict=True)):
        directory = mirror.checkpoints(workdir) / name
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
        selection = selection_of(name, model, settings, scored)
        best = selection.average if selection else int(settings.keep_best)
        keeping = settings.keep_checkpoints, best, weights.beside(name)
        with Checkpoints(directory, *keeping) as checkpoints, folder.Clock(workdir, name):
            moving, frozen = weights.for_stage(name)
            encoder = {path: kind for path, kind in frozen.items() if path.startswith("vae/")}
            if encoder and "vae" not in params:
                params |= weights.read(encoder, settings.stages[:k])
            # With it alone: text encoders are there for a while, and there may be no room for them and the renderer.
            batches = input_pipeline.stage_batches(
                name, settings, workdir, corpus, tokenizer, model, params, settings.seed + k, mesh
            )
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
            program = Program(stage, params, mesh)
            step = compiled_step.step_of(program, settings.compiled) if settings.compiled else program.step
            learned = fit(
                program, params, batches,
                seed=settings.seed + 1000 * (k + 1), checkpoints=checkpoints, monitor=monitor,
                log_every=settings.log_every, checkpoint_every=settings.checkpoint_every, notice=notice,
                stopped=workdir / "stopped", profile=profile, step=step, show_every=settings.samples_every,
                show=show and partial(show, name, model, monitor), selection=selection,
            )  # fmt: skip
            left = params.keys() - weights.spent(params, learned)
            params, learned = ({part: tree[part] for part in tree if part in left} for tree in (params, learned))
            params = finished(stage, params, learned)
            del learned, batches  # and what they hold
    return params


def principal_start(model: Model, params: Any, corpus: Corpus, frames: int = 512) -> Any:
    """The autoencoder's first weights from the principal components of some training frames, spread over the videos:
    of more videos than `frames` a frame each of so many.
    """
    records, videos = corpus.motions("train"), streams.indices_of_size(corpus, "train")
    each = max(1, frames // max(len(videos), 1))
    chosen = []
    for place in streams.spread(len(videos), frames):
        video = records.video(videos[place])
        chosen.append(video[np.linspace(0, len(video) - 1, each).round().astype(int)])
    if not chosen:
        return params  # the stream says what is missing
    return initialise_from_frames(model.vae, params, streams.to_model_range(np.concatenate(chosen)))


def _check(settings: Settings) -> None:
    for name, value in flatten(settings).items():
        named = name.endswith((".init", "_encoder")) or name == "tokenizer.path"
        if named and value and not Path(value).exists():
            raise SignerError(f"config.{name} {value}: no such file or folder; give where the published one lies")
    if settings.compiled:
        compiled_step.check(settings.compiled, settings.stages)
    device = jax.local_devices()[0]
    if settings.offload_optimizer and not partitioning.reaches_host(device):
        raise SignerError(
            f"config.offload_optimizer: {device.platform} devices reach no memory of the host's here; leave it false"
        )
    check_stages(settings)
    input_pipeline.text_buckets(settings.data)  # refuses what is none
    encoders.check(settings)
    mesh = mesh_of(settings)
    model, published = models.describe(settings, _known_pieces(settings, mesh.size))  # refuses what does not fit
    if model.renderer is not None:
        check_exchange(settings.renderer.context_attention, model.renderer.transformer.heads, mesh.shape)
        check_offload(settings.remat, jax.local_devices()[0])
    for described in published.values():
        described.check()
    read = model.vae is not None and "vae" in settings.stages and not settings.vae.buckets
    if read and (fault := frames_fault(settings.vae.window, model.vae.temporal_ratio)):
        raise SignerError(f"config.vae.window {settings.vae.window}: {fault}")
    for part, _ in input_pipeline.bucketed_parts(settings):
        input_pipeline.fitting_buckets(part, settings, model, video_sizes(settings.data))
    input_pipeline.check_all_bucketed(settings)
    ruled = [name for name in settings.stages if settings.stage(name).trains != FULL or settings.stage(name).rates]
    split = not settings.allow_whole and mesh.size > mesh.shape["data"]
    params = jax.eval_shape(lambda: models.init(model, settings, {}, 0)) if ruled or split else {}
    for name in ruled:
        check_rules(stage_of(name, model, settings, 0), params)
        if LORA in settings.stage(name).trains:
            where = "config.lora.targets"
            lora.check_held(lora.places(params, TRAINED[name], settings.lora.targets, where), published, where)
    if split:  # once more with the corpus's own vocabulary
        _check_split(settings.stages, Weights(settings, Path(), model, {}, {}, params, mesh))


def _check_split(stages: Sequence[str], weights: Weights) -> None:
    for name in stages:
        trains, reads = weights.for_stage(name)
        partitioning.check_split(weights.shapes_of(trains | reads), weights.mesh)


def check_stages(settings: Settings) -> None:
    """Raises `SignerError` for stages that are unknown, lack what they build on or the data that they learn from."""
    stages = settings.stages
    if unknown := [stage for stage in stages if stage not in TRAINED]:
        raise SignerError(
            f"config.stages: unknown stage {unknown[0]!r}{closest(unknown[0], TRAINED)}; known: {', '.join(TRAINED)}"
        )
    there = trains(settings.data)
    for i, name in enumerate(stages):
        if name in stages[:i]:
            raise SignerError(f"config.stages {stages}: {name!r} is named twice; name each stage once")
        needs = REQUIRES.get(name, ())
        for need in (*needs, *USES.get(name, ())):
            # One that comes later would change what this stage was trained on, published or not.
            if need in stages[i:] or (need in needs and need not in stages[:i] and not _published(settings, need)):
                other = f", or config.{need}.init" if need in needs and need in PUBLISHED and need not in stages else ""
                raise SignerError(f"config.stages {stages}: {name!r} needs {need!r} before it{other}")
        for kind in LEARNS_FROM[name]:
            if not there[kind]:
                ours = settings.data.corpus == "builtin"
                mend = f"raise config.data.{kind}.train" if ours else "choose another corpus"
                more = " (of the sentences the first are performed, of these the first are rendered)" if ours else ""
                more = f" ({why})" if (why := why_none(settings.data, kind)) else more
                raise SignerError(
                    f"config.stages {stages}: {name!r} learns from {kind}, of which the training split of "
                    f"{settings.data.corpus} has none{more}; {mend}, or leave that stage out"
                )
    if not settings.tokenizer.path and settings.tokenizer.mask != MASK:
        raise SignerError(
            f"config.tokenizer.mask {settings.tokenizer.mask!r}: the vocabulary that the run trains itself has "
            f"{MASK!r}; leave it so, or name a published one by config.tokenizer.path"
        )
    if settings.tokenizer.path and (settings.tokenizer.whole_glosses or settings.tokenizer.dropout):
        raise SignerError(
            "config.tokenizer.whole_glosses, config.tokenizer.dropout: they are of a vocabulary that the run trains; "
            "set both to 0, or leave config.tokenizer.path empty"
        )


def _known_pieces(settings: Settings, ways: int) -> int:
    """The size of the vocabulary, as far as it is known before the run trains one of its own: of at most the config's,
    which the corpus decides, one that so many devices can split.
    """
    if settings.tokenizer.path and any("sentences" in LEARNS_FROM[stage] for stage in settings.stages):
        return Tokenizer.load(settings.tokenizer.path, mask=settings.tokenizer.mask).vocab_size
    return 0 if settings.slul.init else max(1, settings.tokenizer.vocab_size // ways) * ways


def _published(settings: Settings, stage: str) -> bool:
    return stage in PUBLISHED and bool(getattr(settings, stage).init)
