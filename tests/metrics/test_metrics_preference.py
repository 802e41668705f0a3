"""Preferences, by hand: two systems in closed form, the fit's own equations, resampling, agreement."""

import numpy as np
import pytest

from signer_jax.metrics import preference
from signer_jax.metrics.intervals import interval
from signer_jax.metrics.preference import Votes


def votes(*rows: tuple[int, int, float], raters=None, clips=None) -> Votes:
    one, other, share = (np.array(column) for column in zip(*rows, strict=True))
    index = np.arange(len(rows))
    return Votes(one, other, share.astype(float), np.array(raters if raters is not None else index * 0),
                 np.array(clips if clips is not None else index))  # fmt: skip


def test_ties_are_half_a_win_of_each():
    found = votes((0, 1, 1.0), (1, 0, 1.0), (0, 1, 0.5), (1, 0, 0.5), (0, 1, 1.0), (1, 2, 0.0))
    won = preference.wins(found, 3)
    np.testing.assert_array_equal(won, [[[0, 3, 0], [2, 0, 0], [0, 1, 0]]])
    rates = preference.win_rates(won)[0]
    assert rates[0, 1] == 0.6 and rates[1, 0] == 0.4 and rates[2, 1] == 1 and np.isnan(rates[0, 2])


@pytest.mark.parametrize(("first", "second"), [(3, 1), (10, 10), (1, 99), (2.5, 0.5)])
def test_two_systems_in_closed_form(first, second):
    won = np.array([[[0, first], [second, 0]]], float)
    strengths = preference.bradley_terry(won, 0.0)[0]
    assert strengths[0] - strengths[1] == pytest.approx(np.log(first / second), abs=1e-8)
    assert strengths.sum() == pytest.approx(0, abs=1e-12)


def test_three_systems_fulfil_the_likelihood_equations():
    won = np.array([[[0, 7, 4], [3, 0, 6.5], [1, 2.5, 0]], [[0, 1, 1], [1, 0, 1], [1, 1, 0]]])
    strengths = preference.bradley_terry(won, 0.0)
    expected = 1 / (1 + np.exp(strengths[:, None, :] - strengths[:, :, None]))
    total = won + won.swapaxes(1, 2)
    np.testing.assert_allclose((total * expected).sum(2) - 0.5 * np.einsum("kii->ki", total), won.sum(2), atol=1e-6)
    np.testing.assert_allclose(strengths[1], 0, atol=1e-9)
    # True strengths come back from as many wins as they make.
    truth = np.array([1.0, 0.2, -1.2])
    exact = 100 / (1 + np.exp(truth[None] - truth[:, None])) * (1 - np.eye(3))
    np.testing.assert_allclose(preference.bradley_terry(exact[None], 0.0)[0], truth, atol=1e-7)


def test_the_prior_keeps_what_won_all_finite_and_vanishes_beside_many_votes():
    few = preference.bradley_terry(np.array([[[0, 3.0], [0, 0]]]), 1.0)[0]
    many = preference.bradley_terry(np.array([[[0, 300.0], [0, 0]]]), 1.0)[0]
    assert 0 < few[0] - few[1] < many[0] - many[1] < 20
    # By hand: at s = -(-s) the gradient 3 - 3 σ(2 s) + 1/2 - σ(s) is 0.
    sigma = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    assert 3 - 3 * sigma(2 * few[0]) + 0.5 - sigma(few[0]) == pytest.approx(0, abs=1e-8)
    close = preference.bradley_terry(np.array([[[0, 3000.0], [1000.0, 0]]]), 1.0)[0]
    assert close[0] - close[1] == pytest.approx(np.log(3), abs=1e-3)
    assert preference.bradley_terry(np.zeros((1, 4, 4)), 1.0).tolist() == [[0, 0, 0, 0]]


def test_a_vote_counts_as_its_rater_and_its_clip_were_drawn():
    found = votes(*[(0, 1, 1.0)] * 6, raters=[0, 0, 0, 1, 1, 1], clips=[0, 1, 2, 0, 1, 2])
    weights = np.concatenate(list(preference.resamples(found, 250, np.random.default_rng(0))))
    assert weights.shape == (250, 6)
    np.testing.assert_array_equal(weights.sum(1), 6)  # all raters saw all clips: 2 × 3
    table = weights.reshape(250, 2, 3)
    np.testing.assert_array_equal(table * table.sum((1, 2), keepdims=True),
                                  table.sum(2, keepdims=True) * table.sum(1, keepdims=True))  # fmt: skip
    assert weights.mean() == pytest.approx(1, abs=0.05) and (weights == 0).any()


def test_intervals_cover_what_raters_and_clips_vary():
    """Votes of one clip that are all alike say no more than one: the interval is as wide as the clips make it."""
    rng = np.random.default_rng(1)
    likes = rng.random(30) < 0.7  # what a clip makes of all raters
    rows = [(0, 1, float(likes[clip])) for _ in range(40) for clip in range(30)]
    found = votes(*rows, raters=np.repeat(np.arange(40), 30), clips=np.tile(np.arange(30), 40))
    rates = np.concatenate([preference.win_rates(preference.wins(found, 2, some))[:, 0, 1]
                            for some in preference.resamples(found, 1000, np.random.default_rng(0))])  # fmt: skip
    low, high = interval(rates)
    share = likes.mean()
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(share * (1 - share) / 30), rel=0.15)


def test_an_interval_leaves_out_what_is_no_number():
    low, high = interval(np.array([[np.nan, np.nan], [1.0, np.nan], [1.0, np.nan]]))
    assert low[0] == high[0] == 1 and np.isnan(low[1]) and np.isnan(high[1])


def test_clips_are_counted_once():
    found = votes((0, 1, 1.0), (1, 0, 0.0), (0, 2, 1.0), (0, 1, 1.0), clips=[3, 3, 4, 5])
    pairs = {pair: preference.between(found, *pair) for pair in ((0, 1), (1, 0), (2, 0), (1, 2))}
    assert [clips for _, clips in pairs.values()] == [2, 2, 1, 0]
    assert [shares.tolist() for shares, _ in pairs.values()] == [[1, 1, 1], [0, 0, 0], [0], []]


def test_agreement_by_hand():
    # Two raters: coincidences o_aa = 6, o_bb = 2, o_ab = o_ba = 1; n = 10, n_a = 7, n_b = 3.
    items = {1: "aa", 2: "aa", 3: "aa", 4: "bb", 5: "ab", 6: "a"}
    observed, expected, alpha = preference.agreement(items)
    assert observed == pytest.approx(0.8) and expected == pytest.approx((7 * 6 + 3 * 2) / 90)
    assert alpha == pytest.approx(1 - 0.2 / (1 - 48 / 90))
    # Krippendorff 2011, example C (nominal, four observers, missing answers): alpha 0.743.
    rows = ["123321412***", "1233224125*3", "*3332342251*", "12332441251*"]
    answers = {unit: [row[unit] for row in rows if row[unit] != "*"] for unit in range(12)}
    assert preference.agreement(answers)[2] == pytest.approx(0.743, abs=5e-4)


def test_agreement_of_none_and_of_one_answer():
    assert np.isnan(preference.agreement({1: "a", 2: "b"})).all()
    assert np.isnan(preference.agreement({})).all()
    observed, expected, alpha = preference.agreement({1: "aa", 2: "aaa"})
    assert observed == expected == 1 and np.isnan(alpha)
