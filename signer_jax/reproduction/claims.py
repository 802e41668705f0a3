"""Which of the paper's claims hold here, in words that are made of the figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from signer_jax.reproduction.paper import LOWER, TITLES, Claim, Table, direction, reported
from signer_jax.reproduction.scored import Difference, Scored, difference, over_seeds

HOLDS, FAILS, OPEN = "holds here", "does not hold here: it is the other way round", "cannot be told here"
FEWEST = 3  # seeds that must agree where there is no interval


@dataclass(frozen=True)
class Verdict:
    """What became of a claim in one figure; `text` says it with the figures."""

    claim: Claim
    figure: str
    said: str  # HOLDS, FAILS or OPEN
    text: str
    reported: bool  # the paper has figures of it


def verdicts(table: Table, scored: Mapping[str, Sequence[Scored]]) -> list[Verdict]:
    """One for each claim and figure, in their order."""
    found = []
    for claim in table.claims:
        for figure in claim.figures:
            told = replace(claim, of=(claim.of[0], beside(claim, figure, scored)))
            apart = difference(scored.get(told.of[0], ()), scored.get(told.of[1], ()), figure)
            sign = direction(claim, figure, table)
            said, why = judged(apart, sign)
            if said == HOLDS and (floor := _at_the_floor(told, figure, scored)):
                said, why = OPEN, floor
            theirs = reported(claim, figure, table)
            words = _text(told, figure, theirs, apart, sign, said, why)
            found.append(Verdict(told, figure, said, words, theirs is not None))
    return found


def beside(claim: Claim, figure: str, scored: Mapping[str, Sequence[Scored]]) -> str:
    """The second row of ours: of `best_of` the one that scored best in this figure."""
    better = -1 if figure.partition("/")[2] in LOWER else 1
    known = {row: mean for row in claim.best_of if (mean := over_seeds(scored.get(row, ()), figure)) is not None}
    return max(known, key=lambda row: better * known[row].mean) if known else claim.of[1]


def _at_the_floor(claim: Claim, figure: str, scored: Mapping[str, Sequence[Scored]]) -> str:
    """What is to be said where the second row of ours is not told from the claim's floor: above that anything is."""
    if not claim.floor:
        return ""
    better = -1 if figure.partition("/")[2] in LOWER else 1
    apart = difference(scored.get(claim.of[1], ()), scored.get(claim.floor, ()), figure)
    if judged(apart, better)[0] == HOLDS:
        return ""
    return f"“{claim.of[1]}” is not told from “{claim.floor}”: {shown(apart, digits(figure.partition('/')[2]))}"


def judged(apart: Difference | None, sign: int) -> tuple[str, str]:
    """Whether a difference of this sign (1, -1) was found, and what is to be said of that, if anything.

    It was where all seeds have the sign and the interval leaves out 0; without an interval, where so many as `FEWEST`
    seeds or more have it.
    """
    if apart is None:
        return OPEN, "one of the two has no such figure"
    signs = {int(np.sign(one)) for one in apart.each}
    if len(signs) > 1 or 0 in signs:
        return OPEN, "the seeds do not agree" if len(apart.each) > 1 else "there is no difference"
    if np.isfinite(apart.low):
        if apart.low <= 0 <= apart.high:
            return OPEN, "the interval has 0 in it"
    elif len(apart.each) < FEWEST:
        return OPEN, f"there is no interval, and {len(apart.each)} seeds of {FEWEST}"
    return (HOLDS if signs == {sign} else FAILS), "" if len(apart.each) > 1 else "of one training"


def _text(
    claim: Claim, figure: str, theirs: tuple[float, float] | None, apart: Difference | None, sign: int, said: str,
    why: str,
) -> str:  # fmt: skip
    split, _, name = figure.partition("/")
    paper = "the paper has no figures of it"
    if theirs is not None:
        paper = f"the paper's {theirs[0] - theirs[1]:+.{digits(name)}f}"
    what = f"{claim.rows[0]} {'above' if sign > 0 else 'below'} {claim.rows[1]} in {TITLES[name]} ({split}): {paper}"
    named = f"; here “{claim.of[0]}” less “{claim.of[1]}”"
    if stands := claim.stands or (
        "the best of our baselines without a network in this figure" if claim.best_of else ""
    ):
        named += f" ({stands})"
    return f"{what}{named}: {shown(apart, digits(name))}. It {said}{f' ({why})' if why else ''}."


def shown(apart: Difference | None, digits: int) -> str:
    """A difference with its interval and its seeds."""
    if apart is None:
        return "–"
    text = f"{apart.mean:+.{digits}f}"
    if np.isfinite(apart.low):
        text += f" [{apart.low:+.{digits}f}, {apart.high:+.{digits}f}]"
    if len(apart.each) > 1:
        text += f" (seeds {', '.join(f'{one:+.{digits}f}' for one in apart.each)})"
    return text


def digits(name: str) -> int:
    """Decimals that a figure is shown with."""
    return 2 if name.startswith("bleu") or name in ("rouge", "hand_pose", "fid", "text_psnr", "lost") else 3


def summary(found: Sequence[Verdict]) -> str:
    """How many hold, do not, and cannot be told; several of them may be of one difference of the paper's."""
    count = {said: sum(one.said == said for one in found) for said in (HOLDS, FAILS, OPEN)}
    theirs = {(one.claim.rows, one.figure) for one in found if one.reported}
    return (
        f"Comparisons here: {len(found)}, of {len(theirs)} differences in the paper's figures. {count[HOLDS]} hold, "
        f"{count[FAILS]} are the other way round, {count[OPEN]} cannot be told. No interval is made wider for their "
        "number: of twenty without a difference the intervals would show about one."
    )
