"""The tokenizer: determinism, round trips, tags and masks as single ids, case."""

import pickle
import re
import unicodedata
from collections import Counter

import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.slul.merges import merged
from signer_jax.slul.tokenizer import EOS, OWN_MASK, PAD, UNKNOWN, Tokenizer, normalise, spaced
from signer_jax.writing import plain

TEXTS = [
    "How do you sign 'I carried it'?",
    "Das bedeutet viele Wolken und kräftige Schauer.",
    "Am Mittwoch hier und da Nieselregen an den Küsten.",
    "THE SITTING WAS OPENED AT 9.35",
] * 5
GLOSSES = [
    ("IX-1", "CARRY"),
    ("#A", "#B", "HOUSE"),
    ("ES-BEDEUTET", "VIEL", "WOLKE"),
    ("MÄRZ", "KÜSTE", "GRÖSSE", "WEISS"),
    ("今天", "星期"),
    ("poss-BRÜCKE", "X-WE", "9.35"),
] * 5
LANGUAGES = ("ase", "gsg", "sgg-CH")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "slul.model"
    return Tokenizer.train(TEXTS, path, 220, LANGUAGES, glosses=GLOSSES)


def test_same_input_same_bytes(tmp_path):
    for name in ("a", "b"):
        Tokenizer.train(iter(TEXTS), tmp_path / name, 220, LANGUAGES, glosses=iter(GLOSSES))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]  # nothing partial is left


def test_training_is_quiet(tmp_path, capfd):
    Tokenizer.train(TEXTS, tmp_path / "a", 220, LANGUAGES, glosses=GLOSSES)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize("glosses", [*GLOSSES[:6], (), ("CARRY", "CARRY", "IX-1")])
def test_glosses_come_back(tokenizer, glosses):
    ids = tokenizer.encode_gloss(glosses)
    assert ids[-1] == EOS
    assert EOS not in ids[:-1] and PAD not in ids and UNKNOWN not in ids
    assert tokenizer.decode_gloss(ids) == glosses
    assert tokenizer.decode_gloss([*ids, PAD, PAD]) == glosses
    assert tokenizer.decode_gloss([*ids, *tokenizer.encode_gloss(("HOUSE",))]) == glosses


def test_frequent_glosses_are_one_piece(tmp_path):
    """Others are made of their letters, though no text and no piece has them; what is no gloss stays in pieces."""
    glosses = [("REGEN", "IX-1", "IX"), ("REGEN", "IX-1", "IX"), ("WIND", "9", "今天"), ("WIND", "9", "今天")]
    texts = ["regen und wind", "am 9. viel wind"] * 5
    own = Tokenizer.train(texts, tmp_path / "own", 80, LANGUAGES, glosses=[*glosses, ("WEN",)], whole=2)
    for one in {gloss for row in glosses for gloss in row} - {"9", "今天"}:
        assert len(own.encode_gloss([one])) == 2
    for row in (*glosses, ("REGENWIND",), ("WEN", "IX-9")):
        assert own.decode_gloss(own.encode_gloss(row)) == row
    assert len(own.encode_gloss(["REGENWIND"])) > 2 and own.gloss_index(own.encode_gloss(["IX-1", "WEN"]))[0] == 0
    assert UNKNOWN not in own.encode_source("viel regen am 9.", "gsg")
    for size, row, said in (
        (30, glosses[0], "3 of them whole glosses .config.tokenizer.whole_glosses.; give at least that"),
        (80, ("9", "今天"), "whole_glosses 2: no gloss with a capital occurs so often"),
    ):
        with pytest.raises(SignerError, match=said):
            Tokenizer.train(texts, tmp_path / "none", size, LANGUAGES, glosses=[row] * 2, whole=2)


def test_an_ideograph_is_a_piece_of_its_own(tmp_path):
    texts = ["今天天气很好,我们去北京。", "我们今天去学校。", "Wir gehen heute"] * 20
    glosses = [("今天", "天气", "好", "我们", "去", "北京2"), ("我们", "学校", "X天"), ("WIR", "HEUTE")] * 20
    made = Tokenizer.train(texts, tmp_path / "a", 120, ("csl", "gsg"), glosses=glosses)
    pieces = [made._pieces.id_to_piece(i) for i in range(made.vocab_size)]
    ideographs = [piece for piece in pieces if any("一" <= letter <= "鿿" for letter in piece)]
    assert sorted(ideographs) == sorted(set("今天天气很好我们去北京学校"))
    assert {"▁gehen", "▁WIR", "▁heute"} <= set(pieces) and not any("\x1f" in piece for piece in pieces)
    text, gloss = made.encode_source(texts[0], "csl"), made.encode_gloss(glosses[0])
    both = {made._pieces.piece_to_id(letter) for letter in "今天气好我们去北京"}
    assert both <= set(text) and both <= set(gloss)
    for row in glosses[:3]:
        assert made.decode_gloss(made.encode_gloss(row)) == row


