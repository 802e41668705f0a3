"""A published model's text: encoded once, kept under its encoder's hash, freed; the null is the empty prompt's."""

import os
from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from renderer.tiny_wan import TEXT, config_of, write_text_encoder, write_transformer, write_vae

from signer_jax import json_files
from signer_jax.cli.main import main
from signer_jax.data.video import read as read_video
from signer_jax.errors import SignerError
from signer_jax.interop import t5
from signer_jax.interop.prompts import load_tokenizer
from signer_jax.pipeline import Signer
from signer_jax.pose.formats import pose_file
from signer_jax.renderer import text_encoder
from signer_jax.renderer.conditions import Conditions, without
from signer_jax.training import encoders, input_pipeline, partitioning, published, run, signing, text_states
from signer_jax.training.text_states import TextEncoder
from signer_jax.validation import read

TEXTS = ["i will open the door", "", "yes"]
MESH = {"data": -1, "fsdp": 1, "tensor": 1}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> str:
    return write_text_encoder(tmp_path_factory.mktemp("pipeline"))


def encoded(pipeline, texts, rows=512):
    source = TextEncoder.at(pipeline, TEXT, rows)
    return dict(text_states.encode(source, texts, partitioning.own_mesh(MESH)))


def test_states_are_those_of_the_encoder_padded_to_every_row(pipeline):
    """As published pipelines have them: 512 rows at once, cut at the end token."""
    states = encoded(pipeline, TEXTS)
    module, params = t5.load_encoder(f"{pipeline}/text_encoder")
    ids, mask, _ = load_tokenizer(f"{pipeline}/tokenizer").batch(TEXTS)
    whole = np.asarray(text_encoder.states(module, params, ids, mask))
    for i, text in enumerate(TEXTS):
        count = mask[i].sum()
        assert states[text].shape == (count, TEXT) and states[text].dtype == np.float32
        np.testing.assert_allclose(states[text], whole[i, :count], atol=2e-5)
    assert len(states[""]) == 1 and np.abs(states[""]).max() > 0.1  # the end token's: not nothing


def test_a_text_alone_has_the_states_that_it_has_among_others(pipeline):
    many = encoded(pipeline, [*TEXTS, *(f"text {c}" for c in "abcdefghij")])
    for text in TEXTS:
        np.testing.assert_array_equal(encoded(pipeline, [text])[text], many[text])
    assert len(encoded(pipeline, ["a very long text indeed"], rows=7)["a very long text indeed"]) == 7


def test_the_encoders_memory_is_given_back(pipeline, monkeypatch):
    kept = []
    load = t5.load_encoder

    def noted(*args, **options):
        kept.append(load(*args, **options)[1])
        return load(*args, **options)[0], kept[-1]

    monkeypatch.setattr(t5, "load_encoder", noted)
    walk = text_states.encode(TextEncoder.at(pipeline, TEXT, 512), TEXTS, partitioning.own_mesh(MESH))
    next(walk)
    leaves = jax.tree.leaves(kept)
    assert leaves and not any(leaf.is_deleted() for leaf in leaves)
    list(walk)
    assert all(leaf.is_deleted() for leaf in leaves)


def test_the_cache_is_asked_again_only_of_the_same_encoder(pipeline, tmp_path):
    mesh = partitioning.own_mesh(MESH)
    source = TextEncoder.at(pipeline, TEXT, 512)
    made = text_states.prepare(tmp_path / "text_states", source, lambda: [*TEXTS, "yes"], mesh)
    assert made.places.keys() == set(TEXTS) and len(made.shard) == 3
    np.testing.assert_array_equal(made.of("yes"), encoded(pipeline, ["yes"])["yes"])

    def must_not():
        raise AssertionError("the corpus was read again")

    text_states.prepare(tmp_path / "text_states", source, must_not, mesh)
    with pytest.raises(SignerError, match="no states of the text 'no'"):
        made.of("no")
    other = TextEncoder.at(write_text_encoder(tmp_path / "other", seed=6), TEXT, 512)
    with pytest.raises(SignerError, match="was encoded by another text encoder .*remove the folder") as error:
        text_states.prepare(tmp_path / "text_states", other, must_not, mesh)
    assert "\n" not in str(error.value)


