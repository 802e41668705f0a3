"""Long videos of models that go on from pixels: what a second segment is given, what it begins with, what is shown.

Random weights make no smooth video, so the frames that are carried over are followed instead of the change at the seam:
`Obedient` stands in the transformer's place where the carried frames are an input, and gives back what it is given.
"""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from renderer.tiny_wan import CLIP, RATIO, Z, built, config_of, write_transformer, write_vae

from signer_jax import model as models
from signer_jax.data.streams import to_pixels_range
from signer_jax.renderer import windows
from signer_jax.renderer.latents import LatentStore
from signer_jax.renderer.references import ReferenceBank
from signer_jax.stations import render as station
from signer_jax.stations import studio as station_programs
from signer_jax.stations.render import render, style
from signer_jax.stations.studio import Studio
from signer_jax.types import Pose

SIZE, GRID, FRAMES, SEGMENT = 16, 4, 27, 13  # the clip's frames, a segment's
# The picture in pixels, its latents alone, clean at timestep 0; behind a reference in front.
CASES = [("wan2.1-i2v-14b", 1), ("wan2.1-fun-control-14b", 1), ("wan2.2-ti2v-5b", 1), ("wan2.2-animate-14b", 5)]


class Obedient:
    """In the transformer's place: a velocity that leads straight to the image stream, the last of its channels."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, name)

    def apply(self, variables, latents, step, text, **options):
        return (latents[..., :Z] - latents[..., -Z:]) / (step[:, None, None, None, None] / 1000)


@pytest.fixture(scope="module")
def vae(tmp_path_factory) -> str:
    return write_vae(tmp_path_factory.mktemp("vae"))


def studio_of(name: str, overlap: int, vae: str, place: Path) -> tuple[Studio, list]:
    """A run's station on random weights, and what its program was given and gave, a pair a segment."""
    config = config_of(name, write_transformer(place / "wan", name), vae)
    config.renderer.window, config.renderer.overlap, config.renderer.guidance = SEGMENT, overlap, 1.0
    config.renderer.control = "variant"
    model, params, settings = built(config)
    renderer, rng, j = model.renderer, np.random.default_rng(1), len(model.joints)
    if "image" in renderer.variant.streams:
        renderer = replace(renderer, transformer=Obedient(renderer.transformer))
    bank = ReferenceBank(
        rng.normal(size=(3, GRID, GRID, Z)).astype(np.float32), rng.normal(size=(3, j, 2)).astype(np.float32),
        np.ones((3, j), np.float32), np.arange(3), rng.integers(0, 255, (3, SIZE, SIZE, 3), np.uint8),
        rng.normal(size=(3, 5, CLIP)).astype(np.float32) if renderer.variant.clip_dim else None,
    )  # fmt: skip
    constants = models.latent_constants(model, settings)
    assert constants is not None
    store = LatentStore(Path(), "", *constants, {"a": bank}, np.eye(Z, dtype=np.float32))
    studio = Studio.of(
        renderer, model.vae, params, store, model.joints, 2, size=(SIZE, SIZE), window=SEGMENT, overlap=overlap,
        guidance=1.0, share_noise=False, seed=0,
    )  # fmt: skip
    segments: list = []

    def noted(params, noise, conditions):
        segments.append((conditions, np.asarray(studio.film(params, noise, conditions))))
        return segments[-1][1]

    return replace(studio, film=noted), segments


@pytest.mark.parametrize(("name", "overlap"), CASES)
def test_a_segment_begins_with_the_last_frames_of_the_one_before(name, overlap, vae, tmp_path):
    studio, segments = studio_of(name, overlap, vae, tmp_path)
    steps = np.random.default_rng(0).normal(0, 0.05, (FRAMES, 128, 3)).cumsum(axis=0).astype(np.float32)
    pose = Pose(steps, np.ones((FRAMES, 128), np.float32), 16.0)
    video = render(pose, style(studio), None, None, studio).video
    starts = list(range(0, FRAMES - overlap, SEGMENT - overlap))
    assert video.shape == (FRAMES, SIZE, SIZE, 3) and len(segments) == len(starts) == 3
    variant = studio.renderer.variant

    def through_the_autoencoder(frames):
        return np.asarray(studio.decode(studio.params["vae"], studio.encode(studio.params["vae"], frames)))

    for k, start in enumerate(starts):
        given, made = segments[k]
        # Its poses begin with those of the frames that it shares, and what it makes is shown behind these.
        at = np.minimum(np.arange(start, start + SEGMENT), FRAMES - 1)
        np.testing.assert_array_equal(given["pose"][0], pose.coordinates[at][:, studio.joints, :2])
        shown = overlap if k else 0
        np.testing.assert_array_equal(
            video[start + shown : start + SEGMENT], to_pixels_range(made)[0, shown : FRAMES - start]
        )
        if not k:
            assert not variant.front or not given["before"].any()
            first = given
            continue
        carried = segments[k - 1][1][:, -overlap:]
        np.testing.assert_array_equal(to_pixels_range(carried)[0], video[start : start + overlap])
        if "clip" in given:
            np.testing.assert_array_equal(given["clip"], first["clip"])  # of the look, all the way
        if variant.front:
            np.testing.assert_array_equal(given["before"], carried)
            np.testing.assert_array_equal(given["reference"], first["reference"])
        else:
            own = studio.latents.normalise(np.asarray(studio.encode(studio.params["vae"], carried)))[:, 0]
            np.testing.assert_allclose(given["reference"], own, atol=1e-5)
            if studio.renderer.shows_picture:
                np.testing.assert_array_equal(given["picture"], carried[:, -1])
        # What a model makes of what it is given begins with the very frames, as the autoencoder has them.
        np.testing.assert_allclose(made[:, :overlap], through_the_autoencoder(carried), atol=2e-4)
        other = through_the_autoencoder(made[:, -overlap:])
        assert np.abs(other - made[:, :overlap]).max() > 0.05  # which other frames are not

    # The changes that are told from those inside are between the frames of two segments.
    seams = np.flatnonzero(windows.seams(FRAMES, SEGMENT, overlap, ratio=RATIO, goes_on=True)) + 1
    assert list(seams) == [start + overlap for start in starts[1:]]


