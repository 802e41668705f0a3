"""Glosses by a program, of texts without any or of all: what nobody annotated, told as `rules` or `slul` everywhere.

The rules are for English alone. A word becomes its base form in lower case, as WLASL writes its glosses; articles,
forms of "be", "do" as an auxiliary, "to", "of" and the 's of an owner are left out. The order is the text's. This is no
translation: word order, directions, classifiers and everything that is not manual lack.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from signer_jax.data.datasets.item import Found, Item
from signer_jax.data.short_forms import written_out
from signer_jax.writing import words_of

MACHINES = ("rules", "slul")  # values of `glosses_by` that no person stands behind
# Of a text that has glosses in the dataset, in a set that has a program's alone.
UNGLOSSED = "glosses of the dataset that the program has none in place of: left out"
# Texts, their sign language and their spoken one -> the glosses of each; None where it has none for that language.
Glosses = Callable[[Sequence[str], str, str], list[tuple[str, ...]] | None]

_LEFT_OUT = frozenset({
    "a", "an", "the", "am", "is", "are", "was", "were", "be", "been", "being", "do", "does", "did", "to", "of", "um",
    "uh",
})  # fmt: skip
_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "people": "people", "feet": "foot", "teeth": "tooth",
    "mice": "mouse", "geese": "goose", "lives": "life", "wives": "wife", "knives": "knife", "leaves": "leaf",
    "changed": "change", "changing": "change",
    "went": "go", "gone": "go", "goes": "go", "has": "have", "had": "have", "having": "have", "said": "say",
    "made": "make", "making": "make", "took": "take", "taken": "take", "taking": "take", "came": "come",
    "coming": "come", "saw": "see", "seen": "see", "got": "get", "gotten": "get", "gave": "give", "given": "give",
    "giving": "give", "knew": "know", "known": "know", "thought": "think", "told": "tell", "found": "find",
    "felt": "feel", "left": "leave", "kept": "keep", "began": "begin", "begun": "begin", "brought": "bring",
    "bought": "buy", "taught": "teach", "caught": "catch", "wrote": "write", "written": "write", "ran": "run",
    "spoke": "speak", "ate": "eat", "eaten": "eat", "drank": "drink", "drove": "drive", "stood": "stand", "sat": "sit",
    "lost": "lose", "met": "meet", "paid": "pay", "sent": "send", "spent": "spend", "won": "win", "held": "hold",
    "heard": "hear", "meant": "mean", "slept": "sleep", "used": "use", "using": "use", "better": "good", "best": "good",
}  # fmt: skip
# Endings that are no plural, past or -ing.
_AS_IT_IS = frozenset({
    "this", "his", "its", "yes", "us", "as", "always", "sometimes", "perhaps", "news", "series", "thing", "nothing",
    "something", "anything", "everything", "morning", "evening", "during", "spring", "string", "king", "ring", "sing",
    "bring", "need", "feed", "seed", "speed", "red", "bed", "hundred", "bus", "gas", "plus", "across", "towards",
    "besides", "whereas", "thus", "indeed", "wing", "swing", "bleed", "breed", "weed", "shed", "sled", "embed",
})  # fmt: skip
_DOUBLED = "bdgmnprt"
# lik-, nam-, writ-: after a short vowel the consonant would have been doubled.
_LONG = re.compile(r"[^aeiouy]*[aeiouy][^aeiouywx]")


def base(word: str) -> str:
    """The base form of an English word in lower case, by its ending: signs -> sign, tried -> try, running -> run."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _AS_IT_IS or not word.isascii() or not word.isalpha() or len(word) < 4:
        return word
    if word.endswith(("ies", "ied")) and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if word.endswith("s"):
        return word if word.endswith(("ss", "us", "is")) else word[:-1]
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2 and set(stem) & set("aeiouy"):
            if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] in _DOUBLED:
                return stem[:-1]
            silent = stem.endswith(("v", "c", "s", "z", "g", "u")) and not stem.endswith(("ss", "ng", "ous", "zz"))
            return f"{stem}e" if silent or _LONG.fullmatch(stem) else stem
    return word


def english(text: str) -> tuple[str, ...]:
    """The glosses of an English text."""
    written, _ = written_out(text, "english", frozenset())
    return tuple(base(word.key) for word in words_of(written) if word.key not in _LEFT_OUT)


def by_rules(texts: Sequence[str], language: str, spoken: str) -> list[tuple[str, ...]] | None:
    """`Glosses` by the rules of this file."""
    return [english(text) for text in texts] if spoken.split("-")[0].lower() == "en" else None


def glossed(found: Sequence[Found], glosses: Glosses, by: str, every: bool = False) -> list[Found]:
    """The items; those with a text and without glosses have the ones that are made of it, where there are any. With
    `every` all with a text have these or none: a set that is to stand beside people's does not repeat theirs.
    """
    made = [
        replace(one, glosses=None, glosses_by="") if every and isinstance(one, Item) and one.text else one
        for one in found
    ]
    lacking: dict[tuple[str, str], list[tuple[int, Item]]] = {}
    for i, one in enumerate(made):
        if isinstance(one, Item) and one.text and not one.glosses:
            lacking.setdefault((one.language, one.spoken), []).append((i, one))
    for (language, spoken), items in lacking.items():
        for (i, one), its in zip(items, glosses([one.text for _, one in items], language, spoken) or (), strict=False):
            if its:
                made[i] = replace(one, glosses=its, glosses_by=by)
    return made


def unglossed(own: Found, given: Found) -> bool:
    """Whether what an item is given has none of the glosses that it had."""
    return isinstance(own, Item) and isinstance(given, Item) and bool(own.glosses) and not given.glosses
