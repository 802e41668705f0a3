"""Published weights in the chain: what each variant's transformer is given, two experts, SLUL beside the text."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_wan
from safetensors.numpy import load_file, save_file
from tiny_wan import CLIP, RATIO, TEXT, Z, built, config_of, module_of, parameters, write_transformer, write_vae

from signer_jax import model as models
from signer_jax.data.buckets import Bucket
from signer_jax.errors import SignerError
from signer_jax.pose import skeleton
from signer_jax.renderer import windows
from signer_jax.renderer.conditions import DROPPED, Conditions, encoder, without
from signer_jax.renderer.sampler import solve
from signer_jax.renderer.variants import VARIANTS, find
from signer_jax.stations.studio import Shots, Studio
from signer_jax.training import conditions, encoders, objectives
from signer_jax.training.objectives import make_objective
from signer_jax.validation import read

PUBLISHED = [name for name in VARIANTS if name != "own"]
B, K, GRID = 2, 2, 4  # clips of 5 frames, two latent frames


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("wan")
    vae = write_vae(place / "vae")

    @cache
    def of(name: str) -> tuple[str, str]:
        return write_transformer(place / name, name), vae

    return of


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


NOISY, REFERENCE, LATENTS = normal(0, B, K, GRID, GRID, Z), normal(1, B, GRID, GRID, Z), normal(2, B, K, GRID, GRID, Z)
IMAGE = normal(12, B, K, GRID, GRID, Z)  # of the reference and grey frames, encoded together
BLANK, STATES, TOKENS = normal(3, B, K, GRID, GRID, Z), normal(4, B, 512, TEXT), normal(5, B, 257, CLIP)


class Recorder:
    """In the transformer's place: notes what it is given, and answers with its parameters, one number an expert."""

    def __init__(self, module):
        self.module, self.calls = module, []

    def __getattr__(self, name):
        return getattr(self.module, name)

    def apply(self, variables, latents, step, text, **options):
        self.calls.append((latents, step, text, options))
        return jnp.full((*latents.shape[:4], Z), variables["params"], jnp.float32)


def renderer_of(folders, name: str, **changes):
    config = config_of(name, *folders(name))
    config.renderer.update(changes)
    r = models.build(read(config), 0)[0].renderer
    return replace(r, transformer=Recorder(r.transformer))


SAID = Conditions(reference=REFERENCE, blank=BLANK, text=STATES, clip=TOKENS, control=LATENTS, pose=LATENTS)
SIGMA = np.array([0.95, 0.4], np.float32)
SIDES = {"high": np.array([0.95, 0.9], np.float32), "low": np.array([0.4, 0.1], np.float32)}  # of two experts
FRAMES = normal(6, B, K + 1, GRID, GRID, Z)  # with the frame in front


def layout(name: str, sigma: np.ndarray = SIGMA) -> tuple[np.ndarray, np.ndarray]:
    """The input channels and the timestep by hand, as diffusers' pipelines have them, and VideoX-Fun's."""
    mask = np.zeros((B, K + 1, GRID, GRID, RATIO), np.float32)
    mask[:, 0] = 1
    if "animate" in name:
        image = np.concatenate([REFERENCE[:, None], BLANK], 1)
        return np.concatenate([FRAMES, mask, image], -1), 1000 * sigma
    if "i2v" in name and "ti2v" not in name:
        return np.concatenate([NOISY, mask[:, :K], IMAGE], -1), 1000 * sigma
    if name == "wan2.1-fun-control-14b":
        image = np.concatenate([REFERENCE[:, None], 0 * NOISY[:, 1:]], 1)
        return np.concatenate([NOISY, LATENTS, image], -1), 1000 * sigma
    beside = [LATENTS, mask[:, :K], IMAGE] if "fun-control" in name else []
    if "5b" in name:
        tokens = np.repeat(1000 * sigma[:, None], 2 * 2 * 2, 1)  # patches of 2x2
        tokens[:, : 2 * 2] = 0
        return np.concatenate([np.concatenate([REFERENCE[:, None], NOISY[:, 1:]], 1), *beside], -1), tokens
    if beside:
        return np.concatenate([NOISY, *beside], -1), 1000 * sigma
    return NOISY, 1000 * sigma


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_variant_is_given_what_it_was_published_for(folders, name):
    variant = find(name)
    r = renderer_of(folders, name, control="none" if variant.pose == "branch" else "variant")
    said = SAID if variant.clip_dim else SAID._replace(clip=None)
    said = said._replace(image=IMAGE) if r.shows_picture else said
    noisy = FRAMES if variant.front else NOISY
    assert r.whole(NOISY, REFERENCE).shape == noisy.shape
    params = {"high": 1.0, "low": 2.0} if variant.experts else 3.0
    for side, sigma in SIDES.items() if variant.experts else [("", SIGMA)]:
        r.transformer.calls.clear()
        velocity = r.velocity({"transformer": params}, noisy, sigma, said)
        assert velocity.shape == noisy.shape
        assert (velocity == {"high": 1, "low": 2, "": 3}[side]).all()
    latents, step = layout(name, sigma)
    assert latents.shape[-1] == r.transformer.in_channels
    for given in r.transformer.calls:
        np.testing.assert_array_equal(given[0], latents)
        np.testing.assert_allclose(given[1], step)
        np.testing.assert_array_equal(given[2], STATES)
        assert given[3].keys() == {
            *(["image"] if variant.clip_dim else []), *(["pose", "face"] if variant.face else [])
        }  # fmt: skip
        if variant.face:
            np.testing.assert_array_equal(given[3]["pose"], LATENTS)


