"""Retrieval: the recording of the nearest training text (TF-IDF of words), as people performed it."""

from collections.abc import Sequence

from signer_jax.data.records import Corpus
from signer_jax.evaluation.readers import performed_texts
from signer_jax.evaluation.texts import nearest_recordings
from signer_jax.types import Pose, Sample


def sign(corpus: Corpus, samples: Sequence[Sample]) -> list[Pose | None]:
    """None where training has no text of the language, or no pose."""
    bank = performed_texts(corpus)
    return nearest_recordings(corpus, samples, bank)
