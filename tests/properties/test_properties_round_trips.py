"""What is written comes back, and any header, rows or text give a whole value or one line; harmed files: `fuzz/`."""

import csv
import io
import json
import struct
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from signer_jax.cli.common import read_lines
from signer_jax.errors import SignerError
from signer_jax.interop.state_dict import read_tensors
from signer_jax.pose import skeleton
from signer_jax.pose.formats import pose_file
from signer_jax.pose.sources.lexicon import read_lexicon
from signer_jax.types import Pose

few = settings(derandomize=True, max_examples=50, deadline=None, database=None)


def gives(read: Callable, name: str, data: bytes):
    """What `read` gives for a file of these bytes, None where it refuses them in one line that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(data)
        try:
            return read(file)
        except SignerError as error:
            assert "\n" not in str(error) and folder in str(error)
            return None


def _pose(frames: int = 3) -> Pose:
    rng = np.random.default_rng(0)
    return Pose(rng.normal(0, 99, (frames, 128, 3)).astype(np.float32), np.ones((frames, 128), np.float32), 25.0)


finite = st.floats(-1e6, 1e6, width=32)


@few
@given(st.integers(1, 4), st.floats(1, 1000, width=32), st.data())
def test_a_pose_comes_back(frames, fps, data):
    pose = _pose(frames)
    joint = data.draw(st.integers(0, 127))
    pose.coordinates[:, joint] = data.draw(finite)
    pose.confidence[0, joint] = data.draw(st.floats(0, 1, width=32))
    with tempfile.TemporaryDirectory() as folder:
        pose_file.write(Path(folder) / "a.pose", Pose(pose.coordinates, pose.confidence, fps))
        back = pose_file.read(Path(folder) / "a.pose")
    assert back.fps == fps
    np.testing.assert_array_equal(back.confidence, pose.confidence)
    np.testing.assert_array_equal(back.coordinates, pose.coordinates * (pose.confidence[..., None] > 0))


@few
@given(
    st.dictionaries(
        st.sampled_from("abc"),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "F8_E4M3", "BOOL"]),
                "shape": st.lists(st.integers(0, 2**40), max_size=3),
                "data_offsets": st.tuples(st.integers(0, 40), st.integers(0, 2**40)),
            }
        ),
    ),
    st.binary(max_size=40),
)
def test_any_header_of_tensors(header, body):
    text = json.dumps(header).encode()
    tensors = gives(lambda file: read_tensors(file.parent), "a.safetensors", struct.pack("<Q", len(text)) + text + body)
    assert sum(array.size for array in (tensors or {}).values()) <= len(body)


CELLS = ["ase", "0", "1e9", "nan", "-1", "", "a.pose", "A\nB", "x" * 501, '"', "../a.pose", "\0"]


@few
@given(st.lists(st.lists(st.sampled_from(CELLS), max_size=9), min_size=1, max_size=6))
def test_any_rows_of_a_lexicon(rows):
    header = ["path", "spoken_language", "signed_language", "start", "end", "words", "glosses", "priority"]
    good = ["a.pose", "en", "ase", "0", "0", "good", "GOOD", "1"]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows, good])
    with tempfile.TemporaryDirectory() as folder:
        pose = _pose(6)
        for name, x in (("right_shoulder", -50), ("left_shoulder", 50)):
            pose.coordinates[:, skeleton.INDEX[name]] = (x, 0, 0)
        pose_file.write(Path(folder) / "a.pose", pose)
        (Path(folder) / "index.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
        entries, problems = read_lexicon(folder)
        glosses = [entry.gloss for entry, _ in entries]
    assert glosses[-1] == "GOOD"
    assert len(glosses) + len(problems) == len([row for row in rows if row]) + 1  # each row is a sign or a problem
    assert all(problem.isprintable() and len(problem) < 400 for problem in problems)


@few
@given(st.binary(max_size=60))
def test_any_bytes_as_text(data):
    lines = gives(read_lines, "a.txt", data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        assert lines is None
        return
    if "\0" in text:
        assert lines is None
    else:
        assert lines is not None and not any({"\n", "\r"} & set(line) for line in lines)


@few
@given(
    st.lists(st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]))),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_lines_come_back(lines, end):
    data = "".join(line + end for line in lines).encode("utf-8")
    expected = [unicodedata.normalize("NFC", line) for line in lines]
    if data.startswith(b"\xef\xbb\xbf"):
        expected[0] = expected[0][1:]
    assert gives(read_lines, "a.txt", data) == expected
