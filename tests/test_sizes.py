"""Videos of any height and width: what says the size, and that nothing is stretched in a rectangle."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from conftest import TINY
from PIL import Image

from signer_jax import configuration, workdir
from signer_jax.cli.common import middle_of
from signer_jax.data import records
from signer_jax.data import video as videos
from signer_jax.data.builtin import avatar, corpus
from signer_jax.errors import SignerError
from signer_jax.pose import draw, rasterise, skeleton
from signer_jax.renderer import pose_picture
from signer_jax.types import Pose, Sample
from signer_jax.validation import read

WIDE, TALL, SQUARE = (32, 64), (64, 32), (32, 32)
CHANNELS = skeleton.limb_groups(skeleton.JOINTS)


def middle(pictures: np.ndarray) -> np.ndarray:
    """The middle square of `[t, y, x, c]`."""
    side = min(pictures.shape[1:3])
    top, left = ((length - side) // 2 for length in pictures.shape[1:3])
    return pictures[:, top : top + side, left : left + side]


@pytest.fixture(scope="module")
def pose() -> Pose:
    return corpus.perform(corpus.read("i carry a book", "ase"), "amira", 3)[0].slice(4, 8)


# ---- What says the size ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"), [("64", (64, 64)), ("480,832", (480, 832)), ("(480, 832)", (480, 832)), ("(64,)", (64, 64))]
)
def test_an_override_is_a_number_or_height_and_width(given, meant):
    for before in ((64, 64), 64):  # a config may have either
        config = configuration.shipped("phoenix14t")
        config.data.size = before
        configuration.apply(config, f"--config.data.size={given}")
        assert read(config).data.size == meant


@pytest.mark.parametrize("given", ["1,2,3", "64,7", "64.5", "a", "", "4097,64", "true"])
def test_other_sizes_are_refused(given):
    config = configuration.shipped("phoenix14t")
    with pytest.raises(SignerError, match="data.size"):
        configuration.apply(config, f"--config.data.size={given}")
        read(config)


def test_a_run_of_before_goes_on(tmp_path):
    """Its config.json says one number: the square that it was."""
    settings = read(configuration.load(TINY))
    values = {"made_by": "signer_jax", **asdict(settings)}
    values["data"]["size"] = 32
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "checkpoints" / "slul" / "2").mkdir(parents=True)
    assert workdir.load_settings(tmp_path) == settings
    assert workdir.check_claim(tmp_path, settings) == []
    with pytest.raises(SignerError, match=r"data.size was \[32, 32\], is now \[32, 64\]"):
        workdir.check_claim(tmp_path, read(configuration.load(TINY, ["--config.data.size=32,64"])))


def test_a_corpus_of_before_says_a_squares_side(tmp_path):
    still = Pose(np.zeros((2, 128, 3), np.float32), np.ones((2, 128), np.float32), 16.0)

    def made(name: str, size: object, video: tuple[int, int]) -> records.Corpus:
        sample = Sample("s", "", "ase", pose=still, video=np.zeros((2, *video, 3), np.uint8))
        return records.write(tmp_path / name, {"train": lambda: [sample]}, {"languages": {}, "size": size})

    assert made("before", 8, (8, 8)).size == (8, 8)
    for name, size in (("now", [8, 16]), ("before", 8)):
        found = records.Corpus(tmp_path / name) if name == "before" else made(name, size, (8, 16))
        assert found.motions("train").video(0).shape[0] == 2
    with pytest.raises(SignerError, match="its video is 8x16, corpus.json's size 16x8"):
        made("other", [8, 16], (16, 8)).motions("train").video(0)
    for size in ([8], [8, 8, 8], [8, 0], [8, "8"], {"a": 1}, [True, 8]):
        with pytest.raises(SignerError, match="a size that is none"):
            made(f"bad{size}", size, (8, 8))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["data.size=32,60"], "size 32,60: must be multiples of 16 (VAE 4 x stem 2 x patch 2): width 48 or 64"),
        (["data.size=33,70"], "multiples of 4 (vae.patch_size and the levels): height 32 or 36, width 68 or 72"),
        (["data.size=32,64", "renderer.control_size=36"], "a multiple of the latents' height 8 (data.size 32 / VAE 4): "
                                                          "32 or 40"),
        (["data.size=32,64", "renderer.control_size=24", "renderer.stem_features="], "up to 2^3: 4, 8, 16, 32"),
        (["renderer.control_size=1", "renderer.stem_features="], "control_size 1 must be the token grid 4"),
        (["renderer.control_channels=64,100,8", "renderer.stem_features="],
         "control_channels 64,100,8: each must be a multiple of 8, the groups that they are normed in (a quarter of "
         "the first, at most 8); in place of 100 take 96 or 104"),
        (["renderer.buckets='9x32x96',"], "renderer.buckets: 9x32x96 fits no training clip (height x width 32x32;"),
        (["vae.window=4"], "config.vae.window 4: must be 2n + 1 frames (the autoencoder's); the nearest are 3 and 5"),
    ],
)  # fmt: skip
def test_a_size_that_does_not_fit_is_told_with_the_nearest(overrides, says, tmp_path):
    from signer_jax.training import run

    with pytest.raises(SignerError) as error:
        settings = read(configuration.load(TINY, [f"--config.{one}" for one in overrides]))
        with run.claimed(settings, tmp_path / "w"):
            pass
    assert says in str(error.value) and "\n" not in str(error.value) and not (tmp_path / "w").exists()


# ---- Nothing is stretched --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [WIDE, TALL, (480, 832)])
def test_the_view_has_one_scale_and_the_signer_in_its_middle(size):
    side = min(size)
    points = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    shift = (np.array(size[::-1]) - side) / 2
    expected = skeleton.to_pixels(points, side) + shift
    np.testing.assert_allclose(skeleton.to_pixels(points, *size), expected, rtol=1e-6)
    assert skeleton.view(*size)[0] == side / skeleton.VIEW_SIDE


@pytest.mark.parametrize("size", [WIDE, TALL])
def test_the_middle_of_every_picture_is_the_squares(pose, size):
    """Drawn signers, skeletons, both control pictures: a rectangle shows more beside or above, at the same scale."""
    flat, seen = pose.coordinates[None, ..., :2], pose.confidence[None]
    shapes = pose_picture.shapes(skeleton.JOINTS, face=True)
    drawings = {
        "avatar": lambda size: avatar.render(pose.coordinates, "teal", size),
        "skeleton": lambda size: draw.draw(pose, size),
        "limbs": lambda size: 255 * np.asarray(rasterise.rasterise(flat, seen, CHANNELS, size))[0],
        "dwpose": lambda size: (
            255 * np.asarray(pose_picture.draw(flat, seen, shapes, size, threshold=0.3, softness=0.5))[0]
        ),
    }
    for name, drawing in drawings.items():
        whole, square = drawing(size), drawing(SQUARE)
        assert whole.shape[:3] == (len(pose), *size), name
        np.testing.assert_allclose(middle(whole).astype(float), square.astype(float), atol=2, err_msg=name)
        assert square.std() > 5, name


def test_a_style_picture_is_cropped_to_the_aspect_by_its_middle():
    y, x = np.mgrid[:60, :90]
    picture = Image.fromarray(np.stack([2 * x, 2 * y, 0 * x], -1).astype(np.uint8))
    for size, (top, left, down, across) in {
        (30, 30): (0, 15, 60, 60), (30, 60): (8, 0, 45, 90), (60, 20): (0, 35, 60, 20), (20, 30): (0, 0, 60, 90),
    }.items():  # fmt: skip
        found = middle_of(picture, size).astype(float)
        assert found.shape == (*size, 3)
        red = 2 * (left + (np.arange(size[1]) + 0.5) * across / size[1] - 0.5)
        green = 2 * (top + (np.arange(size[0]) + 0.5) * down / size[0] - 0.5)
        np.testing.assert_allclose(found[..., 0], np.broadcast_to(red, size), atol=2)
        np.testing.assert_allclose(found[..., 1], np.broadcast_to(green[:, None], size), atol=2)


# ---- The whole chain -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide_run(tmp_path_factory):
    """The tiny run at 32 x 64, three steps a stage, none of them by Muon, which takes longest to compile."""
    from signer_jax import showcase
    from signer_jax.cli.train import finish

    steps = [f"--config.train.{stage}.steps=3" for stage in ("slul", "pose", "vae", "images", "renderer", "joint")]
    steps += ["--config.train.images.optimizer=adamw", "--config.train.images.learning_rate=2e-3"]
    place = tmp_path_factory.mktemp("wide") / "run"
    config = configuration.load(TINY, ["--config.data.size=32,64", "--config.evaluate.videos=1", *steps])
    finish(config, place, showcase.show)
    return place


@pytest.mark.slow
def test_a_rectangular_run_trains_evaluates_and_signs(wide_run, tmp_path, capsys):
    from signer_jax.cli.main import main
    from signer_jax.pipeline import Signer

    assert json.loads((wide_run / "config.json").read_text())["data"]["size"] == [32, 64]
    assert json.loads((wide_run / "data" / "corpus.json").read_text())["size"] == [32, 64]
    metrics = json.loads((wide_run / "result.json").read_text())["metrics"]
    assert {"video/ssim", "video/hand_ssim", "video/detail"} <= metrics.keys()
    assert b"<video" in (wide_run / "report.html").read_bytes()
    shown, _ = videos.read(wide_run / "sign.mp4")
    assert shown.shape[1:3] == (256, 3 * 512)  # skeleton, rendered signer, ground truth

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8)).save(tmp_path / "style.png")
    out = ["--out", str(tmp_path / "a.mp4"), "--pose", str(tmp_path / "a.pose"), "--style", str(tmp_path / "style.png")]
    assert main(["sign", "i see you", "--workdir", str(wide_run), *out]) == 0
    frames, _ = videos.read(tmp_path / "a.mp4")
    assert frames.shape[1:3] == (8 * 32, 8 * 64)  # small videos are enlarged

    signer = Signer.load(wide_run)
    assert signer.studio.size == WIDE and signer.sign("i see you").video.shape[1:3] == WIDE
    # Shoulder width against the length of the torso, for people and for the renderer (which sees no hips: arms hang).
    body = np.zeros((1, 1, 128, 2), np.float32)
    for side, x in (("right", -0.5), ("left", 0.5)):
        for joint, y in {"shoulder": 0, "elbow": 0.6, "wrist": 1.2, "hip": 1.2}.items():
            body[0, 0, skeleton.INDEX[f"{side}_{joint}"]] = x, y
    seen = np.zeros((1, 1, 128), np.float32)
    seen[..., [i for name, i in skeleton.INDEX.items() if name.endswith(("shoulder", "elbow", "wrist", "hip"))]] = 1
    joints, r = signer.model.joints, signer.model.renderer
    for drawing in (
        lambda size: draw.draw(Pose(body[0], seen[0], 16.0), size)[0] / 255,
        lambda size: np.asarray(r.draw(body[:, :, joints], seen[:, :, joints], (size[0] // 4, size[1] // 4)))[0, 0],
    ):
        wide, square = drawing(WIDE).max(-1), drawing(SQUARE).max(-1)
        assert wide.shape == WIDE and extent(wide) == extent(square)
        assert 1.0 < extent(wide)[0] / extent(wide)[1] < 1.25, "1.2 shoulder widths long"


def extent(picture: np.ndarray) -> tuple[int, int]:
    """Height and width in pixels of what is drawn."""
    rows, columns = (np.flatnonzero(picture.max(axis) > 0.25) for axis in (1, 0))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
