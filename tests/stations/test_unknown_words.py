"""What a capital letter says of a word that nobody knows, by hand."""

import pytest

from signer_jax.stations.unknown_words import FIRST, NAME, NOUN_OR_NAME, OTHER, kinds, negates, points, ties
from signer_jax.writing import words_of


def of(text: str, spoken: str = "english", owners: tuple[str, ...] = ()) -> dict[str, str]:
    words = words_of(text)
    return dict(zip((word.written for word in words), kinds(text, words, spoken, owners), strict=True))


@pytest.mark.parametrize(
    ("text", "word", "kind"),
    [
        ("Elephants are nice", "Elephants", FIRST), ("Worried?", "Worried", FIRST), ("Worried", "Worried", NAME),
        ("I saw it. Elephants slept", "Elephants", FIRST), ("I saw it\nElephants slept", "Elephants", FIRST),
        ("'Elephants are nice'", "Elephants", FIRST), ("please sign: Elephants are nice", "Elephants", FIRST),
        ("ANNA is nice", "ANNA", NAME), ("2026 was nice", "2026", NAME), ("I saw Anna", "Anna", NAME),
        ("how do you sign 'Anna'?", "Anna", NAME), ("please sign: Anna.", "Anna", NAME), ("Anna!", "Anna", FIRST),
        ("I saw 'Anna' there", "Anna", NAME), ("I met Dr. Miller there", "Miller", NAME),
        ("Dr. Miller is nice", "Dr", NAME), ("Dr Miller is nice", "Dr", FIRST), ("J. Miller is nice", "Miller", NAME),
        ("I like e.g. Anna", "Anna", NAME), ("Nobody", "Nobody", OTHER),
        ("I saw it", "saw", OTHER), ("NOBODY saw it", "NOBODY", OTHER),
    ],
)  # fmt: skip
def test_english(text, word, kind):
    assert of(text)[word] == kind


def test_german_nouns_have_capitals_too():
    assert of("Der Elefant ist in 2026 alt, ANNA", "german") == {
        "Der": FIRST, "Elefant": NOUN_OR_NAME, "ist": OTHER, "in": OTHER, "2026": NAME, "alt": OTHER, "ANNA": NAME,
    }  # fmt: skip
    assert of("Jürgen", "german") == {"Jürgen": NAME}


def test_numerals_that_are_letters_are_no_names():
    assert of("他今年四岁, Tom 3岁", "chinese") == {
        "他": OTHER, "今": OTHER, "年": OTHER, "四": OTHER, "岁": OTHER, "Tom": NAME, "3": NAME,
    }  # fmt: skip


def test_who_owns_something_is_a_name():
    assert of("Anna house", owners=("Anna",))["Anna"] == NAME and of("Anna house")["Anna"] == FIRST
    assert of("mother house", owners=("mother",))["mother"] == OTHER


def test_what_says_nothing_by_itself():
    assert ties("The", "english") and ties("Das", "german") and not ties("my", "english") and not ties("wo", "german")
    # Each language's own: "war" and "die" are English words that say something, "was" asks in German.
    assert not ties("war", "english") and not ties("die", "english") and not ties("was", "german")
    assert not ties("the", "french")
    assert points("It", "english") and points("es", "german") and not points("it", "german")
    assert not points("the", "english") and not points("it", "french")


def test_negations():
    assert all(map(negates, ("Nobody", "no", "don't", "WITHOUT", "nichts", "niemand")))
    assert not any(map(negates, ("now", "note", "nice", "name", "dont")))
