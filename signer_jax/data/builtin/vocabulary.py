"""The two vocabularies as structs: every word form with its gloss, and the items the templates draw from."""

from dataclasses import dataclass
from functools import cache
from types import ModuleType

from signer_jax.data.builtin import english, german

LANGUAGES = {"ase": "English", "gsg": "German"}
TABLES: dict[str, ModuleType] = {"ase": english, "gsg": german}
NAMES = (
    "ada", "ben", "bob", "clara", "dora", "emil", "felix", "fritz", "gwen", "hugo", "ivy", "jack", "joshua", "kim",
    "liam", "max", "nina", "otto", "phil", "piet", "quinn", "jaqueline", "rosa", "sven", "ute", "vera", "wim", "xaver",
    "yusuf", "zack", "zoe",
)  # fmt: skip
LETTERS = tuple(f"#{chr(code)}" for code in range(ord("A"), ord("Z") + 1))


@dataclass(frozen=True)
class Word:
    """What one word form means: its gloss, its part of speech, the topic it belongs to, its tense or definiteness."""

    gloss: str
    kind: str
    topic: str = ""
    past: bool = False
    definite: bool = False


@dataclass(frozen=True)
class Item:
    """One line of a vocabulary table: the forms in the order of the table's columns."""

    forms: tuple[str, ...]
    gloss: str
    tags: str
    topic: str
    gender: str = ""

    def __str__(self) -> str:
        return self.forms[0]


@dataclass(frozen=True)
class Vocabulary:
    """One language's items by part of speech and its word forms (`phrases` are the forms of several words)."""

    nouns: tuple[Item, ...]
    verbs: tuple[Item, ...]
    intransitive: tuple[Item, ...]
    motion: tuple[Item, ...]
    weather: tuple[Item, ...]
    adjectives: tuple[Item, ...]
    forms: dict[str, Word]
    phrases: tuple[str, ...]
    glosses: tuple[str, ...]


def _rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.strip().splitlines()]


def _items(table: str, gender_column: int | None = None) -> tuple[Item, ...]:
    items = []
    for row in _rows(table):
        gender = row.pop(gender_column) if gender_column is not None else ""
        *forms, gloss, tags, topic = row
        items.append(Item(tuple(forms), gloss, tags.strip("-"), topic.strip("-"), gender))
    return tuple(items)


def adjective_ending(gender: str, definite: bool, accusative: bool) -> str:
    """The German ending of an adjective before a singular noun."""
    if definite:
        return "en" if gender == "m" and accusative else "e"
    return {"m": "en" if accusative else "er", "f": "e", "n": "es"}[gender]


def _english_forms(tables: ModuleType, forms: dict[str, Word]) -> None:
    verbs = [
        (tables.VERBS, "verb"),
        (tables.INTRANSITIVE, "verb"),
        (tables.WEATHER, "weather"),
        (tables.MOTION, "verb"),
    ]
    for table, kind in verbs:
        for item in _items(table):
            base, third, past = item.forms
            forms[past] = Word(item.gloss, kind, item.topic, past=True)
            forms[base] = forms[third] = Word(item.gloss, kind, item.topic)
    for form, gloss in tables.MODALS.items():
        forms[form] = Word(gloss, "modal")
    for form, owner in tables.POSSESSIVES.items():
        forms[form] = Word(owner, "possessive")
    for item in _items(tables.ADJECTIVES):
        forms[item.forms[0]] = Word(item.gloss, "adjective", item.topic)
    forms |= dict.fromkeys(("do", "does", "is", "are", "am", "be"), Word("", "auxiliary"))
    forms["did"] = Word("", "auxiliary", past=True)
    forms |= {"the": Word("", "article", definite=True), "a": Word("", "article"), "an": Word("", "article")}
    forms |= {"in": Word("", "at"), "at": Word("", "at"), "to": Word("", "towards"), "and": Word("", "and")}


def _german_forms(tables: ModuleType, forms: dict[str, Word]) -> None:
    verbs = [
        (tables.VERBS, "verb"),
        (tables.INTRANSITIVE, "verb"),
        (tables.WEATHER, "weather"),
        (tables.MOTION, "verb"),
    ]
    for table, kind in verbs:
        for item in _items(table):
            forms |= dict.fromkeys((form for form in item.forms if form != "-"), Word(item.gloss, kind, item.topic))
    for *persons, gloss in _rows(tables.MODALS):
        forms |= dict.fromkeys(persons, Word(gloss, "modal"))
    for stem, gloss in tables.POSSESSIVES.items():
        forms |= {stem + ending: Word(gloss, "possessive") for ending in ("", "e", "en", "er", "em")}
    for item in _items(tables.ADJECTIVES):
        base, stem = item.forms
        word = Word(item.gloss, "adjective", item.topic)
        forms |= dict.fromkeys((base, *(stem + ending for ending in ("e", "en", "er", "es"))), word)
    forms |= {"kein" + ending: Word("KEIN", "negation") for ending in ("", "e", "en")}
    forms |= dict.fromkeys(("bin", "bist", "ist", "sind"), Word("", "auxiliary"))
    forms |= {form: Word("HABEN", "have") for form in ("habe", "hast", "hat", "haben")}
    forms |= dict.fromkeys(("der", "die", "das", "den"), Word("", "article", definite=True))
    forms |= dict.fromkeys(("ein", "eine", "einen"), Word("", "article"))
    forms |= {"im": Word("", "at"), "in": Word("", "in"), "ins": Word("", "towards"), "und": Word("", "and")}


@cache
def vocabulary(language: str) -> Vocabulary:
    """The vocabulary of "ase" or "gsg"."""
    tables = TABLES[language]
    nouns = _items(tables.NOUNS, 2 if language == "gsg" else None)
    forms: dict[str, Word] = {}
    for item in nouns:
        forms |= dict.fromkeys((form for form in item.forms if form != "-"), Word(item.gloss, "noun", item.topic))
    (_english_forms if language == "ase" else _german_forms)(tables, forms)
    for table, kind in ((tables.NUMBERS, "number"), (tables.TIMES, "time"), (tables.QUESTIONS, "wh")):
        forms |= {form: Word(gloss, kind) for form, gloss in table.items()}
    forms |= {form: Word(gloss, "pronoun") for form, gloss in tables.PRONOUNS.items()}
    kinds = ("noun", "greeting", "greeting", "greeting", "please", "intensity", "with", "negation", "negation")
    forms |= {form: Word(tables.OTHERS[form], kind) for form, kind in zip(tables.OTHERS, kinds, strict=False)}
    glosses = dict.fromkeys(word.gloss for word in forms.values() if word.gloss) | dict.fromkeys(tables.MARKERS)
    return Vocabulary(
        nouns,
        _items(tables.VERBS),
        _items(tables.INTRANSITIVE),
        _items(tables.MOTION),
        _items(tables.WEATHER),
        _items(tables.ADJECTIVES),
        forms,
        tuple(sorted((form for form in forms if " " in form), key=len, reverse=True)),
        tuple(glosses),
    )
