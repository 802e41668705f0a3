"""The autoencoder chunk by chunk: equal to the whole pass, in memory that stays level."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.renderer import vae_chunks
from signer_jax.renderer.conditions import encoder
from signer_jax.renderer.vae import VideoVAE, spread
from signer_jax.training import partitioning

FIELDS = {
    "base_dim": 4, "decoder_base_dim": 4, "z_dim": 4, "dim_mult": (1, 2, 2), "num_res_blocks": 1,
    "temporal_downsample": (True, True), "in_channels": 3, "out_channels": 3, "patch_size": None, "is_residual": False,
    "latents_mean": (0.0,) * 4, "latents_std": (1.0,) * 4,
}  # fmt: skip
KINDS = {
    "2.1": {},
    "2.2": {"in_channels": 12, "out_channels": 12, "patch_size": 2, "is_residual": True, "decoder_base_dim": 8},
    "half in time": {"temporal_downsample": (False, True)},
    "none in time": {"dim_mult": (2,), "temporal_downsample": ()},
}


@pytest.fixture(scope="module", params=KINDS)
def vae(request):
    module = VideoVAE(**(FIELDS | KINDS[request.param]))
    return module, _parameters(module)


def _parameters(module):
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 5, 8, 8, 3)))["params"]
    rng = np.random.default_rng(0)
    draw = lambda leaf: rng.normal(0.0, min(0.5, np.prod(leaf.shape[:-1]) ** -0.5), leaf.shape)  # noqa: E731
    return jax.tree.map(lambda leaf: draw(leaf).astype(np.float32), shapes)


def _video(frames):
    return np.random.default_rng(1).uniform(-1, 1, (2, frames, 8, 8, 3)).astype(np.float32)


def test_chunks_equal_the_whole_pass(vae):
    module, params = vae
    whole = lambda x, method: module.apply({"params": params}, x, method=method)  # noqa: E731
    mean, logvar = jax.jit(whole, static_argnums=1)(_video(13), "encode")
    ours = jax.jit(lambda params, video: vae_chunks.encode(module, params, video))(params, _video(13))
    np.testing.assert_allclose(ours[0], mean, atol=1e-5)
    np.testing.assert_allclose(ours[1], logvar, atol=1e-5)
    video = jax.jit(whole, static_argnums=1)(mean, "decode")
    assert video.shape == (2, 13, 8, 8, 3) and np.std(video) > 0.05
    chunked = jax.jit(lambda params, latents: vae_chunks.decode(module, params, latents))(params, mean)
    np.testing.assert_allclose(chunked, video, atol=1e-5)


@pytest.mark.parametrize(("devices", "rows", "once"), [(2, 4, 2), (2, 5, 3), (1, 11, 3)])
def test_a_device_encodes_no_more_rows_at_once_than_it_has_room_for(monkeypatch, devices, rows, once):
    """As where a step encodes its whole batch: the same latents, of each device's own rows, and the same gradient."""
    module = VideoVAE(**FIELDS)
    params = _parameters(module)
    video = np.random.default_rng(1).uniform(-1, 1, (devices * rows, 5, 8, 8, 3)).astype(np.float32)
    both = jax.value_and_grad(lambda video: jnp.sum(vae_chunks.to_latents(module, params, video) ** 2))
    whole, seen, original = both(video), [], VideoVAE.encode_chunk
    monkeypatch.setattr(vae_chunks, "_PIXELS", 3 * 5 * 8 * 8)  # three
    monkeypatch.setattr(
        VideoVAE, "encode_chunk", lambda self, frames: seen.append(len(frames)) or original(self, frames)
    )
    mesh = partitioning.make_mesh({"data": devices}, jax.devices()[:devices])
    placed = partitioning.put_batch({"video": video}, mesh)["video"]
    program = jax.jit(partitioning.laid_out(both, mesh)).trace(placed).lower().compile()
    assert set(seen) == {once * devices}
    assert "all-gather" not in program.as_text()
    for ours, expected in zip(program(placed), whole, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_what_is_done_is_handed_out_while_it_goes_on(vae):
    module, params = vae
    mean = jax.jit(lambda video: module.apply({"params": params}, video, method="encode"))(_video(9))[0]
    parts = list(vae_chunks.encoded(module, params, _video(9), shown=False))
    assert [part.shape[1] for part in parts] == [1] * mean.shape[1]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), mean, atol=1e-5)
    frames = list(vae_chunks.decoded(module, params, mean, shown=False))
    assert [part.shape[1] for part in frames] == [1] + [module.temporal_ratio] * (mean.shape[1] - 1)
    whole = jax.jit(lambda latents: module.apply({"params": params}, latents, method="decode"))(mean)
    np.testing.assert_allclose(np.concatenate(frames, axis=1), whole, atol=1e-5)