def test_no_control_shows_animate_what_a_dropped_pose_does(folders):
    shown, hidden = (renderer_of(folders, "wan2.2-animate-14b", control=how) for how in ("variant", "none"))
    assert hidden.shapes is None and hidden.control is None
    shown.velocity({"transformer": 1.0}, FRAMES, SIGMA, without(SAID, {"pose"}))
    hidden.velocity({"transformer": 1.0}, FRAMES, SIGMA, SAID._replace(pose=None))
    for r in (shown, hidden):
        ((*_, options),) = r.transformer.calls
        np.testing.assert_array_equal(options["pose"], np.zeros_like(LATENTS))


def test_one_experts_levels_do_not_ask_the_other(folders):
    """What the other would say is NaN: it is not in the answer, nor in the gradient."""
    r = renderer_of(folders, "wan2.2-t2v-a14b", control="none")

    def first(own, level, seen):
        params = {"high": jnp.nan, "low": jnp.nan} | {seen: own}
        return r.velocity({"transformer": params}, NOISY, np.full(B, level, np.float32), SAID._replace(clip=None)).sum()

    for level, seen in ((1.0, "high"), (0.875, "high"), (0.8749, "low"), (0.0, "low")):
        value, slope = jax.value_and_grad(first)(2.0, level, seen)
        assert (value, slope) == (2 * NOISY.size, NOISY.size), (level, seen)
    mixed = r.velocity({"transformer": {"high": 1.0, "low": 2.0}}, NOISY, SIGMA, SAID._replace(clip=None))
    assert (mixed[0] == 1).all() and np.isnan(mixed[1]).all()  # no other model's answer, and not in silence


def test_slul_stands_beside_a_published_text(folders):
    name = "wan2.1-t2v-1.3b"
    config = config_of(name, *folders(name), slul=True)
    config.renderer.control, config.slul.d_model = "none", 40
    model, params, _ = built(config)
    r = model.renderer
    assert r.transformer.semantics_dim == 40 and r.text(None, None, 3).shape == (3, 40, 40)
    made, known = params["renderer"]["transformer"], parameters(module_of(name), 0)
    assert made["semantics"]["kernel"].shape == (40, 24)
    assert not made["layers"]["cross_attention"]["semantics_gate"].any()
    jax.tree.map(np.testing.assert_array_equal, {key: made[key] for key in known if key != "layers"}, {
        key: value for key, value in known.items() if key != "layers"
    })  # fmt: skip
    H, mask = normal(7, B, 40, 40), np.arange(40) < np.array([[5], [9]])
    said = r.conditions(REFERENCE, np.zeros((B, 5, 16, 16, 12)), r.text(H, mask, B), states=STATES)
    assert said.reference is None and not np.asarray(said.semantics)[0, 5:].any()
    recorded = replace(r, transformer=Recorder(r.transformer))
    recorded.velocity({"transformer": 0.0}, NOISY, SIGMA, said)
    np.testing.assert_array_equal(recorded.transformer.calls[0][3]["semantics"], said.semantics)

    # Once it has learned to listen: of a sentence that is dropped, or that there is none of, nothing is added at all.
    made["layers"]["cross_attention"]["semantics_gate"] += 1.0
    made["semantics"]["bias"] += 0.5
    velocity = jax.jit(lambda c: r.velocity({"transformer": made}, NOISY, SIGMA, c))
    nothing, heard = velocity(said._replace(semantics=None)), velocity(said)
    assert all(np.abs(one - other).max() > 1e-2 for one, other in zip(nothing, heard, strict=True))
    half = velocity(without(said, {"semantics"}, np.array([0.0, 1.0])))
    np.testing.assert_allclose(half, [nothing[0], heard[1]], atol=1e-6)
    np.testing.assert_allclose(velocity(said._replace(semantics=r.text(None, None, B))), nothing, atol=1e-6)


