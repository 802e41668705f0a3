from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from signer_jax.layout import AXES
from signer_jax.renderer import attention as module
from signer_jax.renderer import splash
from signer_jax.renderer.attention import (
    attention,
    attention_by_heads,
    blocked_attention,
    plain_attention,
    query_block,
)
from signer_jax.renderer.remat import POLICIES
from signer_jax.renderer.video_transformer import Attention, VideoTransformer
from signer_jax.training import flops, partitioning


def qkv(l=11, m=7, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    return tuple(jax.random.normal(key, (2, n, 3, 8), dtype) for key, n in zip(keys, (l, m, m), strict=True))


def by_hand(q, k, v):
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros_like(q)
    for b in range(q.shape[0]):
        for h in range(q.shape[2]):
            logits = q[b, :, h] @ k[b, :, h].T / np.sqrt(q.shape[-1])
            weights = np.exp(logits - logits.max(-1, keepdims=True))
            out[b, :, h] = weights / weights.sum(-1, keepdims=True) @ v[b, :, h]
    return out


def test_plain_attention_is_the_formula():
    q, k, v = qkv()
    np.testing.assert_allclose(plain_attention(q, k, v), by_hand(q, k, v), atol=2e-6)


@pytest.mark.parametrize("block", [4, 64])
def test_blocks_change_neither_the_output_nor_the_gradients(block):
    q, k, v = qkv()

    def loss(attend):
        return lambda *args: jnp.sum(jnp.sin(attend(*args)))

    blocked = lambda *args: blocked_attention(*args, block=block)  # noqa: E731
    np.testing.assert_allclose(blocked(q, k, v), plain_attention(q, k, v), atol=1e-6)
    ours, plain = (jax.grad(loss(f), argnums=(0, 1, 2))(q, k, v) for f in (blocked, plain_attention))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, plain)


@pytest.mark.parametrize("limit", [2**22, 4, 15])  # one block, single rows, a last block that is not full
@pytest.mark.parametrize("remat", [False, True])
def test_heads_one_by_one_change_neither_the_output_nor_the_gradients(monkeypatch, limit, remat):
    monkeypatch.setattr(module, "LOGITS_LIMIT", limit)
    q, k, v = qkv()
    by_heads = jax.checkpoint(attention_by_heads, policy=POLICIES["attention"]) if remat else attention_by_heads
    np.testing.assert_allclose(by_heads(q, k, v), plain_attention(q, k, v), atol=1e-6)
    ours, plain = (
        jax.grad(lambda *args, f=f: jnp.sum(jnp.sin(f(*args))), argnums=(0, 1, 2))(q, k, v)
        for f in (by_heads, plain_attention)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, plain)


def test_on_one_cpu_device_heads_go_one_by_one_and_on_a_mesh_together():
    q, k, v = qkv()
    program = lambda: jax.jit(attention).lower(q, k, v).as_text()  # noqa: E731
    assert "while" in program()
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,), devices=jax.devices()[:2])
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        assert "while" not in program()


def test_the_softmax_is_float32_in_half_precision():
    # One key wins by a logit that bfloat16 rounds away: 256 + 0.5 is 256 there.
    q = jnp.full((1, 1, 1, 4), 16.0, jnp.bfloat16)
    k = jnp.stack([jnp.full(4, 8.0), jnp.array([8.0, 8.0, 8.0, 8.0625])])[None, :, None].astype(jnp.bfloat16)
    v = jnp.array([0.0, 1.0], jnp.bfloat16).reshape(1, 2, 1, 1).repeat(4, -1)
    expected = 1 / (1 + np.exp(-0.5))
    np.testing.assert_allclose(np.asarray(attention(q, k, v), np.float32), expected, atol=4e-3)


def test_query_block_fills_the_limit():
    assert query_block(32_760, 2**22) == 128
    assert query_block(1000, 2**22) == 4096  # 4194 rounded down to a multiple of 128
    assert query_block(2**22, 2**22) == 1
    assert query_block(2**23, 2**22) == 1
    assert query_block(2**20, 2**22) == 4


