"""Pose estimators: DWPose's formulas by hand, on real ONNX graphs; MediaPipe's landmarks; the command."""

import json
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from signer_jax.cli.main import main
from signer_jax.data import video
from signer_jax.data.estimators import dwpose, opening
from signer_jax.data.prepared import layout
from signer_jax.data.shards import Shard
from signer_jax.errors import SignerError, Trouble
from signer_jax.pose import skeleton
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats import dwpose as mapping
from signer_jax.pose.formats import pose_file

HEIGHT, WIDTH = 96, 128  # of a frame; half of it in the detector's square
SQUARE, INPUT = 64, (32, 24)  # of the detector; height and width of the pose model
CELLS = 8 * 8 + 4 * 4 + 2 * 2


def save(path: Path, nodes, inputs, outputs, constants) -> Path:
    made = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    shapes = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in some.items()]
              for some in (inputs, outputs)]  # fmt: skip
    model = helper.make_model(
        helper.make_graph(nodes, "made", *shapes, made), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def detector(path: Path, *, cells: int = CELLS, rows: int | str = 1, channels: int = 3) -> Path:
    """YOLOX's signature: where a cell of 8 pixels is red (the third channel), it says a person of 19.2 pixels."""
    base = np.zeros((1, cells, 4), np.float32)
    base[..., :2], base[..., 2:] = 0.5, np.log(2.4)
    nodes = [
        helper.make_node("AveragePool", ["images"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Slice", ["pooled", "two", "three", "one"], ["red"]),
        helper.make_node("Slice", ["pooled", "one", "two", "one"], ["green"]),
        helper.make_node("Sub", ["red", "green"], ["redder"]),
        helper.make_node("Reshape", ["redder", "flat"], ["cells"]),
        helper.make_node("Div", ["cells", "white"], ["shares"]),
        helper.make_node("Pad", ["shares", "pads"], ["object"]),
        helper.make_node("Mul", ["object", "nought"], ["none"]),
        helper.make_node("Add", ["none", "sure"], ["person"]),
        helper.make_node("Add", ["none", "base"], ["boxes"]),
        helper.make_node("Concat", ["boxes", "object", "person"], ["output"], axis=2),
    ]
    constants = {
        "two": np.array([channels - 1]), "three": np.array([channels]), "one": np.array([1]),
        "flat": np.array([0, 64, 1]),
        "white": np.float32(255), "pads": np.array([0, 0, 0, 0, cells - 64, 0]), "nought": np.float32(0),
        "sure": np.float32(1), "base": base,
    }  # fmt: skip
    shape = {"images": [rows, channels, SQUARE, SQUARE]}
    return save(path, nodes, shape, {"output": [rows, cells, 6]}, constants)


def poser(path: Path, *, points: int = 133) -> Path:
    """The SimCC model's signature: even points are the first column and row of red (its first channel), odd ones of
    blue; the feet and the first point of the left hand are unsure.
    """
    height, width = INPUT
    picks = np.zeros((points, 3), np.float32)
    picks[0::2, 0] = picks[1::2, 2] = 0.4  # of 2.25 and 2.64, which 255 is after the mean and the deviation
    picks[17:23] = 0
    picks[91] *= 0.2
    bins = {side: np.repeat(np.eye(n, dtype=np.float32), 2, 1) * np.tile([1, 0], n).astype(np.float32)
            for side, n in (("x", width), ("y", height))}  # fmt: skip
    nodes = []
    for side, axis in (("x", 2), ("y", 3)):
        nodes += [
            helper.make_node("ReduceMax", ["input"], [f"most_{side}"], axes=[axis], keepdims=0),
            helper.make_node("MatMul", ["picks", f"most_{side}"], [f"points_{side}"]),
            helper.make_node("MatMul", [f"points_{side}", f"bins_{side}"], [f"simcc_{side}"]),
        ]
    constants = {"picks": picks, "bins_x": bins["x"], "bins_y": bins["y"]}
    outputs = {"simcc_x": ["n", points, 2 * width], "simcc_y": ["n", points, 2 * height]}
    return save(path, nodes, {"input": ["n", 3, height, width]}, outputs, constants)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    detector(folder / dwpose.FILES[0])
    poser(folder / dwpose.FILES[1])
    return folder


def frame(*people: tuple[int, int, int], blue: bool = True) -> np.ndarray:
    """Red squares of 16 pixels at (x, y) of a level, each with a blue one up and left of it."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for x, y, level in people:
        picture[y : y + 16, x : x + 16, 0] = level
        if blue:
            picture[y - 12 : y - 6, x - 8 : x - 2, 2] = level
    return picture


# ---- Formulas --------------------------------------------------------------------------------------------------------


def test_a_frame_lies_in_the_upper_left_of_the_square():
    picture, ratio = dwpose.letterboxed(np.full((30, 60, 3), 7, np.uint8), (20, 20))
    assert ratio == pytest.approx(1 / 3) and (picture[:10] == 7).all() and (picture[10:] == 114).all()
    tall, ratio = dwpose.letterboxed(np.full((5, 2, 3), 7, np.uint8), (20, 20))
    assert ratio == 4 and (tall[:, :8] == 7).all() and (tall[:, 8:] == 114).all()


def test_cells_become_boxes_in_the_frames_pixels():
    cells = np.zeros((CELLS, 85), np.float32)
    cells[3 + 2 * 8, :6] = (0.5, 0.25, np.log(2), np.log(3), 0.9, 0.8)  # column 3, row 2 of 8 pixels
    cells[64 + 1 + 3 * 4, :6] = (0, 0, 0, 0, 1, 0.9)  # column 1, row 3 of 16
    cells[80 + 1, :6] = (0, 0, 0, 0, 0.5, 0.5)  # unlikely
    cells[0, [4, 6]] = 1  # another class
    boxes = dwpose.boxes_of(cells, (SQUARE, SQUARE), 0.5)
    np.testing.assert_allclose(boxes, [[16, 80, 48, 112, 0.9], [40, 12, 72, 60, 0.72]], rtol=1e-6)
    assert dwpose.boxes_of(np.zeros((CELLS, 85), np.float32), (SQUARE, SQUARE), 1).shape == (0, 5)


def test_of_boxes_that_overlap_the_best_one_stays():
    cells = np.zeros((CELLS, 6), np.float32)
    cells[:2, 2:4] = np.log(8)  # 64 pixels, their middles 8 apart: overlap 56 / 72
    cells[:2, 4], cells[:2, 5] = (0.6, 0.9), 1
    cells[60, 4:6] = 1  # far away, small
    boxes = dwpose.boxes_of(cells, (SQUARE, SQUARE), 1.0)
    np.testing.assert_allclose(boxes[:, 4], [1, 0.9])
    assert clips.overlaps(np.array([0, 0, 10, 10.0]), np.array([[5, 0, 15, 10.0]]))[0] == pytest.approx(1 / 3)


def test_the_person_of_the_frame_before_is_taken():
    near, large = np.array([0, 0, 10, 10, 0.5]), np.array([20, 0, 60, 50, 0.9])
    both = np.stack([near, large])
    assert dwpose.followed(both, None) is not None
    np.testing.assert_array_equal(dwpose.followed(both, None), large)
    np.testing.assert_array_equal(dwpose.followed(both, np.array([1, 1, 11, 11, 0.5])), near)
    np.testing.assert_array_equal(dwpose.followed(both, np.array([90, 90, 99, 99, 0.5])), large)


def test_a_crop_has_the_inputs_aspect_and_shows_the_frame_by_whole_pixels():
    seen = dwpose.around(np.array([36.8, 20.8, 75.2, 59.2, 1]), INPUT)
    assert seen == pytest.approx((32, 8, 2))
    picture = np.arange(HEIGHT * WIDTH, dtype=np.uint32).reshape(HEIGHT, WIDTH) % 251
    picture = np.repeat(picture[..., None], 3, 2).astype(np.uint8)
    crop = dwpose.cropped(picture, seen, INPUT)
    wanted = picture[8 : 8 + 64 : 2, 32 : 32 + 48 : 2]
    np.testing.assert_allclose(crop.astype(int), wanted.astype(int), atol=1)  # a grey level, by Pillow's rounding
    assert (dwpose.cropped(picture, (-100, -100, 1), INPUT) == 0).all()


def test_points_are_the_best_bins():
    across, down = np.zeros((2, 48)), np.zeros((2, 64))
    across[0, 7], down[0, 10], across[1, 47], down[1, 63] = 0.9, 0.6, 0.2, 1.3
    points, scores = dwpose.points_of(across, down, (32, 8, 2))
    np.testing.assert_allclose(points, [[32 + 7, 8 + 10], [32 + 47, 8 + 63]])
    np.testing.assert_allclose(scores, [0.6, 0.2])


def test_the_133_points_on_our_joints():
    points = np.stack([np.arange(133), 1000 + np.arange(133)], 1).astype(np.float64)
    xy, seen = mapping.of_whole_body(points, np.linspace(0.1, 1.4, 133))
    at = {joint: xy[skeleton.INDEX[joint]] for joint in skeleton.JOINTS}
    # COCO: nose, eyes, ears, then shoulders, elbows, wrists, hips, knees, ankles, the left one of each first.
    coco = {"nose": 0, "left_eye": 1, "right_eye": 2, "left_ear": 3, "right_ear": 4, "left_shoulder": 5,
            "right_shoulder": 6, "left_elbow": 7, "right_wrist": 10, "left_hip": 11, "right_ankle": 16, "face_0": 23,
            "face_67": 90, "left_hand_wrist_root": 91, "left_hand_pinky_4": 111, "right_hand_wrist_root": 112,
            "right_hand_pinky_4": 132}  # fmt: skip
    for joint, place in coco.items():
        np.testing.assert_allclose(at[joint], points[place], err_msg=joint)
    np.testing.assert_allclose(at["neck"], points[5:7].mean(0))
    assert seen[skeleton.INDEX["neck"]] == pytest.approx(np.linspace(0.1, 1.4, 133)[5]) and seen.max() == 1
    lost = mapping.of_whole_body(points, np.where(np.arange(133) == 6, 0, 1.0))[1]
    assert lost[skeleton.INDEX["neck"]] == lost[skeleton.INDEX["right_shoulder"]] == 0 and lost.sum() == 126


# ---- The graphs ------------------------------------------------------------------------------------------------------


def test_frames_become_a_clip(weights):
    estimator = opening.opened("dwpose", weights)
    assert estimator.made_by.startswith("dwpose (yolox_l.onnx ") and estimator.made_by.count(", dw-ll") == 1
    # The whole of 11 frames goes through in two batches; a person is at (48, 32) in all but the fourth.
    frames = [frame() if i == 3 else frame((48, 32, 255)) for i in range(11)]
    clip = estimator.estimate("x", iter(frames), 25.0)
    assert clip.size == (HEIGHT, WIDTH) and clip.pose.fps == 25 and len(clip.pose) == 11
    at = {joint: clip.pose.coordinates[:, skeleton.INDEX[joint]] for joint in skeleton.JOINTS}
    seen = clip.pose.confidence
    there = np.arange(11) != 3
    np.testing.assert_allclose(at["nose"][there], np.tile([48, 32], (10, 1)), atol=1e-4)  # even: red
    np.testing.assert_allclose(at["left_eye"][there], np.tile([40, 20], (10, 1)), atol=1e-4)  # odd: blue
    np.testing.assert_allclose(at["neck"][there], np.tile([44, 26], (10, 1)), atol=1e-4)
    assert (seen[3] == 0).all() and (seen[there][:, skeleton.INDEX["nose"]] > 0.8).all()
    assert (seen[:, skeleton.INDEX["left_hand_wrist_root"]] == 0).all()  # below what counts as seen
    assert clip.remarks == ("1 of 11 frames show nobody: confidence 0",)


def test_one_of_two_people_is_followed(weights):
    estimate = opening.opened("dwpose", weights).estimate
    # The other one is brighter from the second frame on; sizes are the same.
    frames = [frame((16, 32, 200))] + [frame((16, 32, 200), (96, 32, 255))] * 3
    clip = estimate("x", frames, 25.0)
    np.testing.assert_allclose(clip.pose.coordinates[:, skeleton.INDEX["nose"], 0], [16] * 4, atol=1e-4)
    assert clip.remarks == ("3 of 4 frames show several people: one was followed",)
    with pytest.raises(SignerError, match="x: no frame shows anybody"):
        estimate("x", [frame()] * 2, 25.0)
    with pytest.raises(SignerError, match="x: no frame shows anybody"):
        estimate("x", [], 25.0)


def test_a_detector_takes_as_many_as_its_graph_says(weights, tmp_path):
    frames = [frame((48, 32, 255))] * 5
    wanted = opening.opened("dwpose", weights).estimate("x", frames, 25.0).pose
    for rows in (3, "n"):
        detector(tmp_path / dwpose.FILES[0], rows=rows)
        poser(tmp_path / dwpose.FILES[1])
        found = opening.opened("dwpose", tmp_path).estimate("x", frames, 25.0).pose
        np.testing.assert_array_equal(found.coordinates, wanted.coordinates)


def test_weights_that_lack_or_do_not_fit(weights, tmp_path, monkeypatch):
    with pytest.raises(SignerError, match="--pose-weights .*none: no such folder; give the one with yolox_l.onnx and"):
        opening.opened("dwpose", tmp_path / "none")
    first, second = (tmp_path / name for name in dwpose.FILES)
    with pytest.raises(SignerError, match="yolox_l.onnx: no such file or directory; --poses dwpose needs"):
        opening.opened("dwpose", tmp_path)
    first.write_bytes(b"no model")
    poser(second)
    with pytest.raises(SignerError, match="yolox_l.onnx: is no model that ONNX Runtime reads"):
        opening.opened("dwpose", tmp_path)
    detector(first, channels=4)
    with pytest.raises(SignerError, match=r"yolox_l.onnx: takes tensor\(float\) \[1, 4, 64, 64\] in place of pictures"):
        opening.opened("dwpose", tmp_path)
    poser(first)
    with pytest.raises(SignerError, match=r"yolox_l.onnx: gives \[1, 133, 48\], \[1, 133, 64\] of a picture, not"):
        opening.opened("dwpose", tmp_path)
    detector(first)
    poser(second, points=132)
    with pytest.raises(SignerError, match=r"dw-ll_ucoco_384.onnx: gives \[1, 132, 48\], .*, not \[1, 133, 48\]"):
        opening.opened("dwpose", tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SignerError, match=r"needs ONNX Runtime; pip install 'signer-jax\[dwpose\]'"):
        opening.opened("dwpose", weights)


def test_what_a_machine_lacks_leaves_no_sample_out(weights, monkeypatch):
    graph = dwpose._Graph(weights / dwpose.FILES[0])

    class Full:
        def run(self, *_):
            raise RuntimeError("Failed to allocate memory")

    monkeypatch.setattr(graph, "_session", Full())
    with pytest.raises(Trouble, match="cannot be run .Failed to allocate memory.; give it more memory"):
        graph(np.zeros((1, 3, SQUARE, SQUARE), np.float32))


# ---- MediaPipe -------------------------------------------------------------------------------------------------------


class Landmark:
    def __init__(self, x, y, z, visibility=None):
        self.x, self.y, self.z, self.visibility = x, y, z, visibility


class Landmarker:
    """What `HolisticLandmarker` gives: a body and a face in all frames, a left hand in the first alone."""

    made = 0

    @classmethod
    def create_from_options(cls, options):
        if b"model" not in Path(options["base_options"]).read_bytes():
            raise RuntimeError("Unable to open zip archive.")
        cls.made += 1
        return cls()

    def __enter__(self):
        self.times = []
        return self

    def close(self, *_):
        pass

    __exit__ = close

    def detect_for_video(self, image, time):
        assert not self.times or time > self.times[-1]
        self.times.append(time)
        body = [Landmark(i / 100, i / 50, 0.5, 0.5 + (i == 0) * 0.25) for i in range(33)]
        face = [Landmark(i / 1000, 0.25, 0.0, 0.0) for i in range(478)]
        hand = [Landmark(0.5, i / 100, 0.0) for i in range(21)] if len(self.times) == 1 else []
        found = {"pose": body, "face": face, "left_hand": hand, "right_hand": []}
        if image.any():
            found = {part: [] for part in found}
        return types.SimpleNamespace(**{f"{part}_landmarks": points for part, points in found.items()})


@pytest.fixture
def mediapipe(monkeypatch):
    made = {name: types.ModuleType(name) for name in ("mediapipe", "mediapipe.tasks", "mediapipe.tasks.python")}
    top, python = made["mediapipe"], made["mediapipe.tasks.python"]
    top.Image, top.ImageFormat = (lambda image_format, data: data), types.SimpleNamespace(SRGB=1)
    python.BaseOptions = lambda model_asset_path: model_asset_path
    python.vision = types.SimpleNamespace(
        HolisticLandmarkerOptions=lambda **said: said, RunningMode=types.SimpleNamespace(VIDEO=2),
        HolisticLandmarker=Landmarker,
    )  # fmt: skip
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)


def test_holistic_landmarks_become_a_clip(mediapipe, tmp_path):
    (tmp_path / "holistic_landmarker.task").write_bytes(b"a model")
    estimator = opening.opened("mediapipe", tmp_path)
    assert estimator.made_by.startswith("mediapipe (holistic_landmarker.task ")
    frames = [np.full((100, 200, 3), level, np.uint8) for level in (0, 0, 9)]
    clip = estimator.estimate("x", frames, 25.0)
    at = {joint: clip.pose.coordinates[0, skeleton.INDEX[joint]] for joint in skeleton.JOINTS}
    np.testing.assert_allclose(at["nose"], [0, 0, 100])
    # MediaPipe's order: 2 left eye, 5 right eye, 7 left ear, 11 left shoulder, 12 right one, 16 right wrist.
    for joint, i in {"left_eye": 2, "right_eye": 5, "left_ear": 7, "left_shoulder": 11, "right_wrist": 16,
                     "left_hip": 23, "right_ankle": 28}.items():  # fmt: skip
        np.testing.assert_allclose(at[joint], [2 * i, 2 * i, 100], rtol=1e-5, err_msg=joint)
    np.testing.assert_allclose(at["neck"], [23, 23, 100], rtol=1e-5)
    np.testing.assert_allclose(at["face_8"][:2], [pose_file.MESH_OF_IBUG[8] / 5, 25], rtol=1e-5)
    np.testing.assert_allclose(at["left_hand_pinky_4"][:2], [100, 20], rtol=1e-5)
    seen = clip.pose.confidence
    assert seen[0, skeleton.INDEX["nose"]] == 0.75 and seen[0, skeleton.INDEX["left_wrist"]] == 0.5
    assert seen[0, skeleton.INDEX["face_8"]] == 1 and seen[0, skeleton.INDEX["left_hand_thumb_1"]] == 1
    assert seen[1, skeleton.INDEX["left_hand_thumb_1"]] == 0 and (seen[2] == 0).all()
    assert clip.size == (100, 200) and clip.remarks == ("1 of 3 frames show nobody: confidence 0",)
    with pytest.raises(SignerError, match="no frame shows anybody"):
        estimator.estimate("x", frames[2:], 25.0)


def test_mediapipe_that_is_not_there_or_reads_no_model(mediapipe, tmp_path, monkeypatch):
    (tmp_path / "holistic_landmarker.task").write_bytes(b"nothing")
    with pytest.raises(SignerError, match="is no Holistic model that MediaPipe reads .Unable to open zip archive"):
        opening.opened("mediapipe", tmp_path)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(SignerError, match=r"needs MediaPipe; pip install 'signer-jax\[mediapipe\]'"):
        opening.opened("mediapipe", tmp_path)


# ---- The command -----------------------------------------------------------------------------------------------------


def filmed(folder: Path) -> Path:
    """Videos: three with a person, one without, one with a pose of its own, one that is cut by the table."""
    folder.mkdir()
    rows = ["name,video,text,language,spoken,start,end,pose"]
    for i in range(6):
        people = [] if i == 3 else [(48, 32, 255)]
        pictures = [frame((48 + (4 * (k > 4)), 32, 255)) if people else frame() for k in range(10)]
        video.write(folder / f"{i}.mp4", np.stack(pictures), 25.0)
        cut = "0.2,0.4" if i == 5 else ","
        rows.append(f"c{i},{i}.mp4,text {i},ase,en,{cut},{'4.pose' if i == 4 else ''}")
    clip = np.zeros((10, len(skeleton.JOINTS), 3), np.float32)
    clip[:, skeleton.INDEX["left_shoulder"], 0] = 30
    clip[:, skeleton.INDEX["right_shoulder"], 0] = 60
    from signer_jax.types import Pose

    pose_file.write(folder / "4.pose", Pose(clip, np.ones(clip.shape[:2], np.float32), 25.0), size=(WIDTH, HEIGHT))
    (folder / "samples.csv").write_text("\n".join(rows) + "\n")
    return folder


def motions(out: Path) -> dict[str, dict]:
    from signer_jax.data.shards import unpack

    found = {}
    for file in (out / "parts").glob("*.motion.arrayrecord"):
        shard = Shard(file, unpack, "")
        found |= {tree["name"]: tree for tree in (shard[i] for i in range(len(shard)))}
    return found


def test_the_command_makes_the_poses_that_a_dataset_lacks(weights, tmp_path, capsys):
    source = filmed(tmp_path / "source")
    words = ["prepare", "folder", "--source", str(source), "--poses", "dwpose", "--pose-weights", str(weights),
             "--per-part", "2"]  # fmt: skip
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    report = json.loads((tmp_path / "one" / "report.json").read_text())
    made_by = opening.opened("dwpose", weights).made_by
    assert report["poses_by"] == {made_by: 4, "the dataset": 1} and report["how"]["poses_by"] == made_by
    assert [(row["name"], row["reason"]) for row in report["left_out"]] == [("c3", "no person in the pose")]
    found = motions(tmp_path / "one")
    assert {name: tree["pose_by"] for name, tree in found.items()} == {
        **dict.fromkeys(("c0", "c1", "c2", "c5"), made_by), "c4": "",
    }  # fmt: skip
    # Four pixels to the right from the sixth frame on; by shoulders 4 red to blue, 8 across and 12 down.
    nose = found["c0"]["pose"]["coordinates"][:, skeleton.INDEX["nose"], 0]
    assert len(nose) == 10 and nose[9] - nose[0] == pytest.approx(4 / np.hypot(8, 12), abs=0.1)
    assert len(found["c5"]["pose"]["coordinates"]) == 5  # 0.2 to 0.4 seconds
    jump = found["c5"]["pose"]["coordinates"][:, skeleton.INDEX["nose"], 0]
    np.testing.assert_allclose(jump, jump[0], atol=0.1)  # all of it behind the step

    for shard in ("0/2", "1/2"):
        assert main([*words, "--out", str(tmp_path / "two"), "--shard", shard]) == 0
    other = motions(tmp_path / "two")
    assert {name: tree["pose"]["coordinates"].tobytes() for name, tree in found.items()} == {
        name: tree["pose"]["coordinates"].tobytes() for name, tree in other.items()
    }
    # Other weights are another set; the same ones keep what is whole.
    folder = tmp_path / "weights"
    folder.mkdir()
    detector(folder / dwpose.FILES[0], rows="n")
    poser(folder / dwpose.FILES[1])
    capsys.readouterr()
    words[words.index(str(weights))] = str(folder)
    assert main([*words, "--out", str(tmp_path / "one")]) == 2
    assert "was begun with how" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--poses", "dwpose"], "--poses dwpose: needs --pose-weights, the folder of its files"),
        (["--pose-weights", "x"], "--pose-weights x: is of --poses dwpose or mediapipe; name one of them"),
        (["--poses", "dwpose", "--pose-weights", "x"], "--pose-weights x: no such folder"),
    ],
)
def test_flags_that_do_not_go_together(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "samples.csv").write_text("name,text\na,hello\n")
    assert main(["prepare", "folder", "--source", "source", "--out", "out", *words]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_record_of_before_has_no_estimator(tmp_path):
    """A set that was prepared without one is read as ever."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "samples.csv").write_text("name,text,gloss,language\na,hello,HELLO,ase\n")
    assert main(["prepare", "folder", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "set")]) == 0
    (name, table), *_ = layout.PreparedSet(tmp_path / "set").tables("train")
    assert table["kept"][0]["pose_by"] == ""
    sample = Shard(layout.PreparedSet(tmp_path / "set").file(name, "text"), layout.read_text, "")[0]
    assert (sample.text, sample.glosses_by) == ("hello", "unknown") and replace(sample, text="") != sample