def test_without_a_text_encoder_the_text_is_zeros_of_the_variants_rows(folders):
    name = "wan2.1-t2v-1.3b"
    r = renderer_of(folders, name)
    drawn = np.zeros((B, 5, 16, 16, 12), np.float32)
    text = r.text(None, None, B)
    assert text.shape == (B, 40, 0)
    said = r.conditions(REFERENCE, drawn, text)
    assert said.text.shape == (B, 512, TEXT) and not said.text.any() and said.semantics is None
    short = r.conditions(REFERENCE, drawn, text, states=STATES[:, :7])
    np.testing.assert_array_equal(short.text, np.pad(STATES[:, :7], ((0, 0), (0, 505), (0, 0))))
    with pytest.raises(SignerError, match="513 rows: this variant reads 512"):
        r.conditions(REFERENCE, drawn, text, states=np.zeros((B, 513, TEXT)))


def test_latents_are_normalised_by_a_published_autoencoders_constants(folders):
    name = "wan2.1-t2v-1.3b"
    settings = read(config_of(name, *folders(name)))
    model, params = models.build(settings, 0)
    mean, std = models.latent_constants(model, settings)
    np.testing.assert_allclose(mean, [0.1, -0.2, 0.3, 0.0], atol=1e-7)
    np.testing.assert_allclose(std, [1.5, 0.5, 2.0, 1.0], atol=1e-7)
    video = np.random.default_rng(0).uniform(-1, 1, (1, 5, 16, 16, 3)).astype(np.float32)
    raw, _ = model.vae.apply({"params": params["vae"]}, video, method="encode")
    np.testing.assert_allclose(encoder(model.vae, params)(video), (raw - mean) / std, atol=1e-5)
    np.testing.assert_allclose(encoder(model.vae, params, lambda x: 2 * x + 1)(video), 2 * raw + 1, atol=1e-5)
    # A grey video as the latents are that it stands beside.
    latents = SimpleNamespace(normalise=lambda x: (x - 3.0) / 2.0)
    grey, _ = model.vae.apply({"params": params["vae"]}, np.zeros((1, 5, 16, 16, 3), np.float32), method="encode")
    made = conditions._grey(model.vae, params["vae"], latents, Bucket(5, 16, 16))
    np.testing.assert_allclose(made, (grey[0] - 3.0) / 2.0, atol=1e-5)
    assert not conditions.corpus_constants(settings, model)
    # A run's own autoencoder has none: its corpus's are measured.
    config = config_of(name, folders(name)[0], "")
    config.vae.z_dim, config.vae.dim_mult, config.vae.temporal_downsample = Z, (1, 1, 1), (True, True)
    config.vae.patch_size, config.stages = 1, ("vae", "renderer")
    settings = read(config)
    model = models.build(settings, 0)[0]
    assert models.latent_constants(model, settings) is None and conditions.corpus_constants(settings, model)


def test_a_grey_video_that_is_known_is_not_encoded_at_every_step(folders, monkeypatch):
    name = "wan2.2-animate-14b"
    config = config_of(name, *folders(name))
    config.renderer.control = "variant"
    model, params, settings = built(config)
    calls = []

    def counted(vae, params, normalise=None):
        def encode(video):
            calls.append(video.shape)
            return encoder(vae, params, normalise)(video)

        return encode

    monkeypatch.setattr(objectives, "encoder", counted)
    j = len(model.joints)
    batch = {
        "latents": normal(9, B, K, GRID, GRID, Z), "reference": normal(10, B, GRID, GRID, Z),
        "pose": normal(8, B, 5, j, 2), "confidence": np.ones((B, 5, j), np.float32), "blank": BLANK,
    }  # fmt: skip
    objective = make_objective("renderer", model, settings, 0)
    jax.eval_shape(lambda: objective(params, batch, jax.random.key(0)))
    assert calls == [(B, 5, 16, 16, 3)]  # the drawn pose
    said = model.renderer.conditions(
        REFERENCE, np.zeros((B, 5, 16, 16, 3), np.float32), np.zeros((B, 4, 0), np.float32),
        encode=counted(model.vae, params), blank=BLANK,
    )  # fmt: skip
    np.testing.assert_array_equal(said.blank, BLANK)


