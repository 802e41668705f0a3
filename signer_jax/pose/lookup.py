"""Words looked up in a pose database without a model: by gloss, by what a lexicon says that a sign means, by its name
without the variant's mark, part by part, letter by letter; what is not simply found is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from signer_jax.errors import closest
from signer_jax.pose.fingerspelling import spellings, unspellable
from signer_jax.pose.prior import NO_PRIORITY, Entry, Prior

_LONGEST = 4  # words of an entry's name, or of a meaning, that are looked up together
_HINTED = 4  # letters: shorter words are near to anything


@dataclass(frozen=True)
class Found:
    """What became of a word, or of several that one entry names."""

    word: str
    entries: tuple[Entry, ...] = ()  # in their order; none: it is skipped
    spelled: bool = False
    said: str = ""  # what a reader must know: another gloss than was asked for, a choice, what is missing


def look_up(words: Sequence[str], language: str, prior: Prior) -> list[Found]:
    """The signs of the words, in their order."""
    found, i = [], 0
    while i < len(words):
        for n in range(min(_LONGEST, len(words) - i), 0, -1):
            phrase = " ".join(words[i : i + n])
            if one := _named(phrase, language, prior):
                break
        else:
            n, one = 1, _otherwise(words[i], language, prior)
        found.append(one)
        i += n
    return found


def _named(word: str, language: str, prior: Prior) -> Found | None:
    """By the gloss itself, or by a meaning."""
    if entries := prior.variants(word, language):
        return Found(word, (entries[0],), said=_choice(word, entries))
    if entries := prior.meanings(word, language):
        best = entries[0]
        choice = _choice(word, entries)
        return Found(word, (best,), said=f"{word}: signed as {best.gloss}, which means it{choice and f'; {choice}'}")
    return None


def _otherwise(word: str, language: str, prior: Prior) -> Found:
    if entries := prior.unmarked(word, language):
        return Found(word, (entries[0],), said=f"{word}: not there; signed as {entries[0].gloss}, the nearest gloss")
    parts = [part for part in word.replace("+", "-").split("-") if part]
    known = [(part, hit) for part in parts if (hit := prior.variants(part, language))]
    # A part that stands for a letter is none: T-shirt is no sign T.
    if len(parts) > 1 and any(len(part) > 1 for part, _ in known):
        signs = tuple(hit[0] for _, hit in known)
        gone = [part for part in parts if part not in {name for name, _ in known}]
        left = f", without {' '.join(gone)}" if gone else ""
        return Found(word, signs, said=f"{word}: not there; signed as {' '.join(e.gloss for e in signs)}{left}")
    forms = spellings(word)
    for form in forms:
        if letters := prior.fingerspell(form, language):
            said = f"{word}: spelled {form}, for lack of signs for its letters" if form != forms[0] else ""
            return Found(word, tuple(letters), spelled=True, said=said)
    lacking = unspellable(word, lambda letter: bool(prior.fingerspell(letter, language)))
    why = f", nor are signs for {' '.join(lacking)}" if lacking else ""
    near = closest(word.upper(), prior.glosses(language)) if len(word) >= _HINTED else ""
    return Found(word, said=f"{word}: not in the database{near}{why}")


def _choice(word: str, entries: Sequence[Entry]) -> str:
    """Which of several ways to sign was taken, and by what; "" where there is one."""
    best, of = entries[0], len({(entry.gloss, entry.variant) for entry in entries})
    if of < 2:
        return ""
    by = "no priority" if best.priority == NO_PRIORITY else f"priority {best.priority}"
    return f"{word}: {of} ways to sign it; took {best.gloss} of {best.source or 'the database'} ({by})"
