"""What a text says of its situation: the region it speaks of and how formally it is put. Both decide how it is signed.

Regional and social variation of signs, as sociolinguistics describes it, in small: a text holds many weak cues (what
and which place it names; politeness, forms of address, mood, how a prompt is phrased), each a weight towards one end
of an axis. They add up, and the two axes together choose the signer, so no single word does.
"""

import math
from collections.abc import Sequence
from random import Random

from signer_jax.data.builtin.vocabulary import Word

Leaning = tuple[float, float]  # towards the town (else the country), towards formal (else casual); 0 says nothing

_TOPICS = {
    "work": 1.0, "travel": 1.0, "school": 0.7, "health": 0.7, "leisure": 0.7,
    "home": -1.0, "weather": -1.0, "family": -0.7, "food": -0.7,
}  # fmt: skip
# Words whose place is not their topic's, and verbs and adjectives of no topic, in both languages.
_PLACES = {
    1.5: "RESTAURANT CITY STADT",
    0.7: "BUY SELL NEED NEW WHITE BLACK MONEY KAUFEN VERKAUFEN BRAUCHEN NEU WEISS SCHWARZ NOW TODAY JETZT HEUTE",
    -0.7: "CARRY FIND HELP LOVE WALK OLD GREEN RED TRAGEN FINDEN LIEBEN LAUFEN ALT GRÜN ROT WINTER SUMMER SOMMER",
    -1.5: "PARK DOG CAT HUND KATZE",
}
_MANNERS = {
    1.5: "PLEASE BITTE SORRY ENTSCHULDIGUNG",
    1.0: "THANK-YOU DANKE IX-THEY SIE DOCTOR TEACHER BOSS ÄRZTIN LEHRERIN CHEF MÖCHTEN MUST MÜSSEN",
    0.5: "IX-WE WIR UNSER IX-3 ER SEIN NOT NICHT VISIT BRING MEET KNOW BESUCHEN BRINGEN TREFFEN KENNEN",
    -0.5: "IX-1 ICH MEIN NEVER NIE KEIN VERY SEHR LIKE SEE LOSE FORGET MÖGEN SEHEN VERLIEREN VERGESSEN MANY VIELE",
    -1.0: "IX-2 DU DEIN CHILD BABY FRIEND KIND FREUNDIN WANT CAN KÖNNEN",
    -1.5: "HELLO HALLO",
}
_PLACE_OF = {gloss: weight for weight, glosses in _PLACES.items() for gloss in glosses.split()}
_MANNER_OF = {gloss: weight for weight, glosses in _MANNERS.items() for gloss in glosses.split()}
_QUESTIONS = {"yes-no": -0.5, "wh": 0.5, "": 0.0}
_PROMPTS = (-0.5, 0.5, -1.5, 1.5)  # "how do you sign", "what is the sign for", "show me", "please sign"
_SHARPNESS = 2.5  # a weight of 1 alone is right in 92 of 100 cases


def leaning(words: Sequence[Word], question: str, prompt: int | None) -> Leaning:
    """The sum of a text's cues; `question` is "", "yes-no" or "wh", `prompt` the number of its prompt, if any."""
    town = sum(_PLACE_OF.get(word.gloss, _TOPICS.get(word.topic, 0.0)) for word in words)
    formal = sum(_MANNER_OF.get(word.gloss, 0.0) for word in words)
    return town, formal + _QUESTIONS[question] + (0.0 if prompt is None else _PROMPTS[prompt])


def likelihood(leaning: Leaning) -> tuple[float, float]:
    """The probabilities that the signer is of the town, and formal."""
    town, formal = (1 / (1 + math.exp(-_SHARPNESS * score)) for score in leaning)
    return town, formal


def draw_situation(leaning: Leaning, rng: Random) -> tuple[bool, bool]:
    """Whether the signer is of the town, and formal: each drawn by its `likelihood`."""
    town, formal = likelihood(leaning)
    return rng.random() < town, rng.random() < formal
