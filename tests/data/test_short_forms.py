"""Short forms, written out: a contraction must never turn what a text says round."""

import pytest

from signer_jax.data.short_forms import written_out

KNOWN = {
    "i",
    "you",
    "it",
    "is",
    "not",
    "do",
    "can",
    "will",
    "am",
    "are",
    "the",
    "mother",
    "house",
    "like",
    "want",
    "tired",
}


@pytest.mark.parametrize(
    ("text", "longer"),
    [
        ("I don't like it", "I do not like it"), ("I don’t like it", "I do not like it"),
        ("I dont like it", "I do not like it"), ("DON'T", "DO not"),
        ("You can't, I won't.", "You can not, I will not."),
        ("it shouldn't", "it should not"), ("it cannot", "it can not"), ("I'm tired", "I am tired"),
        ("it’s you're I'll I've I'd", "it is you are I will I have I would"), ("let's", "let us"),
        ("I want 'it'", "I want 'it'"),
    ],
)  # fmt: skip
def test_english(text, longer):
    assert written_out(text, "english", KNOWN) == (longer, [])


def test_an_owner_is_told_from_is():
    assert written_out("the mother's house, Anna’s house", "english", KNOWN) == (
        "the mother house, Anna house", ["mother", "Anna"],
    )  # fmt: skip
    assert written_out("the mothers' house", "english", KNOWN) == ("the mothers' house", [])


def test_what_the_training_texts_have_stays_and_so_do_other_languages():
    assert written_out("I don't like it's", "english", KNOWN | {"don't", "it's"}) == ("I don't like it's", [])
    assert written_out("I don't", "french", KNOWN) == ("I don't", [])
    assert written_out("Geht's? dont im Bens", "german", {"geht"}) == ("Geht es? dont im Bens", [])
    assert written_out("Ben's", "german", {"geht"}) == ("Ben's", [])


@pytest.mark.parametrize(
    ("text", "longer"),
    [
        ("i have 3 books", "i have three books"), ("3 books, 5 bags and 12.", "three books, five bags and 12."),
        ("how do you sign '3'?", "how do you sign 'three'?"), ("(3)", "(three)"), ("i have ３", "i have three"),
        ("21 and 23 and 40", "twenty-one and twenty three and 40"),
        # Parts of other numbers, ordinals, places of a list.
        ("3.5 3,5 3:30 3/5 -3 #3 3% 3 % 3-5 3rd 03 2003 3€", "3.5 3,5 3:30 3/5 -3 #3 3% 3 % 3-5 3rd 03 2003 3€"),
        ("3. open it", "3. open it"), ("it is 3.", "it is three."),
    ],
)  # fmt: skip
def test_numbers_whose_words_are_known(text, longer):
    known = KNOWN | {"three", "five", "twenty-one", "twenty"}
    assert written_out(text, "english", known)[0] == longer


def test_german_numbers_and_those_of_other_languages():
    known = {"drei", "einundzwanzig", "zwölf", "dreissig", "fünfundsechzig"}
    assert written_out("3 und 12, 21, 30, 65, 66", "german", known) == (
        "drei und zwölf, einundzwanzig, dreissig, fünfundsechzig, 66", [],
    )  # fmt: skip
    assert written_out("am 3. Mai, bis 3.", "german", known)[0] == "am 3. Mai, bis drei."
    assert written_out("3", "french", known)[0] == written_out("3", "english", known)[0] == "3"
    assert written_out("3", "german", known | {"3"})[0] == "3"
    assert written_out("9" * 5000, "german", known)[0] == "9" * 5000  # more digits than Python makes a number of
