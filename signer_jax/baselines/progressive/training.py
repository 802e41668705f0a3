"""Training a Progressive Transformer through the one train loop, in a folder of its own; and the poses it makes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import grain
import jax
import jax.numpy as jnp
import numpy as np

from signer_jax import mirror
from signer_jax import workdir as folder
from signer_jax.baselines.progressive import model
from signer_jax.data import prepare, streams
from signer_jax.data.prepared.reading import opened
from signer_jax.data.records import Corpus
from signer_jax.data.windows import pad
from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.skeleton import on_joints
from signer_jax.progress import progress
from signer_jax.settings import Settings
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.training import input_pipeline, partitioning
from signer_jax.training.checkpoints import Checkpoints, read_params
from signer_jax.training.loop import Objective, Program, Stage, fit
from signer_jax.training.monitoring import Monitor
from signer_jax.training.preemption import Notice
from signer_jax.training.there import latest_step
from signer_jax.types import Pose, Sample

NAME = "progressive"  # of its stage, the only one in its folder
_ROWS = 32  # texts that are signed at a time


def alone(settings: Settings) -> Settings:
    """The settings of its folder: a run's, with no stage but this one. Raises `SignerError` for heads of no width."""
    c = settings.progressive
    if c.d_model % c.heads:
        raise SignerError(
            f"config.progressive.d_model {c.d_model}: must be a multiple of config.progressive.heads {c.heads}"
        )
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
    corpus = prepare.prepare(settings.data, settings.data.seed, workdir / "data")
    tokenizer = input_pipeline.open_tokenizer(settings, workdir, corpus)
    places = learned_from(corpus, settings.progressive.max_frames)
    if tokenizer is None or not places:
        raise SignerError(
            f"config.data.corpus {settings.data.corpus!r}: its training split has no pose with a text of at most "
            f"config.progressive.max_frames = {settings.progressive.max_frames} frames; raise that, or take another"
        )
    if latest_step(mirror.checkpoints(workdir) / NAME) == c.steps:
        return
    module = model.build(settings.progressive, tokenizer.vocab_size)
    reading = streams.Reading(
        c.batch, settings.seed, settings.data.read_threads, settings.data.prefetch,
        partitioning.local_rows(c.batch, mesh),
    )  # fmt: skip
    made: Callable[..., Any] = jax.jit(module.init)
    params = {NAME: made(jax.random.key(settings.seed), *model.example(module))["params"]}
    stage = Stage(
        name=NAME, objective=make_objective(module, settings.progressive.noise), parts=(NAME,), training=c,
        optimizers=settings.optimizers, lora=settings.lora, nonfinite_steps=settings.nonfinite_steps,
        spike=settings.spike,
    )  # fmt: skip
    keeping = settings.keep_checkpoints, int(settings.keep_best)
    with Checkpoints(mirror.checkpoints(workdir) / NAME, *keeping) as saved, folder.Clock(workdir, NAME):
        fit(
            Program(stage, params, mesh), params, batches(corpus, places, tokenizer, settings, reading),
            seed=settings.seed, checkpoints=saved, monitor=Monitor(workdir / "tensorboard"),
            log_every=settings.log_every, checkpoint_every=settings.checkpoint_every, notice=notice,
            stopped=workdir / "stopped",
        )  # fmt: skip


def learned_from(corpus: Corpus, most: int) -> list[int]:
    """The places of the training motions that have a text and a pose of at most so many frames."""
    if not corpus.count("train", "pose"):
        return []
    listed = corpus.listed("train")
    return [k for k, text in enumerate(corpus.captions("train")) if text.strip() and listed[k][0] <= most]


