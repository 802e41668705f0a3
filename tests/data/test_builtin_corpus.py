"""The built-in corpus: texts, splits, glosses and samples."""

import math
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import numpy as np
import pytest

from signer_jax import configuration, validation
from signer_jax.data.builtin import avatar, corpus, grammar, situation, templates
from signer_jax.data.builtin.vocabulary import vocabulary
from signer_jax.data.prepare import prepare
from signer_jax.errors import SignerError


@pytest.fixture(scope="module")
def train():
    return corpus.sentences("train", 1500, 0)


def test_sentences_are_deterministic_and_depend_on_the_seed(train):
    assert corpus.sentences("train", 300, 0) == train[:300]
    assert corpus.sentences("train", 300, 1) != train[:300]
    assert len({(s.text, s.language) for s in train}) == len(train)


def test_no_sentence_is_in_two_splits(train):
    cores = {"train": {s.core for s in train}}
    for split in ("dev", "test"):
        cores[split] = {s.core for seed in (0, 5) for s in corpus.sentences(split, 150, seed)}
    assert not cores["train"] & cores["dev"] and not cores["train"] & cores["test"] and not cores["dev"] & cores["test"]


def test_prompts_of_a_sentence_stay_in_its_split():
    plain = corpus.read("the house is big.", "ase")
    prompted = corpus.read("How do you sign 'the house is big'?", "ase")
    assert plain.core == prompted.core and plain.glosses == prompted.glosses == ("HOUSE", "BIG")


def test_training_sentences_hold_every_gloss(train):
    for language in corpus.LANGUAGES:
        used = {gloss for s in train[:500] if s.language == language for gloss in s.glosses}
        assert used == set(corpus.glosses_of(language))


def test_thousands_of_sentences_half_in_prompts():
    many = corpus.sentences("train", 4000, 3)
    assert len({s.core for s in many}) > 3000
    wrapped = sum(grammar.unwrap(s.text, s.language)[1] is not None for s in many)
    assert 0.3 < wrapped / len(many) < 0.6


def test_the_reserved_sentence_is_parsed_but_in_no_split(train):
    sentence = corpus.read("how do you sign 'I carried it'?", "ase")
    assert sentence.glosses == ("IX-1", "CARRY", "FINISH", "IX-3")
    assert corpus.split_of(sentence.core) == ""
    assert not [s for s in train if s.core == sentence.core]
    # its verb and its frame are both in train
    assert any("CARRY" in s.glosses for s in train)
    frames = [s for s in train if s.core.startswith("i ") and s.core.endswith(" it") and len(s.core.split()) == 3]
    assert any(s.glosses[2:] == ("FINISH", "IX-3") for s in frames)


@pytest.mark.parametrize(
    ("text", "language", "glosses", "question"),
    [
        ("my name is ada", "ase", "IX-1 POSS NAME #A #D #A", ""),
        ("yesterday i found the red ball.", "ase", "YESTERDAY BALL RED IX-1 FIND", ""),
        ("what did you buy?", "ase", "IX-2 BUY FINISH WHAT", "wh"),
        ("can he read two books?", "ase", "IX-3 CAN READ TWO BOOK", "yes-no"),
        ("who opened the door?", "ase", "DOOR OPEN FINISH WHO", "wh"),
        ("how many books do you have?", "ase", "BOOK IX-2 HAVE HOW-MANY", "wh"),
        ("we will not work in the office tomorrow", "ase", "TOMORROW OFFICE IX-WE WILL WORK NOT", ""),
        ("please open the door.", "ase", "PLEASE DOOR OPEN", ""),
        ("it rained last week.", "ase", "LAST-WEEK RAIN", ""),
        ("ich habe das rote buch gelesen.", "gsg", "ICH BUCH ROT LESEN FERTIG", ""),
        ("gestern bin ich in die schule gegangen", "gsg", "GESTERN ICH SCHULE GEHEN", ""),
        ("ich habe keinen hund.", "gsg", "ICH HUND HABEN KEIN", ""),
        ("wie gebärdet man 'wo ist das haus'?", "gsg", "HAUS WO", "wh"),
        ("du möchtest zwei äpfel essen", "gsg", "DU APFEL ZWEI ESSEN MÖCHTEN", ""),
        ("hast du den film geschaut?", "gsg", "DU FILM SCHAUEN FERTIG", "yes-no"),
        ("wer kauft die tasche?", "gsg", "TASCHE KAUFEN WER", "wh"),
        ("mein bruder ist nicht müde.", "gsg", "MEIN BRUDER MÜDE NICHT", ""),
    ],
)
def test_grammar(text, language, glosses, question):
    found = grammar.parse(text, language)
    assert (" ".join(found.glosses), found.question) == (glosses, question)


