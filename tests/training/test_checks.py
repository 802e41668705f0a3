"""What does not fit a published model is told before anything is made, and before a tensor is read."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from renderer.tiny_wan import config_of, write_image_encoder, write_text_encoder, write_transformer, write_vae
from slul.tiny_t5 import tiny, weights

from signer_jax.errors import SignerError
from signer_jax.interop import state_dict, t5
from signer_jax.training import run
from signer_jax.validation import read

T2V, I2V = "wan2.1-t2v-1.3b", "wan2.1-i2v-14b"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def config(tmp_path):
    """T2V's: SLUL, and a renderer on published weights with their text encoder."""
    folder = tmp_path / "wan"
    c = config_of(T2V, write_transformer(folder, T2V), write_vae(folder / "vae"), slul=True)
    c.renderer.text_encoder = write_text_encoder(folder)
    return c


def refused(config, tmp_path, monkeypatch) -> str:
    """The one line of a run that must not begin."""

    def nothing(*_):
        raise AssertionError("a tensor was read")

    with monkeypatch.context() as patch:
        patch.setattr(state_dict.FileTensor, "__getitem__", nothing)
        with pytest.raises(SignerError) as error, run.claimed(read(config), tmp_path / "run"):
            raise AssertionError("it was claimed")
    assert not (tmp_path / "run").exists() and "\n" not in str(error.value)
    return str(error.value)


def test_a_run_whose_folders_fit_is_claimed(config, tmp_path):
    with run.claimed(read(config), tmp_path / "run"):
        assert (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"renderer.control_size": 20}, "control_size 20 must be the token grid 2"),
        ({"data.size": (20, 20)}, "data.size 20,20: must be multiples of 8"),
        ({"renderer.window": 6}, "window 6: must be 4n + 1 frames"),
        ({"renderer.overlap": 6}, "overlap 6: must be a multiple of 4 (vae in time), at most half of"),
        ({"renderer.overlap": 8}, "config.renderer.window 5: 0 to 4"),
        ({"renderer.buckets": ("5x20x20",)}, "5x20x20"),
        ({"train.renderer.trains": ("no/such",)}, "'no/such' matches no parameter"),
        ({"train.renderer.trains": ("lora",), "lora.targets": ("no/such",)}, "no/such"),
        (
            {"train.renderer.trains": ("lora",), "lora.targets": ("query/kernel$", "patch_embedding/kernel$")},
            "config.lora.targets: renderer/transformer/patch_embedding is a layer for which diffusers and PEFT have no",
        ),
    ],
)
def test_sizes_and_rules_are_those_of_the_published_modules(config, tmp_path, monkeypatch, values, says):
    config.update_from_flattened_dict(values)
    assert says in refused(config, tmp_path, monkeypatch)


def harmed(folder, **values) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_a_folder_without_its_weights_or_with_others(config, tmp_path, monkeypatch, part):
    folder = tmp_path / "wan" / part
    width = {"transformer": "ffn_dim", "vae": "base_dim", "text_encoder": "d_ff"}[part]
    before = (folder / "config.json").read_text()
    harmed(folder, **{width: 40})
    assert "its config says" in refused(config, tmp_path, monkeypatch)
    (folder / "config.json").write_text(before)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    assert str(folder) in refused(config, tmp_path, monkeypatch)


def test_weights_of_another_variant(config, tmp_path, monkeypatch):
    config.renderer.init = write_transformer(tmp_path / "i2v", I2V)
    assert "takes 12 channels and gives 4 (as wan2.1-i2v-14b, " in refused(config, tmp_path, monkeypatch)


def test_a_tower_without_its_weights(config, tmp_path, monkeypatch):
    config.renderer.variant, config.renderer.init = I2V, write_transformer(tmp_path / "i2v", I2V)
    config.renderer.image_encoder = write_image_encoder(tmp_path / "clip")
    (tmp_path / "clip" / "image_encoder" / "model.safetensors").unlink()
    assert str(tmp_path / "clip") in refused(config, tmp_path, monkeypatch)


def test_a_slul_that_knows_fewer_pieces_than_its_tokenizer(config, tmp_path, monkeypatch):
    import tiny_pipeline

    t5.save(tmp_path / "t5", tiny(vocab_size=50), weights(tiny(vocab_size=50)))
    config.slul.init = str(tmp_path / "t5")
    config.tokenizer.path, config.tokenizer.mask = str(tiny_pipeline.spiece(tmp_path)), "<extra_id_0>"
    monkeypatch.setattr(state_dict, "equal", lambda *_: np.True_)  # whether the head is the table, said by numbers
    assert "its vocabulary of 50 is smaller than the tokenizer's 220" in refused(config, tmp_path, monkeypatch)
    config.tokenizer.dropout = 0.1
    assert "are of a vocabulary that the run trains;" in refused(config, tmp_path, monkeypatch)


def test_no_more_videos_are_decoded_for_the_principal_start_than_it_has_frames(monkeypatch):
    def started(videos: int) -> tuple[list[int], list[int]]:
        decoded, given = [], []

        def video(index: int) -> np.ndarray:
            decoded.append(index)
            return np.full((9, 2, 2, 3), index, np.uint8)

        corpus = SimpleNamespace(
            motions=lambda split: SimpleNamespace(video=video), listed=lambda split: [(9, True, "a")] * videos,
            sizes_of=lambda split: [], size=(2, 2),
        )  # fmt: skip
        monkeypatch.setattr(
            run,
            "initialise_from_frames",
            lambda vae, params, frames: given.extend(((frames[:, 0, 0, 0] + 1) * 127.5).round()),
        )
        run.principal_start(SimpleNamespace(vae=None), {}, corpus, frames=8)
        return decoded, given

    assert started(3) == ([0, 1, 2], [0, 0, 1, 1, 2, 2])
    decoded, given = started(100)
    assert decoded == given == [0, 14, 28, 42, 57, 71, 85, 99]