def test_a_text_is_read_in_other_pieces_by_chance(tokenizer, tmp_path):
    """Of the same text; without a chance in the pieces that SentencePiece makes."""
    text = "Das bedeutet viele Wolken 9.35 am Mittwoch und kräftiger Nieselregen?"
    rng = np.random.default_rng(0)
    whole = Tokenizer.train(TEXTS, tmp_path / "whole", 260, LANGUAGES, glosses=GLOSSES, whole=1)
    for own in (tokenizer, whole):
        once = own.encode_source(text, "gsg")
        assert own.encode_source(text, "gsg", 1e-12, rng) == once
        read = [own.encode_source(text, "gsg", 0.3, rng) for _ in range(20)]
        assert len(set(map(tuple, read))) > 15 and sum(map(len, read)) > 22 * len(once)
        for ids in read:
            assert UNKNOWN not in ids
            assert own._pieces.decode(ids[1:-1]) == own._pieces.decode(once[1:-1])
        letters = own.encode_source(text, "gsg", 0.999999, rng)
        assert len(letters) == 2 + sum(len(word) + 1 for word in spaced(normalise(text)).split())


def test_joins_by_hand():
    learned = {"ab": 0, "bc": 1, "abc": 2, "cd": 3}.get
    rng = np.random.default_rng(0)
    assert merged("abcd", learned, 0.0, rng) == ["abc", "d"]
    assert merged("xbcd", learned, 0.0, rng) == ["x", "bc", "d"]
    assert merged("abab", learned, 0.0, rng) == ["ab", "ab"] and merged("", learned, 0.5, rng) == []
    read = Counter(tuple(merged("ab", learned, 0.25, rng)) for _ in range(2000))
    assert abs(read["a", "b"] / 2000 - 0.25) < 0.03 and len(read) == 2


def test_glosses_made_of_known_characters_come_back(tokenizer):
    glosses = ("HORSE", "IX-3", "BÜRO")  # none of them was in the training data, all of their characters were
    assert tokenizer.decode_gloss(tokenizer.encode_gloss(glosses)) == glosses


def test_source_starts_with_one_tag_and_ends_with_eos(tokenizer):
    for language in LANGUAGES:
        ids = tokenizer.encode_source("viele wolken", language)
        bare = tokenizer.encode_source("viele wolken", "ase")
        assert ids[1:] == bare[1:] and ids[-1] == EOS
    tags = {tokenizer.encode_source("", language)[0] for language in LANGUAGES}
    assert len(tags) == 3 and not tags & {PAD, EOS, UNKNOWN, tokenizer.mask_id}
    assert tokenizer.mask_id == OWN_MASK
    assert tokenizer.encode_source("", "ase")[1:] == [EOS]
    assert tokenizer.languages == LANGUAGES


def test_mask_is_one_id_and_never_decoded(tokenizer):
    carry, house = (tokenizer.encode_gloss((gloss,))[:-1] for gloss in ("CARRY", "HOUSE"))
    assert tokenizer.mask_id not in carry
    assert tokenizer.decode_gloss([*carry, tokenizer.mask_id, *house, EOS]) == ("CARRY", "HOUSE")
    tag = tokenizer.encode_source("", "ase")[0]
    assert tokenizer.decode_gloss([tag, *carry, EOS]) == ("CARRY",)


def test_text_is_lower_cased_and_glosses_are_not(tokenizer):
    assert tokenizer.encode_source("VIELE  Wolken", "gsg") == tokenizer.encode_source("viele wolken", "gsg")
    assert tokenizer.encode_gloss(("CARRY",)) != tokenizer.encode_gloss(("carry",))
    assert normalise("  Ｈｏｗ\tTHE ﬁne Straße ") == "how the fine straße"


def test_typography_has_one_form(tokenizer):
    marks = "„don’t“ «don´t» ‹don`t› ‘a’ ”b” – a—b ‑ −1 ＂"
    assert plain(marks) == "\"don't\" \"don't\" 'don't' 'a' \"b\" - a-b - -1 \""
    expected = tokenizer.encode_source("do you sign 'it'?", "ase")
    assert UNKNOWN not in expected
    # The training texts have single quotes only; double ones and what nothing there stands for are no unknown pieces.
    for text in (
        "do you sign “it”?",
        "do you sign „it“?",
        "do you sign »it«?",
        'do you sign "it"?',
        "¿do you sign ‘it’?",
    ):
        assert tokenizer.encode_source(text, "ase") == expected, text


