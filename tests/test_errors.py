"""A message is one line that a terminal shows as it is, whatever the data that it quotes."""

import pytest
from fuzz import memory

from signer_jax.errors import SignerError, closest, one_line, piled


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"), ("\x1b[2J", "\\x1b[2J"), ("\u202eevil", "\\u202eevil"), ("\ud800", "\\ud800"),
        ("\x85\u2028", "\\x85\\u2028"),
        ("Ärger 字 😀", "Ärger 字 😀"), ("\u200d\u200c", "\u200d\u200c"), ("back\\slash", "back\\slash"),
    ],
)  # fmt: skip
def test_what_acts_is_shown_by_its_number(text, shown):
    assert one_line(text) == shown == str(SignerError(text))


def test_a_long_message_keeps_both_ends():
    message = str(SignerError("where: " + "x" * 5000 + "; how to mend it"))
    assert len(message) < 1001 and message.startswith("where: x") and message.endswith("x; how to mend it")


def test_marks_that_no_writing_has():
    assert not piled("a" * 100) and not piled("A\u0308" * 100) and not piled("a" + "\u0301" * 30)
    assert piled("a" + "\u0301\u0327" * 16) and piled("Ä" + "\u0301" * 31)


def test_a_name_of_megabytes_is_compared_at_once():
    """Their comparison took 250 MB for 5."""
    assert memory.grown(lambda: closest("ab" * 2_000_000, ["x" * 10] * 400)) < 20 << 20
    assert "'abc'" in closest("abd", ["abc"])
