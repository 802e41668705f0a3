"""Any harm to a pose, a lexicon, a pose database or a pair of poses: what it holds, or one line."""

import math
import struct

import pytest
from fuzz import broken, memory
from hypothesis import example, given
from hypothesis import strategies as st

from properties import harms as harming
from properties.harms import (
    NESTED,
    NO_JSON,
    Behind,
    Cell,
    Cut,
    Over,
    Put,
    Whole,
    budget,
    floats,
    gives,
    harms,
    names,
    odd_cells,
    odd_json,
)
from signer_jax.pose.entries import FILES

POSES = ["ours.pose", "holistic0.0.pose", "holistic0.1.pose", "holistic0.2.pose"]


@budget(80)
@given(st.sampled_from(POSES), harms)
@example("ours.pose", Cut(0))
@example("ours.pose", Cut(7))
@example("holistic0.1.pose", Behind(b"\0"))
@example("holistic0.0.pose", Over(10, b"\xff\xff"))  # components
@example("ours.pose", Over(0, struct.pack("<f", math.nan)))  # the version
def test_any_harm_to_a_pose(name, harm):
    gives(".pose", {name: harm})


@budget(30)
@given(st.sampled_from(POSES[2:]), floats, st.integers(0, 1), st.integers(0, 1), st.integers(0, 26))
@example("holistic0.1.pose", 1e30, 0, 0, 0)
@example("holistic0.2.pose", -3e38, 1, 0, 26)
@example("holistic0.2.pose", 1e30, 1, 1, 0)
@example("holistic0.1.pose", math.nan, 0, 0, 4)
def test_any_value_of_a_coordinate(name, value, frame, person, number):
    """Two frames of two people with 9 points of 3 coordinates, then the confidences; the first person is read."""
    place = 27 * (2 * frame + person) + number
    said = gives(".pose", {name: Over(-4 * (36 + 108 - place), struct.pack("<f", value))})
    far = math.isfinite(value) and abs(value) > 1e6 and person == 0
    assert (f"in frame {frame}, beyond 1e+06" in said) == far and bool(said) == far


@budget(60)
@given(st.one_of(odd_cells(","), harms))
@example(Cell(",", 1, 0, "../a.pose"))
@example(Cell(",", 1, 0, "/etc/passwd"))
@example(Cell(",", 1, 6, "e" + "\u0301" * 40))
@example(Cell(",", 1, 3, "nan"))
@example(Cell(",", 0, 0, "", "utf-16"))
@example(Whole(b""))
def test_any_harm_to_a_lexicon(harm):
    gives("lexicon folder", {"index.csv": harm})


@budget(60)
@given(st.sampled_from(["wlasl/WLASL_v0.3.json", "corpus/a.json"]), odd_json)
@example("corpus/a.json", Put((2, 0), 1e400))
@example("wlasl/WLASL_v0.3.json", Put((0, 0), "e" + "\u0301" * 40))
def test_any_value_in_the_json_of_a_source(name, harm):
    gives("WLASL, timed glosses", {name: harm})


@budget(60)
@given(st.sampled_from(["index.json", "problems.json", "manifest.json"]), odd_json)
@example("problems.json", Put((0, 0), "e" + "\u0301" * 40))
@example("index.json", Put((1,), 1e400))
def test_any_value_of_a_database(name, harm):
    gives("pose database", {name: harm}, listed=True)


@pytest.mark.parametrize("data", [*NO_JSON, *NESTED], ids=lambda data: data[:12].hex())
def test_a_database_whose_index_is_no_json(data):
    assert gives("pose database", {"index.json": Whole(data)}, listed=True)
    assert gives("pose database", {"manifest.json": Whole(data)})


OTHERS = names("poses of other tools")
OPENPOSE = "openpose/a_000000000001_keypoints.json"
WRITTEN = [name for name in OTHERS if not name.endswith((".files", ".text", ".gloss", "manifest.json"))]


@budget(150)
@given(st.sampled_from(WRITTEN), harms)
@example("a.npy", Over(0, b"\x93NUMPY\1\0\xff\xff"))
@example("a.pkl", Whole(b"cos\nsystem\n(S'touch never'\ntR."))
@example("a.pkl", Whole(b"\x80\x04Nr\xff\xff\xff\xff."))
@example("a.gz", Cut(0.5))
@example("a.skels", Cut(0.5))
@example("own.npz", Cut(0.5))
@example(OPENPOSE, Cut(0))
def test_any_harm_to_poses_of_other_tools(name, harm):
    gives("poses of other tools", {name: harm})


@budget(60)
@given(st.sampled_from(["a.json", OPENPOSE]), odd_json)
@example(OPENPOSE, Put((0, 0, 1), [1e400] * 75))
@example("a.json", Put((0, 0), 2**70))
def test_any_value_in_json_of_other_tools(name, harm):
    gives("poses of other tools", {name: harm})


@pytest.mark.parametrize("name", ["a.json", OPENPOSE])
@pytest.mark.parametrize("data", [*NO_JSON, *NESTED], ids=lambda data: data[:12].hex())
def test_poses_of_other_tools_that_are_no_json(name, data):
    assert gives("poses of other tools", {name: Whole(data)})


@budget(30)
@given(st.sampled_from(["a.skels", "prompt2sign-2025.skels"]), odd_cells(" "))
def test_any_value_of_skels(name, harm):
    gives("poses of other tools", {name: harm})


HEADER = b"\x93NUMPY\1\0"


@budget(40)
@given(st.sampled_from(["coordinates.npy", "confidence.npy", *FILES]), harms)
@example("text_ends.npy", Over(-8, b"\xff\xff\xff\xff\xff\xff\xff\x7f"))
@example("entries.npy", Over(-400, b"\xff" * 200))
@example("coordinates.npy", Over(0, HEADER + b"\xff\xff"))
@example("confidence.npy", Whole(HEADER + b"\x76\0{'descr': '|O', 'fortran_order': False, 'shape': (2**62,), }"))
@example("confidence.npy", Whole(b""))
def test_any_harm_to_a_databases_arrays(name, harm):
    gives("pose database", {name: harm}, listed=True)


@budget(30)
@given(st.sampled_from(["ref.pose", "hyp.pose"]), harms)
@example("ref.pose", Over(-4, struct.pack("<f", math.inf)))
@example("hyp.pose", Over(0.5, struct.pack("<f", 1e30)))
@example("hyp.pose", Cut(0))
def test_a_score_of_poses_is_a_number(name, harm):
    """`gives` reads what is printed and written: neither NaN nor infinity."""
    gives("score pose", {name: harm})


def test_what_is_whole_is_read():
    for reader in (".pose", "poses of other tools", "lexicon folder", "pose database", "score pose"):
        assert not gives(reader, {names(reader)[0]: lambda data: data})


@pytest.mark.parametrize(
    "name", ["a traceback", "no line to show", "names no file", "took", "grew by 4", "Deprecation"]
)
def test_what_no_reader_may_do_is_seen(name, monkeypatch):
    reader = next(reader for reader in broken.READERS if reader.name.startswith(name))
    monkeypatch.setattr(harming, "READERS", (reader,))
    monkeypatch.setattr(harming, "SECONDS", broken.SECONDS)
    memory.settle()  # what earlier tests left must not be freed while this one looks
    assert not gives(reader.name, {"0": Whole(b"1")})
    with pytest.raises(AssertionError, match=reader.name):
        gives(reader.name, {"0": Whole(b"22")})
