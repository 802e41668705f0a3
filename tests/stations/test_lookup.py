"""Words straight from a pose database, by hand."""

import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.fluent import AS_RECORDED, FLUENT, sentence
from signer_jax.pose.letters import spell
from signer_jax.pose.prior import Entry, Prior
from signer_jax.pose.stitching import steady
from signer_jax.stations.lookup import look_up, words_of
from signer_jax.types import Pose


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> Prior:
    signs = [("HOUSE", "ase"), ("#A", "ase"), ("#B", "ase"), ("HAUS", "gsg"), ("DON'T", "ase"), ("WELL-KNOWN", "ase")]
    still = Pose(np.ones((4, 128, 3), np.float32), np.ones((4, 128), np.float32), 10.0)
    entries = [(Entry(gloss, language, "a"), still) for gloss, language in signs]
    return Prior.build(entries, tmp_path_factory.mktemp("prior") / "prior", fps=10.0)


def test_words_are_looked_up_or_spelled_or_skipped(prior):
    signed = look_up("House, ab xyz!", "ase", prior, AS_RECORDED)
    assert signed.glosses == ("HOUSE", "#A", "#B")
    assert signed.fingerspelled == ["ab"] and signed.skipped == ["xyz"]
    assert signed.video is None and signed.language == "ase" and signed.pose.fps == 10
    assert len(signed.pose) >= 3 * 4 + 2 * 2  # three signs and two transitions


@pytest.mark.parametrize(("text", "glosses"), [
    ("\u201chouse\u201d\u2026", "HOUSE"),
    ("don\u2019t", "DON'T"),
    ("well\u2013known\u00a0house", "WELL-KNOWN HOUSE"),
    ("ho\u200buse\ufeff", "HOUSE"),
    ("\uff28\uff2f\uff35\uff33\uff25", "HOUSE"),
    ("well\u00adknown well\u2011known", "WELL-KNOWN"),
    ("(house) \u00abhouse\u00bb, (2h)HOUSE!", "HOUSE HOUSE HOUSE"),
])  # fmt: skip
def test_typographic_marks_are_as_plain_ones(prior, text, glosses):
    assert " ".join(look_up(text, "ase", prior, AS_RECORDED).glosses) == glosses


def test_marks_without_a_sign_are_said_and_are_no_lost_words(prior):
    signed = look_up("HOUSE || [head nod] \u2014 fs-AB ?", "ase", prior, AS_RECORDED)
    assert signed.glosses == ("HOUSE", "#A", "#B") and signed.fingerspelled == ["AB"] and signed.skipped == []
    assert signed.remarks == [
        *(f"{mark}: a mark, no sign; skipped" for mark in ("||", "[head nod]", "-")),
        "fs-AB: spelled AB, as it is marked",
    ]  # fmt: skip


def test_the_language_is_the_one_that_knows_most_words(prior):
    assert look_up("haus", None, prior, AS_RECORDED).language == "gsg"
    assert look_up("house ab", None, prior, AS_RECORDED).language == "ase"


def test_a_language_that_has_the_sign_comes_before_one_that_spells_it(tmp_path):
    still = Pose(np.ones((4, 128, 3), np.float32), np.ones((4, 128), np.float32), 10.0)
    signs = [*((letter, "aed") for letter in "PIZA"), ("PIZZA", "gsg"), ("PIZZA", "ise"), ("TOP", "ise")]
    entries = [(Entry(gloss, language), still) for gloss, language in signs]
    database = Prior.build(entries, tmp_path / "p", 10.0, fallbacks={"aed": ["ise"], "slf": ["ise"]})
    signed = look_up("pizza top", None, database, AS_RECORDED)
    assert signed.language == "ise" and signed.glosses == ("PIZZA", "TOP")
    signed = look_up("pizza", None, database, AS_RECORDED)
    assert signed.language == "gsg" and signed.remarks[0].startswith("taken from gsg; ise would do as well")
    assert look_up("zip", None, database, AS_RECORDED).language == "aed"


def test_punctuation_of_any_script_is_none_of_a_word():
    assert words_of("\u00abhaus\u00bb\u3002 \u061fhaus\u060c \u3010haus\u3011\u00b7 #A $GEST 50% -5") == (
        "haus", "haus", "haus", "#A", "$GEST", "50%", "-5",
    )  # fmt: skip


def test_several_signers_are_named(tmp_path):
    still = Pose(np.ones((4, 128, 3), np.float32), np.ones((4, 128), np.float32), 10.0)
    entries = [(Entry("HOUSE", "ase", "bea"), still), (Entry("TREE", "ase", "ann"), still)]
    signed = look_up("house tree", "ase", Prior.build(entries, tmp_path / "p", 10.0), AS_RECORDED)
    assert signed.remarks == ["signed by 2 signers: ann, bea"]


@pytest.mark.parametrize(
    ("text", "language", "says"),
    [
        ("?!", None, "the text is empty"),
        ("house", "bsl", "has ase, gsg"),
        ("xyz", "gsg", "neither the words"),
    ],
)
def test_what_cannot_be_signed_is_one_line(prior, text, language, says):
    with pytest.raises(SignerError, match=says):
        look_up(text, language, prior, AS_RECORDED)


def test_how_each_word_was_found_is_returned(prior):
    assert look_up("HOUSE house ab xyz", "ase", prior, AS_RECORDED).found == [
        ("HOUSE", "gloss"), ("house", "gloss in another case"), ("ab", "fingerspelled"), ("xyz", "skipped"),
    ]  # fmt: skip


def test_a_language_without_signs_of_its_own_may_be_asked_for_where_another_stands_in(prior, tmp_path):
    still = Pose(np.ones((4, 128, 3), np.float32), np.ones((4, 128), np.float32), 10.0)
    database = Prior.build([(Entry("CASA", "ise"), still)], tmp_path / "p", 10.0, fallbacks={"slf": ["ise"]})
    signed = look_up("casa", "slf", database, AS_RECORDED)
    assert signed.language == "slf" and signed.found == [("casa", "another language")]
    assert look_up("casa", None, database, AS_RECORDED).language == "ise"
    with pytest.raises(SignerError, match="not a sign language of this"):
        look_up("casa", "ssr", database, AS_RECORDED)


def test_a_spelled_letter_is_steady_and_keeps_its_time(tmp_path):
    """Of a hand that is seen late the letter is all of it; a word of one letter is a spelled one too."""
    rng = np.random.default_rng(0)
    ways = np.cumsum(rng.normal(0, 0.01, (2, 40, 128, 3)), axis=1).astype(np.float32)
    poses = [Pose(way, np.ones((40, 128), np.float32), 25.0) for way in ways]
    poses[0].confidence[:8, skeleton.positions(skeleton.RIGHT_HAND, skeleton.JOINTS)] = 0
    entries = [(Entry("#X", "ase"), poses[0]), (Entry("#Y", "ase"), poses[1]), (Entry("TREE", "ase"), poses[1])]
    prior = Prior.build(entries, tmp_path / "p", 25.0)
    letters = [steady(prior.pose(prior.variants(name)[0]), None) for name in ("#X", "#Y")]
    tree = steady(prior.pose(prior.variants("TREE")[0]), None)
    made = look_up("xy", "ase", prior, FLUENT).pose
    expected = sentence([spell(letters)[0]], [True], FLUENT)
    np.testing.assert_array_equal(made.coordinates, expected.coordinates)
    made = look_up("tree fs-X tree", "ase", prior, FLUENT).pose
    expected = sentence([tree, spell(letters[:1])[0], tree], [False, True, False], FLUENT)
    np.testing.assert_array_equal(made.coordinates, expected.coordinates)
