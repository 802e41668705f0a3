"""Words looked up in a lexicon's database: each way to find one, in its order, and what is said of it."""

import numpy as np
import pytest

from signer_jax.errors import closest
from signer_jax.pose import lookup, numbers
from signer_jax.pose.fingerspelling import letters_of, spellings, unspellable
from signer_jax.pose.lookup import look_up
from signer_jax.pose.prior import NO_PRIORITY, Entry, Prior
from signer_jax.types import Pose

SIGNS = [
    Entry("KLEIN", "sgg", priority=3, variant=0, source="old.pose", words="klein"),
    Entry("KLEIN", "sgg", priority=NO_PRIORITY, variant=1, source="none.pose", words="klein"),
    Entry("KLEIN", "sgg", priority=1, variant=2, source="best.pose", words="klein"),
    Entry("PIZZA1A^", "sgg", words="Pizza, Pizza essen"),
    Entry("TEST2B*", "sgg"),
    Entry("$GEST", "sgg"),
    Entry("HOUSE", "sgg", words="house"),
    Entry("IX-1", "sgg"),
    Entry("10", "sgg"),
    *(Entry(letter, "sgg") for letter in "ADELNOUZ"),
]


@pytest.fixture
def prior(tmp_path):
    pose = Pose(np.ones((3, 128, 3), np.float32), np.ones((3, 128), np.float32), 25.0)
    return Prior.build([(entry, pose) for entry in SIGNS], tmp_path / "prior", 25.0)


@pytest.mark.parametrize(("text", "glosses", "said"), [
    ("house", "HOUSE", ""),
    ("klein", "KLEIN", "klein: 3 ways to sign it; took KLEIN of best.pose (priority 1)"),
    ("pizza", "PIZZA1A^", "pizza: signed as PIZZA1A^, which means it"),
    ("Pizza essen", "PIZZA1A^", "Pizza essen: signed as PIZZA1A^, which means it"),
    ("TEST", "TEST2B*", "TEST: not there; signed as TEST2B*, the nearest gloss"),
    ("gest", "$GEST", "gest: not there; signed as $GEST, the nearest gloss"),
    ("HOUSE-IX", "HOUSE", "HOUSE-IX: not there; signed as HOUSE, without IX"),
    ("HOUSE+KLEIN", "HOUSE KLEIN", "HOUSE+KLEIN: not there; signed as HOUSE KLEIN"),
    ("IX", "", "IX: not in the database, nor are signs for I X"),
    ("Huose", "", "Huose: not in the database (did you mean 'HOUSE'?), nor are signs for H S"),
    ("1", "", "1: not in the database, nor are signs for 1"),
    ("ada", "A D A", ""),
    ("Ünal", "U E N A L", "Ünal: spelled UENAL, for lack of signs for its letters"),
    ("Łodż", "L O D Z", "Łodż: spelled LODZ, for lack of signs for its letters"),
    ("Adań-Ж", "", "Adań-Ж: not in the database, nor are signs for Ж"),
])  # fmt: skip
def test_each_way_to_find_a_word(prior, text, glosses, said):
    (found,) = look_up(text.split(), "sgg", prior)
    assert " ".join(entry.gloss for entry in found.entries) == glosses and found.said == said


MARKED = [
    Entry("GEHEN", "gsg"), Entry("LAUFEN-2", "gsg"), Entry("HOUSE1", "gsg"), Entry("PIZZA1A^", "gsg", words="Pizza"),
    Entry("HOME", "gsg"), Entry("LOSE", "gsg"), Entry("IX", "gsg"), Entry("IX-1", "gsg"), Entry("POSS-3p", "gsg"),
    Entry("NORD", "gsg"), Entry("VIEL", "gsg"), Entry("ICE_CREAM", "gsg"), Entry("#OK", "gsg"),
    Entry("BUS/TRAM", "gsg"), Entry("neg-WOLLEN", "gsg"), Entry("DON\u2019T", "gsg"),
    *(Entry(letter, "gsg") for letter in "ADHOUSEM"),
]  # fmt: skip


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    pose = Pose(np.ones((3, 128, 3), np.float32), np.ones((3, 128), np.float32), 25.0)
    return Prior.build([(entry, pose) for entry in MARKED], tmp_path_factory.mktemp("marked") / "prior", 25.0)