@pytest.mark.parametrize(("name", "overlap"), CASES)
def test_all_segments_are_one_program(name, overlap, vae, tmp_path, monkeypatch, caplog):
    """Whether its steps are told or not: of 14B a second one costs minutes. The look's picture is encoded by the
    program that encodes a segment's last frame.
    """
    noted, _ = studio_of(name, overlap, vae, tmp_path)
    studio = noted.by(noted.velocity, steps=1)
    pose = Pose(np.zeros((FRAMES, 128, 3), np.float32), np.ones((FRAMES, 128), np.float32), 16.0)
    look = style(studio, picture=np.zeros((SIZE, SIZE, 3), np.uint8))
    if studio.renderer.variant.clip_dim is not None:
        look = replace(look, clip=np.ones((5, CLIP), np.float32))
    made = []
    for told, programs in ((False, ("film", "encode")), (True, ("look_at", "walk", "decode", "encode"))):
        if told:
            monkeypatch.setattr(station_programs, "_LONG", 0)
        caplog.clear()
        with jax.log_compiles(), caplog.at_level("WARNING", "jax"):
            made.append(render(pose, look, None, None, studio).video)
        said = [record.message for record in caplog.records]
        names = [line[14:].partition(")")[0] for line in said if line.startswith("Compiling jit(")]
        assert all(names.count(program) <= 1 for program in programs), names
        assert set(programs) - {"encode"} <= set(names)
    assert np.abs(made[0].astype(int) - made[1]).max() <= 1


@pytest.mark.parametrize("name", ["wan2.2-animate-14b"])
def test_a_first_segment_has_nothing_given(name, vae, tmp_path):
    """What the model sees of zeros before it is what it sees where nothing is said of them."""
    studio, _ = studio_of(name, 5, vae, tmp_path)
    j = len(studio.joints)
    given = {
        "pose": np.zeros((1, SEGMENT, j, 2), np.float32), "confidence": np.ones((1, SEGMENT, j), np.float32),
        "reference": style(studio).reference[None], "text": np.asarray(studio.renderer.text(None, None, 1)),
    }  # fmt: skip
    bare = studio.look_at(studio.params, given)
    seen = studio.look_at(studio.params, given | {"before": np.zeros((1, 5, SIZE, SIZE, 3), np.float32)})
    np.testing.assert_allclose(seen.blank, bare.blank, atol=1e-6)
    noisy, step = np.asarray(studio.noise), np.full(1, 500.0, np.float32)
    for ours, theirs in zip(*(studio.renderer._inputs(noisy, step, c) for c in (seen, bare)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_frame_in_front_has_noise_of_its_own(vae, tmp_path, monkeypatch):
    """As in training, unless all frames are to share one: where nothing is learned the noise is what comes out."""
    studio, _ = studio_of("wan2.2-animate-14b", 5, vae, tmp_path)
    noise = np.asarray(studio.noise)
    assert noise.shape == (1, 2 + (SEGMENT - 1) // RATIO, GRID, GRID, Z)
    assert len(np.unique(noise)) == noise.size
    monkeypatch.setattr(type(studio.renderer), "velocity", lambda self, params, noisy, *_, **__: 0 * noisy)
    j = len(studio.joints)
    conditions = {
        "pose": np.zeros((1, SEGMENT, j, 2), np.float32), "confidence": np.ones((1, SEGMENT, j), np.float32),
        "reference": style(studio).reference[None], "text": np.asarray(studio.renderer.text(None, None, 1)),
    }  # fmt: skip
    expected = studio.decode(studio.params["vae"], studio.latents.denormalise(noise[:, 1:]))
    told = replace(studio, look_at=lambda *_: None, walk=lambda params, seen, high, state, *_: state)
    with station._filming(studio, 1) as film:
        np.testing.assert_allclose(film(studio.noise, conditions), expected, atol=1e-6)
    monkeypatch.setattr(station_programs, "_LONG", 0)  # each step is told
    with station._filming(told, 1) as film:
        np.testing.assert_allclose(film(studio.noise, conditions), expected, atol=1e-6)
    shared = Studio.of(
        studio.renderer, studio.vae, studio.params, studio.latents, studio.joints, 2, size=(SIZE, SIZE), window=SEGMENT,
        overlap=5, guidance=1.0, share_noise=True, seed=0,
    )  # fmt: skip
    np.testing.assert_array_equal(shared.noise, np.repeat(shared.noise[:, :1], noise.shape[1], 1))