@pytest.mark.parametrize("name", ["wan2.2-t2v-a14b", "wan2.2-animate-14b"])
def test_published_weights_train_and_sign(folders, name):
    """Gradients reach the transformer (of two experts one) and the pose; a clip of the right length comes out."""
    model, params, settings = built(config_of(name, *folders(name)))
    j = len(model.joints)
    pose = 0.3 * normal(8, 4, 5, j, 2)
    batch = {
        "latents": normal(9, 4, K, GRID, GRID, Z), "reference": normal(10, 4, GRID, GRID, Z),
        "pose": pose, "confidence": np.ones((4, 5, j), np.float32),
    }  # fmt: skip
    objective = make_objective("renderer", model, settings, 0)

    def loss(renderer, pose, key):
        return objective({**params, "renderer": renderer}, {**batch, "pose": pose}, key)[0]

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    found = []
    for seed in range(12 if model.renderer.variant.experts else 1):
        value, (slope, pull) = step(params["renderer"], pose, jax.random.key(seed))
        assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((slope, pull)))
        assert np.abs(pull).max() > 0
        experts = [slope["transformer"][name] for name in model.renderer.variant.experts] or [slope["transformer"]]
        found.append([any(np.any(leaf) for leaf in jax.tree.leaves(one)) for one in experts])
    # One of two experts learns from a batch, the other has no gradient at all; each has its turn.
    assert {tuple(one) for one in found} == ({(True, False), (False, True)} if len(experts) > 1 else {(True,)})

    r = model.renderer

    def render(noise):
        seen = r.drawn_conditions(
            pose[:B], batch["confidence"][:B], REFERENCE, r.text(None, None, B), encode=encoder(model.vae, params)
        )
        field = r.field_of(params["renderer"], seen, guidance=2.0)
        return r.made(solve(field, noise, r.schedule.levels(), solver=r.schedule.solver), REFERENCE)

    video = jax.jit(render)(FRAMES if r.variant.front else NOISY)
    assert video.shape == NOISY.shape and np.isfinite(video).all()


@pytest.mark.parametrize("name", ["wan2.2-fun-control-a14b", "wan2.2-fun-control-5b"])
def test_fun_control_of_2_2_trains_on_what_an_example_has(folders, name):
    config = config_of(name, *folders(name))
    config.renderer.control = "variant"
    model, params, settings = built(config)
    j = len(model.joints)
    batch = {
        "latents": normal(9, B, K, GRID, GRID, Z), "reference": normal(10, B, GRID, GRID, Z),
        "pose": normal(8, B, 5, j, 2), "confidence": np.ones((B, 5, j), np.float32),
        "picture": np.zeros((B, 16, 16, 3), np.uint8), "shown": np.ones(B, np.float32),
    }  # fmt: skip
    objective = make_objective("renderer", model, settings, 0)
    assert jax.eval_shape(lambda: objective(params, batch, jax.random.key(0)))[0].shape == ()


# ---- Conditions ------------------------------------------------------------------------------------------------------


def test_every_stream_is_dropped_by_itself_and_by_example():
    shape = lambda stream: (2,) if stream == "scale" else (2, 3, 1, 1, 1)  # noqa: E731
    said = Conditions(**{stream: np.full(shape(stream), 2.0, np.float32) for stream in Conditions._fields})
    named = [stream for streams in DROPPED.values() for stream in streams]
    assert sorted([*named, "blank", "before", "text_null"]) == sorted(Conditions._fields)
    said = said._replace(text_null=None)  # of which test_text_states has more
    for name, streams in DROPPED.items():
        none, some = without(said, {name}), without(said, {name}, jnp.array([1.0, 0.0]))
        for stream in Conditions._fields:
            null = -1.0 if stream == "face" else 0.0
            if stream in streams:
                assert (getattr(none, stream) == null).all()
                one, other = getattr(some, stream)
                assert (one == 2.0).all() and (other == null).all()
            else:
                assert getattr(none, stream) is getattr(said, stream)
    assert without(Conditions(), DROPPED) == Conditions()
    assert jax.tree.structure(without(said, DROPPED)) == jax.tree.structure(said)
    with pytest.raises(ValueError, match="no stream is called sound"):
        without(said, {"sound"})


def test_each_condition_has_a_guidance_of_its_own_in_one_batch(folders):
    """v + (g - 1) (v - v without both) + Σ (g_i - 1) (v - v without i), all rows of one call."""
    r = renderer_of(folders, "wan2.1-t2v-1.3b", control="none")
    batches = []

    class Sums:
        def __getattr__(self, name):
            return getattr(r.transformer, name)

        def apply(self, variables, latents, step, text, **options):
            batches.append(len(text))
            return jnp.broadcast_to(text.sum((1, 2))[:, None, None, None, None], latents.shape)

    summed = replace(r, transformer=Sums())
    drawn = (np.zeros((B, 5, 74, 2), np.float32), np.ones((B, 5, 74), np.float32))
    text, states = np.zeros((B, 4, 0), np.float32), np.ones((B, 3, TEXT), np.float32)

    def at(guidance, states=states, **apart):
        batches.clear()
        null = 0.25 * np.ones((B, 1, TEXT), np.float32)
        seen = summed.drawn_conditions(*drawn, REFERENCE, text, states=states, null=null)
        field = summed.field_of({"transformer": 0.0}, seen, guidance=guidance, apart=apart)
        return float(np.asarray(field(NOISY, jnp.float32(0.5)))[0, 0, 0, 0, 0])

    said, null = 3.0 * TEXT, 0.25 * TEXT
    assert at(1.0) == said and batches == [B]
    assert at(2.0) == said + (said - null) and batches == [2 * B]
    # Of this variant nothing but the text can be dropped: both sets are one, and the pose and the reference are none.
    assert at(2.0, text=4.0, pose=3.0) == said + (said - null) + 3 * (said - null) and batches == [2 * B]
    assert at(1.0, reference=3.0) == said and batches == [B]
    assert at(1.0, reference=1.0, text=1.0) == said and batches == [B]


