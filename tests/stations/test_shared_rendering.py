"""A published model's windows on several devices: they share its tokens, and make what one device makes."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from renderer.tiny_wan import RATIO, TEXT, Z, built, config_of, write_transformer, write_vae

from signer_jax import model as models
from signer_jax.cli.train import finish
from signer_jax.opened import along
from signer_jax.pipeline import Signer
from signer_jax.renderer.latents import LatentStore
from signer_jax.renderer.references import ReferenceBank
from signer_jax.result import params_sha256
from signer_jax.stations.render import Style, render_many
from signer_jax.stations.studio import Studio
from signer_jax.training import partitioning
from signer_jax.types import Pose

SIZE, GRID, WINDOW, OVERLAP = 32, 8, 13, 4
WAYS = 8


@pytest.fixture(scope="module", params=["wan2.1-t2v-1.3b", "wan2.2-t2v-a14b"])
def run(request, tmp_path_factory):
    """Programs, parameters on one device and on all, the run's settings."""
    place, name = tmp_path_factory.mktemp("shared"), request.param
    config = config_of(name, write_transformer(place / "wan", name), write_vae(place / "vae"))
    config.data.size, config.renderer.window, config.renderer.control, config.renderer.steps = SIZE, WINDOW, "none", 3
    config.mesh.data, config.mesh.fsdp = 1, -1
    model, params, settings = built(config)
    constants = models.latent_constants(model, settings)
    assert constants is not None
    j = len(model.joints)
    bank = ReferenceBank(
        np.zeros((1, GRID, GRID, Z), np.float32), np.zeros((1, j, 2), np.float32), np.ones((1, j), np.float32),
        np.arange(1),
    )  # fmt: skip
    store = LatentStore(Path(), "", *constants, {"a": bank}, np.eye(Z, dtype=np.float32))

    def studio(params, overlap: int) -> Studio:
        return Studio.of(
            model.renderer, model.vae, params, store, model.joints, 2, size=(SIZE, SIZE), window=WINDOW,
            overlap=overlap, guidance=1.0, share_noise=False, seed=0, guidance_each={"text": 4.0},
            guidance_low={"text": 3.0}, null=np.zeros((1, TEXT), np.float32),
        )  # fmt: skip

    mesh = partitioning.make_mesh({"data": 1, "fsdp": WAYS, "tensor": 1})
    split = jax.device_put(params, partitioning.tree_shardings(params, mesh))
    return studio, params, partitioning.here(split, mesh, along=along(settings)), settings


def poses(count: int) -> list[Pose]:
    rng = np.random.default_rng(0)
    return [
        Pose(rng.normal(size=(20 + 3 * i, 128, 3)).astype(np.float32), np.ones((20 + 3 * i, 128), np.float32), 16.0)
        for i in range(count)
    ]


@pytest.mark.parametrize("overlap", [0, OVERLAP])
def test_the_video_is_that_of_one_device(run, overlap):
    studio, params, split, _ = run
    styles = [Style(np.zeros((GRID, GRID, Z), np.float32))] * 2
    states = [np.random.default_rng(i).normal(size=(5 + i, TEXT)).astype(np.float32) for i in range(2)]
    alone = render_many(poses(2), styles, None, None, studio(params, overlap), states)
    with partitioning.on_mesh_of(split):
        shared = render_many(poses(2), styles, None, None, studio(split, overlap), states)
    for one, other in zip(alone, shared, strict=True):
        assert np.abs(one.video.astype(int) - other.video).max() <= 1
        assert one.video.std() > 1


def test_each_device_has_its_share_of_the_work_and_of_the_memory(run):
    studio, params, split, settings = run
    assert along(settings) == "context"
    frames = 1 + (WINDOW - 1) // RATIO
    x = jnp.zeros((1, frames, GRID, GRID, Z))
    given = {
        "pose": np.zeros((1, WINDOW, 74, 2), np.float32), "confidence": np.ones((1, WINDOW, 74), np.float32),
        "reference": np.zeros((1, GRID, GRID, Z), np.float32), "text": np.zeros((1, 4, 0), np.float32),
        "states": np.ones((1, 512, TEXT), np.float32), "null": np.zeros((1, 1, TEXT), np.float32),
    }  # fmt: skip

    def cost(params) -> tuple[float, int]:
        one = studio(params, 0)
        seen = jax.eval_shape(one.look_at, params, given)
        compiled = one.walk.lower(params, seen, False, one.solver.start(x), 0, 3).compile()
        memory = compiled.memory_analysis()
        return compiled.cost_analysis()["flops"], memory.temp_size_in_bytes + memory.argument_size_in_bytes

    flops, memory = cost(params)
    with partitioning.on_mesh_of(split):
        shared = cost(split)
    print(f"FLOPs a device {flops:,} and {shared[0]:,}, bytes {memory:,} and {shared[1]:,}")
    assert shared[0] < flops / 4 and shared[1] < 0.7 * memory  # 464 of 755 kB have been seen


@pytest.mark.slow
def test_a_run_on_several_devices_evaluates_and_signs_with_them(tmp_path):
    """Trained along fsdp; evaluated as it lies, and read again, along context."""
    name = "wan2.1-t2v-1.3b"
    config = config_of(name, write_transformer(tmp_path / "wan", name), write_vae(tmp_path / "vae"))
    config.data.sentences = {"train": 8, "dev": 2, "test": 1}
    config.data.poses = config.data.videos = {"train": 6, "dev": 2, "test": 1}
    config.renderer.control, config.renderer.steps, config.renderer.guidance = "branch", 2, 1.0
    config.train.renderer.batch, config.train.renderer.steps, config.evaluate.videos = 8, 1, 1
    config.mesh.data, config.mesh.fsdp = 1, -1
    seen = []

    def noted(signer, evaluation, result, workdir) -> None:
        seen.append((signer, result))

    finish(config, tmp_path / "run", noted)
    again = Signer.load(tmp_path / "run")
    ((signer, result),) = seen
    for one in (signer, again):
        kernel = one.params["renderer"]["transformer"]["layers"]["wi"]["kernel"]
        assert dict(kernel.sharding.mesh.shape) == {"data": 1, "fsdp": 1, "context": WAYS, "tensor": 1}
        assert kernel.addressable_shards[0].data.shape[-2] == kernel.shape[-2] // WAYS
    assert params_sha256(again.params) == result["params_sha256"]
    pose = signer.corpus.motions("dev")[0].pose
    films = [one.film(pose).video for one in (signer, again)]
    np.testing.assert_array_equal(*films)