def test_no_punctuation_is_an_unknown_piece(tokenizer):
    marks = [chr(i) for i in range(0x3100) if unicodedata.category(chr(i))[0] == "P"]
    assert len(marks) > 300
    for mark in marks:
        assert UNKNOWN not in tokenizer.encode_source(f"{mark}sign{mark} it{mark}", "ase"), mark
    assert UNKNOWN in tokenizer.encode_source("Ж", "ase")  # letters stay what they are


def test_gloss_index_by_hand(tokenizer):
    first, second = (tokenizer.encode_gloss((gloss,))[:-1] for gloss in ("ES-BEDEUTET", "WOLKE"))
    ids = [*tokenizer.encode_gloss(("ES-BEDEUTET", "WOLKE")), PAD, PAD]
    assert ids == [*first, *second, EOS, PAD, PAD]
    assert tokenizer.gloss_index(ids) == [0] * len(first) + [1] * len(second) + [-1, -1, -1]
    assert len(first) > 1  # a gloss of several pieces, or this test shows nothing


def test_targets_that_are_too_long_end_behind_a_gloss(tokenizer):
    glosses = ("IX-1", "CARRY", "ES-BEDEUTET", "WOLKE", "HOUSE")
    whole = tokenizer.encode_gloss(glosses)
    least = len(tokenizer.encode_gloss(glosses[:1]))
    seen = set()
    for length in range(least, len(whole) + 3):
        target, belongs = tokenizer.gloss_target(glosses, length)
        fit = max(n for n in range(1, 6) if len(tokenizer.encode_gloss(glosses[:n])) <= length)
        ids = tokenizer.encode_gloss(glosses[:fit])
        assert target.tolist() == ids + [PAD] * (length - len(ids)), length
        assert belongs.tolist() == tokenizer.gloss_index(target)
        seen.add((fit, length - len(ids)))
    assert len(seen) > 5  # cut at a gloss's end, and within one
    first = tokenizer.encode_gloss(("ES-BEDEUTET",))[0]
    assert tokenizer.gloss_target(("ES-BEDEUTET",), 2)[0].tolist() == [first, EOS]  # no whole gloss fits
    assert not tokenizer.gloss_target((), 3)[0].any()


def test_gloss_ids_bar_what_is_no_gloss(tokenizer):
    allowed = tokenizer.gloss_ids
    assert len(allowed) == tokenizer.vocab_size
    barred = {PAD, UNKNOWN, tokenizer.mask_id, *(tokenizer.encode_source("", code)[0] for code in LANGUAGES)}
    assert {i for i, may in enumerate(allowed) if not may} == barred


def test_unknown_fraction_counts_characters(tokenizer):
    assert tokenizer.unknown_fraction("viele wolken") == 0
    assert tokenizer.unknown_fraction("") == 0
    assert tokenizer.unknown_fraction("ЖЖЖ viele") == pytest.approx(3 / 8)
    assert tokenizer.unknown_fraction("ЖЖ Ж") == 1


def test_load_equals_train_and_travels(tokenizer, tmp_path):
    path = tmp_path / "slul.model"
    Tokenizer.train(TEXTS, path, 220, LANGUAGES, glosses=GLOSSES)
    loaded = Tokenizer.load(path)
    for other in (loaded, pickle.loads(pickle.dumps(loaded))):
        assert other.vocab_size == tokenizer.vocab_size and other.mask_id == tokenizer.mask_id
        assert other.encode_source(TEXTS[0], "ase") == tokenizer.encode_source(TEXTS[0], "ase")


def test_vocabulary_size_is_an_upper_limit(tmp_path):
    small = Tokenizer.train(TEXTS, tmp_path / "a", 5000, LANGUAGES, glosses=GLOSSES)
    assert 60 < small.vocab_size < 5000


def test_published_vocabulary_without_a_mask(tmp_path):
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(normalise(text) for text in TEXTS), model_prefix=str(tmp_path / "t5"), vocab_size=80,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=3,
    )  # fmt: skip
    with pytest.raises(SignerError, match="<extra_id_0>"):
        Tokenizer.load(tmp_path / "t5.model")
    tokenizer = Tokenizer.load(tmp_path / "t5.model", mask="<extra_id_0>")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "t5.model"))
    # T5 puts 100 sentinels behind the pieces, the highest id is <extra_id_0> (32099 of 32100 in t5-small).
    assert tokenizer.vocab_size == len(pieces) + 100
    assert tokenizer.mask_id == len(pieces) + 99
    assert Tokenizer.load(tmp_path / "t5.model", mask="<extra_id_3>").mask_id == len(pieces) + 96
    assert tokenizer.encode_source("Wolken", "ase") == [*pieces.encode("[ase] wolken"), EOS]
    assert len(tokenizer.gloss_ids) == tokenizer.vocab_size and not tokenizer.gloss_ids[tokenizer.mask_id]
    assert tokenizer.decode_gloss([tokenizer.mask_id, EOS]) == ()