def batches(
    corpus: Corpus, places: Sequence[int], tokenizer: Tokenizer, settings: Settings, reading: streams.Reading
) -> grain.DatasetIterator:
    """Endless: `source [b, s]`, `frames [b, t, j, c]`, `confidence [b, t, j]`, `length [b]`."""
    records, c, s = corpus.motions("train"), settings.progressive, settings.data.max_source
    joints = skeleton.subset(c.joints)

    def transform(k: int, rng: np.random.Generator) -> dict[str, Any]:
        sample = records[places[k]]
        pose = on_joints(records.posed(sample, places[k]), joints, model.DIMS)
        frames = np.zeros((c.max_frames, len(joints), model.DIMS), np.float32)
        confidence = np.zeros(frames.shape[:2], np.float32)
        n = min(len(pose), c.max_frames)
        confidence[:n] = pose.confidence[:n]
        frames[:n] = np.where(confidence[:n, :, None] > 0, pose.coordinates[:n], 0.0)
        source = pad(tokenizer.encode_source(sample.text, sample.language), s)
        return {"source": source, "frames": frames, "confidence": confidence, "length": np.array(n, np.int32)}

    return streams.iterate(range(len(places)), transform, reading, "poses with a text")


def make_objective(module: model.ProgressiveTransformer, noise: float) -> Objective:
    """The squared errors of the frames and of the counter. The frames that it is shown are noisy (their 3.3), since
    what it goes on from when it signs is its own.
    """

    def objective(params: Any, batch: dict[str, Any], rng: Any) -> tuple[Any, dict[str, Any]]:
        frames, lengths = batch["frames"], batch["length"]
        noises, dropout = jax.random.split(rng)
        shown = model.shifted(frames + noise * jax.random.normal(noises, frames.shape))
        counters = model.shifted(model.counters_of(lengths, frames.shape[1]))
        said: Any = module.apply(
            {"params": params[NAME]}, batch["source"], shown, counters, train=True, rngs={"dropout": dropout}
        )
        poses, counted = said
        errors = model.losses(poses, counted, frames, batch["confidence"], lengths)
        pose, counter = (terms.mean() for terms in errors)
        return pose + counter, {"pose": pose, "counter": counter}

    return objective


@dataclass(frozen=True)
class Trained:
    """Texts -> poses on all joints of the skeleton, of which those of `config.progressive.joints` are shown."""

    settings: Settings
    module: model.ProgressiveTransformer
    params: Any
    tokenizer: Tokenizer
    fps: float

    @classmethod
    def open(cls, workdir: Path) -> Self:
        """Of a finished training. Raises `SignerError`."""
        settings = folder.load_settings(workdir)
        corpus = opened(workdir / "data")
        tokenizer = input_pipeline.made_tokenizer(settings, workdir, corpus)
        assert tokenizer is not None
        params = read_params(mirror.checkpoints(workdir) / NAME)[NAME]
        module = model.build(settings.progressive, tokenizer.vocab_size)
        return cls(settings, module, params, tokenizer, float(corpus.about["fps"]))

    def sign(self, samples: Sequence[Sample]) -> list[Pose]:
        """The pose of each text. Raises `SignerError` for a language that has no tag."""
        c, s = self.settings.progressive, self.settings.data.max_source
        joints, found = skeleton.subset(c.joints), list[Pose]()
        for start in progress(range(0, len(samples), _ROWS), "progressive transformer"):
            some = [*samples[start : start + _ROWS]]
            rows = [*some, *([some[-1]] * (_ROWS - len(some)))]  # one shape for all
            source = np.stack([pad(self.tokenizer.encode_source(row.text, row.language), s) for row in rows])
            frames, lengths = map(
                np.asarray, model.generate(self.module, self.params, jnp.asarray(source), c.max_frames)
            )
            found += [whole(frames[k, : lengths[k]], joints, self.fps) for k in range(len(some))]
        return found


def whole(frames: np.ndarray, joints: np.ndarray, fps: float) -> Pose:
    """A pose on all joints of the skeleton, of which these are shown: `frames [t, j, 2]`."""
    coordinates = np.zeros((len(frames), len(skeleton.JOINTS), 3), np.float32)
    coordinates[:, joints, : model.DIMS] = frames
    confidence = np.zeros(coordinates.shape[:2], np.float32)
    confidence[:, joints] = 1.0
    return Pose(coordinates, confidence, fps)


def _mesh() -> jax.sharding.Mesh:
    """Its devices share the rows of a batch: so small a model lies whole on each."""
    return partitioning.make_mesh({"data": -1})