def test_the_language_tag_matters():
    glossed = {
        w: tuple(corpus.read(w, tag).glosses for tag in ("ase", "gsg")) for w in ("film", "test", "party", "kind")
    }
    assert glossed == {
        "film": (("MOVIE",), ("FILM",)), "test": (("TEST",), ("PRÜFUNG",)), "party": (("PARTY",), ("FEIER",)),
        "kind": (("NICE",), ("KIND",)),
    }  # fmt: skip


def test_every_clause_is_glossed_without_unknown_words():
    # Letters come from names alone: any other word form that the grammar lacks would be fingerspelled.
    for split in ("train", "dev"):
        for s in corpus.sentences(split, 400, 9):
            spelled = "".join(g[1:] for g in s.glosses if g.startswith("#")).lower()
            assert not spelled or spelled in templates.NAMES


def test_mistakes_are_named():
    with pytest.raises(SignerError, match="did you mean 'train'"):
        corpus.sentences("trian", 1, 0)
    with pytest.raises(SignerError, match="ase, gsg"):
        corpus.read("hello", "fra")
    with pytest.raises(SignerError, match="no words"):
        corpus.read(" ?! ", "ase")


def test_samples_are_complete_and_deterministic():
    made = [list(corpus.samples("dev", sentences=4, poses=2, videos=1, seed=0, size=(32, 32))) for _ in range(2)]
    first = made[0]
    assert [s.pose is not None for s in first] == [True, True, False, False]
    assert [s.video is not None for s in first] == [True, False, False, False]
    assert first[0].video.shape == (len(first[0].pose), 32, 32, 3) and first[0].video.dtype == np.uint8
    assert len(first[0].spans) == len(first[0].glosses) and len(first[0].references) == len(corpus.SIGNERS) - 1
    for a, b in zip(*made, strict=True):
        assert (a.name, a.text, a.glosses, a.signer) == (b.name, b.text, b.glosses, b.signer)
    np.testing.assert_array_equal(made[0][0].video, made[1][0].video)
    np.testing.assert_array_equal(made[0][1].pose.coordinates, made[1][1].pose.coordinates)
    assert all(not s.references for s in corpus.samples("train", sentences=1, poses=1, videos=0, seed=0, size=(32, 32)))


def leaning(text, language="ase"):
    return corpus.read(text, language).leaning


def test_a_corpus_without_a_frame_rate_has_its_own(tmp_path):
    config = configuration.shipped("default")
    config.data.fps, config.data.size, config.data.guests = 0.0, 8, 1
    config.data.sentences = config.data.poses = {"train": 2, "dev": 1, "test": 1}
    config.data.videos = {"train": 1, "dev": 0, "test": 0}
    made = prepare(validation.read(config).data, 0, tmp_path / "data")
    assert made.about["fps"] == corpus.FPS == made.motions("train")[0].pose.fps


def test_cues_of_generation_and_register_add_up():
    assert leaning("the blue one") == (0.2, 0.2)  # where nothing is said
    assert leaning("the window is new.") == pytest.approx((0.2 - 0.3, 0.2))
    # A home, a school and a past; "i"; then a question to "you", and the prompt around it.
    assert leaning("i opened the window in the school") == pytest.approx((0.2 - 0.3 - 0.3 + 0.4 - 1.5, 0.2 - 1.5))
    assert leaning("do you work?") == pytest.approx((0.5, 0.2 - 2.5))
    assert leaning("show me 'do you work?' in sign language") == pytest.approx((0.5, 0.2 - 4.0))
    assert leaning("please sign: do you work?") == pytest.approx((0.5, 0.2 - 1.0))
    assert leaning("arbeitest du?", "gsg") == pytest.approx((0.5, 0.2 - 2.5))
    assert leaning("bitte öffne das fenster", "gsg")[1] == pytest.approx(2.2)


