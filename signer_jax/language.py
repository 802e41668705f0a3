"""Which sign language a text is for, where nobody says so: the one whose training texts know its words."""

from collections.abc import Callable

from signer_jax.data.records import words_of
from signer_jax.data.short_forms import written_out
from signer_jax.errors import SignerError

# What people write for a sign language's IANA code: its usual short name, or the country that it is of.
_ALSO = {"asl": "ase", "us": "ase", "en-us": "ase", "bsl": "bfi", "gb": "bfi", "en-gb": "bfi", "dgs": "gsg",
         "de-de": "gsg", "dsgs": "sgg", "de-ch": "sgg", "lsf": "fsl", "libras": "bzs"}  # fmt: skip
# Corpora name the spoken language beside a sign language in words, lexicons by its ISO 639-1 code.
_SPOKEN = {
    "en": "english", "de": "german", "deutsch": "german", "fr": "french", "es": "spanish", "pt": "portuguese",
    "it": "italian", "pl": "polish", "cs": "czech", "tr": "turkish", "el": "greek", "uk": "ukrainian",
}  # fmt: skip


def spoken_of(name: str) -> str:
    """A spoken language in English, lower case, whether it is named in words ("German", "Deutsch") or by its code."""
    return _SPOKEN.get(name.casefold(), name.casefold())


def code_of(language: str, known: dict[str, str]) -> str | None:
    """The run's code for what somebody wrote, whatever its case: the code itself, another name of the sign language, or
    the spoken language where only one of the run's languages goes with it. None where the run has no such language.

    `known`: IANA code -> the spoken language beside it, as `corpus.json` or a lexicon has it ("": not known).
    """
    asked = language.strip().casefold().replace("_", "-")
    codes = {code.casefold(): code for code in known}
    for name in (asked, _ALSO.get(asked, "")):
        if name in codes:
            return codes[name]
    spoken = _SPOKEN.get(asked.split("-")[0], asked)
    named = {code: name.casefold() for code, name in known.items() if name}
    beside = [code for code, name in named.items() if spoken_of(name) == spoken]
    # A country that has a sign language of its own never means another one.
    return beside[0] if len(beside) == 1 and asked not in _ALSO else None


def resolve_language(text: str, language: str | None, about: dict) -> str:
    """The IANA code to sign `text` in. `about` is the corpus's `corpus.json`: its languages and their training words.

    A run of one language needs no words for it. Raises `SignerError` for an empty text, a language that the run does
    not have, or a text whose words none of several languages knows.
    """
    known: dict[str, str] = about["languages"]
    listed = ", ".join(f"{code} ({name})" for code, name in sorted(known.items()))
    if not text.strip():
        raise SignerError("the text is empty; give at least one word")
    if language is not None:
        code = code_of(language, known)
        if code is None:
            raise SignerError(f"--language {language}: not a sign language of this run, which has {listed}")
        return code
    if len(known) == 1:
        return next(iter(known))
    shares = {
        code: _known_words(text, spoken_of(name), set(about["words"].get(code, ()))) for code, name in known.items()
    }
    best = max(sorted(shares), key=lambda code: shares[code])
    if shares[best] == 0:
        raise SignerError(f"the text is in no language that this run knows: {listed}; say which with --language")
    return best


def _known_words(text: str, spoken: str, known: set[str]) -> int:
    return sum(word.key in known for word in words_of(written_out(text, spoken, known)[0]))


def choose_language(language: str | None, spoken: dict[str, str], count: Callable[[str], int]) -> tuple[str, str]:
    """The language to look words up in, of those of a pose database, and what to say of it.

    `spoken`: code -> the spoken language beside it. Without one that is asked for, the language that has most of the
    words (`count(code)`). Raises `SignerError` for a language that the database lacks.
    """
    listed = ", ".join(f"{code} ({name})" if name else code for code, name in sorted(spoken.items()))
    if language is not None:
        code = code_of(language, spoken)
        if code is None:
            raise SignerError(f"--language {language}: not a sign language of this database, which has {listed}")
        return code, ""
    counts = {code: count(code) for code in sorted(spoken)}
    best = max(counts, key=lambda code: counts[code])
    equal = [code for code in counts if counts[code] == counts[best]]
    if len(equal) < 2:
        return best, ""
    return best, f"taken from {best}; {', '.join(equal[1:])} would do as well: say which with --language"