def test_guidance_computes_no_row_twice(folders):
    """The control branch reads each picture once, and none of the rows whose pose is dropped; the field is as of
    rows that are computed one by one, but for rounding."""
    config = config_of("wan2.1-t2v-1.3b", *folders("wan2.1-t2v-1.3b"))
    config.renderer.control = "branch"
    model, params, _ = built(config)
    r, j = model.renderer, len(model.joints)
    weights = tiny_wan.random(params["renderer"], 3)
    seen = r.drawn_conditions(
        normal(8, B, 5, j, 2), np.ones((B, 5, j), np.float32), REFERENCE, r.text(None, None, B), states=STATES
    )
    pictures = []

    class Noted:
        def __getattr__(self, name):
            return getattr(r.control, name)

        def apply(self, variables, picture, step):
            pictures.append(len(picture))
            return r.control.apply(variables, picture, step)

    def velocity(names):
        return np.asarray(r.velocity(weights, NOISY, jnp.full(B, 0.5), without(seen, names)))

    field = replace(r, control=Noted()).field_of(weights, seen, guidance=3.0, apart={"text": 2.0, "face": 4.0})
    assert np.any(seen.picture) and np.abs(velocity(()) - velocity({"pose"})).max() > 0.01
    full, neither, no_text = velocity(()), velocity({"pose", "text"}), velocity({"text"})
    found = np.asarray(field(NOISY, jnp.float32(0.5)))
    np.testing.assert_allclose(found, full + 2 * (full - neither) + (full - no_text), rtol=1e-5, atol=1e-5)
    assert pictures == [B]


def test_the_expert_of_low_noise_has_a_text_guidance_of_its_own(folders):
    """4 and 3, as T2V-A14B is published; in the field, and in each of the studio's programs."""
    r = renderer_of(folders, "wan2.2-t2v-a14b", control="none")

    class Sums:
        def __getattr__(self, name):
            return getattr(r.transformer, name)

        def apply(self, variables, latents, step, text, **options):
            return jnp.broadcast_to(text.sum((1, 2))[:, None, None, None, None], latents.shape)

    summed = replace(r, transformer=Sums(), schedule=replace(r.schedule, steps=8, solver="euler"))
    given = {
        "pose": np.zeros((B, 5, 74, 2), np.float32), "confidence": np.ones((B, 5, 74), np.float32),
        "reference": REFERENCE, "text": np.zeros((B, 4, 0), np.float32), "states": np.ones((B, 3, TEXT), np.float32),
        "null": 0.25 * np.ones((B, 1, TEXT), np.float32),
    }  # fmt: skip
    weights, said, null = {"transformer": {"high": 0.0, "low": 0.0}}, 3.0 * TEXT, 0.25 * TEXT
    led = {True: null + 4.0 * (said - null), False: null + 3.0 * (said - null)}
    said_all = summed.drawn_conditions(**given)
    field = summed.field_of(weights, said_all, guidance=1.0, apart={"text": 4.0}, apart_low={"text": 3.0})
    grid = SimpleNamespace(grid=(GRID, GRID, Z), normalise=np.asarray)
    studio = Studio.of(
        summed, None, {"renderer": weights, "vae": {}}, grid, np.arange(74), 2, size=(16, 16), window=5, guidance=1.0,
        share_noise=False, seed=0, guidance_each={"text": 4.0}, guidance_low={"text": 3.0},
    )  # fmt: skip
    for high, sigma in ((True, 0.9), (False, 0.5)):
        chosen = field.high if high else field.low
        np.testing.assert_allclose(chosen(NOISY, jnp.float32(sigma)), led[high], rtol=1e-6)
    # Each expert's steps, and the way that is gone in them: Euler's.
    levels, (first, second) = summed.schedule.levels(), studio.parts
    assert first[0] and not second[0] and levels[first[1]].min() >= 0.875 > levels[second[1]].max()
    shots = Shots({}, given, np.arange(B)[None])
    laid, calls = windows.laid(windows.plan([K] * B, K, 0), B)
    for high, part in studio.parts:
        state = studio.solver.start(jnp.asarray(NOISY))
        seen = studio.look_at(studio.params, given)
        walked = studio.walk(studio.params, seen, high, state, part.start, part.stop).x
        blend = windows.start(studio.solver, NOISY.reshape(-1, *NOISY.shape[2:]), laid)
        blended = studio.blend(studio.params, shots, laid, calls, high, blend, part.start, part.stop)
        for x in (walked, blended.state.x.reshape(NOISY.shape)):
            way = (levels[part.stop] - levels[part.start]) * led[high]
            np.testing.assert_allclose(x, NOISY + way, rtol=1e-5, atol=1e-4)


