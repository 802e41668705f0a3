"""The same `signer prepare` again, where the source has lost files, or rows, since: what the set has stays."""

import errno
import hashlib
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from filmed import even, film, posed

from signer_jax.cli.main import main
from signer_jax.data.datasets.item import Found, Item, Left
from signer_jax.data.prepared import gone, layout, taking, work
from signer_jax.data.prepared.taking import How
from signer_jax.errors import SignerError


@pytest.fixture
def source(tmp_path) -> Path:
    """Four clips, and a fifth that is not there."""
    folder = tmp_path / "source"
    folder.mkdir()
    for i in range(4):
        film(folder / f"c{i}.mp4", even(8 + i))
    return table(folder, range(5))


def table(folder: Path, clips) -> Path:
    rows = [f"c{i},c{i}.mp4,Word {i} here" for i in clips]
    (folder / "samples.csv").write_text("\n".join(["name,video,text", *rows]) + "\n")
    return folder


def prepare(source: Path, *more: str) -> int:
    words = ["prepare", "folder", "--source", str(source), "--out", str(source.parent / "set"), "--per-part", "2"]
    return main([*words, *more])


def contents(out: Path, pattern: str = "parts/*") -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(out.glob(pattern)) if not file.name.startswith("done")
    }  # fmt: skip


def kept(out: Path) -> list[str]:
    return [row["name"] for _, table in layout.PreparedSet(out).tables("train") for row in table["kept"]]


def test_videos_that_were_moved_away_stay_in_the_set(source, capsys):
    out = source.parent / "set"
    assert prepare(source) == 0 and kept(out) == ["c0", "c1", "c2", "c3"]
    before = contents(out)
    capsys.readouterr()
    (source / "c1.mp4").unlink()
    for _ in range(2):  # as a launcher does
        assert prepare(source) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith(
            f"signer: {out}: the set has 1 sample that the source no longer gives (c1): their parts s"
        )
        assert line.endswith("without what else is new there; bring it back, or add --forget to take them out")
    assert contents(out) == before and kept(out) == ["c0", "c1", "c2", "c3"]
    assert any("no longer gives (c1): " in line for line in json.loads((out / "report.json").read_text())["remarks"])
    for i in (0, 2, 3):
        (source / f"c{i}.mp4").unlink()
    assert prepare(source) == 2 and contents(out) == before
    assert "4 samples" in capsys.readouterr().err


def test_what_is_brought_back_or_mended_is_taken_and_nothing_else_remains(source, capsys):
    out = source.parent / "set"
    assert prepare(source) == 0
    before = contents(out)
    video = (source / "c1.mp4").read_bytes()
    (source / "c1.mp4").unlink()
    film(source / "c4.mp4", even(9))  # in another part
    assert prepare(source) == 2 and kept(out) == ["c0", "c1", "c2", "c3", "c4"]
    (source / "c1.mp4").write_bytes(video)
    assert prepare(source) == 0 and kept(out) == ["c0", "c1", "c2", "c3", "c4"]
    now = contents(out)
    assert {name for name in before if before[name] != now.get(name)} == {"train-0000of0001-00002.json"}
    assert "no longer gives" not in str(json.loads((out / "report.json").read_text())["remarks"])


def test_what_is_forgotten_is_named(source, capsys):
    out = source.parent / "set"
    assert prepare(source) == 0
    (source / "c1.mp4").unlink()
    capsys.readouterr()
    assert prepare(source, "--forget") == 0
    assert f"signer: {out}: forgets 1 sample that the source no longer gives (c1)" in capsys.readouterr().err
    assert kept(out) == ["c0", "c2", "c3"]
    assert prepare(source) == 0


def test_a_row_that_was_taken_out_changes_nothing_before_it_is_asked_for(source, capsys):
    """The others' parts begin elsewhere in the list, so that they cannot stay."""
    out = source.parent / "set"
    assert prepare(source) == 0
    before = contents(out, "**/*.*")
    capsys.readouterr()
    table(source, (0, 2, 3))
    assert prepare(source) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(
        f"signer: {out}: nothing was changed, as the set has 1 sample that the source no longer give"
    )
    assert line.endswith("bring it back, or add --forget to take them out")
    assert contents(out, "**/*.*") == before and kept(out) == ["c0", "c1", "c2", "c3"]
    assert prepare(source, "--forget") == 0 and kept(out) == ["c0", "c2", "c3"]
    said = capsys.readouterr().err
    assert f"signer: {out}: removed beyond the end of the source's list: train-0000of0001-00002" in said
    assert {name[:22] for name in contents(out)} == {f"train-0000of0001-0000{i}" for i in range(2)}
    assert prepare(table(source, (4, 0, 1, 2, 3))) == 0, "what moves to another part is not lost"
    assert kept(out) == ["c0", "c1", "c2", "c3"]


