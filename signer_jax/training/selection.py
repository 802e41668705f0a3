"""What a stage gives, of the parameters at several of its steps: the best by a score, or the mean of the best few; and
whether it ends early for want of better ones.

A stage is looked at every so many steps. All looks so far are in each checkpoint, so a run that goes on from one
chooses and ends as the uninterrupted one; the checkpoints that would be chosen stay.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SELECTED_ON = "dev"  # the split that a score may read
Params = dict[str, Any]
Look = tuple[int, float]  # a step, and the score of what the stage would give after it: the higher the better


@dataclass(frozen=True)
class Score:
    """How good a stage's parameters are."""

    of: Callable[[Params], float]  # of all that it uses; the same number in every process
    by: str  # what that measures, for people
    name: str  # of its curve, after the stage's
    floor: float = -math.inf  # what knowing nothing scores


@dataclass(frozen=True)
class Selection:
    """How a stage chooses."""

    every: int  # steps between looks; the last step is one too
    score: Score | None  # None: the later the better
    patience: int = 0  # so many looks without a better one end the stage; 0: none do
    average: int = 1  # the mean of so many of the best looks is given

    def ends(self, looks: Sequence[Look]) -> bool:
        """Whether the best look is so many looks ago. Looks that all scored 0 end nothing: a model that gets nothing
        right yet has not stopped learning.
        """
        return 0 < self.patience <= looks_since_the_best(looks) and any(score for _, score in looks)

    def chosen(self, looks: Sequence[Look]) -> list[int]:
        """The steps of which the mean is given, in their order."""
        return sorted(best(looks, self.average))


def best(looks: Sequence[Look], count: int) -> list[int]:
    """The steps of the `count` best looks, from the best on; of equal ones the earlier."""
    return [step for step, _ in sorted(looks, key=lambda look: (-look[1], look[0]))[:count]]


def looks_since_the_best(looks: Sequence[Look]) -> int:
    (step,) = best(looks, 1)
    return len(looks) - 1 - [at for at, _ in looks].index(step)


def told(selection: Selection, looks: Sequence[Look], given: Collection[int], score: float | None, steps: int) -> str:
    """What a stage of so many steps gives at its end, after these looks, in a line. `score`: of what it gives."""
    listed = ", ".join(map(str, given))
    what = (
        f"the mean of the parameters after steps {listed}" if len(given) > 1 else f"the parameters after step {listed}"
    )
    rank = f", of {len(looks)} looks"
    by, end, most = "", looks[-1][0], max(value for _, value in looks)
    if selection.score and score is not None:
        by = f", by {selection.score.by}: {score:.2f}"
        if score < most:
            by += f" (the best look alone: {most:.2f})"
        if score <= selection.score.floor:
            by += ", no more than knowing nothing scores"
    early = f"; it ended at step {end} of {steps}, {selection.patience} looks after the best" if end < steps else ""
    return f"gives {what}{rank}{by}{early}"


def record(
    selection: Selection, looks: Sequence[Look], given: Collection[int] = (), score: float | None = None
) -> dict[str, Any]:
    """What a checkpoint says of the looks before it, and, at the stage's end, of what it gives."""
    by = selection.score.by if selection.score else "the later the better"
    found: dict[str, Any] = {"by": by, "looks": [list(look) for look in looks]}
    return found | ({"given": list(given), "score": score} if given else {})


def looks_of(record: Mapping[str, Any]) -> list[Look]:
    """The looks of a record. Raises `ValueError` where it holds others."""
    looks = record.get("looks", [])
    if not all(type(step) is int and type(score) is float for step, score in looks):
        raise ValueError("no list of steps and scores")
    return [(step, score) for step, score in looks]


@dataclass(frozen=True)
class LastAndBest:
    """Which checkpoints stay when another one comes, as Orbax asks. `losses`, of those among which the best are sought,
    grows as they are saved.
    """

    last: int
    best: int
    losses: Mapping[int, float]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [info.step for info in checkpoints]
        kept = best([(step, -self.losses[step]) for step in steps if step in self.losses], self.best)
        return [step in kept or step in sorted(steps)[-self.last :] for step in steps]
