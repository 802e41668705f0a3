"""The first station on an untrained model: what it is given, what it may say, and what is said of the rest."""

import unicodedata
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from slul.tiny_t5 import tiny, weights

from signer_jax.errors import SignerError
from signer_jax.slul.tokenizer import EOS, UNKNOWN, Tokenizer
from signer_jax.stations import understand as station
from signer_jax.stations.draws import understand_by_draws
from signer_jax.stations.taught import Taught
from signer_jax.stations.understand import Linker, read, semantics, sentences_of, spelled, understand, understand_rows
from signer_jax.stations.understood import Sentence, Understood
from signer_jax.writing import words_of

TEXTS = {
    "ase": ["my name is new", "how do you sign 'the house is old'?", "the dog carried it in winter", "please sign"],
    "gsg": ["mein Name ist neu", "der Hund öffnet das Haus", "bitte"],
}
GLOSSES = {"ase": ["IX-1", "POSS", "NAME", "NEW", "HOUSE", "OLD", "DOG", "CARRY", "WINTER"],
           "gsg": ["MEIN", "NAME", "NEU", "HUND", "ÖFFNEN", "HAUS", "BITTE"]}  # fmt: skip
LETTERS = set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@pytest.fixture(scope="module")
def linker(tmp_path_factory) -> Linker:
    path = tmp_path_factory.mktemp("linker") / "tokenizer.model"
    every = [text for texts in TEXTS.values() for text in texts]
    tokenizer = Tokenizer.train(every, path, 160, sorted(TEXTS), glosses=GLOSSES.values())
    t5 = tiny(vocab_size=tokenizer.vocab_size)
    return Linker.of(
        t5, weights(t5), tokenizer,
        {code: [word.key for text in texts for word in words_of(text)] for code, texts in TEXTS.items()}, GLOSSES,
        spoken={"ase": "English", "gsg": "German"},
        max_source=16, max_target=10, search="shared", beams=2, length_penalty=0.6,
        performs=lambda gloss, _: gloss != "CARRY", spells=lambda word, _: set(word) <= LETTERS, reads_unknown=False,
        reads_pieces=False, taught={},
    )  # fmt: skip


def test_one_or_many_through_the_encoder_once(linker, monkeypatch):
    texts, languages = ["my name is new", "der Hund", "the dog is old", "the house"], ["ase", "gsg", "ase", "ase"]
    passes = []
    encode = station.encode
    monkeypatch.setattr(station, "encode", lambda *inputs: passes.append(inputs[-1]) or encode(*inputs))
    many = understand(texts, languages, linker, batch=2)
    assert [len(rows) for rows in passes] == [2, 2]
    assert many.H.shape == (4, 16, 16) and many.mask.shape == (4, 16)
    assert [sentence.language for sentence in many.sentences] == languages
    for i, (text, language) in enumerate(zip(texts, languages, strict=True)):
        assert set(many.glosses[i]) <= set(GLOSSES[language]) - {"CARRY"}
        ids = linker.tokenizer.encode_source(text, language)
        np.testing.assert_array_equal(many.mask[i], np.arange(16) < len(ids))
        H, mask = semantics(text, language, linker)
        np.testing.assert_allclose(np.asarray(H)[mask], many.H[i : i + 1][mask], atol=1e-5)
    assert any(many.glosses)
    # The probability of the best beam's tokens, from the model without a cache.
    b = next(b for b in range(4) if many.glosses[b] and not many.sentences[b].unfinished)
    target = np.array([linker.tokenizer.encode_gloss(many.glosses[b])])
    source = station.source_of(many.sentences[b], linker)[None]
    logits = linker.t5.apply({"params": linker.params}, source, np.pad(target[:, :-1], ((0, 0), (1, 0))))
    log_probs = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), target[..., None], -1)
    index = linker.tokenizer.gloss_index(target[0])
    for k, (gloss, probability) in enumerate(many.sentences[b].probabilities):
        own = [log_probs[0, i, 0] for i, of in enumerate(index) if of == k]
        assert gloss == many.glosses[b][k] and probability == pytest.approx(np.exp(sum(own)), abs=1e-5)
    assert len(many.sentences[b].probabilities) == len(many.glosses[b])
    assert many.sentences[b].end == pytest.approx(np.exp(log_probs[0, -1, 0]), abs=1e-5)
    one = understand(texts[:1], languages[:1], linker)
    assert one.glosses[0] == many.glosses[0] and len(one.sentences) == 1
    np.testing.assert_allclose(one.H[one.mask], many.H[:1][one.mask], atol=1e-5)


