"""Folders of ours that others gave: no link leads out, nothing is waited for, no name smears the page."""

import json
import os
import stat
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fuzz import files, memory

from signer_jax import configuration, showcase, storage, workdir
from signer_jax.data import records
from signer_jax.data.corpora import how2sign_clips
from signer_jax.errors import SignerError, one_line, piled
from signer_jax.pose.entries import FILES
from signer_jax.pose.formats import pose_file
from signer_jax.pose.prior import Entry, Prior
from signer_jax.pose.sources.lexicon import read_lexicon
from signer_jax.renderer.latents import LatentStore
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.training import checkpoints, contents, partitioning
from signer_jax.types import Pose, Sample
from signer_jax.validation import read

ZALGO = "e" + "\u0301\u0489\u20dd" * 11  # marks of all kinds: over, through and around a letter


def line(function, *arguments) -> str:
    with pytest.raises(SignerError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def listed(folder: Path, name: str, is_listed: bool) -> None:
    """The manifest with or without a file."""
    manifest = json.loads((folder / storage.MANIFEST).read_bytes())
    if is_listed:
        manifest["files"][name] = (folder / name).stat().st_size
    else:
        manifest["files"].pop(name)
    (folder / storage.MANIFEST).write_text(json.dumps(manifest))


def corpus(folder: Path) -> None:
    opened = records.Corpus(folder)
    for shard in (opened.texts("train"), opened.motions("train")):
        _ = [shard[i] for i in range(len(shard))]


# What makes a folder, what reads it, and the files that it reads.
OURS = {
    "prior": (
        files.make_prior, Prior.open, ("index.json", "problems.json", "coordinates.npy", "confidence.npy", *FILES),
    ),
    "corpus": (files.make_corpus, corpus, ("corpus.json", "train.text.arrayrecord", "train.motion.arrayrecord")),
    "latents": (
        files.make_latents, LatentStore.open,
        ("statistics.json", "references.npy", "references.npz", "train.arrayrecord"),
    ),
}  # fmt: skip
EACH = [(kind, name) for kind, (_, _, names) in OURS.items() for name in (*names, storage.MANIFEST)]


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_a_file_of_ours_is_a_listed_plain_file_in_its_folder(tmp_path, kind, name):
    make, opened, _ = OURS[kind]
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder)
    opened(folder)
    (tmp_path / "whole").symlink_to(folder)
    opened(tmp_path / "whole")  # the user's own path may be a link
    file = folder / name
    file.rename(tmp_path / "outside")
    file.symlink_to(tmp_path / "outside")
    assert "is a link out of its folder" in line(opened, folder)
    file.unlink()
    (tmp_path / "outside").rename(folder / "inside")
    file.symlink_to("inside")
    opened(folder)  # a link that stays in the folder leads to nothing of others
    file.unlink()
    os.mkfifo(file)
    line(opened, folder)
    if name != storage.MANIFEST:
        listed(folder, name, False)  # what nobody looked at is not opened either
        assert "does not list" in line(opened, folder)


STATE = {"params": {"part": {"kernel": jnp.zeros((8, 8)), "bias": jnp.ones(8)}}, "step": jnp.int32(0)}


def saved(folder: Path) -> Path:
    files.make_checkpoint(folder)
    return folder / "part" / "3"


def test_a_checkpoint_is_read_from_its_own_folder(tmp_path):
    step = saved(tmp_path / "run")
    inside = [path for path in step.rglob("*") if path.is_file()]
    assert len(inside) > 5
    for file in inside:
        file.rename(tmp_path / "outside")
        file.symlink_to(tmp_path / "outside")
        assert "is a link out of its folder" in line(checkpoints.read_params, step.parent)
        assert "is a link out of its folder" in line(checkpoints.Checkpoints, step.parent)
        file.unlink()
        os.mkfifo(file)
        assert "no regular file" in line(checkpoints.read_params, step.parent)  # and is not waited for
        file.unlink()
        (tmp_path / "outside").rename(file)
    (step / "state").rename(tmp_path / "state")
    (step / "state").symlink_to(tmp_path / "state")
    assert "is a link out of its folder" in line(checkpoints.read_params, step.parent)


