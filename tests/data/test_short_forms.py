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
