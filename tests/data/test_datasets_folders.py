"""OpenVid's csv beside its videos, and a folder of one's own: in miniature, with the faults of real ones."""

import os
import unicodedata
from pathlib import Path

import passing_faults
import pytest

from signer_jax.data.datasets import folder, openvid
from signer_jax.data.datasets.item import Item, Left
from signer_jax.errors import SignerError

DATA = os.environ.get("SIGNER_DATA")


def write(path: Path, content: bytes | str = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def found(module, source: Path, split: str = "train") -> tuple[list[Item], list[Left]]:
    got = list(module.items(source, split))
    return [one for one in got if isinstance(one, Item)], [one for one in got if isinstance(one, Left)]


@pytest.mark.parametrize("place", ["OpenVidHD.csv", "data/train/OpenVid-1M.csv", "mine.csv"])
def test_openvid(tmp_path, place):
    rows = [
        "video,frame,caption", "a.mp4,9,a dog runs", 'b.mp4,9,"one, ""two""\n three"', "a.mp4,9,again", "gone.mp4,9,x",
        "empty.mp4,9,x", "../a.mp4,9,x", "sub/a.mp4,9,x", "/etc/passwd,9,x", "c.mp4,9,", "cut.mp4", "out.mp4,9,x",
    ]  # fmt: skip
    write(tmp_path / place, "\ufeff" + "\n".join(rows) + '\nopen.mp4,9,"never closed')
    for name in ("a.mp4", "b.mp4", "c.mp4", "extra.mp4"):
        write(tmp_path / "video" / name)
    write(tmp_path / "video" / "empty.mp4", b"")
    write(tmp_path / "video" / "sub" / "a.mp4")
    (tmp_path / "video" / "out.mp4").symlink_to("/etc/hostname")
    assert openvid.splits(tmp_path) == ["train"]
    items, left = found(openvid, tmp_path)
    assert [(one.name, one.text, one.spoken, one.language) for one in items] == [
        ("a.mp4", "a dog runs", "en", ""), ("b.mp4", 'one, "two" three', "en", "")
    ]  # fmt: skip
    assert items[0].video == tmp_path / "video" / "a.mp4" and items[0].pose is None and items[0].glosses is None
    assert [one.reason for one in left[:10]] == [
        "named twice", "no video file", "empty video file", "path out of the folder", "path out of the folder",
        "path out of the folder", "no text", "row cut short", "path out of the folder", "unreadable row",
    ]  # fmt: skip
    assert {one.name: one.reason for one in left[10:]} == {"extra.mp4": "in no row of the table"}


def test_openvid_names_what_no_row_names_in_order(tmp_path):
    write(tmp_path / "OpenVidHD.csv", "video,caption\ngone.mp4,x\n")
    names = [f"{7 * k % 30:02d}.mp4" for k in range(30)]
    for name in names:
        write(tmp_path / "video" / name)
    assert [one.name for one in found(openvid, tmp_path)[1]] == ["gone.mp4", *sorted(names)]


def test_openvid_another_folder(tmp_path):
    with pytest.raises(SignerError, match="has no csv; give the folder that holds OpenVidHD.csv and video/"):
        openvid.splits(tmp_path)
    write(tmp_path / "OpenVidHD.csv", "name,caption\na,b\n")
    (tmp_path / "video").mkdir()
    with pytest.raises(SignerError, match="lacks the column 'video'"):
        openvid.items(tmp_path, "train")


def test_a_table_of_ones_own(tmp_path):
    write(
        tmp_path / "samples.csv",
        "split,name,video,pose,text,gloss,glosses_by,language,spoken,signer,start,end,prompt\r\n"
        'train,one,v/a.mp4,p/a.pose,"Guten ""Tag"", alle","GUT TAG",rules,gsg,de,Anna,1.5,3,Sag es\r\n'
        "val,two,frames,,hallo,HALLO,,gsg,de,,,9000,\r\n"
        ",three,,skeletons,,,,,,,,,\r\n"
        "holdout,four,,,nur text,,,,,,7,8,\r\n",
    )
    write(tmp_path / "other.csv")
    video, pose = write(tmp_path / "v/a.mp4"), write(tmp_path / "p/a.pose")
    write(tmp_path / "frames/1.PNG")
    write(tmp_path / "skeletons/1.json")
    assert folder.splits(tmp_path) == ["train", "dev", "holdout"]
    (one, three), left = found(folder, tmp_path)
    assert one == Item(
        "one", "train", 'Guten "Tag", alle', "Sag es", "gsg", "de", ("GUT", "TAG"), "rules", "Anna", video, pose,
        seconds=(1.5, 3.0), came_from="samples.csv, line 2",
    ) and not left  # fmt: skip
    assert (three.name, three.pose, three.glosses) == ("three", tmp_path / "skeletons", None)
    (two,), _ = found(folder, tmp_path, "dev")
    assert (two.video, two.seconds, two.glosses_by) == (tmp_path / "frames", (0.0, 9000.0), "unknown")
    (four,), _ = found(folder, tmp_path, "holdout")
    assert (four.text, four.seconds) == ("nur text", None)


def test_only_the_columns_that_there_are(tmp_path):
    write(tmp_path / "mine.csv", "video,start\nv/a.mp4,\nv/a.mp4,2.5\nv/a.mp4,2.5\n")
    write(tmp_path / "v/a.mp4")
    items, left = found(folder, tmp_path)
    assert [(one.name, one.seconds) for one in items] == [("v/a", None), ("v/a@2.5", (2.5, None))]
    assert [(one.name, one.reason) for one in left] == [("v/a@2.5", "named twice")]


def test_faults_of_a_table(tmp_path):
    bad = {
        "gone.mp4,,,a,,": "no video file", ",gone.pose,,b,,": "no pose file", "empty.mp4,,,c,,": "empty video file",
        "hollow,,,d,,": "empty video folder", "../a.mp4,,,e,,": "path out of the folder",
        "/etc/hostname,,,f,,": "path out of the folder", "out.mp4,,,g,,": "path out of the folder",
        "a.mp4,,,h,5,4": "end before start", "a.mp4,,,i,x,": "start or end is no number",
        ",,,j,,": "no video, pose, text or prompt", "a.mp4,,x,a0,,": "named twice",
        "a.mp4,,x\x07,k,,": "control character",
        f"{'x' * 300},,,m,,": "no video file", f",{'y/' * 4000}z,,n,,": "no pose file",
        "pipe,,,o,,": "video file is no file",
        "a.mp4": "row cut short", 'a.mp4,,"x"y,l,,': "unreadable row",
    }  # fmt: skip
    rows = "\n".join(["video,pose,text,name,start,end", "a.mp4,,,a0,,", *bad])
    write(tmp_path / "samples.csv", rows)
    write(tmp_path / "a.mp4")
    write(tmp_path / "empty.mp4", b"")
    (tmp_path / "hollow").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "out.mp4").symlink_to("/etc/hostname")
    items, left = found(folder, tmp_path)
    assert [one.name for one in items] == ["a0"] and [one.reason for one in left] == list(bad.values())
    write(tmp_path / "samples.csv", "text,split,glosses_by,gloss\nhi,../up,,\nho,,angels,HO\nhu,Train,,\n")
    items, left = found(folder, tmp_path)
    assert [one.reason for one in left] == ["unknown split", "unknown glosses_by"] and [one.text for one in items] == [
        "hu"
    ]


