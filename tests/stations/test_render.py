"""Pose -> video on an untrained tiny chain: one or many, whose look, the same noise in every window."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from signer_jax import configuration
from signer_jax import model as models
from signer_jax.errors import SignerError
from signer_jax.planning import weightless
from signer_jax.progress import progress
from signer_jax.renderer.conditions import Conditions, without
from signer_jax.renderer.latents import LatentStore
from signer_jax.renderer.references import ReferenceBank
from signer_jax.stations import render as station
from signer_jax.stations import studio as programs
from signer_jax.stations.render import Style, look_of, picture, render, render_many, roundtrip, style
from signer_jax.stations.studio import Studio
from signer_jax.training import partitioning
from signer_jax.types import Pose
from signer_jax.validation import read

WINDOW = 5


def bank(model: models.Model, seed: int, frames: int = 3) -> ReferenceBank:
    rng = np.random.default_rng(seed)
    j = len(model.joints)
    return ReferenceBank(
        rng.normal(size=(frames, 8, 8, 4)).astype(np.float32), rng.normal(size=(frames, j, 2)).astype(np.float32),
        np.ones((frames, j), np.float32), np.arange(frames),
    )  # fmt: skip


@pytest.fixture(scope="module")
def studio() -> Studio:
    from conftest import TINY

    config = configuration.load(TINY)
    config.stages, config.renderer.guidance = ("vae", "renderer"), 1.0
    settings = read(config)
    model, published = models.build(settings, 0)
    params = models.init(model, settings, published, seed=0)
    keys = iter(jax.random.split(jax.random.key(2), 1000))
    params["renderer"] = jax.tree.map(
        lambda leaf: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape), params["renderer"]
    )
    banks = {"a": bank(model, 1), "b": bank(model, 2)}
    mean, std = np.full(4, 0.1, np.float32), np.full(4, 0.8, np.float32)
    store = LatentStore(Path(), "", mean, std, banks, np.eye(4, dtype=np.float32))
    return Studio.of(
        model.renderer, model.vae, params, store, model.joints, 2,
        size=(32, 32), window=WINDOW, guidance=1.0, share_noise=True, seed=0,
    )  # fmt: skip


def pose(frames: int, seed: int) -> Pose:
    steps = np.random.default_rng(seed).normal(0, 0.05, (frames, 128, 3)).cumsum(axis=0)
    return Pose(steps.astype(np.float32), np.ones((frames, 128), np.float32), 16.0)


def texts(studio: Studio, b: int):
    shape = (b, studio.renderer.text_length, studio.renderer.transformer.text_dim)
    mask = np.arange(shape[1]) < np.arange(2, 2 + b)[:, None]
    return np.random.default_rng(3).normal(size=shape).astype(np.float32), mask


def test_many_are_rendered_as_each_alone(studio):
    """Three poses of 3, 1 and 2 windows: windows of one batch come from several poses, each with its own text."""
    poses, styles = [pose(12, 0), pose(3, 1), pose(10, 2)], [style(studio, signer=name) for name in "aba"]
    H, mask = texts(studio, 3)
    many = render_many(poses, styles, H, mask, studio)
    for i, one in enumerate(many):
        alone = render(poses[i], styles[i], H[i : i + 1], mask[i : i + 1], studio)
        assert one.video.shape == (len(poses[i]), 32, 32, 3) and one.video.dtype == np.uint8
        assert one.style is styles[i] is alone.style
        assert np.abs(one.video.astype(int) - alone.video).max() <= 1
    assert np.abs(many[0].video[:3].astype(int) - many[1].video).max() > 1


def test_every_window_starts_from_the_same_noise(studio):
    still = pose(1, 0)
    still = Pose(still.coordinates.repeat(3 * WINDOW, 0), still.confidence.repeat(3 * WINDOW, 0), 16.0)
    windows = render(still, style(studio), None, None, studio).video.reshape(3, WINDOW, 32, 32, 3)
    np.testing.assert_array_equal(windows[0], windows[1])
    np.testing.assert_array_equal(windows[0], windows[2])


def test_small_windows_are_as_many_as_devices_share(studio):
    assert studio.rows(1) == 4
    with jax.sharding.use_abstract_mesh(partitioning.make_mesh({"fsdp": 8}).abstract_mesh):
        assert studio.rows(1) == studio.rows(30) == 8


@pytest.fixture(scope="module")
def blending(studio):
    """The same run with two of five frames shared, and noise of its own for every frame."""
    return Studio.of(
        studio.renderer, studio.vae, studio.params, studio.latents, studio.joints, 2,
        size=(32, 32), window=WINDOW, guidance=1.0, share_noise=False, seed=0, overlap=2,
    )  # fmt: skip


def test_blended_windows_are_one_video_for_every_pose(blending):
    poses, styles = [pose(12, 0), pose(3, 1)], [style(blending, signer=name) for name in "ab"]
    H, mask = texts(blending, 2)
    many = render_many(poses, styles, H, mask, blending)
    for i, one in enumerate(many):
        alone = render(poses[i], styles[i], H[i : i + 1], mask[i : i + 1], blending)
        assert one.video.shape == (len(poses[i]), 32, 32, 3) and one.video.dtype == np.uint8
        assert np.abs(one.video.astype(int) - alone.video).max() <= 1
    again = render_many(poses, styles, H, mask, blending)
    np.testing.assert_array_equal(again[0].video, many[0].video)


def test_a_clip_of_one_window_is_the_same_blended_or_apart(studio, blending):
    """There is nothing to share; the noise is the only difference, so that it is laid aside here."""
    same = replace(blending, noise_of=lambda frames: studio.noise[0, :frames])
    shown, (H, mask) = pose(5, 0), texts(studio, 1)
    apart, blended = (render(shown, style(one), H, mask, one).video for one in (studio, same))
    assert np.abs(apart.astype(int) - blended).max() <= 1


def test_the_noise_of_a_longer_clip_begins_as_a_shorter_ones(studio, blending):
    for one in (studio, blending):
        np.testing.assert_array_equal(one.noise_of(7)[:3], one.noise_of(3))
    assert not np.allclose(blending.noise_of(2)[0], blending.noise_of(2)[1])
    np.testing.assert_array_equal(studio.noise_of(3), np.repeat(studio.noise[0, :1], 3, 0))


def again(studio, **changes) -> Studio:
    """The same station, its programs anew."""
    options = {"size": (32, 32), "window": WINDOW, "guidance": 1.0, "share_noise": True, "seed": 0} | changes
    renderer = options.pop("renderer", studio.renderer)
    return Studio.of(
        renderer, studio.vae, studio.params, studio.latents, studio.joints, 2, **options
    )  # fmt: skip


@pytest.mark.parametrize(("share", "overlap"), [(True, 0), (False, 2)])
def test_the_temperature_is_a_factor_of_the_noise(studio, share, overlap):
    schedules = (replace(studio.renderer.schedule, temperature=t) for t in (1.0, 0.5))
    warm, cool = (
        again(studio, share_noise=share, overlap=overlap, renderer=replace(studio.renderer, schedule=one))
        for one in schedules
    )
    np.testing.assert_array_equal(cool.noise, warm.noise / 2)
    np.testing.assert_array_equal(cool.noise_of(4), warm.noise_of(4) / 2)
    seen = [render(pose(7, 0), style(one), None, None, one).video for one in (warm, cool)]
    assert np.abs(seen[0].astype(int) - seen[1]).max() > 1


def test_signing_never_takes_more_than_a_chunk_of_the_autoencoder_at_once(studio, by_chunks_alone):
    """Its latents are of two frames. Windows of three latents: whole ones would be refused."""
    vae = studio.vae.clone(name="fresh")  # so that nothing is known of it
    for overlap in (0, 2):
        one = replace(again(replace(studio, vae=vae), overlap=overlap), vae=vae)
        assert render(pose(12, 0), style(studio), None, None, one).video.shape == (12, 32, 32, 3)
        assert "decode" in by_chunks_alone and "encode_chunk" not in by_chunks_alone
        by_chunks_alone.clear()
    one = again(replace(studio, vae=studio.vae.clone(name="another")))
    video = np.random.default_rng(0).integers(0, 255, (1, WINDOW, 32, 32, 3), np.uint8)
    assert roundtrip(video, one).shape == video.shape and set(by_chunks_alone) == {"encode_chunk", "decode"}


def test_encoding_and_decoding_are_planned_in_level_memory(studio):
    params = jax.eval_shape(lambda: studio.params["vae"])

    def planned(program, *shape):
        lowered = program.lower(params, jax.ShapeDtypeStruct((1, *shape), np.float32))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    for program, shapes in (
        (studio.encode, [(t, 32, 32, 3) for t in (9, 81)]), (studio.decode, [(t, 8, 8, 4) for t in (5, 41)]),
    ):  # fmt: skip
        short, long = (planned(program, *shape) for shape in shapes)
        assert long < 1.01 * short


def test_large_windows_go_alone_and_small_ones_as_one_program(studio, blending, monkeypatch):
    def of(*shape):
        return replace(studio, noise=jax.ShapeDtypeStruct((1, *shape, 16), np.float32))

    published, middling, demo = of(21, 60, 104), of(3, 64, 64), of(3, 32, 32)
    for one, rows in ((published, [1, 1, 1]), (middling, [1, 2, 2]), (demo, [4, 4, 4])):
        assert [one.rows(count) for count in (1, 2, 9)] == rows

    # A clip of one window and one of three, window by window: nothing is computed that is not shown.
    H, mask = texts(studio, 2)
    poses, styles = [pose(5, 0), pose(12, 1)], [style(studio, signer=name) for name in "ab"]
    for one in (studio, blending):
        seen = []

        def film(params, noise, *rest, one=one, seen=seen):
            seen.append((len(noise), 1))
            return one.film(params, noise, *rest)

        def blend(params, given, laid, calls, *rest, one=one, seen=seen):
            seen.append((laid.at.shape[1], calls))
            return one.blend(params, given, laid, calls, *rest)

        noted = replace(one, film=film, blend=blend)
        filled = [part.video for part in render_many(poses, styles, H, mask, noted)]
        assert {rows for rows, _ in seen} == {4}
        monkeypatch.setattr(programs, "_PLACES", 100)
        seen.clear()
        alone = [part.video for part in render_many(poses, styles, H, mask, noted)]
        assert seen == ([(1, 1)] * 4 if one is studio else [(1, 4)])  # all steps in one call
        for ours, theirs in zip(alone, filled, strict=True):
            assert np.abs(ours.astype(int) - theirs).max() <= 1
        monkeypatch.undo()


def programs_of(log, name: str) -> int:
    """How many of this name were compiled."""
    return sum(record.message.startswith(f"Compiling jit({name})") for record in log.records)


@pytest.mark.parametrize(("axes", "overlap"), [({}, 0), ({"fsdp": 4}, 0), ({}, 2), ({"context": 4}, 2)])
def test_each_step_or_all_at_once_are_one_program_and_one_video(studio, overlap, axes, monkeypatch, caplog):
    """On one device, and on several that share rows or tokens: a bar costs no other program and changes nothing."""
    mesh = partitioning.make_mesh(axes, jax.devices()[: 4 if axes else 1])
    params = jax.device_put(studio.params, partitioning.tree_shardings(studio.params, mesh))
    one = replace(again(studio, overlap=overlap, share_noise=False), params=params)
    shown, made = [pose(12, 0), pose(9, 1)], []
    with partitioning.on_mesh_of(params), jax.log_compiles(), caplog.at_level("WARNING", "jax"):
        if not overlap:
            monkeypatch.setattr(programs, "_LONG", 1)  # else it is the one program `film`
        for watched in (True, False):
            monkeypatch.setattr(station, "progress", partial(progress, shown=watched))
            monkeypatch.setattr(Studio, "shows", lambda self, count, watched=watched: watched)
            made.append(render_many(shown, [style(one)] * 2, None, None, one))
    for first, second in zip(*made, strict=True):
        np.testing.assert_array_equal(first.video, second.video)
    name, other = ("blend", "walk") if overlap else ("walk", "blend")
    assert programs_of(caplog, name) == 1 and programs_of(caplog, other) == 0
    expected = render_many(shown, [style(studio)] * 2, None, None, again(studio, overlap=overlap, share_noise=False))
    for ours, theirs in zip(made[0], expected, strict=True):
        assert np.abs(ours.video.astype(int) - theirs.video).max() <= 1


def test_what_blended_windows_show_is_drawn_once_where_it_can_be_kept(blending, monkeypatch):
    """Else at each step, and the video is the same."""
    shown, look, made = pose(12, 0), style(blending), []
    for limit in (station._DRAWN, 0):
        monkeypatch.setattr(station, "_DRAWN", limit)
        one, given = again(blending, overlap=2, share_noise=False), []

        def blend(params, seen, *rest, one=one, given=given):
            given.append(type(seen))
            return one.blend(params, seen, *rest)

        made.append(render(shown, look, None, None, replace(one, blend=blend)).video.astype(int))
        assert given == [Conditions if limit else station.Shots]
    assert np.abs(made[0] - made[1]).max() <= 1  # rounding


def test_a_control_picture_is_kept_in_its_branchs_type():
    """So two windows of a shipped config fit the limit; dropped, as guidance has it beside it, it stays as small."""
    found = weightless.described(configuration.load_without_weights("wan_t2v_1_3b")).model
    shape = partial(jax.ShapeDtypeStruct, dtype=np.float32)
    j = len(found.joints)

    def look(pose, confidence, reference, text, states):
        seen = found.renderer.drawn_conditions(pose, confidence, reference, text, states=states, null=states)
        return seen, without(seen, {"pose"})

    given = [
        shape((1, 81, j, 2)),
        shape((1, 81, j)),
        shape((1, 60, 104, 16)),
        shape((1, 22, 128)),
        shape((1, 512, 4096)),
    ]
    seen, dropped = jax.eval_shape(look, *given)
    assert seen.picture.shape == (1, 21, 480, 832, 48) and seen.picture.dtype == found.renderer.control.dtype
    assert dropped.picture.dtype == seen.picture.dtype
    assert 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(seen)) <= station._DRAWN


def test_a_long_window_is_counted_from_the_first_one_on(studio, blending, monkeypatch, capsys):
    shown = pose(5, 0)
    for one in (studio, blending):
        render(shown, style(one), None, None, one)
        assert capsys.readouterr().err == ""
    monkeypatch.setattr(programs, "_LONG", 100)
    render(shown, style(studio), None, None, studio)
    assert "steps" in (err := capsys.readouterr().err) and "2/2" in err and "windows" not in err
    render(shown, style(blending), None, None, blending)
    assert "2/2" in (err := capsys.readouterr().err) and "frames decoded" in err  # a step each
    monkeypatch.undo()
    schedule = replace(studio.renderer.schedule, steps=30)
    published = replace(
        studio, noise=jax.ShapeDtypeStruct((1, 21, 60, 104, 16), np.float32),
        renderer=replace(studio.renderer, schedule=schedule),
    )  # fmt: skip
    assert published.shows(1) and not studio.shows(32) and studio.shows(33)


def test_windows_that_cannot_share_so_much_are_refused(studio):
    for overlap in (1, 4):
        with pytest.raises(SignerError, match="config.renderer.overlap .*multiple of 2 .* at most half"):
            Studio.of(
                studio.renderer, studio.vae, studio.params, studio.latents, studio.joints, 2,
                size=(32, 32), window=WINDOW, guidance=1.0, share_noise=False, seed=0, overlap=overlap,
            )  # fmt: skip


def test_text_and_style_reach_the_video(studio):
    shown, (H, mask) = pose(5, 0), texts(studio, 1)
    silent = render(shown, style(studio), None, None, studio).video
    assert (render(shown, style(studio), H, mask, studio).video != silent).any()
    np.testing.assert_array_equal(render(shown, style(studio), H, np.zeros_like(mask), studio).video, silent)
    assert (render(shown, style(studio, signer="b"), None, None, studio).video != silent).any()


def test_other_parameters_go_through_the_same_programs(studio):
    zeros = jax.tree.map(np.zeros_like, studio.params["renderer"])
    other = replace(studio, params={**studio.params, "renderer": zeros})
    assert other.film is studio.film
    shown = pose(5, 0)
    assert (render(shown, style(studio), None, None, other).video != render(
        shown, style(studio), None, None, studio).video).any()  # fmt: skip


def test_the_look_is_a_training_signers(studio):
    assert look_of("b", studio) == "b" and look_of("unknown", studio) == "a"
    assert style(studio).signer == "a" and style(studio, signer="b").signer == "b"
    bank = studio.latents.banks["b"]
    np.testing.assert_array_equal(style(studio, signer="b").reference, bank.typical())
    with pytest.raises(SignerError, match="no training video; known: a, b"):
        style(studio, signer="nobody")


def test_a_picture_is_a_style(studio):
    level = np.full((32, 32, 3), 90, np.uint8)
    taken = style(studio, picture=level)
    assert taken.signer == "" and taken.reference.shape == (8, 8, 4)
    # What the latents show is the picture after the autoencoder, as one frame.
    np.testing.assert_array_equal(picture(taken, studio), roundtrip(level[None, None], studio)[0, 0])
    with pytest.raises(SignerError, match="is 30x32, this run needs 32x32"):
        style(studio, picture=level[:, :30])
    assert picture(Style(np.zeros((8, 8, 4), np.float32)), studio).shape == (32, 32, 3)
