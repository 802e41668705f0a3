"""Tiny valid files of every kind that the project reads, made by the project itself: what the mutations start from."""

import csv
import io
import json
import struct
from dataclasses import asdict, replace
from pathlib import Path

import av
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from interop import t5x_files
from PIL import Image
from safetensors.numpy import save_file

from signer_jax import configuration, storage
from signer_jax.back_translation.translator import ABOUT, About
from signer_jax.data import records, shards, video
from signer_jax.interop import clip, lora, names, state_dict, t5, wan, wan_vae
from signer_jax.pose import skeleton
from signer_jax.pose.formats import clip as clips
from signer_jax.pose.formats import dwpose, openpose_json, pose_file, skels, slrtp
from signer_jax.pose.formats.clip import Clip
from signer_jax.pose.prior import Prior
from signer_jax.pose.sources.lexicon import read_lexicon
from signer_jax.renderer.image_encoder import ImageEncoder
from signer_jax.renderer.vae import VideoVAE
from signer_jax.renderer.video_transformer import VideoTransformer
from signer_jax.slul.t5 import T5
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.training import checkpoints, latents
from signer_jax.types import Pose, Sample
from signer_jax.viewing import study

FRAMES = 6


def pose(frames: int = FRAMES, centre: float = 0.0) -> Pose:
    rng = np.random.default_rng(0)
    coordinates = rng.normal(centre, 20, (frames, 128, 3)).astype(np.float32)
    for name, x in (("right_shoulder", -10), ("left_shoulder", 10)):
        coordinates[:, skeleton.INDEX[name]] = (centre + x, centre, 0)
    return Pose(coordinates, np.ones((frames, 128), np.float32), 25.0)


def pictures(frames: int = FRAMES, size: int = 32) -> np.ndarray:
    rng = np.random.default_rng(0)
    clip = np.repeat(rng.integers(0, 255, (1, size, size, 3), np.uint8), frames, 0)
    for t in range(frames):
        clip[t, 8:16, 2 * t : 2 * t + 8] = 255
    return clip


def pose_bytes(version: float, frames: int = 2, people: int = 1) -> bytes:
    """MediaPipe's body and hands by hand, in an older version of the format."""
    body = [f"{side}_{part}" for side in ("LEFT", "RIGHT") for part in ("SHOULDER", "ELBOW", "WRIST")]
    names = {"POSE_LANDMARKS": ["NOSE", *body], "LEFT_HAND_LANDMARKS": ["WRIST", "THUMB_CMC"]}

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value)) + value.encode()

    out = struct.pack("<fHHHH", version, 640, 480, 0, len(names))
    for name, points in names.items():
        out += text(name) + text("XYZC") + struct.pack("<HHH", len(points), 1, 1)
        out += b"".join(map(text, points)) + struct.pack("<HHHHH", 0, 1, 255, 0, 0)
    count = sum(map(len, names.values()))
    values = np.random.default_rng(0).uniform(1, 400, (frames, people, count, 3)).astype("<f4")
    seen = np.ones((frames, people, count), "<f4")
    if version == 0.0:
        out += struct.pack("<HH", 25, frames)
        for frame in range(frames):
            out += struct.pack("<H", people)
            for person in range(people):
                both = np.concatenate([values[frame, person], seen[frame, person][:, None]], 1)
                out += struct.pack("<h", person) + both.tobytes()
        return out
    head = struct.pack("<fIH", 25.0, frames, people) if version == 0.2 else struct.pack("<HHH", 25, frames, people)
    return out + head + values.tobytes() + seen.tobytes()


def make_poses(folder: Path, frames: int = 2) -> None:
    pose_file.write(folder / "ours.pose", pose(frames))
    for version in (0.0, 0.1, 0.2):
        (folder / f"holistic{version}.pose").write_bytes(pose_bytes(version, frames, people=2))


def make_lexicon(folder: Path) -> None:
    pose_file.write(folder / "a.pose", pose(8))
    (folder / "b.pose").write_bytes(pose_bytes(0.1, 5))
    rows = [
        ["path", "spoken_language", "signed_language", "start", "end", "words", "glosses", "priority"],
        ["a.pose", "en", "ase", "0", "0", "good", "GOOD", "1"],
        ["b.pose", "en", "ase", "0", "200", "bad", "BAD", ""],
        ["a.pose", "en", "gsg", "40", "280", "gut, sehr", "", "2"],
        ["none.pose", "en", "ase", "0", "0", "gone", "GONE", "0"],
    ]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    (folder / "index.csv").write_text(text.getvalue(), encoding="utf-8", newline="")