def test_draws_are_of_what_may_be_said_and_each_of_its_own_number(linker):
    texts, languages, how = ["my name is Anna", "der Hund"], ["ase", "gsg"], {"top_k": 0, "top_p": 1.0, "seed": 3}
    three = understand_by_draws(texts, languages, linker, 3, temperature=1.0, **how)
    assert len({one.glosses[0] for one in three}) > 1
    for one in three:
        assert set(one.glosses[0]) <= {*GLOSSES["ase"], "#ANNA"} - {"CARRY"} and set(one.glosses[1]) <= {
            *GLOSSES["gsg"]
        }
    again = understand_by_draws(texts, languages, linker, 2, temperature=1.0, **how)
    assert [one.glosses for one in again] == [one.glosses for one in three[:2]]
    assert not any("unsure" in line for one in three for line in one.remarks(0))
    (cold,) = understand_by_draws(texts, languages, linker, 1, temperature=0.01, **how)
    assert cold.glosses == understand(texts, languages, replace(linker, beams=1)).glosses  # greedy


def test_draws_encode_once_and_no_two_sentences_share_them(linker, monkeypatch):
    passes = []
    encode = station.encode
    monkeypatch.setattr(station, "encode", lambda *inputs: passes.append(inputs[-1]) or encode(*inputs))
    texts, how = ["my name is new"] * 4, {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 3}
    every = understand_by_draws(texts, ["ase"] * 4, linker, 6, batch=2, **how)
    assert [len(rows) for rows in passes] == [2, 2]
    of_text = [tuple(one.glosses[i] for one in every) for i in range(4)]
    assert len(set(of_text)) == 4


def test_unknown_words_are_carried_or_named(linker):
    sentence = read("My name is Anna", "ase", 0, linker)
    assert (sentence.read, sentence.carried, sentence.unknown, sentence.known) == ("My name is", ((3, "#ANNA"),), (), 3)
    sentence = read("in it Jürgen, born in 2026 🎉, is 名字 new.", "ase", 0, linker)
    assert sentence.read == "in it , in , is new." and sentence.carried == ((2, "#JUERGEN"),)
    assert sentence.unknown == ("born", "2026", "🎉", "名字") and sentence.known == 5
    # The same text in the other Unicode form.
    again = read(unicodedata.normalize("NFD", "in it Jürgen, born in 2026 🎉, is 名字 new."), "ase", 0, linker)
    assert (again.read, again.carried, again.unknown) == (sentence.read, sentence.carried, sentence.unknown)
    assert read("Mein Name", "ase", 0, linker).known == 1  # German words are no English ones
    sentence = read("the unseen house of Anna", "ase", 0, replace(linker, reads_unknown=True))
    assert (sentence.read, sentence.unknown, sentence.guessed) == ("the unseen house of", (), ("unseen", "of"))


def test_unknown_words_are_read_in_pieces_where_the_vocabulary_has_their_letters(linker):
    pieces = replace(linker, reads_pieces=True)
    text = "the doghouse of Anna is bjørk, no house"
    assert read(text, "ase", 0, linker).unknown == ("doghouse", "of", "bjørk", "no")
    sentence = read(text, "ase", 0, pieces)
    assert (sentence.read, sentence.unknown) == ("the doghouse of is , no house", ("bjørk",))
    assert (sentence.pieced, sentence.known, sentence.carried) == (("doghouse", "of", "no"), 3, ((1, "#ANNA"),))
    assert UNKNOWN not in station.source_of(sentence, replace(pieces, max_source=64))
    # They are told as guesses, a negation among them loudly; where nothing else is known, nothing is read.
    remarks = understand([text], ["ase"], replace(pieces, max_source=64)).remarks(0)
    assert "not in the training texts, read in pieces, so its glosses are a guess: doghouse of no" in remarks
    assert "WARNING: a negation is read in pieces (no): the glosses may say the opposite" in remarks
    assert "not in the training texts, left out: bjørk" in remarks
    alone = read("doghouse", "ase", 0, pieces)
    assert (alone.read, alone.unknown, alone.pieced) == ("", ("doghouse",), ())
    # Of a sentence that is cut only what is read is told, and a name behind the cut is not carried.
    cut = read("the dog carried unseen " + "the house " * 20 + "hood, Anna", "ase", 0, pieces)
    assert cut.cut and cut.pieced == ("unseen",) and cut.carried == ()


def test_what_is_asked_for_is_not_made_up(linker):
    for text in ("how do you sign 'Anna'?", "how do you sign „Anna“?", "please sign: Anna"):
        sentence = read(text, "ase", 0, linker)
        assert (sentence.read, sentence.known, sentence.spelled) == ("", 0, ("#ANNA",)) and "not signed" in sentence.cut
    sentence = read("how do you sign 'my dog is Anna'?", "ase", 0, linker)
    assert sentence.read == "how do you sign 'my dog is '?" and sentence.known == 7
    assert read("please sign: dog", "ase", 0, linker).read == "please sign: dog"


