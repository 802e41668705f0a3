"""A message is one line that a terminal shows as it is, whatever the data that it quotes."""

import errno
import os

import pytest
from fuzz import memory

from signer_jax import outside
from signer_jax.cli import main
from signer_jax.errors import Absent, SignerError, Trouble, closest, one_line, piled


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


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SignerError("bad"), 2),
        (Trouble("busy"), 1),
        (Absent("gone"), 69),
        (OSError(errno.ESTALE, "Stale file handle"), 1),
        (OSError(errno.EIO, "Input/output error"), 1),
        (TimeoutError("timed out"), 1),
        (FileNotFoundError(errno.ENOENT, "No such file"), 2),
        (PermissionError(errno.EACCES, "Permission denied"), 2),
        (MemoryError(), 1),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), 1),
    ],
    ids=repr,
)
def test_only_what_would_be_as_bad_again_has_the_code_of_bad_input(error, code, monkeypatch, capsys):
    """Launchers end on 2."""

    def fail(_):
        raise error

    monkeypatch.setattr(main, "check_paths", fail)
    assert main.main(["train", "--config", "x", "--workdir", "y"]) == code
    assert capsys.readouterr().err.startswith("signer: ")


def test_a_reader_tells_a_lost_disk_from_a_bad_file(tmp_path):
    for number, kind in ((errno.EIO, Trouble), (errno.EACCES, SignerError)):
        with pytest.raises(SignerError, match="cannot be read") as raised, outside.reading(tmp_path, "mend it"):
            raise OSError(number, "said so")
        assert type(raised.value) is kind


def test_a_long_message_keeps_both_ends():
    message = str(SignerError("where: " + "x" * 5000 + "; how to mend it"))
    assert len(message) < 1001 and message.startswith("where: x") and message.endswith("x; how to mend it")


def test_marks_that_no_writing_has():
    assert not piled("a" * 100) and not piled("A\u0308" * 100) and not piled("a" + "\u0301" * 30)
    assert piled("a" + "\u0301\u0327" * 16) and piled("Ä" + "\u0301" * 31)


def test_a_name_of_megabytes_is_compared_at_once():
    """Their comparison took 250 MB for 5."""
    assert memory.allocated(lambda: closest("ab" * 2_000_000, ["x" * 10] * 400)) < 20 << 20
    assert "'abc'" in closest("abd", ["abc"])


def test_what_a_disk_does_not_say_today_is_not_taken_for_nothing(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").touch()
    (tmp_path / "folder" / "out").symlink_to("/etc/hostname")
    looks = {
        "stat": (outside.is_folder, outside.is_file, outside.is_there), "listdir": (outside.entries,),
        "lstat": (lambda folder: outside.check_inside(folder, ("out",), "copy it"),),
    }  # fmt: skip
    for number, what in ((errno.ESTALE, "stale file handle"), (errno.EIO, "input/output error")):
        for name, asked in looks.items():

            def fails(path, number=number, **_):
                raise OSError(number, os.strerror(number), str(path))

            for look in asked:
                with monkeypatch.context() as patch:
                    patch.setattr(os, name, fails)
                    with pytest.raises(Trouble, match=rf"cannot be (read|listed) \({what}\); check the disk"):
                        look(tmp_path / "folder")
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", lambda path: (_ for _ in ()).throw(PermissionError(13, "Denied", str(path))))
        with pytest.raises(SignerError, match=r"folder: cannot be listed \(denied\); check the disk and its rights"):
            outside.entries(tmp_path / "folder")
    assert [file.name for file in outside.entries(tmp_path / "folder", "*.txt")] == ["a.txt"]
    assert not outside.entries(tmp_path / "none") and not outside.entries(tmp_path / "folder" / "a.txt")
    assert outside.is_folder(tmp_path / "folder") and not outside.is_folder("a\0") and not outside.is_file(tmp_path)