def make_sources(folder: Path) -> None:
    """WLASL with the pose of an instance, and a sentence with timed glosses, each with forms of words."""
    instance = {"video_id": "a", "signer_id": 3, "variation_id": 0, "frame_start": 2, "frame_end": 7, "split": "train"}
    glosses = {"gloss": ["GUT1*", "TAG"], "start": [0, 160], "end": [120, 320]}
    tables = {
        "wlasl/WLASL_v0.3.json": [{"gloss": "good", "instances": [instance, {**instance, "video_id": "none"}]}],
        "corpus/a.json": {"id": "1", "signer": "x", "sentence": {"start": 0, "end": 320, "glosses": glosses}},
    }
    for name, value in tables.items():
        place = folder / name
        place.parent.mkdir()
        place.write_text(json.dumps(value), encoding="utf-8")
        pose_file.write(place.with_name("a.pose"), pose(8))
        place.with_name("forms.csv").write_text("form,lemma\nbetter,good\nbest,gut\n", encoding="utf-8")


def make_prior(folder: Path) -> None:
    source = folder.with_name(folder.name + ".source")
    source.mkdir()
    make_lexicon(source)
    entries, problems = read_lexicon(source)
    Prior.build(entries, folder, 25.0, problems=problems)


def samples() -> list[Sample]:
    spans = np.array([[0, 3], [3, 6]], np.int32)
    whole, clip = pose(), pictures(size=16)
    both = {"pose": whole, "spans": spans, "references": ((whole, spans),)}
    return [
        Sample("a", "the house is old", "ase", ("HOUSE", "OLD"), "s1", video=clip, **both),  # type: ignore[arg-type]
        Sample("b", "old Ärger", "ase", ("OLD", "ÄRGER"), "s2", **both),  # type: ignore[arg-type]
        Sample("c", "only text", "ase", ("TEXT",)),
        Sample("d", "", "ase", (), "s2", pose=whole, video=clip),
    ]


def make_corpus(folder: Path) -> None:
    about = {"corpus": "builtin", "size": 16, "languages": {"ase": "English"}}
    records.write(folder, {"train": lambda: iter(samples()), "dev": lambda: iter(samples()[:1])}, about)


