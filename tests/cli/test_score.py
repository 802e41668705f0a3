"""`signer score` on folders, and on videos with poses, estimators and weights."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from signer_jax.cli.main import main
from signer_jax.data import video
from signer_jax.data.estimators import opening
from signer_jax.errors import Trouble
from signer_jax.interop import i3d, inception
from signer_jax.metrics.frechet import cell_features
from signer_jax.pose import skeleton
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats import pose_file
from signer_jax.types import Pose


def score(tmp_path, *arguments, code=0):
    out = tmp_path / "scores.json"
    assert main([*map(str, ("score", *arguments)), "--json", str(out)]) == code
    return json.loads(out.read_text(), parse_constant=pytest.fail) if code == 0 else None


def signer(seed, frames, pixels=False):
    rng = np.random.default_rng(seed)
    coordinates = rng.normal(0, 0.4, (1, 128, 2)) + rng.normal(0, 0.02, (frames, 128, 2)).cumsum(axis=0)
    for name, x in (("right_shoulder", -0.5), ("left_shoulder", 0.5)):
        coordinates[:, skeleton.INDEX[name]] = (x, 0)
    if pixels:
        coordinates = coordinates * 20 + (32, 24)
    return Pose(coordinates.astype(np.float32), np.ones((frames, 128), np.float32), 12.0)


def moving(seed, frames=8):
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(40, 200, (12, 16, 3)), np.ones((4, 4, 1)))
    film = np.tile(ground, (frames, 1, 1, 1))
    for i, picture in enumerate(film):
        picture[10:22, 5 + 3 * i : 17 + 3 * i] = 230
    return film.astype(np.uint8)


def test_texts_of_two_folders_are_one_corpus(tmp_path, capsys):
    for name in ("ref", "hyp"):
        (tmp_path / name).mkdir()
    (tmp_path / "ref" / "a.txt").write_text("A B C D\nE F G H\n")
    (tmp_path / "hyp" / "a.gloss").write_text("A B C D\nE F G X\n")
    (tmp_path / "ref" / "b.txt").write_text("I J K L\n")
    (tmp_path / "hyp" / "b.gloss").write_text("I J K L\n")
    (tmp_path / "ref" / "only.txt").write_text("X\n")
    (tmp_path / "ref" / ".hidden").write_text("X\n")
    found = score(tmp_path, "text", "--ref", tmp_path / "ref", "--hyp", tmp_path / "hyp")
    assert found["metrics"]["exact"] == pytest.approx(200 / 3) and found["metrics"]["wer"] == pytest.approx(100 / 12)
    assert found["floor"]["exact"] == 0 and found["floor"]["chrf"] == 0
    assert found["facts"]["files"].startswith("2 of each") and found["facts"]["not paired"] == "only in --ref: only"
    assert "nc:6" in found["facts"]["chrf_signature"] and found["facts"]["wer_signature"].startswith("costs:1,1,1|")
    assert "chrf" in capsys.readouterr().out


def test_the_floor_of_texts_is_the_better_of_two_dumb_answers(tmp_path):
    """No line is its own floor, and what is said most often is answered everywhere."""
    (tmp_path / "ref").write_text("A B C D\nA B C D\nA B C D\nE F G H\n")
    (tmp_path / "hyp").write_text("X\n" * 4)
    found = score(tmp_path, "text", "--ref", tmp_path / "ref", "--hyp", tmp_path / "hyp")
    assert (found["floor"]["exact"], found["floor"]["wer"]) == (75, 25)
    (tmp_path / "ref").write_text("A B C D\nA B C D\nI J\nE F G H\n")
    (tmp_path / "hyp").write_text("I J\nI J\nE F G H\nA B C D\n")
    found = score(tmp_path, "text", "--ref", tmp_path / "ref", "--hyp", tmp_path / "hyp")
    assert found["metrics"]["chrf"] == 0 and found["floor"]["exact"] == 50 and found["floor"]["wer"] < 100


def test_chinese_is_scored_by_what_is_asked_for(tmp_path, capsys):
    (tmp_path / "ref").write_text("我们学习手语\n他来\n")
    (tmp_path / "hyp").write_text("我们学手语\n他来\n")
    files = ("text", "--ref", tmp_path / "ref", "--hyp", tmp_path / "hyp")
    words, characters = score(tmp_path, *files), score(tmp_path, *files, "--han", "characters")
    assert words["metrics"]["wer"] == 50 and "in 2 references" in words["facts"]["Han characters"]
    assert "han:" not in words["facts"]["bleu_signature"]
    assert characters["metrics"]["wer"] == pytest.approx(100 / 8) and "Han characters" not in characters["facts"]
    for name in ("bleu", "wer", "rouge"):
        assert characters["facts"][f"{name}_signature"].endswith("|han:characters")
    assert characters["metrics"]["chrf"] == words["metrics"]["chrf"]
    score(tmp_path, "pose", "--ref", "a", "--hyp", "b", "--han", "characters", code=2)
    assert "--han: is of texts" in capsys.readouterr().err


def test_hands_that_a_layout_does_not_have_are_lacking(tmp_path, monkeypatch):
    """The other scores are of what both layouts have, so that they say nothing of the hands."""
    hands = skeleton.positions((*skeleton.LEFT_HAND, *skeleton.RIGHT_HAND), skeleton.JOINTS)

    def read(path):
        pose, has = signer(0, 20), np.ones(128, bool)
        if path.stem == "hyp":
            pose.confidence[:, hands] = 0
            has[hands] = False
        return pose, has

    monkeypatch.setattr(pose_file, "read_with_layout", read)
    found = score(tmp_path, "pose", "--ref", tmp_path / "ref.pose", "--hyp", tmp_path / "hyp.pose")
    assert found["metrics"]["dtw"] == 0 and found["metrics"]["lacking"] == pytest.approx(42 / 128)
    assert found["floor"]["lacking"] == 0 and found["facts"]["lacking_signature"].startswith("joints:128|")
    assert "42 of which the hypothesis's has none of" in found["facts"]["lacking"]


def test_poses_of_two_folders(tmp_path, capsys):
    for name in ("ref", "hyp"):
        (tmp_path / name).mkdir()
    for i, (frames, other) in enumerate(((20, 20), (30, 25))):
        pose_file.write(tmp_path / "ref" / f"{i}.pose", signer(i, frames))
        pose_file.write(tmp_path / "hyp" / f"{i}.pose", signer(9 + i, other))
    pose_file.write(tmp_path / "ref" / "broken.pose", signer(0, 3))
    (tmp_path / "hyp" / "broken.pose").write_bytes(b"no pose")
    found = score(tmp_path, "pose", "--ref", tmp_path / "ref", "--hyp", tmp_path / "hyp")
    each = found["pairs"]
    assert set(each) == {"0", "1"} and each["1"]["mpjpe"] is None
    assert found["metrics"]["dtw"] == pytest.approx((each["0"]["dtw"] + each["1"]["dtw"]) / 2)
    assert found["metrics"]["mpjpe"] == each["0"]["mpjpe"] and found["unscored"]["mpjpe"] == 2
    assert found["unscored"]["dtw"] == 1 and "mpjpe in 2 of 3 pairs" in found["facts"]["left out of the means"]
    assert "broken" in found["facts"]["pairs that could not be read"]
    # The challenge's figure is over all pairs of frames of all clips, total distance over all the references' way.
    ways = [found["metrics"][f"total_distance_{side}"] for side in ("left", "right")]
    assert found["metrics"]["total_distance"] == pytest.approx(sum(ways) / 2)
    one, two = (found["pairs"][name]["dtw_mje_slrtp"] for name in "01")
    assert min(one, two) < found["metrics"]["dtw_mje_slrtp"] < max(one, two)
    assert found["metrics"]["dtw_mje_slrtp"] != pytest.approx((one + two) / 2, rel=1e-6)
    assert "mean pose" in found["facts"]["floor"]


def test_a_fault_of_the_machine_is_no_fault_of_a_pair(tmp_path, monkeypatch, capsys):
    for folder in ("ref", "hyp"):
        (tmp_path / folder).mkdir()
        for i in range(2):
            pose_file.write(tmp_path / folder / f"{i}.pose", signer(i, 6))

    def read(path):
        raise Trouble(f"{path}: the disk is gone")

    monkeypatch.setattr(pose_file, "read_with_layout", read)
    assert main(["score", "pose", "--ref", str(tmp_path / "ref"), "--hyp", str(tmp_path / "hyp")]) == 1
    assert "the disk is gone" in capsys.readouterr().err


def test_what_does_not_pair_is_one_line(tmp_path, capsys):
    for name in ("ref", "hyp", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "ref" / "a.txt").write_text("A\n")
    (tmp_path / "hyp" / "b.txt").write_text("A\n")
    for name in ("a.txt", "a.gloss"):
        (tmp_path / "two" / name).write_text("A\n")
    cases = [
        (("text", "--ref", tmp_path / "ref", "--hyp", tmp_path / "hyp"), "have no text files of one name"),
        (("text", "--ref", tmp_path / "ref", "--hyp", tmp_path / "two"), "which are one name; keep one"),
        (("text", "--ref", tmp_path / "ref", "--hyp", tmp_path / "hyp" / "b.txt"), "give two files or two folders"),
        (("text", "--ref", "a", "--hyp", "b", "--pose", "c"), "--pose: is of videos"),
        (("pose", "--ref", "a", "--hyp", "b", "--hand-crop", "9"), "--hand-crop: is of videos"),
        (("text", "--ref", "a", "--hyp", "b", "--i3d", "c"), "--i3d: is of videos"),
        (("video", "--ref", "a", "--hyp", "b", "--poses", "dwpose"), "needs --pose-weights"),
        (("video", "--ref", "a", "--hyp", "b", "--pose-weights", "x"), "name one of them"),
        (("video", "--ref", "a", "--hyp", "b", "--hand-crop", "-1"), "must be pixels"),
    ]
    for arguments, says in cases:
        score(tmp_path, *arguments, code=2)
        line = capsys.readouterr().err
        assert says in line and line.count("\n") == 1, line


def test_videos_with_their_poses(tmp_path):
    for i, name in enumerate(("ref", "hyp")):
        video.write(tmp_path / f"{name}.mp4", moving(i), 12)
    pose_file.write(tmp_path / "ref.pose", signer(0, 8, pixels=True), size=(64, 48))
    files = ("video", "--ref", tmp_path / "ref.mp4", "--hyp", tmp_path / "hyp.mp4")
    plain = score(tmp_path, *files)
    assert "hand_ssim" not in plain["metrics"] and "fid" not in plain["metrics"] and "pairs" not in plain
    assert plain["metrics"]["frechet_cells"] > 0 and plain["floor"]["frechet_cells"] > 0
    assert "|over:whole-videos|frames:8|frames_hypothesis:8|" in plain["facts"]["frechet_cells_signature"]
    found = score(tmp_path, *files, "--pose", tmp_path / "ref.pose", "--hand-crop", 12)
    assert -1 < found["metrics"]["hand_ssim"] < 1 and found["facts"]["hand_ssim_signature"].startswith("crop:12|")
    assert found["metrics"]["ssim"] == plain["metrics"]["ssim"] and found["metrics"]["compared"] == 1
    # A copy of the reference's beginning is not as good as the reference.
    video.write(tmp_path / "short.mp4", moving(0)[:2], 12)
    short = score(tmp_path, "video", "--ref", tmp_path / "ref.mp4", "--hyp", tmp_path / "short.mp4")
    assert short["metrics"]["ssim"] > 0.9 and short["metrics"]["compared"] == 0.25
    equal = score(tmp_path, "video", "--ref", tmp_path / "ref.mp4", "--hyp", tmp_path / "ref.mp4")
    assert equal["metrics"]["psnr"] is None and equal["metrics"]["frechet_cells"] == 0
    assert "psnr" in equal["facts"]["not scored"]


def test_poses_are_found_in_both_videos(tmp_path, monkeypatch):
    """The estimator sees each video's paired frames; what it finds is compared in pixels, and crops the hands."""
    for i, name in enumerate(("ref", "hyp")):
        video.write(tmp_path / f"{name}.mp4", moving(i), 12)
    seen = {}

    def estimate(name, frames, fps):
        seen[name] = len(list(frames))
        pose = signer(0, seen[name], pixels=True)
        shift = 3 if name == "hyp.mp4" else 0
        if seen.get("nobody") == name:
            raise clips.NobodySeen(f"{name}: nobody")
        return clips.Clip(name, Pose(pose.coordinates + shift, pose.confidence, fps), clips.PIXELS, (48, 64))

    monkeypatch.setattr(opening, "opened", lambda name, weights: opening.Estimator("dwpose (a|b)", estimate))
    files = ("video", "--ref", tmp_path / "ref.mp4", "--hyp", tmp_path / "hyp.mp4", "--poses", "dwpose",
             "--pose-weights", tmp_path)  # fmt: skip
    found = score(tmp_path, *files)
    assert seen == {"ref.mp4": 8, "hyp.mp4": 8}
    assert found["metrics"]["hand_pose"] == pytest.approx(18**0.5) and found["metrics"]["hand_pose_lacking"] == 0
    assert -1 < found["metrics"]["hand_ssim"] < 1 and "dwpose (a/b)" in found["facts"]["hand_pose_signature"]
    seen["nobody"] = "hyp.mp4"
    without = score(tmp_path, *files)
    assert without["metrics"]["hand_pose"] is None and "nobody in the hypothesis" in without["facts"]["hands"]
    assert without["metrics"]["hand_ssim"] == found["metrics"]["hand_ssim"]


