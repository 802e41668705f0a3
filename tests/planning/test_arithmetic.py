"""The memory of a jaxpr and what chips send, against what is counted by hand and what is compiled."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from signer_jax.chips import GiB, Topology, topology
from signer_jax.layout import AXES
from signer_jax.planning import arithmetic, compiled, traffic
from signer_jax.planning.arithmetic import _Sizes, _walk
from signer_jax.planning.estimate import estimate, utilisation
from signer_jax.planning.steps import Step, mesh_on
from signer_jax.renderer.attention import ATTENTIONS
from signer_jax.renderer.remat import POLICIES
from signer_jax.renderer.video_transformer import VideoTransformer
from signer_jax.settings import Mesh
from signer_jax.training import partitioning
from signer_jax.training.loop import Program, needed_flops

sys.path.append(str(Path(__file__).parents[1] / "training"))
import small_stage

X, W = jnp.zeros((1024, 256)), jnp.zeros((256, 256))
ONE = 4 * 1024 * 256  # bytes of a layer's result
KERNELS = _Sizes(frozenset({(256, 256), (4, 256, 256)}))


def peak(function, *args) -> float:
    return _walk(jax.make_jaxpr(function)(*args).jaxpr, KERNELS)[0] / ONE


def test_results_of_products_lie_there_until_their_last_use_and_the_rest_is_fused():
    assert peak(lambda x, w: x @ w, X, W) == 1
    assert peak(lambda x, w: jnp.tanh(2 * (x @ w)) + 1, X, W) == 1
    assert peak(lambda x, w: ((x @ w) @ w) @ w, X, W) == 2  # what is read, and what is written
    assert peak(lambda x, w: (h := x @ w) + ((h @ w) @ w), X, W) == 3  # the first is read again at the end


def test_gradients_keep_what_they_need_and_remat_makes_it_again():
    def layer(x, w):
        return jnp.tanh(jnp.tanh(x @ w) @ w)

    def loss(step, x, w):
        return jax.lax.scan(lambda x, w: (step(x, w), None), x, w)[0].sum()

    stack = jnp.zeros((4, 256, 256))
    kept = peak(jax.grad(lambda w: loss(layer, X, w)), stack)
    again = peak(jax.grad(lambda w: loss(jax.checkpoint(layer), X, w)), stack)
    assert again < kept
    assert 4 <= again <= 10  # the inputs of four layers, and the work of one


def test_the_logits_of_long_attention_are_never_written():
    def attention(q):
        return jax.nn.softmax(q @ jnp.swapaxes(q, 1, 2)) @ q

    assert peak(attention, jnp.zeros((2, 2048, 64))) < 2  # 32 MiB of logits else
    assert peak(attention, jnp.zeros((64, 256, 64))) > 15  # of short ones there is no such kernel


def test_topologies():
    assert topology("v5p:4x4x4") == Topology("v5p:4x4x4", "v5p", 64)
    assert topology("H200:64").kind == "h200" and topology("h100:8").size == 8
    assert topology("v6e:8x8").chip.memory == 31.25 * GiB
    # Beyond a node of eight GPUs the network is the link.
    assert topology("h100:16").chip.link < topology("h100:8").chip.link == topology("h100:16").chip.near
    # Of several slices the data centre's network is, 50 Gbit/s a chip.
    one, two = topology("v5p:4x4x4"), topology("2xv5p:4x4x4")
    assert two == Topology("2xv5p:4x4x4", "v5p", 128, 2) and two.slice_name == one.slice_name == "v5p:4x4x4"
    assert (two.chip.link, two.chip.near, two.chip.memory) == (50e9 / 8, one.chip.link, one.chip.memory)
    assert topology("1xv5p:4x4x4") == one and topology("1xH100:8") == topology("h100:8")


def test_the_roofline_is_the_longest_of_three():
    chip = topology("v5p:2x2x1").chip
    found = estimate(chip, 459e12, 2 * 2765e9, 0.5 * 600e9)
    assert found is not None and (found.products, found.memory, found.links) == (1.0, 2.0, 0.5)
    assert found.least == 2.0 and found.bound == "memory"
    assert utilisation(chip, 0.5 * 459e12, found.least) == pytest.approx(0.25)
    assert estimate(topology("cpu:8").chip, 1.0, 1.0, 1.0) is None
    # What stays within a node has NVLink.
    nodes = estimate(topology("h100:16").chip, 1.0, 1.0, 50e9 + 2 * 450e9, near=2 * 450e9)
    assert nodes is not None and nodes.links == 1.0 + 2.0


# ---- What chips send -------------------------------------------------------------------------------------------------


def test_what_parameters_and_their_gradients_move():
    # A chip holds 10 bytes, a quarter of a parameter: it is given 40 twice, and passes on three parts each time.
    assert traffic.gathers(10, 4) == ({"all-gather": 80}, 60)
    # Its gradient of 40 bytes is scattered among the four, 10 to each; two groups of them sum these and give them back.
    assert traffic.gradient_sums(40, 4, 2) == ({"reduce-scatter": 10, "all-reduce": 10}, 30 + 2 * 10 / 2)
    assert traffic.gradient_sums(40, 1, 8) == ({"all-reduce": 40}, 2 * 40 * 7 / 8)
    assert traffic.gathers(10, 1) == traffic.gradient_sums(40, 1, 1) == traffic.NONE


@pytest.mark.parametrize("again", [False, True])
def test_what_attention_exchanges(again):
    """Of 4 chips, a part of q, k, v and of the result having 2 rows of 16 of 64 tokens, 8 heads of 4: p bytes."""
    mesh, p = partitioning.make_mesh({"data": 2, "context": 4}), 2 * 16 * 8 * 4 * 4
    x = jnp.zeros((4, 64, 8, 4))

    def found(across: str) -> traffic.Traffic:
        attend = lambda q, k, v: ATTENTIONS[across](q, k, v, lengths=("tokens", "tokens"))  # noqa: E731
        attend = jax.checkpoint(attend, policy=POLICIES["attention"]) if again else attend
        gradient = jax.grad(lambda q, k, v: jnp.sin(attend(q, k, v)).sum(), (0, 1, 2))
        return traffic.exchanged(jax.make_jaxpr(partitioning.laid_out(gradient, mesh))(x, x, x).jaxpr, mesh.shape)

    # q, k, v there and the result back, and so their gradients; what is computed again needs q, k, v.
    times = 4 + 4 + 3 * again
    assert found("all_to_all") == ({"all-to-all": times * p}, times * p * 3 / 4)
    # k and v to three others, then to all four and on, with their gradients.
    assert found("ring") == ({"collective-permute": (2 * 3 + 4 * 4) * p}, (2 * 3 + 4 * 4) * p)


def step_of(
    shape: dict[str, int], across: str, rows: int = 8, side: int = 32, accumulate: int = 1, remat: str = "attention",
    *, on: Topology | None = None, layers: int = 2, dtype=jnp.float32,
) -> Step:  # fmt: skip
    """A video transformer's on tokens of a quarter of `side`² × 3; on devices of this process, or described ones."""
    module = VideoTransformer(
        in_channels=4, out_channels=4, dim=64, heads=8, ffn_dim=128, layers=layers, text_dim=32, freq_dim=32,
        patch=(1, 2, 2), image_dim=None, eps=1e-6, remat=remat, attend=ATTENTIONS[across], dtype=dtype,
    )  # fmt: skip
    video = (rows, 3, side, side, 4)
    shapes = {"latents": video, "step": (rows,), "text": (rows, 12, 32), "target": video}
    batch = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}

    def objective(params, batch, _):
        velocity = module.apply({"params": params["transformer"]}, *(batch[name] for name in list(shapes)[:3]))
        return jnp.mean((velocity - batch["target"]) ** 2), {}

    first = [jax.ShapeDtypeStruct((1, *shape[1:]), jnp.float32) for shape in list(shapes.values())[:3]]
    params = jax.eval_shape(module.init, jax.random.key(0), *first)["params"]
    stage = small_stage.stage(objective, ("transformer",), name="renderer", batch=rows, accumulate=accumulate)
    mesh = partitioning.make_mesh(shape, jax.devices()[: math.prod(shape.values())]) if on is None else (
        mesh_on(SimpleNamespace(mesh=Mesh(**dict.fromkeys(AXES, 1) | shape)), on, None)
    )  # fmt: skip
    program = Program(stage, {"transformer": params}, mesh)
    needed = needed_flops(stage, mesh, program.state.params, program.frozen, program.placed(batch))
    return Step(program, program.placed(batch), str(jnp.dtype(dtype)), needed)


