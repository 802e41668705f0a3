"""What an unknown word may be: a name, a word that a capital letter makes look like one, or a negation; and which known
words say nothing beside it.
"""

import re
from collections.abc import Sequence

from signer_jax.stations.sentences import TITLES
from signer_jax.writing import Word

NAME, NOUN_OR_NAME, FIRST, OTHER = "name", "noun or name", "first word of a sentence", "other word"
# What none of the words that are left can stand for: without it the text says the opposite.
_NEGATIONS = frozenset({
    "no", "not", "never", "nobody", "nothing", "nowhere", "none", "neither", "nor", "without", "cannot",
    "no-one", "nicht", "nichts", "nie", "niemals", "niemand", "niemanden", "niemandem", "nirgends", "nirgendwo",
    "kein", "keine", "keinen", "keinem", "keiner", "keines", "keinerlei", "weder", "ohne",
})  # fmt: skip
_BEGINS = re.compile(r"[.!?\u2026:\r\n]|(?<!\w)['\"]$")  # in what stands before a word
_ENDS = re.compile(r"[.!?\u2026]")
# Articles, and what only ties words together: a model that is given nothing but these makes up the rest.
_TIES = {
    "english": frozenset({
        "a", "an", "the", "of", "and", "or", "to", "in", "on", "at", "for", "from", "with", "by", "as", "is", "are",
        "am", "was", "were", "be", "been", "do", "does", "it", "this", "that",
    }),
    "german": frozenset({
        "der", "die", "das", "den", "dem", "des", "ein", "eine", "einen", "einem", "einer", "eines", "und", "oder",
        "zu", "zum", "zur", "in", "im", "ins", "am", "an", "auf", "für", "von", "vom", "mit", "aus", "bei", "als",
        "ist", "sind", "bin", "bist", "war", "waren", "es",
    }),
}  # fmt: skip
# Of these the pronouns: what stands for a thing is signed where nothing else is there.
_POINTS = {"english": frozenset({"it", "this", "that"}), "german": frozenset({"es"})}


def ties(word: str, spoken: str) -> bool:
    """Whether a known word of a spoken language ("english", "german") says nothing by itself."""
    return word.lower() in _TIES.get(spoken, ())


def points(word: str, spoken: str) -> bool:
    """Whether a word that `ties` is a pronoun."""
    return word.lower() in _POINTS.get(spoken, ())


def negates(word: str) -> bool:
    return word.lower() in _NEGATIONS or word.lower().endswith("n't")


def kinds(text: str, words: Sequence[Word], spoken: str, owners: Sequence[str] = ()) -> list[str]:
    """What each word of the `plain` text would be if nobody knew it: `NAME`, `NOUN_OR_NAME`, `FIRST` or `OTHER`.

    A digit makes a name of a word (something to spell), not a numeral that is a letter (四); so do capital letters
    alone, and a capital letter where it says something: not in the first word of a sentence, unless that is all there
    is of it, without a full stop, or owns something (`owners`: "Anna's"), or is a title with its full stop ("Dr.
    Smith"). Of a German word within a sentence it says that it is a noun or a name.
    """
    starts = [0, *(word.end for word in words)]
    gaps = [text[start : word.start] for start, word in zip(starts, words, strict=False)] + [text[starts[-1] :]]
    found = []
    for i, word in enumerate(words):
        before, after, written = gaps[i], gaps[i + 1], word.written
        abbreviated = i > 0 and before.strip() == "." and _abbreviated(words[i - 1])
        begins = i == 0 or (_BEGINS.search(before) is not None and not abbreviated)
        last = i + 1 == len(words) or _BEGINS.search(after) is not None or "'" in after or '"' in after
        alone = begins and last and (_ENDS.match(after.strip()) is None or bool(re.search("[:'\"]", before)))
        titled = begins and word.key in TITLES and after.startswith(".")
        if negates(written) or not any(letter.isupper() or letter.isdigit() for letter in written):
            found.append(OTHER)
        elif written == written.upper() or any(map(str.isdigit, written)) or alone or written in owners or titled:
            found.append(NAME)
        elif begins:
            found.append(FIRST)
        else:
            found.append(NOUN_OR_NAME if spoken == "german" and not abbreviated else NAME)
    return found


def _abbreviated(word: Word) -> bool:
    """Whether its full stop ends no sentence: "Dr.", "J.", "e.g.", "3."."""
    return word.key in TITLES or len(word.key) == 1 or word.key.isnumeric()