@pytest.mark.parametrize("phrase", ["zebra", "the zebra", "the zebra in the zoo", "zebra is a zebra"])
@pytest.mark.parametrize(
    "prompt",
    ["{}", "please sign: {}", "please sign {}", "how do you sign '{}'?", "how do you sign {}?", "how do I sign {}"],
)
def test_articles_are_no_text_beside_an_unknown_word(linker, phrase, prompt):
    known = replace(linker, words={**linker.words, "ase": linker.words["ase"] | {"is", "a", "i"}})
    sentence = read(prompt.format(phrase), "ase", 0, known)
    assert (sentence.read, sentence.known, sentence.carried) == ("", 0, ()) and "zebra" in sentence.unknown
    assert not sentence.to_sign
    named = read(prompt.format(phrase.replace("zebra", "Zebra")), "ase", 0, known)
    assert (named.read, named.known) == ("", 0) and set(named.spelled) <= {"#ZEBRA"}
    german = [read(text, "gsg", 0, linker) for text in ("bitte: Elefant", "bitte: der Elefant")]
    assert all(one.to_sign and (one.read, one.spelled) == ("", ("#ELEFANT",)) for one in german)
    # A known word among them is read.
    assert read(prompt.format(phrase + " dog"), "ase", 0, known).read.count("dog") == 1


@pytest.mark.parametrize("prompt", ["{}", "please sign: {}", "please sign {}", "how do you sign '{}'?", "{}, {}"])
def test_articles_alone_are_no_text(linker, prompt):
    ties = {"and", "a", "does", "with", "it", "i", "three", "not", "who", "is"}
    known = replace(
        linker, words={**linker.words, "ase": linker.words["ase"] | ties}, taught={"ase": Taught({"with": "WITH"})}
    )
    for text in ("the", "The.", "the and", "a", "does", "do"):
        for of in (known, replace(known, reads_unknown=True)):
            understood = understand([prompt.format(text, text)], ["ase"], of)
            assert understood.glosses == [()] and not understood.sentences[0].to_sign
            with pytest.raises(SignerError, match="knows no word of it to sign, nor") as error:
                understood.check()
            assert "\n" not in str(error.value)
    for text in ("der", "das", "der das"):
        with pytest.raises(SignerError, match="knows no word of it to sign in gsg, nor"):
            understand([text], ["gsg"], linker).check("gsg")
    # What has a gloss of its own is read: what training texts sign for it, pronouns, numbers, negations.
    for text in ("with", "it", "is it", "I", "three", "not", "who?", "the dog"):
        asked = prompt.format(text, text)
        assert read(asked, "ase", 0, known).read == asked, text


def test_a_sentence_that_says_nothing_is_told_beside_others(linker):
    understood = understand(["the dog is old. the. my name is new."], ["ase"], linker)
    understood.check()
    assert [sentence.known for sentence in understood.sentences] == [4, 0, 4]
    assert understood.remarks(0).count("'the.' was not signed: its words say nothing by themselves") == 1


def test_one_word_has_one_fate(linker):
    def told(text: str) -> tuple[tuple[str, ...], list[str]]:
        understood = understand([text], ["ase"], linker)
        spelled = [gloss for sentence in understood.sentences for gloss in sentence.spelled]
        return tuple(spelled), [line for line in understood.remarks(0) if "quin" in line.lower() and "cut" not in line]

    spelled_there = "not in the training texts, spelled, placed by the order of the words: #QUIN"
    assert told("my name is Quin") == (("#QUIN",), [spelled_there])
    # What one sentence says is a name is one where another begins with it.
    assert told("Quin is new. my name is Quin.") == (
        ("#QUIN", "#QUIN"),
        [spelled_there.replace("#QUIN", "#QUIN #QUIN")],
    )
    names, lines = told("Quin is new. the dog is old.")
    assert names == () and len(lines) == 2 and "left out" in lines[0] and "write QUIN" in lines[1]


def test_marks_that_no_text_is_trained_on(linker):
    for text, expected in (
        ("the dog...", "the dog."), ("the dog, zebra.", "the dog."),
        ("the dog?!", "the dog?"), ("the dog !!!", "the dog!"), ("the dog…", "the dog."),
        ("Dr. Smith is new.", "is new."), ("in winter, e.g. the dog", "in winter, the dog"), ("the dog.", "the dog."),
    ):  # fmt: skip
        assert read(text, "ase", 0, linker).read == expected, text


