"""Every reader: the files that it starts from, how a case harms them, and what must hold of what it gives."""

import contextlib
import hashlib
import io
import json
import struct
import tempfile
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzz import datasets, files, large
from fuzz.mutations import (
    boxes_by_hand,
    harmed,
    npy_by_hand,
    odd_json,
    odd_rows,
    odd_text,
    safetensors_by_hand,
    samples_by_hand,
)
from fuzz.reader import Changes, Reader
from signer_jax import storage, workdir
from signer_jax.back_translation.translator import ABOUT, read_about
from signer_jax.cli import convert
from signer_jax.cli import main as cli
from signer_jax.cli.common import middle_of, open_picture
from signer_jax.data import records, shards, video
from signer_jax.data.corpora import how2sign_clips, openvid, phoenix14t
from signer_jax.errors import SignerError
from signer_jax.interop import clip, lora, state_dict, t5, wan, wan_vae
from signer_jax.interop.prompts import load_tokenizer
from signer_jax.pose import entries
from signer_jax.pose.formats import dwpose, openpose_json, pose_file, skels, slrtp
from signer_jax.pose.prior import Prior
from signer_jax.pose.sources import kinds
from signer_jax.pose.sources.lexicon import read_lexicon
from signer_jax.renderer.latents import LatentStore
from signer_jax.settings import flatten
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.storage import to_json
from signer_jax.training import checkpoints, latents
from signer_jax.types import Pose, Sample
from signer_jax.viewing import votes

_BESIDE = (".files", ".text", ".gloss")  # what a .skels has beside it

# ---- How cases are made ----------------------------------------------------------------------------------------------


