"""The pose database: built, opened, asked, damaged."""

import io
import json
import threading
import tracemalloc
from dataclasses import asdict, replace

import numpy as np
import pytest

from signer_jax import storage
from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.pose.entries import names
from signer_jax.pose.prior import KIND, REST, Entry, Prior
from signer_jax.pose.quality import quality
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


def test_poses_come_back_but_for_float16(prior, tmp_path):
    reopened = Prior.open(tmp_path / "prior")
    assert len(reopened) == len(ENTRIES)
    for entry, (given, pose) in zip(reopened.entries, ENTRIES, strict=True):
        assert (entry.gloss, entry.source, entry.end - entry.start) == (given.gloss, given.source, len(pose))
        stored = reopened.pose(entry)
        np.testing.assert_array_equal(stored.coordinates, pose.coordinates.astype(np.float16))
        np.testing.assert_array_equal(stored.confidence, pose.confidence.astype(np.float16))
        np.testing.assert_allclose(stored.coordinates, pose.coordinates, rtol=2**-11, atol=1e-7)
        assert stored.fps == 25.0 and stored.coordinates.dtype == stored.confidence.dtype == np.float32
    assert [file.name for file in tmp_path.iterdir()] == ["prior"]


def test_poses_are_memory_mapped_and_copied(prior):
    assert isinstance(prior._coordinates, np.memmap)
    pose = prior.pose(prior.entries[0])
    pose.coordinates[:] = 0  # a caller's change stays the caller's
    assert prior.pose(prior.entries[0]).coordinates.any()


def test_what_is_hardly_seen_is_not_made_missing(tmp_path):
    pose = _pose(3, 0)
    pose.confidence[:] = [[1e-12], [0.0], [1.0]]
    prior = Prior.build([(Entry("A", "ase"), pose)], tmp_path / "p", 25.0)
    assert ((prior.pose(prior.entries[0]).confidence > 0) == (pose.confidence > 0)).all()


def test_variants_are_ordered_by_priority_then_quality(prior):
    ranked = sorted((quality(pose), entry.source) for entry, pose in ENTRIES if entry.gloss == "HOUSE")
    best = [source for _, source in ranked[::-1] if source in "abc"]
    assert [entry.source for entry in prior.variants("HOUSE", "ase")] == ["d", *best]
    assert prior.variants("HOUSE")[0].source == "d" and len(prior.variants("HOUSE")) == 5
    assert all(0 < entry.quality <= 1 for entry in prior.entries)
    assert [entry.source for entry in prior.variants("House", "gsg")] == ["e"]
    assert prior.variants("MOUSE") == [] and prior.variants("HOUSE", "bfi") == []
    assert prior.signers == ("", "ann", "bea", "cem", "zoe")


def test_so_many_variants_are_kept_the_preferred(tmp_path):
    rest = (Entry(REST, "", "ann", source="r"), _pose(1, 9))
    whole = Prior.build([rest, *ENTRIES], tmp_path / "whole", 25.0)
    less = Prior.build([rest, *ENTRIES], tmp_path / "less", 25.0, most=2)
    assert [one.source for one in less.variants("HOUSE", "ase")] == [
        one.source for one in whole.variants("HOUSE", "ase")[:2]
    ]
    assert len(less) == 6 and less.info()["frames"] == sum(one.end - one.start for one in less.entries) + 1
    for one in less.entries:
        (same,) = (other for other in whole.entries if (other.source, other.gloss) == (one.source, one.gloss))
        np.testing.assert_array_equal(less.pose(one).coordinates, whole.pose(same).coordinates)
    assert less.rest("ann") is not None
    assert sorted(file.name for file in (tmp_path / "less").iterdir()) == [
        "confidence.npy", "coordinates.npy", "entries.npy", "index.json", "keys.npy", "manifest.json", "postings.npy",
        "problems.json", "text_ends.npy", "texts.npy",
    ]  # fmt: skip