@pytest.mark.parametrize(("asked", "glosses", "said"), [
    *((asked, "GEHEN", f"{asked}: not there; signed as GEHEN, the nearest gloss") for asked in (
        "GEHEN_2", "GEHEN-2", "GEHEN#2", "GEHEN2B*", "$GEHEN", "gehen*", "GEHEN++", "(2h)GEHEN", "GEHEN(2)",
        "loc-GEHEN", "cl-gehen", "poss-GEHEN", "(1h)loc-GEHEN_3*", "GEHEN:i")),
    ("LAUFEN", "LAUFEN-2", "LAUFEN: not there; signed as LAUFEN-2, the nearest gloss"),
    ("LAUFEN_3", "LAUFEN-2", "LAUFEN_3: not there; signed as LAUFEN-2, the nearest gloss"),
    ("neg-VIEL", "VIEL", "neg-VIEL: not there; signed as VIEL, the nearest gloss, WITHOUT ITS NEGATION"),
    ("neg-WOLLEN", "neg-WOLLEN", ""),
    ("IX-3p:i", "IX", "IX-3p:i: not there; signed as IX, the nearest gloss"),
    ("POSS-3", "POSS-3p", "POSS-3: not there; signed as POSS-3p, the nearest gloss"),
    ("$INDEX1", "IX", "$INDEX1: not there; signed as IX, the nearest gloss"),
    ("house/home", "HOUSE1", "house/home: signed as HOUSE1, one of 2 alternatives"),
    ("zelt/home", "HOME", "zelt/home: signed as HOME, one of 2 alternatives"),
    ("tram", "BUS/TRAM", "tram: not there; signed as BUS/TRAM, the nearest gloss"),
    ("lose^me", "LOSE M E", "lose^me: not there; signed as LOSE M E, me spelled"),
    ("LOSE+loc-SAM2*", "LOSE S A M", "LOSE+loc-SAM2*: not there; signed as LOSE S A M, loc-SAM2* spelled"),
    ("LOSE+IX-2", "LOSE IX", "LOSE+IX-2: not there; signed as LOSE IX"),
    ("LOSE+POSS", "LOSE", "LOSE+POSS: not there; signed as LOSE, without POSS"),
    ("$ALPHA1:A-D+LOSE", "A D LOSE", "$ALPHA1:A-D+LOSE: not there; signed as A D LOSE, $ALPHA1:A-D spelled"),
    ("#AD+HOME", "A D HOME", "#AD+HOME: not there; signed as A D HOME, #AD spelled"),
    ("$NUM-X1:3+LOSE", "LOSE", "$NUM-X1:3+LOSE: not there; signed as LOSE, without $NUM-X1:3"),
    ("lose^zak", "LOSE", "lose^zak: not there; signed as LOSE, without zak"),
    ("HOUSE+PIZZA", "HOUSE1 PIZZA1A^", "HOUSE+PIZZA: not there; signed as HOUSE1 PIZZA1A^"),
    ("house-ix+pizza", "HOUSE1 IX PIZZA1A^", "house-ix+pizza: not there; signed as HOUSE1 IX PIZZA1A^"),
    ("GEHEN_2+HOUSE-XY", "GEHEN HOUSE1", "GEHEN_2+HOUSE-XY: not there; signed as GEHEN HOUSE1, without XY"),
    ("neg-VIEL+HOME", "VIEL HOME", "neg-VIEL+HOME: not there; signed as VIEL HOME, WITHOUT ITS NEGATION"),
    ("ice-cream", "ICE_CREAM", "ice-cream: not there; signed as ICE_CREAM, the nearest gloss"),
    ("ice cream", "ICE_CREAM", "ice cream: not there; signed as ICE_CREAM, the nearest gloss"),
    ("fs-ADA", "A D A", "fs-ADA: spelled ADA, as it is marked"),
    ("#ADA", "A D A", "#ADA: spelled ADA, as it is marked"),
    ("$ALPHA1:A-D-A", "A D A", "$ALPHA1:A-D-A: spelled A-D-A, as it is marked"),
    ("A+D+A", "A D A", ""),
    ("#OK", "#OK", ""),
    ("ok", "#OK", "ok: not there; signed as #OK, the nearest gloss"),
    ("#NORD", "NORD", "#NORD: not there; signed as NORD, the nearest gloss"),
    ("fs-ZAK", "", "fs-ZAK: not in the database, nor are signs for Z K"),
    ("ada/sam", "A D A", "ada/sam: spelled ada, the first of 2 alternatives"),
    ("don't", "DON\u2019T", ""),
    ("A4", "", "A4: not in the database, nor are signs for 4"),
    ("12:30", "", "12:30: not in the database, nor are signs for 1 2 3 0"),
    ("IX-2", "IX", "IX-2: not there; signed as IX, the nearest gloss"),
    ("WOLLEN", "", "WOLLEN: not in the database (did you mean 'neg-WOLLEN'?), nor are signs for W L N"),
    *((mark, "", f"{mark}: a mark, no sign; skipped") for mark in ("||", "__EMOTION__", "<neg>", "[nod]", "(2h)", "+")),
])  # fmt: skip
def test_what_corpora_write_around_a_name(marked, asked, glosses, said):
    (found,) = look_up(asked.split(" "), "gsg", marked)
    assert (" ".join(entry.gloss for entry in found.entries), found.said) == (glosses, said)
    assert found.spelled == (glosses == "A D A") and found.mark == said.endswith("no sign; skipped")


