"""German clauses, drawn at random around a focus item."""

from signer_jax.data.builtin.clauses_english import English, Picker, tagged
from signer_jax.data.builtin.vocabulary import NAMES, TABLES, Item, adjective_ending, vocabulary


class German(English):
    """German clauses: the finite verb stands second, the participle or infinitive last."""

    SUBJECTS = (("ich", 0), ("du", 1), ("er", 2), ("sie", 2), ("wir", 3))
    OBJECTS = ("mich", "dich", "ihn", "uns")
    OWNERS = ("mein", "dein", "sein", "unser")
    _HAVE, _BE = ("habe", "hast", "hat", "haben"), ("bin", "bist", "ist", "sind")

    def __init__(self, pick: Picker) -> None:
        self.pick, self.words, self.tables = pick, vocabulary("gsg"), TABLES["gsg"]
        self.people = tagged(self.words.nouns, "p")
        self.places = tagged(self.words.nouns, "l")
        self.actions = [verb for verb in self.words.verbs if str(verb) not in self.tables.STATES]

    def owned(self, noun: Item, case: str) -> str:
        owner = self.pick(self.OWNERS)
        endings = {"nominative": {"m": "", "f": "e", "n": ""}, "accusative": {"m": "en", "f": "e", "n": ""},
                   "dative": {"m": "em", "f": "er", "n": "em"}}  # fmt: skip
        return f"{owner}{endings[case][noun.gender]} {noun}"

    def subject(self) -> tuple[str, int]:
        if self.pick.focus in self.people or self.pick.focus in self.OWNERS or self.pick.chance(0.2):
            return self.owned(self.pick(self.people), "nominative"), 2
        return self.pick(self.SUBJECTS)

    def the(self, noun: Item, accusative: bool = False) -> str:
        return f"{ {'m': 'den' if accusative else 'der', 'f': 'die', 'n': 'das'}[noun.gender] } {noun}"

    def phrase(self, noun: Item, without: bool = False) -> str:
        """An object in the accusative; `without` makes it "kein …"."""
        gender, plural = noun.gender, noun.forms[1]
        if without and noun.tags not in ("p", "h"):
            return f"{ {'m': 'keinen', 'f': 'keine', 'n': 'kein'}[gender] } {noun}"
        if noun.tags in ("p", "h"):
            return self.owned(noun, "accusative")
        if plural == "-":
            return self.the(noun, True) if self.pick.chance(0.4) else str(noun)
        colours = [a for a in self.words.adjectives if "n" in a.tags]
        adjective = self.pick(colours).forms[1] if self._describes(noun, colours) else ""
        kind = self.pick.rng.random()
        if self.pick.focus in self.tables.NUMBERS or kind < 0.15:
            number = self.pick(tuple(self.tables.NUMBERS))
            return f"{number} {adjective + 'e ' if adjective else ''}{plural}"
        article, definite = self.the(noun, True).split()[0], kind < 0.6
        if not definite:
            article = {"m": "einen", "f": "eine", "n": "ein"}[gender]
        return f"{article} {adjective + adjective_ending(gender, definite, True) + ' ' if adjective else ''}{noun}"

    def at(self, place: Item) -> str:
        return f"in der {place}" if place.gender == "f" else f"im {place}"

    def towards(self, place: Item) -> str:
        return {"m": "in den", "f": "in die", "n": "ins"}[place.gender] + f" {place}"

    def finite(self, verb: Item, person: int) -> str:
        return verb.forms[0] if person == 3 else verb.forms[1 + person]

    def second(self, who: str, finite: str, rest: str, times: tuple[str, ...], share: float) -> str:
        """A main clause with the finite verb in the second place, perhaps opened or followed by a time word."""
        if self.pick.focus not in times and not self.pick.chance(share):
            return f"{who} {finite} {rest}".strip() + "."
        time = self.pick(times)
        clause = f"{time} {finite} {who} {rest}" if self.pick.chance(0.5) else f"{who} {finite} {time} {rest}"
        return clause.strip() + "."

    def tense(self, verb: Item, person: int, rest: str, who: str) -> str:
        t, focus, draw = self.tables, self.pick.focus, self.pick.rng.random()
        if focus in t.PAST_TIMES or focus == "FERTIG" or (draw < 0.45 and focus not in t.TIMES):
            helper = (self._BE if verb in self.words.motion else self._HAVE)[person]
            share = 0.0 if focus == "FERTIG" else 0.45
            return self.second(who, helper, f"{rest} {verb.forms[4]}".strip(), t.PAST_TIMES, share)
        finite = self.finite(verb, person)
        if focus == "nie" or draw < 0.52:
            return f"{who} {finite} nie {rest}".strip() + "."
        if focus == "nicht" or draw < 0.62:
            # "nicht" follows an object but precedes a preposition
            negated = f"nicht {rest}" if rest.split()[0] in ("in", "im", "ins", "mit") else f"{rest} nicht"
            return self.second(who, finite, negated, t.PRESENT_TIMES, 0.2)
        return self.second(who, finite, rest, t.PRESENT_TIMES + t.FUTURE_TIMES, 0.5)

    def transitive(self) -> str:
        who, person = self.subject()
        verb, noun = self.pick.pair(self.words.verbs, self.words.nouns)
        if self.pick.focus == "kein" or self.pick.chance(0.1):
            return f"{who} {self.finite(verb, person)} {self.phrase(noun, without=True)}."
        rest = self.phrase(noun)
        if set(noun.tags) & set("fd") and self.pick.chance(0.2):
            other = self.pick.rng.choice([n for n in self.words.nouns if set(n.tags) & set("fd") and n.forms[1] == "-"])
            rest = f"{rest} und {other}" if other != noun else rest
        return self.tense(verb, person, rest, who)

    def pronominal(self) -> str:
        who, person = self.subject()
        verb = self.pick(self.words.verbs)
        return self.tense(verb, person, self.pick(self.OBJECTS) if "p" in verb.tags else "es", who)

    def modal(self) -> str:
        who, person = self.subject()
        modals = [tuple(line.split()[:4]) for line in self.tables.MODALS.strip().splitlines()]
        modal = self.pick(modals)[person]
        if self.pick.focus in self.words.motion or self.pick.focus in self.places or self.pick.chance(0.25):
            return f"{who} {modal} {self.towards(self.pick(self.places))} {self.pick(self.words.motion)}."
        verb, noun = self.pick.pair(self.actions, self.words.nouns)
        return f"{who} {modal} {self.phrase(noun)} {'nicht ' if self.pick.chance(0.2) else ''}{verb}."

    def yes_no(self) -> str:
        who, person = self.subject()
        verb, noun = self.pick.pair(self.words.verbs, self.words.nouns)
        if self.pick.chance(0.35):
            return f"{self._HAVE[person]} {who} {self.phrase(noun)} {verb.forms[4]}?"
        return f"{self.finite(verb, person)} {who} {self.phrase(noun)}?"

    def question(self) -> str:
        who, person = self.subject()
        verb, noun = self.pick.pair(self.words.verbs, self.words.nouns)
        past = self.pick.chance(0.5)
        match self.pick(tuple(self.tables.QUESTIONS)):
            case "was":
                return (
                    f"was {self._HAVE[person]} {who} {verb.forms[4]}?"
                    if past
                    else f"was {self.finite(verb, person)} {who}?"
                )
            case "wer":
                thing = self.phrase(noun)
                return f"wer hat {thing} {verb.forms[4]}?" if past else f"wer {verb.forms[3]} {thing}?"
            case "wo" if self.pick.chance(0.5):
                thing = self.owned(noun, "nominative") if noun.tags in ("p", "h") else self.the(noun)
                return f"wo ist {thing}?"
            case "wie viele":
                counted = self.pick([n for n in self.words.nouns if n.forms[1] != "-" and n.tags not in ("p", "h")])
                return f"wie viele {counted.forms[1]} {self._HAVE[person]} {who}?"
            case wh:
                if past:
                    return f"{wh} {self._HAVE[person]} {who} {self.phrase(noun)} {verb.forms[4]}?"
                return f"{wh} {self.finite(verb, person)} {who} {self.phrase(noun)}?"

    def person_is(self) -> str:
        who, person = self.subject()
        adjective = self.pick([a for a in self.words.adjectives if "p" in a.tags])
        copula, draw = self._BE[person], self.pick.rng.random()
        if self.pick.focus == "warum" or draw < 0.1:
            return f"warum {copula} {who} {adjective}?"
        if draw < 0.25:
            return f"{copula} {who} {adjective}?"
        if self.pick.focus == "nicht" or draw < 0.4:
            return f"{who} {copula} nicht {adjective}."
        very = "sehr " if self.pick.focus == "sehr" or self.pick.chance(0.35) else ""
        return self.second(who, copula, f"{very}{adjective}", ("heute", "jetzt"), 0.25)

    def thing_is(self) -> str:
        noun = self.pick([n for n in self.words.nouns if n.forms[1] != "-" and n.tags not in ("p", "h")])
        adjective = self.pick([a for a in self.words.adjectives if "n" in a.tags])
        if self.pick.chance(0.2):
            return f"ist {self.the(noun)} {adjective}?"
        link = "ist nicht" if self.pick.chance(0.2) else "ist sehr" if self.pick.chance(0.2) else "ist"
        return f"{self.the(noun)} {link} {adjective}."

    def sensed(self) -> str:
        noun = self.pick([n for n in self.words.nouns if str(n) == "wetter" or (n.tags in ("f", "d"))])
        adjective = self.pick([a for a in self.words.adjectives if "w" in a.tags])
        if self.pick.chance(0.25):
            return f"ist {self.the(noun)} {adjective}?"
        return self.second(self.the(noun), "ist", str(adjective), self.tables.PRESENT_TIMES, 0.4)

    def weather(self) -> str:
        item, t = self.pick(self.words.weather), self.tables
        if self.pick.focus in t.PAST_TIMES or self.pick.chance(0.35):
            return self.second("es", "hat", item.forms[4], t.PAST_TIMES, 0.8)
        return self.second("es", item.forms[3], "", t.PRESENT_TIMES + t.FUTURE_TIMES, 0.9)

    def motion(self) -> str:
        who, person = self.subject()
        return self.tense(self.pick(self.words.motion), person, self.towards(self.pick(self.places)), who)

    def activity(self) -> str:
        who, person = self.subject()
        verb = self.pick(self.words.intransitive)
        if str(verb) != "schlafen" and (self.pick.focus == "mit" or self.pick.chance(0.35)):
            return self.tense(verb, person, f"mit {self.owned(self.pick(self.people), 'dative')}", who)
        return self.tense(verb, person, self.at(self.pick(self.places)), who)

    def naming(self) -> str:
        name = self.pick(NAMES)
        if self.pick.focus == "name" or self.pick.chance(0.6):
            hello = "hallo, " if self.pick.focus == "hallo" or self.pick.chance(0.3) else ""
            return f"{hello}{self.pick(self.OWNERS)} name ist {name}."
        who, person = self.subject()
        return self.tense(self.pick([v for v in self.words.verbs if "p" in v.tags]), person, name, who)

    def request(self) -> str:
        verb, noun = self.pick.pair(self.actions, self.words.nouns)
        return f"bitte {self.phrase(noun)} {verb}."

    def greeting(self) -> str:
        who, person = self.subject()
        verb, noun = self.pick.pair(self.words.verbs, self.words.nouns)
        match self.pick(("hallo", "danke", "entschuldigung")):
            case "hallo":
                return f"hallo, {self.yes_no()}"
            case "danke":
                return f"danke, {who} {self.finite(verb, person)} {self.phrase(noun)}."
            case _:
                return f"entschuldigung, {who} {self._HAVE[person]} es {verb.forms[4]}."
