"""The stages' objectives on the tiny model: the joint one is end to end, and a mesh changes nothing but the place."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_stage

from signer_jax import configuration
from signer_jax import model as models
from signer_jax.training import objectives, partitioning
from signer_jax.training.loop import TrainState, make_step
from signer_jax.training.optimizer import optimizer
from signer_jax.validation import read

VOCABULARY = 60
B, T, G = 8, 9, 6


@pytest.fixture(scope="module")
def tiny():
    from conftest import TINY

    settings = read(configuration.load(TINY))
    model, published = models.build(settings, VOCABULARY)
    return settings, model, models.init(model, settings, published, seed=0)


@pytest.fixture(scope="module")
def batch(tiny):
    settings, model, _ = tiny
    rng = np.random.default_rng(0)
    n, e, j, c = settings.data.max_glosses, settings.pose.experts, len(model.joints), settings.pose.dims
    s, g = settings.data.max_source, settings.data.max_target
    source, target = np.zeros((B, s), np.int32), np.zeros((B, g), np.int32)
    source[:, :10], target[:, :G] = rng.integers(5, VOCABULARY, (B, 10)), rng.integers(5, VOCABULARY, (B, G))
    target[:, G] = 1
    target_gloss = np.full((B, g), -1, np.int32)
    target_gloss[:, :G] = np.arange(G) // 2
    frame_gloss = np.zeros((B, T, n), np.float32)
    frame_gloss[:, np.arange(T), np.arange(T) // 3] = 1
    mask = np.zeros((B, n, e), bool)
    mask[:, :3] = True
    grid = settings.data.size[0] // model.vae.spatial_ratio
    frames = 1 + (T - 1) // model.vae.temporal_ratio
    return {
        "source": source, "target": target, "target_gloss": target_gloss, "frame_gloss": frame_gloss,
        "candidate_mask": mask, "chosen": np.where(mask.any(-1), rng.integers(0, e, (B, n)), -1).astype(np.int32),
        "candidate_features": rng.normal(0, 0.4, (B, n, e, j * (3 * c + 1))).astype(np.float32),
        "candidates": rng.normal(0, 0.4, (B, e, T, j, c)).astype(np.float32),
        "candidate_confidence": np.ones((B, e, T, j), np.float32),
        "pose": rng.normal(0, 0.4, (B, T, j, c)).astype(np.float32), "confidence": np.ones((B, T, j), np.float32),
        "valid": np.ones((B, T), bool),
        "latents_start": np.zeros(B, np.int32), "last": np.full(B, T - 1, np.int32),
        "latents": rng.normal(size=(B, frames, grid, grid, model.vae.z_dim)).astype(np.float32),
        "reference": rng.normal(size=(B, grid, grid, model.vae.z_dim)).astype(np.float32),
        "noise_factor": np.tile(np.eye(model.vae.z_dim, dtype=np.float32), (B, 1, 1)),
        "video": rng.uniform(-1, 1, (B, 5, *settings.data.size, 3)).astype(np.float32),
    }  # fmt: skip


def _norm(tree) -> float:
    return float(jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree))))


@pytest.mark.parametrize("stage", ["slul", "pose", "vae", "images", "renderer", "joint"])
def test_every_stage_gives_a_finite_loss_and_moves_what_it_trains(tiny, batch, stage):
    settings, model, params = tiny
    objective = objectives.make_objective(stage, model, settings, mask_id=3)

    def loss_of(trained):
        return objective({**params, **trained}, batch, jax.random.key(1))

    trained = {name: params[name] for name in models.TRAINED[stage]}
    (loss, metrics), gradients = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(trained)
    assert np.isfinite(float(loss))
    assert all(np.isfinite(float(value)) for value in metrics.values())
    for name, gradient in gradients.items():
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient)), name
        assert _norm(gradient) > 0, name


def test_reading_twice_adds_its_divergence_by_its_weight(tiny, batch):
    settings, model, params = tiny
    slul = replace(settings.slul, dropout=0.3)
    model = replace(model, slul=model.slul.clone(dropout=0.3))
    few = {name: batch[name] for name in ("source", "target")}

    def objective(weight: float):
        train = replace(settings.train, slul=replace(settings.train.slul, r_drop=weight))
        made = objectives.make_objective("slul", model, replace(settings, slul=slul, train=train), 3)
        return lambda params: made(params, few, jax.random.key(2, impl="rbg"))

    once = jax.eval_shape(objective(0.0), params)[1]
    loss, means = jax.jit(objective(3.0))(params)
    assert means.keys() - once.keys() == {"r_drop"} and float(means["r_drop"]) > 0
    weights = {"cross_entropy": 1.0, **vars(settings.loss), "r_drop": 3.0}
    np.testing.assert_allclose(loss, sum(weights[name] * value for name, value in means.items()), rtol=1e-5)


@pytest.mark.parametrize(("gating", "follow", "stem"), [("sentence", "soft", (16, 24)), ("gloss", "chosen", ())])
def test_the_diffusion_loss_alone_reaches_everything(tiny, batch, gating, follow, stem):
    """The paper's end to end: diffusion loss -> control picture -> stabiliser -> gates -> SLUL's encoder (2.3)."""
    settings = tiny[0]
    settings = replace(
        settings, pose=replace(settings.pose, gating=gating), renderer=replace(settings.renderer, stem_features=stem)
    )
    model, published = models.build(settings, VOCABULARY)
    params = models.init(model, settings, published, seed=0)
    # The stabiliser's network starts at zero and the transformer's gates may start closed: any parameters will do here.
    keys = iter(jax.random.split(jax.random.key(7), 1000))
    params = jax.tree.map(lambda leaf: leaf + 0.05 * jax.random.normal(next(keys), leaf.shape), params)

    def loss_of(trained):
        whole = {**params, **trained}
        H, mask = objectives.semantic(model, whole, batch)
        _, confidence, _, stable = objectives.blended_pose(model, whole, batch, H, mask, follow)
        # Without text in the cross attention, so that SLUL can only be reached through the pose.
        return objectives.diffusion(
            model, whole, batch, stable, confidence, jnp.zeros_like(H), mask, jax.random.key(0), settings.renderer
        ).mean()

    trained = {name: params[name] for name in ("slul", "slp_moe", "stabiliser")}
    gradients = jax.jit(jax.grad(loss_of))(trained)
    for part in (gradients["stabiliser"], gradients["slp_moe"]["gates"], gradients["slp_moe"]["chosen"],
                 gradients["slul"]["encoder"]):  # fmt: skip
        norm = _norm(part)
        assert np.isfinite(norm) and norm > 0


def test_each_condition_is_dropped_for_its_own_share(tiny, batch, monkeypatch):
    """Alone, for examples of its own; with every share at 0 nothing is drawn, and the loss is as it was before."""
    from types import SimpleNamespace

    settings, model, params = tiny
    seen = {}

    def noted(conditions, names, keep=None):
        seen.setdefault(tuple(names), []).append(np.asarray(keep))
        return conditions

    def diffuse(**shares):
        seen.clear()
        c = replace(
            settings.renderer, condition_dropout=0.2, dropout_each=replace(settings.renderer.dropout_each, **shares)
        )
        objectives.diffusion(
            model, params, batch, batch["pose"], batch["confidence"], None, None, jax.random.key(3), c
        )  # fmt: skip

    monkeypatch.setattr(objectives, "without", noted)
    velocity = SimpleNamespace(velocity=lambda p, x, *a, **k: x * 0)
    model = replace(model, renderer=_Still(model.renderer, velocity))
    rows = {name: np.tile(value, (50, *(1,) * (value.ndim - 1))) for name, value in batch.items()}
    batch = {name: rows[name] for name in ("latents", "reference", "noise_factor", "pose", "confidence")}
    none = dict.fromkeys(("text", "semantics", "pose", "face", "reference"), 0.0)
    diffuse(**none)
    together = seen.pop(objectives.GUIDED)
    assert not seen
    diffuse(**none | {"text": 0.3, "reference": 0.6})
    np.testing.assert_array_equal(seen.pop(objectives.GUIDED), together)
    assert seen.keys() == {("text",), ("reference",)}
    (text,), (reference,) = seen.values()
    assert abs(text.mean() - 0.7) < 0.07 and abs(reference.mean() - 0.4) < 0.07
    assert abs(np.corrcoef(text, reference)[0, 1]) < 0.2 and abs(np.corrcoef(text, together[0])[0, 1]) < 0.2


class _Still:
    """A renderer whose prediction is nothing: what it is given is what is looked at."""

    def __init__(self, renderer, other):
        self._renderer, self._other = renderer, other

    def __getattr__(self, name):
        return getattr(self._other if hasattr(self._other, name) else self._renderer, name)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
def test_a_mesh_of_eight_devices_computes_the_same_step(tiny, batch, name):
    settings, model, params = tiny
    objective = objectives.make_objective("slul", model, settings, 3)
    stage = small_stage.stage(objective, ("slul",), name="slul", optimizer=name, steps=10, learning_rate=1e-3)
    tx = optimizer(stage.training, stage.optimizers)
    trained = {"slul": params["slul"]}
    losses, results = [], []
    for shape in ({"data": 1, "fsdp": 1, "tensor": 1}, {"data": 2, "fsdp": 2, "tensor": 2}):
        mesh = partitioning.make_mesh(shape, jax.devices()[: int(np.prod(list(shape.values())))])
        none = jnp.zeros((), jnp.int32)
        state = TrainState(none, trained, {}, tx.init(trained), jax.random.key(0), none, none)
        shardings = partitioning.tree_shardings(jax.eval_shape(lambda s=state: s), mesh)
        state = jax.device_put(state, shardings)
        if mesh.size == 8:
            split = [leaf for leaf in jax.tree.leaves(state.params) if not leaf.sharding.is_fully_replicated]
            assert len(split) > 10
        texts = {name: batch[name] for name in ("source", "target", "target_gloss")}
        new, metrics = jax.jit(make_step(stage, tx))(state, {}, partitioning.put_batch(texts, mesh))
        losses.append(float(metrics["loss"]))
        results.append(jax.device_get(new.params))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, other in zip(jax.tree.leaves(results[0]), jax.tree.leaves(results[1]), strict=True):
        np.testing.assert_allclose(
            one, other, atol=2e-3
        )  # one Adam step of 1e-3: its sign may turn where gradients vanish


def test_devices_that_share_a_video_share_its_noise_its_times_and_what_is_dropped(tiny, batch):
    settings, model, params = tiny
    shares = replace(settings.renderer.dropout_each, text=0.4, reference=0.4)
    c = replace(settings.renderer, condition_dropout=0.4, dropout_each=shares)
    keys = iter(jax.random.split(jax.random.key(7), 1000))  # the transformer predicts nothing at the start
    params = jax.tree.map(lambda leaf: leaf + 0.05 * jax.random.normal(next(keys), leaf.shape), params)
    names = ("latents", "reference", "noise_factor", "pose", "confidence", "source")

    def losses(shape):
        mesh = partitioning.make_mesh(shape, jax.devices()[: int(np.prod(list(shape.values())))])

        def each(params, batch, key):
            H, mask = objectives.semantic(model, params, batch)
            return objectives.diffusion(
                model, params, batch, batch["pose"], batch["confidence"], H, mask, key, c
            )  # fmt: skip

        placed = jax.device_put(params, partitioning.tree_shardings(params, mesh))
        rows = partitioning.put_batch({name: batch[name] for name in names}, mesh)
        return jax.device_get(jax.jit(partitioning.laid_out(each, mesh))(placed, rows, jax.random.key(5)))

    alone = losses({"data": 1})
    assert alone.std() > 0.05 * alone.mean()  # each example has its own
    np.testing.assert_allclose(losses({"data": 2, "context": 2, "tensor": 2}), alone, rtol=1e-5)


def test_past_a_clips_end_its_last_pose_is_drawn():
    poses = np.arange(2 * 6).reshape(2, 6, 1)
    drawn = objectives.frames_from(poses, np.array([1, 2]), np.array([5, 3]), 4)
    np.testing.assert_array_equal(np.asarray(drawn)[..., 0], [[1, 2, 3, 4], [8, 9, 9, 9]])


def test_gates_are_shown_over_the_glosses_that_have_a_candidate():
    weights = jnp.asarray([[[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]], [[0.5, 0.5], [0.7, 0.3], [0.2, 0.8]]])
    there = jnp.asarray([[[1, 1], [1, 1], [0, 0]], [[1, 0], [0, 0], [0, 0]]], bool)
    found = objectives.gate_figures({"candidate_mask": there}, weights)
    assert found.keys() == {"gates/entropy", "gates/expert_0", "gates/expert_1"}
    # Sentences count alike, as in the loss; shares are over glosses.
    np.testing.assert_allclose(found["gates/entropy"], (np.log(2) / 2 + np.log(2)) / 2, rtol=1e-6)
    np.testing.assert_allclose([found["gates/expert_0"], found["gates/expert_1"]], [2 / 3, 1 / 3], rtol=1e-6)
    nobody = objectives.gate_figures({"candidate_mask": jnp.zeros_like(there)}, weights)
    assert all(float(value) == 0.0 for value in nobody.values())
