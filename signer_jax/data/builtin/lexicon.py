"""Every gloss's phonology: set by hand where the form is well known, drawn from a stable hash for the rest.

The hand-set forms follow the signs' usual descriptions only roughly: this is a test corpus, not a dictionary to learn
from. Fingerspelled letters are the same in both languages.
"""

from functools import cache
from random import Random

from signer_jax.data.builtin.phonology import CHANGES, HANDS, LOCATIONS, MOVEMENTS, ORIENTATIONS, Phonology
from signer_jax.data.builtin.vocabulary import LANGUAGES, LETTERS, vocabulary
from signer_jax.errors import SignerError, closest

# gloss, handshape, location, movement, palm:fingers, hands, repetition
_ASE = """
IX-1 1 chest tap in:contra one 1
IX-2 1 neutral out down:outcontra one 1
IX-3 1 side ipsi down:outcontra one 1
IX-WE 1 side_chest arc_out in:contra one 1
IX-THEY 1 side arc_down down:outcontra one 1
POSS flat chest out out:up one 1
FINISH 5 neutral twist in:up symmetric 1
NOT open_A chin out contra:up one 1
NEVER flat high zigzag contra:up one 1
WILL flat cheek out contra:up one 1
CAN S neutral down down:outcontra symmetric 1
MUST hook neutral nod down:outcontra one 1
WANT claw neutral in up:outcontra symmetric 1
WITH A neutral contra contra:up symmetric 1
NAME H base_hand tap contra:out base 1
HELLO B temple ipsi out:up one 1
THANK-YOU flat chin out in:up one 1
SORRY A chest circle in:contra one 2
PLEASE flat chest circle in:contra one 2
VERY V neutral ipsi in:up symmetric 1
YESTERDAY open_A cheek arc_up out:up one 1
TODAY Y neutral down up:outcontra symmetric 1
TOMORROW open_A cheek out contra:up one 1
NOW bent_B neutral down up:outcontra symmetric 1
WHAT 5 neutral shake up:outcontra symmetric 2
WHERE 1 side shake out:up one 2
WHO L chin wiggle contra:up one 1
WHEN 1 base_hand circle down:outcontra base 1
WHY 5 forehead close in:upcontra one 1
HOW-MANY S neutral open up:outcontra one 1
TWO V spelling hold in:up one 1
THREE 3 spelling hold in:up one 1
FOUR 4 spelling hold in:up one 1
FIVE 5 spelling hold in:up one 1
MOTHER 5 chin tap contra:up one 1
FATHER 5 forehead tap contra:up one 1
HOUSE flat high down_contra contra:upcontra symmetric 1
BOOK flat neutral twist contra:out symmetric 1
DOOR B neutral twist out:up symmetric 1
WINDOW B neutral up in:contra symmetric 2
BALL claw neutral tap contra:out symmetric 1
EAT flat_O mouth tap in:upcontra one 1
DRINK C mouth nod contra:out one 1
COFFEE S base_hand flat_circle contra:out base 2
MILK S side_chest close contra:out one 2
WATER W chin tap contra:up one 1
APPLE hook cheek twist down:contra one 2
CAR S neutral shake contra:out alternating 2
COMPUTER C upper_arm tap contra:up one 1
SCHOOL flat base_hand tap down:contra base 1
LEARN 5 base_hand up down:outcontra base 1
SEE V eye out in:up one 1
SLEEP 5 eye close in:up one 1
HELP open_A base_hand up contra:out base 1
OPEN B neutral ipsi out:up symmetric 1
CLOSE B side contra out:up symmetric 1
WORK S base_hand tap down:outcontra base 2
CARRY flat low arc_up up:outcontra symmetric 1
GIVE flat_O neutral out up:outcontra one 1
GO 1 neutral arc_out out:up symmetric 1
LOVE S chest hold in:upcontra symmetric 1
LIKE 8 chest out in:contra one 1
KNOW bent_B temple tap in:upcontra one 1
FORGET flat forehead ipsi in:contra one 1
WATCH V eye arc_out down:outcontra one 1
RAIN 5 high down down:outcontra symmetric 2
SNOW 5 high wiggle down:outcontra symmetric 1
HAPPY flat chest up in:contra symmetric 2
SAD 5 eye down in:up symmetric 1
GOOD flat mouth down in:up one 1
BAD flat mouth twist in:up one 1
RED 1 mouth down in:up one 2
DOCTOR M base_hand tap down:contra base 2
MONEY flat_O base_hand tap up:outcontra base 1
PLAY Y neutral twist in:up symmetric 2
MUSIC flat upper_arm shake contra:out base 2
"""
_GSG = """
ICH 1 chest in in:contra one 1
DU 1 neutral out contra:out one 1
ER 1 side out contra:out one 1
SIE 1 side arc_out contra:out one 1
ES 1 low ipsi down:outcontra one 1
WIR 1 chest flat_circle down:contra one 1
MEIN B chest tap in:contra one 1
DEIN B neutral out out:up one 1
SEIN B side out out:up one 1
UNSER B chest flat_circle in:contra one 1
FERTIG B low ipsi down:contra symmetric 1
NICHT 1 neutral shake out:up one 2
NIE flat_O neutral arc_down down:outcontra one 1
KEIN 1 neutral zigzag out:up symmetric 1
KÖNNEN claw side_chest down down:outcontra symmetric 1
MÜSSEN hook side down down:outcontra one 2
MÖCHTEN flat side_chest down in:contra one 1
HALLO B forehead ipsi out:upcontra one 1
DANKE flat chin arc_out in:up one 1
BITTE flat neutral tap contra:up symmetric 1
GESTERN open_A shoulder arc_up contra:up one 1
HEUTE flat neutral down down:outcontra symmetric 1
MORGEN open_A temple arc_out contra:up one 1
WAS 1 neutral shake out:up symmetric 2
WO 5 neutral flat_circle up:outcontra symmetric 1
WER 1 high shake out:up one 2
WANN 5 cheek wiggle contra:up one 1
WARUM L chest nod in:contra one 1
ZWEI L spelling hold in:up one 1
DREI 3 spelling tap in:up one 1
VIER 4 spelling tap in:up one 1
FÜNF 5 spelling tap in:up one 1
HAUS flat high arc_down contra:upcontra symmetric 1
TÜR B neutral twist out:up base 1
BALL 5 neutral circle contra:out symmetric 1
BUCH flat neutral open contra:out symmetric 1
BAUM 5 side twist in:up base 2
ESSEN flat_O mouth in in:upcontra one 2
TRINKEN open_A mouth nod contra:out one 1
MUTTER hook cheek tap in:upcontra one 2
VATER 1 forehead tap contra:up one 1
AUTO S neutral circle contra:out alternating 1
SCHULE 5 neutral nod down:outcontra symmetric 2
FILM 5 base_hand shake contra:up base 2
SEHEN V eye out down:outcontra one 1
LIEBEN flat chest hold in:upcontra symmetric 1
GEHEN V low wiggle down:outcontra one 1
ARBEITEN S neutral tap down:outcontra alternating 2
TRAGEN S low arc_up contra:out symmetric 1
REGNEN claw high down down:outcontra symmetric 2
GUT F neutral up contra:out one 1
"""
# letter: handshape, palm:fingers, movement
_SPELLING = {
    "A": ("A", "out:up", "hold"), "B": ("B", "out:up", "hold"), "C": ("C", "contra:up", "hold"),
    "D": ("D", "out:up", "hold"), "E": ("E", "out:up", "hold"), "F": ("F", "out:up", "hold"),
    "G": ("G", "in:contra", "hold"), "H": ("H", "in:contra", "hold"), "I": ("I", "out:up", "hold"),
    "J": ("I", "out:up", "arc_down"), "K": ("K", "out:up", "hold"), "L": ("L", "out:up", "hold"),
    "M": ("M", "out:up", "hold"), "N": ("N", "out:up", "hold"), "O": ("O", "contra:up", "hold"),
    "P": ("K", "in:down", "hold"), "Q": ("G", "in:down", "hold"), "R": ("R", "out:up", "hold"),
    "S": ("S", "out:up", "hold"), "T": ("T", "out:up", "hold"), "U": ("U", "out:up", "hold"),
    "V": ("V", "out:up", "hold"), "W": ("W", "out:up", "hold"), "X": ("X", "out:up", "hold"),
    "Y": ("Y", "out:up", "hold"), "Z": ("1", "out:up", "zigzag"),
}  # fmt: skip
_DRAWN_SHAPES = (
    "A", "S", "flat", "5", "bent_B", "C", "claw", "O", "flat_O", "F", "1", "L", "G", "hook", "U", "V", "bent_V", "R",
    "3", "W", "Y", "horns", "8", "I", "baby_C", "open_B",
)  # fmt: skip
_DRAWN_LOCATIONS = tuple(name for name in LOCATIONS if name not in ("spelling", "base_hand"))
_BELOW_FACE = ("chest", "side_chest", "belly", "neutral", "side", "low", "high", "shoulder")


