"""The project's writers, each with the states that it goes through, and how the one that is there is told."""

import json
import os
import re
import shutil
import string
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
from fuzz import files
from safetensors.numpy import load_file

from signer_jax import configuration, report, result, showcase, storage, workdir
from signer_jax.data import records, shards, video
from signer_jax.interop import lora, state_dict
from signer_jax.pose.formats import pose_file
from signer_jax.pose.prior import Entry, Prior
from signer_jax.renderer.latents import LatentStore
from signer_jax.renderer.video_transformer import VideoTransformer
from signer_jax.slul.t5 import T5
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.training import checkpoints, latents
from signer_jax.training.monitoring import Monitor
from signer_jax.types import Pose, Sample
from signer_jax.validation import read


@dataclass(frozen=True)
class Writer:
    name: str
    write: Callable[[Path, int], Any]  # state i, in the folder
    found: Callable[[Path], Any]  # the state that is there; raises for half of one
    state: Callable[[int], Any] = lambda i: i  # what `found` says of state i
    rooms: bool = True  # something of another name lies in the folder while it writes


def _pose(i: int) -> Pose:
    return Pose(np.full((40, 128, 3), i, np.float32), np.ones((40, 128), np.float32), 25.0)


def _same(values: np.ndarray) -> int:
    (value,) = np.unique(values)
    return int(value)


def _read_pose(folder: Path) -> int:
    pose = pose_file.read(folder / "a.pose")
    assert len(pose) == 40
    return _same(pose.coordinates)


def _level(i: int) -> int:
    return 10 + 20 * (i % 12)


def _write_video(folder: Path, i: int) -> None:
    video.write(folder / "a.mp4", np.full((12, 64, 64, 3), _level(i), np.uint8), 25.0)


def _read_video(folder: Path) -> int:
    frames, _ = video.read(folder / "a.mp4")
    assert len(frames) == 12
    return 10 + 20 * round((float(frames.mean()) - 10) / 20)


_SETTINGS = read(configuration.load("demo").to_dict())


def _write_config(folder: Path, i: int) -> None:
    with workdir.claimed(folder / "run", replace(_SETTINGS, log_every=i + 1)):
        pass


def _language(i: int) -> str:
    return "x" + "".join(string.ascii_lowercase[int(digit)] for digit in f"{i:05d}")


def _write_tokenizer(folder: Path, i: int) -> None:
    texts, glosses = ["how do you sign i carried it"] * 3, [("IX", "CARRY")] * 3
    Tokenizer.train(texts, folder / "tokenizer.model", 100, (_language(i),), glosses=glosses)


def _write_report(folder: Path, i: int) -> None:
    rows = [(f"row {k}", float(i)) for k in range(2000)]
    report.write(folder / "report.html", title=f"state {i}", tables=[("all", ("name", "value"), rows, "")])


def _read_report(folder: Path) -> int:
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.endswith("</html>\n") and page.count("<tr>") == 2001
    return int(re.findall(r"<h1>state (\d+)</h1>", page)[0])


def _write_result(folder: Path, i: int) -> None:
    result.write(folder / "result.json", {"step": i, "metrics": {f"name {k}": i / 7 for k in range(3000)}})


def _read_result(folder: Path) -> int:
    values = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert len(values["metrics"]) == 3000
    return values["step"]


def _write_prior(folder: Path, i: int) -> None:
    Prior.build(((Entry(f"G{i}", "ase", variant=k), _pose(i)) for k in range(5)), folder / "prior", 25.0)


def _read_prior(folder: Path) -> int:
    prior = Prior.open(folder / "prior")
    assert len(prior) == 5 and prior.glosses() == (f"G{_same(prior.pose(prior.entries[4]).coordinates)}",)
    return int(prior.glosses()[0][1:])


def _add_to_prior(folder: Path, i: int) -> None:
    """State i has i + 1 signs."""
    if not (folder / "prior").exists():
        Prior.build([(Entry("G0", "ase"), _pose(0))], folder / "prior", 25.0)
    Prior.add(((Entry(f"G{k}", "ase"), _pose(k)) for k in range(i + 1)), folder / "prior")


