"""What the commands read from users: texts, pictures, poses and videos, as they come; what they never write over."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from pose_format import Pose as PoseFile
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

from signer_jax.cli import common, score, score_video
from signer_jax.cli.common import middle_of, open_picture, read_lines
from signer_jax.cli.main import main
from signer_jax.data import video
from signer_jax.errors import SignerError
from signer_jax.pose import skeleton, warping
from signer_jax.pose.formats import pose_file
from signer_jax.pose.prior import Entry, Prior
from signer_jax.storage import to_json
from signer_jax.types import Pose


def fails(capsys, *arguments) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("signer: ")
    return lines[0]


def line(function, *arguments) -> str:
    with pytest.raises(SignerError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- Text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    ["Ä B\nC D\n", "\ufeffÄ B\nC D\n", "Ä B\r\nC D\r\n", "Ä B\rC D", "A\u0308 B\nC D"],
    ids=["plain", "byte order mark", "Windows", "old Mac, no last line end", "decomposed"],
)  # fmt: skip
def test_the_same_words_are_the_same(tmp_path, capsys, data):
    (tmp_path / "ref").write_bytes("Ä B\nC D\n".encode())
    (tmp_path / "hyp").write_bytes(data.encode())
    assert read_lines(tmp_path / "hyp") == ["Ä B", "C D"]
    arguments = ["score", "text", "--ref", tmp_path / "ref", "--hyp", tmp_path / "hyp", "--json", tmp_path / "j"]
    assert main([str(argument) for argument in arguments]) == 0
    metrics = json.loads((tmp_path / "j").read_text())["metrics"]
    assert (metrics["exact"], metrics["rouge"], metrics["wer"]) == (100, 100, 0)
    assert metrics["bleu1"] == pytest.approx(100)


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_line_ends_end_lines(tmp_path, inside):
    (tmp_path / "a").write_text(f"A{inside}B\nC\n\n", encoding="utf-8")
    assert read_lines(tmp_path / "a") == [f"A{inside}B", "C", ""]


def test_other_encodings_are_named_by_line(tmp_path, capsys):
    (tmp_path / "ref").write_text("A\nB\nC\n")
    for data, words in (
        ("A\nB\nÄ\n".encode("latin-1"), "line 3 is no UTF-8 (byte 0xc4)"),
        ("A\nB\nC\n".encode("utf-16"), "line 1 is no UTF-8 (UTF-16)"),
        ("A\nB\nC\n".encode("utf-16-le"), "line 1 holds a zero byte (is it UTF-16?)"),
    ):
        (tmp_path / "hyp").write_bytes(data)
        message = fails(capsys, "score", "text", "--ref", tmp_path / "ref", "--hyp", tmp_path / "hyp")
        assert words in message and str(tmp_path / "hyp") in message
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in fails(capsys, "score", "text", "--ref", tmp_path / "pipe", "--hyp", tmp_path / "ref")


def test_lines_that_are_no_sentences(tmp_path, capsys):
    (tmp_path / "ref").write_text("A\nB\n")
    for data, words in (
        ("A\n" + "B " * 10_001, "line 2 has 10001 words, 10000 at most; split it"),
        ("A\nB" + "\u0301\u0327" * 50_000, "line 2 piles more than 30 marks on a letter"),  # normalising takes minutes
        ("A\n", "has 1 lines where"),
    ):
        (tmp_path / "hyp").write_text(data, encoding="utf-8")
        message = fails(capsys, "score", "text", "--ref", tmp_path / "ref", "--hyp", tmp_path / "hyp")
        assert words in message and str(tmp_path / "hyp") in message
    (tmp_path / "none").write_text("\n\n")
    assert "has no words" in fails(capsys, "score", "text", "--ref", tmp_path / "none", "--hyp", tmp_path / "none")


def test_a_text_that_no_model_can_read(tmp_path, capsys):
    for text, words in (("\udcff", "no UTF-8"), ("a" + "\u0301" * 40, "piles"), (" ", "is empty")):
        for command in (["gloss", text], ["sign", text, "--out", tmp_path / "x.mp4"]):
            assert words in fails(capsys, *command, "--workdir", tmp_path)


def test_what_is_printed_of_a_database_moves_no_cursor(tmp_path, capsys):
    pose = _pose(6)
    entries = [(Entry(f"A\x1b[2J{i}", "ase\u202e"), pose) for i in range(2)]
    Prior.build(entries, tmp_path / "p", 25.0, problems=["row 2: \x1b[31m"])
    for more in ([], ["--json"]):
        assert main(["prior", "info", str(tmp_path / "p"), *more]) == 0
        said = capsys.readouterr().out
        assert "\x1b" not in said and ("\u202e" not in said or more)


def test_json_has_no_nan():
    values = {"a": [1.5, float("nan"), {"b": float("-inf")}], "c": (2, "ß")}
    assert json.loads(to_json(values), parse_constant=pytest.fail) == {"a": [1.5, None, {"b": None}], "c": [2, "ß"]}


# ---- Pictures --------------------------------------------------------------------------------------------------------


def _halves(height: int = 32, width: int = 32) -> np.ndarray:
    """Red above blue."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, :, 0], picture[height // 2 :, :, 2] = 255, 255
    return picture


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_pictures_of_the_known_kinds(tmp_path, kind):
    Image.fromarray(_halves()).save(tmp_path / f"a.{kind}", quality=100)
    assert (
        np.abs(middle_of(open_picture(str(tmp_path / f"a.{kind}")), (16, 16)).astype(int) - _halves(16, 16)).max() < 40
    )