def test_a_dropped_reference_leaves_nothing_given(folders):
    """The mask and the image stream of I2V are then empty, and TI2V's first frame is noise like the others."""
    for name in ("wan2.2-i2v-a14b", "wan2.2-ti2v-5b"):
        r = renderer_of(folders, name)
        noisy, step = normal(11, B, K + 1, GRID, GRID, Z), jnp.array([900.0, 300.0])
        image = normal(13, B, K + 1, GRID, GRID, Z) if r.shows_picture else None
        said = Conditions(reference=REFERENCE, text=STATES, image=image)
        said = without(said, {"reference"}, jnp.array([1.0, 0.0]))
        latents, steps = r._inputs(noisy, step, said)
        if "ti2v" in name:
            np.testing.assert_array_equal(latents[1], noisy[1])
            np.testing.assert_array_equal(latents[0, 0], REFERENCE[0])
            np.testing.assert_array_equal(steps, [[0.0] * 4 + [900.0] * 8, [300.0] * 12])
        else:
            assert (latents[0, 0, ..., Z : Z + RATIO] == 1).all() and not latents[1, ..., Z:].any()


def test_the_picture_is_encoded_with_grey_frames_behind_it_where_the_published_model_was(folders):
    """One causal pass, so that the picture is in the latents after it too; nothing where there is none."""
    drawn, text = np.zeros((B, 5, 16, 16, 12), np.float32), np.zeros((B, 4, 0), np.float32)
    picture = np.random.default_rng(0).uniform(-1, 1, (B, 16, 16, 3)).astype(np.float32)
    for name in ("wan2.1-i2v-14b", "wan2.2-i2v-a14b"):
        model, params, _ = built(config_of(name, *folders(name)))
        r, encode = model.renderer, encoder(model.vae, params)
        own = np.asarray(encode(picture[:, None]))[:, 0]
        reference = np.stack([own[0], 0 * own[1]])  # the second has none
        image = np.asarray(r.conditions(reference, drawn, text, encode=encode, picture=picture).image)
        video = np.concatenate([picture[:1, None], np.zeros((1, 4, 16, 16, 3), np.float32)], 1)
        np.testing.assert_allclose(image[:1], encode(video), atol=1e-5)
        np.testing.assert_allclose(image[0, 0], own[0], atol=1e-5)
        assert not image[1].any()
        assert np.abs(image[0, 1] - np.asarray(encode(0 * video))[0, 1]).max() > 0.01
        with pytest.raises(ValueError, match="encoded from the picture in pixels"):
            r.conditions(reference, drawn, text, encode=encode)


def test_a_first_frame_that_is_given_clean_is_kept_and_weighs_nothing(folders):
    r = renderer_of(folders, "wan2.2-ti2v-5b")
    reference = np.stack([REFERENCE[0], 0 * REFERENCE[1]])
    made = np.asarray(r.made(NOISY, reference))
    np.testing.assert_array_equal(made[0, 0], REFERENCE[0])
    np.testing.assert_array_equal(made[1], NOISY[1])
    np.testing.assert_array_equal(made[:, 1:], NOISY[:, 1:])
    pose = np.zeros((B, 5, len(r.groups), 2), np.float32)
    drawn, seen = np.zeros((B, 5, 16, 16, 12), np.float32), np.ones((B, 5, 74), np.float32)
    weights = {"hand": 3.0, "face": 1.0}
    weight = np.asarray(r.loss_weight(pose, seen, drawn, (GRID, GRID), reference, **weights))
    assert not weight[0, 0].any() and (weight[1] == 1).all() and (weight[0, 1:] == 1).all()
    front = renderer_of(folders, "wan2.2-animate-14b")  # its frame in front is a copy of the reference
    still = np.zeros((B, 5, 74, 2), np.float32)
    weight = np.asarray(front.loss_weight(still, seen, drawn, (GRID, GRID), reference, **weights))
    assert (weight[0, 0] == 1).all() and not weight[1, 0].any() and (weight[:, 1:] >= 1).all()
    i2v = renderer_of(folders, "wan2.2-i2v-a14b")
    assert (np.asarray(i2v.loss_weight(pose, seen, drawn, (GRID, GRID), reference, **weights)) == 1).all()


