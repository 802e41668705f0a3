"""`signer view`: the page plays what the files hold, in a browser; its bounds, its names, its video and picture."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fuzz import files
from PIL import Image

from signer_jax.cli.main import main
from signer_jax.data import video
from signer_jax.pose import draw, skeleton
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats import pose_file, skels
from signer_jax.pose.formats.clip import Clip
from signer_jax.types import Pose
from signer_jax.viewing import poses

HOSTILE = "</script><img src=x onerror=alert(1)>&amp;\u202e"


def moving(frames: int, fps: float = 25.0) -> Pose:
    """Normalised: the right arm hangs, the left wrist goes to the viewer's right, from the shoulder on, at a shoulder
    width a second; a left hand's thumb stands above it, and the nose is seen in even frames alone.
    """
    coordinates = np.zeros((frames, 128, 3), np.float32)
    confidence = np.zeros((frames, 128), np.float32)
    places = {
        "neck": (0, 0), "right_shoulder": (-0.5, 0), "left_shoulder": (0.5, 0), "right_elbow": (-0.6, 0.7),
        "left_elbow": (0.5, 0.7), "left_wrist": (0.5, 0.4), "left_hand_wrist_root": (0.5, 0.4),
        "left_hand_thumb_1": (0.5, 0.2), "nose": (0, -0.5), "left_ear": (0.2, -0.5),
    }  # fmt: skip
    for name, place in places.items():
        coordinates[:, skeleton.INDEX[name], :2] = place
        confidence[:, skeleton.INDEX[name]] = 1
    for name in ("left_wrist", "left_hand_wrist_root", "left_hand_thumb_1"):
        coordinates[:, skeleton.INDEX[name], 0] += np.arange(frames) / fps
    confidence[1::2, skeleton.INDEX["nose"]] = 0
    confidence[:, skeleton.INDEX["left_ear"]] = 0.3  # at the threshold
    return Pose(coordinates * (confidence[..., None] > 0), confidence, fps)


@pytest.fixture
def pair(tmp_path, monkeypatch) -> Path:
    """Half a second at 25 and one at 50 frames a second."""
    monkeypatch.chdir(tmp_path)
    pose_file.write(tmp_path / "slow.pose", moving(12))
    pose_file.write(tmp_path / "quick.pose", moving(50, 50.0))
    return tmp_path


def data_of(page: Path) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())[1])


def fails(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert main(["view", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_the_page_holds_the_poses(pair, capsys):
    assert main(["view", "slow.pose", "quick.pose"]) == 0
    said = capsys.readouterr().out
    assert "slow: 10 of 128: 8 body, 2 hands; 12 at 25 a second, 0.48 s; missing 15.0% of these joints in all" in said
    assert "Each clip is measured by its own shoulders" in (pair / "view.html").read_text()
    assert said.endswith("view.html: written\n")
    page = (pair / "view.html").read_text()
    assert not re.search(r"https?:|src=", page) and page.count("<script") == 2
    data = data_of(pair / "view.html")
    assert [(one["fps"], one["frames"], len(one["joints"])) for one in data["clips"]] == [(25, 12, 9), (50, 50, 9)]
    one, pose = data["clips"][0], moving(12)
    values = np.frombuffer(base64.b64decode(one["values"]), "<i2").reshape(12, 9, 2)
    nose = one["joints"].index(skeleton.INDEX["nose"])
    assert (values[1::2, nose] == -32768).all() and (np.delete(values, nose, 1) != -32768).all()
    shown = values / data["units"]
    np.testing.assert_allclose(shown[::2], pose.coordinates[::2][:, one["joints"], :2], atol=0.5 / 2048 + 1e-6)
    assert not list(pair.glob("*.mp4"))


def test_what_cannot_be_measured_by_its_shoulders_is_fitted():
    pose = moving(4)
    confidence = pose.confidence.copy()
    confidence[:, skeleton.INDEX["left_shoulder"]] = 0
    found = poses.as_shown(Clip("x", Pose(1000 * pose.coordinates, confidence, 25.0), clips.PIXELS), "x.pose", 0.3)
    assert "no shoulders" in found.remarks[-1]
    seen = found.pose.coordinates[found.pose.confidence > 0]
    assert np.ptp(seen[:, :2], axis=0).max() == pytest.approx(0.8 * skeleton.VIEW_SIDE, rel=1e-3)
    assert abs(seen[:, 0].max() + seen[:, 0].min()) < 1e-3
    one_point = Pose(np.ones((2, 128, 2), np.float32), np.eye(2, 128, dtype=np.float32), 25.0)
    assert np.isfinite(poses.as_shown(Clip("x", one_point, clips.OWN), "x", 0.3).pose.coordinates).all()


def test_a_page_holds_so_much_and_says_what_it_left_out():
    one = poses.as_shown(Clip("x", moving(50), clips.OWN), "x.pose", 0.3)
    (whole,) = poses.between([one], 0)
    assert len(whole.pose) == 50 and not whole.remarks
    some = 2 * 25 * 10 * 2  # values of a second of both
    cut = poses.between([one, one], 0.4, most=some)
    assert [(len(each.pose), each.first, each.total) for each in cut] == [(25, 10, 50)] * 2
    assert cut[0].remarks[-1] == "frames 11 to 35 of 50 are shown; --from SECONDS shows others"
    assert len(poses.between([one], 0, most=1)[0].pose) == 1


def test_far_joints_are_kept_apart_from_missing_ones():
    pose = moving(2)
    pose.coordinates[:, skeleton.INDEX["left_wrist"], :2] = (-900, 900)
    packed = poses._packed(pose, 0.3)
    values = np.frombuffer(base64.b64decode(packed["values"]), "<i2").reshape(2, -1, 2)
    assert values[0, packed["joints"].index(skeleton.INDEX["left_wrist"])].tolist() == [-32767, 32767]


def test_names_are_text(tmp_path, monkeypatch, capsys, tab):
    monkeypatch.chdir(tmp_path)
    name = HOSTILE.replace("/", "")
    pose_file.write(f"{name}.pose", moving(3))
    assert main(["view", f"{name}.pose", "--out", "page.html"]) == 0
    shown = poses.as_shown(Clip(HOSTILE, moving(3), clips.OWN, text=HOSTILE, gloss=HOSTILE), HOSTILE, 0.3)
    poses.write_page("other.html", [shown], 0.3)
    for page in ("page.html", "other.html"):
        assert "<img" not in (tmp_path / page).read_text() and "\u202e" not in (tmp_path / page).read_text()
        tab.open(tmp_path / page)
        tab.until("document.querySelector('.counter').textContent === 'frame 1 of 3'")
        assert not tab.errors and "onerror=alert(1)>&amp;\\u202e" in tab.text("figcaption")[0]


def test_a_script_in_the_page_would_not_run(pair, tab):
    assert main(["view", "slow.pose"]) == 0
    page = (pair / "view.html").read_text().replace("<h1>", "<script>document.title = 'mine'</script><h1>")
    (pair / "harmed.html").write_text(page)
    tab.open(pair / "harmed.html")
    tab.until("document.querySelector('.counter').textContent !== ''")
    assert tab.ask("document.title") == "Poses" and any("Content Security Policy" in error for error in tab.errors)
    tab.errors.clear()


def pixels(tab, panel: int) -> np.ndarray:
    """What a canvas shows, [h, w, 3]."""
    size, data = tab.ask(
        f"(() => {{ const c = document.querySelectorAll('canvas')[{panel}];"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let s = '';"
        "for (const b of d) s += String.fromCharCode(b); return [c.width, btoa(s)]; })()"
    )
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(size, size, 4)[..., :3].astype(int)


def test_a_browser_draws_steps_plays_and_mirrors(pair, tab):
    assert main(["view", "slow.pose", "quick.pose"]) == 0
    tab.asked.clear()
    tab.open(pair / "view.html", "#t=0.2")
    tab.until("document.querySelectorAll('.counter')[1].textContent === 'frame 11 of 50'")
    assert tab.text(".counter")[0] == "frame 6 of 12" and tab.text("#seconds") == ["0.20 s of 1.00 s"]
    # The same picture as pose/draw.py's, but for how edges are smoothed.
    seen = pixels(tab, 1)
    drawn = draw.draw(moving(50, 50.0).slice(10, 11), len(seen))[0].astype(int)
    off = abs(seen - drawn).max(-1)
    assert (drawn.max(-1) > 0).mean() > 0.01 and (off > 60).mean() < 0.004 and off.mean() < 1
    tab.press("ArrowRight")  # a frame of the quicker one: the slower stays
    assert tab.text(".counter") == ["frame 6 of 12", "frame 12 of 50"]
    tab.click("#next")
    assert tab.text(".counter") == ["frame 7 of 12", "frame 13 of 50"]
    tab.press("ArrowLeft")
    assert tab.text(".counter") == ["frame 6 of 12", "frame 12 of 50"]
    # Mirrored, and the nose, which odd frames lack.
    plain = pixels(tab, 1)
    tab.press("m")
    tab.until("document.querySelector('#mirror').checked")
    tab.ask("new Promise(requestAnimationFrame)")
    mirrored = pixels(tab, 1)
    assert abs(mirrored[:, ::-1] - plain).mean() < 0.5 < abs(mirrored - plain).mean()
    nose = int((skeleton.VIEW_TOP - 0.5) / skeleton.VIEW_SIDE * len(plain)), len(plain) // 2
    assert tuple(seen[nose]) == draw.BODY_COLOURS[0] and plain[nose].max() == 0
    # The end: the shorter one stands still, and playing begins anew.
    tab.ask("(() => { const t = document.querySelector('#time'); t.value = 0.99; t.oninput(); })()")
    assert tab.text(".counter") == ["frame 12 of 12, ended", "frame 50 of 50"]
    tab.click("#loop")
    tab.press(" ", " ")
    tab.until("document.querySelector('#play').textContent === 'Play'")
    assert tab.text("#seconds") == ["1.00 s of 1.00 s"]
    tab.click("#play")
    tab.until("document.querySelector('#time').value > 0.05 && document.querySelector('#time').value < 0.95")
    tab.click("#play")
    stopped = tab.text(".counter")
    tab.ask("new Promise(done => setTimeout(done, 100))")
    assert tab.text(".counter") == stopped and tab.asked == [(pair / "view.html").as_uri()] and not tab.errors


def test_a_whole_figure_is_seen_and_a_telephone_is_wide_enough(tmp_path, tab):
    pose = moving(2)
    for name, y in (("right_hip", 1.2), ("right_knee", 2.4), ("right_ankle", 3.6)):
        pose.coordinates[:, skeleton.INDEX[name], :2] = (-0.3, y)
        pose.confidence[:, skeleton.INDEX[name]] = 1
    poses.write_page(tmp_path / "p.html", [poses.as_shown(Clip("x", pose, clips.OWN), "x", 0.3)] * 2, 0.3, start=3.0)
    tab.open(tmp_path / "p.html", "#whole=1&t=3.04", size=(400, 900))
    tab.until("document.querySelector('.counter').textContent === 'frame 2 of 2'")
    lowest = np.flatnonzero(pixels(tab, 0).max(-1).any(1)).max() / len(pixels(tab, 0))
    assert 0.9 < lowest < 1
    assert tab.ask("document.documentElement.scrollWidth <= 400") and tab.text("#seconds") == ["3.04 s of 3.08 s"]


def test_a_video_and_a_picture(pair, capsys):
    assert main(["view", "slow.pose", "quick.pose", "--video", "both.mp4", "--png", "both.png"]) == 0
    assert not (pair / "view.html").exists()
    found, fps = video.read("both.mp4")
    assert found.shape == (50, 384, 768, 3) and fps == 50
    assert abs(found[20][:, :384].astype(int) - draw.draw(moving(12).slice(10, 11), 384)[0]).mean() < 4
    assert np.asarray(Image.open("both.png")).shape == (2 * 384, 8 * 384, 3)


def test_every_format_that_convert_reads_and_sequences_by_name(tmp_path, monkeypatch, capsys):
    files.make_convertible(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = ["a.json", "own.npz", "openpose", "a.pkl", "a.gz", f"{skels.V1}.skels", "a.skels"]
    assert main(["view", *names, "--fps", "25", "--size", "480x640"]) == 0
    assert len(data_of(tmp_path / "view.html")["clips"]) == len(names)  # one of each, of seven
    assert "a.skels: the first 1 of its sequences are shown" in capsys.readouterr().out
    assert main(["view", "a.skels", "--fps", "25"]) == 0
    assert len(data_of(tmp_path / "view.html")["clips"]) == 2
    (tmp_path / "a.files").write_text("one\ntwo\n")
    assert main(["view", "a.skels", "--fps", "25", "--name", "two"]) == 0
    assert ">two</figcaption>" in (tmp_path / "view.html").read_text()
    (tmp_path / "b.skels").write_bytes((tmp_path / "a.skels").read_bytes())
    (tmp_path / "b.files").write_text("uno\ndue\n")
    assert main(["view", "a.skels", "b.skels", "--fps", "25"]) == 0  # side by side, one of the one and one of the other
    names = re.findall(r"<figcaption>([^<]*)</figcaption>", (tmp_path / "view.html").read_text())
    assert names == ["one", "uno", "two", "due"]
    assert "has no sequence 'tow' (did you mean 'two'?)" in fails(capsys, "a.skels", "--fps", "25", "--name", "tow")
    assert "give the picture's size with --size HxW" in fails(capsys, "a.json", "--fps", "25")
    assert "give it with --fps" in fails(capsys, "a.skels")


def test_mistakes_are_one_line_and_nothing_is_written(pair, capsys):
    assert "--from 0.5: slow has ended after 0.48 s" in fails(capsys, "slow.pose", "--from", "0.5")
    assert "--from nan: give a number" in fails(capsys, "slow.pose", "--from", "nan")
    assert "--threshold 1: give a number" in fails(capsys, "slow.pose", "--threshold", "1")
    assert "cannot be seen at once" in fails(capsys, *["slow.pose"] * 13)
    assert "would replace it" in fails(capsys, "slow.pose", "--out", "slow.pose")
    assert "would replace it" in fails(capsys, "slow.pose", "--video", "a", "--png", "a")
    assert "is empty" in fails(capsys, "slow.pose", "")
    assert "is no path of this machine" in fails(capsys, "https://x/y.pose")
    assert "does not exist" in fails(capsys, "slow.pose", "--png", "no/a.png")
    assert "no such file" in fails(capsys, "none.pose")
    assert sorted(path.name for path in pair.iterdir()) == ["quick.pose", "slow.pose"]