def test_scripts_without_spaces_are_read_whole_but_for_unknown_letters(linker):
    """Of CSL-Daily's dev texts nearly none has a row of letters that a training text has too."""
    row = ["他今天来", "我妹妹四岁。", "今年很冷"]
    for listed in (row, [word.key for text in row for word in words_of(text)]):  # of before, and of today
        of = Linker.of(
            linker.t5, linker.params, linker.tokenizer, {"csl": listed}, {"csl": ["他"]}, spoken={"csl": "Chinese"},
            max_source=64, max_target=10, search="shared", beams=2, length_penalty=0.6, performs=None, spells=None,
            reads_unknown=False, reads_pieces=False, taught={},
        )  # fmt: skip
        of = replace(of, tokenizer=SimpleNamespace(encode_source=lambda text, _: list(text)))
        sentence = read("他今年四岁。", "csl", 0, of)
        assert (sentence.read, sentence.known, sentence.carried, sentence.unknown) == ("他今年四岁。", 5, (), ())
        sentence = read("他妹妹Tom焦急，今年痊愈四岁。", "csl", 0, of)
        assert (sentence.read, sentence.unknown) == ("他妹妹,今年四岁。", ("焦急", "痊愈"))
        assert sentence.carried == ((3, "#TOM"),)


def test_typography_reads_as_the_training_texts_do(linker):
    expected = station.source_of(read("how do you sign 'the dog'?", "ase", 0, linker), linker)
    assert UNKNOWN not in expected
    for text in ("how do you sign “the dog”?", "how do you sign „the dog“?", "¿how do you sign «the dog»?"):
        np.testing.assert_array_equal(station.source_of(read(text, "ase", 0, linker), linker), expected)
    # The words of a corpus that was prepared with a typographic apostrophe.
    of = Linker.of(
        linker.t5, linker.params, linker.tokenizer, {"ase": ["don’t"]}, {"ase": ["DOG"]}, spoken={}, max_source=16,
        max_target=10, search="shared", beams=2, length_penalty=0.6, performs=None, spells=None, reads_unknown=False,
        reads_pieces=False, taught={},
    )  # fmt: skip
    assert read("don't", "ase", 0, of).known == read("don’t", "ase", 0, of).known == 1


def test_spelling_by_hand():
    assert spelled("Jürgen", "gsg", None) == "#JÜRGEN"
    assert spelled("Jürgen", "gsg", lambda word, _: set(word) <= LETTERS) == "#JUERGEN"
    assert spelled("André", "ase", lambda word, _: set(word) <= LETTERS) == "#ANDRE"
    assert spelled("O'Neill", "ase", None) == "#ONEILL" and spelled("2026", "ase", None) == "#2026"
    assert spelled("2026", "ase", lambda word, _: set(word) <= LETTERS) is None


def test_short_forms_are_read_and_a_lost_negation_is_told_loudly(linker):
    known = replace(linker, words={**linker.words, "ase": linker.words["ase"] | {"not", "i"}})
    for text in ("I don't sign", "I don’t sign", "I dont sign"):
        sentence = read(text, "ase", 0, known)
        assert (sentence.read, sentence.known, sentence.unknown) == ("I do not sign", 4, ())
    sentence = read("Anna's house is the dog's", "ase", 0, linker)
    assert (sentence.read, sentence.spelled, sentence.unknown) == ("house is the dog", ("#ANNA",), ("'s",))
    for text, word in (("nobody carried it", "nobody"), ("Nobody carried it", "Nobody"), ("it is not new", "not")):
        understood = understand([text], ["ase"], linker)
        assert understood.remarks(0)[0].startswith(f"WARNING: a negation was left out ({word})")
    assert not any("WARNING" in line for line in understand(["born in winter"], ["ase"], linker).remarks(0))
    # What counts against the model's length is the long form.
    text = "I don't sign it; the dog is old"
    long = len(linker.tokenizer.encode_source(text.replace("don't", "do not"), "ase"))
    assert len(sentences_of(text, "ase", replace(known, max_source=long))) == 1
    assert len(sentences_of(text, "ase", replace(known, max_source=long - 1))) == 2