@pytest.mark.parametrize(
    ("remat", "kept"),
    # Of 3,072 tokens in bfloat16: a block's input, and what attention gives, with a float32 for each of 8 heads.
    [("full", 64 * 2), ("attention", 64 * 2 + 64 * 2 + 8 * 4), ("offload", 64 * 2)],
)
def test_a_gpus_step_is_one_that_a_gpu_runs(remat, kept):
    """With cuDNN's attention, whatever this machine has: its memory a layer and its FLOPs, counted by hand."""
    few, many = (
        step_of({"fsdp": 8}, "automatic", side=64, remat=remat, on=topology("h100:8"), layers=n, dtype=jnp.bfloat16)
        for n in (4, 12)
    )
    found, more = arithmetic.of(few), arithmetic.of(many)
    assert more.activations - found.activations == 8 * 3072 * kept
    # Once a layer, of a row: products of the tokens with themselves and with 12 of a text, and with kernels.
    attends, reads = 4 * 3072 * 3072 * 64, 4 * 3072 * 12 * 64
    products = 2 * 3072 * (6 * 64 * 64 + 2 * 64 * 128) + 2 * 12 * (2 * 64 * 64)
    assert (many.needed - few.needed) / 8 == pytest.approx(8 * 3 * (attends + reads + products), rel=0.01)
    # The backward pass makes the softmax again, 5 products for 4, and all that is not kept, too.
    run = (3.5 + (remat == "full")) * attends + 4.5 * reads + 4 * products
    assert more.flops - found.flops == pytest.approx(8 * run, rel=0.01)


