"""The Progressive Transformer: places, counters, masks and losses by hand, decoding, training."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY

from signer_jax import configuration
from signer_jax.baselines.progressive import model, training
from signer_jax.data.prepared.reading import opened
from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.training.checkpoints import read_params
from signer_jax.validation import read

SMALL = model.ProgressiveTransformer(
    pieces=11, joints=3, d_model=8, heads=2, d_ff=12, encoder_layers=1, decoder_layers=2, dropout=0.0, future=2
)
SOURCE = jnp.array([[4, 5, 6, 1, 0, 0], [7, 1, 0, 0, 0, 0]])


@pytest.fixture(scope="module")
def params():
    return SMALL.init(jax.random.key(0), *model.example(SMALL))["params"]


def test_places_are_sines_and_cosines():
    found = model.places(3, 4)
    np.testing.assert_allclose(found[2], [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02)], atol=1e-6)


def test_a_counter_grows_to_one_at_the_end_and_stays():
    np.testing.assert_allclose(model.counters_of(jnp.array([4, 2]), 5), [[0.25, 0.5, 0.75, 1, 1], [0.5, 1, 1, 1, 1]])
    np.testing.assert_allclose(model.shifted(jnp.array([[1.0, 2.0, 3.0]])), [[0, 1, 2]])
    np.testing.assert_array_equal(model.ahead(np.arange(4)[None], 3)[0], [[0, 1, 2], [1, 2, 3], [2, 3, 3], [3, 3, 3]])


def test_what_a_frame_says_depends_on_no_later_frame_and_no_padding(params):
    rng = np.random.default_rng(0)
    frames, counters = rng.normal(size=(2, 6, 3, 2)), rng.uniform(size=(2, 6))
    said = SMALL.apply({"params": params}, SOURCE, frames, counters)
    frames[:, 4:], counters[:, 4:] = 9.0, 9.0
    other = SMALL.apply({"params": params}, jnp.pad(SOURCE, ((0, 0), (0, 3))), frames, counters)
    for a, b in zip(said, other, strict=True):
        np.testing.assert_allclose(a[:, :4], b[:, :4], atol=1e-5)
        assert np.abs(np.asarray(a[:, 4:] - b[:, 4:])).max() > 1e-3


def test_the_losses_count_what_the_truth_shows_within_the_sequence():
    frames, lengths = jnp.zeros((1, 3, 1, 2)), jnp.array([2])
    confidence = jnp.ones((1, 3, 1))
    said = jnp.zeros((1, 3, 2, 1, 2)).at[0, 0, 1, 0].set(2.0).at[0, 2].set(50.0).at[0, 1, 1].set(70.0)
    # Frames 0 and 1 say themselves, frame 0 the one after it: three targets, of which one is off by (2, 2).
    pose, counter = model.losses(said, jnp.array([[0.5, 0.0, 9.0]]), frames, confidence, lengths)
    np.testing.assert_allclose(pose, [8 / 3], rtol=1e-6)
    np.testing.assert_allclose(counter, [0.5], rtol=1e-6)
    hidden, _ = model.losses(said, jnp.zeros((1, 3)), frames, confidence.at[0, 1].set(0), lengths)
    np.testing.assert_allclose(hidden, [0.0])


def test_what_is_generated_is_what_teacher_forcing_says_of_it(params):
    poses, lengths = model.generate(SMALL, params, SOURCE, 5)
    counters = jnp.zeros((2, 5))
    for _ in range(5):  # the counters that it said are not given back: found again from left to right
        said, counters = SMALL.apply({"params": params}, SOURCE, model.shifted(poses), model.shifted(counters))
    np.testing.assert_allclose(said[:, :, 0], poses, atol=1e-5)
    over = np.asarray(counters) >= 0.99
    np.testing.assert_array_equal(lengths, np.where(over.any(1), over.argmax(1) + 1, 5))


@pytest.fixture(scope="module")
def trained(tiny_run, tmp_path_factory):
    """A model of a few steps on the tiny corpus."""
    workdir = tmp_path_factory.mktemp("progressive") / "run"
    train(workdir, tiny_run)
    return workdir


def train(workdir, tiny_run, *values):
    settings = training.alone(read(configuration.load(TINY, ["--config.keep_checkpoints=2", *values])))
    with training.claimed(settings, workdir):
        if not (workdir / "data").exists():
            shutil.copytree(tiny_run / "data", workdir / "data")
        training.train(settings, workdir)


def test_it_trains_alone_resumes_and_signs(trained, tiny_run, tmp_path):
    resumed = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(resumed / "checkpoints" / "progressive" / "4")
    train(resumed, tiny_run)
    leaves = [jax.tree.leaves(read_params(run / "checkpoints" / "progressive")) for run in (trained, resumed)]
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_array_equal(a, b)
    one, records = training.Trained.open(trained), opened(trained / "data").motions("dev")
    poses = one.sign([records[0], records[1]])
    joints = skeleton.subset("signing_74")
    for pose in poses:
        assert 1 <= len(pose) <= 160 and pose.fps == 16.0 and np.isfinite(pose.coordinates).all()
        shown = np.flatnonzero(pose.confidence[0])
        assert set(shown) == set(joints)


def test_heads_of_no_width_and_a_corpus_without_short_poses_are_refused(tiny_run, tmp_path):
    with pytest.raises(SignerError, match="config.progressive.d_model 16: must be a multiple of config.progressive.he"):
        training.alone(read(configuration.load(TINY, ["--config.progressive.heads=3"])))
    with pytest.raises(SignerError, match="no pose with a text of at most config.progressive.max_frames = 4 frames"):
        train(tmp_path / "run", tiny_run, "--config.progressive.max_frames=4")