def test_a_read_word_whose_gloss_is_lost_is_told(linker):
    known = replace(
        linker, words={**linker.words, "ase": linker.words["ase"] | {"not"}},
        taught={"ase": Taught({"dog": "DOG", "house": "HOUSE", "old": "OLD", "not": "NOT"})},
    )  # fmt: skip

    def remarks(text: str, *glosses: str) -> list[str]:
        ids = np.array(known.tokenizer.encode_gloss(glosses))
        done = station.answered(read(text, "ase", 0, known), ids, np.zeros(len(ids), np.float32), 0, known)
        return Understood(np.zeros((1, 16, 16)), np.ones((1, 16), bool), (done,), 10).remarks(0)

    lost = "the glosses lack what the training texts sign for dog (DOG), of 'the dog house is old'"
    assert remarks("the dog's house is old", "HOUSE", "OLD") == ["not in the training texts, left out: 's", lost]
    assert remarks("the dog's house is old", "DOG", "HOUSE", "OLD") == ["not in the training texts, left out: 's"]
    assert "for house (HOUSE) old (OLD), of" in remarks("house: the old dog, the old house", "DOG")[0]
    # A name that is carried over stands for no other word; of no gloss at all one line is enough.
    assert remarks("my name is Anna", "IX-1") == [
        "not in the training texts, spelled, placed by the order of the words: #ANNA"
    ]
    assert remarks("the dog house") == ["the model gives no gloss for 'the dog house'"]
    # Without its negation a sentence says the opposite.
    said = remarks("the dog is not old", "DOG", "OLD")
    assert said[0] == "WARNING: a negation was left out (not): the glosses may say the opposite" and len(said) == 2


def test_the_one_word_that_says_anything_is_answered_by_its_own_gloss(linker):
    """Where the model's own answer lacks it, in a prompt too; and it is said."""
    known = replace(
        linker, words={**linker.words, "ase": linker.words["ase"] | {"and"}},
        taught={"ase": Taught({"dog": "DOG", "house": "HOUSE", "carried": "CARRY", "new": "#N"})},
    )  # fmt: skip

    def told(text: str, *glosses: str, p: float = 0.1, end: float = 0.9) -> tuple[tuple[str, ...], list[str]]:
        ids = np.array(known.tokenizer.encode_gloss(glosses))
        index = np.array(known.tokenizer.gloss_index(ids))
        log_probs = np.array([np.log(end) if i < 0 else np.log(p) / (index == i).sum() for i in index])
        done = station.answered(read(text, "ase", 0, known), ids, log_probs.astype(np.float32), 0, known)
        return done.glosses, Understood(np.zeros((1, 16, 16)), np.ones((1, 16), bool), (done,), 10).remarks(0)

    signed = "; signed instead is what the training texts sign for dog: DOG"
    unsure = f"the model is unsure of OLD (10%), for 'The dog'{signed}"
    assert told("The dog", "OLD") == (("DOG",), [unsure])
    assert told("dog", end=0.9) == (("DOG",), [f"the model gives no gloss for 'dog'{signed}"]) == told("dog", end=0.1)
    ended = f"the model is unsure whether its glosses for 'dog' are all (30%){signed}"
    assert told("dog", "OLD", p=0.9, end=0.3) == (("DOG",), [ended])
    glosses, remarks = told("the dog and Anna", "OLD")
    assert glosses == ("DOG", "#ANNA") and remarks[-1].endswith(signed)
    # Whatever the model thinks of its own; what it doubts beside the word's own gloss stands.
    assert told("dog", "OLD", p=0.9) == (("DOG",), [f"the model gives OLD for 'dog'{signed}"])
    assert told("dog", "OLD", "DOG")[0] == ("OLD", "DOG")
    # Of a word that brings several glosses none is the answer alone, unless the model is unsure of its own.
    alone, known = known, replace(known, taught={"ase": replace(known.taught["ase"], several={"dog"})})
    assert told("dog", "OLD", p=0.9) == (
        ("OLD",),
        ["the glosses lack what the training texts sign for dog (DOG), of 'dog'"],
    )
    assert told("dog", "OLD") == (("DOG",), [unsure.replace("The dog", "dog")])
    known = alone
    # Of a prompt, what is asked for; the words around it say nothing, or are no prompt.
    for text in ("how do you sign 'the dog'?", "how do you sign dog?", "please sign: the dog"):
        assert told(text, "OLD")[0] == told(text, "OLD", p=0.9)[0] == ("DOG",), text
    assert told("in the house: 'the dog'", "OLD")[0] == ("OLD",)
    # A gloss that the model does not get away from is said once.
    again = "the model says DOG again and again, for 'the dog': the repetitions were left out"
    assert told("the dog", "DOG", "DOG", "DOG", p=0.9) == (("DOG",), [again + signed])
    # Neither one of two words, nor what cannot be performed, nor one letter of a name.
    assert told("the dog house", "OLD")[0] == ("OLD",) == told("carried", "OLD")[0] == told("new", "OLD")[0]


