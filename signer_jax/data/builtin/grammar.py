"""From a templated text or prompt to its glosses: one deterministic rule grammar a language pair.

English -> ase: time, topic (a definite object), place, subject, modal, verb, FINISH (past without a time word), other
objects, goal, companion, predicate, negation, question word. Pronouns are index signs, possession is index + POSS,
adjectives follow their noun, numbers precede it, articles and the copula have no sign.

German -> gsg: time, place, subject, object, companion, goal, predicate, verb, modal, FERTIG (perfect), negation,
question word: the verb comes last; adjectives and numbers both follow their noun.

A word that the vocabulary lacks is fingerspelled.
"""

import re
from dataclasses import dataclass, field
from functools import cache

from signer_jax.data.builtin.vocabulary import TABLES, Word, vocabulary
from signer_jax.errors import SignerError

_FOLD = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "é": "e"})


@dataclass(frozen=True)
class Parse:
    """What the grammar found: `core` is the text without prompt and punctuation, `question` "", "yes-no" or "wh".

    `prompt` is the number of the prompt around it, None for a bare text.
    """

    core: str
    glosses: tuple[str, ...]
    question: str
    words: tuple[Word, ...]
    prompt: int | None


@dataclass
class _Clause:
    greetings: list[str] = field(default_factory=list)
    please: list[str] = field(default_factory=list)
    time: list[str] = field(default_factory=list)
    place: list[str] = field(default_factory=list)
    nominals: list[tuple[list[str], bool]] = field(default_factory=list)  # glosses, definite
    predicate: list[str] = field(default_factory=list)
    modal: list[str] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    goal: list[str] = field(default_factory=list)
    companion: list[str] = field(default_factory=list)
    negation: list[str] = field(default_factory=list)
    wh: list[str] = field(default_factory=list)
    past: bool = False
    have: bool = False
    auxiliary: bool = False


def fingerspell(word: str) -> tuple[str, ...]:
    """The letters' glosses, `#A` … `#Z`; umlauts are written out, what is no letter is left out."""
    return tuple(f"#{letter.upper()}" for letter in word.lower().translate(_FOLD) if "a" <= letter <= "z")


@cache
def _prompt_patterns(language: str) -> tuple[re.Pattern[str], ...]:
    patterns = []
    for prompt in TABLES[language].PROMPTS:
        before, after = prompt.rstrip("?").split("{}")
        patterns.append(re.compile(rf"{re.escape(before)}(.+?){re.escape(after)}[.?!]*"))
    return tuple(patterns)


@cache
def _phrase_pattern(language: str) -> re.Pattern[str]:
    return re.compile(r"\b(" + "|".join(vocabulary(language).phrases) + r")\b")


def unwrap(text: str, language: str) -> tuple[str, int | None]:
    """The quoted sentence of a prompt (or the text itself), lower-case and without punctuation; the prompt's number."""
    text = " ".join(text.lower().split())
    patterns = enumerate(_prompt_patterns(language))
    core, prompt = next(((match.group(1), i) for i, p in patterns if (match := p.fullmatch(text))), (text, None))
    return " ".join(re.sub(r"[^\w ]", " ", core).split()), prompt


def parse(text: str, language: str) -> Parse:
    """The glosses of a text or a prompt in English ("ase") or German ("gsg").

    Raises `SignerError` for another language or a text without words.
    """
    if language not in TABLES:
        raise SignerError(f"language {language!r}: the built-in corpus knows {', '.join(TABLES)}")
    core, prompt = unwrap(text, language)
    if not core:
        raise SignerError(f"text {text!r}: no words in it; give a sentence or a prompt")
    phrased = _phrase_pattern(language).sub(lambda match: match.group().replace(" ", "_"), core)
    tokens = [token.replace("_", " ") for token in phrased.split()]
    forms = vocabulary(language).forms
    words = [forms.get(token) or Word(token, "unknown") for token in tokens]
    clause = _read(words, tokens, language)
    glosses = (_order_ase if language == "ase" else _order_gsg)(clause)
    kinds = [word.kind for word in words]
    opens = next((kind for kind in kinds if kind not in ("greeting", "time")), "")
    leads = ("auxiliary", "modal") if language == "ase" else ("auxiliary", "modal", "verb", "have", "weather")
    asks = len(words) > 1 and opens in leads and kinds[0] != "time"
    question = "wh" if clause.wh else "yes-no" if asks else ""
    return Parse(core, tuple(glosses), question, tuple(words), prompt)


