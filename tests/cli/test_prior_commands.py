"""A lexicon becomes a database, and the database spells a name: with real human hands, where the samples are."""

import json
from pathlib import Path

import numpy as np
import pytest

from signer_jax.cli.main import main
from signer_jax.data import video
from signer_jax.pose import skeleton
from signer_jax.pose.formats import pose_file
from signer_jax.pose.prior import Prior
from signer_jax.types import Pose


def letter(seed: int, frames: int = 20) -> Pose:
    rng = np.random.default_rng(seed)
    coordinates = np.tile(rng.normal(0, 0.3, (1, 128, 3)), (frames, 1, 1)).astype(np.float32)
    coordinates += 0.02 * np.sin(np.arange(frames) / 3, dtype=np.float32)[:, None, None]
    coordinates[:, skeleton.INDEX["right_shoulder"]], coordinates[:, skeleton.INDEX["left_shoulder"]] = (
        (-0.5, 0, 0),
        (0.5, 0, 0),
    )
    return Pose(coordinates, np.ones((frames, 128), np.float32), 25.0)


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    folder = tmp_path / "lexicon"
    folder.mkdir()
    rows = ["path,spoken_language,signed_language,start,end,words,glosses,priority"]
    for i, name in enumerate("AD"):
        pose_file.write(folder / f"{name}.pose", letter(i))
        rows.append(f"{name}.pose,en,ase,0,0,{name},{name},0")
    rows.append("gone.pose,en,ase,0,0,X,X,0")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_name_is_spelled_from_a_lexicon(lexicon, tmp_path, capsys):
    prior = tmp_path / "prior"
    assert main(["prior", "build", "--source", str(lexicon), "--out", str(prior)]) == 0
    printed = capsys.readouterr().out
    assert "2 signs" in printed and "left out 1 rows" in printed and "gone.pose" in printed
    assert main(["prior", "info", str(prior)]) == 0
    assert "problems: 1" in capsys.readouterr().out
    out, pose = tmp_path / "ada.mp4", tmp_path / "ada.pose"
    assert main(["sign", "ADA", "--prior", str(prior), "--pose", str(pose), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines() == ["A D A", "found: ADA (fingerspelled)", "fingerspelled: ADA"]
    frames, fps = video.read(out)
    assert fps == 25 and len(frames) == len(pose_file.read(pose)) > 30
    # What is not in the lexicon is said, and where nothing is, nothing is written.
    assert main(["sign", "ADA XY", "--prior", str(prior), "--out", str(out)]) == 0
    assert "skipped" in capsys.readouterr().out
    assert main(["sign", "XY", "--prior", str(prior), "--out", str(tmp_path / "none.mp4")]) == 2
    assert "neither the words nor their letters" in capsys.readouterr().err
    assert not (tmp_path / "none.mp4").exists()


def test_what_was_converted_is_said_and_a_refusal_shows_no_bar(lexicon, tmp_path, capsys):
    rows = ["path,signed_language,start,end,glosses", "A.pose,ase,0,0.5,A", "A.pose,ase,0,500,B", "D.pose,ase,0,0,D"]
    (lexicon / "index.csv").write_text("\n".join(rows) + "\n")
    build = ["prior", "build", "--source", str(lexicon), "--out"]
    assert main([*build, str(tmp_path / "p"), "--fps", "50"]) == 0
    printed = capsys.readouterr().out
    assert "start and end of 1 rows were read as seconds" in printed
    assert "resampled 3 signs from 25 to 50 frames a second" in printed
    (lexicon / "index.csv").write_text("\n".join([rows[0], *rows[2:]]) + "\n")
    assert main([*build, str(tmp_path / "q")]) == 0
    printed = capsys.readouterr().out
    assert "seconds" not in printed and "resampled" not in printed
    (tmp_path / "file").write_text("mine")
    assert main([*build, str(tmp_path / "file")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("signer:") and said.count("\n") == 1


def test_sources_of_several_kinds_in_one_database(lexicon, tmp_path, capsys):
    """A lexicon, WLASL, the built-in corpus and a continuous one; adding again adds nothing."""
    prior = str(tmp_path / "p")
    assert main(["prior", "build", "--source", str(lexicon), "--out", prior, "--fallback", "gsg=ase"]) == 0
    wlasl = tmp_path / "wlasl"
    (wlasl / "poses").mkdir(parents=True)
    pose_file.write(wlasl / "poses" / "1.pose", letter(5))
    about = [{"gloss": "a", "instances": [{"video_id": "1", "signer_id": 3, "split": "train"}]}]
    about[0]["instances"] += [{"video_id": "2", "split": "train"}, {"video_id": "1", "split": "test"}]
    (wlasl / "WLASL_v0.3.json").write_text(json.dumps(about))
    (wlasl / "forms.csv").write_text("form,lemma\nan,a\n")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    pose_file.write(corpus / "s.pose", letter(6))
    timed = {"gloss": ["HAUS1A^"], "start": [200], "end": [600]}
    (corpus / "s.json").write_text(json.dumps({"sentence": {"start": 0, "end": 800, "glosses": timed}}))
    capsys.readouterr()
    for source, signs, more in ((wlasl, 3, ("--splits", " train ")), (corpus, 4, ("--language", "gsg"))):
        add = ["prior", "add", "--source", str(source), "--out", prior, *more]
        assert main(add) == 0
        printed = capsys.readouterr().out
        assert f"{signs} signs, languages ase" in printed
        assert ("read of the splits test, train: train\n" in printed) == (source is wlasl)
        assert main(add) == 0
        assert "passed over 1 signs that were there already" in capsys.readouterr().out
    assert main(["prior", "add", "--source", str(corpus), "--out", prior]) == 2
    assert "no file says its sign language" in capsys.readouterr().err
    assert main(["prior", "add", "--source", "builtin", "--sentences", "2", "--out", prior]) == 0
    capsys.readouterr()
    glosses = tmp_path / "glosses.txt"
    glosses.write_text("A\nHAUS\n\nan\nDAD\nXYZ\nA\n||\nHAUS+XYZ\n")
    assert main(["prior", "info", prior, "--glosses", str(glosses)]) == 0
    printed = capsys.readouterr().out
    ways = "without marks 1, another language 2, compound 1, fingerspelled 1, mark 1, skipped 1"
    said = "coverage: 50.0% of 6 glosses have signs in gsg (3), 1 more are spelled, 1 compounds have signs in part"
    assert f"{said}; {ways}\nmissing: XYZ\n" in printed
    asked = ["prior", "info", prior, "--glosses", str(glosses), "--json", "--language"]
    assert main([*asked, "asl"]) == 0
    found = json.loads(capsys.readouterr().out)["coverage"]
    assert (found["language"], found["signs"], found["spelled"], found["marks"]) == ("ase", 2, 1, 1)
    assert main([*asked, "bsl"]) == 2 and "--language bsl: not a sign language of" in capsys.readouterr().err
    (tmp_path / "empty.txt").write_text("\n\n")
    assert main(["prior", "info", prior, "--glosses", str(tmp_path / "empty.txt")]) == 2
    assert "give a gloss a line" in capsys.readouterr().err
    assert "missing_files: 2\n" in printed and "fallbacks: gsg ['ase']" in printed
    assert main(["prior", "info", prior, "--glosses", str(glosses), "--language", "gsg", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["coverage"]["found"]["another language"] == 2 and found["languages"]["gsg"] > 1  # A and an, of ase
    assert found["signers"] > 2 and 0 < found["quality"] <= 1
    out = str(tmp_path / "a.mp4")
    assert main(["sign", "haus DA", "--language", "gsg", "--prior", prior, "--out", out]) == 0
    said = capsys.readouterr()
    assert "found: haus (without marks), DA (fingerspelled)" in said.out and "with the letters of ase" in said.err


@pytest.mark.parametrize(("more", "said"), [
    (["--variants", "0"], "--variants 0: give 1 or more"),
    (["--fallback", "gsg"], "--fallback gsg: give two codes of sign languages, such as slf=ise"),
    (["--kind", "builtin", "--sentences", "0"], "--sentences 0: give 1 to"),
    (["--language", "ase"], "--language is of continuous, this source is lexicon; leave it out"),
    (["--splits", "train"], "--splits is of wlasl, this source is lexicon"),
    (["--pose-folder", "x"], "--pose-folder is of wlasl, this source is lexicon"),
    (["--sentences", "3"], "--sentences is of builtin, this source is lexicon"),
    (["--kind", "wlasl", "--splits", ","], "--splits ',': give names of splits with commas between them"),
    (["--kind", "continuous", "--no-trim"], "--no-trim is of lexicon and wlasl and fingerspelling, this"),
    (["--kind", "wlasl"], "has no WLASL_v0.3.json"),
])  # fmt: skip
def test_what_a_source_cannot_be_is_one_line(lexicon, tmp_path, capsys, more, said):
    assert main(["prior", "build", "--source", str(lexicon), "--out", str(tmp_path / "p"), *more]) == 2
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1 and not (tmp_path / "p").exists()
    assert main(["prior", "add", "--source", str(lexicon), "--out", str(tmp_path / "none")]) == 2
    assert "no pose database here" in capsys.readouterr().err


def arms_of(frames: int, both: bool, seed: int) -> Pose:
    """Hands that circle before the chest; the left arm, and the right hand for 7 frames, out of the picture or not."""
    pose = letter(seed, frames)
    x, time = pose.coordinates, np.arange(frames) / 25
    x[:], x[:, skeleton.INDEX["right_shoulder"], 0], x[:, skeleton.INDEX["left_shoulder"], 0] = 0, -0.5, 0.5
    for side, sign in (("right", -1), ("left", 1)):
        arm = skeleton.positions(skeleton.PARTS[f"{side}_arm"], skeleton.JOINTS)
        circle = 0.3 * np.stack([np.cos(5 * time + seed), np.sin(5 * time + seed)], -1) + [sign * 0.3, 0.2]
        x[:, arm, :2] = circle[:, None]
        if side == "left" and not both:
            pose.confidence[:, arm] = 0
    hand = skeleton.positions(skeleton.RIGHT_HAND, skeleton.JOINTS)
    pose.confidence[frames // 2 : frames // 2 + 7, hand] = 0
    return Pose(x * 200 + 300, pose.confidence, 25.0)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_house_a_from_a_lexicon_folder(tmp_path, recorded):
    """A sign of both arms between two that show one: nothing vanishes, pops or jerks, and a sentence takes less time
    than its signs did.
    """
    folder = tmp_path / "lexicon"
    folder.mkdir()
    pose_file.write(folder / "a.pose", arms_of(30, False, 0))
    pose_file.write(folder / "house.pose", arms_of(40, True, 2))
    rows = "a.pose,en,ase,0,0,a,A,0\nhouse.pose,en,ase,0,0,house,HOUSE,0\n"
    (folder / "index.csv").write_text(f"path,spoken_language,signed_language,start,end,words,glosses,priority\n{rows}")
    prior, out = str(tmp_path / "prior"), tmp_path / "aha.pose"
    assert main(["prior", "build", "--source", str(folder), "--out", prior]) == 0
    sign = ["sign", "A HOUSE A", "--prior", prior, "--pose", str(out), "--out", str(tmp_path / "aha.mp4")]
    assert main([*sign, *["--as-recorded"] * recorded]) == 0
    pose = pose_file.read(out)
    assert len(pose) > 100 if recorded else 50 < len(pose) < 75
    for side in ("right", "left"):
        arm = skeleton.positions(skeleton.PARTS[f"{side}_arm"], skeleton.JOINTS)
        assert (pose.confidence[:, arm] > 0).all()
        x = pose.coordinates[:, skeleton.INDEX[f"{side}_wrist"], :2]
        step = np.linalg.norm(np.diff(x, axis=0), axis=-1)
        acceleration = np.linalg.norm(np.diff(x, 2, axis=0), axis=-1)
        circling = 0.3 * 5**2 / 25**2  # shoulder widths a frame², of the hands inside of the signs
        assert step.max() < 7 / 25, side  # shoulder widths: a hand's peak speed, 2 m/s, and a little
        moving = acceleration[7:-7]  # before and after, the edges are held
        # Where the signs' velocities did not meet: 5. What is shown twice as fast turns four times as quickly.
        assert side == "left" or moving.max() < 4 * circling * (1 if recorded else 4)


def test_signs_cut_out_of_sentences_keep_their_time(tmp_path, capsys):
    """The built-in corpus's are cut out of its sentences: no climb, no dictionary's pace."""
    prior, lengths = str(tmp_path / "prior"), []
    assert main(["prior", "build", "--source", "builtin", "--sentences", "20", "--out", prior]) == 0
    gloss = Prior.open(prior).glosses("ase")[-1]
    for more in ([], ["--as-recorded"]):
        out = ["--pose", str(tmp_path / "a.pose"), "--out", str(tmp_path / "a.mp4")]
        assert main(["sign", f"{gloss} {gloss}", "--prior", prior, "--language", "ase", *out, *more]) == 0
        lengths.append(len(pose_file.read(tmp_path / "a.pose")))
    assert lengths[0] == lengths[1]
    capsys.readouterr()
    assert main(["prior", "info", prior]) == 0
    assert "isolated: False" in capsys.readouterr().out


def test_as_recorded_is_of_a_database(tmp_path, capsys):
    assert main(["sign", "A", "--workdir", str(tmp_path), "--out", "a.mp4", "--as-recorded"]) == 2
    assert "--as-recorded needs --prior: a run has learned its times; leave it out" in capsys.readouterr().err


def test_a_long_text_shows_how_far_it_is(lexicon, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("signer_jax.cli.sign.LONG", 30)
    prior = str(tmp_path / "prior")
    assert main(["prior", "build", "--source", str(lexicon), "--out", prior]) == 0
    capsys.readouterr()
    out, pose = tmp_path / "a.mp4", tmp_path / "a.pose"
    assert main(["sign", "ADA D", "--prior", prior, "--out", str(out), "--pose", str(pose)]) == 0
    shown = capsys.readouterr().err
    frames = len(pose_file.read(pose))
    assert "frames drawn" in shown and f"{frames}/{frames}" in shown.split("frames written")[-1]
    assert len(video.read(out)[0]) == frames


@pytest.mark.parametrize("fps", ["nan", "inf", "0", "0.001", "-25", "1e9"])
def test_an_impossible_frame_rate_is_refused(lexicon, tmp_path, capsys, fps):
    assert main(["prior", "build", "--source", str(lexicon), "--out", str(tmp_path / "p"), f"--fps={fps}"]) == 2
    assert "give 1 to 1000 frames a second" in capsys.readouterr().err and not (tmp_path / "p").exists()


def test_real_letters_spell_a_name(samples, tmp_path, capsys):
    prior = tmp_path / "prior"
    assert main(["prior", "build", "--source", str(samples / "lexicon" / "fingerspelling"), "--out", str(prior)]) == 0
    assert "left out 574 rows" in capsys.readouterr().out
    out, pose = tmp_path / "ada.mp4", tmp_path / "ada.pose"
    assert (
        main(["sign", "ADA", "--prior", str(prior), "--language", "ase", "--pose", str(pose), "--out", str(out)]) == 0
    )
    assert capsys.readouterr().out.splitlines()[0] == "A D A"
    performed = pose_file.read(pose)
    right = skeleton.positions(skeleton.RIGHT_HAND, skeleton.JOINTS)
    assert (performed.confidence[:, right] > 0).mean() > 0.8
    frames, _ = video.read(out)
    assert len(frames) == len(performed)