def test_another_person_is_no_variant(marked):
    """IX is no name of IX-1: what is asked for without a person is not given one."""
    assert [entry.gloss for entry in marked.unmarked("IX")] == ["IX"]
    assert [entry.gloss for entry in marked.unmarked("POSS-3")] == ["POSS-3p"] and marked.unmarked("POSS") == []


def test_a_large_lexicon_is_looked_up_in_time_that_grows_with_the_question(tmp_path, monkeypatch):
    """Of ten thousand glosses a few are compared letter by letter with each unknown word."""
    rng = np.random.default_rng(0)
    names = sorted({"".join(rng.choice(list("ABCDEFGHIJKLMNOPRSTUVWZ"), 7)) for _ in range(10_000)})
    pose = Pose(np.ones((1, 128, 2), np.float32), np.ones((1, 128), np.float32), 25.0)
    prior = Prior.build(((Entry(name, "gsg"), pose) for name in [*names, "HOUSE"]), tmp_path / "prior", 25.0)
    compared = []
    monkeypatch.setattr(
        "signer_jax.pose.hints.closest", lambda word, known: compared.append(len(known)) or closest(word, known)
    )
    unknown = [f"{name[3:]}{name[:3]}x" for name in names[::20]]
    found = look_up([*unknown, "Huose", *names[:100]], "gsg", prior)
    assert len(compared) == len(unknown) + 1 and max(compared) <= 20
    assert found[len(unknown)].said == "Huose: not in the database (did you mean 'HOUSE'?), nor are signs for H U O S E"
    assert [one.entries[0].gloss for one in found[len(unknown) + 1 :]] == names[:100]


def test_what_a_language_writes_follows_the_spoken_one_beside_it(tmp_path):
    """By the sign language's code where no lexicon names it, whatever the name looks like."""
    glosses = [*"UE", "1", "3", "20"]
    entries = [Entry(gloss, code, spoken=spoken) for code, spoken in (("gsg", ""), ("ise", ""), ("dse", "Dutch"))
               for gloss in glosses]  # fmt: skip
    entries += [Entry(gloss, "tsm") for gloss in ("I", "\u0130", "Z", "M", "R", "T", "\u0130Z")]
    entries += [Entry("3", "arb"), Entry("20", "arb", spoken="ar")]
    pose = Pose(np.ones((3, 128, 3), np.float32), np.ones((3, 128), np.float32), 25.0)
    prior = Prior.build([(entry, pose) for entry in entries], tmp_path / "p", 25.0)

    def signed(word: str, language: str) -> str:
        return " ".join(entry.gloss for entry in look_up([word], language, prior)[0].entries)

    assert [signed("\u00fc", code) for code in ("gsg", "ise", "dse")] == ["U E", "U", "U"]
    assert [signed("21", code) for code in ("gsg", "ise", "dse")] == ["1 20", "20 1", "1 20"]
    assert signed("mirt\u0131", "tsm") == "M \u0130 R T I" and signed("iz", "tsm") == "\u0130Z"
    assert (
        signed("\u0662\u0663", "arb") == "3 20"
        and signed("\u0663\u0663", "arb") == "3 3"
        and signed("\u0663", "arb") == "3"
    )
    assert prior.hint("xyz", "tsm") == "" and prior.preferring("x")._near is prior._near


