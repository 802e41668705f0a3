"""Glosses -> pose: whose query and whose look each sign has, given times, batches, the same gates as in training."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.data import records
from signer_jax.data.windows import Limits, MotionWindows
from signer_jax.errors import SignerError
from signer_jax.model import Model
from signer_jax.pose import skeleton
from signer_jax.pose.letters import core
from signer_jax.pose.prior import REST, Entry, Prior
from signer_jax.slp_moe.experts import SLPMoE
from signer_jax.slp_moe.retrieval import Retrieval
from signer_jax.slp_moe.stabiliser import Stabiliser
from signer_jax.slul.t5 import T5
from signer_jax.stations import perform as station
from signer_jax.stations.perform import Performer, Timing, most_by, perform, perform_many
from signer_jax.training.objectives import blended_pose
from signer_jax.types import Pose, Sample

WORDS = ("HOUSE", "TREE", "AB", "§", "#A", "#B")
JOINTS = skeleton.subset("upper_50")
S, D, GLOSSES, TARGET = 5, 8, 4, 8


class OneTokenAGloss:
    """A tokenizer whose glosses are one token each, from 3 on."""

    def gloss_target(self, glosses, length):
        target, belongs = np.zeros(length, np.int32), np.full(length, -1, np.int32)
        ids = [*(3 + WORDS.index(gloss) for gloss in glosses), 1]
        target[: len(ids)], belongs[: len(glosses)] = ids, np.arange(len(glosses))
        return target, belongs

    def encode_source(self, text, language, *_):
        return [3, 4, 1]

    def cut(self, source, length):
        return source[:length]

    def encode_gloss(self, glosses):
        return [*(3 + WORDS.index(gloss) for gloss in glosses), 1]


def pose(frames: int, seed: int) -> Pose:
    steps = np.random.default_rng(seed).normal(0, 0.02, (frames, 128, 3)).cumsum(axis=0)
    return Pose(steps.astype(np.float32) + seed, np.ones((frames, 128), np.float32), 16.0)


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> Prior:
    """Both signers know HOUSE and TREE, only "b" the letters; "a" rests at 0."""
    signs = [("HOUSE", "a"), ("HOUSE", "b"), ("TREE", "a"), ("TREE", "b"), ("#A", "b"), ("#B", "b")]
    entries = [
        (Entry(gloss, "ase", who, source=f"{gloss} {who}"), pose(4 + i, i)) for i, (gloss, who) in enumerate(signs)
    ]
    entries.append((Entry(REST, "", "a"), pose(1, 0)))
    return Prior.build(entries, tmp_path_factory.mktemp("prior") / "prior", fps=16.0)


def make(prior: Prior, gating: str) -> tuple[Performer, Model]:
    retrieval = Retrieval(prior, JOINTS, 2, experts=2, glosses=GLOSSES)
    t5 = T5(
        vocab_size=12, d_model=D, d_kv=4, d_ff=8, heads=2, encoder_layers=1, decoder_layers=1, relative_buckets=8,
        relative_max_distance=16, activation="relu", tie_embeddings=False, relative_bias_every_layer=False, dropout=0.0,
    )  # fmt: skip
    slp_moe, stabiliser = SLPMoE(experts=2, gating=gating, hidden=8, layers=1), Stabiliser(hidden=8, layers=1, kernel=3)
    keys = iter(jax.random.split(jax.random.key(0), 100))

    def initial(module, *inputs, **options):
        params = jax.jit(lambda key: module.init(key, *inputs, **options))(next(keys))["params"]
        return jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(next(keys), leaf.shape), params)

    j, ids = len(JOINTS), jnp.ones((1, 4), jnp.int32)
    params = {
        "slul": initial(t5, ids, ids),
        "slp_moe": initial(
            slp_moe, jnp.zeros((1, S, D)), jnp.ones((1, S), bool), jnp.zeros((1, 2, 3, j, 2)), jnp.ones((1, 2, 3, j)),
            jnp.zeros((1, GLOSSES, 2, 7 * j)), jnp.ones((1, GLOSSES, 2), bool), jnp.ones((1, 3, GLOSSES)),
            gloss_query=jnp.zeros((1, GLOSSES, D)),
        ),
        "stabiliser": initial(stabiliser, jnp.zeros((1, 8, j, 2)), jnp.ones((1, 8, j))),
    }  # fmt: skip
    performer = Performer(t5, slp_moe, stabiliser, params, OneTokenAGloss(), retrieval, TARGET, transition=0.25)
    return performer, Model(JOINTS, np.arange(2), t5, slp_moe, stabiliser)


@pytest.fixture(scope="module")
def performer(prior) -> Performer:
    return make(prior, "sentence")[0]


def semantics(b: int = 1, seed: int = 3):
    return np.random.default_rng(seed).normal(size=(b, S, D)).astype(np.float32), np.ones((b, S), bool)


class FirstWeightIsTheQuery:
    """Gates that put the token that they are asked with into the first expert's weight."""

    gating = "gloss"

    def apply(self, variables, H, mask, features, exists, gloss_query, method):
        return jnp.stack([gloss_query @ jnp.arange(12.0), jnp.full(exists.shape[:2], -1.0)], axis=-1)