def test_long_sequences_are_computed_in_blocks(monkeypatch):
    q, k, v = qkv(64, 64)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert "scan" not in str(jax.make_jaxpr(attention)(q, k, v))
    monkeypatch.setattr(module, "LOGITS_LIMIT", 64 * 16)
    text = str(jax.make_jaxpr(lambda *args: attention(*args))(q, k, v))  # a new function: traces are cached
    assert "scan" in text and "length=4" in text
    assert "[2,3,64,64]" not in text  # all the logits at once: [b, h, l, m]
    np.testing.assert_allclose(attention(q, k, v), plain_attention(q, k, v), atol=1e-6)


@pytest.mark.parametrize(("dtype", "expected"), [(jnp.bfloat16, "cudnn"), (jnp.float32, "xla")])
def test_a_gpu_runs_cudnn_in_half_precision_only(monkeypatch, dtype, expected):
    picked, true = [], jax.nn.dot_product_attention
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

    def noted(*arrays, implementation, **options):
        picked.append((implementation, {x.shape[1] % 2 for x in arrays}))
        return true(*arrays, **options, implementation="xla")

    monkeypatch.setattr(jax.nn, "dot_product_attention", noted)
    given = qkv(dtype=dtype)  # of odd lengths, of which jax takes no gradient by cuDNN
    np.testing.assert_allclose(np.float32(attention(*given)), by_hand(*given), atol=1e-2)
    assert picked == [(expected, {0} if expected == "cudnn" else {1})]


def test_queries_that_go_round_are_not_rounded_by_their_scale():
    """1 / √32 is no power of two; rounded by it the gradient of queries with large logits is .028 off, not .009."""
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (jax.random.normal(key, (1, 64, 2, 32)).astype(jnp.bfloat16) for key in keys)
    q = 16 * q  # which is one
    mesh = partitioning.make_mesh({"context": 2}, jax.devices()[:2])

    def computed(attend, on, *given):
        def loss(q, k, v):
            out = attend(q, k, v).astype(jnp.float32)
            return jnp.sum(jnp.sin(out)), out

        gradient = partitioning.laid_out(jax.value_and_grad(loss, (0, 1), has_aux=True), on)
        (_, out), gradients = jax.jit(gradient)(*jax.device_put(given, NamedSharding(on, PartitionSpec())))
        return [np.asarray(x, np.float32) for x in (out, *gradients)]

    around = computed(partial(attention, lengths=("tokens", "tokens"), across="ring"), mesh, q, k, v)
    one = partitioning.make_mesh({"context": 1}, jax.devices()[:1])
    true = computed(plain_attention, one, *(x.astype(jnp.float32) for x in (q, k, v)))
    for found, exact in zip(around, true, strict=True):
        assert np.abs(found - exact).mean() < 0.015 * np.abs(exact).mean()


# ---- On a TPU --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "parts"), [(200, 20), (640, 2)])  # of three blocks of keys each part holds two
def test_the_splash_kernels_numbers_and_gradients_are_plain_attentions(monkeypatch, m, parts):
    """In whole blocks and in some that are filled up; the kernel is run step by step."""
    monkeypatch.setattr(splash, "_BLOCK", {2: 256, 4: 256})
    monkeypatch.setattr(splash, "_PARTS", parts)
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, g = (jax.random.normal(key, (1, n, 2, 128)) for key, n in zip(keys, (130, m, m, 130), strict=True))

    def found(attend):
        def loss(*args):
            out = attend(*args)
            return jnp.sum(out * g), out

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(q, k, v)

    ours = found(lambda q, k, v: splash.splash_attention(q / np.sqrt(np.float32(128)), k, v, interpret=True))
    plain = found(plain_attention)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5), ours, plain)


def kernels(mesh: dict[str, int], q: tuple, k: tuple, dtype=jnp.bfloat16, across="automatic", keys=None) -> str:
    """The program of an attention on a mesh of TPUs, which need not be here."""
    tpu = jax.sharding.AbstractDevice(device_kind="TPU v5p", num_cores=1, platform="tpu")
    kinds = (jax.sharding.AxisType.Auto,) * len(AXES)
    sizes = tuple(mesh.get(axis, 1) for axis in AXES)
    lengths = ("tokens", "tokens" if q == k else "length")
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh(sizes, AXES, kinds, abstract_device=tpu)):
        attend = lambda q, k: attention(q, k, k, lengths=lengths, keys=keys, across=across)  # noqa: E731
        return str(jax.make_jaxpr(attend)(jax.ShapeDtypeStruct(q, dtype), jax.ShapeDtypeStruct(k, dtype)))


