"""Any harm to a video or a picture: what it shows, or one line; `signer sign --style` as a user sees it."""

import contextlib
import io
import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from properties.harms import Behind, Bits, Cut, Over, Whole, budget, bytes_of, gives, harms, names
from signer_jax.cli.main import main

VIDEOS = ["a.avi", "a.mkv", "a.mov", "a.mp4", "a.webm"]
PICTURES = ["a.jpeg", "a.png", "a.webp", "deep.png", "palette.png", "turned.jpeg"]


@budget(60)
@given(st.sampled_from(VIDEOS), harms)
@example("a.mp4", Cut(0))
@example("a.mp4", Cut(0.5))
@example("a.mkv", Cut(0.9))
@example("a.mov", Over(0, b"\xff\xff\xff\xff"))
@example("a.mp4", Over(0, b"\0\0\0\1ftyp\xff\xff\xff\xff\xff\xff\xff\xff"))
@example("a.avi", Over(4, b"\xff\xff\xff\xff"))
@example("a.webm", Over(4, b"\x01\xff\xff\xff\xff\xff\xff\xff"))
@example("a.mp4", Whole(b"#EXTM3U\nfile:///etc/passwd\n"))  # a list that would have FFmpeg open another file
@example("a.mp4", Whole(b"ffconcat version 1.0\nfile /etc/passwd\n"))
def test_any_harm_to_a_video(name, harm):
    gives("video", {name: harm})


@budget(80)
@given(st.sampled_from(PICTURES), harms)
@example("a.png", Cut(0))
@example("a.jpeg", Cut(0.5))
@example("a.webp", Over(4, b"\xff\xff\xff\xff"))
@example("a.png", Bits(0.9, 1))
@example("a.png", Whole(b"%!PS-Adobe-3.0 EPSF-3.0\nshowpage\n"))
@example("a.png", Whole(b"GIF89a"))
@example("a.jpeg", Behind(b"\xff\xd8\xff"))
def test_any_harm_to_a_picture(name, harm):
    gives("picture (--style)", {name: harm})


@dataclass(frozen=True)
class Sized:
    """A PNG claims a size."""

    width: int
    height: int

    def __call__(self, data: bytes) -> bytes:
        head = struct.pack(">II", self.width, self.height) + data[24:29]
        return data[:16] + head + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + data[33:]


@pytest.mark.parametrize("size", [(8000, 8000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (36_000_001, 1)])
def test_a_size_that_is_claimed_is_not_allocated(size):
    assert "megapixels" in gives("picture (--style)", {"a.png": Sized(*size)})


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (6000, 6000), (33, 32)])
def test_a_size_that_is_not_there(size):
    assert gives("picture (--style)", {"a.png": Sized(*size)})


@budget(40)
@given(st.sampled_from(PICTURES), harms)
@example("a.png", Whole(b""))
@example("a.png", Sized(8000, 8000))
@example("turned.jpeg", Cut(0.3))
def test_a_style_is_taken_or_refused_in_one_line(name, harm):
    """Where the picture is read, the folder, which holds no run, is what is refused."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(harm(bytes_of("picture (--style)", name)))
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = main(["sign", "a", "--workdir", folder, "--out", f"{folder}/x.mp4", "--style", str(file)])
        assert code == 2 and said.getvalue().count("\n") == 1 and said.getvalue().rstrip("\n").isprintable()
        assert "holds no run" in said.getvalue() or f"--style {file}" in said.getvalue()


def test_what_is_whole_is_read():
    for reader, files in (("video", VIDEOS), ("picture (--style)", PICTURES)):
        assert names(reader) == files
        for name in files:
            assert not gives(reader, {name: lambda data: data})
