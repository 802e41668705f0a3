"""Greedy and beam search against uncached scores and brute force."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_t5 import tiny, weights

from signer_jax.slul.decoding import beam_search, greedy, next_log_probs, normalised
from signer_jax.slul.linker import shift_right
from signer_jax.slul.sampling import sample, sharpened
from signer_jax.slul.standard_beams import standard_beam_search
from signer_jax.slul.t5 import T5, decode_step, init_cache, reorder

SOURCE = np.array([[4, 2, 3, 3, 1], [3, 4, 1, 0, 0], [2, 1, 0, 0, 0]])
BEAMS, LENGTH = 4, 6
SHARED = tiny()
search = functools.partial(beam_search, beams=BEAMS, max_length=LENGTH)


@pytest.fixture(scope="module")
def params() -> dict:
    return weights(SHARED, seed=5)  # a seed whose hypotheses differ in length


@functools.partial(jax.jit, static_argnums=0)
def uncached_logits(t5: T5, params: dict, source, target_in):
    return t5.apply({"params": params}, source, target_in)


def log_probs_of(t5: T5, params: dict, source: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Uncached: the summed log-probability of each row of ids, pad excluded."""
    log_probs = jax.nn.log_softmax(uncached_logits(t5, params, source, shift_right(ids)))
    return (np.take_along_axis(np.asarray(log_probs), ids[..., None], -1)[..., 0] * (ids != 0)).sum(-1)


def lengths_of(ids: np.ndarray) -> np.ndarray:
    return (np.asarray(ids) != 0).sum(-1)


def assert_scores_are_uncached(t5, params, ids, scores, length_penalty: float) -> None:
    flat = np.asarray(ids).reshape(-1, LENGTH)
    uncached = log_probs_of(t5, params, np.repeat(SOURCE, BEAMS, 0), flat)
    np.testing.assert_allclose(scores.reshape(-1), uncached / lengths_of(flat) ** length_penalty, atol=1e-5)


@pytest.mark.parametrize("every_layer", [False, True])
def test_scores_equal_uncached(every_layer):
    t5 = tiny(relative_bias_every_layer=every_layer)
    params = weights(t5, seed=5)
    for length_penalty in (0.0, 1.0):
        ids, scores, _ = search(t5, params, SOURCE, length_penalty=length_penalty)
        assert ids.shape == (3, BEAMS, LENGTH) and scores.shape == (3, BEAMS)
        assert_scores_are_uncached(t5, params, ids, scores, length_penalty)
        assert (np.diff(scores, axis=1) <= 0).all()  # best first
        for row in np.asarray(ids):
            assert len({tuple(hypothesis) for hypothesis in row}) == BEAMS
        for hypothesis in np.asarray(ids).reshape(-1, LENGTH):
            ends = np.flatnonzero(hypothesis == 1)
            assert len(ends) <= 1 and (len(ends) == 0 or (hypothesis[ends[0] + 1 :] == 0).all())
        assert len(np.unique(lengths_of(ids))) > 1  # finished and unfinished ones, or only one case is seen


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_one_beam_is_greedy_and_greedy_is_argmax(seed):
    params = weights(SHARED, seed)
    ids, scores = greedy(SHARED, params, SOURCE, max_length=LENGTH)
    ids = np.asarray(ids)
    logits = np.array(uncached_logits(SHARED, params, SOURCE, shift_right(ids)))
    logits[..., 0] = -np.inf
    np.testing.assert_array_equal(ids[ids != 0], logits.argmax(-1)[ids != 0])
    np.testing.assert_allclose(scores, log_probs_of(SHARED, params, SOURCE, ids), atol=1e-5)
    for penalty in (0.0, 0.6, 2.0):
        beam_ids, beam_scores, _ = beam_search(
            SHARED, params, SOURCE, beams=1, max_length=LENGTH, length_penalty=penalty
        )
        np.testing.assert_array_equal(ids, beam_ids[:, 0])
        np.testing.assert_allclose(scores / lengths_of(ids) ** penalty, beam_scores[:, 0], atol=1e-5)


def test_each_token_has_its_own_probability():
    params = weights(SHARED, 5)
    ids, scores, tokens = search(SHARED, params, SOURCE, length_penalty=0.6)
    flat = np.asarray(ids).reshape(-1, LENGTH)
    log_probs = jax.nn.log_softmax(
        uncached_logits(SHARED, params, np.repeat(SOURCE, BEAMS, 0), shift_right(flat)).astype(jnp.float32)
    )
    own = np.take_along_axis(np.asarray(log_probs), flat[..., None], -1)[..., 0] * (flat != 0)
    np.testing.assert_allclose(np.asarray(tokens).reshape(-1, LENGTH), own, atol=1e-5)
    np.testing.assert_allclose(np.asarray(tokens).sum(-1) / lengths_of(ids) ** 0.6, scores, atol=1e-5)
    assert (flat == 0).any()  # some hypotheses end before the others


