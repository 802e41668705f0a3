"""The pose database: built, opened, asked, damaged."""

import json

import numpy as np
import pytest

from signer_jax import storage
from signer_jax.errors import SignerError
from signer_jax.pose.prior import REST, Entry, Prior, _names
from signer_jax.types import Pose


def _pose(frames: int, seed: int, fps: float = 25.0, axes: int = 3) -> Pose:
    rng = np.random.default_rng(seed)
    coordinates = rng.normal(size=(frames, 128, axes)).astype(np.float32)
    return Pose(coordinates, rng.uniform(0.1, 1, (frames, 128)).astype(np.float32), fps)


ENTRIES = [
    (Entry("HOUSE", "ase", "bea", variant=1, source="b"), _pose(7, 0)),
    (Entry("HOUSE", "ase", "ann", variant=2, source="c"), _pose(5, 1)),
    (Entry("HOUSE", "ase", "ann", variant=0, source="a"), _pose(4, 2)),
    (Entry("HOUSE", "ase", "zoe", variant=3, source="d", priority=-1), _pose(3, 3)),
    (Entry("HOUSE", "gsg", "cem", source="e"), _pose(6, 4)),
    (Entry("A", "ase", source="sign A"), _pose(4, 5)),
    (Entry("#A", "ase", source="letter A"), _pose(4, 6)),
    (Entry("B", "ase", source="letter B"), _pose(4, 7)),
]


@pytest.fixture
def prior(tmp_path):
    return Prior.build(iter(ENTRIES), tmp_path / "prior", 25.0, problems=["row 3: gone"])


def test_poses_come_back_exactly(prior, tmp_path):
    reopened = Prior.open(tmp_path / "prior")
    assert len(reopened) == len(ENTRIES)
    for entry, (given, pose) in zip(reopened.entries, ENTRIES, strict=True):
        assert (entry.gloss, entry.source, entry.end - entry.start) == (given.gloss, given.source, len(pose))
        stored = reopened.pose(entry)
        np.testing.assert_array_equal(stored.coordinates, pose.coordinates)
        np.testing.assert_array_equal(stored.confidence, pose.confidence)
        assert stored.fps == 25.0
    assert [file.name for file in tmp_path.iterdir()] == ["prior"]


def test_poses_are_memory_mapped_and_copied(prior):
    assert isinstance(prior._coordinates, np.memmap)
    pose = prior.pose(prior.entries[0])
    pose.coordinates[:] = 0  # a caller's change stays the caller's
    assert prior.pose(prior.entries[0]).coordinates.any()


def test_variants_are_ordered(prior):
    assert [entry.source for entry in prior.variants("HOUSE", "ase")] == ["d", "a", "c", "b"]
    assert [entry.source for entry in prior.variants("HOUSE")] == ["d", "a", "c", "b", "e"]
    assert [entry.source for entry in prior.variants("House", "gsg")] == ["e"]
    assert prior.variants("MOUSE") == [] and prior.variants("HOUSE", "bfi") == []


def test_glosses_and_languages(prior):
    assert prior.languages == ("ase", "gsg")
    assert prior.glosses("gsg") == ("HOUSE",) and prior.glosses() == ("#A", "A", "B", "HOUSE")


def test_fingerspelling(prior):
    assert [entry.source for entry in prior.fingerspell("Ab-a", "ase")] == ["letter A", "letter B", "letter A"]
    assert prior.fingerspell("abc", "ase") is None
    assert prior.fingerspell("a", "gsg") is None
    assert prior.fingerspell("--", "ase") is None


def test_info_counts(prior):
    info = prior.info()
    assert (info["entries"], info["glosses"], info["frames"], info["most_variants"]) == (8, 5, 37, 4)
    assert info["languages"] == {"ase": 7, "gsg": 1} and info["problems"] == ["row 3: gone"]
    assert info["variants_per_gloss"] == 8 / 5
    json.dumps(info)