def test_videos_of_two_folders_with_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(inception, "features", lambda path: (cell_features, "0123456789abcdef" * 4))
    for folder, shift in (("ref", 0), ("hyp", 1)):
        (tmp_path / folder).mkdir()
        for i, frames in enumerate((5, 9)):
            video.write(tmp_path / folder / f"{i}.mp4", moving(i + shift, frames), 12)
    video.write(tmp_path / "ref" / "2.mp4", moving(2, 10), 12)
    video.write(tmp_path / "hyp" / "2.mp4", moving(2, 10)[:4], 12)
    (tmp_path / "hyp" / "only.mov").write_bytes(b"")
    (tmp_path / "hyp" / "notes.txt").write_text("no video")
    (tmp_path / "poses").mkdir()
    pose_file.write(tmp_path / "poses" / "1.pose", signer(0, 9))
    graph = i3d.I3D(lambda clips: clips[:, 0, 0, :2].reshape(len(clips), -1), (3, 224, 224), "f" * 64)
    monkeypatch.setattr(i3d, "opened", lambda path: graph)
    found = score(tmp_path, "video", "--ref", tmp_path / "ref", "--hyp", tmp_path / "hyp", "--inception", "w",
                  "--i3d", "i", "--pose", tmp_path / "poses")  # fmt: skip
    metrics, facts = found["metrics"], found["facts"]
    assert metrics["fid"] == pytest.approx(metrics["frechet_cells"]) and metrics["frames"] == 18
    assert "weights:sha256-0123456789abcdef|over:whole-videos|frames:24|frames_hypothesis:18|" in facts["fid_signature"]
    # Clips of three frames are no FVD: one, three and three of the references, one of the last hypothesis.
    assert "fvd" not in metrics and metrics["frechet_i3d"] > 0 and found["floor"]["frechet_i3d"] > 0
    signed = facts["frechet_i3d_signature"]
    assert signed.startswith("features:logits-400|resize:bilinear-corner-origin-224x224|length:3|weights:sha256-ffff")
    assert "|clips:7|clips_hypothesis:5|" in signed and "frechet_clips" in facts["not scored"]  # none has 16 frames
    assert metrics["frechet_clips"] is None and "|clips:0|clips_hypothesis:0|" in facts["frechet_clips_signature"]
    each = [found["pairs"][name]["ssim"] for name in "012"]
    assert metrics["ssim"] == pytest.approx(np.dot((5, 9, 4), each) / 18)  # over frames
    assert metrics["compared"] == pytest.approx(18 / 24) and found["pairs"]["2"]["compared"] == 0.4
    assert facts["files"].startswith("3 of each") and facts["pairs"].startswith("each frame")
    assert facts["not paired"] == "only in --hyp: only" and facts["without a pose"].startswith("2 of 3 pairs")
    assert metrics["hand_ssim"] == found["pairs"]["1"]["hand_ssim"] and found["unscored"]["hand_ssim"] == 2