def test_numbers_are_read_spelled_or_told(linker):
    three = replace(linker, words={**linker.words, "ase": linker.words["ase"] | {"three"}})
    sentence = read("3 old dog", "ase", 0, three)
    assert (sentence.read, sentence.unknown) == ("three old dog", ())
    sentence = read("7 old dog", "ase", 0, replace(three, spells=None))
    assert (sentence.read, sentence.spelled, sentence.unknown) == ("old dog", ("#7",), ())
    remarks = understand(["7 old dog in 2026"], ["ase"], three).remarks(0)
    assert remarks[:2] == [
        "not in the training texts, left out: 7 2026", "no signs for all digits of 7 2026, so not spelled",
    ]  # fmt: skip
    with pytest.raises(SignerError, match=r"to spell \(no signs for all digits of 2026\); use words"):
        understand(["2026"], ["ase"], three).check()


def test_capitals_that_say_nothing(linker):
    sentence = read("Elephants carried it. Worried, it is old", "ase", 0, linker)
    assert not sentence.carried and sentence.unknown == sentence.first == ("Elephants", "Worried")
    remarks = understand(["Elephants carried it"], ["ase"], linker).remarks(0)
    assert "a sentence begins with Elephants: if that is a name to spell, write ELEPHANTS" in remarks
    with pytest.raises(SignerError, match="nor a name in it to spell"):
        understand(["Worried?"], ["ase"], linker).check()
    understood = understand(["der Elefant ist neu"], ["gsg"], linker)
    understood.check()
    assert understood.sentences[0].nouns == understood.sentences[0].spelled == ("#ELEFANT",)
    said = [line for line in understood.remarks(0) if "#ELEFANT" in line]
    assert said == ["not in the training texts, a noun or a name, spelled as a word: #ELEFANT"]
    with pytest.raises(SignerError, match="nor a name in it to spell"):
        understand(["Elefanten fressen Gras"], ["gsg"], linker).check()


def test_a_made_up_name_gives_way_to_the_carried_one(tmp_path, linker):
    letters = [f"#{letter}" for letter in "ABFINRTZ"]
    glosses = {"ase": [*GLOSSES["ase"], *letters], "gsg": GLOSSES["gsg"]}
    every = [text for texts in TEXTS.values() for text in texts]
    tokenizer = Tokenizer.train(every, tmp_path / "t", 400, sorted(TEXTS), glosses=glosses.values())
    t5 = tiny(vocab_size=tokenizer.vocab_size)
    spelling = Linker.of(
        t5, weights(t5), tokenizer, linker.words, glosses, spoken=linker.spoken, max_source=32, max_target=24,
        search="shared", beams=2, length_penalty=0.6, performs=None, spells=None, reads_unknown=False,
        reads_pieces=False, taught={},
    )  # fmt: skip
    row = np.array(tokenizer.encode_gloss(["IX-1", "POSS", "NAME", *(f"#{letter}" for letter in "FRITZ")]))
    log_probs = np.log(np.where(np.arange(len(row)) < 3, 0.9, 0.2))  # what is spelled needs no doubt
    done = station.answered(read("my name is Anna", "ase", 0, spelling), row, log_probs, 0, spelling)
    assert done.glosses == ("IX-1", "POSS", "NAME", "#ANNA") and done.invented == ()
    understood = Understood(np.zeros((1, 32, 16)), np.ones((1, 32), bool), (replace(done, end=1.0),), 24)
    assert len(understood.remarks(0)) == 1 and "placed by the order of the words: #ANNA" in understood.remarks(0)[0]
    done = station.answered(read("my name is new", "ase", 0, spelling), row, log_probs, 0, spelling)
    assert done.glosses == ("IX-1", "POSS", "NAME") and done.invented == ("FRITZ",)
    understood = replace(understood, sentences=(replace(done, end=1.0),))
    assert understood.remarks(0) == ["spelled by the model, but not in the text, left out: FRITZ"]


def test_a_text_without_a_known_word_is_refused(linker):
    for text in ("🎉", "我的名字", "born unseen", "1914", "how do you sign '🎉'?"):
        understood = understand([text], ["ase"], linker)
        assert understood.glosses == [()]
        with pytest.raises(SignerError, match="knows no word of it to sign, nor") as error:
            understood.check()
        with pytest.raises(SignerError, match="knows no word of it to sign in ase, nor"):  # where it was asked for
            understood.check("ase")
        assert "\n" not in str(error.value)
    understood = understand(["Jürgen"], ["gsg"], linker)
    understood.check()
    assert understood.glosses == [("#JUERGEN",)] and "spelled" in understood.remarks(0)[0]
    assert len(understood.remarks(0)) == 1
    with pytest.raises(SignerError, match="no training text"):
        understand(["the dog"], ["fsl"], linker)


