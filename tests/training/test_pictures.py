"""Reference pictures of published image models: what examples are shown, and segments that go on from pixels."""

from dataclasses import asdict, replace
from functools import cache
from itertools import pairwise
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from renderer.tiny_wan import CLIP, FACE, RATIO, built, config_of, write_image_encoder, write_transformer, write_vae

from signer_jax.data import records, shards
from signer_jax.data.buckets import Bucket
from signer_jax.data.faces import face_video, squares
from signer_jax.data.prepare import prepare as prepare_corpus
from signer_jax.data.shards import unpack
from signer_jax.data.streams import to_model_range
from signer_jax.data.windows import Limits, MotionWindows
from signer_jax.errors import SignerError
from signer_jax.pipeline import Signer
from signer_jax.planning import examples
from signer_jax.renderer.conditions import encoder
from signer_jax.renderer.variants import find
from signer_jax.stations import studio as programs
from signer_jax.stations.render import render, render_many, style
from signer_jax.training import conditions, encoders, input_pipeline, partitioning, pictures, run, signing
from signer_jax.training import latents as latent_cache
from signer_jax.types import Pose, Sample
from signer_jax.validation import read

I2V, ANIMATE, TI2V = "wan2.1-i2v-14b", "wan2.2-animate-14b", "wan2.2-ti2v-5b"
EXPERTS = "wan2.2-i2v-a14b"


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    """Tiny chains of published weights on the built-in corpus, ready to train and, untrained as they are, to sign."""
    place = tmp_path_factory.mktemp("pictures")
    vae, pipeline = write_vae(place / "vae"), write_image_encoder(place / "pipeline")

    @cache
    def of(name: str) -> Signer:
        config = config_of(name, write_transformer(place / name, name), vae)
        config.data.sentences = {"train": 8, "dev": 1, "test": 1}
        config.data.poses = config.data.videos = {"train": 6, "dev": 1, "test": 1}
        config.renderer.control, config.renderer.references, config.renderer.reference_dropout = "variant", 6, 0.5
        config.renderer.dropout_each.face = 0.0
        config.renderer.image_encoder = pipeline if find(name).clip_dim else ""
        config.train.renderer.batch, config.renderer.steps, config.renderer.guidance = 8, 2, 1.0
        model, params, settings = built(config)
        workdir = place / f"run {name}"
        prepare_corpus(settings.data, settings.data.seed, workdir / "data")
        signer = Signer(settings, workdir, model, params)
        mesh = run.mesh_of(settings)
        input_pipeline.stage_batches(
            "renderer", settings, workdir, signer.corpus, None, model, on(params, mesh), 0, mesh
        )
        return signer

    return of


def on(params, mesh):
    return jax.device_put(params, partitioning.tree_shardings(params, mesh))


def batch_of(signer: Signer, stage: str = "renderer") -> dict:
    mesh = run.mesh_of(signer.settings)
    params = on(signer.params, mesh)
    batch = next(
        input_pipeline.stage_batches(
            stage, signer.settings, signer.workdir, signer.corpus, None, signer.model, params, 1, mesh
        )
    )
    planned = examples.batch(stage, signer.settings, signer.model)  # what `signer plan` takes it for
    texts = {"source", "target", "target_gloss"}  # which a run of this stage alone has no tokenizer for
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in planned.items() if name not in texts} == {
        name: (array.shape, array.dtype) for name, array in batch.items()
    }
    return batch


def frames_like(signer: Signer, picture: np.ndarray) -> list[tuple[int, int]]:
    """(motion, frame) of the training frames that are this picture."""
    records = signer.corpus.motions("train")
    return [
        (motion, int(frame))
        for motion, (_, video, _) in enumerate(signer.corpus.listed("train")) if video
        for frame in np.flatnonzero((records.video(motion) == picture).all(axis=(1, 2, 3)))
    ]  # fmt: skip


