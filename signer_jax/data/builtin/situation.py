"""What a text says of its situation: whose life it speaks of and how formally it is put. Both decide how it is signed.

Variation of signs by generation and by register, as sociolinguistics describes it, in small: a text holds many weak
cues (what and which place it names, its tense; politeness, forms of address, mood, how a prompt is phrased), each a
weight towards one end of an axis. They add up, and the two axes together choose the signer, so no single word does.
"""

import math
from collections.abc import Sequence
from random import Random

from signer_jax.data.builtin.vocabulary import Word

Leaning = tuple[float, float]  # towards the young (else the old), towards formal (else casual); 0 says nothing

_TOPICS = {
    "school": 0.7, "leisure": 0.7, "travel": 0.7, "work": 0.5,
    "home": -0.5, "weather": -0.7, "family": -0.5, "health": -0.7, "food": 0.0,
}  # fmt: skip
# Of glosses in both languages. Tense is among them: FINISH and FERTIG mark what is past.
_AGES = {
    1.5: "WILL TOMORROW MORGEN NEXT-WEEK NÄCHSTE-WOCHE SOON BALD",
    1.0: "WANT MÖCHTEN CAN KÖNNEN NOW JETZT TODAY HEUTE NEW NEU PARTY FEIER COMPUTER",
    0.7: "BUY KAUFEN LIKE MÖGEN SEE SEHEN IX-3 ER SIE WHAT WAS WHEN WANN WHERE WO",
    -0.7: "CARRY TRAGEN FIND FINDEN NEED BRAUCHEN IX-WE WIR UNSER TWO ZWEI THREE DREI",
    -1.0: "OLD ALT MUST MÜSSEN GARDEN GARTEN PARK EVERY-DAY JEDEN-TAG",
    -1.5: "FINISH FERTIG YESTERDAY GESTERN LAST-WEEK LETZTE-WOCHE",
}
_MANNERS = {
    2.0: "PLEASE BITTE",
    1.5: "SORRY ENTSCHULDIGUNG THANK-YOU DANKE",
    1.0: "IX-THEY IX-WE WIR UNSER NOT NICHT DOCTOR ÄRZTIN TEACHER LEHRERIN BOSS CHEF",
    -0.5: "VERY SEHR NEVER NIE KEIN",
    -1.0: "IX-1 ICH MEIN CHILD KIND BABY FRIEND FREUNDIN",
    -1.5: "IX-2 DU DEIN HELLO HALLO",
}
_AGE_OF = {gloss: weight for weight, glosses in _AGES.items() for gloss in glosses.split()}
_MANNER_OF = {gloss: weight for weight, glosses in _MANNERS.items() for gloss in glosses.split()}
_QUESTIONS = {"yes-no": -1.0, "wh": 1.0, "": 0.0}
_PROMPTS = (-0.5, 0.5, -1.5, 1.5)  # "how do you sign", "what is the sign for", "show me", "please sign"
_SHARPNESS = 2.5  # a weight of 1 alone is right in 92 of 100 cases


def leaning(words: Sequence[Word], glosses: Sequence[str], question: str, prompt: int | None) -> Leaning:
    """The sum of a text's cues: of its words' topics, its glosses, its `question` ("", "yes-no" or "wh") and the number
    of its `prompt`, if any.
    """
    young = sum(_TOPICS.get(word.topic, 0.0) for word in words) + sum(_AGE_OF.get(gloss, 0.0) for gloss in glosses)
    formal = sum(_MANNER_OF.get(gloss, 0.0) for gloss in glosses)
    return young, formal + _QUESTIONS[question] + (0.0 if prompt is None else _PROMPTS[prompt])


def likelihood(leaning: Leaning) -> tuple[float, float]:
    """The probabilities that the signer is young, and formal."""
    young, formal = (1 / (1 + math.exp(-_SHARPNESS * score)) for score in leaning)
    return young, formal


def draw_situation(leaning: Leaning, rng: Random) -> tuple[bool, bool]:
    """Whether the signer is young, and formal: each drawn by its `likelihood`."""
    young, formal = likelihood(leaning)
    return rng.random() < young, rng.random() < formal