@pytest.mark.parametrize("name", ["wan2.1-t2v-1.3b", "wan2.2-animate-14b"])  # by limbs, and in DWPose's colours
def test_the_face_weighs_where_the_pose_has_it(folders, name):
    r, names = renderer_of(folders, name), skeleton.SUBSETS["signing_74"]
    grid = (52, 52)  # a latent is 1/20 of a shoulder width
    pose, seen = np.full((1, 5, 74, 2), 50.0, np.float32), np.zeros((1, 5, 74), np.float32)
    jaw = {f"face_{i}": (0.3 * np.cos(i / 16 * np.pi), -0.5 + 0.3 * np.sin(i / 16 * np.pi)) for i in (0, 3, 8, 13, 16)}
    for joint, place in (jaw | {"face_30": (0.0, -0.5)}).items():
        pose[:, :, names.index(joint)], seen[:, :, names.index(joint)] = place, 1.0
    drawn = np.asarray(r.draw(pose, seen, grid))
    plain = np.asarray(r.loss_weight(pose, seen, drawn, grid, REFERENCE[:1], hand=3.0, face=1.0))
    weight = np.asarray(r.loss_weight(pose, seen, drawn, grid, REFERENCE[:1], hand=3.0, face=2.0))[0, -1, :, :, 0]
    assert (plain[:, -1] == plain[0, -1, 0, 0]).all()  # no hand is seen
    x, y = (skeleton.to_pixels(np.array([0.0, -0.4], np.float32), 52)).astype(int)
    assert weight[y, x] == pytest.approx(2, abs=0.05) and weight[y + 12, x] == pytest.approx(1, abs=0.01)
    assert 60 < (weight > 1.5).sum() < 250  # of a half disc of .3 shoulder widths, 57 latents, with its limbs' width
    unseen = np.asarray(r.loss_weight(pose, 0 * seen, drawn, grid, REFERENCE[:1], hand=3.0, face=2.0))
    np.testing.assert_allclose(unseen[:, -1], 1, atol=1e-6)