def test_the_bar_counts_the_chunks_and_can_be_silent(vae, capsys):
    module, params = vae
    latents = np.zeros((1, 3, *(8 // module.spatial_ratio,) * 2, 4), np.float32)
    list(vae_chunks.decoded(module, params, latents, shown=False))
    assert capsys.readouterr().err == ""
    list(vae_chunks.decoded(module, params, latents, shown=True))
    assert "frames decoded" in (err := capsys.readouterr().err) and "3/3" in err


def test_a_single_frame_has_one_chunk(vae):
    module, params = vae
    mean, _ = vae_chunks.encode(module, params, jnp.asarray(_video(1)))
    np.testing.assert_allclose(mean, module.apply({"params": params}, _video(1), method="encode")[0], atol=1e-5)
    assert vae_chunks.decode(module, params, mean).shape == (2, 1, 8, 8, 3)


def test_other_lengths_are_refused(vae):
    module, params = vae
    if module.temporal_ratio == 1:
        return
    for encode in (vae_chunks.encode, lambda *a: list(vae_chunks.encoded(*a, shown=False))):
        with pytest.raises(SignerError, match="a video of 12 frames fills no whole number of latents; give"):
            encode(module, params, _video(12))


def test_training_and_signing_go_by_chunks_where_time_is_compressed_alone(vae):
    module, params = vae
    scans = lambda function, *given: "scan[" in str(jax.make_jaxpr(function)(params, *given))  # noqa: E731
    mean = np.asarray(jax.jit(lambda video: module.apply({"params": params}, video, method="encode")[0])(_video(9)))
    to_latents = lambda params, video: vae_chunks.to_latents(module, params, video)  # noqa: E731
    to_video = lambda params, latents: vae_chunks.to_video(module, params, latents)  # noqa: E731
    assert scans(to_latents, _video(9)) == scans(to_video, mean) == (module.temporal_ratio > 1)
    np.testing.assert_allclose(jax.jit(to_latents)(params, _video(9)), mean, atol=1e-5)
    whole = jax.jit(lambda latents: module.apply({"params": params}, latents, method="decode"))(mean)
    np.testing.assert_allclose(jax.jit(to_video)(params, mean), whole, atol=1e-5)


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("kind", ["2.1", "2.2"])
def test_gradients_go_through_the_chunks(kind, remat):
    """To the video, as a drawn pose has them in `joint`; blocks that are computed again may be in chunks."""
    module = VideoVAE(**(FIELDS | KINDS[kind]), remat=remat)
    params = _parameters(module)
    weight = np.random.default_rng(2).normal(size=(2, 3, 8 // module.spatial_ratio, 8 // module.spatial_ratio, 4))

    def slope(encode):
        return jax.jit(jax.grad(lambda video: (weight * encode(video)).sum()))(_video(9))

    whole = slope(lambda video: module.apply({"params": params}, video, method="encode")[0])
    assert np.abs(whole).max() > 1e-3
    np.testing.assert_allclose(
        slope(lambda video: vae_chunks.to_latents(module, params, video)), whole, atol=1e-4 * np.abs(whole).max()
    )


@pytest.mark.parametrize("kind", ["2.1", "2.2"])
def test_memory_does_not_grow_with_the_video(kind):
    """What XLA plans beside the arguments and the result, for 9, 33 and 81 frames."""
    module = VideoVAE(**(FIELDS | KINDS[kind]))
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 5, 8, 8, 3)))["params"]
    side, z = 32, 32 // module.spatial_ratio

    def planned(function, *shape):
        x = jax.ShapeDtypeStruct((1, *shape), np.float32)
        return jax.jit(function).lower(params, x).compile().memory_analysis().temp_size_in_bytes

    for function, shapes in (
        (lambda params, x: vae_chunks.to_latents(module, params, x), [(t, side, side, 3) for t in (9, 33, 81)]),
        (lambda params, x: encoder(module, {"vae": params})(x), [(t, side, side, 3) for t in (9, 33, 81)]),
        (lambda params, x: vae_chunks.to_video(module, params, x), [(1 + t // 4, z, z, 4) for t in (9, 33, 81)]),
    ):
        short, middle, long = (planned(function, *shape) for shape in shapes)
        assert long < 1.01 * short and middle < 1.01 * short
    whole = [
        planned(lambda params, x: module.apply({"params": params}, x, method="decode"), k, z, z, 4) for k in (3, 9)
    ]
    assert whole[1] > 2 * whole[0]


def test_gradients_through_the_chunks_keep_no_chunks_insides():
    """Of the whole pass every activation is kept; in chunks what each convolution saw last."""
    module = VideoVAE(**(FIELDS | KINDS["2.1"]))
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 5, 8, 8, 3)))["params"]

    def planned(encode, frames):
        function = jax.jit(lambda params, x: jax.grad(lambda x: (encode(params, x) ** 2).sum())(x))
        x = jax.ShapeDtypeStruct((1, frames, 32, 32, 3), np.float32)
        return function.lower(params, x).compile().memory_analysis().temp_size_in_bytes

    whole = [planned(lambda p, x: module.apply({"params": p}, x, method="encode")[0], t) for t in (9, 81)]
    chunks = [planned(lambda p, x: vae_chunks.to_latents(module, p, x), t) for t in (9, 81)]
    assert chunks[1] - chunks[0] < 0.4 * (whole[1] - whole[0]), (whole, chunks)


# ---- Several devices -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "direction"), [("2.1", "decode"), ("2.2", "encode")])
def test_devices_that_share_a_window_share_each_picture_of_it(kind, direction):
    """Each computes its part of every convolution, in memory that stays level, and the numbers are one device's."""
    module = VideoVAE(**(FIELDS | KINDS[kind]))
    params, mesh = _parameters(module), partitioning.make_mesh({"context": 8})
    replicated = jax.device_put(params, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    of = vae_chunks.to_video if direction == "decode" else vae_chunks.to_latents
    function, ratio = lambda params, x: of(module, params, x), module.spatial_ratio

    def compiled(latents, function, params):
        shape = (1, latents, 2, 16, 4) if direction == "decode" else (1, 4 * latents - 3, 2 * ratio, 16 * ratio, 3)
        x = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
        program = jax.jit(function).lower(params, x).compile()
        return program, program.memory_analysis().temp_size_in_bytes, np.asarray(program(params, x))

    alone, _, expected = compiled(3, function, params)
    shared, short, made = compiled(3, partitioning.laid_out(function, mesh), replicated)
    np.testing.assert_allclose(made, expected, atol=1e-5)
    assert np.linalg.norm(made - expected) < 1e-6 * np.linalg.norm(expected)
    assert shared.cost_analysis()["flops"] < 1.15 / 8 * alone.cost_analysis()["flops"]
    assert compiled(21, partitioning.laid_out(function, mesh), replicated)[1] < 1.01 * short


def test_training_on_devices_that_share_a_window_is_that_of_one():
    module = VideoVAE(**(FIELDS | KINDS["none in time"]))
    params, video = _parameters(module), np.random.default_rng(1).uniform(-1, 1, (1, 2, 4, 8, 3)).astype(np.float32)
    mesh = partitioning.make_mesh({"context": 4}, jax.devices()[:4])
    loss = lambda params, video: jnp.square(module.apply({"params": params}, video)[0] - video).mean()  # noqa: E731
    alone = jax.jit(jax.value_and_grad(loss))(params, video)
    whole = jax.device_put(params, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    shared = jax.jit(partitioning.laid_out(jax.value_and_grad(loss), mesh))(whole, video)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5), shared, alone)


def test_a_picture_is_split_along_one_side_at_every_level():
    """The one that the devices divide at the latents, of two the longer one: 72 x 64 is 9 x 8 latents."""
    mesh = partitioning.make_mesh({"context": 4, "fsdp": 2})

    def lies(*shape):
        x = jax.device_put(jnp.zeros(shape), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
        return jax.jit(partitioning.laid_out(spread, mesh))(x).sharding.shard_shape(shape)

    assert lies(2, 3, 8, 16, 5) == (1, 3, 8, 4, 5) and lies(2, 3, 16, 8, 5) == (1, 3, 4, 8, 5)
    assert lies(2, 3, 18, 16, 5) == (1, 3, 18, 4, 5) and lies(2, 3, 72, 64, 5) == (1, 3, 72, 16, 5)
    assert lies(2, 3, 8, 18, 5) == (1, 3, 2, 18, 5) and lies(2, 3, 6, 18, 5) == (1, 3, 6, 18, 5)
    assert spread(x := jnp.zeros((1, 1, 8, 8, 1))) is x  # alone


def test_frames_that_several_devices_hand_out_are_two_programs(caplog):
    module = VideoVAE(**FIELDS)
    mesh = partitioning.make_mesh({"context": 4}, jax.devices()[:4])
    params = jax.device_put(_parameters(module), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    latents = np.zeros((1, 5, 4, 4, 4), np.float32)
    with partitioning.on_mesh_of(params), jax.log_compiles(), caplog.at_level("WARNING", "jax"):
        assert sum(part.shape[1] for part in vae_chunks.decoded(module, params, latents, shown=False)) == 17
    assert sum(record.message.startswith("Compiling jit(_chunk)") for record in caplog.records) == 2
