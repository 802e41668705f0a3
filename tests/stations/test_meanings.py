"""The gloss that a word always brings with it, and the words of which it is lost."""

from signer_jax.stations.meanings import LEAST, always_of, companions_of, meanings_of, only_meaning, unsaid

TEXTS = [
    ("my mother is old.", ("IX-1", "POSS", "MOTHER", "OLD")),
    ("Is my mother new?", ("IX-1", "POSS", "MOTHER", "NEW")),
    ("my dog is old", ("IX-1", "POSS", "DOG", "OLD")),
    ("the dog is new", ("DOG", "NEW")),
    ("the cat", ("CAT",)),
] * LEAST


def meanings(texts):
    return meanings_of(always_of(texts), companions_of(texts))


def test_a_word_brings_the_gloss_that_is_in_its_texts_and_in_fewest_others():
    meaning = meanings([*TEXTS, *[("the rare dog", ("RARE", "DOG"))] * (LEAST - 1)])
    # POSS and IX-1 are in every text of "mother" too; "is" and "the" bring none, and "rare" is too rare to tell.
    assert meaning == {"mother": "MOTHER", "old": "OLD", "new": "NEW", "dog": "DOG", "cat": "CAT", "my": "IX-1"}
    assert meanings([]) == {}
    assert always_of(TEXTS)["my"] == ("IX-1", "POSS") and always_of(TEXTS)["cat"] == ("CAT",)


def test_one_text_in_twenty_may_differ():
    other = ("a mother", ("WOMAN",))
    assert meanings([("mother", ("MOTHER",))] * 19 + [other])["mother"] == "MOTHER"
    assert "mother" not in meanings([("mother", ("MOTHER",))] * 18 + [other] * 2)


def test_what_is_lost():
    meaning = meanings(TEXTS)
    assert unsaid("the mother dog is Old, is it old?", ("DOG",), meaning) == [("mother", "MOTHER"), ("old", "OLD")]
    assert unsaid("the dog is it", ("DOG",), meaning) == []


def test_a_gloss_is_of_the_word_that_brings_it():
    texts = [("ich habe Zeit", ("ICH", "ZEIT")), ("ich habe Mut", ("ICH", "MUT"))] * LEAST
    texts += [("ich lese", ("ICH", "LESEN")), ("every day", ("EVERY-DAY",))] * LEAST
    assert companions_of(texts)["habe"] == {"ich"} and companions_of(texts)["ich"] == frozenset()
    meaning = meanings(texts)
    assert "habe" not in meaning and (meaning["ich"], meaning["lese"], meaning["zeit"]) == ("ICH", "LESEN", "ZEIT")
    # Two words that are never apart bring it together.
    assert meaning["every"] == meaning["day"] == "EVERY-DAY"


def test_the_only_word_that_says_anything():
    meaning = {"dog": "DOG", "with": "WITH", "old": "OLD", "thank": "THANK-YOU"}
    companions = {"thank": {"you"}, "dog": {"old"}}
    one = only_meaning("The dog, the DOG!", "english", meaning, {})
    assert one == ("dog", "DOG") == only_meaning("dog", "", meaning, {})
    assert only_meaning("with", "english", meaning, {}) == ("with", "WITH")
    assert only_meaning("with the dog", "english", meaning, {}) == ("dog", "DOG")
    for text in ("the old dog", "my dog", "my", "the", "", "the dog's", "thank me"):
        assert only_meaning(text, "english", meaning, companions) is None, text
    assert only_meaning("thank you", "english", meaning, companions) == ("thank", "THANK-YOU")
    assert only_meaning("thank you", "english", meaning, {}) is None