@pytest.mark.parametrize(("asked", "said"), [
    ("3.5", "3.5: spelled 35, without ."), ("-5", "-5: spelled 5, without -"), ("5", ""), ("AT&T", ", without &"),
    ("53%", "53%: spelled 53, without %"), ("A-T", ""), ("5-A", "5-A: spelled 5A, without -"), ("O'A", ""),
])  # fmt: skip
def test_what_spelling_drops_is_said(tmp_path, asked, said):
    pose = Pose(np.ones((3, 128, 3), np.float32), np.ones((3, 128), np.float32), 25.0)
    prior = Prior.build([(Entry(letter, "ase"), pose) for letter in "35ATO"], tmp_path / "p", 25.0)
    (found,) = look_up([asked], "ase", prior)
    assert found.entries and found.said.endswith(said) and bool(found.said) == bool(said)


def test_a_compounds_number_and_name_are_not_dropped(ordered):
    (found,) = look_up(["GO+84+xq"], "slf", ordered)
    assert found.said == "GO+84+xq: not there; signed as GO 80 4, without xq"
    (found,) = look_up(["PIZZA-hasu"], "ise", ordered)
    assert [entry.gloss for entry in found.entries] == ["PIZZA", *"HA", "S", "U"][: len(found.entries)]
    assert found.said.endswith("hasu spelled") and [found.group(k) for k in range(5)] == [0, 1, 1, 1, 1]


def test_a_text_has_the_signer_who_has_most_of_it(tmp_path):
    """ann's recordings are the best, but bea has all of the text; a word is spelled by one."""
    glosses = {"ann": ("HOUSE", "TREE", "A"), "bea": ("HOUSE", "TREE", "CAR", "A", "B"), "": ("CAR", "X", "Y")}
    worth = {"ann": 0.9, "bea": 0.2, "": 0.2}
    entries = [Entry(gloss, "ase", who, quality=worth[who]) for who, has in glosses.items() for gloss in has]
    entries += [Entry(gloss, "ase", "cem", priority=-1) for gloss in ("A", "HOUSE")]
    pose = Pose(np.ones((3, 128, 3), np.float32), np.ones((3, 128), np.float32), 25.0)
    prior = Prior.build([(entry, pose) for entry in entries], tmp_path / "p", 25.0)

    def signers(*words: str) -> list[str]:
        return [entry.signer for one in look_up(words, "ase", prior) for entry in one.entries]

    assert signers("TREE") == ["ann"] and signers("TREE", "CAR") == ["bea", "bea"]
    assert signers("HOUSE", "TREE", "CAR") == ["cem", "bea", "bea"]  # a priority is the lexicon's wish
    assert signers("ab") == ["bea", "bea"] and signers("xa") == ["", "cem"]
    assert "its letters are of 2 signers" in look_up(["xa"], "ase", prior)[0].said


def test_words_keep_their_order_and_their_language(prior):
    found = look_up(["HOUSE", "ada", "xyz", "IX-1"], "sgg", prior)
    assert [[entry.gloss for entry in one.entries] for one in found] == [["HOUSE"], ["A", "D", "A"], [], ["IX-1"]]
    assert [one.spelled for one in found] == [False, True, False, False]
    assert not any(one.entries for one in look_up(["HOUSE", "ada", "pizza"], "ase", prior))


@pytest.fixture(scope="module")
def dgs(tmp_path_factory):
    glosses = (
        "$ALPHA1:L", "$NUM-EINER1A:2d", "$NUM-ZEHNER1:2", "$NUM-TEEN1:9", "$NUM-HUNDERTER1:3*", "$NUM-PEITSCHE1:4"
    )  # fmt: skip
    pose = Pose(np.ones((3, 128, 3), np.float32), np.ones((3, 128), np.float32), 25.0)
    entries = [(Entry(gloss, "gsg"), pose) for gloss in glosses]
    return Prior.build(entries, tmp_path_factory.mktemp("dgs") / "prior", 25.0)


