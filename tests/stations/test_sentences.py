"""Where sentences end, by hand."""

import pytest

from signer_jax.stations.sentences import pauses, sentences

ENGLISH = frozenset(
    ["i", "you", "we", "it", "is", "a", "my", "the", "no", "yes", "hello", "name", "sick", "go", "have", "army", "wait"]
)
GERMAN = frozenset(["ich", "du", "wir", "der", "das", "kommt", "heute", "äpfel", "brot", "und"])


def english(text: str) -> list[str]:
    return sentences(text, "english", ENGLISH)


def german(text: str) -> list[str]:
    return sentences(text, "german", GERMAN)


@pytest.mark.parametrize(
    "parts",
    [
        ["I have three books.", "My name is Anna."], ["i am sick.", "i go home"], ["Where is it?", "It is here!", "Go"],
        ["Really?!", "No!!!", "yes"], ["He is here 🎉!", "🎉"], ["Is it (really?) old?", "Yes."],
        ["'I am sick.' she said.", '"Where?" she asked.'], ["So do I.", "We go"],
        # Numbers: of a list, with a fraction, at the end.
        ["1. Open it.", "2. Close it."], ["It is 3.5 km.", "I go"], ["I have 3.", "You have 2.50."],
        ["No. 5 is old.", "No.", "I go"], ["- 3. Open it.", "(4. Close it.)"], ['"5. I like the house" said Bob'],
        # Abbreviations.
        ["Dr. Smith is here.", "I saw Mr. J. R. Smith, Jr. there.", "You go"], ["I like e.g. apples.", "You go"],
        ["I like it, i. e. apples, etc.", "We go"], ["at 5 p.m. today"], ["at 5 p.m.", "We go"],
        ["the U.S. Navy.", "You go"], ["John F. Kennedy is here"], ["see example.com or a.b@c.de now."],
        # Ellipses.
        ["I… am sick"], ["I... am sick"], ["wait… 3 books"], ["Wait…", "I go"], ["I love you...", "I do"],
    ],
)  # fmt: skip
def test_english(parts):
    assert english(" ".join(parts)) == parts


def test_without_spaces_and_in_other_scripts():
    assert english("It is good.I go!You go") == ["It is good.", "I go!", "You go"]
    assert english("我很好。你好吗？好！") == ["我很好。", "你好吗？", "好！"]
    assert english("Hola ¿cómo estás? Bien, ¿y tú?¡Sí!") == ["Hola", "¿cómo estás?", "Bien, ¿y tú?", "¡Sí!"]
    assert english("one\ntwo\r\n\r\n three\u2028four") == ["one", "two", "three", "four"]
    assert english("... ?!") == [] == english("")


@pytest.mark.parametrize(
    "parts",
    [
        ["Am 3. Mai kommt er.", "Du auch"], ["Ich habe 3.", "Du hast 2."], ["Der 2. Tag.", "Heute"],
        ["Ich mag z. B. Äpfel und z.B. Brot.", "Du nicht"], ["Das kostet 3,5 Euro.", "Heute"],
        ["Wir essen Brot usw.", "Morgen nicht"], ["Nr. 5 ist da.", "Dr. med. Müller kommt, d. h. heute."],
        ["Sie sagte: „Ich komme.“", "Dann ging sie."], ["(3. Mai) ich gehe"], ["„3. Mai“ sagte er"],
    ],
)  # fmt: skip
def test_german(parts):
    assert german(" ".join(parts)) == parts


def test_quotes():
    assert english("how do you sign 'Hello. My name is Bob.'?") == [
        "how do you sign 'Hello.'?", "how do you sign 'My name is Bob.'?",
    ]  # fmt: skip
    # Half of a pair of quotes is none; what is whole stays.
    assert english('She said "I am sick. I go." You go') == ["She said I am sick.", "I go.", "You go"]
    assert english("'I don't go. You do.' he said. 'No'") == ["I don't go.", "You do. he said.", "'No'"]


def test_pauses_of_what_is_too_long():
    assert pauses("i go; you go… we go... they go.") == ["i go;", "you go…", "we go...", "they go."]


def test_long_texts_take_no_age():
    assert len(english("I go. " * 20_000)) == 20_000
    assert len(english("e.g. " * 20_000)) == 1