def test_the_sets_are_of_whole_videos_at_their_own_rates(tmp_path):
    """A copy of the beginning lacks what comes after it; of another rate no frame is doubled or dropped."""
    theirs = np.concatenate([np.tile(moving(0), (4, 1, 1, 1)), 255 - np.tile(moving(3), (4, 1, 1, 1))])
    video.write(tmp_path / "ref.mp4", theirs, 12)
    video.write(tmp_path / "short.mp4", theirs[:32], 12)
    video.write(tmp_path / "fast.mp4", theirs.repeat(2, axis=0), 24)
    short, fast = (
        score(tmp_path, "video", "--ref", tmp_path / "ref.mp4", "--hyp", tmp_path / f"{name}.mp4")
        for name in ("short", "fast")
    )
    assert short["metrics"]["compared"] == 0.5 and short["metrics"]["ssim"] > 0.9
    for name in ("frechet_cells", "frechet_clips"):
        assert short["metrics"][name] > 0.1 and short["floor"][name] > 0.1
    assert "|frames:64|frames_hypothesis:32|" in short["facts"]["frechet_cells_signature"]
    assert "|frames:63|frames_hypothesis:31|" in short["facts"]["frechet_cells_change_signature"]
    assert "|clips:4|clips_hypothesis:2|" in short["facts"]["frechet_clips_signature"]
    assert fast["metrics"]["frames"] == 64 and fast["metrics"]["ssim"] > 0.9
    assert "|clips:4|clips_hypothesis:8|" in fast["facts"]["frechet_clips_signature"]


