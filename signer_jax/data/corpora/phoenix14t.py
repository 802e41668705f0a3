"""RWTH-PHOENIX-Weather 2014 T as a run's texts: its German sentences and their glosses in German Sign Language.

The rows are those that `signer prepare phoenix14t` reads (`data/datasets/phoenix14t.py`), without their recordings, and
by the names that the table gives them: `dev/…` in a tsv.
"""

from collections.abc import Iterator
from pathlib import Path

from signer_jax.data.corpora.left_out import LeftOut
from signer_jax.data.datasets import phoenix14t
from signer_jax.data.datasets.item import Item
from signer_jax.types import Sample


def splits(source: str | Path) -> tuple[str, ...]:
    """The splits that are read of the folder `source`: "train", "dev", and "test" where its table is there.

    Raises `SignerError` where there is none of their tables.
    """
    there = phoenix14t.splits(source)
    return ("train", "dev", *(split for split in there if split == "test"))


def samples(source: str | Path, split: str) -> Iterator[Sample]:
    """The sentences of a split ("train", "dev", "test") of the corpus in the folder `source`, in the table's order.

    A row that cannot be meant is left out, with a line on standard error. Raises `SignerError`, before the first
    sentence, where no table of the split is there, it lacks a column or its end, or more than half of its rows are
    such.
    """
    left_out, kept = LeftOut(Path(source), "rows"), 0
    for found in phoenix14t.sentences(source, split):
        if isinstance(found, Item):
            kept += 1
        else:
            left_out.add(found)
    left_out.end(kept + left_out.count)
    return (_sample(one) for one in phoenix14t.sentences(source, split) if isinstance(one, Item))


def _sample(item: Item) -> Sample:
    return Sample(item.name, item.text, item.language, item.glosses or (), item.signer)