class StatesAreTokens:
    def apply(self, variables, ids, H, mask, method):
        return jax.nn.one_hot(ids, 12)


def test_every_sign_asks_with_the_query_of_its_own_gloss(prior, performer):
    """Behind a word of two letters the glosses are no longer at the signs' places, and there are more signs than n."""
    fake = Performer(
        StatesAreTokens(), FirstWeightIsTheQuery(), performer.stabiliser, performer.params, OneTokenAGloss(),
        performer.retrieval, TARGET, 0.25,
    )  # fmt: skip
    glosses = ("HOUSE", "AB", "§", "TREE", "HOUSE")
    done = perform(glosses, *semantics(), "ase", fake)
    assert [sign.label for sign in done.signs] == ["HOUSE", "#A", "#B", "TREE", "HOUSE"]
    assert done.fingerspelled == ("AB",) and done.skipped == ("§",)
    asked = [3 + WORDS.index(gloss) for gloss in ("HOUSE", "AB", "AB", "TREE", "HOUSE")]
    np.testing.assert_allclose(done.weights[:, 0], asked)


def test_what_is_performed_is_said(prior, performer):
    done = perform(("HOUSE", "AB"), *semantics(), "ase", performer)
    assert len(done.entries) == len(done.spans) == len(done.weights) == 3
    for sign, entry, expert, (start, end) in zip(done.signs, done.entries, done.experts, done.spans, strict=True):
        assert sign.slots[expert] == entry and entry.gloss == sign.label
        shown = prior.pose(entry) if sign.gloss == 0 else core(prior.pose(entry))  # AB is spelled
        places = range(start, end - len(shown) + 1)
        assert any((done.stitched.coordinates[i : i + len(shown)] == shown.coordinates).all() for i in places)
        assert sign.gloss or len(places) == 1
    assert done.spans[1, 1] == done.spans[2, 0]  # letters meet in the middle of the way
    assert most_by(done.entries) == "b"
    np.testing.assert_allclose(done.weights[0].argmax(), done.experts[0])
    others = np.setdiff1d(np.arange(128), JOINTS)
    np.testing.assert_array_equal(done.pose.coordinates[:, others], done.stitched.coordinates[:, others])
    assert np.abs(done.pose.coordinates - done.stitched.coordinates)[:, JOINTS, :2].max() > 1e-4
    with pytest.raises(SignerError, match="knows none of them"):
        perform(("§",), *semantics(), "ase", performer)


def test_letters_share_the_time_that_a_gloss_is_given(performer):
    spans = np.array([[2, 5], [7, 12], [13, 14]])
    done = perform(("TREE", "AB", "AB"), *semantics(), "ase", performer, timing=Timing(spans, 20))
    assert done.spans.tolist() == [[2, 5], [7, 9], [9, 12]] or done.spans.tolist() == [[2, 5], [7, 10], [10, 12]]
    assert done.skipped == ("AB",)  # one frame is no time for two letters
    assert len(done.pose) == 20


def test_an_evaluated_samples_own_performance_is_left_out(performer):
    done = perform(("HOUSE",), *semantics(), "ase", performer, without="HOUSE a")
    assert most_by(done.entries) == "b" and done.experts == (1,)