def _read_added(folder: Path) -> int:
    prior = Prior.open(folder / "prior")
    assert [_same(prior.pose(prior.variants(f"G{k}")[0]).coordinates) for k in range(len(prior))] == [
        *range(len(prior))
    ]
    return len(prior) - 1


def _write_corpus(folder: Path, i: int) -> None:
    spans = np.array([[0, 40]], np.int32)
    clip = np.full((40, 16, 16, 3), i % 256, np.uint8)
    samples = [Sample(f"s{k}", f"text {i}", "ase", ("A",), "x", _pose(i), spans, clip) for k in range(3)]
    records.write(folder / "data", {"train": lambda: samples, "dev": lambda: samples[:1]}, {"languages": {}, "i": i})


def _read_corpus(folder: Path) -> int:
    corpus = records.Corpus(folder / "data")
    i = corpus.about["i"]
    for split, count in (("train", 3), ("dev", 1)):
        for shard in (corpus.texts(split), corpus.motions(split)):
            assert [shard[k].text for k in range(len(shard))] == [f"text {i}"] * count
    return i


def _write_latents(folder: Path, i: int) -> None:
    """To one name; what is there would be used as it is, so it is moved away before."""
    if (folder / "latents").exists():
        shutil.rmtree(folder / "before", ignore_errors=True)
        (folder / "latents").rename(folder / "before")
    clips = [np.zeros((9, 8, 8, 3), np.uint8)] * 3
    corpus = SimpleNamespace(
        size=(8, 8),
        sizes_of=lambda split: [(8, 8)] * len(clips),
        hash=lambda: "corpus",
        listed=lambda split: [(9, True, "x") for _ in clips],
        motions=lambda split: SimpleNamespace(
            frames_at=lambda clip, places_of: clips[clip][places_of(len(clips[clip]))]
        ),
    )
    shown = {"pose": np.full((1, 4, 2), i, np.float32), "confidence": np.ones((1, 4), np.float32)}
    windows = SimpleNamespace(window=lambda motion, start, length: shown)
    vae = SimpleNamespace(temporal_ratio=4, z_dim=4)
    latents.prepare(folder / "latents", corpus, windows, vae, i, window=5, stride=2, references=8, batch=2)  # type: ignore[arg-type]


def _encoder(vae: Any, params: Any, ways: int) -> Callable:
    rng = np.random.default_rng(params)
    return lambda clip: rng.normal(size=(len(clip), 2, 2, 2, 4)).astype(np.float32)


def _read_latents(folder: Path) -> int:
    place = folder / ("latents" if (folder / "latents").exists() else "before")
    opened = LatentStore.open(place)
    windows = shards.Shard(
        place / "train.arrayrecord", lambda record: latents.decode(record, {0: 9, 1: 9, 2: 9}, (2, 2, 2, 4)), ""
    )
    assert [windows[k]["motion"] for k in range(len(windows))] == [0] * 3 + [1] * 3 + [2] * 3
    return int(opened.encoder)


def _write_weights(folder: Path, i: int) -> None:
    state_dict.write(folder / "model", {"value": i}, {"a": np.full(5000, i, np.float32)})


def _read_weights(folder: Path) -> int:
    i = state_dict.read_config(folder / "model")["value"]
    assert _same(state_dict.read_tensors(folder / "model")["a"]) == i
    return i


_T5 = T5(
    vocab_size=40, d_model=16, d_kv=8, d_ff=24, heads=2, encoder_layers=2, decoder_layers=1, relative_buckets=8,
    relative_max_distance=16, activation="gated-gelu", tie_embeddings=False, relative_bias_every_layer=False,
    dropout=0.0,
)  # fmt: skip
_WAN = VideoTransformer(
    in_channels=4, out_channels=4, dim=24, heads=2, ffn_dim=32, layers=3, text_dim=16, freq_dim=32, patch=(1, 2, 2),
    image_dim=None, eps=1e-6,
)  # fmt: skip
_LAYER = {
    lora.save_peft: ("encoder", "layers", "mlp", "wo"),
    lora.save_diffusers: ("layers", "self_attention", "query"),
}