def test_other_frame_rates_are_resampled(tmp_path):
    prior = Prior.build([(Entry("A", "ase"), _pose(10, 0, fps=50.0))], tmp_path / "p", 25.0)
    assert prior.entries[0].end == 5 and prior.pose(prior.entries[0]).fps == 25.0


def test_building_again_replaces_and_a_failure_keeps_the_old(prior, tmp_path):
    def failing():
        yield ENTRIES[0]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        Prior.build(failing(), tmp_path / "prior", 25.0)
    assert len(Prior.open(tmp_path / "prior")) == 8
    assert len(Prior.build(ENTRIES[:2], tmp_path / "prior", 25.0)) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["prior"]


def test_build_refuses(tmp_path):
    with pytest.raises(SignerError, match="no sign") as error:
        Prior.build([], tmp_path / "p", 25.0, problems=["row 2: gone"])
    assert "row 2: gone" in str(error.value) and not (tmp_path / "p").exists()
    with pytest.raises(SignerError, match="pose"):
        Prior.build([ENTRIES[0], (Entry("B", "ase"), _pose(3, 0, axes=2))], tmp_path / "p", 25.0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("important")
    with pytest.raises(SignerError, match="no pose database"):
        Prior.build(ENTRIES, tmp_path / "mine", 25.0)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_open_names_what_is_wrong(prior, tmp_path):
    def message(path):
        with pytest.raises(SignerError) as error:
            Prior.open(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    def put(name, data):
        """A file of another content, of which the manifest knows."""
        (folder / name).write_bytes(data)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"][name] = len(data)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    assert "no pose database here" in message(tmp_path / "none")
    folder = tmp_path / "prior"
    whole = (folder / "coordinates.npy").read_bytes()
    (folder / "coordinates.npy").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in message(folder)
    (folder / "coordinates.npy").unlink()
    assert "coordinates.npy is missing" in message(folder)
    put("coordinates.npy", whole[: len(whole) // 2])
    assert "damaged" in message(folder)
    put("coordinates.npy", whole)
    index = json.loads((folder / "index.json").read_text())
    for bad in (
        {**index, "entries": index["entries"][:-1]}, {**index, "entries": index["entries"][1:]}, [], None, "x",
        {**index, "entries": [{**index["entries"][0], "end": "7"}]}, {**index, "fps": float("nan")},
        {**index, "entries": [{**index["entries"][0], "gloss": None}]}, {**index, "problems": 3},
    ):  # fmt: skip
        put("index.json", json.dumps(bad).encode())
        assert "damaged" in message(folder)
    for text in (b"{", b"[" * 10**5, b"\xff\xfe{}"):
        put("index.json", text)
        assert "damaged" in message(folder)


def test_rest_poses_alone_are_no_database(tmp_path):
    rest = [(Entry(REST, "", "ann"), _pose(1, 0))]
    with pytest.raises(SignerError, match="there is no sign"):
        Prior.build(rest, tmp_path / "prior", 25.0)
    assert list(tmp_path.iterdir()) == []


def test_a_gloss_has_few_names_and_a_text_few_letters(prior, tmp_path):
    """Each mark less is a name: 60 kB of them took minutes, and gigabytes."""
    assert len(_names("ns-" * 100 + "A")) < 20
    folder = tmp_path / "prior"
    index, manifest = (json.loads((folder / name).read_text()) for name in ("index.json", "manifest.json"))
    index["entries"][0]["gloss"] = "ns-" * 20_000 + "A"
    (folder / "index.json").write_text(json.dumps(index))
    manifest["files"]["index.json"] = (folder / "index.json").stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SignerError, match="a text of more than 500 characters"):
        Prior.open(folder)


def test_what_could_not_be_opened_again_replaces_nothing(prior, tmp_path, monkeypatch):
    monkeypatch.setattr(storage.list_bytes, "__defaults__", (1000,))
    with pytest.raises(SignerError, match=r"prior: the list of its signs is too long to be read again.*divide the lex"):
        Prior.build(iter(ENTRIES[:4]), tmp_path / "prior", 25.0)
    monkeypatch.undo()
    assert len(Prior.open(tmp_path / "prior")) == len(ENTRIES)