def graph_of_i3d(path, *layers):
    """Clips of four frames of 32 x 24; a black one's logits are 0, and of others what `layers` make of 1 + its mean."""
    nodes = [
        helper.make_node("Flatten", ["clips"], ["flat"]),
        helper.make_node("ReduceMean", ["flat", "axes"], ["mean"]),
        helper.make_node("Add", ["mean", "one"], ["0"]),
        *(helper.make_node(name, [*before, str(i)], [str(i + 1)], **how)
          for i, (name, before, how) in enumerate(layers)),
        helper.make_node("Mul", [str(len(layers)), "weights"], ["logits"]),
    ]  # fmt: skip
    held = {"axes": np.array([1]), "one": np.float32([1]), "row": np.zeros(1, np.float32),
            "weights": np.linspace(-1, 1, 400, dtype=np.float32)[None]}  # fmt: skip
    model = helper.make_model(
        helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("clips", TensorProto.FLOAT, ["n", 3, 4, 24, 32])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 400])],
            [numpy_helper.from_array(value, name) for name, value in held.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10,
    )  # fmt: skip
    onnx.save(model, str(path))


def pairs_of_videos(tmp_path):
    """A black pair, which each of these graphs takes, and one that is not."""
    for folder in ("ref", "hyp"):
        (tmp_path / folder).mkdir()
        video.write(tmp_path / folder / "0.mp4", np.zeros((8, 48, 64, 3), np.uint8), 12)
        video.write(tmp_path / folder / "1.mp4", moving(1 + (folder == "hyp")), 12)
    return ("video", "--ref", tmp_path / "ref", "--hyp", tmp_path / "hyp", "--i3d", tmp_path / "a.onnx")