def test_a_rate_is_of_what_says_none(tmp_path):
    for name in ("a.mp4", "a.pose", "json/1.json", "frames/1.png"):
        write(tmp_path / name)
    has = {"a.mp4,": None, ",a.pose": None, "a.mp4,a.pose": None, ",json": 12.5, "a.mp4,json": 12.5,
           "frames,": 12.5, "frames,json": 12.5, "frames,a.pose": 12.5}  # fmt: skip
    rows = [f"{i},{row},12.5" for i, row in enumerate(has)]
    write(tmp_path / "samples.csv", "\n".join(["name,video,pose,fps", *rows]))
    items, left = found(folder, tmp_path)
    assert [one.fps for one in items] == list(has.values()) and not left


def test_languages_of_a_table_are_codes_however_they_are_written(tmp_path):
    rows = {
        "ASL,EN": ("ase", "en"), "ase,English": ("ase", "en"), "asl,en_US": ("ase", "en-us"),
        "de-ch,Deutsch": ("sgg", "de"), ",": ("", ""), "CSL,zh-Hans": ("csl", "zh-hans"),
    }  # fmt: skip
    bad = {"en,en": "language is no sign language", "deu,de": "language is no sign language",
           "GSL,el": "language is no sign language", "American,en": "language is no sign language",
           "ase,spoken English": "spoken is no language"}  # fmt: skip
    write(tmp_path / "samples.csv", "\n".join(["text,language,spoken", *(f"x,{row}" for row in (*rows, *bad))]) + "\n")
    items, left = found(folder, tmp_path)
    assert [(one.language, one.spoken) for one in items] == list(rows.values())
    assert [one.reason for one in left] == list(bad.values())
    assert left[0].detail == "en: give its IANA code, such as ase or gsg" and left[0].where == "samples.csv, line 8"