def resealed(step: Path, change) -> None:
    """What a checkpoint says of itself, changed and sealed anew."""
    place = step / "about" / "metadata"
    about = json.loads(place.read_bytes())
    about.pop("seal")
    change(about)
    place.write_text(json.dumps(contents.sealed(about)))


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("arrays"), lambda about: about.pop("data"), lambda about: about.update(arrays=[]),
        lambda about: about.update(arrays={"params/part/bias": {}}), lambda about: about.update(arrays={"a": None}),
        lambda about: about["arrays"]["params/part/bias"].update(shape=[-1]),
        lambda about: about["arrays"]["params/part/bias"].update(shape="8"),
        lambda about: about["arrays"]["params/part/bias"].pop("sum"), lambda about: about.clear(),
    ],
)  # fmt: skip
def test_a_sealed_checkpoint_without_its_list_is_one_line(tmp_path, change):
    step = saved(tmp_path)
    resealed(step, change)
    assert "this checkpoint is damaged (it lists no arrays, or no place in the data)" in line(
        checkpoints.read_params, step.parent
    )
    state = partitioning.abstract(STATE, jax.tree.map(lambda leaf: leaf.sharding, STATE))
    with checkpoints.Checkpoints(step.parent) as opened:
        assert "it lists no arrays" in line(opened.restore, state, files._Place())


def test_a_sealed_checkpoint_whose_list_or_place_is_anothers(tmp_path):
    step = saved(tmp_path)
    state = partitioning.abstract(STATE, jax.tree.map(lambda leaf: leaf.sharding, STATE))
    resealed(step, lambda about: about.update(data={"next": "other"}))

    class Strict(files._Place):
        def set_state(self, state):
            raise KeyError("offset")

    with checkpoints.Checkpoints(step.parent) as opened:
        assert "its place in the data is none: KeyError" in line(opened.restore, state, Strict())
    resealed(step, lambda about: about["arrays"]["params/part/bias"].update(shape=[10**6, 10**6]))
    assert "its list and its arrays differ in params/part/bias" in line(checkpoints.read_params, step.parent)
    resealed(step, lambda about: about["arrays"].pop("params/part/bias"))
    assert "differ in params/part/bias" in line(checkpoints.read_params, step.parent)


def test_a_checkpoint_of_more_than_its_files_can_hold(tmp_path, monkeypatch):
    with checkpoints.Checkpoints(tmp_path / "part") as opened:
        opened.save(1, {"params": {"zeros": jnp.zeros((2000, 2000))}}, files._Place())
    checkpoints.read_params(tmp_path / "part")
    monkeypatch.setattr(contents, "_SMALL", 1 << 20)
    assert "15 MB of arrays in 0 MB of files" in line(checkpoints.read_params, tmp_path / "part")


@pytest.mark.parametrize("name", ["about/metadata", "state/_METADATA", "state/_sharding", "_CHECKPOINT_METADATA"])
def test_what_a_checkpoint_says_of_itself_is_bounded(tmp_path, name):
    step = saved(tmp_path)
    (step / name).write_bytes(b'{"seal":[' + b'{"":0},' * 2_000_000 + b"0]}")  # 14 MB, and 500 as objects
    messages = []
    assert memory.grown(lambda: messages.append(line(checkpoints.read_params, step.parent))) < 100 << 20
    assert "MB of memory, more than 256" in messages[0] and str(step) in messages[0]


@pytest.mark.parametrize("name", ["config.json", workdir.LOCK, *storage.RUN_FILES])
def test_no_name_of_a_run_leads_out_of_its_folder(tmp_path, name):
    """What is read would be another's, and what is written would replace it."""
    run, outside = tmp_path / "run", tmp_path / "outside"
    run.mkdir()
    files.make_run(run)
    settings = read(configuration.load("demo").to_dict())
    (run / name).unlink(missing_ok=True)
    outside.write_text("mine")
    (run / name).symlink_to(outside)
    for use in (lambda: workdir.load_settings(run), lambda: workdir.check_claim(run, settings)):
        assert "is a link out of its folder" in line(use)
    with pytest.raises(SignerError), workdir.claimed(run, settings):
        pass
    assert outside.read_text() == "mine"