def _read(words: list[Word], tokens: list[str], language: str) -> _Clause:
    """Collects the words of a clause by their role; noun phrases are put in order (noun, adjectives) on the way."""
    clause = _Clause()
    role, owner, definite, joined = "nominal", "", False, False
    numbers: list[str] = []
    waiting: list[str] = []  # adjectives that still wait for a noun

    def close(noun: list[str]) -> None:
        nonlocal role, owner, definite, joined, numbers, waiting
        if language == "ase":
            phrase = [*([owner, "POSS"] if owner else []), *numbers, *noun, *waiting]
        else:
            phrase = [*([owner] if owner else []), *noun, *waiting, *numbers]
        if role == "nominal" and joined and clause.nominals:
            clause.nominals[-1][0].extend(phrase)
        elif role == "nominal":
            clause.nominals.append((phrase, definite))
        else:
            getattr(clause, role).extend(phrase)
        role, owner, definite, joined, numbers, waiting = "nominal", "", False, False, [], []

    for i, word in enumerate(words):
        match word.kind:
            case "noun":
                close([word.gloss])
            case "unknown":
                close(list(fingerspell(tokens[i])))
            case "pronoun":
                close([word.gloss])
            case "possessive":
                owner = word.gloss
            case "article":
                definite = word.definite
            case "number":
                numbers.append(word.gloss)
            case "adjective" | "intensity":
                waiting.append(word.gloss)
            case "and":
                joined = True
            case "at":
                role = "place"
            case "towards":
                role = "goal"
            case "in":  # German "in der" is a place, "in die" and "in den" a goal
                role = "place" if i + 1 < len(tokens) and tokens[i + 1] == "der" else "goal"
            case "with":
                role = "companion"
                clause.companion.append(word.gloss)
            case "verb" | "weather":
                clause.verbs.append(word.gloss)
                clause.past |= word.past
            case "auxiliary":
                clause.auxiliary = True
                clause.past |= word.past
            case "have":
                clause.have = True
            case "greeting":
                clause.greetings.append(word.gloss)
            case "please":
                clause.please.append(word.gloss)
            case "wh":
                clause.wh.append(word.gloss)
            case kind:
                getattr(clause, kind).append(word.gloss)
    clause.predicate = [*numbers, *waiting[::-1]]  # intensity follows what it intensifies: TIRED VERY
    if any(word.kind == "weather" for word in words):  # "it rains": a dummy subject has no sign
        clause.nominals = [n for n in clause.nominals if n[0] not in (["IX-3"], ["ES"])]
    if clause.have:  # beside another verb "haben" builds the perfect
        clause.past |= bool(clause.verbs)
        clause.verbs = clause.verbs or ["HABEN"]
    return clause


def _roles(clause: _Clause, who: str) -> tuple[list[str], list[tuple[list[str], bool]]]:
    """The first nominal is the subject, the others are objects; "who" and "please" leave no room for a subject."""
    if clause.please or (clause.wh == [who] and (clause.verbs or clause.modal)):
        return [], clause.nominals
    if clause.wh in (["HOW-MANY"], ["WIE-VIELE"]) and len(clause.nominals) == 2:
        counted, subject = clause.nominals
        return subject[0], [(counted[0], True)]
    return (clause.nominals[0][0] if clause.nominals else []), clause.nominals[1:]


def _order_ase(clause: _Clause) -> list[str]:
    subject, objects = _roles(clause, "WHO")
    verb_follows = bool(clause.verbs)
    topics = [gloss for phrase, definite in objects if definite and verb_follows for gloss in phrase]
    others = [gloss for phrase, definite in objects if not (definite and verb_follows) for gloss in phrase]
    finish = ["FINISH"] if clause.past and not clause.time else []
    return [
        *clause.greetings, *clause.please, *clause.time, *topics, *clause.place, *subject, *clause.modal, *clause.verbs,
        *finish, *others, *clause.goal, *clause.companion, *clause.predicate, *clause.negation, *clause.wh,
    ]  # fmt: skip


def _order_gsg(clause: _Clause) -> list[str]:
    subject, objects = _roles(clause, "WER")
    # The perfect of a verb of motion is built with "sein": an auxiliary beside a verb is the past too.
    past = clause.past or (clause.auxiliary and bool(clause.verbs))
    finish = ["FERTIG"] if past and not clause.time else []
    nominals = [gloss for phrase, _ in objects for gloss in phrase]
    return [
        *clause.greetings, *clause.please, *clause.time, *clause.place, *subject, *nominals, *clause.companion,
        *clause.goal, *clause.predicate, *clause.verbs, *clause.modal, *finish, *clause.negation, *clause.wh,
    ]  # fmt: skip