def test_without_a_table_what_is_there_is_paired_by_its_names(tmp_path):
    composed, parted = (unicodedata.normalize(form, "mäd.chen") for form in ("NFC", "NFD"))
    video, pose = write(tmp_path / f"videos/{composed}.MP4"), write(tmp_path / f"poses/{parted}.pose")
    for path in (
        "b.mp4",
        "other/b.mov",
        "b.webm",
        "val/b.mp4",
        "test/deep/c.pose",
        ".cache/d.mp4",
        ".e.mp4",
        "notes.txt",
    ):
        write(tmp_path / path)
    write(tmp_path / "empty.pose", b"")
    write(tmp_path / "bad\x07.mp4")
    (tmp_path / "link.mp4").symlink_to("/etc/hostname")
    assert folder.splits(tmp_path) == ["train", "dev", "test"]
    items, left = found(folder, tmp_path)
    assert {one.name: (one.video, one.pose) for one in items} == {
        composed: (video, pose), "b": (tmp_path / "b.mp4", None), "other/b": (tmp_path / "other/b.mov", None)
    }  # fmt: skip
    assert {(one.name, one.reason) for one in left} == {
        ("b", "named twice"), ("empty", "empty pose file"), ("bad\\x07", "control character"),
        ("link", "path out of the folder"),
    }  # fmt: skip
    assert [one.name for one in found(folder, tmp_path, "dev")[0]] == ["b"]
    assert [one.pose for one in found(folder, tmp_path, "test")[0]] == [tmp_path / "test/deep/c.pose"]
    passing_faults.check_each(lambda: [found(folder, tmp_path, split) for split in folder.splits(tmp_path)], tmp_path)


def test_a_video_has_no_other_persons_pose(tmp_path):
    """Of names that each folder has again."""
    for path in ("1/hello.mp4", "2/hello.mp4", "2/hello.pose", "1/you.mp4", "2/you.mp4", "poses/you.pose", "3/me.pose",
                 "4/me.pose", "5/go.mp4", "6/go.pose"):  # fmt: skip
        write(tmp_path / path)
    items, left = found(folder, tmp_path)
    pairs = {one.name: [path and str(path.relative_to(tmp_path)) for path in (one.video, one.pose)] for one in items}
    assert pairs == {
        "1/hello": ["1/hello.mp4", None], "2/hello": ["2/hello.mp4", "2/hello.pose"], "3/me": [None, "3/me.pose"],
        "4/me": [None, "4/me.pose"], "go": ["5/go.mp4", "6/go.pose"],
    }  # fmt: skip
    assert [(one.name, one.reason) for one in left] == [
        (name, "no telling whose pose") for name in ("1/you", "2/you", "poses/you")
    ]


def test_a_folder_of_nothing(tmp_path):
    with pytest.raises(SignerError, match="has no csv, no video and no .pose file"):
        folder.splits(tmp_path)
    write(tmp_path / "a.csv", "colour,shape\nred,round\n")
    with pytest.raises(SignerError, match="has none of the columns name, video, pose"):
        folder.splits(tmp_path)
    write(tmp_path / "b.csv", "text\nhi\n")
    with pytest.raises(SignerError, match=r"has several csv files \(a.csv, b.csv\); name yours samples.csv"):
        folder.items(tmp_path, "train")


@pytest.mark.skipif(not DATA, reason="SIGNER_DATA is unset: no real samples")
def test_real_files():
    items, left = found(folder, Path(DATA) / "how2sign/sentence_level/train")
    assert len(items) == 31 and not left and all(one.video and one.pose for one in items)