def test_i2v_is_shown_its_clips_first_frame(chains):
    """In pixels, as latents and by CLIP's eyes, all of the same frame; or, for a share, nothing at all."""
    signer = chains(I2V)
    batch = batch_of(signer)
    encode = encoder(signer.model.vae, signer.params)
    seer = pictures.Seer(encoders.tower(signer.settings))
    assert batch["picture"].dtype == np.uint8 and batch["clip"].shape == (8, 5, CLIP)
    assert set(batch["shown"]) == {0.0, 1.0}
    for picture, tokens, shown, latents in zip(
        batch["picture"], batch["clip"], batch["shown"], batch["latents"], strict=True
    ):
        own = np.asarray(encode(to_model_range(picture)[None, None]))[0, 0]
        np.testing.assert_allclose(latents[0], own, atol=1e-4)
        np.testing.assert_allclose(tokens, shown * seer([picture])[0], atol=1e-5)
    assert not batch_of(replace_stage(signer), "images")["shown"].any()  # a single frame would be given whole


def replace_stage(signer: Signer) -> Signer:
    """The same, its images' batches of the same size."""
    train = replace(signer.settings.train, images=replace(signer.settings.train.images, batch=8))
    return Signer(replace(signer.settings, train=train), signer.workdir, signer.model, signer.params)


def test_animate_is_shown_another_clip_and_the_filmed_face(chains):
    signer = chains(ANIMATE)
    batch = batch_of(signer)
    banks = signer.latents.banks
    assert batch["clip"].shape == (8, 5, CLIP) and batch["face"].shape == (8, 5, FACE.size, FACE.size, 3)
    records = signer.corpus.motions("train")
    faces = {
        motion: face_video(records.video(motion), records[motion].pose, FACE.size) for motion in range(len(records))
    }
    encode = encoder(signer.model.vae, signer.params)
    grey = np.asarray(encode(np.zeros((1, 5, 16, 16, 3), np.float32)))
    np.testing.assert_allclose(batch["blank"], np.repeat(grey, 8, 0), atol=1e-5)
    single = batch_of(replace_stage(signer), "images")["blank"]
    np.testing.assert_allclose(single, np.repeat(grey[:, :1], 8, 0), atol=1e-5)
    given = 0
    for reference, tokens, face in zip(batch["reference"], batch["clip"], batch["face"], strict=True):
        own = [m for m, whole in faces.items() if any((whole[i : i + 5] == face[: len(whole[i : i + 5])]).all()
               for i in range(len(whole)))]  # fmt: skip
        assert own
        if not reference.any():
            assert not tokens.any()
            continue
        given += 1
        (found,) = [
            (bank, k) for bank in banks.values() for k in range(len(bank)) if (bank.latents[k] == reference).all()
        ]
        bank, k = found
        np.testing.assert_array_equal(tokens, bank.clip[k])
        alone = len(set(bank.motion)) == 1  # of whom there is no other clip
        assert bool(set(own) & {int(bank.motion[k])}) == alone
    assert given


def test_a_bank_holds_pictures_encoded_each_by_itself(chains):
    signer = chains(ANIMATE)
    encode = encoder(signer.model.vae, signer.params)
    listed = signer.corpus.listed("train")
    for name, bank in signer.latents.banks.items():
        assert len(bank) == 6 and {listed[m][2] for m in bank.motion} == {name}
        for k in (0, 5):
            assert int(bank.motion[k]) in {motion for motion, _ in frames_like(signer, bank.pictures[k])}
            own = np.asarray(encode(to_model_range(bank.pictures[k])[None, None]))[0, 0]
            np.testing.assert_allclose(bank.latents[k], own, atol=1e-4)


