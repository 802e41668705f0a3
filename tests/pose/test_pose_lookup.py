"""Words looked up in a lexicon's database: each way to find one, in its order, and what is said of it."""

import numpy as np
import pytest

from signer_jax.pose.fingerspelling import spellings, unspellable
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


def test_words_keep_their_order_and_their_language(prior):
    found = look_up(["HOUSE", "ada", "xyz", "IX-1"], "sgg", prior)
    assert [[entry.gloss for entry in one.entries] for one in found] == [["HOUSE"], ["A", "D", "A"], [], ["IX-1"]]
    assert [one.spelled for one in found] == [False, True, False, False]
    assert not any(one.entries for one in look_up(["HOUSE", "ada", "pizza"], "ase", prior))


def test_letters_by_their_convention():
    assert spellings("Jürgen") == ("JÜRGEN", "JUERGEN") and spellings("Straße") == ("STRAẞE", "STRASSE")
    assert (
        spellings("É") == ("É", "E") and spellings("Łódź") == ("ŁÓDŹ", "LODZ") and spellings("Ærø") == ("ÆRØ", "AEROE")
    )
    assert spellings("2026!") == ("2026",) and spellings("🎉") == ()
    assert spellings("Ju\u0308rgen") == spellings("Jürgen")
    assert unspellable("Żuk Ж", set("ZUK").__contains__) == ("Ж",)


def test_an_index_of_before_has_no_words(prior):
    index = prior.path / "index.json"
    text = index.read_text()
    old = text.replace('"words": "klein",', "").replace('"words": "house",', "")
    assert text != old
    from signer_jax import storage

    manifest = prior.path / storage.MANIFEST
    manifest.write_text(manifest.read_text().replace(str(len(text.encode())), str(len(old.encode()))))
    index.write_text(old)
    assert Prior.open(prior.path).meanings("klein") == []
