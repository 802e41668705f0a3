"""Which sign language a text is for, where nobody says so: the one whose training texts know its words."""

from signer_jax.data.records import words_of
from signer_jax.errors import SignerError, closest


def resolve_language(text: str, language: str | None, about: dict) -> str:
    """The IANA code to sign `text` in. `about` is the corpus's `corpus.json`: its languages and their words.

    Raises `SignerError` for an empty text, an unknown code, or a text whose words no language knows.
    """
    known: dict[str, str] = about["languages"]
    listed = ", ".join(f"{code} ({name})" for code, name in sorted(known.items()))
    if not text.strip():
        raise SignerError("the text is empty; give at least one word")
    if language is not None:
        if language not in known:
            raise SignerError(
                f"--language {language}: not one of this run's languages{closest(language, known)}: {listed}"
            )
        return language
    words = [word for word in words_of(text) if word]
    shares = {code: sum(word in set(about["words"].get(code, ())) for word in words) for code in known}
    best = max(sorted(shares), key=lambda code: shares[code])
    if shares[best] == 0:
        raise SignerError(f"the text is in no language that this run knows: {listed}; say which with --language")
    return best
