"""Which of the paper's claims hold here, in words that are made of the figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from signer_jax.reproduction.paper import TITLES, Claim, Table, direction
from signer_jax.reproduction.scored import Difference, Scored, difference

HOLDS, FAILS, OPEN = "holds here", "does not hold here: it is the other way round", "cannot be told here"
FEWEST = 3  # seeds that must agree where there is no interval


@dataclass(frozen=True)
class Verdict:
    """What became of a claim in one figure; `text` says it with the figures."""

    claim: Claim
    figure: str
    said: str  # HOLDS, FAILS or OPEN
    text: str


def verdicts(table: Table, scored: Mapping[str, Sequence[Scored]]) -> list[Verdict]:
    """One for each claim and figure, in their order."""
    found = []
    for claim in table.claims:
        for figure in claim.figures:
            apart = difference(scored.get(claim.of[0], ()), scored.get(claim.of[1], ()), figure)
            sign = direction(claim, figure, table)
            said, why = judged(apart, sign)
            found.append(Verdict(claim, figure, said, _text(table, claim, figure, apart, sign, said, why)))
    return found


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
    table: Table, claim: Claim, figure: str, apart: Difference | None, sign: int, said: str, why: str
) -> str:  # fmt: skip
    split, _, name = figure.partition("/")
    theirs = [table.rows.get(row, {}).get(figure) for row in claim.rows]
    paper = "the paper says it in words"
    if theirs[0] is not None and theirs[1] is not None:
        paper = f"the paper's {theirs[0] - theirs[1]:+.{digits(name)}f}"
    what = f"{claim.rows[0]} {'above' if sign > 0 else 'below'} {claim.rows[1]} in {TITLES[name]} ({split}): {paper}"
    named = f"; here “{claim.of[0]}” less “{claim.of[1]}”"
    if claim.stands:
        named += f" ({claim.stands})"
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
    return 2 if name.startswith("bleu") or name in ("rouge", "hand_pose", "fid", "text_psnr") else 3


def summary(found: Sequence[Verdict]) -> str:
    """How many hold, do not, and cannot be told."""
    count = {said: sum(one.said == said for one in found) for said in (HOLDS, FAILS, OPEN)}
    return (
        f"Of {len(found)} differences that the paper reports, {count[HOLDS]} hold here, {count[FAILS]} are the other "
        f"way round, {count[OPEN]} cannot be told."
    )