@pytest.mark.parametrize(("asked", "glosses"), [
    ("$ALPHA1:L", "$ALPHA1:L"), ("$ALPHA2:L", "$ALPHA1:L"), ("L", "$ALPHA1:L"), ("$ALPHA1:K", ""), ("ALPHA1", ""),
    ("2", "$NUM-EINER1A:2d"), ("20", "$NUM-ZEHNER1:2"), ("$NUM-ZEHNER1:2", "$NUM-ZEHNER1:2"),
    ("$NUM-ZEHNER2B:2*", "$NUM-ZEHNER1:2"), ("19", "$NUM-TEEN1:9"), ("300", "$NUM-HUNDERTER1:3*"),
    ("319", "$NUM-HUNDERTER1:3* $NUM-TEEN1:9"), ("$NUM-ZEHNER1:5", ""), ("5", ""), ("4", ""),
    ("9", ""), ("$NUM-PEITSCHE1:2", ""), ("$NUM-PEITSCHE1:4", "$NUM-PEITSCHE1:4"), ("NUM", ""),
])  # fmt: skip
def test_letters_and_numbers_of_the_dgs_corpus_are_no_variants_of_each_other(dgs, asked, glosses):
    (found,) = look_up([asked], "gsg", dgs)
    assert " ".join(entry.gloss for entry in found.entries) == glosses


def test_letters_by_their_convention():
    assert spellings("Jürgen") == ("JÜRGEN", "JUERGEN") and spellings("Straße") == ("STRAẞE", "STRASSE")
    assert (
        spellings("É") == ("É", "E") and spellings("Łódź") == ("ŁÓDŹ", "LODZ") and spellings("Ærø") == ("ÆRØ", "AEROE")
    )
    assert spellings("2026!") == ("2026",) and spellings("🎉") == ()
    assert spellings("Ju\u0308rgen") == spellings("Jürgen")
    assert unspellable("Żuk Ж", set("ZUK").__contains__) == ("Ж",)


ORDER = [
    Entry("GO", "slf", words="andare, go", forms="went, gone"), Entry("HOUSE1A^", "slf"), Entry("Tree", "slf"),
    Entry("1000", "slf", spoken="it"), Entry("100", "slf"), Entry("9", "slf"), Entry("80", "slf"), Entry("4", "slf"),
    Entry("PIZZA", "ise"), Entry("GO", "ise"), Entry("CAR", "xyz"),
    *(Entry(letter, "ise") for letter in "ADESHUß"), Entry("sch", "ise"), Entry("SS", "ise"), Entry("IN", "ise"),
    Entry("AD", "ise"), Entry("$ALPHA1:L", "gsg"), Entry("$ALPHA2:O-K", "gsg"), Entry("$NUM-EINER1A:5", "gsg"),
    Entry("O^", "gsg"), Entry("9", "gsg", spoken="de"), Entry("80", "gsg", spoken="de"), Entry("4", "gsg", spoken="de"),
]  # fmt: skip


@pytest.fixture(scope="module")
def ordered(tmp_path_factory):
    pose = Pose(np.ones((3, 128, 3), np.float32), np.ones((3, 128), np.float32), 25.0)
    folder = tmp_path_factory.mktemp("ordered") / "prior"
    fallbacks = {"slf": ["ise"], "ise": ["xyz", "slf"]}
    return Prior.build([(entry, pose) for entry in ORDER], folder, 25.0, fallbacks=fallbacks)


