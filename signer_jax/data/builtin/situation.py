"""What a text says of its situation: whose life it speaks of and how formally it is put. Both decide how it is signed.

Variation of signs by generation and by register, as sociolinguistics describes it, in small: a text holds many weak
cues (its tense and modal verbs, negation, what and which place it names; of whom it speaks, politeness, mood, how a
prompt is phrased), each a weight towards one end of an axis. They add up, and the two axes together choose the signer,
so no single word does.
"""

import math
from collections.abc import Sequence
from random import Random

from signer_jax.data.builtin.vocabulary import Word

Leaning = tuple[float, float]  # towards the young (else the old), towards formal (else casual); 0 says nothing

_TOPICS = {
    "school": 0.4, "leisure": 0.4, "travel": 0.4, "work": 0.3,
    "home": -0.3, "weather": -0.4, "family": -0.3, "health": -0.4, "food": 0.0,
}  # fmt: skip
# Of glosses in both languages. Tense is among them: FINISH and FERTIG mark what is past.
_AGES = {
    1.5: "WILL TOMORROW MORGEN NEXT-WEEK NÄCHSTE-WOCHE SOON BALD",
    1.0: "WANT MÖCHTEN CAN KÖNNEN NOW JETZT TODAY HEUTE",
    -1.0: "MUST MÜSSEN NOT NICHT NEVER NIE KEIN EVERY-DAY JEDEN-TAG",
    -1.5: "FINISH FERTIG YESTERDAY GESTERN LAST-WEEK LETZTE-WOCHE",
}
# Of whom one speaks: of oneself and to a friend, or of others.
_MANNERS = {
    2.0: "PLEASE BITTE",
    1.5: "SORRY ENTSCHULDIGUNG THANK-YOU DANKE IX-THEY IX-WE WIR UNSER",
    1.0: "IX-3 ER SIE ES SEIN",
    -1.0: "HELLO HALLO NAME",
    -1.5: "IX-1 ICH MEIN IX-2 DU DEIN",
}
_AGE_OF = {gloss: weight for weight, glosses in _AGES.items() for gloss in glosses.split()}
_MANNER_OF = {gloss: weight for weight, glosses in _MANNERS.items() for gloss in glosses.split()}
_QUESTIONS = {"yes-no": -1.0, "wh": 1.0, "": 0.0}
_PROMPTS = (-0.5, 0.5, -1.5, 1.5)  # "how do you sign", "what is the sign for", "show me", "please sign"
_NOTHING_SAID = 0.2  # towards the young and the formal
_SHARPNESS = 5.0  # a weight of 1 alone is right in 99 of 100 cases, one of .3 in 82


def leaning(words: Sequence[Word], glosses: Sequence[str], question: str, prompt: int | None) -> Leaning:
    """The sum of a text's cues: of its words' topics, its glosses, its `question` ("", "yes-no" or "wh") and the number
    of its `prompt`, if any.
    """
    young = sum(_TOPICS.get(word.topic, 0.0) for word in words) + sum(_AGE_OF.get(gloss, 0.0) for gloss in glosses)
    formal = sum(_MANNER_OF.get(gloss, 0.0) for gloss in glosses) + _QUESTIONS[question]
    return young + _NOTHING_SAID, formal + (0.0 if prompt is None else _PROMPTS[prompt]) + _NOTHING_SAID


def likelihood(leaning: Leaning) -> tuple[float, float]:
    """The probabilities that the signer is young, and formal."""
    young, formal = (1 / (1 + math.exp(-_SHARPNESS * score)) for score in leaning)
    return young, formal


def draw_situation(leaning: Leaning, rng: Random) -> tuple[bool, bool]:
    """Whether the signer is young, and formal: each drawn by its `likelihood`."""
    young, formal = likelihood(leaning)
    return rng.random() < young, rng.random() < formal