def make_phoenix(folder: Path, count: int = 4) -> None:
    rows = ["name\tsigner\tgloss\ttext\tnum_frames"]
    rows += [f'a{i}\tSigner0{i}\tMORGEN REGEN NORD\tmorgen regnet es "im norden\t{i}' for i in range(count)]
    (folder / "phoenix14t.train.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    rows = ["name|video|start|end|speaker|orth|translation"]
    rows += [
        f"a{i}|a{i}/1/*.png|-1|-1|Signer01|WOCHENENDE SONNE|am wochenende scheint die sonne ." for i in range(count)
    ]
    (folder / "PHOENIX-2014-T.dev.corpus.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def make_openvid(folder: Path) -> None:
    (folder / "video").mkdir()
    rows = ["video,caption,aesthetic score"]
    for i in range(4):
        video.write(folder / "video" / f"a{i}.mp4", pictures(), 25.0)
        rows.append(f'a{i}.mp4,"a dog, it runs",5.{i}')
    (folder / "OpenVidHD.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def make_how2sign(folder: Path) -> None:
    clips = folder / "sentence_level" / "train" / "rgb_front"
    (clips / "raw_videos").mkdir(parents=True)
    (clips / "features" / "holistic_pose").mkdir(parents=True)
    for number in (1, 2):
        name = f"abcdefghijk_{number}-8-rgb_front"
        video.write(clips / "raw_videos" / f"{name}.mp4", pictures(), 25.0)
        pose_file.write(clips / "features" / "holistic_pose" / f"{name}.pose", pose(centre=16))


def make_videos(folder: Path) -> None:
    video.write(folder / "a.mp4", pictures(), 25.0)
    for name, codec in (("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.mov", "mpeg4"), ("a.webm", "libvpx")):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.height = stream.width = 32
            stream.pix_fmt = "yuv420p"
            for picture in pictures():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())


def make_pictures(folder: Path) -> None:
    still = pictures()[0]
    for kind in ("png", "jpeg", "webp"):
        Image.fromarray(still).save(folder / f"a.{kind}")
    turned = Image.fromarray(still)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpeg", exif=exif)
    Image.fromarray(still).convert("P").save(folder / "palette.png", transparency=bytes([255] * 255 + [0]))
    Image.fromarray((np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)).save(folder / "deep.png")


def make_tokenizer(folder: Path) -> None:
    texts = ["tomorrow i will open the door", "the house is old", "my name is anna", "rain in the north"] * 3
    Tokenizer.train(texts, folder / "tokenizer.model", 120, ["ase", "gsg"], glosses=[["HOUSE", "OLD"], ["IX-1", "#A"]])


def make_tensors(folder: Path, values: int = 6) -> None:
    import ml_dtypes

    first = {"a": np.arange(values, dtype=np.float32), "b": np.ones((2, 3), np.float16), "ids": np.arange(4)}
    second = {"c": np.ones((values // 2, 1), ml_dtypes.bfloat16), "d": np.zeros((0, 2))}
    names = {}
    for i, tensors in enumerate((first, second), 1):
        save_file(tensors, folder / f"model-{i}-of-2.safetensors", metadata={"format": "pt"})
        names |= dict.fromkeys(tensors, f"model-{i}-of-2.safetensors")
    index = {"metadata": {"total_size": 90}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))


def _params(module, *inputs) -> dict:
    shapes = flatten_dict(jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"])
    return unflatten_dict({path: np.ones(leaf.shape, np.float32) for path, leaf in shapes.items()})


def make_t5x(folder: Path) -> None:
    tree = {"target": t5x_files.target_of(LINKER, linker_params(), scanned=True, heads_apart=True)}
    t5x_files.write(folder / "orbax", tree, "orbax")
    (folder / "zarr").mkdir()
    table = tree["target"]["token_embedder"]
    table["embedding"] = t5x_files.write_zarr(folder / "zarr", "table", table["embedding"])
    t5x_files.write(folder / "zarr", tree, "msgpack")


def make_models(folder: Path) -> None:
    t5.save(folder / "t5", LINKER, linker_params())
    transformer = VideoTransformer(
        in_channels=4, out_channels=4, dim=24, heads=2, ffn_dim=8, layers=1, text_dim=8, freq_dim=8, patch=(1, 2, 2),
        image_dim=None, eps=1e-6,
    )  # fmt: skip
    seen = (jnp.zeros((1, 1, 2, 2, 4)), jnp.zeros(1), jnp.zeros((1, 1, 8)))
    wan.save_transformer(folder / "wan", transformer, _params(transformer, *seen))
    vae = VideoVAE(
        base_dim=8, decoder_base_dim=8, z_dim=2, dim_mult=(1, 2), num_res_blocks=1, temporal_downsample=(True,),
        in_channels=3, out_channels=3, patch_size=None, is_residual=False, latents_mean=(0.0, 0.5),
        latents_std=(1.0, 2.5),
    )  # fmt: skip
    wan_vae.save_vae(folder / "vae", vae, _params(vae, jnp.zeros((1, 3, 8, 8, 3))))


LINKER = T5(
    vocab_size=12, d_model=8, d_kv=4, d_ff=8, heads=2, encoder_layers=1, decoder_layers=1, relative_buckets=8,
    relative_max_distance=16, activation="relu", tie_embeddings=True, relative_bias_every_layer=False, dropout=0.0,
)  # fmt: skip


def linker_params() -> dict:
    ids = jnp.zeros((1, 1), jnp.int32)
    return _params(LINKER, ids, ids)


def make_adapter(folder: Path) -> None:
    wo = {"lora_a": np.ones((1, 8, 2), np.float32), "lora_b": np.ones((1, 2, 8), np.float32)}
    lora.save_peft(folder / "lora", LINKER, {"encoder": {"layers": {"mlp": {"wo": wo}}}}, 0.5)


def make_prompts(folder: Path) -> None:
    """A T5 tokenizer's folder in each of its two forms."""
    for name in ("fast", "slow"):
        (folder / name).mkdir()
    make_tokenizer(folder)
    (folder / "tokenizer.model").rename(folder / "slow" / "spiece.model")
    (folder / "slow" / "tokenizer_config.json").write_text('{"extra_ids": 2}')
    steps = [{"type": "Strip"}, {"type": "Precompiled", "precompiled_charsmap": ""}]
    pieces = [["<pad>", 0], ["</s>", 0.0], ["<unk>", 0.0], ["\u2581the", -1.5], ["old", -2.0], ["\u2581", -3.0]]
    fast = {
        "added_tokens": [{"id": i, "content": text} for i, text in ((0, "<pad>"), (1, "</s>"), (6, "<extra_id_0>"))],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": {"type": "Metaspace"},
        "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces, "byte_fallback": False},
    }
    (folder / "fast" / "tokenizer.json").write_text(json.dumps(fast))


def make_tower(folder: Path) -> None:
    """CLIP's vision tower of two blocks, of which the last is not read."""
    config = {
        "model_type": "clip_vision_model", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 8, "patch_size": 4, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
    }  # fmt: skip
    module = ImageEncoder(8, 2, 8, 2, 8, 4, "gelu", 1e-5)
    tensors = names.to_theirs(clip.table_of(module), _params(module, jnp.zeros((1, 8, 8, 3))))
    state_dict.write(folder / "clip", config, tensors)


class _Place:
    """Stands for the data's position."""

    def get_state(self) -> dict:
        return {"next": 3}

    def set_state(self, state: dict) -> None:
        assert state == {"next": 3}


def make_checkpoint(folder: Path, side: int = 8) -> None:
    params = {"part": {"kernel": jnp.arange(float(side * side)).reshape(side, side), "bias": jnp.ones(8)}}
    with checkpoints.Checkpoints(folder / "part") as saved:
        saved.save(3, {"params": params, "step": jnp.int32(3)}, _Place())  # type: ignore[arg-type]


def make_run(folder: Path) -> None:
    config = configuration.load("demo")
    values = {"made_by": storage.MADE_BY, **config.to_dict()}
    (folder / "config.json").write_text(json.dumps(values, indent=1) + "\n")
    (folder / "wall_time.json").write_text(json.dumps({"slul": 1.5, "evaluate": 2}) + "\n")


def make_note(folder: Path) -> None:
    about = About("builtin", 16.0, ["ase", "gsg"], ["DOG", "OLD"], 2, 1, 0, ["0" * 16, "f" * 16])
    (folder / ABOUT).write_text(storage.to_json(asdict(about)))


def make_latents(folder: Path, side: int = 4) -> None:
    rng = np.random.default_rng(0)
    rows, z = 12, 4
    with storage.new_folder(folder, latents.KIND) as partial:
        with shards.new_shard(partial / "train.arrayrecord") as write:
            for motion in range(3):
                value = rng.normal(size=(2, side, side, z)).astype(np.float32)
                write(shards.pack({"motion": motion, "start": 0, "latents": value}))
        np.save(partial / "references.npy", rng.normal(size=(rows, side, side, z)).astype(np.float32))
        seen = {"pose": rng.normal(size=(rows, 5, 2)).astype(np.float32), "confidence": np.ones((rows, 5), np.float32)}
        np.savez(partial / "references.npz", **seen, motion=np.arange(rows) // 4)
        about = {
            "encoder": "0" * 64,
            "mean": [0.0] * z,
            "std": [1.0] * z,
            "window": 5,
            "references": {"s1": 8, "s2": 4},
        }
        (partial / "statistics.json").write_text(json.dumps(about, indent=1) + "\n")


def make_texts(folder: Path) -> None:
    (folder / "ref.txt").write_text("A B C\nHOUSE OLD\nÄ\n", encoding="utf-8")
    (folder / "hyp.txt").write_text("A C\nHOUSE OLD\nÄ Ä\n", encoding="utf-8")


def make_pose_pair(folder: Path, frames: int = FRAMES) -> None:
    for name in ("ref", "hyp"):
        pose_file.write(folder / f"{name}.pose", pose(frames))


def make_video_pair(folder: Path, size: int = 32) -> None:
    for name in ("ref", "hyp"):
        video.write(folder / f"{name}.mp4", pictures(size=size), 25.0)


def make_convertible(folder: Path) -> None:
    """A clip in each format that `signer convert` reads, and a frame of two people."""
    found = Clip("a", pose(4, centre=0.5), clips.SHARES, (480, 640), text="the house", gloss="HOUSE")
    for kind in dwpose.KINDS:
        dwpose.write(folder / f"a.{kind}", found, kind)
    arrays = {"bodies": (36, 2), "body_scores": (2, 18), "hands": (4, 21, 2), "hands_scores": (4, 21)}
    arrays |= {"faces": (2, 68, 2), "faces_scores": (2, 68)}
    rng = np.random.default_rng(0)
    with (folder / "own.npz").open("wb") as file:
        np.savez(file, **{name: rng.uniform(size=shape) for name, shape in arrays.items()})
    pixels = clips.scaled(found, "")
    openpose_json.write(folder / "openpose", pixels)
    skels.write(folder / "a.skels", iter([pixels, pixels]))
    for layout in (skels.V1, skels.V2025):
        skels.write(folder / f"{layout}.skels", iter([replace(found, layout=layout)]))
    for ending in (".pkl", ".gz"):
        slrtp.write(folder / f"a{ending}", iter([pixels]))


def make_study(folder: Path) -> None:
    """A study's key, in a folder of its kind, and beside it what a rater saved."""
    videos = {f"{number:04d}": {"system": "ab"[number % 2], "clip": f"clip{number // 2}"} for number in range(6)}
    trials = [{"name": f"t{i}", "left": f"{2 * i:04d}", "right": f"{2 * i + 1:04d}"} for i in range(3)]
    key = {"study": "0123", "question": "Which?", "seed": 3, "systems": ["a", "b"], "videos": videos, "trials": trials}
    with storage.new_folder(folder, study.KIND) as partial:
        (partial / study.KEY).write_text(json.dumps(key))
    votes = [{"trial": trial["name"], "left": trial["right"], "right": trial["left"], "choice": choice, "seconds": 2.5}
             for trial, choice in zip(trials, ("left", "right", "same"), strict=True)]  # fmt: skip
    (folder / "votes.json").write_text(json.dumps({"study": "0123", "rater": "anna", "votes": votes}))
