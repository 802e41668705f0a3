"""A gloss that the model says over and over: how often one may follow itself, and what goes beyond that."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from signer_jax.stations.spelled_names import is_letter

TWICE = 2  # in a row a gloss may always be said


def most_in_a_row(every: Iterable[Sequence[str]]) -> int:
    """How often a gloss may be said in a row: twice, or as often as the training texts' glosses have one."""
    return max([TWICE, *(len(list(run)) for glosses in every for _, run in groupby(glosses))])


def beyond(glosses: Sequence[str], most: int) -> list[int]:
    """The places of the glosses that the same one stands `most` times before, in a row; letters are what they spell."""
    places: list[int] = []
    run = 0
    for place, gloss in enumerate(glosses):
        run = run + 1 if place and gloss == glosses[place - 1] else 1
        places += [place] if run > most and not is_letter(gloss) else []
    return places
