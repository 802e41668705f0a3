"""Human preferences between pairs of systems: win rates, the Bradley-Terry ranking, intervals, agreement (numpy).

A vote compares two systems on one clip and gives the first 1 (preferred), 0 (the other is) or 0.5 (no difference): a
tie counts half a win for each. Axes: v votes, n systems, k resamples.

Sources: Bradley and Terry 1952, "Rank analysis of incomplete block designs"; resampling of two crossed factors by Owen
2007, "The pigeonhole bootstrap", whose intervals are too wide rather than too narrow; agreement by Krippendorff 2011,
"Computing Krippendorff's alpha-reliability".
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit

from signer_jax.metrics.intervals import interval

FEWEST_CLIPS = 6  # of five clips that agree, chance alone makes all do so once in 16: 2 / 2^5 > .05, 2 / 2^6 < .05
_AT_ONCE = 50  # resamples: a weight for each and each vote
_ROUNDS, _CLOSE, _FARTHEST = 200, 1e-9, 2.0  # of Newton's method; change of a log strength at the end, and at most


@dataclass(frozen=True)
class Votes:
    """Votes as columns: who of two systems is preferred on which clip, and by whom."""

    one: Int[np.ndarray, " v"]
    other: Int[np.ndarray, " v"]
    share: Float[np.ndarray, " v"]  # of the vote that `one` gets: 1, 0.5 or 0
    rater: Int[np.ndarray, " v"]
    clip: Int[np.ndarray, " v"]

    def __len__(self) -> int:
        return len(self.share)


def wins(votes: Votes, systems: int, weights: Float[np.ndarray, "k v"] | None = None) -> Float[np.ndarray, "k n n"]:
    """How many votes the system of a row has won against that of a column, ties half; each vote by its weight (1)."""
    forth, back = votes.one * systems + votes.other, votes.other * systems + votes.one
    summed = [
        np.bincount(forth, weight * votes.share, systems**2) + np.bincount(back, weight * (1 - votes.share), systems**2)
        for weight in (np.ones((1, len(votes))) if weights is None else weights)
    ]
    return np.stack(summed).reshape(-1, systems, systems)


def win_rates(won: Float[np.ndarray, "k n n"]) -> Float[np.ndarray, "k n n"]:
    """The share of the row's system in its votes against the column's; NaN where there are none."""
    total = won + won.swapaxes(1, 2)
    return np.divide(won, total, out=np.full_like(won, np.nan), where=total > 0)


def bradley_terry(won: Float[np.ndarray, "k n n"], prior: float) -> Float[np.ndarray, "k n"]:
    """Log strengths s with the sum 0, such that i is preferred to j with probability 1 / (1 + exp(s_j - s_i)).

    `prior` votes of each system against one of strength 0, half of them won, keep the strengths finite where a system
    has won, or lost, all of its own. Of two systems without a prior the difference is the log of their wins' quotient.
    The likeliest strengths, by Newton's method.
    """
    total = won + won.swapaxes(1, 2)
    count, systems = won.shape[:2]
    logs = np.zeros((count, systems))
    # Without a prior only differences are determined: the ones keep the sum at 0.
    level = np.zeros((systems, systems)) if prior else np.ones((systems, systems))
    for _ in range(_ROUNDS):
        expected, alone = expit(logs[:, :, None] - logs[:, None, :]), expit(logs)
        slope = (won - total * expected).sum(2) + prior * (0.5 - alone)
        curve = total * expected * (1 - expected)
        own = curve.sum(2) + prior * alone * (1 - alone)
        step = np.linalg.solve(own[:, :, None] * np.eye(systems) - curve + level, slope[..., None])[..., 0]
        size = np.abs(step).max(1, keepdims=True)
        logs += step * np.minimum(1, _FARTHEST / np.maximum(size, _CLOSE))
        if size.max(initial=0) < _CLOSE:
            break
    return logs - logs.mean(1, keepdims=True)


def resamples(votes: Votes, count: int, rng: np.random.Generator) -> Iterator[Float[np.ndarray, "k v"]]:
    """Weights of the votes, some resamples at a time: raters and clips are drawn anew, with replacement, each by
    itself, and a vote counts as often as its rater was drawn times as often as its clip was.
    """
    raters, clips = int(votes.rater.max()) + 1, int(votes.clip.max()) + 1
    for start in range(0, count, _AT_ONCE):
        some = min(_AT_ONCE, count - start)
        by_rater = rng.multinomial(raters, np.full(raters, 1 / raters), some)
        by_clip = rng.multinomial(clips, np.full(clips, 1 / clips), some)
        yield (by_rater[:, votes.rater] * by_clip[:, votes.clip]).astype(float)


def between(votes: Votes, a: int, b: int) -> tuple[Float[np.ndarray, " m"], int]:
    """What `a` got of each of its votes against `b`, and on how many clips these are."""
    forth, back = (votes.one == a) & (votes.other == b), (votes.one == b) & (votes.other == a)
    return np.where(forth, votes.share, 1 - votes.share)[forth | back], len(np.unique(votes.clip[forth | back]))


@dataclass(frozen=True)
class Ranking:
    """The systems by strength, and how sure that is. Intervals are the middle 95 % of resampled raters and clips."""

    order: list[int]  # the best first
    strengths: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]
    won: Float[np.ndarray, "n n"]
    rates: Float[np.ndarray, "n n"]  # NaN of what was not compared
    rates_low: Float[np.ndarray, "n n"]
    rates_high: Float[np.ndarray, "n n"]
    apart: Bool[np.ndarray, "n n"]  # whether the votes tell the two apart


def ranking(votes: Votes, systems: int, *, prior: float, count: int, rng: np.random.Generator) -> Ranking:
    """Two systems are told apart where the interval of their strengths' difference excludes 0 and they were compared on
    `FEWEST_CLIPS` clips: resampling cannot see what a handful of clips did not happen to show.
    """
    won = wins(votes, systems)
    strengths = bradley_terry(won, prior)[0]
    drawn = [wins(votes, systems, some) for some in resamples(votes, count, rng)]
    sampled = np.concatenate([bradley_terry(some, prior) for some in drawn])
    low, high = interval(sampled)
    less, more = interval(sampled[:, :, None] - sampled[:, None, :])
    enough = np.array([[between(votes, a, b)[1] >= FEWEST_CLIPS for b in range(systems)] for a in range(systems)])
    rates_low, rates_high = interval(np.concatenate([win_rates(some) for some in drawn]))
    order = sorted(range(systems), key=lambda i: -strengths[i])
    return Ranking(order, strengths, low, high, won[0], win_rates(won)[0], rates_low, rates_high,
                   ((less > 0) | (more < 0)) & enough)  # fmt: skip


def agreement(items: Mapping[object, Sequence[object]]) -> tuple[float, float, float]:
    """Of the answers that several raters gave to an item: the share of pairs of raters who agree, that of pairs of
    answers to any items (chance), and Krippendorff's alpha for nominal answers, 1 - (1 - share) / (1 - chance).

    An item with m answers has m (m - 1) ordered pairs, each weighted 1 / (m - 1). NaN where no item has two answers;
    alpha is NaN, too, where all answers are the same, since chance leaves nothing to explain.
    """
    several = [Counter(answers) for answers in items.values() if len(answers) > 1]
    total = sum(sum(count.values()) for count in several)
    if not total:
        return float("nan"), float("nan"), float("nan")
    observed = sum(sum(n * (n - 1) for n in one.values()) / (sum(one.values()) - 1) for one in several) / total
    every: Counter[object] = sum(several, Counter())
    expected = sum(n * (n - 1) for n in every.values()) / (total * (total - 1))
    return observed, expected, 1 - (1 - observed) / (1 - expected) if expected < 1 else float("nan")
