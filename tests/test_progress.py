"""A bar appears with its first item, and shows its end."""

import pytest

from signer_jax.errors import SignerError
from signer_jax.progress import progress


def test_a_bar_shows_its_last_item_too(capsys):
    assert list(progress(range(3), "counted")) == [0, 1, 2]
    shown = capsys.readouterr().err
    assert "counted" in shown and "3/3" in shown and shown.endswith("\n")


def test_what_is_refused_before_its_first_item_shows_no_bar(capsys):
    def refused():
        raise SignerError("no")
        yield

    bar = progress(refused(), "read")
    with pytest.raises(SignerError):
        list(bar)
    del bar
    unused = progress(refused(), "read")  # refused before anything was asked of it
    del unused
    assert list(progress([], "read")) == []
    assert capsys.readouterr().err == ""


def test_a_bar_with_a_delay_shows_nothing_before_it(capsys):
    assert list(progress(range(3), "counted", delay=60.0)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_bar_that_counts_by_hand_shows_its_end(capsys):
    with progress(range(2), "counted") as bar:
        bar.update()
        bar.update()
    assert "2/2" in capsys.readouterr().err


def test_a_bar_that_is_not_asked_for_stays_silent(capsys):
    assert list(progress([1], "counted", shown=False)) == [1]
    assert capsys.readouterr().err == ""