def test_a_video_that_is_damaged_by_now_stays_as_it_was(source, capsys):
    out = source.parent / "set"
    assert prepare(source) == 0
    before = contents(out)
    (source / "c2.mp4").write_bytes((source / "c2.mp4").read_bytes()[:-99])
    assert prepare(source) == 2 and contents(out) == before and kept(out) == ["c0", "c1", "c2", "c3"]
    assert "(c2)" in capsys.readouterr().err
    table(source, (4, 0, 1, 2, 3))  # c2 would come into another part
    assert prepare(source) == 2
    assert "(c2), which cannot stay beside what is new" in capsys.readouterr().err
    assert prepare(source, "--forget") == 0 and kept(out) == ["c0", "c1", "c3"]
    assert "forgets 1 sample that the source no longer gives (c2)" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_breaks_off_in_a_video_leaves_it_in(number, source, monkeypatch, capsys):
    """Whichever read of the file it is."""
    out, reads, failed = source.parent / "set", 0, 0
    assert prepare(source) == 0

    class Disk(io.BufferedReader):
        def read(self, *size):
            nonlocal reads
            reads += 1
            if reads == failing:
                raise OSError(number, os.strerror(number))
            return super().read(*size)

    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *mode, **named: (Disk(io.FileIO(self)) if self.name == "c1.mp4"
                                                    else opened(self, *mode, **named)),
    )  # fmt: skip
    for failing in range(1, 100):
        shutil.rmtree(out)
        taking._known_facts.cache_clear()
        reads = 0
        code = prepare(source)
        if reads < failing:
            break
        failed += code == 1
        assert code == 1 or (code == 0 and "c1" in kept(out)), failing
    assert code == 0 and failed > 2 and kept(out) == ["c0", "c1", "c2", "c3"]
    assert f"c1.mp4: cannot be read ({os.strerror(number).lower()})" in capsys.readouterr().err.lower()


def test_a_part_that_is_damaged_cannot_stay(source, capsys):
    out = source.parent / "set"
    assert prepare(source) == 0
    (source / "c1.mp4").unlink()
    part = out / "parts" / "train-0000of0001-00000.motion.arrayrecord"
    part.write_bytes(part.read_bytes()[:-1])
    before = contents(out, "**/*.*")
    assert prepare(source) == 2 and "nothing was changed" in capsys.readouterr().err
    assert contents(out, "**/*.*") == before


def test_of_several_workers_each_keeps_its_own(source, capsys):
    out = source.parent / "set"
    assert [prepare(source, "--shard", f"{i}/2") for i in range(2)] == [0, 0]
    before = contents(out)
    (source / "c3.mp4").unlink()
    assert prepare(source, "--shard", "1/2") == 2
    assert "worker 0 found 5 samples in train, worker 1 5, or others" in capsys.readouterr().err
    assert prepare(source, "--shard", "0/2") == 0  # which finds the same list by now, and puts the set together
    assert contents(out) == before and kept(out) == ["c0", "c1", "c2", "c3"]
    assert "no longer gives (c3)" in capsys.readouterr().err
    assert prepare(source, "--shard", "1/2", "--forget") == 0 and kept(out) == ["c0", "c1", "c2"]
    table(source, (4, 0, 1, 2, 3))  # c1 comes from worker 0 to 1
    assert [prepare(source, "--shard", f"{i}/2") for i in range(2)] == [2, 0]  # not alike before both are done
    assert kept(out) == ["c0", "c1", "c2"]


def test_a_pose_or_a_text_that_is_gone_is_no_less(tmp_path):
    """Of a dataset whose reader takes a clip without them."""
    video, pose = film(tmp_path / "a.mp4", even(9)), posed(tmp_path / "a.pose", 9)
    whole = Item("a", "train", "see you", glosses=("SEE",), glosses_by="human", video=video, pose=pose)

    def job(*found: Found) -> work.Job:
        return work.Job("own", tmp_path, tmp_path / "set", How(), ("train",), lambda _: found)

    assert work.work(job(whole))
    before = contents(tmp_path / "set")
    for less, what in (
        (replace(whole, pose=None), "a: its pose"), (replace(whole, video=None), "a: its video"),
        (replace(whole, glosses=None, glosses_by=""), "a: its glosses"), (replace(whole, text=""), "a: its text"),
        (replace(whole, text="", pose=None), "a: its text and pose"),
        (Left("a", "train", "no video file", ""), "a"),
    ):  # fmt: skip
        with pytest.raises(SignerError, match=rf"gives \({what}\)"):
            work.work(job(less))
        assert (
            contents(tmp_path / "set") == before and layout.PreparedSet(tmp_path / "set").counts["train"]["kept"] == 1
        )
    assert work.work(job(replace(whole, text="see you soon", signer="b")))  # somebody's edit
    assert contents(tmp_path / "set") != before
    assert work.work(replace(job(replace(whole, pose=None)), forget=True))


def test_what_a_program_made_is_nothing_of_the_sources():
    row = {"words": 2, "glosses": 1, "glosses_by": "rules", "frames": 9, "pose_by": "dwpose (…)", "video_fps": 0.0}
    item = Item("a", "train", "see you", video=Path("a.mp4"))

    def lacks(found: Found, glosses_by: str = "rules") -> str:
        was = gone.had(row, glosses_by)
        return str(gone.Lost("a", "", was, gone.lacking(was, gone.given(found))))

    assert lacks(item) == lacks(replace(item, video=None, pose=Path("a.pose"))) == "a: its "  # nothing
    assert lacks(replace(item, video=None)) == "a: its video" and lacks(item, "none") == "a: its glosses"
    assert gone.mark_of("e\u0301\x1b" * 300) == gone.mark_of("\xe9\\x1b" * 100)


def test_parts_that_an_older_program_left_behind_are_swept(source, capsys):
    out = source.parent / "set"
    assert prepare(source) == 0
    before = contents(out)
    for file in out.glob("parts/train-*-00000.*"):
        shutil.copy(file, file.with_name(file.name.replace("-00000", "-00007")))
    rows = json.loads((out / "parts" / "train-0000of0001-00007.json").read_text())
    rows["kept"][0]["name"] = "another"
    (out / "parts" / "train-0000of0001-00007.json").write_text(json.dumps(rows))
    assert prepare(source) == 0 and contents(out) == before  # what is in no whole set is nothing that it has
    assert "removed beyond the end of the source's list: train-0000of0001-00007" in capsys.readouterr().err