def test_a_stage_of_a_run_lies_in_its_folder(tmp_path):
    run, outside = tmp_path / "run", tmp_path / "outside"
    (run / "checkpoints").mkdir(parents=True)
    outside.mkdir()
    files.make_run(run)
    workdir.load_settings(run)
    (run / "checkpoints" / "slul").symlink_to(outside)
    assert "checkpoints/slul: is a link out of its folder" in line(workdir.load_settings, run)


def test_a_lock_is_not_written_through_a_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "lock").symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / "pipe")
    for name in ("lock", "pipe"):
        with pytest.raises(SignerError, match="no plain file"), storage.locked(tmp_path / name, "me", "wait"):
            pass
    assert (tmp_path / "mine").read_text() == "mine"
    (tmp_path / "lock").unlink()
    with storage.locked(tmp_path / "lock", "me", "wait"):
        assert stat.S_ISREG((tmp_path / "lock").lstat().st_mode)


def test_curves_are_read_from_plain_files(tmp_path):
    os.mkfifo(tmp_path / "events.out.tfevents.1.host")
    assert "no regular file" in line(showcase.training_curves, tmp_path)


# ---- Names -----------------------------------------------------------------------------------------------------------


def test_what_is_shown_smears_no_page():
    assert piled(ZALGO) and piled("a" + "\u0e34" * 31) and not piled("a" + "\u0301" * 30) and not piled("plain")
    assert not piled("\u0f67\u0f90\u0fb5\u0fa8\u0fb3\u0fba\u0fbc\u0fbb\u0f82")  # Tibetan's tallest
    shown = one_line(f"<{ZALGO}>" * 2)
    assert not piled(shown) and shown.startswith("<e\u0301") and shown.endswith("\\u20dd>") and "\\u0301" in shown
    assert one_line("Ä e\u0301 \u0e01\u0e34\u0e48") == "Ä e\u0301 \u0e01\u0e34\u0e48"
    assert not piled(str(SignerError(f"tensor {ZALGO!r}")))


def small_pose(frames: int = 6) -> Pose:
    pose = files.pose(frames)
    return Pose(pose.coordinates / 100, pose.confidence, pose.fps)


@pytest.mark.parametrize("field", ["gloss", "words", "spoken", "source", "signer", "language"])
def test_names_of_a_database(tmp_path, field):
    entry = Entry(**{"gloss": "A", "language": "ase", field: ZALGO})
    # Whoever builds it from entries of their own gets the same line at once: the database is opened when it is written.
    assert "piles more than 30 marks" in line(Prior.build, [(entry, small_pose())], tmp_path / "p", 25.0)


def test_names_of_a_lexicon(tmp_path):
    pose_file.write(tmp_path / "a.pose", files.pose(8))
    rows = [f"a.pose,en,ase,0,0,{word},{gloss},1" for word, gloss in (("x", "A"), (ZALGO, "B"), ("y", ZALGO))]
    head = "path,spoken_language,signed_language,start,end,words,glosses,priority"
    (tmp_path / "index.csv").write_text("\n".join([head, *rows]), encoding="utf-8")
    signs, problems = read_lexicon(tmp_path)
    assert [entry.gloss for entry, _ in signs] == ["A"]
    assert [problem.split(" piles")[0] for problem in problems] == ["row 3: words", "row 4: glosses"]


@pytest.mark.parametrize("field", ["name", "text", "language", "signer", "glosses"])
def test_names_of_a_record(field):
    values = {"name": "a", "text": "b", "language": "ase", "signer": "c", "glosses": ("D",)}
    values[field] = (ZALGO,) if field == "glosses" else ZALGO
    with pytest.raises(ValueError, match="piles more than 30"):
        records.decode(records.encode(Sample(**values)))  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["words", "glosses", "languages", "signers"])