def every_sequence(vocab_size: int, length: int) -> np.ndarray:
    """All hypotheses: without pad inside, ended by eos or cut at `length`."""
    rows = []
    for n in range(1, length + 1):
        for body in itertools.product(range(2, vocab_size), repeat=n - 1):
            rows.append([*body, 1] + [0] * (length - n))
    rows += [list(body) for body in itertools.product(range(2, vocab_size), repeat=length)]
    return np.array(rows)


@pytest.mark.parametrize("search", [beam_search, standard_beam_search])
def test_enough_beams_find_the_best_of_all(search):
    t5 = tiny(vocab_size=5)
    params = weights(t5, seed=4)
    everything = every_sequence(5, 3)
    assert len(everything) == 1 + 3 + 9 + 27
    log_prob = log_probs_of(t5, params, np.repeat(SOURCE, 40, 0), np.tile(everything, (3, 1))).reshape(3, 40)
    winners = set()
    for penalty in (0.0, 1.0, 2.0):
        ids, scores, _ = search(t5, params, SOURCE, beams=40, max_length=3, length_penalty=penalty)
        exact = log_prob / lengths_of(everything) ** penalty
        np.testing.assert_allclose(scores, -np.sort(-exact, axis=1), atol=1e-5)
        np.testing.assert_array_equal(ids[:, 0], everything[exact.argmax(1)])
        winners.add(tuple(exact.argmax(1)))
        for row in np.asarray(ids):
            assert {tuple(hypothesis) for hypothesis in row} == set(map(tuple, everything))
    assert len(winners) > 1  # the penalty decides something here


def test_sentences_of_a_batch_do_not_touch_each_other(params):
    ids, scores, _ = search(SHARED, params, SOURCE, length_penalty=0.6)
    others = np.array([SOURCE[0], [9, 8, 7, 6, 1], [5, 5, 5, 5, 5]])
    other_ids, other_scores, _ = search(SHARED, params, others, length_penalty=0.6)
    np.testing.assert_array_equal(ids[0], other_ids[0])
    np.testing.assert_allclose(scores[0], other_scores[0], atol=1e-5)
    assert np.abs(scores[1:] - other_scores[1:]).max() > 1e-3


def test_length_penalty_prefers_longer(params):
    lengths = [lengths_of(search(SHARED, params, SOURCE, length_penalty=p)[0][:, 0]).mean() for p in (0.0, 5.0)]
    assert lengths[1] > lengths[0]


def test_allowed_tokens_only(params):
    allowed = np.zeros(12, bool)
    allowed[[5, 7]] = True
    ids, scores, _ = search(SHARED, params, SOURCE, length_penalty=0.0, allowed=allowed)
    assert set(np.unique(ids)) == {0, 1, 5, 7}
    assert_scores_are_uncached(SHARED, params, ids, scores, 0.0)
    # Only eos may follow: one hypothesis exists, the other places stay empty.
    ids, scores, _ = search(SHARED, params, SOURCE, length_penalty=0.0, allowed=np.zeros(12, bool))
    np.testing.assert_array_equal(ids[:, 0], [[1, 0, 0, 0, 0, 0]] * 3)
    np.testing.assert_array_equal(np.isfinite(scores), [[True, False, False, False]] * 3)
    assert set(np.unique(greedy(SHARED, params, SOURCE, max_length=LENGTH, allowed=allowed)[0])) <= {0, 1, 5, 7}


def test_reordered_beams_continue_their_own_history(params):
    @jax.jit
    def begin(params):
        H = SHARED.apply({"params": params}, SOURCE, method=T5.encode)
        return init_cache(SHARED, params, H, SOURCE != 0, beams=BEAMS, max_length=LENGTH)

    cache = begin(params)
    assert cache.keys.shape == (2, 3 * BEAMS, LENGTH, 2, 4) and cache.cross_keys.shape == (2, 3, 5, 2, 4)
    step = jax.jit(lambda token, cache: decode_step(SHARED, params, token, cache))
    rng = np.random.default_rng(0)
    history = np.zeros((3, BEAMS, LENGTH), int)
    for time in range(LENGTH):
        token = rng.integers(1, 12, (3, BEAMS)) if time else np.zeros((3, BEAMS), int)
        before = cache
        logits, cache = step(token, before)
        assert int(before.time) == time and not np.asarray(before.keys[:, :, time:]).any()  # pure
        history[:, :, time] = token
        rows = uncached_logits(SHARED, params, np.repeat(SOURCE, BEAMS, 0), history.reshape(-1, LENGTH))
        np.testing.assert_allclose(logits.reshape(-1, 12), rows[:, time], atol=1e-5)
        parents = rng.integers(0, BEAMS, (3, BEAMS))
        cache = reorder(cache, jnp.asarray(parents))
        history = np.take_along_axis(history, parents[..., None], 1)