def test_a_turned_picture_is_set_upright(tmp_path):
    picture = Image.fromarray(np.rot90(_halves()))  # a quarter to the left
    exif = picture.getexif()
    exif[0x0112] = 6  # to be shown a quarter to the right
    picture.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(middle_of(open_picture(str(tmp_path / "a.png")), (32, 32)), _halves())


def test_unusual_pictures(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(middle_of(open_picture(str(tmp_path / "deep.png")), (16, 16))[..., 1], ramp // 257)
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "one.png")
    assert (middle_of(open_picture(str(tmp_path / "one.png")), (8, 8)) == (10, 20, 30)).all()
    palette = Image.fromarray(_halves()).convert("P")
    palette.save(tmp_path / "palette.png", transparency=bytes([255] * 255 + [0]))
    assert middle_of(open_picture(str(tmp_path / "palette.png")), (8, 8)).shape == (8, 8, 3)


def test_what_is_no_picture_of_a_known_kind(tmp_path):
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    assert "is not a picture; give a PNG, JPEG or WebP" in line(open_picture, str(tmp_path / "a.png"))
    for kind in ("GIF", "TIFF", "BMP", "PPM"):
        Image.fromarray(_halves()).save(tmp_path / "b.png", kind)
        assert "is not a picture" in line(open_picture, str(tmp_path / "b.png"))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "c.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "c.png").read_bytes()[:5000])
    assert "damaged picture" in line(open_picture, str(tmp_path / "cut.png"))
    os.mkfifo(tmp_path / "pipe.png")
    assert "no regular file" in line(open_picture, str(tmp_path / "pipe.png"))


def test_a_damaged_note_on_the_camera_is_read_over(tmp_path):
    picture = Image.fromarray(_halves())
    exif = picture.getexif()
    exif[0x0112], exif[0x010F] = 6, "maker" * 9
    picture.save(tmp_path / "a.jpeg", exif=exif, quality=100)
    data = (tmp_path / "a.jpeg").read_bytes()
    place = data.index(b"\x01\x0f\x00\x02") if b"\x01\x0f\x00\x02" in data else data.index(b"\x0f\x01\x02\x00")
    (tmp_path / "a.jpeg").write_bytes(data[: place + 4] + b"\x00\x00\x7f\x00" + data[place + 8 :])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert middle_of(open_picture(str(tmp_path / "a.jpeg")), (32, 32)).shape == (32, 32, 3)


@pytest.mark.parametrize("side", [6001, 10_000, 14_000])  # beyond the bound, and beyond where Pillow warns and refuses
def test_a_large_picture_is_not_decoded(tmp_path, monkeypatch, side):
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    monkeypatch.setattr(PngImageFile, "load", lambda self: pytest.fail("decoded"))
    assert "megapixels that its kind may have; resize it" in line(open_picture, str(tmp_path / "a.png"))


def test_each_kind_has_its_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "_PICTURES", {"PNG": 0.002, "JPEG": 0.003, "WEBP": 0.001})
    monkeypatch.setattr(common, "_PASSES", 0.002)
    for kind, side, more in (
        ("png", 44, {}), ("jpeg", 54, {}), ("jpeg", 44, {"progressive": True}), ("webp", 31, {}),
    ):  # fmt: skip
        Image.new("RGB", (side, side)).save(tmp_path / f"a.{kind}", **more)
        open_picture(str(tmp_path / f"a.{kind}"))
        Image.new("RGB", (side + 1, side + 1)).save(tmp_path / f"a.{kind}", **more)
        assert "megapixels that its kind may have" in line(open_picture, str(tmp_path / f"a.{kind}"))