def any_of(*names: str) -> Callable[[Path, int, Random], Changes]:
    """One of the files, harmed byte by byte."""

    def harm(folder: Path, case: int, rng: Random) -> Changes:
        name = names[case % len(names)]
        return {name: harmed((folder / name).read_bytes(), case // len(names), rng)}

    return harm


def _pose_harm(folder: Path, case: int, rng: Random) -> Changes:
    name = ("ours.pose", "holistic0.0.pose", "holistic0.1.pose", "holistic0.2.pose")[case % 4]
    data = (folder / name).read_bytes()
    if rng.random() < 0.1:  # values that no camera sees
        place = len(data) - 4 * rng.randrange(1, 60)
        value = rng.choice((float("nan"), float("inf"), -1e38, 1e7, 1e-40, -0.0))
        return {name: data[:place] + struct.pack("<f", value) + data[place + 4 :]}
    return {name: harmed(data, case // 4, rng)}


def _convertible_harm(folder: Path, case: int, rng: Random) -> Changes:
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if not name.endswith((*_BESIDE, storage.MANIFEST))]
    name = names[case % len(names)]
    return {name: _by_kind(folder, name, case // len(names), rng)}


def _lexicon_harm(folder: Path, case: int, rng: Random) -> Changes:
    if rng.random() < 0.6:
        return {"index.csv": odd_rows((folder / "index.csv").read_bytes(), ",", rng)}
    return any_of("index.csv", "a.pose", "b.pose")(folder, case, rng)


def _by_kind(folder: Path, name: str, case: int, rng: Random) -> bytes:
    data = (folder / name).read_bytes()
    if name.endswith(".json") and rng.random() < 0.8:
        return odd_json(data, rng)
    if name.endswith(".npy") and rng.random() < 0.4:
        return npy_by_hand(data, rng)
    return harmed(data, case, rng)


def ours(*names: str) -> Callable[[Path, int, Random], Changes]:
    """A file of a folder of ours; mostly the manifest gives its new size, so that the next check sees it."""

    def harm(folder: Path, case: int, rng: Random) -> Changes:
        name = names[case % len(names)]
        changes = {name: _by_kind(folder, name, case // len(names), rng)}
        if name != storage.MANIFEST and rng.random() < 0.9:
            manifest = json.loads((folder / storage.MANIFEST).read_bytes())
            manifest["files"][name] = len(changes[name])
            changes[storage.MANIFEST] = json.dumps(manifest).encode()
        return changes

    return harm


def _records_harm(samples: Callable[[], list[Sample]]) -> Callable[[Path, int, Random], Changes]:
    """A record's bytes, whole again in a shard (whose own hashes would find them), or the shard's."""

    def harm(folder: Path, case: int, rng: Random) -> Changes:
        name = "train.motion.arrayrecord"
        if case % 3 == 0:
            return ours(name, "train.text.arrayrecord")(folder, case // 3, rng)
        found = samples()
        return {"record": harmed(records.encode(found[case % len(found)]), case // 3, rng)}

    return harm


def _tensor_harm(folder: Path, case: int, rng: Random) -> Changes:
    index, shard = "model.safetensors.index.json", f"model-{case % 2 + 1}-of-2.safetensors"
    if case % 5 == 0:
        return {index: odd_json((folder / index).read_bytes(), rng)}
    if case % 5 == 1:
        return {shard: safetensors_by_hand(rng)}
    return {shard: harmed((folder / shard).read_bytes(), case // 5, rng)}


def _model_harm(folder: Path, case: int, rng: Random) -> Changes:
    kind, weights = (("t5", "model"), ("wan", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"))[case % 3]
    if case % 7 == 0:
        name = f"{kind}/{weights}.safetensors"
        return {name: harmed((folder / name).read_bytes(), case, rng)}
    name = f"{kind}/config.json"
    return {name: odd_json((folder / name).read_bytes(), rng)}


def _t5x_harm(folder: Path, case: int, rng: Random) -> Changes:
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    name = "zarr/checkpoint" if case % 3 == 0 else rng.choice(names)
    if name.endswith((".zarray", "_METADATA")) and rng.random() < 0.5:
        return {name: odd_json((folder / name).read_bytes(), rng)}
    return {name: harmed((folder / name).read_bytes(), case, rng)}


def _prompts_harm(folder: Path, case: int, rng: Random) -> Changes:
    name = ("fast/tokenizer.json", "slow/spiece.model", "fast/tokenizer.json", "slow/tokenizer_config.json")[case % 4]
    return {name: _by_kind(folder, name, case // 4, rng)}


def _tower_harm(folder: Path, case: int, rng: Random) -> Changes:
    name = ("clip/config.json", "clip/model.safetensors")[case % 2]
    return {name: _by_kind(folder, name, case // 2, rng)}


def _adapter_harm(folder: Path, case: int, rng: Random) -> Changes:
    if case % 2:
        name = "lora/adapter_model.safetensors"
        return {name: harmed((folder / name).read_bytes(), case // 2, rng)}
    name = "lora/adapter_config.json"
    return {name: odd_json((folder / name).read_bytes(), rng)}


def _video_harm(folder: Path, case: int, rng: Random) -> Changes:
    name = ("a.mp4", "a.mkv", "a.avi", "a.mov", "a.webm")[case % 5]
    if name == "a.mov" and rng.random() < 0.3:
        return {name: boxes_by_hand(rng)}
    if name == "a.mp4" and rng.random() < 0.2:
        return {name: samples_by_hand((folder / name).read_bytes(), rng)}
    return {name: harmed((folder / name).read_bytes(), case // 5, rng)}


def _checkpoint_harm(folder: Path, case: int, rng: Random) -> Changes:
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    name = names[case % len(names)]
    data = (folder / name).read_bytes()
    if name.endswith("/about/metadata") and rng.random() < 0.7:  # sealed anew, by somebody who wants to be believed
        changed = odd_json(data, rng)
        with contextlib.suppress(ValueError, AttributeError, RecursionError, TypeError):
            about = json.loads(changed)
            about.pop("seal", None)
            seal = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
            changed = json.dumps({**about, "seal": seal}).encode()
        return {name: changed}
    try:
        return {name: odd_json(data, rng) if rng.random() < 0.5 else harmed(data, case // len(names), rng)}
    except ValueError:  # not JSON
        return {name: harmed(data, case // len(names), rng)}


def _phoenix_harm(folder: Path, case: int, rng: Random) -> Changes:
    name, delimiter = (("phoenix14t.train.tsv", "\t"), ("PHOENIX-2014-T.dev.corpus.csv", "|"))[case % 2]
    data = (folder / name).read_bytes()
    return {name: odd_rows(data, delimiter, rng) if rng.random() < 0.6 else harmed(data, case // 2, rng)}


def _openvid_harm(folder: Path, case: int, rng: Random) -> Changes:
    name = ("OpenVidHD.csv", "OpenVidHD.csv", "video/a1.mp4")[case % 3]
    data = (folder / name).read_bytes()
    odd = name.endswith(".csv") and rng.random() < 0.6
    return {name: odd_rows(data, ",", rng) if odd else harmed(data, case // 3, rng)}


def _text_harm(folder: Path, case: int, rng: Random) -> Changes:
    name = ("ref.txt", "hyp.txt")[case % 2]
    data = (folder / name).read_bytes()
    return {name: odd_text(rng) if rng.random() < 0.5 else harmed(data, case // 2, rng)}


def _how2sign_harm(folder: Path, case: int, rng: Random) -> Changes:
    """One clip of two, which is left out, or both, which is refused."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("abcdefghijk_1*") if path.is_file())
    changes = any_of(*names)(folder, case, rng)
    if case % 3 == 0:
        changes |= {name.replace("abcdefghijk_1", "abcdefghijk_2"): data for name, data in changes.items()}
    return changes


# ---- What is read ----------------------------------------------------------------------------------------------------


def _whole(pose: Pose, joints: int = 128) -> None:
    assert pose.coordinates.dtype == pose.confidence.dtype == np.float32, pose.coordinates.dtype
    assert pose.coordinates.shape[1] == joints and pose.coordinates.shape[2] in (2, 3), pose.coordinates.shape
    assert np.isfinite(pose.coordinates).all() and np.abs(pose.coordinates).max(initial=0) <= 1e6
    assert ((pose.confidence >= 0) & (pose.confidence <= 1)).all()
    assert 1 <= pose.fps <= 1000, pose.fps


def _plain(texts: Iterable[str]) -> None:
    for text in texts:
        text.encode("utf-8")


def _read_pose(folder: Path, changes: Changes) -> None:
    _whole(pose_file.read(folder / next(iter(changes))))


_COPIES = {
    openpose_json.KIND: ("a.pose", "a"), dwpose.KIND: ("a.npz", "json", "npy"), skels.KIND: ("a.skels",),
    slrtp.KIND: ("a.gz",), ".pose": ("a.pose", "a"),
}  # fmt: skip


def _read_convertible(folder: Path, changes: Changes) -> None:
    name = next(iter(changes)).partition("/")[0]
    if not name.endswith(_BESIDE):
        for clip in convert.read(folder / name, 25.0):
            _whole(clip.pose)
            _plain((clip.name, clip.text, clip.gloss, clip.speaker, *clip.remarks, *clip.lost))
        with tempfile.TemporaryDirectory() as place:
            for out in _COPIES[convert.kind_of(folder / name)]:
                _, _, said, dropped = convert.copied(folder / name, Path(place) / out, 25.0, None) or (0, 0, {}, [])
                _plain([*said, *dropped])


def _read_lexicon(folder: Path, changes: Changes) -> None:
    signs, problems = read_lexicon(folder)
    for entry, pose in signs:
        _whole(pose)
        _plain((entry.gloss, entry.language, entry.source))
    assert all(len(problem.splitlines()) == 1 and len(problem) < 600 for problem in problems), problems


_SOURCES = {
    "wlasl/WLASL_v0.3.json": 5, "wlasl/forms.csv": 1, "wlasl/a.pose": 1, "corpus/a.json": 5, "corpus/forms.csv": 1,
    "corpus/a.pose": 1,
}  # fmt: skip


def _sources_harm(folder: Path, case: int, rng: Random) -> Changes:
    name = rng.choices(list(_SOURCES), list(_SOURCES.values()))[0]
    return {name: _by_kind(folder, name, case, rng)}


def _read_sources(folder: Path, changes: Changes) -> None:
    for kind in ("wlasl", "corpus"):
        if any(name.startswith(kind) for name in changes):
            poses = {"poses": folder / kind} if kind == "wlasl" else {}
            signs, problems = kinds.read(
                str(folder / kind), "wlasl" if kind == "wlasl" else "continuous", language="gsg", **poses
            )
            for entry, pose in signs:
                _whole(pose)
                entries.check_entry(entry)
            assert all(len(problem.splitlines()) == 1 and len(problem) < 600 for problem in problems), problems


def _read_prior(folder: Path, changes: Changes) -> None:
    prior = Prior.open(folder)
    for entry in prior.entries:
        _whole(prior.pose(entry))
        _plain((entry.gloss, entry.language, entry.signer, entry.source))
    to_json(prior.info()).encode()
    prior.fingerspell("AB")
    prior.rest("")
    for name in ("GOOD", "bad", "12", "none"):
        prior.variants(name)
    assert all(isinstance(value, str) for values in (prior.glosses(), prior.signers, prior.spoken) for value in values)


def _sample(sample: Any) -> None:
    _plain((sample.name, sample.language, sample.signer, *sample.glosses))
    sample.text.encode()
    for pose, spans in ((sample.pose, sample.spans), *sample.references):
        if pose is not None:
            _whole(pose)
        if spans is not None:
            assert spans.dtype == np.int32 and spans.shape[1] == 2, (spans.dtype, spans.shape)
    if sample.video is not None:
        assert sample.video.dtype == np.uint8 and sample.video.ndim == 4 and sample.video.shape[3] == 3


def _read_records(folder: Path, changes: Changes) -> None:
    if "record" in changes:
        _sample(_OneRecord(folder / "record")[0])
        return
    for name in (name for name in changes if name.endswith(".arrayrecord")):
        shard = records.Records(folder / name)
        for i in range(len(shard)):
            _sample(shard[i])


class _OneRecord(records.Records):
    """A shard whose one record is a file's bytes: no container of its own that would find the harm first."""

    def __init__(self, path: Path) -> None:
        self._path, self._decode, self._mend = path, records.decode, storage.REMAKE
        self._source = [path.read_bytes()]


def _read_corpus(folder: Path, changes: Changes) -> None:
    corpus = records.Corpus(folder)
    for split in ("train", "dev"):
        assert isinstance(corpus.count(split, "text"), int)
        for frames, has_video, signer in corpus.listed(split):
            assert frames > 0 and isinstance(has_video, bool)
            _plain([signer])
    for name in ("words", "glosses", "languages"):
        for language, known in corpus.about[name].items():
            _plain([language, *(known if isinstance(known, list) else [known])])
    to_json(corpus.about).encode("utf-8", "backslashreplace")


def _read_phoenix(folder: Path, changes: Changes) -> None:
    split = "train" if "phoenix14t.train.tsv" in changes else "dev"
    for sample in phoenix14t.samples(folder, split):
        _sample(sample)
        assert len(sample.text) <= 100_000


def _read_openvid(folder: Path, changes: Changes) -> None:
    for sample in openvid.samples(folder, sizes=[(16, 16)], fps=10.0, crop=0.5, enlarge=1.0):
        _sample(sample)
        assert sample.video is not None and sample.video.shape[1:] == (16, 16, 3) and sample.text


def _read_how2sign(folder: Path, changes: Changes) -> None:
    for sample in how2sign_clips.samples(folder, "train", size=(16, 16)):
        _sample(sample)
        assert sample.pose is not None and sample.video is not None and len(sample.pose) == len(sample.video)


def _read_video(folder: Path, changes: Changes) -> None:
    path = folder / next(iter(changes))
    assert 0 < video.frame_rate(path) <= 1000
    last = -1.0
    for i, (time, frame) in enumerate(video.timed_frames(path)):
        assert frame.dtype == np.uint8 and frame.ndim == 3 and np.isfinite(time)
        last = max(last, time)
        if i > 200:
            break


def _read_picture(folder: Path, changes: Changes) -> None:
    picture = middle_of(open_picture(str(folder / next(iter(changes)))), (16, 16))
    assert picture.shape == (16, 16, 3) and picture.dtype == np.uint8


def _read_tokenizer(folder: Path, changes: Changes) -> None:
    tokenizer = Tokenizer.load(folder / "tokenizer.model")
    language = tokenizer.languages[0] if tokenizer.languages else "ase"
    ids = tokenizer.encode_source("tomorrow the old house", language)
    assert ids and all(0 <= i < tokenizer.vocab_size for i in ids)
    assert len(tokenizer.cut(ids, 4)) <= 4 and len(tokenizer.gloss_ids) == tokenizer.vocab_size
    glosses = tokenizer.decode_gloss(tokenizer.encode_gloss(["HOUSE", "OLD"]))
    assert all(isinstance(gloss, str) for gloss in glosses)
    tokenizer.gloss_target(("HOUSE", "OLD"), 12)
    tokenizer.unknown_fraction("the 字")


def _read_tensors(folder: Path, changes: Changes) -> None:
    tensors = {name: np.asarray(tensor) for name, tensor in state_dict.read_tensors(folder).items()}
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert all(array.dtype == np.float32 for array in tensors.values())
    assert sum(array.nbytes for array in tensors.values()) <= 2 * size


def _read_model(folder: Path, changes: Changes) -> None:
    kind = next(iter(changes)).partition("/")[0]
    load = {"t5": t5.load, "wan": wan.load_transformer, "vae": wan_vae.load_vae}[kind]
    load(folder / kind)


def _read_t5x(folder: Path, changes: Changes) -> None:
    t5.load(folder / next(iter(changes)).partition("/")[0])


def _read_prompts(folder: Path, changes: Changes) -> None:
    tokenizer = load_tokenizer(folder / next(iter(changes)).partition("/")[0])
    found = tokenizer.batch(["the old house <extra_id_0> \u5b57", "the" * 200], rows=8)
    assert found.ids.shape == (2, 8) and (found.ids >= 0).all() and (found.ids < tokenizer.vocab_size).all()
    assert (found.ids[~found.mask] == tokenizer.pad_id).all()


def _read_tower(folder: Path, changes: Changes) -> None:
    module, params = clip.load(folder / "clip", width=8)
    assert params["layers"]["wi"]["kernel"].shape == (module.layers, 8, module.ffn_dim)


def _read_adapter(folder: Path, changes: Changes) -> None:
    found = lora.load(folder / "lora", files.LINKER, _linker_params())["encoder"]["layers"]["mlp"]["wo"]
    assert found["lora_a"].shape == (1, 8, 2) and found["lora_b"].shape == (1, 2, 8)


_linker_params = cache(files.linker_params)


def _read_checkpoint(folder: Path, changes: Changes) -> None:
    params = checkpoints.read_params(folder / "part")["part"]
    np.testing.assert_array_equal(params["kernel"], np.arange(params["kernel"].size).reshape(params["kernel"].shape))
    np.testing.assert_array_equal(params["bias"], np.ones(8))


def _votes_harm(folder: Path, case: int, rng: Random) -> Changes:
    if case % 2:
        return {"votes.json": _by_kind(folder, "votes.json", case // 2, rng)}
    return ours("key.json", "key.json", "manifest.json")(folder, case // 2, rng)


def _read_votes(folder: Path, changes: Changes) -> None:
    key = votes.read_key(folder)
    found = votes.columns(key, votes.read_votes(key, [folder / "votes.json"]))
    assert np.isin(found.share, (0, 0.5, 1)).all() and (found.one != found.other).all()
    assert max(found.one.max(), found.other.max()) < len(key.systems)


def _read_run(folder: Path, changes: Changes) -> None:
    if "wall_time.json" in changes:
        assert all(np.isfinite(seconds) for seconds in workdir.read_times(folder).values())
        return
    json.dumps(flatten(workdir.load_settings(folder)), allow_nan=False)


def _read_note(folder: Path, changes: Changes) -> None:
    about = read_about(folder / ABOUT)
    assert all(isinstance(gloss, str) for gloss in (*about.glosses, *about.languages, *about.sentences))
    assert 0 < about.fps <= 1000 and isinstance(about.poses + about.held_out + about.too_long, int)


def _read_latents(folder: Path, changes: Changes) -> None:
    opened = LatentStore.open(folder)
    assert all(np.isfinite(x).all() for x in (opened.mean, opened.std, opened.noise_factor))
    for bank in opened.banks.values():
        assert np.isfinite(bank.typical()).all()
        assert np.isfinite(bank.any_but(0, np.random.default_rng(0), dropout=0.0)).all()
    shape = (2, *next(iter(opened.banks.values())).latents.shape[1:])
    decode = partial(latents.decode, motions={0: 5, 1: 5, 2: 5}, shape=shape)
    shard = shards.Shard(folder / "train.arrayrecord", decode, storage.REMAKE)
    for i in range(len(shard)):
        assert np.isfinite(shard[i]["latents"]).all() and shard[i]["motion"] >= 0


def scored(kind: str, ending: str) -> Callable[[Path, Changes], None]:
    """`signer score`, as a user sees it."""

    def read(folder: Path, changes: Changes) -> None:
        said, complained = io.StringIO(), io.StringIO()
        files = ["--ref", str(folder / f"ref{ending}"), "--hyp", str(folder / f"hyp{ending}")]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
            code = cli.main(["score", kind, *files, "--json", str(folder / "out.json")])
        if code:
            line = complained.getvalue()
            assert code == 2 and line.startswith("signer: ") and line.count("\n") == 1, line
            raise SignerError(line.removeprefix("signer: ").removesuffix("\n"))
        assert "nan" not in said.getvalue() and "inf" not in said.getvalue()

        def no_number(name: str) -> None:
            raise AssertionError(name)

        json.loads((folder / "out.json").read_text(encoding="utf-8"), parse_constant=no_number)

    return read


# What large files are read like, and how they are harmed, is the same.
_POSE, _LEXICON = (_pose_harm, _read_pose), (_lexicon_harm, _read_lexicon)
_PRIOR_FILES = ("index.json", "problems.json", "coordinates.npy", "confidence.npy", *entries.FILES, "manifest.json")
_PRIOR = (ours(*_PRIOR_FILES), _read_prior)
_CORPUS = (ours("corpus.json", "corpus.json", "manifest.json"), _read_corpus)
_PHOENIX, _VIDEO = (_phoenix_harm, _read_phoenix), (_video_harm, _read_video)
_TOKENIZER, _TENSORS = (any_of("tokenizer.model"), _read_tokenizer), (_tensor_harm, _read_tensors)
_LATENTS = (ours("statistics.json", "references.npy", "references.npz", "train.arrayrecord"), _read_latents)
_TEXT, _POSES = (_text_harm, scored("text", ".txt")), (any_of("ref.pose", "hyp.pose"), scored("pose", ".pose"))
_VIDEOS = (any_of("ref.mp4", "hyp.mp4"), scored("video", ".mp4"))

READERS = (
    Reader(".pose", 9_000, files.make_poses, *_POSE),
    Reader("poses of other tools", 3_000, files.make_convertible, _convertible_harm, _read_convertible),
    Reader("lexicon folder", 7_940, files.make_lexicon, *_LEXICON),
    Reader("WLASL, timed glosses", 600, files.make_sources, _sources_harm, _read_sources),
    Reader("pose database", 7_900, files.make_prior, *_PRIOR),
    Reader("records", 7_450, files.make_corpus, _records_harm(files.samples), _read_records),
    Reader("corpus.json", 5_940, files.make_corpus, *_CORPUS),
    Reader("OpenVid", 1_000, files.make_openvid, _openvid_harm, _read_openvid),
    Reader("PHOENIX14T", 4_940, files.make_phoenix, *_PHOENIX),
    Reader("votes of a study", 400, files.make_study, _votes_harm, _read_votes),
    Reader("datasets' tables", 1_600, datasets.make, datasets.harm, datasets.read),
    Reader("How2Sign clips", 1_000, files.make_how2sign, _how2sign_harm, _read_how2sign),
    Reader("video", 4_940, files.make_videos, *_VIDEO),
    Reader(
        "picture (--style)", 7_900, files.make_pictures,
        any_of("a.png", "a.jpeg", "a.webp", "turned.jpeg", "palette.png", "deep.png"), _read_picture,
    ),
    Reader("SentencePiece model", 5_940, files.make_tokenizer, *_TOKENIZER),
    Reader("prompts' tokenizer", 800, files.make_prompts, _prompts_harm, _read_prompts),
    Reader("CLIP folder", 400, files.make_tower, _tower_harm, _read_tower),
    Reader("LoRA adapter", 400, files.make_adapter, _adapter_harm, _read_adapter),
    Reader("safetensors and index", 9_850, files.make_tensors, *_TENSORS),
    Reader("T5, Wan, VAE folder", 1_000, files.make_models, _model_harm, _read_model),
    Reader("T5 of t5x", 400, files.make_t5x, _t5x_harm, _read_t5x),
    Reader("checkpoint (Orbax)", 560, files.make_checkpoint, _checkpoint_harm, _read_checkpoint),
    Reader(
        "run's config.json", 2_000, files.make_run,
        lambda folder, case, rng: {
            (name := ("config.json", "config.json", "wall_time.json")[case % 3]): _by_kind(folder, name, case // 3, rng)
        },
        _read_run,
    ),
    Reader("latents", 3_900, files.make_latents, *_LATENTS),
    Reader(
        "back translation's note", 300, files.make_note,
        lambda folder, case, rng: {ABOUT: _by_kind(folder, ABOUT, case, rng)}, _read_note,
    ),
    Reader("score text", 5_660, files.make_texts, *_TEXT),
    Reader("score pose", 2_960, files.make_pose_pair, *_POSES),
    Reader("score video", 960, files.make_video_pair, *_VIDEOS),
    Reader(".pose, large", 200, large.make_poses, *_POSE, large=True),
    Reader("lexicon folder, large", 60, large.make_lexicon, *_LEXICON, large=True),
    Reader("pose database, large", 100, large.make_prior, *_PRIOR, large=True),
    Reader("records, large", 150, large.make_corpus, _records_harm(large.samples), _read_records, large=True),
    Reader("corpus.json, large", 60, large.make_listing, *_CORPUS, large=True),
    Reader("PHOENIX14T, large", 60, large.make_phoenix, *_PHOENIX, large=True),
    Reader("video, large", 60, large.make_videos, any_of("a.mp4"), _read_video, large=True),
    Reader("picture (--style), large", 100, large.make_pictures, any_of(*large.PICTURES), _read_picture, large=True),
    Reader("SentencePiece model, large", 60, large.make_tokenizer, *_TOKENIZER, large=True),
    Reader("safetensors and index, large", 150, large.make_tensors, *_TENSORS, large=True),
    Reader("checkpoint (Orbax), large", 40, large.make_checkpoint, _checkpoint_harm, _read_checkpoint, large=True),
    Reader("latents, large", 100, large.make_latents, *_LATENTS, large=True),
    Reader("score text, large", 40, large.make_texts, _text_harm, scored("text", ".txt"), large=True),
    Reader("score pose, large", 40, large.make_pose_pair, *_POSES, large=True),
    Reader("score video, large", 40, large.make_video_pair, *_VIDEOS, large=True),
)  # fmt: skip
assert sum(reader.share for reader in READERS) == 100_000