def test_names_of_a_corpus(tmp_path, place):
    files.make_corpus(tmp_path)
    about = json.loads((tmp_path / "corpus.json").read_bytes())
    about[place] = {"words": {"ase": [ZALGO]}, "glosses": {"ase": [ZALGO]}, "languages": {"ase": ZALGO}}.get(
        place, [ZALGO]
    )
    (tmp_path / "corpus.json").write_text(json.dumps(about))
    listed(tmp_path, "corpus.json", True)
    assert "piles more than 30 marks" in line(records.Corpus, tmp_path)


def test_names_of_signers_of_latents(tmp_path):
    files.make_latents(tmp_path)
    about = json.loads((tmp_path / "statistics.json").read_bytes())
    about["references"] = {ZALGO: 8, "s2": 4}
    (tmp_path / "statistics.json").write_text(json.dumps(about))
    listed(tmp_path, "statistics.json", True)
    assert "piles more than 30 marks" in line(LatentStore.open, tmp_path)


def test_names_of_clips(tmp_path, capsys):
    files.make_how2sign(tmp_path)
    for file in tmp_path.rglob("abcdefghijk_1*"):
        file.rename(file.with_name(file.name.replace("abcdefghijk", ZALGO)))
    assert [clip.name for clip in how2sign_clips.clips(tmp_path, "train")] == ["abcdefghijk_2-8-rgb_front"]
    assert not piled(capsys.readouterr().err)


def test_pieces_of_a_vocabulary(tmp_path):
    files.make_tokenizer(tmp_path)
    text = ZALGO.encode()
    piece = bytes([0x0A, len(text)]) + text + b"\x15\0\0\0\0"
    with (tmp_path / "tokenizer.model").open("ab") as file:
        file.write(bytes([0x0A, len(piece)]) + piece)
    assert "piles more than 30 marks" in line(Tokenizer.load, tmp_path / "tokenizer.model")


# ---- Memory and depth ------------------------------------------------------------------------------------------------


def exhausted(error):
    def function(*arguments, **named):
        raise error()

    return function


def _of_poses(folder):
    files.make_poses(folder)
    return "signer_jax.pose.formats.pose_layout.parse", lambda: pose_file.read(folder / "ours.pose")


def _of_a_lexicon(folder):
    files.make_lexicon(folder)
    return "csv.reader", lambda: read_lexicon(folder)


def _of_a_prior(folder):
    files.make_prior(folder)
    return "signer_jax.pose.prior._check_arrays", lambda: Prior.open(folder)


def _of_an_entry(folder):
    files.make_prior(folder)
    prior = Prior.open(folder)
    return "signer_jax.pose.prior.Pose", lambda: prior.pose(prior.entries[0])


def _of_a_corpus(folder):
    files.make_corpus(folder)
    return "signer_jax.json_files.json.loads", lambda: records.Corpus(folder)


def _of_a_record(folder):
    files.make_corpus(folder)
    shard = records.Corpus(folder).motions("train")
    return "signer_jax.data.shards.msgpack.unpackb", lambda: shard[0]


def _of_latents(folder):
    files.make_latents(folder)
    return "signer_jax.renderer.latents.read_npz", lambda: LatentStore.open(folder)


def _of_phoenix(folder):
    from signer_jax.data.corpora import phoenix14t

    files.make_phoenix(folder)
    return "signer_jax.data.tables.fault_of", lambda: phoenix14t.samples(folder, "train")


def _of_openvid(folder):
    from signer_jax.data.corpora import openvid

    files.make_openvid(folder)
    return "signer_jax.data.tables.fault_of", lambda: openvid.names(folder)


def _of_clips(folder):
    files.make_how2sign(folder)
    return (
        "signer_jax.data.corpora.how2sign_clips.clean",
        lambda: list(how2sign_clips.samples(folder, "train", size=(16, 16))),
    )


def _of_a_video(folder):
    from signer_jax.data import video

    video.write(folder / "a.mp4", files.pictures(), 25.0)
    return "numpy.stack", lambda: video.read(folder / "a.mp4")