def _shaped(
    handshape: str, location: str, movement: str, orientation: str, hands: str, repetition: int, duration: float,
    mouth: float,
) -> Phonology:  # fmt: skip
    palm, fingers = orientation.split(":")
    first, last = CHANGES.get(movement, (handshape, handshape))
    return Phonology(first, last, location, movement, palm, fingers, hands, repetition, duration, mouth)


def draw(rng: Random) -> Phonology:
    """A well-formed sign at random: two-handed signs keep off the face, and a base hand has its own location."""
    hands = rng.choices(HANDS, (5, 3, 1, 1.6))[0]
    location = "base_hand" if hands == "base" else rng.choice(_DRAWN_LOCATIONS if hands == "one" else _BELOW_FACE)
    movement = rng.choice([name for name in MOVEMENTS if name != "hold"])
    palm, fingers = rng.choice(ORIENTATIONS)
    repetition = rng.choices((1, 2, 3), (5, 4, 1))[0]
    duration = 0.5 + 0.1 * repetition + 0.15 * rng.random()
    orientation = f"{palm}:{fingers}"
    return _shaped(
        rng.choice(_DRAWN_SHAPES), location, movement, orientation, hands, repetition, duration, rng.random()
    )


@cache
def lexicon(language: str) -> dict[str, Phonology]:
    """The phonology of every gloss of "ase" or "gsg", letters included; all are distinct. Do not change the dict."""
    if language not in LANGUAGES:
        raise SignerError(f"language {language!r}: the built-in corpus knows {', '.join(LANGUAGES)}")
    entries: dict[str, Phonology] = {}
    for letter, (shape, orientation, movement) in _SPELLING.items():
        seconds = 0.42 if movement == "hold" else 0.5
        entries[f"#{letter}"] = _shaped(shape, "spelling", movement, orientation, "one", 1, seconds, 0.15)
    known = set(vocabulary(language).glosses)
    for line in (_ASE if language == "ase" else _GSG).strip().splitlines():
        gloss, shape, location, movement, orientation, hands, repetition = line.split()
        if gloss in known:
            rng, times = Random(f"{language} {gloss}"), int(repetition)
            duration = 0.5 + 0.1 * times + 0.15 * rng.random()
            entries[gloss] = _shaped(shape, location, movement, orientation, hands, times, duration, rng.random())
    taken = {form(entry) for entry in entries.values()}
    if language == "gsg":  # a drawn form must not be one of the other language either
        taken |= {form(entry) for entry in lexicon("ase").values()}
    for gloss in vocabulary(language).glosses:
        attempt = 0
        while gloss not in entries:
            entry = draw(Random(f"{language} {gloss} {attempt}"))
            attempt += 1
            if form(entry) not in taken:
                entries[gloss] = entry
                taken.add(form(entry))
    return {gloss: entries[gloss] for gloss in (*vocabulary(language).glosses, *LETTERS)}


def form(entry: Phonology) -> tuple[str, str, str, str, str, str, str, int]:
    """What tells one sign from another: all but duration and mouth."""
    return (
        entry.handshape, entry.end_handshape, entry.location, entry.movement, entry.palm, entry.fingers, entry.hands,
        entry.repetition,
    )  # fmt: skip


def phonology(gloss: str, language: str) -> Phonology:
    """The citation form of a gloss. Raises `SignerError` for a gloss that the lexicon lacks."""
    entries = lexicon(language)
    if gloss not in entries:
        hint = closest(gloss, entries)
        raise SignerError(f"gloss {gloss!r} ({language}): not in the built-in lexicon{hint}; fingerspell it (#A … #Z)")
    return entries[gloss]