def test_signs_are_added_and_those_that_are_there_passed_over(prior, tmp_path):
    more = [
        ENTRIES[0],  # as it is
        (Entry("HOUSE", "ase", "bea", source="new"), _pose(6, 20)),  # another way of hers
        (Entry("HOUSE", "ase", "eve", variant=1, source="f"), _pose(6, 21)),
        (Entry("B", "ase", source="letter B"), _pose(4, 22)),  # another pose of the same source
        (Entry("C", "ase", source="letter C"), _pose(8, 23, fps=50.0)),
        (Entry(REST, "", "bea", source="r"), _pose(1, 24)),
    ]
    before = {(one.gloss, one.source): prior.pose(one).coordinates for one in prior.entries}
    both, known, *_ = Prior.add(
        iter(more), prior.path, problems=["row 3: gone", "row 9: gone"], fallbacks={"gsg": ["ase"]}
    )
    assert known == 1 and len(both) == len(ENTRIES) + 4 and both.rest("bea") is not None
    again, known, *_ = Prior.add(iter(more), prior.path)
    assert known == 6 and len(again) == len(both) and again.fallbacks == {"gsg": ("ase",)}
    assert again.problems == ("row 3: gone", "row 9: gone")
    variants = {one.source: (one.signer, one.variant) for one in again.variants("HOUSE", "ase")}
    assert variants == {
        "a": ("ann", 0), "b": ("bea", 1), "c": ("ann", 2), "d": ("zoe", 3), "new": ("bea", 2), "f": ("eve", 1),
    }  # fmt: skip
    assert [one.variant for one in again.variants("B")] in ([0, 1], [1, 0])
    (letter,) = again.variants("C")
    assert letter.end - letter.start == 4
    for one in again.entries[: len(ENTRIES)]:
        np.testing.assert_array_equal(again.pose(one).coordinates, before[one.gloss, one.source])


def test_what_is_added_changes_no_other_gloss_and_says_what_goes(prior, tmp_path):
    untouched = [one.source for one in prior.variants("HOUSE", "ase")]
    more = [(Entry("B", "ase", source=f"new {k}"), _pose(4, 50 + k)) for k in range(3)]
    added = Prior.add(iter(more), prior.path, most=2)
    assert added.left_out == 2 and len(added.prior.variants("B")) == 2 and len(added.prior) == len(ENTRIES) + 1
    assert [one.source for one in added.prior.variants("HOUSE", "ase")] == untouched
    kept = {one.source: added.prior.pose(one).coordinates for one in added.prior.variants("B")}
    for entry, pose in more:
        if entry.source in kept:
            np.testing.assert_array_equal(kept[entry.source], pose.coordinates.astype(np.float16))
    # What is given again with other words, another priority and forms.
    entry, pose = ENTRIES[0]
    before = (prior.path / "coordinates.npy").stat().st_ino
    told = replace(entry, words="house", priority=-5, forms="houses")
    added = Prior.add([(told, pose)], prior.path)
    assert (added.known, added.changed) == (1, 1) and added.prior.variants("HOUSE", "ase")[0].source == "b"
    assert added.prior.forms("houses") == added.prior.meanings("house") == added.prior.variants("HOUSE", "ase")[:1]
    # Nothing new: nothing is written.
    place = (prior.path / "coordinates.npy").stat()
    assert place.st_ino != before
    again = Prior.add([(told, pose)], prior.path)
    assert (again.known, again.changed) == (1, 0) and (prior.path / "coordinates.npy").stat() == place


def test_a_sources_problems_take_the_place_of_its_earlier_ones(tmp_path):
    folder = tmp_path / "p"
    Prior.build(ENTRIES[:1], folder, 25.0, problems=["a 1", "a 2", "b"], source="one")
    Prior.add(ENTRIES[1:2], folder, problems=["b", "c"], source="two")
    assert Prior.open(folder).problems == ("a 1", "a 2", "b", "c")
    assert Prior.add(ENTRIES[:1], folder, problems=["a 2"], source="one").prior.problems == ("a 2", "b", "c")
    assert Prior.add(ENTRIES[:1], folder, source="one").prior.problems == ("b", "c")
    assert Prior.add(ENTRIES[:1], folder, problems=["b", "d"]).prior.problems == ("b", "c", "d")


def test_who_builds_anew_waits_for_who_adds(prior):
    reached, go = threading.Event(), threading.Event()

    def slow():
        reached.set()
        go.wait(30)
        yield Entry("SLOW", "ase"), _pose(3, 30)

    first = threading.Thread(target=lambda: Prior.add(slow(), prior.path))
    second = threading.Thread(target=lambda: Prior.build(ENTRIES[:2], prior.path, 25.0))
    first.start()
    assert reached.wait(30)
    second.start()
    second.join(0.2)
    assert second.is_alive()
    go.set()
    first.join(60)
    second.join(60)
    assert len(Prior.open(prior.path)) == 2


def test_what_is_cut_short_while_adding_loses_nothing(prior, tmp_path):
    def failing():
        yield Entry("NEW", "ase"), _pose(3, 0)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        Prior.add(failing(), prior.path)
    assert len(Prior.open(prior.path)) == len(ENTRIES) and [file.name for file in tmp_path.iterdir()] == ["prior"]
    with pytest.raises(SignerError, match="no pose database here"):
        Prior.add(iter(ENTRIES), tmp_path / "none")
    with pytest.raises(SignerError, match=r"has pose \[3, 128, 2\], not \[t, 128, 3\]"):
        Prior.add([(Entry("NEW", "ase"), _pose(3, 0, axes=2))], prior.path)


