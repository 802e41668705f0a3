"""Rule-based stitching: glosses -> pose by one signer's recordings, without gates and without a stabiliser.

From a text, too, by a dictionary: each word as the gloss that nearly all training texts with it have (Stoll et al. 2020
and spoken-to-signed stitch looked-up signs the same way).
"""

from collections.abc import Sequence

from signer_jax.data.records import Corpus
from signer_jax.pose.prior import Entry
from signer_jax.slp_moe.retrieval import Retrieval
from signer_jax.stations.meanings import always_of, companions_of, meanings_of
from signer_jax.stations.perform import find, join
from signer_jax.types import Pose
from signer_jax.writing import words_of


def stitched(
    glosses: Sequence[str], language: str, retrieval: Retrieval, order: Sequence[int], transition: float,
    without: str = "",
) -> Pose | None:  # fmt: skip
    """Each gloss by the first expert of `order` that has it, each sign at its own length, from rest to rest; None where
    the database knows none of them. `without`: see `Retrieval.slots`.
    """
    signs = find(glosses, language, retrieval, without=without).signs
    if not signs:
        return None
    entries = [first(sign.slots, order) for sign in signs]
    prior = retrieval.prior
    rest = prior.rest(entries[0].signer, without=without)
    pose, _ = join([prior.pose(entry) for entry in entries], transition, rest, words=[sign.gloss for sign in signs])
    return pose


def first(slots: Sequence[Entry | None], order: Sequence[int]) -> Entry:
    """The entry of the first expert that has one; some expert has."""
    return next(entry for k in order if k < len(slots) for entry in [slots[k]] if entry is not None)


def dictionary(corpus: Corpus) -> dict[str, dict[str, str]]:
    """By language, the gloss that a word of the training texts brings (`stations.meanings`)."""
    texts: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    if corpus.count("train", "text"):
        records = corpus.texts("train")
        for k in range(len(records)):
            sample = records[k]
            texts.setdefault(sample.language, []).append((sample.text, tuple(sample.glosses)))
    return {language: meanings_of(always_of(each), companions_of(each)) for language, each in texts.items()}


def by_words(text: str, meaning: dict[str, str]) -> list[str]:
    """The glosses that the words of a text bring, in their order; words that bring none are left out."""
    return [meaning[word.key] for word in words_of(text) if word.key in meaning]
