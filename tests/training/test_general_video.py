"""Stage 1: a published model on captioned videos without poses, then sign video from what it has become."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from renderer import tiny_wan

from signer_jax import configuration
from signer_jax.cli.main import main
from signer_jax.cli.train import finish
from signer_jax.data import video
from signer_jax.errors import SignerError
from signer_jax.interop import wan
from signer_jax.pipeline import Signer
from signer_jax.renderer.variants import find
from signer_jax.stations.render import style
from signer_jax.training import run
from signer_jax.training.checkpoints import read_params
from signer_jax.training.text_states import TextStates
from signer_jax.validation import read

T2V, ANIMATE = "wan2.1-t2v-1.3b", "wan2.2-animate-14b"
CAPTIONS = {"a.mp4": "a dog runs", "b.mp4": "rain", "c.mp4": "a man reads"}


def write_videos(folder: Path) -> Path:
    (folder / "video").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in CAPTIONS:
        frames = np.repeat(np.repeat(rng.integers(0, 255, (20, 6, 8, 3), np.uint8), 4, axis=1), 4, axis=2)
        video.write(folder / "video" / name, frames, 25.0)
    rows = ["video,caption", *(f"{name},{caption}" for name, caption in CAPTIONS.items())]
    (folder / "OpenVidHD.csv").write_text("\n".join(rows) + "\n")
    return folder


def tiny(config, name: str, folder: Path):
    """A config at the sizes of the tiny models: 16 pixels, 5 frames."""
    small = tiny_wan.config_of(name, str(folder), str(folder / "vae"))
    for section in ("pose", "tokenizer", "slul", "evaluate", "mesh"):
        config[section].update(small[section])
    for key in ("init", "window", "control_size"):
        config.renderer[key] = small.renderer[key]
    config.data.size, config.data.crop, config.vae.init = 16, 0.3, small.vae.init
    config.renderer.text_encoder = str(folder)
    config.renderer.stride, config.renderer.steps, config.renderer.control_channels = 4, 2, (8, 8, 8)
    config.renderer.overlap = 0
    config.train.renderer.steps, config.train.renderer.warmup, config.train.renderer.batch = 2, 1, 8
    config.train.renderer.learning_rate = 1e-3
    config.dtype, config.remat, config.checkpoint_every, config.train.renderer.ema = "float32", False, 1, 0.0
    config.lora.rank = 2
    return config


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    def of(name: str) -> Path:
        folder = tmp_path_factory.mktemp("weights")
        tiny_wan.write_transformer(folder, name)
        tiny_wan.write_vae(folder / "vae")
        tiny_wan.write_text_encoder(folder)
        return folder

    return of


def general(name: str, source: Path, folder: Path):
    config = tiny(configuration.shipped("wan_general", name), name, folder)
    config.data.source = str(source)
    return config


def leaves(tree) -> dict[str, np.ndarray]:
    return flatten_dict(jax.device_get(tree), sep="/")


@pytest.mark.slow
def test_general_video_and_then_sign_video(weights, tmp_path, capsys):
    folder, source = weights(T2V), write_videos(tmp_path / "openvid")
    config = general(T2V, source, folder)
    config.evaluate.split = "dev"  # nothing is there to score, which is no fault
    finish(config, tmp_path / "general")
    known = TextStates.open(tmp_path / "general" / "text_states")
    before, learned = wan.load_transformer(folder / "transformer")[1], Signer.load(tmp_path / "general")
    assert learned.corpus.listed("train") == [(13, True, name) for name in CAPTIONS]  # .8 seconds at 16 a second
    assert known.places.keys() >= set(CAPTIONS.values())
    now = leaves(learned.params["renderer"])
    assert not any(path.startswith("control/") for path in now)
    assert any((now[f"transformer/{path}"] != value).any() for path, value in leaves(before).items())
    pose_free = style(learned.studio)
    assert pose_free.reference.shape == (4, 4, 4)

    # ---- Sign video goes on from it ----------------------------------------------------------------------------------
    out = tmp_path / "exported"
    assert main(["export", "wan", str(tmp_path / "general"), "--out", str(out)]) == 0
    config = tiny(configuration.shipped("wan_t2v_1_3b"), T2V, out)
    config.renderer.text_encoder = str(folder)
    small = tiny_wan.config_of(T2V, "", "")
    config.stages = ("renderer",)
    for kind in ("sentences", "poses", "videos"):
        config.data[kind].update(small.data[kind])
    config.evaluate.split = ""
    finish(config, tmp_path / "sign")
    after = leaves(Signer.load(tmp_path / "sign").params["renderer"])
    assert any(path.startswith("control/") for path in after)
    for path, value in now.items():  # the branch alone trained beside it
        np.testing.assert_array_equal(after[path], value, err_msg=path)
    capsys.readouterr()


@pytest.mark.slow
def test_what_reads_poses_is_not_moved_by_videos_without(weights, tmp_path):
    folder, source = weights(ANIMATE), write_videos(tmp_path / "openvid")
    settings = read(general(ANIMATE, source, folder))
    assert settings.train.renderer.trains == ("lora",) and find(ANIMATE).pose == "tokens"
    with run.claimed(settings, tmp_path / "run"):
        _, params = run.train(settings, tmp_path / "run")
    before, now = (leaves(tree) for tree in (wan.load_transformer(folder / "transformer")[1], params["renderer"]))
    moved = {path for path, value in before.items() if (now[f"transformer/{path}"] != value).any()}
    assert moved and not [path for path in moved if "pose_patch" in path or "face" in path or "motion" in path]
    assert all("lora" in path for path in leaves(read_params(tmp_path / "run" / "checkpoints" / "renderer")))


@pytest.mark.parametrize("control", ["branch", "variant"])
def test_a_control_that_nothing_would_teach_is_one_line_before_anything_is_written(weights, tmp_path, control):
    folder, source = weights(T2V), write_videos(tmp_path / "openvid")
    config = general(T2V, source, folder)
    config.renderer.control = control
    with (
        pytest.raises(SignerError, match=f"config.renderer.control '{control}': the videos of openvid have no poses"),
        run.claimed(read(config), tmp_path / "run"),
    ):
        pass
    assert not (tmp_path / "run").exists()