def test_a_style_has_the_picture_and_clips_tokens(chains):
    signer = chains(I2V)
    for look in (style(signer.studio), style(signer.studio, picture=style(signer.studio).picture)):
        assert look.picture.shape == (16, 16, 3) and look.clip.shape == (5, CLIP)
    np.testing.assert_allclose(look.clip, style(signer.studio).clip, atol=1e-5)
    np.testing.assert_allclose(look.reference, style(signer.studio).reference, atol=1e-4)
    other = signer.studio.latents.banks[next(iter(signer.studio.latents.banks))].pictures[3]
    pose = signer.corpus.motions("train")[0].pose.slice(0, 5)
    videos = [render(pose, one, None, None, signer.studio).video for one in (look, replace(look, picture=other))]
    assert (videos[0] != videos[1]).any()  # the image stream is of the pixels
    unseen = render(pose, replace(look, clip=-look.clip), None, None, signer.studio).video
    assert (videos[0] != unseen).any()


def test_which_windows_there_are_is_known_without_reading_their_latents(chains, tmp_path, monkeypatch):
    """They are all of the folder, tens of megabytes each."""
    signer = chains(I2V)
    store = signer.latents
    records = latent_cache.windows_of(store, unpack)
    cached = {(one["motion"], one["start"]) for one in (records[i] for i in range(len(records)))}
    monkeypatch.setattr(latent_cache, "windows_of", lambda *_: pytest.fail("the latents were read"))
    motions = MotionWindows(signer.corpus.motions("train"), signer.model.joints, 2, Limits(1, 1, 1))
    sources = conditions.prepare(
        signer.settings, tmp_path, signer.corpus, motions, store, signer.model, signer.params["vae"]
    )
    (made,) = sources.pictures.values()
    assert made.windows.keys() == cached and len(cached) > 8