def test_an_encoder_whose_files_have_not_changed_is_not_hashed_again(tmp_path, monkeypatch):
    """At every start of a run, and for every new text: UMT5's are 11 GB."""
    mesh, folder = partitioning.own_mesh(MESH), write_text_encoder(tmp_path / "pipeline")
    source = TextEncoder.at(folder, TEXT, 512)
    text_states.prepare(tmp_path / "text_states", source, lambda: TEXTS, mesh)
    before = replace(text_states.TextStates.open(tmp_path / "text_states"), files=None)
    read, digest = [], published._digest
    monkeypatch.setattr(published, "_digest", lambda file, *state: read.append(file) or digest(file, *state))
    text_states.check_same(text_states.prepare(tmp_path / "text_states", source, lambda: TEXTS, mesh), source)
    assert not read
    text_states.check_same(before, source)  # a cache that notes none
    assert len(read) > 3
    weights = next((tmp_path / "pipeline" / "text_encoder").glob("*.safetensors"))
    os.utime(weights, (1, 1))  # as in a copy: the bytes decide
    read.clear()
    text_states.prepare(tmp_path / "text_states", source, lambda: TEXTS, mesh)
    assert weights in read
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(SignerError, match="was encoded by another text encoder"):
        text_states.prepare(tmp_path / "text_states", source, lambda: TEXTS, mesh)


def test_weights_that_are_rounded_otherwise_are_another_encoder(pipeline, tmp_path):
    """`config.renderer.dtype` may change in a run, and the files stay what they are."""
    mesh = partitioning.own_mesh(MESH)
    plain, rounding, widening = (TextEncoder.at(pipeline, TEXT, 512, dtype) for dtype in ("", "bfloat16", "float32"))
    made = text_states.prepare(tmp_path / "text_states", rounding, lambda: TEXTS, mesh)
    assert (made.rounded, rounding.rounded(), plain.rounded(), widening.rounded()) == ("bfloat16", "bfloat16", "", "")
    text_states.check_same(made, rounding)
    for other in (plain, widening):
        with pytest.raises(SignerError, match="rounded to bfloat16, and config.renderer.dtype .* rounds none") as error:
            text_states.check_same(made, other)
        assert "\n" not in str(error.value)
    exact = replace(made, rounded="")
    text_states.check_same(exact, widening)
    with pytest.raises(SignerError, match="as they are stored, .* 'bfloat16' rounds them"):
        text_states.check_same(exact, rounding)


def test_the_last_texts_are_kept_and_no_more(pipeline, tmp_path, monkeypatch):
    mesh = partitioning.own_mesh(MESH)
    source = TextEncoder.at(pipeline, TEXT, 512)
    known = text_states.prepare(tmp_path / "text_states", source, lambda: ["", "yes"], mesh)
    read = []

    def encode(_, texts, __):
        read.append(list(texts))
        return ((text, np.full((1, TEXT), len(text), np.float32)) for text in texts)

    monkeypatch.setattr(text_states, "encode", encode)
    monkeypatch.setattr(signing, "_KEPT", 3)
    texts = signing.Texts(source, known, "", mesh)
    found = texts.of(["a", "yes", "bb", "a", "ccc", "dddd"])  # more than are kept
    np.testing.assert_array_equal(found[1], known.of("yes"))
    assert [one[0, 0] for one in (*found[:1], *found[2:])] == [1, 2, 1, 3, 4]
    assert read == [["a", "bb", "ccc", "dddd"]] and len(texts._states) == 3
    texts.of(["bb"]), texts.of(["eeeee"]), texts.of(["bb"])
    assert read[1:] == [["eeeee"]]  # what was asked for last is there
    for i in range(20):
        texts.of(["x" * (10 + i)])
    assert len(texts._states) == 3


def test_the_texts_of_a_large_corpus_are_read_again(pipeline, tmp_path, monkeypatch):
    """What is JSON stays small, however many captions there are: it is bounded when it is read."""
    texts = [f"a caption, the {k}th" for k in range(100)] + ["", "Grüße, 世界"]
    monkeypatch.setattr(text_states, "read_json", lambda path, most: json_files.read_json(path, 1024))
    made = text_states.prepare(
        tmp_path / "text_states", TextEncoder.at(pipeline, TEXT, 512), lambda: texts, partitioning.own_mesh(MESH)
    )
    assert made.places.keys() == set(texts)
    np.testing.assert_array_equal(made.of(texts[-1]), encoded(pipeline, texts[-1:])[texts[-1]])