def test_logits_that_are_not_finite_cost_their_figure_and_no_pair(tmp_path):
    files = pairs_of_videos(tmp_path)
    graph_of_i3d(tmp_path / "a.onnx")
    works = score(tmp_path, *files)
    assert works["metrics"]["frechet_i3d"] > 0 and "features that are not finite" not in works["facts"]
    graph_of_i3d(tmp_path / "a.onnx", ("Neg", [], {}), ("Sqrt", [], {}))
    broken = score(tmp_path, *files)
    assert broken["metrics"]["frechet_i3d"] is None and "pairs that could not be read" not in broken["facts"]
    assert broken["facts"]["features that are not finite"].startswith("frechet_i3d: not scored")
    assert {key: value for key, value in broken["metrics"].items() if key != "frechet_i3d"} == {
        key: value for key, value in works["metrics"].items() if key != "frechet_i3d"
    }


def test_a_graph_that_cannot_be_run_is_no_fault_of_a_pair(tmp_path, capsys):
    """It takes the row of a table of one row that the clip's mean, rounded up, names."""
    files = pairs_of_videos(tmp_path)
    graph_of_i3d(
        tmp_path / "a.onnx", ("Ceil", [], {}), ("Cast", [], {"to": TensorProto.INT64}), ("Gather", ["row"], {})
    )
    score(tmp_path, *files, code=1)
    line = capsys.readouterr().err.splitlines()[-1]
    assert "a.onnx: cannot be run (" in line and line.endswith("give it more memory"), line
