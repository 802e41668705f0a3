"""A lexicon becomes a database, and the database spells a name: with real human hands, where the samples are."""

from pathlib import Path

import numpy as np
import pytest

from signer_jax.cli.main import main
from signer_jax.data import video
from signer_jax.pose import skeleton
from signer_jax.pose.formats import pose_file
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
    assert printed.splitlines() == ["A D A", "fingerspelled: ADA"]
    frames, fps = video.read(out)
    assert fps == 25 and len(frames) == len(pose_file.read(pose)) > 30
    # What is not in the lexicon is said, and where nothing is, nothing is written.
    assert main(["sign", "ADA XY", "--prior", str(prior), "--out", str(out)]) == 0
    assert "skipped" in capsys.readouterr().out
    assert main(["sign", "XY", "--prior", str(prior), "--out", str(tmp_path / "none.mp4")]) == 2
    assert "neither the words nor their letters" in capsys.readouterr().err
    assert not (tmp_path / "none.mp4").exists()


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
