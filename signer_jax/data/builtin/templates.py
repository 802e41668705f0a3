"""Templated texts of both languages: a clause around a focus item, bare or within a prompt."""

from collections.abc import Callable
from functools import cache
from random import Random

from signer_jax.data.builtin.clauses_english import English, Picker
from signer_jax.data.builtin.clauses_german import German
from signer_jax.data.builtin.grammar import fingerspell
from signer_jax.data.builtin.vocabulary import NAMES, TABLES, Item, vocabulary

_COMMON = ("transitive", "pronominal", "modal", "yes_no", "question")
_TURNS = ("thing_is", "sensed", "person_is", "naming", "request", "greeting", "activity", "motion", "weather")


@cache
def focuses(language: str) -> tuple[tuple[object, tuple[str, ...]], ...]:
    """Every item a sentence can be about, with the kinds of clause that have a place for it."""
    words, tables = vocabulary(language), TABLES[language]
    speaker = English if language == "ase" else German
    found: list[tuple[object, tuple[str, ...]]] = []
    for noun in words.nouns:
        if noun.tags == "l":
            kinds: tuple[str, ...] = ("motion", "activity", "modal")
        elif noun.tags == "p":
            kinds = ("transitive", "person_is", "activity", "question")
        elif noun.topic == "weather":
            kinds = ("sensed",)
        elif not any(set(noun.tags) & set(verb.tags) for verb in words.verbs):
            kinds = ("thing_is",)
        else:
            kinds = ("transitive", "transitive", "question", "yes_no", "modal", "request")
            kinds += () if noun.forms[1] == "-" or noun.tags in ("p", "h") else ("thing_is",)
            kinds += ("sensed",) if noun.tags in ("f", "d") else ()
        found.append((noun, kinds))
    found += [(verb, _COMMON) for verb in words.verbs]
    found += [(verb, ("activity",)) for verb in words.intransitive]
    found += [(verb, ("motion", "modal")) for verb in words.motion]
    found += [(verb, ("weather",)) for verb in words.weather]
    for adjective in words.adjectives:
        places = {"n": ("thing_is", "transitive_described"), "p": ("person_is",), "w": ("sensed",)}
        found.append((adjective, tuple(kind for tag in adjective.tags for kind in places[tag])))
    found += [(number, ("transitive_counted",)) for number in tables.NUMBERS]
    found += [(time, ("transitive", "motion", "activity", "weather")) for time in tables.TIMES]
    found += [(wh, ("question",)) for wh in tables.QUESTIONS]
    found += [(subject, _COMMON) for subject in speaker.SUBJECTS]
    found += [(other, ("pronominal_person",)) for other in speaker.OBJECTS]
    found += [(owner, ("activity", "naming", "person_is")) for owner in speaker.OWNERS]
    found += [(name, ("naming",)) for name in NAMES]
    greetings = ("hello", "thank you", "sorry") if language == "ase" else ("hallo", "danke", "entschuldigung")
    found += [(word, ("greeting",)) for word in greetings]
    if language == "ase":
        found += [("can", ("modal",)), ("must", ("modal",)), ("want to", ("modal",)), ("will", _COMMON[:1])]
        found += [("never", _COMMON[:2]), ("not", ("transitive", "person_is")), ("FINISH", _COMMON[:2])]
        found += [("very", ("person_is",)), ("with", ("activity",)), ("name", ("naming",)), ("please", ("request",))]
    else:
        found += [(tuple(line.split()[:4]), ("modal",)) for line in tables.MODALS.strip().splitlines()]
        found += [("nie", _COMMON[:2]), ("nicht", ("transitive", "person_is")), ("kein", ("transitive",))]
        found += [("sehr", ("person_is",)), ("mit", ("activity",)), ("name", ("naming",)), ("bitte", ("request",))]
        found += [("FERTIG", _COMMON[:2])]
    return tuple(found)


@cache
def sought(language: str, focus: object) -> frozenset[str]:
    """The glosses that a sentence about `focus` must have."""
    if isinstance(focus, Item):
        return frozenset((focus.gloss,))
    if focus in NAMES:
        return frozenset(fingerspell(str(focus)))
    word = str(focus[0] if isinstance(focus, tuple) else focus)  # subjects and German modals are tuples of forms
    forms = vocabulary(language).forms
    return frozenset((forms[word].gloss if word in forms else word,))


def clause(language: str, focus: object, kinds: tuple[str, ...], rng: Random) -> str:
    """One sentence about `focus`, of one of `kinds`, with its punctuation."""
    pick = Picker(rng, focus)
    speaker = (English if language == "ase" else German)(pick)
    kind = rng.choice(kinds)
    if "_" in kind and kind not in (*_COMMON, *_TURNS):  # only some nouns or verbs have a place for the focus
        kind, narrow = kind.rsplit("_", 1)
        nouns = [
            n for n in speaker.words.nouns if n.forms[1] != "-" and set(n.tags) & set("txv") and n.tags not in "ph"
        ]
        verbs = speaker.words.verbs
        if narrow == "person":
            verb = rng.choice([v for v in verbs if "p" in v.tags])
            return speaker.tense(verb, (subject := speaker.subject())[1], str(focus), subject[0])
        verb, noun = Picker(rng, None).pair([v for v in verbs if set(v.tags) & set("txv")], nouns)
        return speaker.tense(verb, (subject := speaker.subject())[1], speaker.phrase(noun), subject[0])
    make: Callable[[], str] = getattr(speaker, kind)
    return make()


def wrap(core: str, language: str, rng: Random) -> str:
    """The sentence within one of the prompts; only a bare sign goes into "what is the sign for …"."""
    prompts = TABLES[language].PROMPTS
    prompt = rng.choice(prompts) if " " not in core else rng.choice((prompts[0], *prompts[2:]))
    return prompt.format(core.rstrip(".?!"))
