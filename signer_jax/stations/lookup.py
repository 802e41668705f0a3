"""Without a model: text -> pose, words straight from a pose database."""

import unicodedata

from signer_jax.errors import SignerError
from signer_jax.language import choose_language
from signer_jax.pose.lookup import look_up as look_up_words
from signer_jax.pose.prior import Prior
from signer_jax.stations.perform import join
from signer_jax.types import Signed


def look_up(text: str, language: str | None, prior: Prior, transition: float) -> Signed:
    """Each word of a text as the database has it, or fingerspelled; `transition` seconds between two signs. No video.

    Raises `SignerError` for an empty text, an ambiguous language, or where nothing could be found.
    """
    words = tuple(word.strip(".,;:!?'\"()") for word in unicodedata.normalize("NFC", text).split())
    words = tuple(word for word in words if word)
    if not words:
        raise SignerError("the text is empty; give at least one word")

    def count(code: str) -> int:
        return sum(bool(found.entries) for found in look_up_words(words, code, prior))

    asked, (language, said) = language, choose_language(language, prior.spoken, count)
    every = look_up_words(words, language, prior)
    remarks = [line for line in (said, *dict.fromkeys(found.said for found in every)) if line]
    entries = [entry for found in every for entry in found.entries]
    if not entries:
        shown = " ".join(words)[:200]
        where = "" if asked is None else f" for language {language}"
        raise SignerError(f"{shown}: the prior has neither the words nor their letters{where} ({every[0].said})")
    pose, _ = join([prior.pose(entry) for entry in entries], transition)
    spelled = [found.word for found in every if found.spelled]
    skipped = [found.word for found in every if not found.entries]
    glosses = tuple(entry.gloss for entry in entries)
    return Signed(glosses, pose, None, spelled, skipped, language, remarks=remarks)