def test_a_tpu_takes_the_kernel_for_long_products_that_it_fits():
    tokens, text = (4, 4096, 4, 128), (4, 5000, 4, 128)
    for mesh in ({"data": 1}, {"fsdp": 4}, {"tensor": 2}, {"context": 4}, {"context": 2, "tensor": 2}):
        assert "pallas_call" in kernels(mesh, tokens, tokens)
        assert "pallas_call" in kernels(mesh, tokens, text)
    assert "pallas_call" in kernels({"data": 4}, tokens, tokens, jnp.float32)
    for q, dtype in (((4, 1024, 4, 128), jnp.bfloat16), ((4, 4096, 4, 64), jnp.bfloat16), (tokens, jnp.float16)):
        assert "pallas_call" not in kernels({"data": 4}, q, q, dtype)


def test_the_kernels_queries_are_scaled_before_they_are_rounded(monkeypatch):
    given = []
    monkeypatch.setattr(splash, "splash_attention", lambda q, k, v, name: given.append(q) or q)
    monkeypatch.setattr(module, "platform", lambda: "tpu")
    q = jax.random.normal(jax.random.key(0), (1, 4096, 1, 128))
    k, once = q.astype(jnp.bfloat16), (q / np.sqrt(np.float32(128))).astype(jnp.bfloat16)
    attention(q, k, k)
    np.testing.assert_array_equal(given[0], once)
    attention(k, k, k)  # who has rounded them already gets what can be had
    assert given[1].dtype == jnp.bfloat16 and (given[1] != once).any()


def test_the_transformer_leaves_its_queries_for_their_attention_to_round():
    found = []

    def spy(q, k, v, **_):
        found.append((q.dtype, k.dtype, v.dtype))
        return jnp.zeros_like(v)

    layer = Attention(2, 1e-6, jnp.bfloat16, spy)
    jax.eval_shape(layer.init, jax.random.key(0), *(jnp.zeros((1, 4, 8), jnp.bfloat16),) * 2)
    assert found == [(jnp.float32, jnp.bfloat16, jnp.bfloat16)]


def test_tokens_of_several_devices_are_exchanged_for_heads_or_keys_go_round():
    tokens = (4, 64, 6, 128)
    for mesh, across, exchanged in (
        ({"context": 2}, "automatic", True),
        ({"context": 2}, "all_to_all", True),
        ({"context": 4}, "all_to_all", False),  # of signing, on all of a process's devices: a run's own is refused
        ({"context": 2}, "ring", False),
        ({"context": 4}, "automatic", False),  # 6 heads
        ({"context": 3, "tensor": 2}, "automatic", True),
        ({"context": 2, "tensor": 2}, "automatic", False),
    ):
        program = kernels(mesh, (4, 72, 6, 128), (4, 72, 6, 128), across=across, keys=70)
        assert ("all_to_all" in program, "ppermute" in program) == (exchanged, not exchanged)
        program = kernels(mesh, tokens, (4, 5, 6, 128), across=across)  # a text is whole on every device
        assert "all_to_all" not in program and "ppermute" not in program