READ_LARGE = """
import sys
from fuzz import memory
from signer_jax.cli.common import open_picture

found = []
print(memory.grown(lambda: found.append(open_picture(sys.argv[1]))), found[0].mode, *found[0].size)
"""


@pytest.mark.parametrize(
    ("name", "mode", "size", "options"),
    [
        ("a.png", "RGBA", (5900, 6000), {"compress_level": 1}), ("a.png", "P", (6000, 6000), {"compress_level": 1}),
        ("a.jpeg", "RGB", (8000, 8000), {}), ("a.jpeg", "RGB", (6000, 6000), {"progressive": True, "subsampling": 0}),
        ("a.webp", "RGBA", (4000, 3000), {"method": 0}),
    ],
)  # fmt: skip
def test_a_large_picture_takes_little_more_than_its_pixels(tmp_path, name, mode, size, options):
    """A copy in another form, turned or cut, is never made of the whole. Read in a process of its own, where nothing
    that earlier tests left takes memory at the same time.
    """
    Image.new(mode, size, 7).save(tmp_path / name, **options)
    child = subprocess.run(
        [sys.executable, "-c", READ_LARGE, tmp_path / name], stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))},
    )  # fmt: skip
    grown, read_as, *shape = child.stdout.split()
    assert int(grown) < 260 << 20, f"{int(grown) >> 20} MB"
    assert read_as == "RGB" and min(map(int, shape)) < 4096


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "L", "P", "I;16"])
@pytest.mark.parametrize("turned", [1, 6])
def test_a_picture_that_is_made_smaller_is_the_same(tmp_path, monkeypatch, kind, turned):
    """Band by band, by a whole number: the same as its full size made as small."""
    rng = np.random.default_rng(0)
    levels = np.kron(rng.integers(0, 255, (9, 12, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    if kind == "I;16":
        picture = Image.fromarray(levels[..., 0].astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(levels).convert(kind)
    exif = picture.getexif()
    exif[0x0112] = turned
    picture.save(tmp_path / "a.png", exif=exif)
    whole = middle_of(open_picture(str(tmp_path / "a.png")), (9, 9))
    monkeypatch.setattr(common, "_KEPT", 18)
    monkeypatch.setattr(common, "_BAND", 72 * 5)
    small = open_picture(str(tmp_path / "a.png"))
    assert small.size == ((24, 18) if turned == 1 else (18, 24))
    assert np.abs(middle_of(small, (9, 9)).astype(int) - whole).max() <= 2


# ---- Poses and videos ------------------------------------------------------------------------------------------------


def _pose(frames: int, fps: float = 25.0) -> Pose:
    rng = np.random.default_rng(0)
    coordinates = rng.normal(0, 0.3, (frames, 128, 3)).astype(np.float32)
    for name, x in (("right_shoulder", -0.5), ("left_shoulder", 0.5)):
        coordinates[:, skeleton.INDEX[name]] = (x, 0, 0)
    return Pose(coordinates, np.ones((frames, 128), np.float32), fps)


def test_a_single_frame_has_no_jerk_and_says_so(tmp_path, capsys):
    pose_file.write(tmp_path / "a.pose", _pose(1))
    arguments = ["score", "pose", "--ref", tmp_path / "a.pose", "--hyp", tmp_path / "a.pose", "--json", tmp_path / "j"]
    assert main([str(argument) for argument in arguments]) == 0
    written = json.loads((tmp_path / "j").read_text(), parse_constant=pytest.fail)
    still = {name: None for kind in ("velocity", "acceleration", "jerk") for name in (kind, f"{kind}_reference")}
    still |= dict.fromkeys(("total_distance", "total_distance_left", "total_distance_right"))
    equal = ("dtw", "dtw_hand_weighted", "dtw_mje", "dtw_mje_hands", "dtw_mje_slrtp", "dtw_pt", "hand_error", "lacking",
             "mpjpe", "ndtw_mje", "ndtw_p")  # fmt: skip
    assert written["metrics"] == still | dict.fromkeys(equal, 0) | {"duration": 1}
    assert written["floor"] == {name: value for name, value in written["metrics"].items() if "_reference" not in name}
    facts = written["facts"]
    assert "jerk, jerk_reference" in facts["not scored"] and "128" in facts["joints"] and facts["fill"].startswith("1 ")
    assert facts["ndtw_p_signature"].startswith("joints:hands-42|dims:x,y|norm:mean-shoulders|trim:yes|fill:10|")
    assert "25" in facts["fps"] and "0.0%" in facts["missing"] and "shoulder" in facts["normaliser"]
    assert "nan" not in capsys.readouterr().out


def test_layouts_are_compared_by_what_both_have(tmp_path, capsys):
    """A clip in the layout with all the mesh's points, and in the one without the nose: no way round costs the nose."""
    rng = np.random.default_rng(0)
    body = [f"{side}_{part}" for part in ("SHOULDER", "ELBOW", "WRIST") for side in ("LEFT", "RIGHT")]
    data = rng.uniform(10, 90, (12, 1, 90, 3))
    data[:, 0, :2, :2] = [[60, 50], [40, 50]]
    data[..., 2] /= 100
    full = [str(i) for i in pose_file.MESH_OF_IBUG]
    files = {}
    for name, mesh in (("full", full), ("few", full[:27] + full[36:])):
        points = [PoseHeaderComponent("POSE_LANDMARKS", body, [], [(0, 0, 0)], "XYZC"),
                  PoseHeaderComponent("FACE_LANDMARKS", mesh, [], [(0, 0, 0)], "XYZC")]  # fmt: skip
        where = [*range(6), *(6 + full.index(point) for point in mesh)]
        header = PoseHeader(0.2, PoseHeaderDimensions(100, 100, 0), points)
        shown = data[:, :, where].astype(np.float32)
        if name == "few":
            shown[..., :6, :2] += 0.5  # a little off
        files[name] = tmp_path / f"{name}.pose"
        with files[name].open("wb") as file:
            PoseFile(header, NumPyPoseBody(25.0, shown, np.ones(shown.shape[:3], np.float32))).write(file)
    scores = []
    for reference, hypothesis in (("full", "few"), ("few", "full")):
        out = tmp_path / "j"
        arguments = ["score", "pose", "--ref", files[reference], "--hyp", files[hypothesis], "--json", out]
        assert main([str(argument) for argument in arguments]) == 0
        written = json.loads(out.read_text())
        assert "59 of the face, 0 of the hands" in written["facts"]["joints"]
        assert written["facts"]["missing"] == "reference 0.0%, hypothesis 0.0% of these joints in all frames"
        assert written["facts"]["warping"] == "any path"
        scores.append((written["metrics"]["dtw"], written["metrics"]["dtw_hand_weighted"]))
    assert scores[0] == pytest.approx(scores[1]) and 0 < scores[0][0] < 0.05


def test_long_files_are_scored_with_a_bar_and_say_how(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(score, "_SHOWN_PAIRS", 100)
    monkeypatch.setattr(warping, "_EXACT", 100)
    pose_file.write(tmp_path / "a.pose", _pose(60))
    assert main(["score", "pose", "--ref", str(tmp_path / "a.pose"), "--hyp", str(tmp_path / "a.pose")]) == 0
    captured = capsys.readouterr()
    assert "warping: within 500 frames of the straight line" in captured.out and "warping" in captured.err


def test_the_file_that_cannot_be_normalised_is_named(tmp_path, capsys):
    pose = _pose(4)
    pose_file.write(tmp_path / "a.pose", pose)
    pose_file.write(tmp_path / "b.pose", Pose(pose.coordinates, np.zeros_like(pose.confidence), 25.0))
    message = fails(capsys, "score", "pose", "--ref", tmp_path / "a.pose", "--hyp", tmp_path / "b.pose")
    assert str(tmp_path / "b.pose") in message and "both shoulders" in message


def _moving(fps: float, seconds: float = 1.0) -> np.ndarray:
    """A bar that moves by 96 pixels a second over a still ground."""
    ground = np.random.default_rng(0).integers(60, 120, (32, 128, 3), np.uint8)
    ground = np.repeat(np.repeat(ground[::4, ::4], 4, 0), 4, 1)
    clip = np.tile(ground, (round(fps * seconds), 1, 1, 1))
    for i, picture in enumerate(clip):
        left = round(96 * i / fps)
        picture[8:24, left : left + 16] = 240
    return clip


def _score(tmp_path, capsys, ours: float, theirs: float, seconds: float = 1.0) -> dict:
    video.write(tmp_path / "ref.mp4", _moving(theirs), theirs)
    video.write(tmp_path / "hyp.mp4", _moving(ours, seconds), ours)
    arguments = [
        "score",
        "video",
        "--ref",
        tmp_path / "ref.mp4",
        "--hyp",
        tmp_path / "hyp.mp4",
        "--json",
        tmp_path / "j",
    ]
    assert main([str(argument) for argument in arguments]) == 0
    return json.loads((tmp_path / "j").read_text())


def test_frames_are_paired_by_time(tmp_path, capsys):
    for ours, theirs, unused in ((24, 12, 12), (48, 12, 36), (48, 24, 24)):
        written = _score(tmp_path, capsys, ours, theirs)  # each frame of the reference has one of the same instant
        assert written["metrics"]["frames"] == theirs and written["metrics"]["ssim"] > 0.97
        assert written["facts"]["not compared"].startswith("0 frames")
        assert f"{unused} frames of the hypothesis" in written["facts"]["not compared"]
    half = _score(tmp_path, capsys, 12, 24)  # every second frame is half a step late
    assert half["metrics"]["frames"] == 24 and "12 times the same" in half["facts"]["pairs"]
    short = _score(tmp_path, capsys, 24, 24, seconds=0.5)
    assert short["metrics"]["frames"] == 12 and short["metrics"]["ssim"] > 0.97
    assert short["facts"]["not compared"].startswith("12 frames of the reference")


def test_pairs_by_hand():
    from signer_jax.cli.score_video import pair_frames

    def clip(*times):
        return ((time, str(time)) for time in times)

    counts = [0, 0, 0]
    pairs = list(pair_frames(clip(0, 1, 2, 3, 4), clip(0, 1.9, 2.2), 1.5, counts))
    # 1 is nearer to 1.9 than to 0; 3 is shown 2.2 (until 3.7); 4 comes after the end.
    assert pairs == [("0", "0"), ("1", "1.9"), ("2", "1.9"), ("3", "2.2")] and counts == [1, 0, 1]
    counts = [0, 0, 0]
    assert list(pair_frames(clip(0, 10), clip(0, 3, 6, 9, 12, 15), 3, counts)) == [("0", "0"), ("10", "9")]
    assert counts == [0, 4, 0]
    counts = [0, 0, 0]
    assert list(pair_frames(clip(0), clip(), 1, counts)) == [] and counts == [1, 0, 0]


def test_a_large_video_is_not_held(tmp_path, capsys, monkeypatch):
    held, most = [0], [0]
    frames = video.timed_frames

    class Picture(np.ndarray):
        def __del__(self):
            held[0] -= self.base is None

    def counted(path):
        for time, frame in frames(path):
            picture = Picture(frame.shape, frame.dtype)
            picture[:] = frame
            held[0] += 1
            most[0] = max(most[0], held[0])
            yield time, picture

    monkeypatch.setattr(video, "timed_frames", counted)
    assert _score(tmp_path, capsys, 50, 50)["metrics"]["frames"] == 50
    assert most[0] < 12


def test_a_comparison_that_takes_long_shows_how_far_it_is(tmp_path, capsys, monkeypatch):
    video.write(tmp_path / "a.mp4", _moving(12), 12)
    arguments = ["score", "video", "--ref", str(tmp_path / "a.mp4"), "--hyp", str(tmp_path / "a.mp4")]
    assert main(arguments) == 0 and capsys.readouterr().err == ""
    monkeypatch.setattr(score_video, "_SHOWN_AFTER", 0.0)
    assert main(arguments) == 0 and "frames compared" in capsys.readouterr().err


# ---- Outputs that name inputs ----------------------------------------------------------------------------------------


def test_no_output_replaces_an_input(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("A\n")
    (tmp_path / "link").symlink_to("a.txt")
    os.link(tmp_path / "a.txt", tmp_path / "hard")
    for name in ("a.txt", "link", "hard", "../" + tmp_path.name + "/a.txt"):
        message = fails(
            capsys, "score", "text", "--ref", tmp_path / "a.txt", "--hyp", tmp_path / "a.txt", "--json", tmp_path / name
        )
        assert "is --ref too" in message
    assert (tmp_path / "a.txt").read_text() == "A\n"
    Image.new("RGB", (4, 4)).save(tmp_path / "s.mp4", "PNG")
    run = ["sign", "a", "--workdir", tmp_path, "--out"]
    assert "--out" in fails(capsys, *run, tmp_path / "s.mp4", "--style", tmp_path / "s.mp4")
    message = fails(capsys, *run, tmp_path / "x.mp4", "--pose", tmp_path / "x.mp4")
    assert "--pose" in message and "is --out too" in message
    (tmp_path / "folder.mp4").mkdir()
    assert "is a folder" in fails(capsys, *run, tmp_path / "folder.mp4")
    assert "is --source too" in fails(capsys, "prior", "build", "--source", tmp_path, "--out", tmp_path)
    os.mkfifo(tmp_path / "index.json")
    assert "no regular file" in fails(capsys, "prior", "info", tmp_path)
    assert "no regular file" in fails(capsys, "sign", "a", "--prior", tmp_path, "--out", tmp_path / "x.mp4")


def test_a_telephones_jpeg_with_others_behind_it_is_one(tmp_path):
    still = Image.fromarray(_halves())
    still.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[still])
    with Image.open(tmp_path / "a.jpg") as opened:
        assert opened.format == "MPO"
    assert open_picture(str(tmp_path / "a.jpg")).size == still.size