def _lora(save: Callable) -> dict[str, Callable]:
    """An adapter whose values are all the state's."""
    module, layers = (_T5, 2) if save is lora.save_peft else (_WAN, 3)

    def write(folder: Path, i: int) -> None:
        halves = {"lora_a": np.full((layers, 24, 2), i, np.float32), "lora_b": np.full((layers, 2, 24), i, np.float32)}
        tree: dict = halves
        for name in reversed(_LAYER[save]):
            tree = {name: tree}
        save(folder / "lora", module, tree, 1.0)

    def found(folder: Path) -> int:
        storage.check_folder(folder / "lora", "LoRA adapter", "")
        (file,) = (folder / "lora").glob("*.safetensors")
        tensors = load_file(file)
        assert len(tensors) == 2 * layers
        return _same(np.concatenate([tensor.ravel() for tensor in tensors.values()]))

    return {"write": write, "found": found}


_open: list[checkpoints.Checkpoints] = []


def _write_checkpoint(folder: Path, i: int) -> None:
    if not _open:  # as a stage holds them
        _open.append(checkpoints.Checkpoints(folder / "part"))
    params = {"part": {"kernel": jnp.full((64, 64), float(i)), "bias": jnp.full(8, float(i))}}
    _open[0].save(i + 1, {"params": params, "step": jnp.int32(i)}, files._Place())  # type: ignore[arg-type]
    _open[0].wait()


def _read_checkpoint(folder: Path) -> int:
    params = checkpoints.read_params(folder / "part")["part"]
    assert _same(params["kernel"]) == _same(params["bias"])
    return _same(params["bias"])


_monitors: list[Monitor] = []


def _write_curve(folder: Path, i: int) -> None:
    if not _monitors:
        _monitors.append(Monitor(folder / "tensorboard"))
    _monitors[0].scalars("slul", i, {f"loss{k}": float(i) for k in range(20)})


def _read_curve(folder: Path) -> int:
    ((_, series),) = showcase.training_curves(folder / "tensorboard")
    assert len(series) == 20 and len({len(points) for points in series.values()}) == 1
    return max(step for step, _ in series["loss0"])


def _write_carelessly(folder: Path, i: int) -> None:
    """No writer of ours: one that does not write beside and rename."""
    with (folder / "a.json").open("w") as file:
        for _ in range(200):
            print(i, file=file, flush=True)


def _read_careless(folder: Path) -> int:
    values = (folder / "a.json").read_text().split()
    assert len(values) == 200 and len(set(values)) == 1
    return int(values[0])


def _write_json(folder: Path, i: int) -> None:
    storage.write_file(folder / "out.json", storage.to_json({"metrics": [i] * 20_000}))


def _read_json(folder: Path) -> int:
    return _same(np.array(json.loads((folder / "out.json").read_text())["metrics"]))


WRITERS = (
    Writer("exported pose", lambda folder, i: pose_file.write(folder / "a.pose", _pose(i)), _read_pose),
    Writer("exported video", _write_video, _read_video, _level),
    Writer(
        "config.json", _write_config, lambda folder: workdir.load_settings(folder / "run").log_every - 1,
    ),
    Writer(
        "tokenizer", _write_tokenizer, lambda folder: Tokenizer.load(folder / "tokenizer.model").languages[0], _language
    ),
    Writer("report", _write_report, _read_report),
    Writer("result", _write_result, _read_result),
    Writer("scores as JSON", _write_json, _read_json),
    Writer("prior", _write_prior, _read_prior),
    Writer("prior, added to", _add_to_prior, _read_added),
    Writer("records", _write_corpus, _read_corpus),
    Writer("latents", _write_latents, _read_latents),
    Writer("exported weights", _write_weights, _read_weights),
    Writer("LoRA for diffusers", **_lora(lora.save_diffusers)),
    Writer("LoRA for PEFT", **_lora(lora.save_peft)),
    Writer("checkpoints", _write_checkpoint, _read_checkpoint),
    Writer("curves", _write_curve, _read_curve, rooms=False),
    Writer("careless", _write_carelessly, _read_careless, rooms=False),
)  # fmt: skip


def prepare() -> None:
    """What is no part of writing, and would start jax in each of the processes that are killed."""
    import jax

    jax.process_index = lambda *_: 0
    jax.process_count = lambda *_: 1
    latents.encoder_of = _encoder
    latents.fingerprint = str
    os.environ["TQDM_DISABLE"] = "1"