def test_mistakes_are_named(tokenizer, tmp_path):
    with pytest.raises(SignerError, match=r"did you mean 'gsg'.*known: ase, gsg, sgg-CH"):
        tokenizer.encode_source("hallo", "gsgx")
    for gloss in ("", "THANK YOU", " HOUSE"):
        with pytest.raises(SignerError, match="join its words"):
            tokenizer.encode_gloss(("IX-1", gloss))
    with pytest.raises(SignerError, match="no such file"):
        Tokenizer.load(tmp_path / "absent.model")
    (tmp_path / "broken.model").write_bytes(b"no model")
    with pytest.raises(SignerError, match="not a SentencePiece model"):
        Tokenizer.load(tmp_path / "broken.model")
    for texts, size, says in (
        (TEXTS, 20, r"config\.tokenizer\.vocab_size 20: the characters .* are \d+ pieces; give at least that"),
        (TEXTS, 10**12, r"no vocabulary of config\.tokenizer\.vocab_size 1000000000000 can be made"),
        ([], 100, "the training texts hold no word"),
        (["  "], 100, "the training texts hold no word"),
    ):
        with pytest.raises(SignerError, match=says) as error:
            Tokenizer.train(texts, tmp_path / "never.model", size, LANGUAGES, glosses=[])
        assert "\n" not in str(error.value) and ".cc" not in str(error.value)
    assert not (tmp_path / "never.model").exists()


def test_the_size_that_a_refusal_names_is_enough(tmp_path):
    with pytest.raises(SignerError) as error:
        Tokenizer.train(TEXTS, tmp_path / "t.model", 10, LANGUAGES, glosses=[])
    least = int(re.search(r"are (\d+) pieces", str(error.value))[1])
    with pytest.raises(SignerError):
        Tokenizer.train(TEXTS, tmp_path / "t.model", least - 1, LANGUAGES, glosses=[])
    Tokenizer.train(TEXTS, tmp_path / "t.model", least, LANGUAGES, glosses=[])


def test_bytes_of_byt5(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer", "extra_ids": 125}')
    tokenizer = Tokenizer.load(tmp_path / "tokenizer_config.json", mask="<extra_id_0>")
    assert (tokenizer.vocab_size, tokenizer.mask_id, tokenizer.languages) == (384, 259, ())
    assert tokenizer.encode_source("Öl", "gsg") == [byte + 3 for byte in "[gsg] öl".encode()] + [1]
    ids = tokenizer.encode_gloss(["HAUS", "ÖL", "你好"])
    assert tokenizer.decode_gloss(ids) == ("HAUS", "ÖL", "你好") and ids[0] == ord(" ") + 3
    assert tokenizer.decode_gloss([tokenizer.mask_id, *ids]) == ("HAUS", "ÖL", "你好")
    index = tokenizer.gloss_index(ids)
    assert index == [0] * 5 + [1] * 4 + [2] * 7 + [-1]
    assert tokenizer.decode_gloss([ord("A") + 3, 0xC3 + 3, 1]) == ("A\ufffd",)  # half a letter
    assert tokenizer.unknown_fraction("你好 a") == 0.0 and tokenizer.encode_gloss([]) == [1]
    assert sum(tokenizer.gloss_ids) == 257 and len(tokenizer.gloss_ids) == 384  # the bytes and eos
    target, _ = tokenizer.gloss_target(["HAUS", "ALT"], 8)
    assert tokenizer.decode_gloss(target) == ("HAUS",)  # cut behind a whole gloss
    with pytest.raises(SignerError, match="has no piece '<mask>'"):
        Tokenizer.load(tmp_path / "tokenizer_config.json")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    with pytest.raises(SignerError, match="not a SentencePiece model"):
        Tokenizer.load(tmp_path / "tokenizer_config.json", mask="<extra_id_0>")


def test_glosses_of_bytes_follow_each_other_in_the_search(tmp_path):
    from signer_jax.slul.constraint import automaton, whole_glosses

    (tmp_path / "b.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    tokenizer = Tokenizer.load(tmp_path / "b.json", mask="<extra_id_3>")
    rules = automaton({"gsg": ["HAUS", "HAUSTIER", "ÖL"]}, tokenizer, tokenizer.vocab_size)
    ids = tokenizer.encode_gloss(["HAUS", "ÖL", "HAUSTIER"])
    assert whole_glosses(rules, 0, ids) == ids[:-1]
    assert whole_glosses(rules, 0, ids[:-3]) == tokenizer.encode_gloss(["HAUS", "ÖL", "HAUS"])[:-1]