def test_hands_weigh_beside_a_control_picture_that_is_coarser_than_the_latents_or_none(folders):
    """As large as the token grid, or between two sizes of latents: then they are drawn by themselves. Where nothing is
    shown the pose, as on general video, no picture of it is drawn.
    """
    fine = renderer_of(folders, "wan2.1-t2v-1.3b")
    names = skeleton.SUBSETS["signing_74"]
    pose, seen = np.full((1, 5, 74, 2), 50.0, np.float32), np.zeros((1, 5, 74), np.float32)
    for i, name in enumerate(name for name in names if name.startswith("right_hand")):
        joint, place = names.index(name), (0.9 + 0.05 * (i % 4), 0.9 + 0.05 * (i // 4))
        pose[:, :, joint], seen[:, :, joint] = place, 1.0
    grid, given = (GRID, GRID), {"hand": 3.0, "face": 1.0}
    expected = np.asarray(fine.loss_weight(pose, seen, np.asarray(fine.draw(pose, seen, grid)), grid, **given))
    for changes in (
        {"control_size": GRID // 2}, {"control_size": 3 * GRID // 2, "control_fold": 3}, {"control": "none"},
    ):  # fmt: skip
        r = renderer_of(folders, "wan2.1-t2v-1.3b", **changes)
        drawn = np.asarray(r.draw(pose, seen, grid))
        assert drawn.size if r.control else not drawn.size
        assert drawn.shape[2] == r.control_size[0]
        weight = np.asarray(r.loss_weight(pose, seen, drawn, grid, **given))
        assert weight.shape == expected.shape and weight.max() > 1.5
        assert weight.argmax() == expected.argmax() and weight[0, 0, 0, 0] == pytest.approx(1, abs=0.05)


# ---- Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "variant", "message"),
    [
        ("wan2.1-i2v-14b", "wan2.1-t2v-14b", r"takes 12 channels .*as wan2.1-i2v-14b, .*has 4 \(noise\) and 4"),
        ("wan2.2-animate-14b", "wan2.1-i2v-14b", "a model with a face branch, .* is one without"),
        ("wan2.1-i2v-14b", "wan2.2-animate-14b", "a model without a face branch, .* is one with"),
        ("wan2.1-t2v-14b", "wan2.2-t2v-a14b", "holds no folder 'transformer_2'"),
        ("wan2.2-i2v-a14b", "wan2.1-i2v-14b", "holds a model of two experts"),
        ("wan2.2-t2v-a14b", "wan2.1-t2v-14b", "holds a model of two experts .* wan2.2-t2v-a14b or wan2.2-i2v-a14b"),
        ("wan2.2-i2v-a14b/transformer", "wan2.1-i2v-14b", "a model without CLIP's tokens"),
        ("wan2.1-t2v-14b", "own", "takes 4 channels"),
    ],
)  # fmt: skip
def test_weights_of_another_model_are_one_line(folders, weights, variant, message):
    name, *inside = weights.split("/")
    folder, vae = folders(name)
    config = config_of(variant, "/".join([folder, *inside]), vae)
    with pytest.raises(SignerError, match=message) as error:
        models.build(read(config), 0)
    assert "\n" not in str(error.value)


def test_conditions_of_another_size_are_one_line(folders):
    r = renderer_of(folders, "wan2.2-animate-14b")
    for name, value in (("pose", LATENTS[:, :1]), ("control", LATENTS[:, :, 1:]), ("reference", REFERENCE[:, 1:])):
        with pytest.raises(SignerError, match=f"the {name} has latents .*, this video needs") as error:
            r.velocity({"transformer": 1.0}, FRAMES, SIGMA, SAID._replace(**{name: value}))
        assert "\n" not in str(error.value)


def test_a_config_may_leave_length_and_shift_to_the_variant(folders):
    config = config_of("wan2.2-animate-14b", *folders("wan2.2-animate-14b"))
    config.renderer.window = 0
    c = read(config).renderer
    assert (c.window, c.shift) == (77, 5.0)
    config.renderer.shift = 3.0
    assert read(config).renderer.shift == 3.0
    config.renderer.variant = "own"
    with pytest.raises(SignerError, match="window 0: the variant 'own' has no length of its own"):
        read(config)


def test_a_guidance_needs_its_dropout_and_an_encoder_its_reader(folders):
    config = config_of("wan2.1-t2v-14b", *folders("wan2.1-t2v-14b"))
    config.renderer.image_encoder = "pipeline"
    with pytest.raises(SignerError, match="image_encoder pipeline: the variant 'wan2.1-t2v-14b' takes no tokens"):
        read(config)
    config.renderer.image_encoder, config.renderer.guidance_each.reference = "", 2.0
    read(config)  # published weights were trained elsewhere
    config.renderer.init, config.renderer.reference_dropout = "", 0.1
    read(config)
    config.renderer.guidance_each.pose = 2.0
    with pytest.raises(SignerError, match="guidance_each.pose 2.0: .*dropout_each.pose above 0"):
        read(config)
    config.renderer.dropout_each.pose = 0.1
    assert read(config).renderer.guidance_each.pose == 2.0
    config.renderer.guidance_low_noise = 3.0
    with pytest.raises(SignerError, match="guidance_low_noise 3.0: the variant 'wan2.1-t2v-14b' has no two experts"):
        read(config)
    config.renderer.variant = "wan2.2-t2v-a14b"
    with pytest.raises(SignerError, match="guidance_low_noise 3.0: .*dropout_each.text above 0"):
        read(config)
    config.renderer.dropout_each.text = 0.1
    assert read(config).renderer.guidance_low_noise == 3.0


def test_a_run_begins_with_wans_own_form_and_says_what_is_left_out(folders, tmp_path):
    name = "wan2.1-fun-control-14b"
    tiny_wan.save_transformer(tmp_path / "fun", module_of(name), parameters(module_of(name), seed=0))
    file = tiny_wan.in_original_form(tmp_path / "fun") / "diffusion_pytorch_model.safetensors"
    save_file({**load_file(file), "ref_conv.weight": np.ones((24, 4, 2, 2)), "ref_conv.bias": np.ones(24)}, file)
    config = config_of(name, str(tmp_path / "fun"), folders(name)[1])
    _, params, settings = built(config)
    _, expected, _ = built(config_of(name, *folders(name)))
    jax.tree.map(np.testing.assert_array_equal, params["renderer"]["transformer"], expected["renderer"]["transformer"])
    assert any("ref_conv is left out" in line for line in encoders.said(settings))
    assert encoders._width(settings, "image_dim", 1280) == CLIP


def test_config_values_that_do_not_go_with_a_variant(folders):
    config = config_of("wan2.1-t2v-14b", *folders("wan2.1-t2v-14b"))
    config.renderer.stem_features = (8, 8)
    with pytest.raises(SignerError, match="takes latents, not a stem's features"):
        read(config)
    config.renderer.stem_features, config.renderer.window = (), 6
    with pytest.raises(SignerError, match="window 6: must be 4n \\+ 1 frames .*nearest are 5 and 9"):
        models.build(read(config), 0)
    config.renderer.variant = "wan2.1-t2v-1b"
    with pytest.raises(SignerError, match="did you mean 'wan2.1-t2v-14b'|did you mean"):
        read(config)