def test_an_evaluated_samples_own_rest_is_left_out_too(performer, tmp_path):
    rests = [(Entry(REST, "", "a", source=name, priority=i), pose(1, i)) for i, name in enumerate(("one", "two"))]
    prior = Prior.build([(Entry("HOUSE", "ase", "a"), pose(4, 3)), *rests], tmp_path / "prior", fps=16.0)
    other = replace(performer, retrieval=Retrieval(prior, JOINTS, 2, experts=2, glosses=GLOSSES))
    for without, (_, rest) in zip(("", "one"), rests, strict=True):
        done = perform(("HOUSE",), *semantics(), "ase", other, without=without)
        np.testing.assert_allclose(
            done.stitched.coordinates[[0, -1]], np.repeat(rest.coordinates, 2, 0), atol=1e-3
        )  # float16


def test_a_batch_is_performed_as_its_sentences_are(performer):
    H, mask = semantics(3)
    sentences = [("HOUSE", "AB", "TREE"), ("§",), ("TREE",)]
    timings, without = [None] * 3, [""] * 3
    many = perform_many(sentences, H, mask, ["ase"] * 3, performer, timings=timings, without=without)
    assert many[1] is None
    for i in (0, 2):
        alone = perform(sentences[i], H[i : i + 1], mask[i : i + 1], "ase", performer)
        assert many[i].entries == alone.entries
        np.testing.assert_allclose(many[i].weights, alone.weights, rtol=1e-5)
        np.testing.assert_allclose(many[i].pose.coordinates, alone.pose.coordinates, atol=1e-5)


@pytest.mark.parametrize("gating", ["sentence", "gloss"])
def test_training_windows_and_signing_weigh_alike(prior, gating, tmp_path):
    """Whatever frames a training window shows, its gates are those of the whole sentence, and those of signing."""
    performer, model = make(prior, gating)
    glosses, spans = ("HOUSE", "TREE", "HOUSE"), np.array([[2, 9], [12, 20], [22, 30]])
    sample = Sample("s", "text", "ase", glosses, "a", pose(34, 9), spans)
    limits = Limits(S, TARGET, GLOSSES)
    corpus = records.write(tmp_path / "data", {"train": lambda: [sample]}, {"languages": {}})
    windows = MotionWindows(corpus.motions("train"), JOINTS, 2, limits, performer.tokenizer, performer.retrieval)
    H, mask = semantics()
    signed = perform(glosses, H, mask, "ase", performer).weights
    assert np.ptp(signed, axis=-1).min() > 1e-3
    for start, length in ((0, 34), (13, 5), (28, 9)):
        batch = {name: np.asarray(value)[None] for name, value in windows.window(0, start, length).items()}
        _, _, weights, _ = blended_pose(model, performer.params, batch, jnp.asarray(H), jnp.asarray(mask), "soft")
        np.testing.assert_allclose(weights[0, :3], signed, rtol=1e-4)


def test_spans_of_letters_by_hand():
    signs = [station.Sign("#A", 0, []), station.Sign("#B", 0, []), station.Sign("X", 1, [])]
    assert station.spans_of(signs, np.array([[0, 4], [6, 9]])).tolist() == [[0, 2], [2, 4], [6, 9]]


def test_poses_are_joined_in_order():
    joined = Pose.joined([pose(3, 1), pose(2, 2)])
    assert len(joined) == 5 and joined.fps == 16
    np.testing.assert_array_equal(joined.coordinates[3:], pose(2, 2).coordinates)
    np.testing.assert_array_equal(joined.slice(0, 3).coordinates, pose(3, 1).coordinates)


def test_poses_are_stabilised_in_few_shapes(monkeypatch):
    """Each pose comes back by itself, whatever was padded beside it."""
    shapes = Counter()

    def moved(stabiliser, params, pose, confidence, valid):
        shapes[pose.shape[:2]] += 1
        return pose + valid[..., None, None]

    monkeypatch.setattr(station, "_stabilise", moved)
    performer = SimpleNamespace(stabiliser=None, params={"stabiliser": None})
    for lengths in ((5,), (70, 3, 40, 12, 9, 64), range(1, 30)):
        poses = [Pose(np.full((n, 2, 2), k, np.float32), np.ones((n, 2), np.float32), 16.0)
                 for k, n in enumerate(lengths)]  # fmt: skip
        stable = station.stabilise(poses, performer)
        assert [len(pose) for pose in stable] == list(lengths)
        assert all((pose.coordinates == k + 1).all() for k, pose in enumerate(stable))
    assert shapes == {(1, 64): 1, (8, 128): 1, (8, 64): 4}