def test_gradients_are_summed_only_over_devices_that_share_a_texts_keys():
    """Not along axes of one device either, whose sums a compiler may leave in the program."""

    def sums(mesh: dict[str, int], keys: int) -> int:
        tpu = jax.sharding.AbstractDevice(device_kind="TPU v5p", num_cores=1, platform="tpu")
        kinds = (jax.sharding.AxisType.Auto,) * len(AXES)
        sizes = tuple(mesh.get(axis, 1) for axis in AXES)
        lengths = ("tokens", "tokens" if keys == 64 else "length")
        q, k = (jax.ShapeDtypeStruct((8, length, 4, 16), jnp.float32) for length in (64, keys))
        loss = lambda q, k: attention(q, k, k, lengths=lengths).sum()  # noqa: E731
        with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh(sizes, AXES, kinds, abstract_device=tpu)):
            return str(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(q, k)).count("psum[")

    for mesh in ({"data": 8}, {"fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}):
        assert sums(mesh, 64) == sums(mesh, 12) == 0
    assert (sums({"context": 4}, 64), sums({"context": 4}, 12)) == (0, 2)


@pytest.fixture(params=["cuDNN's own", "described"])
def traced_for_a_gpu(request, monkeypatch):
    """As on a GPU, and as a plan for one is traced on another machine."""
    from jax._src.cudnn import fused_attention_stablehlo as private

    monkeypatch.setattr(module, "platform", lambda: "gpu")
    if request.param == "described":
        return
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(private, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(private, "check_compute_capability", lambda _: True)


@pytest.mark.usefixtures("traced_for_a_gpu")
@pytest.mark.parametrize(("remat", "runs"), [("none", 2), ("attention", 3), ("dots_no_batch", 3), ("full", 4)])
def test_cudnns_attention_of_tokens_to_each_other_is_not_made_again(remat, runs):
    """One of two attentions of a block, the one to the text, runs again in the backward pass."""
    transformer = VideoTransformer(
        in_channels=4, out_channels=4, dim=32, heads=2, ffn_dim=32, layers=3, text_dim=8, freq_dim=32, patch=(1, 2, 2),
        image_dim=None, eps=1e-6, dtype=jnp.bfloat16, remat=remat,
    )  # fmt: skip
    inputs = jnp.zeros((1, 2, 8, 8, 4)), jnp.zeros(1), jnp.zeros((1, 8, 8))
    params = jax.eval_shape(lambda: transformer.init(jax.random.key(0), *inputs))
    traced = str(jax.make_jaxpr(jax.grad(lambda params: transformer.apply(params, *inputs).sum()))(params))
    assert traced.count("dot_product_attention_fwd_wrapper") == runs
    assert traced.count("dot_product_attention_bwd_wrapper") == 2


@pytest.mark.usefixtures("traced_for_a_gpu")
def test_cudnns_attention_is_kept_once(capsys):
    """An array of 32 tokens, with the sums of its softmax."""
    kept = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in (((1, 32, 2, 16), jnp.bfloat16),) * 3]
    attend = jax.checkpoint(lambda *args: jnp.sin(2 * attention(*args)), policy=POLICIES["attention"])
    jax.ad_checkpoint.print_saved_residuals(attend, *kept)
    lines = [line for line in capsys.readouterr().out.splitlines() if "argument" not in line]
    assert sorted(line.split()[0] for line in lines) == ["bf16[1,32,2,16]", "f32[1,2,32]"]


@pytest.mark.usefixtures("traced_for_a_gpu")
def test_the_products_of_cudnns_attention_are_counted():
    """Two of l x m x d a head; their gradients two each, of which one is of the softmax, and the first made again."""
    q, k = (jnp.zeros((2, l, 3, 16), jnp.bfloat16) for l in (32, 48))
    loss = lambda q, k, v: attention(q, k, v).astype(jnp.float32).sum()  # noqa: E731
    product = 2 * 2 * 3 * 32 * 48 * 16
    assert flops.forward(loss, q, k, k) == 2 * product
    assert flops.forward(jax.grad(loss, (0, 1, 2)), q, k, k) == 7 * product
    assert flops.training(lambda qkv: loss(*qkv), (q, k, k)) == 6 * product
    assert flops.training(loss, q, k, k) == (2 + 2) * product  # of q, and of the softmax
    assert flops.training(lambda v, q, k: loss(q, k, v), k, q, k) == (2 + 1) * product


def test_a_cpu_keeps_its_attention_once(capsys):
    """Its result, with the logarithms of the sums for each of 2 x 3 heads, and the block's input."""
    given = jnp.zeros((2, 16, 3, 8))

    def block(x):
        return jnp.sin(attention(jnp.sin(x), jnp.cos(x), 2 * x))

    jax.ad_checkpoint.print_saved_residuals(jax.checkpoint(block, policy=POLICIES["attention"]), given)
    kept = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert sorted(kept) == ["f32[2,16,3,8]", "f32[2,16,3,8]", "f32[6,16]"]