@pytest.mark.parametrize(("asked", "language", "glosses", "how", "said"), [
    ("GO", "slf", "GO", lookup.GLOSS, ""),
    ("go", "slf", "GO", lookup.CASE, ""),
    ("TREE", "slf", "Tree", lookup.CASE, ""),
    ("andare", "slf", "GO", lookup.MEANING, "andare: signed as GO, which means it"),
    ("HOUSE", "slf", "HOUSE1A^", lookup.MARKS, "HOUSE: not there; signed as HOUSE1A^, the nearest gloss"),
    ("Went", "slf", "GO", lookup.FORM, "Went: signed as GO, of which it is a form"),
    ("PIZZA", "slf", "PIZZA", lookup.LANGUAGE, "PIZZA: not there in slf; signed as PIZZA of ise"),
    ("car", "slf", "CAR", lookup.LANGUAGE, "car: not there in slf; signed as CAR of xyz"),
    ("HOUSE+GO", "slf", "HOUSE1A^ GO", lookup.COMPOUND, "HOUSE+GO: not there; signed as HOUSE1A^ GO"),
    ("x/TREE", "slf", "Tree", lookup.ALTERNATIVE, "x/TREE: signed as Tree, one of 2 alternatives"),
    ("1984", "slf", "1000 9 100 80 4", lookup.NUMBER, "1984: built of the signs for 1000 9 100 80 4"),
    ("84", "gsg", "4 80", lookup.NUMBER, "84: built of the signs for 4 80"),
    ("85", "gsg", "$NUM-EINER1A:5 80", lookup.NUMBER, "85: built of the signs for 5 80"),
    ("lol", "gsg", "$ALPHA1:L O^ $ALPHA1:L", lookup.SPELLED, ""),
    ("L", "gsg", "$ALPHA1:L", lookup.MARKS, "L: not there; signed as $ALPHA1:L, the nearest gloss"),
    ("4009", "slf", "4 1000 9", lookup.NUMBER, "4009: built of the signs for 4 1000 9"),
    ("99", "slf", "9 9", lookup.SPELLED, ""),  # there is no 90
    ("ADA", "slf", "A D A", lookup.SPELLED, "ADA: spelled ADA with the letters of ise"),
    ("schade", "ise", "sch A D E", lookup.SPELLED, ""),  # AD is a sign, and no letter
    ("Dasß", "ise", "D A S ß", lookup.SPELLED, ""),
    ("hassu", "ise", "H A SS U", lookup.SPELLED, ""),
    ("ÜÉ", "ise", "U E", lookup.SPELLED, "ÜÉ: spelled UE, for lack of signs for its letters"),
    ("||", "ise", "", lookup.MARK, "||: a mark, no sign; skipped"),
    ("DUX", "ise", "", lookup.SKIPPED, "DUX: not in the database, nor are signs for X"),
    ("PIZZA", "gsg", "", lookup.SKIPPED, "PIZZA: not in the database, nor are signs for P I Z A"),
])  # fmt: skip
def test_the_order_of_ways_and_what_is_told_of_each(ordered, asked, language, glosses, how, said):
    (found,) = look_up([asked], language, ordered)
    assert (" ".join(entry.gloss for entry in found.entries), found.how, found.said) == (glosses, how, said)
    assert found.how in lookup.HOW and found.spelled == (how == lookup.SPELLED)


def test_numbers_are_built_of_the_signs_that_are_there():
    def of(number: str, *signs: str, spoken: str = "") -> str | None:
        found = numbers.built(number, set(signs).__contains__, spoken)
        return " ".join(found) if found else None

    assert (
        of("21", "21", "20", "1") == "21"
        and of("21", "20", "1") == "20 1"
        and of("21", "20", "1", spoken="german") == "1 20"
    )
    assert of("100", "100") == "100" and of("250", "2", "100", "50") == "2 100 50" and of("200", "2") is None
    assert of("2000000", "2", "1000000") == "2 1000000" and of("12", "10", "2") is None and of("007", "7", "0") is None
    assert of("3.5", "3", "5") is None and of("", "1") is None and of("9" * 13, "9") is None


def test_letters_of_real_alphabets():
    """Of German Swiss, Italian and Croatian: a sign for several letters is taken first, the longest."""

    def spelled(word: str, *signs: str) -> str | None:
        found = letters_of(word, {sign.upper(): sign for sign in signs}.get)
        return "-".join(sign for _, sign in found) if found else None

    assert spelled("Schach", *"ACHS", "CH", "SCH") == "SCH-A-CH" and spelled("Bach", *"BACH") == "B-A-C-H"
    assert spelled("Anna", "A", "N", "AN") == "A-N-N-A" and spelled("Anna", "A", "N", "nn") == "A-nn-A"
    assert spelled("džep", *"EP", "Dž", "D", "Ž") == "Dž-E-P" and spelled("11", "1", "11") == "1-1"
    assert spelled("Łé", *"LE") == "L-E" and spelled("Łéx", *"LE") is None and spelled("--", "A") is None