def test_long_texts(linker):
    assert sentences_of("the dog. the house!", "ase", linker) == ["the dog.", "the house!"]
    long = "the dog carried it in winter; the house is old and new; my name is new"
    assert sentences_of(long, "ase", linker) == [part + ";" * (i < 2) for i, part in enumerate(long.split("; "))]
    text = "The dog carried it. Is the house old?\nmy name is Anna… In winter the dog is new! 名字。"
    assert len(linker.tokenizer.encode_source(text, "ase")) > 16
    assert sentences_of(text, "ase", linker) == [
        "The dog carried it.", "Is the house old?", "my name is Anna…", "In winter the dog is new!", "名字。",
    ]  # fmt: skip
    understood = understand(["the dog", text], ["ase", "ase"], linker, batch=2)
    assert understood.rows(0) == [0] and understood.rows(1) == [1, 2, 3, 4, 5] and understood.H.shape[0] == 6
    assert understood.glosses[1] == sum((understood.sentences[b].glosses for b in range(1, 6)), ())
    assert "#ANNA" in understood.glosses[1] and understood.unknown(1) == ["名字"]
    remarks = understood.remarks(1)
    assert any("left out: 名字" in line for line in remarks)
    assert not any("sentence" in line or "longer" in line for line in [*remarks, *understood.remarks(0)])


def test_short_sentences_are_read_one_by_one(linker):
    apart = understand(["my name is new.", "the dog is old."], ["ase", "ase"], linker)
    together = understand(["my name is new. the dog is old."], ["ase"], linker)
    assert [sentence.read for sentence in together.sentences] == ["my name is new.", "the dog is old."]
    assert together.glosses == [apart.glosses[0] + apart.glosses[1]] and together.rows(0) == [0, 1]
    np.testing.assert_allclose(together.H[together.mask], apart.H[apart.mask], atol=1e-5)
    # A text that is scored is in one piece, as in training, where it can be, and so is the renderer's.
    text, parts = "my name is new. the dog is old.", ["my name is new.", "the dog is old."]
    whole, first = (len(linker.tokenizer.encode_source(one, "ase")) for one in (text, parts[0]))
    for room, read_tokens, rows in ((whole, whole, [text]), (whole - 1, first, parts)):
        _, mask = semantics(text, "ase", replace(linker, max_source=room))
        assert mask.sum() == read_tokens
        scored = understand_rows([text, "the dog"], ["ase", "ase"], replace(linker, max_source=room))
        assert [sentence.read for sentence in scored.sentences] == [*rows, "the dog"] and len(scored.glosses) == 2


def test_nothing_is_said_to_be_spelled_that_lies_beyond_the_cut(linker):
    sentence = read("der Hund öffnet das Haus " * 40 + "mit Zebra und Anna", "gsg", 0, linker)
    assert sentence.cut and sentence.carried == () == sentence.nouns


def test_an_overlong_sentence_is_cut_behind_a_word_with_its_end(linker):
    text = " ".join(["the dog carried it"] * 250)
    sentence = read(text, "ase", 0, linker)
    ids = station.source_of(sentence, linker)
    words = len(sentence.read.split())
    assert text.startswith(sentence.read + " ") and EOS in ids
    assert f"the first {words} of its 1000 known words were read" in sentence.cut
    longer = " ".join(text.split()[: words + 1])
    assert len(linker.tokenizer.encode_source(longer, "ase")) > 16  # one word more would not fit
    # What training sees of such a text.
    cut = linker.tokenizer.cut(linker.tokenizer.encode_source(text, "ase"), 16)
    np.testing.assert_array_equal(cut, ids[ids != 0])


def test_glosses_that_do_not_end_are_told(linker):
    part = read("the dog", "ase", 0, linker)
    dog = linker.tokenizer.encode_gloss(["DOG"] * 4)[:-1]
    row = np.array((dog * 10)[:10])
    sure = np.log(np.full(10, 0.9))
    done = station.answered(part, row, sure, linker.languages.index("ase"), linker)
    assert done.unfinished and done.doubted and set(done.glosses) == {"DOG"}
    understood = Understood(np.zeros((1, 16, 16)), np.ones((1, 16), bool), (done,), 10)
    again = "the model says DOG again and again, for 'the dog': the repetitions were left out"
    cut = "the glosses of 'the dog' were cut at 10 tokens"
    assert understood.remarks(0) == [again, cut]
    alone = replace(understood, sentences=(replace(done, repeated=()),))
    assert alone.remarks(0) == [cut] and alone.sentences[0].doubted
    ended = np.array([*linker.tokenizer.encode_gloss(["DOG"]), 0])
    assert not station.answered(part, ended, sure[: len(ended)], 0, linker).unfinished
    nothing = replace(understood, sentences=(replace(done, unfinished=False, repeated=(), glosses=()),))
    assert nothing.remarks(0) == ["the model gives no gloss for 'the dog'"]
    with pytest.raises(SignerError, match="'the dog': no gloss came out of it; the model gives no gloss for 'the dog'"):
        nothing.require_glosses(0)
    understood.require_glosses(0)