def test_the_standard_search_scores_what_it_returns():
    """What has ended takes no beam's place: it is kept apart, and the penalty weighs it there alone."""
    params = weights(SHARED, 5)
    options = {"beams": BEAMS, "max_length": LENGTH}
    ids, scores, tokens = standard_beam_search(SHARED, params, SOURCE, length_penalty=0.6, **options)
    assert_scores_are_uncached(SHARED, params, ids, scores, 0.6)
    np.testing.assert_allclose(np.asarray(tokens).sum(-1) / lengths_of(ids) ** 0.6, scores, atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all() and len(np.unique(lengths_of(ids))) > 1
    # Only eos may follow: one hypothesis exists.
    allowed = np.zeros(12, bool)
    ids, scores, _ = standard_beam_search(SHARED, params, SOURCE, length_penalty=0.6, allowed=allowed, **options)
    np.testing.assert_array_equal(ids[:, :, 0], [[1, 0, 0, 0]] * 3)
    np.testing.assert_array_equal(np.isfinite(scores), [[True, False, False, False]] * 3)


def test_what_is_drawn_by_hand():
    log_probs = np.log(np.array([[0.5, 0.25, 0.15, 0.1]], np.float32))

    def kept(**options) -> np.ndarray:
        weights = sharpened(log_probs, **{"temperature": 1.0, "top_k": 0, "top_p": 1.0, **options})
        return np.asarray(jax.nn.softmax(weights))[0]

    np.testing.assert_allclose(kept(), [0.5, 0.25, 0.15, 0.1], atol=1e-6)
    np.testing.assert_allclose(kept(temperature=0.5), np.array([25, 6.25, 2.25, 1]) / 34.5, atol=1e-6)
    np.testing.assert_allclose(kept(top_k=2), [2 / 3, 1 / 3, 0, 0], atol=1e-6)
    np.testing.assert_allclose(kept(top_p=0.7), [2 / 3, 1 / 3, 0, 0], atol=1e-6)
    np.testing.assert_allclose(kept(top_p=0.76), np.array([50, 25, 15, 0]) / 90, atol=1e-6)
    np.testing.assert_allclose(kept(top_p=0.01), [1, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(kept(top_k=3, top_p=0.8), np.array([50, 25, 0, 0]) / 75, atol=1e-6)  # of the three


def test_samples_follow_the_model(params):
    draw = functools.partial(sample, SHARED, params, SOURCE, samples=500, max_length=1)
    ids, log_prob, _ = draw(jax.random.key(0))
    logits = np.array(uncached_logits(SHARED, params, SOURCE, np.zeros((3, 1), int)))[:, 0]
    logits[:, 0] = -np.inf
    expected = np.asarray(
        jax.nn.log_softmax(np.asarray(uncached_logits(SHARED, params, SOURCE, np.zeros((3, 1), int))))
    )
    for row in range(3):
        drawn = np.asarray(ids)[row, :, 0]
        np.testing.assert_allclose(np.asarray(log_prob)[row], expected[row, 0, drawn], atol=1e-5)
        share = np.bincount(drawn, minlength=12) / 500
        assert np.abs(share - np.asarray(jax.nn.softmax(logits[row]))).max() < 0.09  # four standard errors
    again, *_ = draw(jax.random.key(0))
    np.testing.assert_array_equal(ids, again)
    assert (np.asarray(draw(jax.random.key(1))[0]) != ids).any()


def test_samples_end_and_cold_ones_are_greedy(params):
    ids, log_prob, _ = sample(SHARED, params, SOURCE, jax.random.key(0), samples=BEAMS, max_length=LENGTH)
    flat = np.asarray(ids).reshape(-1, LENGTH)
    np.testing.assert_allclose(
        np.asarray(log_prob).ravel(), log_probs_of(SHARED, params, np.repeat(SOURCE, BEAMS, 0), flat), atol=1e-5
    )
    for row in flat:
        ends = np.flatnonzero(row == 1)
        assert (row[ends[0] + 1 :] == 0).all() if len(ends) else (row != 0).all()
    cold, *_ = sample(SHARED, params, SOURCE, jax.random.key(0), samples=2, max_length=LENGTH, temperature=1e-4)
    best, _ = greedy(SHARED, params, SOURCE, max_length=LENGTH)
    np.testing.assert_array_equal(cold, np.repeat(np.asarray(best)[:, None], 2, 1))
    one, *_ = sample(SHARED, params, SOURCE, jax.random.key(3), samples=2, max_length=LENGTH, top_k=1)
    np.testing.assert_array_equal(one[:, 0], best)


def test_bfloat16_decodes():
    t5 = tiny(dtype=jnp.bfloat16)
    ids, scores, tokens = jax.eval_shape(lambda params: search(t5, params, SOURCE, length_penalty=1.0), weights(t5))
    assert (ids.dtype, scores.dtype, tokens.dtype) == (jnp.int32, jnp.float32, jnp.float32)


def test_next_log_probs_and_penalty_by_hand():
    logits = np.zeros((4,), np.float32)
    np.testing.assert_allclose(next_log_probs(logits, None), [-np.inf, *[np.log(0.25)] * 3])
    allowed = np.array([True, False, False, True])
    expected = [-np.inf, np.log(0.25), -np.inf, np.log(0.25)]
    np.testing.assert_allclose(next_log_probs(logits, allowed), expected)
    np.testing.assert_allclose(
        next_log_probs(logits, np.array([True, True, True])), [-np.inf, *[np.log(0.25)] * 2, -np.inf]
    )
    np.testing.assert_allclose(normalised(jnp.array([-6.0]), jnp.array([4]), 0.5), [-3])