def _of_frames(folder):
    from signer_jax.data import video

    video.write(folder / "a.mp4", files.pictures(), 25.0)
    return "av.open", lambda: list(video.frames(folder / "a.mp4"))


def _of_a_picture(folder):
    from signer_jax.cli.common import open_picture

    files.make_pictures(folder)
    return "PIL.Image.Image.crop", lambda: open_picture(str(folder / "a.png"))


def _of_a_vocabulary(folder):
    files.make_tokenizer(folder)
    return "sentencepiece.SentencePieceProcessor", lambda: Tokenizer.load(folder / "tokenizer.model")


def read_whole(tensors):
    """Tensors are read where they are indexed."""
    return {name: np.asarray(tensor) for name, tensor in tensors.items()}


def _of_tensors(folder):
    from signer_jax.interop import state_dict

    files.make_tensors(folder)
    return "signer_jax.interop.state_dict._finite", lambda: read_whole(state_dict.read_tensors(folder))


def _of_prompts(folder):
    from signer_jax.interop import prompts

    files.make_tokenizer(folder)
    model = folder / "tokenizer.model"
    settings = {"extra_ids": 0}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    model.rename(folder / "spiece.model")
    return "signer_jax.interop.prompts.PromptTokenizer", lambda: prompts.load_tokenizer(folder)


def _of_a_model(folder):
    from signer_jax.interop import state_dict

    (folder / "config.json").write_text("{}")
    return "json.loads", lambda: state_dict.read_config(folder)


def _of_a_checkpoint(folder):
    saved(folder)
    return "signer_jax.training.checkpoints.check_claims", lambda: checkpoints.read_params(folder / "part")


def _of_a_run(folder):
    files.make_run(folder)
    return "signer_jax.workdir.read", lambda: workdir.load_settings(folder)


def _of_lines(folder):
    from signer_jax.cli import common

    files.make_texts(folder)
    return "signer_jax.cli.common.piled", lambda: common.read_lines(folder / "ref.txt")


@pytest.mark.parametrize("error", [MemoryError, RecursionError])
@pytest.mark.parametrize(
    "reader",
    [
        _of_poses, _of_a_lexicon, _of_a_prior, _of_an_entry, _of_a_corpus, _of_a_record, _of_latents, _of_phoenix,
        _of_openvid, _of_clips, _of_a_video, _of_frames, _of_a_picture, _of_a_vocabulary, _of_tensors, _of_a_model,
        _of_a_checkpoint, _of_a_run, _of_lines, _of_prompts,
    ],
)  # fmt: skip
def test_too_little_memory_and_too_deep_a_nest_are_one_line(tmp_path, monkeypatch, reader, error):
    (tmp_path / "folder").mkdir()
    place, use = reader(tmp_path / "folder")
    use()
    monkeypatch.setattr(place, exhausted(error))
    message = line(use)
    assert str(tmp_path / "folder") in message and ";" in message  # the file, and what to do


def test_what_no_reader_has_put_into_words_is_one_line_too(tmp_path, capsys, monkeypatch):
    from signer_jax.cli import score
    from signer_jax.cli.main import main

    monkeypatch.setattr(score, "score_text", exhausted(MemoryError))
    assert main(["score", "text", "--ref", "a", "--hyp", "b"]) == 1  # memory is no bad input
    assert capsys.readouterr().err.count("\n") == 1


def test_values_that_are_not_finite_stay_out(tmp_path):
    from safetensors.numpy import save_file

    from signer_jax.interop import state_dict

    for value, dtype in ((np.nan, np.float32), (-np.inf, np.float16), (1e300, np.float64)):
        tensor = np.zeros((1100, 1000), dtype)  # more than are looked at in one go
        tensor[-1, -1] = value
        save_file({"good": np.ones(3, np.float32), "layer.weight": tensor}, tmp_path / "a.safetensors")
        assert "tensor 'layer.weight' holds a value that is not finite" in line(
            lambda: read_whole(state_dict.read_tensors(tmp_path))
        )