@pytest.mark.parametrize(
    ("shape", "across", "kind"),
    [({"fsdp": 2, "context": 4}, "ring", "collective-permute"), ({"context": 8}, "all_to_all", "all-to-all")],
    ids=("ring", "all_to_all"),
)
def test_what_is_compiled_moves_what_is_counted(shape, across, kind):
    step = step_of(shape, across)
    found, program = arithmetic.of(step), compiled.of(step, topology("cpu:8")).cost
    # Beside attention's some hundred bytes; a CPU's compiler sums a gradient whole and cuts its part.
    assert found.moved[kind] == pytest.approx(program.bytes[kind], rel=0.1)
    sums = found.moved["all-reduce"] + 8 * found.moved["reduce-scatter"]
    assert 0.7 * program.bytes["all-reduce"] < sums < 1.1 * program.bytes["all-reduce"]
    # Along two axes it gathers over one and then over the other: results of a half, then of all.
    results = found.moved["all-gather"] * (1.5 if "fsdp" in shape else 1)
    assert results == pytest.approx(program.bytes["all-gather"], rel=0.2)
    assert found.flops == pytest.approx(program.flops, rel=0.15)


TOKENS, TEXT = 8 * 768 * 64 * 4, 8 * 12 * 64 * 4  # bytes of all rows, in float32


@pytest.mark.parametrize(
    ("remat", "times"),
    # Of a layer what attention to tokens, to the text and the feed-forward give, and their inputs' gradients; again
    # with the blocks, where these are computed again.
    [("full", 9), ("attention", 9), ("dots_no_batch", 6)],
)
def test_what_tensor_splits_is_added_up(remat, times):
    found = arithmetic.of(step_of({"tensor": 8}, "automatic", remat=remat, on=topology("h100:8")))
    # The text's states once, and the gradient of what each layer's keys and values are made from.
    size = 2 * times * TOKENS + 3 * TEXT
    assert found.moved == {"all-reduce": size} and found.sent == found.near == 2 * size * 7 / 8
    more = arithmetic.of(step_of({"tensor": 16}, "automatic", remat=remat, on=topology("h100:16")))
    assert more.sent > 0 and more.near == 0
    half = arithmetic.of(step_of({"fsdp": 2, "tensor": 4}, "automatic", remat=remat, on=topology("h100:8")))
    assert half.moved["all-reduce"] == pytest.approx(size / 2, rel=0.01)  # beside gradients of what no axis splits


def test_what_is_compiled_adds_up_what_is_counted():
    step = step_of({"fsdp": 2, "tensor": 4}, "automatic")
    found, program = arithmetic.of(step), compiled.of(step, topology("cpu:8")).cost
    # A CPU's compiler sums the gradients by queries, keys and values one by one, a GPU's adds them up before.
    more = 2 * (2 * TOKENS + TEXT) / 2
    sums = found.moved["all-reduce"] + 2 * found.moved["reduce-scatter"]
    assert sums + more == pytest.approx(program.bytes["all-reduce"], rel=0.03)
    assert found.flops == pytest.approx(program.flops, rel=0.15)


def test_what_the_backward_pass_keeps_follows_from_the_policys_name():
    """The host's memory is none of the chip's."""
    names = ("none", "dots_no_batch", "attention", "offload", "full")
    held = [arithmetic.of(step_of({"fsdp": 8}, "ring", side=64, remat=name)).activations for name in names]
    assert held[0] > held[1] > held[2] > held[3] >= held[4]


def test_tokens_are_split_along_context_and_each_part_of_a_batch_moves_the_parameters():
    """8 rows of 3,072 tokens: a row on each chip, or two chips' rows by four parts of them."""
    rows, parts, ring = (
        arithmetic.of(step_of(shape, across, side=64))
        for shape, across in (
            ({"fsdp": 8}, "ring"), ({"fsdp": 2, "context": 4}, "all_to_all"), ({"fsdp": 2, "context": 4}, "ring"),
        )
    )  # fmt: skip
    assert parts.activations == pytest.approx(rows.activations, rel=0.2)
    assert parts.touched == pytest.approx(rows.touched, rel=0.2) and parts.flops == pytest.approx(rows.flops, rel=0.01)
    # Parameters are split along both; a ring holds a block of logits that no kernel hides.
    assert parts.moved["all-gather"] == rows.moved["all-gather"]
    assert ring.activations > parts.activations
    once, twice = (arithmetic.of(step_of({"fsdp": 4}, "ring", accumulate=n)).moved for n in (1, 2))
    assert twice == {kind: 2 * size for kind, size in once.items()}
