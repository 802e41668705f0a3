"""Which gloss a word of the training texts always brings with it, so that one which is lost can be told.

A model that meets words in an order which it was not taught ("the mother's book is old") may leave one out and be sure
of the rest. It is no translation: most words (articles, those of prompts) bring none, and what several glosses can say
is not looked for.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from signer_jax.stations.unknown_words import ties
from signer_jax.writing import words_of

LEAST, SHARE = 5, 0.95  # a word's texts; in how many of them its gloss must be


def always_of(texts: Iterable[tuple[str, Sequence[str]]]) -> dict[str, tuple[str, ...]]:
    """By word, the glosses that are in `SHARE` of the texts with that word, the one first that is in fewest others.

    `texts`: each a text and its glosses, of one language. Words of fewer than `LEAST` texts, and those without such a
    gloss, are left out.
    """
    in_words: Counter[str] = Counter()
    in_glosses: Counter[str] = Counter()
    together: dict[str, Counter[str]] = {}
    for text, glosses in texts:
        of_text = set(glosses)
        in_glosses.update(of_text)
        for word in {word.key for word in words_of(text)}:
            in_words[word] += 1
            together.setdefault(word, Counter()).update(of_text)
    found = {}
    for word, count in in_words.items():
        always = [gloss for gloss, both in together[word].items() if both >= SHARE * count]
        if count >= LEAST and always:
            # Of equally frequent ones (#A and #D of a name) the first in the alphabet: the same whatever the run.
            seldom = sorted((in_glosses[gloss] - together[word][gloss], gloss) for gloss in always)
            found[word] = tuple(gloss for _, gloss in seldom)
    return found


def meanings_of(always: Mapping[str, Sequence[str]], companions: Mapping[str, Collection[str]]) -> dict[str, str]:
    """By word, the gloss that it brings, of several (`always_of`) the first.

    Left out is "habe", of which ICH would be found, that "ich" brings, which is always beside it (`companions_of`).
    """
    found = {word: glosses[0] for word, glosses in always.items()}
    return {
        word: gloss
        for word, gloss in found.items()
        if not any(found.get(other) == gloss and word not in companions[other] for other in companions[word])
    }


def unsaid(read: str, glosses: Collection[str], meaning: Mapping[str, str]) -> list[tuple[str, str]]:
    """The words of what was read whose gloss is not among the glosses, each once with that gloss."""
    lost = {word.key: (word.key, meaning[word.key]) for word in words_of(read) if word.key in meaning}
    return [(word, gloss) for word, gloss in lost.values() if gloss not in glosses]


def companions_of(texts: Iterable[tuple[str, Sequence[str]]]) -> dict[str, frozenset[str]]:
    """By word, the others that each text with it has: "you" of "thank", "ich" of "habe"."""
    found: dict[str, frozenset[str]] = {}
    for text, _ in texts:
        keys = frozenset(word.key for word in words_of(text))
        for key in keys:
            found[key] = found[key] & keys if key in found else keys
    return {key: others - {key} for key, others in found.items()}


def only_meaning(
    read: str, spoken: str, meaning: Mapping[str, str], companions: Mapping[str, Collection[str]]
) -> tuple[str, str] | None:
    """The one word of what was read that says anything, with its gloss; None where more words do, or it has none. What
    is there whenever that word is says nothing more.
    """
    keys = {word.key for word in words_of(read)}
    telling = {key for key in keys if not ties(key, spoken)} or keys & meaning.keys()
    known = telling & meaning.keys()
    word = known.pop() if len(known) == 1 else ""
    return (word, meaning[word]) if word and telling <= {word, *companions.get(word, ())} else None
