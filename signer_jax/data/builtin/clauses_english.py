"""English clauses, drawn at random around a focus item."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from signer_jax.data.builtin.vocabulary import NAMES, TABLES, Item, vocabulary

T = TypeVar("T")


class Picker:
    """Draws items at random, but takes the focus wherever it fits: this is how every item comes up equally often."""

    def __init__(self, rng: Random, focus: object) -> None:
        self.rng, self.focus = rng, focus

    def __call__(self, pool: Sequence[T]) -> T:
        return self.focus if self.focus in pool else self.rng.choice(pool)  # type: ignore[return-value]

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def pair(self, verbs: Sequence[Item], nouns: Sequence[Item]) -> tuple[Item, Item]:
        """A verb and a noun that it takes as its object."""
        if self.focus in nouns:
            noun: Item = self.focus  # type: ignore[assignment]
            fitting = [verb for verb in verbs if set(verb.tags) & set(noun.tags)]
            if fitting:
                return self.rng.choice(fitting), noun
        verb = self(verbs)
        return verb, self.rng.choice([noun for noun in nouns if set(verb.tags) & set(noun.tags)])


def tagged(nouns: Sequence[Item], tags: str) -> list[Item]:
    wanted = set(tags)
    return [noun for noun in nouns if not wanted.isdisjoint(noun.tags)]


class English:
    """English clauses. Persons: 0 I, 1 you, 2 he or a noun, 3 we or they; verbs take -s in the third person only."""

    SUBJECTS: tuple[tuple[str, int], ...] = (("i", 0), ("you", 1), ("he", 2), ("she", 2), ("we", 3), ("they", 3))
    OBJECTS: tuple[str, ...] = ("me", "you", "him", "us", "them")
    OWNERS: tuple[str, ...] = ("my", "your", "his", "her", "our", "their")

    def __init__(self, pick: Picker) -> None:
        self.pick, self.words, self.tables = pick, vocabulary("ase"), TABLES["ase"]
        self.people = tagged(self.words.nouns, "p")
        self.places = tagged(self.words.nouns, "l")
        self.actions = [verb for verb in self.words.verbs if str(verb) not in self.tables.STATES]

    def subject(self) -> tuple[str, int]:
        if self.pick.focus in self.people or self.pick.focus in self.OWNERS or self.pick.chance(0.2):
            return f"{self.pick(self.OWNERS)} {self.pick(self.people)}", 2
        return self.pick(self.SUBJECTS)

    def phrase(self, noun: Item) -> str:
        plural = noun.forms[1]
        colours = [a for a in self.words.adjectives if "n" in a.tags]
        adjective = f"{self.pick(colours)} " if self._describes(noun, colours) else ""
        if noun.tags in ("p", "h"):
            return f"{self.pick(self.OWNERS)} {noun}"
        if plural == "-":
            return f"the {noun}" if self.pick.chance(0.4) else str(noun)
        kind = self.pick.rng.random()
        if self.pick.focus in self.tables.NUMBERS or kind < 0.15:
            return f"{self.pick(tuple(self.tables.NUMBERS))} {adjective}{plural}"
        if kind < 0.6:
            return f"the {adjective}{noun}"
        return f"{'an' if (adjective or str(noun))[0] in 'aeiou' else 'a'} {adjective}{noun}"

    def _describes(self, noun: Item, adjectives: list[Item]) -> bool:
        return bool(set(noun.tags) & set("txvo")) and (self.pick.focus in adjectives or self.pick.chance(0.2))

    def timed(self, clause: str, times: tuple[str, ...], share: float = 0.5) -> str:
        if self.pick.focus not in times and not self.pick.chance(share):
            return clause
        time = self.pick(times)
        return f"{time} {clause}" if self.pick.chance(0.4) else f"{clause} {time}"

    def tense(self, verb: Item, person: int, rest: str, who: str) -> str:
        """The verb in one of three tenses, perhaps negated, with a subject and a fitting time word."""
        base, third, past = verb.forms
        t, focus, draw = self.tables, self.pick.focus, self.pick.rng.random()
        if past != "-" and (focus in t.PAST_TIMES or focus == "FINISH" or (draw < 0.4 and focus not in t.TIMES)):
            return self.timed(f"{who} {past} {rest}".strip(), t.PAST_TIMES, 0.0 if focus == "FINISH" else 0.4) + "."
        if focus in t.FUTURE_TIMES or focus == "will" or (draw < 0.55 and focus not in t.TIMES):
            return self.timed(f"{who} will {base} {rest}".strip(), t.FUTURE_TIMES, 0.6) + "."
        if focus == "never" or draw < 0.62:
            return f"{who} never {third if person == 2 else base} {rest}".strip() + "."
        if focus == "not" or draw < 0.75:
            return (
                self.timed(f"{who} {'does' if person == 2 else 'do'} not {base} {rest}".strip(), t.PRESENT_TIMES, 0.2)
                + "."
            )
        return self.timed(f"{who} {third if person == 2 else base} {rest}".strip(), t.PRESENT_TIMES, 0.4) + "."

    def transitive(self) -> str:
        who, person = self.subject()
        verb, noun = self.pick.pair(self.words.verbs, self.words.nouns)
        rest = self.phrase(noun)
        if self.pick.focus == "and" or (set(noun.tags) & set("fd") and self.pick.chance(0.2)):
            other = self.pick.rng.choice([n for n in self.words.nouns if set(n.tags) & set("fd") and n.forms[1] == "-"])
            rest = f"{rest} and {other}" if other != noun else rest
        return self.tense(verb, person, rest, who)

    def pronominal(self) -> str:
        who, person = self.subject()
        verb = self.pick(self.words.verbs)
        rest = self.pick(self.OBJECTS) if "p" in verb.tags else "them" if self.pick.focus == "them" else "it"
        return self.tense(verb, person, rest, who)

    def modal(self) -> str:
        who, person = self.subject()
        modal = self.pick(("can", "must", "want to"))
        modal = "wants to" if person == 2 and modal == "want to" else modal
        if self.pick.focus in self.words.motion or (self.pick.focus in self.places) or self.pick.chance(0.25):
            return f"{who} {modal} {self.pick(self.words.motion)} to the {self.pick(self.places)}."
        verb, noun = self.pick.pair(self.actions, self.words.nouns)
        negation = "not " if modal in ("can", "must") and self.pick.chance(0.3) else ""
        return f"{who} {modal} {negation}{verb} {self.phrase(noun)}."

    def yes_no(self) -> str:
        who, person = self.subject()
        verb, noun = self.pick.pair(self.words.verbs, self.words.nouns)
        if self.pick.chance(0.2):
            return f"can {who} {verb} {self.phrase(noun)}?"
        opening = "did" if self.pick.chance(0.4) else "does" if person == 2 else "do"
        return f"{opening} {who} {verb} {self.phrase(noun)}?"

    def question(self) -> str:
        who, person = self.subject()
        verb, noun = self.pick.pair(self.words.verbs, self.words.nouns)
        do, did = "does" if person == 2 else "do", "did"
        opening = did if self.pick.chance(0.5) else do
        match self.pick(tuple(self.tables.QUESTIONS)):
            case "what":
                return f"what {opening} {who} {verb}?"
            case "who":
                form = verb.forms[2] if opening == did and verb.forms[2] != "-" else verb.forms[1]
                return f"who {form} {self.phrase(noun)}?"
            case "where" if self.pick.chance(0.5):
                return f"where is {self.pick(self.OWNERS) if noun.tags in ('p', 'h') else 'the'} {noun}?"
            case "how many":
                counted = self.pick([n for n in self.words.nouns if n.forms[1] != "-" and n.tags not in ("p", "h")])
                return f"how many {counted.forms[1]} {do} {who} have?"
            case wh:
                return f"{wh} {opening} {who} {verb} {self.phrase(noun)}?"

    def person_is(self) -> str:
        who, person = self.subject()
        adjective = self.pick([a for a in self.words.adjectives if "p" in a.tags])
        copula = ("am", "are", "is", "are")[person]
        draw = self.pick.rng.random()
        if self.pick.focus == "why" or draw < 0.1:
            return f"why {copula} {who} {adjective}?"
        if draw < 0.25:
            return f"{copula} {who} {adjective}?"
        if self.pick.focus == "not" or draw < 0.4:
            return f"{who} {copula} not {adjective}."
        very = "very " if self.pick.focus == "very" or self.pick.chance(0.35) else ""
        return self.timed(f"{who} {copula} {very}{adjective}", ("today", "now"), 0.25) + "."

    def thing_is(self) -> str:
        noun = self.pick([n for n in self.words.nouns if n.forms[1] != "-" and n.tags not in ("p", "h")])
        adjective = self.pick([a for a in self.words.adjectives if "n" in a.tags])
        if self.pick.chance(0.2):
            return f"is the {noun} {adjective}?"
        link = "is not" if self.pick.chance(0.2) else "is very" if self.pick.chance(0.2) else "is"
        return f"the {noun} {link} {adjective}."

    def sensed(self) -> str:
        noun = self.pick([n for n in self.words.nouns if str(n) == "weather" or (n.tags in ("f", "d"))])
        adjective = self.pick([a for a in self.words.adjectives if "w" in a.tags])
        if self.pick.chance(0.25):
            return f"is the {noun} {adjective}?"
        return self.timed(f"the {noun} is {adjective}", self.tables.PRESENT_TIMES, 0.4) + "."

    def weather(self) -> str:
        item = self.pick(self.words.weather)
        if self.pick.focus in self.tables.FUTURE_TIMES or self.pick.chance(0.25):
            return self.timed(f"it will {item}", self.tables.FUTURE_TIMES, 0.9) + "."
        if self.pick.focus in self.tables.PAST_TIMES or self.pick.chance(0.3):
            return self.timed(f"it {item.forms[2]}", self.tables.PAST_TIMES, 0.8) + "."
        return self.timed(f"it {item.forms[1]}", self.tables.PRESENT_TIMES, 0.9) + "."

    def motion(self) -> str:
        who, person = self.subject()
        return self.tense(self.pick(self.words.motion), person, f"to the {self.pick(self.places)}", who)

    def activity(self) -> str:
        who, person = self.subject()
        verb = self.pick(self.words.intransitive)
        if str(verb) != "sleep" and (self.pick.focus == "with" or self.pick.chance(0.35)):
            return self.tense(verb, person, f"with {self.pick(self.OWNERS)} {self.pick(self.people)}", who)
        place = f"{'in' if self.pick.chance(0.5) else 'at'} the {self.pick(self.places)}"
        return self.tense(verb, person, place, who)

    def naming(self) -> str:
        name = self.pick(NAMES)
        draw = self.pick.rng.random()
        if self.pick.focus == "name" or draw < 0.6:
            hello = "hello, " if self.pick.focus == "hello" or self.pick.chance(0.3) else ""
            return f"{hello}{self.pick(self.OWNERS)} name is {name}."
        who, person = self.subject()
        return self.tense(self.pick([v for v in self.words.verbs if "p" in v.tags]), person, name, who)

    def request(self) -> str:
        verb, noun = self.pick.pair(self.actions, self.words.nouns)
        return f"please {verb} {self.phrase(noun)}."

    def greeting(self) -> str:
        who, person = self.subject()
        verb, noun = self.pick.pair(self.words.verbs, self.words.nouns)
        match self.pick(("hello", "thank you", "sorry")):
            case "hello":
                return f"hello, {self.yes_no()}"
            case "thank you":
                return f"thank you, {who} {verb.forms[1] if person == 2 else verb} {self.phrase(noun)}."
            case _:
                form = verb.forms[2] if verb.forms[2] != "-" else verb.forms[1] if person == 2 else str(verb)
                return f"sorry, {who} {form} it."