def test_harmed_folders_are_read_or_one_line(pipeline, tmp_path):
    from random import Random
    from shutil import copytree

    from fuzz.mutations import harmed

    source = TextEncoder.at(pipeline, TEXT, 512)
    text_states.prepare(tmp_path / "whole", source, lambda: TEXTS, partitioning.own_mesh(MESH))
    refused = 0
    for name in ("about.json", "texts.npz", "states.arrayrecord"):
        for case in range(24):
            folder = copytree(tmp_path / "whole", tmp_path / f"{name} {case}")
            (folder / name).write_bytes(harmed((folder / name).read_bytes(), case, Random(case)))
            try:
                known = text_states.TextStates.open(folder)
                assert all(np.isfinite(known.of(text)).all() for text in known.places)
            except SignerError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused > 20


def test_a_folder_of_the_wrong_kind_or_width_is_one_line(pipeline, tmp_path):
    assert TextEncoder.at(f"{pipeline}/text_encoder", TEXT, 512).tokenizer == TextEncoder.at(
        pipeline, TEXT, 512
    ).tokenizer.absolute()  # fmt: skip
    for path, width, said in (
        (pipeline, 4096, "d_model is 16, .* takes text of width 4096"),
        (f"{pipeline}/tokenizer", TEXT, "config.json"),
        (str(tmp_path), TEXT, "config.json"),
    ):
        with pytest.raises(SignerError, match=said) as error:
            TextEncoder.at(path, width, 512)
        assert "\n" not in str(error.value)
    t5.save_encoder(tmp_path / "alone", *t5.load_encoder(f"{pipeline}/text_encoder"))
    with pytest.raises(SignerError, match="there is no folder .*tokenizer; give a pipeline's folder"):
        TextEncoder.at(str(tmp_path / "alone"), TEXT, 512)


def test_dropped_text_is_the_null_prompts():
    text, null = np.full((2, 4, 3), 2.0, np.float32), np.full((2, 4, 3), 5.0, np.float32)
    said = Conditions(text=text, text_null=null)
    one, other = without(said, {"text"}, jnp.array([1.0, 0.0])).text
    assert (one == 2).all() and (other == 5).all()
    assert (without(said, {"text"}).text == 5).all()
    assert not without(Conditions(text=text), {"text"}).text.any()  # zeros where there is no null


# ---- In the chain ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(pipeline, tmp_path_factory):
    """A tiny T2V of published weights with a text encoder, trained for two steps on the built-in corpus."""
    place = tmp_path_factory.mktemp("text")
    config = config_of("wan2.1-t2v-1.3b", write_transformer(place / "wan", "wan2.1-t2v-1.3b"), write_vae(place / "vae"))
    config.data.sentences = {"train": 6, "dev": 2, "test": 1}
    config.data.poses = {"train": 4, "dev": 2, "test": 1}
    config.data.videos = {"train": 4, "dev": 2, "test": 1}
    config.renderer.text_encoder, config.renderer.control = pipeline, "none"
    config.train.renderer.steps, config.train.renderer.batch = 2, 8
    settings = read(config)
    with run.claimed(settings, place / "run"):
        run.train(settings, place / "run")
    return settings, place / "run"


def test_training_batches_carry_each_texts_states(trained, pipeline):
    _, workdir = trained
    signer = Signer.load(workdir)
    settings = signer.settings  # which names the weights that the run keeps
    mesh = run.mesh_of(settings)
    batch = next(
        input_pipeline.stage_batches(
            "renderer", settings, workdir, signer.corpus, None, signer.model, signer.params, 0, mesh
        )
    )
    assert batch["text_states"].shape == (8, 512, TEXT) and batch["text_null"].shape == (8, 1, TEXT)
    known = [record.text for record in map(signer.corpus.motions("train").__getitem__, range(4))]
    every = encoded(pipeline, [*known, ""])
    for row, null in zip(batch["text_states"], batch["text_null"], strict=True):
        found = [text for text in known if np.array_equal(row[: len(every[text])], every[text])]
        assert found and not row[len(every[found[0]]) :].any()
        np.testing.assert_array_equal(null, every[""])