def test_another_tower_and_another_autoencoder_are_refused(chains, tmp_path):
    signer = chains(I2V)
    other = write_image_encoder(tmp_path / "other", seed=9)
    tower = pictures.Tower.at(other, CLIP)
    known = pictures.Pictures.open(signer.workdir / "pictures")
    looks = signing.Looks(known, tower)
    with pytest.raises(SignerError, match="seen by another image encoder than config.renderer.image_encoder"):
        looks.tokens(np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(SignerError, match="hidden_size is 12, .* takes pictures of width 20"):
        pictures.Tower.at(write_image_encoder(tmp_path / "narrow", width=12), CLIP)

    def again(latents, tower):
        return pictures.prepare(
            signer.workdir / "pictures", signer.corpus, None, latents, None, None, tower,
            references=6, first=True, windows=list,
        )  # fmt: skip

    with pytest.raises(SignerError, match="encoded by another autoencoder"):
        again(replace(signer.latents, encoder="other"), encoders.tower(signer.settings))
    with pytest.raises(SignerError, match="seen by another image encoder"):
        again(signer.latents, None)
    assert again(signer.latents, encoders.tower(signer.settings)).windows == known.windows


def test_harmed_folders_are_read_or_one_line(chains, tmp_path):
    from random import Random
    from shutil import copytree

    from fuzz.mutations import harmed

    signer = chains(I2V)
    refused = 0
    for name in ("about.json", "pictures.npy", "latents.npy", "places.npz", "tokens.npy", "windows.arrayrecord"):
        for case in range(12):
            folder = copytree(signer.workdir / "pictures", tmp_path / f"{name} {case}")
            (folder / name).write_bytes(harmed((folder / name).read_bytes(), case, Random(case)))
            try:
                known = pictures.Pictures.open(folder)
                for at in known.windows:
                    known.window(*at)
            except SignerError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused > 30


# ---- Segments that go on ---------------------------------------------------------------------------------------------


def moving(frames: int) -> Pose:
    steps = np.random.default_rng(0).normal(0, 0.05, (frames, 128, 3)).cumsum(axis=0)
    return Pose(steps.astype(np.float32), np.ones((frames, 128), np.float32), 16.0)


@pytest.mark.parametrize("name", [I2V, ANIMATE, TI2V])
def test_a_segment_begins_with_the_last_frames_of_the_one_before(chains, name):
    """12 frames in segments of 5 that share one: the shared frame is the earlier segment's, re-encoded for the next."""
    signer = chains(name)
    studio, calls = signer.studio, []
    assert studio.overlap == 1

    def film(params, noise, given):
        calls.append((given, np.asarray(studio.film(params, noise, given))))
        return calls[-1][1]

    video = render(moving(12), style(studio), None, None, replace(studio, film=film)).video
    assert video.shape == (12, 16, 16, 3) and len(calls) == 3
    np.testing.assert_array_equal(video[:5], np.round((calls[0][1][0] + 1) * 127.5).clip(0, 255))
    np.testing.assert_array_equal(video[5:9], np.round((calls[1][1][0, 1:] + 1) * 127.5).clip(0, 255))
    encode = encoder(signer.model.vae, signer.params)
    for (_, made), (given, _) in pairwise(calls):
        if name == ANIMATE:
            np.testing.assert_array_equal(given["before"], made[:, -1:])
            np.testing.assert_array_equal(given["reference"], calls[0][0]["reference"])
        else:
            np.testing.assert_allclose(given["reference"], np.asarray(encode(made[:, -1:]))[:, 0], atol=1e-4)
        if name == I2V:
            np.testing.assert_array_equal(given["picture"], made[:, -1])
    if name == TI2V:  # its first frame is given clean and stays: what the next segment decodes is what was re-encoded
        latents = calls[1][0]["reference"]
        shown = np.asarray(signer.model.vae.apply({"params": signer.params["vae"]}, np.asarray(
            studio.latents.denormalise(latents))[:, None], method="decode"))[:, 0]  # fmt: skip
        np.testing.assert_allclose(calls[1][1][:, 0], shown, atol=1e-3)


@pytest.mark.parametrize("name", [ANIMATE, TI2V, EXPERTS])
def test_a_long_segment_tells_its_steps_and_is_the_same_video(chains, name, monkeypatch, capsys):
    studio = chains(name).studio
    look, steps = style(studio), studio.renderer.schedule.steps
    assert steps == 2
    at_once = render(moving(8), look, None, None, studio).video
    assert "steps" not in capsys.readouterr().err
    monkeypatch.setattr(programs, "_LONG", 1)
    told = render(moving(8), look, None, None, studio).video
    assert "steps" in (err := capsys.readouterr().err) and "4/4" in err and "segments" not in err  # of two segments
    assert at_once.std() > 1 and np.abs(told.astype(int) - at_once).max() <= 1


def test_a_record_is_unpacked_once_an_example(tmp_path, monkeypatch):
    """A clip of 123 frames of 480 x 832 takes 1.4 seconds of CPU."""
    pose = Pose(
        np.random.default_rng(0).normal(size=(6, 128, 2)).astype(np.float32), np.ones((6, 128), np.float32), 16.0
    )
    one = Sample("s", "", "ase", (), "a", pose=pose, video=np.zeros((6, 16, 16, 3), np.uint8))
    corpus = records.write(tmp_path / "data", {"train": lambda: [one]}, {"languages": {}, "size": [16, 16]})
    renderer = SimpleNamespace(variant=find(ANIMATE), transformer=SimpleNamespace(face=FACE))
    arrays = conditions.Sources(renderer, corpus, None, "", [Bucket(5, 16, 16)], {}, 0.0, True).beside()
    read, get = [], records.Records.__getitem__
    monkeypatch.setattr(records.Records, "__getitem__", lambda self, i: read.append(i) or get(self, i))
    assert arrays(0, 0, 5, np.random.default_rng(0), None)["face"].shape == (5, FACE.size, FACE.size, 3)
    assert read == [0]


@pytest.mark.parametrize("name", [I2V, EXPERTS, ANIMATE])
def test_an_example_unpacks_its_window_and_not_the_whole_video(chains, name, monkeypatch):
    """And what it is shown of it is what the video's record would give; a cache of before goes on with that."""
    signer = chains(name)
    motions = MotionWindows(signer.corpus.motions("train"), signer.model.joints, 2, Limits(1, 1, 1))
    sources = conditions.prepare(
        signer.settings, signer.workdir, signer.corpus, motions, signer.latents, signer.model, signer.params["vae"]
    )
    (kept,) = sources.pictures.values()
    before = {size: replace(one, shard=None, tower="") for size, one in sources.pictures.items()}
    arrays, by_videos = sources.beside(), replace(sources, pictures=before).beside()
    unpacked, whole = [], shards.unpack
    for module in (pictures, records):
        monkeypatch.setattr(module, "unpack", lambda record: unpacked.append(len(record)) or whole(record))
    taken = set()
    for motion, start in sorted(kept.windows):
        found, expected = {}, {}
        for one, of in ((found, arrays), (expected, by_videos)):
            unpacked.clear()
            one |= of(motion, start, 5, np.random.default_rng(0), None)
            one["bytes"] = sum(unpacked)
        shown = {"picture", "face"} & found.keys()
        assert len(shown) == 1 and found["bytes"] < expected["bytes"] / 10
        for what in shown:
            np.testing.assert_array_equal(found[what], expected[what])
            taken.add(found[what].any())
    assert len(kept.windows) > 8 and True in taken


def test_faces_of_a_window_are_kept_as_they_were_filmed():
    """Of several sizes, and of none; a record that says other sizes is refused."""
    rng = np.random.default_rng(0)
    faces = [rng.integers(0, 255, (*size, 3), np.uint8) for size in ((5, 3), (0, 0), (2, 7))]
    shown = pictures._decode(pictures._encode(None, None, faces))
    assert shown.tokens is None and shown.picture is None
    for one, kept in zip(faces, shown.faces, strict=True):
        np.testing.assert_array_equal(one, kept)
    none = pictures._decode(pictures._encode(None, None, [np.zeros((0, 0, 3), np.uint8)] * 2)).faces
    assert not squares(none, 4).any() and len(none) == 2
    pixels = np.zeros(12, np.uint8)
    wrong = [[2, 3]], [[-2, -2]], [[2]], [2, 2], np.zeros((0, 2)), np.zeros((1 << 15, 2)), [[1 << 16, 1 << 16]] * 2
    for sizes in wrong:
        with pytest.raises(ValueError, match="its faces"):
            pictures._decode(shards.pack({"faces": pixels, "sizes": np.array(sizes, np.int32)}))


def test_a_face_that_is_given_is_shown_and_none_is_black(chains):
    signer = chains(ANIMATE)
    pose, look, made = moving(7), style(signer.studio), []
    # Its weights are of variance 1, and nearly nothing comes through those of the tiny model.
    renderer = signer.params["renderer"]
    wide = jax.tree.map(lambda leaf: 5.0 * leaf, renderer["transformer"]["motion_encoder"])
    renderer = renderer | {"transformer": renderer["transformer"] | {"motion_encoder": wide}}

    def film(params, noise, given):
        made.append(np.asarray(signer.studio.film(params | {"renderer": renderer}, noise, given)))
        return made[-1]

    black = np.zeros((7, FACE.size, FACE.size, 3), np.uint8)
    face = np.random.default_rng(0).integers(0, 255, black.shape, np.uint8)
    for faces in (None, [black], [face]):
        render_many([pose], [look], None, None, replace(signer.studio, film=film), faces=faces)
    none, dark, seen = np.stack(made[::2])  # the first segments
    np.testing.assert_allclose(none, dark, atol=1e-4)
    assert np.abs(none - seen).max() > 1e-3


def test_an_overlap_that_the_variant_was_not_trained_with_is_one_line(chains):
    signer = chains(ANIMATE)
    values = asdict(signer.settings)
    for overlap, window, right in ((0, 9, 1), (1, 9, 1), (5, 9, 5)):
        values["renderer"] |= {"overlap": overlap, "window": window}
        assert read(values).renderer.overlap == right
    for overlap, window in ((4, 9), (5, 5)):
        values["renderer"] |= {"overlap": overlap, "window": window}
        with pytest.raises(SignerError, match=f"overlap {overlap}: segments .* go on from 1 or 5 last frames"):
            read(values)
    assert RATIO == 4
