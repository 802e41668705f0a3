"""Without a model: text -> pose, words straight from a pose database."""

from signer_jax.errors import SignerError
from signer_jax.pose.prior import Entry, Prior
from signer_jax.stations.perform import join
from signer_jax.types import Signed


def look_up(text: str, language: str | None, prior: Prior, transition: float) -> Signed:
    """Each word of a text as the database has it, or fingerspelled; `transition` seconds between two signs. No video.

    Raises `SignerError` for an empty text, an ambiguous language, or where nothing could be found.
    """
    words = tuple(word.strip(".,;:!?'\"()") for word in text.split())
    words = tuple(word for word in words if word)
    if not words:
        raise SignerError("the text is empty; give at least one word")
    codes = sorted(prior.languages)
    if language is None:
        best = {code: sum(bool(_found(prior, word, code)) for word in words) for code in codes}
        language = max(codes, key=lambda code: best[code])
    elif language not in codes:
        raise SignerError(f"language {language!r}: the prior has {', '.join(codes)}")
    entries: list[Entry] = []
    spelled, skipped = [], []
    for word in words:
        found = prior.variants(word, language)[:1]
        if not found and (letters := prior.fingerspell(word, language)):
            found = letters
            spelled.append(word)
        if not found:
            skipped.append(word)
        entries += found
    if not entries:
        raise SignerError(
            f"{' '.join(words)}: the prior has neither the words nor their letters for language {language}"
        )
    segments = [prior.pose(entry) for entry in entries]
    pose, _ = join(segments, transition)
    return Signed(tuple(entry.gloss for entry in entries), pose, None, spelled, skipped, language)


def _found(prior: Prior, word: str, language: str) -> list[Entry]:
    return prior.variants(word, language) or prior.fingerspell(word, language) or []