def test_signing_reads_the_texts_states_and_other_encoders_are_refused(trained, tmp_path):
    from shutil import copytree

    from signer_jax.evaluation.figures import Evaluation
    from signer_jax.evaluation.videos import evaluate_videos

    settings, workdir = trained
    signer = Signer.load(workdir)
    read_before = signer.texts._states.copy()
    evaluate_videos(signer, "dev", 1, Evaluation())
    assert not read_before and len(signer.texts._states) == 2  # the limit's one clip, and a guest beside it
    text = max(signer.texts._states, key=len)
    # The studio's programs read them: another text is another video.
    from signer_jax.stations.render import render, style

    pose = signer.corpus.motions("dev")[0].pose.slice(0, 5)
    shown = [
        render(pose, style(signer.studio), None, None, signer.studio, states).video
        for states in (*signer.texts.of([text, "something else"]), None)
    ]
    assert (shown[0] != shown[1]).any() and (shown[0] != shown[2]).any()
    np.testing.assert_array_equal(signer.studio.null, encoded(settings.renderer.text_encoder, [""])[""])
    copytree(settings.renderer.text_encoder, tmp_path / "pipeline")
    write_text_encoder(tmp_path / "pipeline", seed=8)
    moved = signing.Texts(
        TextEncoder.at(str(tmp_path / "pipeline"), TEXT, 512), signer.texts._known, "",
        partitioning.own_mesh(asdict(settings.mesh)),
    )  # fmt: skip
    with pytest.raises(SignerError, match="encoded by another text encoder"):
        moved.of(["a new text"])


def test_a_run_without_slul_renders_a_pose_from_the_command_line(trained, tmp_path, capsys):
    workdir, file, out = trained[1], tmp_path / "a.pose", tmp_path / "a.mp4"
    signer = Signer.load(workdir)
    pose = signer.corpus.motions("train")[0].pose.slice(0, 7)
    pose_file.write(file, replace(pose, fps=2 * pose.fps))
    assert main(["sign", "--from-pose", str(file), "--workdir", str(workdir), "--out", str(out)]) == 0
    assert len(read_video(out)[0]) == 4  # at half the rate
    shown, silent = (signer.film(pose.slice(0, 3), text=text).video for text in (TEXTS[0], ""))
    assert shown.shape == silent.shape == (3, 16, 16, 3) and (shown != silent).any()
    capsys.readouterr()
    for arguments, says in (
        (["the house"], "this run has no SLUL"),
        (["--from-pose", str(file), "--pose", str(tmp_path / "b.pose")], "leave --prior, --pose and --language out"),
        ([], "the text is empty"),
    ):
        assert main(["sign", *arguments, "--workdir", str(workdir), "--out", str(tmp_path / "b.mp4")]) == 2
        assert says in capsys.readouterr().err.splitlines()[-1]


def test_a_style_that_the_model_is_not_shown_is_refused(trained):
    signer = Signer.load(trained[1])
    picture = np.zeros((*signer.settings.data.size, 3), np.uint8)
    with pytest.raises(
        SignerError, match="wan2.1-t2v-1.3b. is shown no picture of a signer, so a style has no"
    ) as error:
        signer.sign("the house", style=picture)
    assert "\n" not in str(error.value)


def test_what_is_not_there_is_said_and_what_does_not_fit_is_refused(trained, pipeline, tmp_path):
    settings, _ = trained
    assert encoders.said(settings) == []
    without_it = replace(settings, renderer=replace(settings.renderer, text_encoder=""))
    (line,) = encoders.said(without_it)
    assert "the text says nothing to 'wan2.1-t2v-1.3b'" in line
    wide = write_text_encoder(tmp_path / "wide", width=24)
    other = replace(settings, renderer=replace(settings.renderer, text_encoder=wide))
    refused = pytest.raises(SignerError, match="d_model is 24, .* takes text of width 16")
    with refused, run.claimed(other, tmp_path / "run"):
        raise AssertionError("it was claimed")
    assert not (tmp_path / "run").exists()
    with pytest.raises(SignerError, match="window 6: must be 4n . 1 frames .*nearest are 5 and 9"):
        run._check(replace(settings, renderer=replace(settings.renderer, window=6)))
    with pytest.raises(SignerError, match="text_encoder nowhere: no such file or folder"):
        run._check(replace(settings, renderer=replace(settings.renderer, text_encoder="nowhere")))
    from signer_jax.configuration import shipped

    config = shipped("default")
    config.renderer.text_encoder = pipeline
    with pytest.raises(SignerError, match="the variant 'own' reads SLUL's features and no other text"):
        read(config)
    config.renderer.text_encoder, config.renderer.negative_prompt = "", "blurred"
    with pytest.raises(SignerError, match="negative_prompt 'blurred': nothing reads it without"):
        read(config)


def test_an_encoders_files_are_read_once_a_process_and_again_when_they_change(tmp_path, monkeypatch):
    import hashlib

    from signer_jax.training.published import hashed

    read, digest = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: read.append(file.name) or digest(file, name))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"1" * 9)
    first = hashed(tmp_path)
    assert hashed(tmp_path) == first and len(read) == 1
    weights.write_bytes(b"2" * 10)
    assert hashed(tmp_path) != first and len(read) == 2