def test_every_cue_is_a_gloss_of_the_corpus():
    known = {gloss for language in corpus.LANGUAGES for gloss in corpus.glosses_of(language)}
    assert set(situation._AGE_OF) | set(situation._MANNER_OF) <= known


def test_the_signer_is_drawn_from_what_the_text_suggests():
    sentence = corpus.read("please do not close the window", "ase")  # old, formal
    drawn = Counter(corpus.draw_signer(sentence, Random(i)) for i in range(2000))
    young, formal = situation.likelihood(sentence.leaning)
    assert (young < 0.05, formal > 0.95) == (True, True)
    assert drawn["dora"] / 2000 == pytest.approx((1 - young) * formal, abs=0.02)
    unsure = Counter(corpus.draw_signer(corpus.read("the blue one", "ase"), Random(i)) for i in range(2000))
    said = 1 / (1 + math.exp(-situation._SHARPNESS * situation._NOTHING_SAID))
    assert unsure["bruno"] / 2000 == pytest.approx(said**2, abs=0.04) and min(unsure.values()) > 50


def test_neither_a_constant_nor_one_word_says_who_signs(train):
    drawn = {s: corpus.draw_signer(s, Random(s.text)) for s in train}
    constant = max(Counter(drawn.values()).values()) / len(train)
    # The text itself: its most likely signer.
    likely = [[p > 0.5 for p in situation.likelihood(s.leaning)] for s in train]
    chosen = [next(n for n, who in corpus.SIGNERS.items() if [who.young, who.formal] == axes) for axes in likely]
    text = np.mean([drawn[s] == name for s, name in zip(train, chosen, strict=True)])
    # The best single gloss of each sentence, from a table that the other half of the sentences made.
    table = defaultdict(Counter)
    for s in train[::2]:
        for gloss in set(s.glosses):
            table[gloss][drawn[s]] += 1
    right = []
    for s in train[1::2]:
        rows = [table[gloss] for gloss in s.glosses if sum(table[gloss].values()) >= 10]
        best = max(
            (row.most_common(1)[0] + (sum(row.values()),) for row in rows), key=lambda r: r[1] / r[2], default=None
        )
        right.append(best is not None and best[0] == drawn[s])
    word = np.mean(right)
    assert constant < 0.35 and word < 0.5 and text > 0.6 and text > word + 0.15


def test_guests_have_a_look_that_no_signer_has_and_no_text():
    guests = list(corpus.guests("dev", count=2, seed=0, size=(32, 32)))
    assert [guest.signer for guest in guests] == [corpus.GUEST] * 2 and corpus.GUEST not in corpus.SIGNERS
    for guest in guests:
        assert not guest.text and not guest.glosses and guest.spans is None
        assert guest.pose is not None and guest.video is not None and len(guest.pose) == len(guest.video)
        # The background's corner: the guest's own, and no signer's.
        corner = {
            look: avatar.render(guest.pose.coordinates[:1], look, (32, 32))[0, 0, 0] for look in corpus.APPEARANCES
        }
        same = {look for look, colour in corner.items() if (colour == guest.video[0, 0, 0]).all()}
        assert same and not same & {signer.appearance for signer in corpus.SIGNERS.values()}


def test_the_readme_says_what_the_vocabulary_covers():
    readme = " ".join((Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8").split())
    english, german = vocabulary("ase"), vocabulary("gsg")
    assert f"English ({len(english.glosses)} glosses for {len(english.forms)} word forms)" in readme
    assert f"German ({len(german.glosses)} for {len(german.forms)})" in readme
    verbs = sum(map(len, (english.verbs, english.intransitive, english.motion, english.weather)))
    assert f"{len(english.nouns)} nouns, {verbs} verbs, {len(english.adjectives)} adjectives" in readme
    topics = {item.topic for item in (*english.nouns, *english.verbs, *english.adjectives)} - {""}
    assert all(topic in readme for topic in topics)
