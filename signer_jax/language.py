"""Which sign language a text is for, where nobody says so: the one whose training texts know its words."""

from collections.abc import Callable, Collection
from typing import Any

from signer_jax.data.language_codes import ALSO
from signer_jax.data.short_forms import written_out
from signer_jax.errors import SignerError
from signer_jax.pose.spoken_languages import BESIDE, SPOKEN, spoken_of
from signer_jax.writing import known_words, words_of


def code_of(language: str, known: dict[str, str]) -> tuple[str, str] | None:
    """The run's code for what somebody wrote, whatever its case, and what to say of it: the code itself, another name
    of the sign language, or the spoken language where only one of the run's languages goes with it. None where the run
    has no such language. What is said: which sign language a spoken one was taken as, where others go with it too.

    `known`: IANA code -> the spoken language beside it, as `corpus.json` or a lexicon has it ("": not known). Raises
    `SignerError` for a spoken language with several of them.
    """
    asked = language.strip().casefold().replace("_", "-")
    codes = {code.casefold(): code for code in known}
    for name in (asked, ALSO.get(asked, "")):
        if name in codes:
            return codes[name], ""
    if asked in ALSO:  # a country that has a sign language of its own never means another one
        return None
    spoken = SPOKEN.get(asked.split("-")[0], asked)
    beside = sorted(code for code, name in known.items() if name and spoken_of(name) == spoken)
    if not beside:
        return None
    if len(beside) > 1:
        raise SignerError(
            f"--language {language}: a spoken language, beside which there are {', '.join(beside)}; give one of these"
        )
    others = [code for code in BESIDE.get(spoken, ()) if code != beside[0]]
    said = ""
    if others:
        said = (
            f"--language {language}: taken as {beside[0]}, the only sign language here that goes with it; "
            f"{', '.join(others)} need a run or lexicon of their own"
        )
    return beside[0], said


def resolve_language(text: str, language: str | None, about: dict) -> tuple[str, str]:
    """The IANA code to sign `text` in, and what to say of the choice ("": nothing). `about` is the corpus's
    `corpus.json`: its languages and their training words.

    A run of one language needs no words for it. Raises `SignerError` for an empty text, a language that the run does
    not have, a spoken one that several go with, or a text whose words none of several languages knows.
    """
    known: dict[str, str] = about["languages"]
    listed = ", ".join(f"{code} ({name})" for code, name in sorted(known.items()))
    if not text.strip():
        raise SignerError("the text is empty; give at least one word")
    if language is not None:
        found = code_of(language, known)
        if found is None:
            raise SignerError(f"--language {language}: not a sign language of this run, which has {listed}")
        return found
    if len(known) == 1:
        return next(iter(known)), ""
    shares = {
        code: _known_words(text, spoken_of(name), known_words(about["words"].get(code, ())))
        for code, name in known.items()
    }
    best = max(sorted(shares), key=lambda code: shares[code])
    if shares[best] == 0:
        raise SignerError(f"the text is in no language that this run knows: {listed}; say which with --language")
    return best, _equal(best, shares)


def _equal(best: str, counts: dict[str, Any]) -> str:
    """How it is said that other languages have as many of the words, "" where none has."""
    others = [code for code in sorted(counts) if counts[code] == counts[best] and code != best]
    if not others:
        return ""
    return f"taken from {best}; {', '.join(others)} would do as well: say which with --language"


def _known_words(text: str, spoken: str, known: Collection[str]) -> int:
    return sum(word.key in known for word in words_of(written_out(text, spoken, known)[0]))


def choose_language(language: str | None, spoken: dict[str, str], count: Callable[[str], Any]) -> tuple[str, str]:
    """The language to look words up in, of those of a pose database, and what to say of it.

    `spoken`: code -> the spoken language beside it. Without one that is asked for, the language that has most of the
    words: `count(code)`, a number or several, of which the first that differ decide. Raises `SignerError` for a
    language that the database lacks.
    """
    listed = ", ".join(f"{code} ({name})" if name else code for code, name in sorted(spoken.items()))
    if language is not None:
        found = code_of(language, spoken)
        if found is None:
            raise SignerError(f"--language {language}: not a sign language of this database, which has {listed}")
        return found
    counts = {code: count(code) for code in sorted(spoken)}
    best = max(counts, key=lambda code: counts[code])
    found = counts[best]
    return best, _equal(best, counts) if (any(found) if isinstance(found, tuple) else found) else ""
