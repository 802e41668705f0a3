"""The baselines without training: least squares by hand, dictionaries, one signer's signs."""

from types import SimpleNamespace

import numpy as np
import pytest

from signer_jax.baselines import retrieval
from signer_jax.baselines.regression import Regression, ridge
from signer_jax.baselines.stitching import by_words, dictionary, first, stitched
from signer_jax.data.prepared.reading import opened
from signer_jax.evaluation.experts import expert_order
from signer_jax.pipeline import Signer
from signer_jax.pose.skeleton import JOINTS
from signer_jax.types import Pose, Sample


def test_ridge_is_least_squares_that_shrinks_all_but_the_constant():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(30, 2)), np.ones((30, 1))], axis=1)
    y = x @ np.array([[2.0], [-1.0], [5.0]])
    np.testing.assert_allclose(ridge(x, y, 0.0), [[2], [-1], [5]], atol=1e-9)
    held = ridge(x, y, 1e9)
    np.testing.assert_allclose(held[:2], 0, atol=1e-6)
    np.testing.assert_allclose(held[2], y.mean(), atol=1e-6)


def test_regression_gives_the_mean_of_two_right_poses():
    """One word, signed with the hand left or right: what is in the middle, which nobody signs."""

    def sample(name: str, at: float) -> Sample:
        coordinates = np.zeros((10, len(JOINTS), 3), np.float32)
        coordinates[..., 0] = at
        return Sample(name, "rain", "ase", pose=Pose(coordinates, np.ones((10, len(JOINTS)), np.float32), 16.0))

    records = [sample("a", -1.0), sample("b", 1.0)]
    corpus = SimpleNamespace(count=lambda *_: 2, motions=lambda _: records, about={"fps": 16.0})
    made = Regression.of(corpus, "signing_74")
    assert made is not None
    (pose,) = made.sign([records[0]])
    shown = pose.confidence[0] > 0
    assert len(pose) == 10 and shown.sum() == 74
    np.testing.assert_allclose(pose.coordinates[:, shown], 0, atol=1e-5)
    (unknown,) = made.sign([Sample("c", "snow", "ase")])
    assert np.isfinite(unknown.coordinates).all()
    assert Regression.of(SimpleNamespace(count=lambda *_: 0), "signing_74") is None


def test_a_dictionary_gives_each_word_its_gloss():
    texts = [Sample(str(i), "the house is old" if i % 2 else "the dog is old", "ase",
                    ("HOUSE" if i % 2 else "DOG", "OLD")) for i in range(12)]  # fmt: skip
    corpus = SimpleNamespace(count=lambda *_: 12, texts=lambda _: texts)
    meaning = dictionary(corpus)["ase"]
    assert by_words("Old dog, house.", meaning)[1:] == ["DOG", "HOUSE"]
    assert by_words("snow", meaning) == []


def test_signs_are_stitched_by_the_first_signer_who_has_them(tiny_run):
    signer = Signer.load(tiny_run, parts=("slul", "slp_moe", "stabiliser"))
    order = expert_order(signer)
    sample = signer.corpus.motions("dev")[0]
    pose = stitched(sample.glosses, sample.language, signer.retrieval, order, 0.25)
    assert pose is not None and pose.fps == signer.fps and len(pose) > 10
    assert stitched(("NO-SUCH-SIGN",), sample.language, signer.retrieval, order, 0.25) is None
    a, b = SimpleNamespace(signer="a"), SimpleNamespace(signer="b")
    assert first([None, a, b], [0, 2, 1]) is b


def test_retrieval_gives_a_recording_of_training(tiny_run):
    corpus = opened(tiny_run / "data")
    samples = [corpus.motions("dev")[k] for k in range(2)]
    found = retrieval.sign(corpus, samples)
    lengths = {frames for frames, *_ in corpus.listed("train")}
    assert all(pose is not None and len(pose) in lengths for pose in found)


@pytest.mark.parametrize("order", [[0], [1, 0]])
def test_the_first_expert_that_has_an_entry_is_taken(order):
    entry = SimpleNamespace()
    assert first([entry, None], order) is entry