def test_no_gloss_is_said_again_and_again(linker):
    part = read("the dog is old", "ase", 0, linker)

    def told(*glosses: str, of: Linker = linker) -> tuple[tuple[str, ...], bool, list[str]]:
        ids = np.array(of.tokenizer.encode_gloss(glosses))
        done = station.answered(part, ids, np.full(len(ids), np.log(0.99)), of.languages.index("ase"), of)
        understood = Understood(np.zeros((1, 16, 16)), np.ones((1, 16), bool), (done,), 10)
        return done.glosses, done.doubted, understood.remarks(0)

    said = "the model says DOG again and again, for 'the dog is old': the repetitions were left out"
    assert told("DOG", "DOG", "DOG", "DOG", "OLD") == (("DOG", "DOG", "OLD"), True, [said])
    assert told("OLD", "DOG", "DOG", "DOG") == (("OLD", "DOG", "DOG"), True, [said])
    for glosses in (("DOG", "DOG", "OLD"), ("DOG", "OLD", "DOG", "OLD", "DOG")):
        assert told(*glosses) == (glosses, False, [])
    # What the training texts have is said: "as always" four times in PHOENIX14T.
    four = ("OLD", "OLD", "OLD", "OLD")
    assert told(*four, of=replace(linker, taught={"ase": Taught(in_a_row=4), "gsg": Taught()})) == (four, False, [])
    assert told(*four, of=replace(linker, taught={"ase": Taught(), "gsg": Taught(in_a_row=4)}))[0] == four[:2]


def test_the_gloss_that_is_in_doubt_is_named(linker):
    part = read("the dog is old", "ase", 0, linker)
    glosses = ["IX-1", "HOUSE", "DOG"]
    ids = np.array(linker.tokenizer.encode_gloss(glosses))
    index = np.array(linker.tokenizer.gloss_index(ids))

    def remarks(probabilities: dict[str, float], end: float = 0.99) -> list[str]:
        log_probs = np.array([0.0 if i < 0 else np.log(probabilities[glosses[i]]) / (index == i).sum() for i in index])
        log_probs[list(ids).index(EOS)] = np.log(end)
        done = station.answered(part, ids, log_probs.astype(np.float32), linker.languages.index("ase"), linker)
        assert done.glosses == tuple(glosses)  # told, not removed
        understood = Understood(np.zeros((1, 16, 16)), np.ones((1, 16), bool), (done,), 10)
        assert done.doubted == bool(understood.remarks(0))
        return understood.remarks(0)

    sure = dict.fromkeys(glosses, 0.99)
    assert (index == 1).sum() > 1 or (index == 2).sum() > 1  # a gloss's pieces count together
    assert remarks(sure) == [] == remarks(dict.fromkeys(glosses, 0.51), end=0.51)
    said = "the model is unsure of {}, for 'the dog is old'"
    assert remarks(sure | {"HOUSE": 0.31}) == [said.format("HOUSE (31%)")]  # among sure ones, whatever the mean
    assert remarks(sure | {"IX-1": 0.49, "DOG": 0.1}, end=0.2) == [said.format("IX-1 (49%) DOG (10%)")]
    glosses[0] = "DOG"  # twice: once, with the least
    ids = np.array(linker.tokenizer.encode_gloss(glosses))
    index = np.array(linker.tokenizer.gloss_index(ids))
    assert remarks(sure | {"DOG": 0.3}) == [said.format("DOG (30%)")]
    assert remarks(sure, end=0.4) == ["the model is unsure whether its glosses for 'the dog is old' are all (40%)"]


def test_what_is_signed_of_a_text_is_what_has_glosses():
    parts = [("a", 0, ("X",)), ("b", 0, ()), ("c", 1, ()), ("d", 0, ("Y",)), ("e", 1, ())]
    sentences = tuple(Sentence(text, "ase", of, glosses=glosses) for text, of, glosses in parts)
    understood = Understood(np.zeros((5, 2, 3), np.float32), np.ones((5, 2), bool), sentences, 9)
    assert understood.signed_rows(0) == [0, 3] and understood.signed_rows(1) == [2]
    assert understood.glosses == [("X", "Y"), ()]