def test_two_who_add_wait_for_each_other(prior):
    reached, go = threading.Event(), threading.Event()

    def slow():
        reached.set()
        go.wait(30)
        yield Entry("SLOW", "ase"), _pose(3, 30)

    def quick():
        yield Entry("QUICK", "ase"), _pose(3, 31)

    first = threading.Thread(target=lambda: Prior.add(slow(), prior.path))
    second = threading.Thread(target=lambda: Prior.add(quick(), prior.path))
    first.start()
    assert reached.wait(30)
    second.start()
    go.set()
    first.join(60)
    second.join(60)
    assert {"SLOW", "QUICK"} <= set(Prior.open(prior.path).glosses()) and len(Prior.open(prior.path)) == len(
        ENTRIES
    ) + 2


def old(folder):
    """The folder as version 1 wrote it: float32, and a list of all signs in JSON."""
    with storage.new_folder(folder, KIND) as partial:
        frames, listed = 0, []
        for entry, pose in [*ENTRIES, (Entry(REST, "", "ann", source="r"), _pose(1, 9))]:
            about = asdict(replace(entry, start=frames, end=(frames := frames + len(pose))))
            listed.append({name: value for name, value in about.items() if name not in ("forms", "quality")})
        poses = [pose for _, pose in ENTRIES] + [_pose(1, 9)]
        np.save(partial / "coordinates.npy", np.concatenate([pose.coordinates for pose in poses]))
        np.save(partial / "confidence.npy", np.concatenate([pose.confidence for pose in poses]))
        about = {"format": 1, "fps": 25.0, "axes": 3, "joints": list(skeleton.JOINTS), "entries": listed}
        (partial / "index.json").write_text(json.dumps({**about, "problems": ["row 3: gone"]}))
    return folder


def test_a_database_of_version_1_is_read_and_added_to(tmp_path):
    prior = Prior.open(old(tmp_path / "old"))
    assert [one.source for one in prior.variants("HOUSE", "ase")] == ["d", "a", "c", "b"]  # no quality is known
    assert prior.problems == ("row 3: gone",) and prior.rest("ann") is not None and prior.fallbacks == {}
    for one, (_, pose) in zip(prior.entries, ENTRIES, strict=True):
        np.testing.assert_array_equal(prior.pose(one).coordinates, pose.coordinates)
    both, known, *_ = Prior.add([ENTRIES[1], (Entry("C", "ase"), _pose(3, 40))], tmp_path / "old")
    assert known == 1 and len(both) == len(ENTRIES) + 1 and both.rest("ann") is not None
    assert json.loads((tmp_path / "old" / "index.json").read_text())["format"] == 2
    assert both.pose(both.entries[0]).coordinates == pytest.approx(ENTRIES[0][1].coordinates, rel=2**-11, abs=1e-7)


def test_opening_reads_no_pose_and_takes_the_same_memory_however_many_signs_there_are(tmp_path):
    nan = Pose(np.full((1, 128, 2), np.nan, np.float32), np.ones((1, 128), np.float32), 25.0)

    def traced(count: int) -> int:
        folder = tmp_path / str(count)
        Prior.build(((Entry(f"SIGN-{i}", "ase", words=f"sign {i}"), nan) for i in range(count)), folder, 25.0)
        tracemalloc.start()
        prior = Prior.open(folder)
        assert prior.variants(f"SIGN-{count - 1}")[0].words == f"sign {count - 1}" and prior.meanings("sign 7")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        with pytest.raises(SignerError, match="is no number"):
            prior.pose(prior.entries[0])
        return peak

    traced(20)
    assert traced(2000) < traced(200) + 20_000  # a list of them took 1.5 MB


def test_glosses_and_languages(prior):
    assert prior.languages == ("ase", "gsg")
    assert prior.glosses("gsg") == ("HOUSE",) and prior.glosses() == ("#A", "A", "B", "HOUSE")


def test_a_source_that_names_no_spoken_language_takes_none_away(tmp_path):
    spoken = [("A", "ase", "en"), ("B", "ase", ""), ("A", "gsg", "de"), ("B", "gsg", "en"), ("A", "bfi", "")]
    entries = [(Entry(gloss, code, spoken=name), _pose(3, 0)) for gloss, code, name in spoken]
    assert Prior.build(entries, tmp_path / "p", 25.0).spoken == {"ase": "en", "bfi": "", "gsg": ""}


def test_fingerspelling(prior):
    assert [entry.source for entry in prior.fingerspell("Ab-a", "ase")] == ["letter A", "letter B", "letter A"]
    assert prior.fingerspell("abc", "ase") is None
    assert prior.fingerspell("a", "gsg") is None
    assert prior.fingerspell("--", "ase") is None


def test_signs_are_isolated_where_every_source_was(tmp_path):
    def after(*sources: bool) -> bool:
        path = tmp_path / "p"
        Prior.build(ENTRIES[:1], path, 25.0, isolated=sources[0])
        for i, isolated in enumerate(sources[1:], start=1):
            Prior.add(ENTRIES[i : i + 1], path, isolated=isolated)
        return Prior.open(path).isolated

    assert after(True) and after(True, True)
    assert not after(False) and not after(True, False) and not after(False, True) and not after(True, False, True)
    index = Prior.build(ENTRIES[:1], tmp_path / "p", 25.0, isolated=True).path / "index.json"
    text = index.read_text()
    about = json.loads(text)
    del about["isolated"]  # as databases were written before
    index.write_text(json.dumps(about).ljust(len(text)))  # of the size that was noted
    assert not Prior.open(tmp_path / "p").isolated


def test_info_counts(prior):
    info = prior.info()
    assert info["signers"] == 4  # ann, bea, cem, zoe; the letters name nobody
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
    for bad in ([], None, "x", {**index, "fps": float("nan")}, {**index, "fallbacks": 3}, {**index, "joints": 1}):
        put("index.json", json.dumps(bad).encode())
        assert "damaged" in message(folder) or "another version" in message(folder)
    for text in (b"{", b"[" * 10**5, b"\xff\xfe{}"):
        put("index.json", text)
        assert "damaged" in message(folder)
    put("index.json", json.dumps(index).encode())
    entries = np.load(folder / "entries.npy")
    for name, bad in (("keys.npy", entries), ("entries.npy", entries[:-1]), ("postings.npy", entries[0])):
        good = (folder / name).read_bytes()
        put(name, npy(bad))
        assert "damaged" in message(folder)
        put(name, good)
    Prior.open(folder)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(("name", "row", "value"), [
    ("entries.npy", 0, 10**6), ("entries.npy", 7, -1), ("entries.npy", 8, 10**6), ("entries.npy", 11, 2 * 10**6),
    ("postings.npy", None, 99), ("postings.npy", None, -1), ("text_ends.npy", None, 10**9), ("texts.npy", None, 0xFF),
])  # fmt: skip
def test_what_is_damaged_within_the_index_is_found_where_it_is_read(prior, name, row, value):
    array = np.load(prior.path / name)
    array[... if row is None else row] = value
    (prior.path / name).write_bytes(npy(array))
    with pytest.raises(SignerError, match=r"prior: the pose database is damaged .*; build it with signer prior build"):
        opened = Prior.open(prior.path)
        opened.variants("HOUSE")


def test_rest_poses_alone_are_no_database(tmp_path):
    rest = [(Entry(REST, "", "ann"), _pose(1, 0))]
    with pytest.raises(SignerError, match="there is no sign"):
        Prior.build(rest, tmp_path / "prior", 25.0)
    assert list(tmp_path.iterdir()) == []


def test_a_gloss_has_few_names_and_a_text_few_letters(prior, tmp_path):
    """Each mark less is a name: 60 kB of them took minutes, and gigabytes."""
    assert len(names("ns-" * 100 + "A")) < 20
    with pytest.raises(SignerError, match="a text of more than 500 characters"):
        Prior.build([(Entry("ns-" * 20_000 + "A", "ase"), _pose(3, 0))], tmp_path / "p", 25.0)
    folder = old(tmp_path / "old")
    index = json.loads((folder / "index.json").read_text())
    index["entries"][0]["gloss"] = "ns-" * 20_000 + "A"
    (folder / "index.json").write_text(json.dumps(index))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["index.json"] = (folder / "index.json").stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SignerError, match="a text of more than 500 characters"):
        Prior.open(folder)


def test_what_could_not_be_opened_again_replaces_nothing(prior, tmp_path, monkeypatch):
    monkeypatch.setattr(storage.list_bytes, "__defaults__", (1000,))
    with pytest.raises(SignerError, match=r"prior: the list of what was left out is too long to be.*divide the sou"):
        Prior.build(iter(ENTRIES[:4]), tmp_path / "prior", 25.0, problems=["gone"] * 1000)
    monkeypatch.undo()
    assert len(Prior.open(tmp_path / "prior")) == len(ENTRIES)
