"""A mesh splits the work of a step, not only its state: equal numbers, a share of the FLOPs, no activation summed."""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_stage
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from signer_jax import layout
from signer_jax.renderer.video_transformer import VideoTransformer
from signer_jax.training import cost, flops, partitioning
from signer_jax.training.loop import Stage, TrainState, make_step

TX = optax.sgd(1.0)  # so that what is compared is the gradients: Adam's first steps are their signs
SHAPES = [{"data": 8}, {"fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}]


@cache
def _stage(**options) -> tuple[Stage, dict, dict]:
    module = VideoTransformer(
        in_channels=4, out_channels=4, dim=64, heads=4, ffn_dim=128, layers=3, text_dim=32, freq_dim=32,
        patch=(1, 2, 2), image_dim=None, eps=1e-6, **options,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    shapes = {"latents": (8, 3, 32, 32, 4), "step": (8,), "text": (8, 12, 32), "target": (8, 3, 32, 32, 4)}
    batch = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}

    def objective(params, batch, _):
        inputs = (batch[name] for name in ("latents", "step", "text"))
        velocity = module.apply({"params": params["transformer"]}, *inputs)
        return jnp.mean((velocity - batch["target"]) ** 2), {}

    first = (batch[name][:1] for name in ("latents", "step", "text"))
    params = jax.jit(module.init)(jax.random.key(0), *first)["params"]
    # Some parameters start at zero, and hide others' gradients.
    keys = iter(jax.random.split(jax.random.key(1), 1000))
    params = jax.tree.map(lambda leaf: leaf + 0.05 * jax.random.normal(next(keys), leaf.shape), params)
    stage = small_stage.stage(objective, ("transformer",), name="renderer")
    return stage, {"transformer": jax.device_get(params)}, batch


def _compiled(shape: dict[str, int], **options):
    stage, params, batch = _stage(**options)
    mesh = partitioning.make_mesh(shape, jax.devices()[: math.prod(shape.values())])
    none = jnp.zeros((), jnp.int32)
    state = TrainState(none, params, {}, TX.init(params), jax.random.key(0), none, none)
    shardings = partitioning.tree_shardings(jax.eval_shape(lambda: state), mesh)
    inputs = (jax.device_put(state, shardings), {}, partitioning.put_batch(batch, mesh))
    step = jax.jit(partitioning.laid_out(make_step(stage, TX), mesh), out_shardings=(shardings, None))
    return step.trace(*inputs).lower().compile(), inputs


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_devices_share_the_work_and_sum_no_activations(shape):
    options = {"remat": "attention"}
    stage, params, batch = _stage(**options)
    model = flops.training(lambda *inputs: stage.objective(*inputs)[0], params, batch, None)
    found = cost.read(_compiled(shape, **options)[0].as_text())
    assert found.flops < 1.4 * model / 8
    # Along data and fsdp only parameters and their gradients cross: nothing with an axis of tokens, or of text rows.
    if "tensor" not in shape:
        tokens, rows = 3 * 16 * 16, 12
        assert not _with_an_axis(found, tokens, 8 * tokens, rows, 8 * rows)  # of an example, of the batch
    if "fsdp" in shape:
        assert found.bytes["all-gather"] > 0


def test_the_programs_text_is_read_as_it_runs():
    """FLOPs of nested loops, one with a step of two, and of a collective in one, against what is known."""
    mesh = partitioning.make_mesh({"data": 1, "fsdp": 8, "tensor": 1})

    def function(x, w):
        def layer(x, w):
            def twice(carry):
                return carry[0] + 2, jnp.tanh(carry[1] @ w)

            return jax.lax.while_loop(lambda carry: carry[0] < 7, twice, (1, x))[1], None

        return jax.lax.scan(layer, x, w)[0]

    x = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=NamedSharding(mesh, P("fsdp")))
    w = jax.ShapeDtypeStruct((5, 32, 32), jnp.float32, sharding=NamedSharding(mesh, P(None, "fsdp")))
    found = cost.read(jax.jit(function).trace(x, w).lower().compile().as_text())
    assert found.flops == 5 * 3 * 2 * (64 // 8) * 32 * 32
    assert found.bytes["all-gather"] in (5 * 32 * 32 * 4, 3 * 5 * 32 * 32 * 4)


TPU = """
HloModule m, is_scheduled=true

%body (p: (u32[], bf16[8,4], bf16[4,4])) -> (u32[], bf16[8,4], bf16[4,4]) {
  %p = (u32[]{:T(128)}, bf16[8,4]{1,0:T(8,128)(2,1)}, /*index=2*/bf16[4,4]{1,0}) parameter(0)
  %two = u32[]{:T(128)} constant(2)
  %i = u32[]{:T(128)} get-tuple-element(%p), index=0
  %x = bf16[8,4]{1,0:T(8,128)(2,1)} get-tuple-element(%p), index=1
  %w = bf16[4,4]{1,0} get-tuple-element(%p), index=2
  %next = u32[]{:T(128)} add(%i, %two), metadata={op_name="a (b)"}
  %start = (bf16[2,4]{1,0}, bf16[4,4]{1,0:T(8,128)}) all-gather-start(%w), dimensions={0}
  %done = bf16[4,4]{1,0:T(8,128)} all-gather-done(%start)
  %y = bf16[8,4]{1,0:T(8,128)(2,1)} convolution(%x, %done), dim_labels=bf_io->bf, metadata={op_name="dot"}
  ROOT %t = (u32[]{:T(128)}, bf16[8,4]{1,0}, bf16[4,4]{1,0}) tuple(%next, %y, %w)
}

%condition (q: (u32[], bf16[8,4], bf16[4,4])) -> pred[] {
  %eight = u32[]{:T(128)} constant(8), metadata={op_name="c"}
  %q = (u32[]{:T(128)}, bf16[8,4]{1,0}, bf16[4,4]{1,0}) parameter(0)
  %j = u32[]{:T(128)} get-tuple-element(%q), index=0
  ROOT %less = pred[]{:T(512)} compare(%j, %eight), direction=LT
}

ENTRY %main (a: bf16[8,4], b: bf16[4,4]) -> bf16[12,8,128] {
  %one = u32[]{:T(128)} constant(1)
  %first = u32[]{:T(128)} copy(%one)
  %a = bf16[8,4]{1,0} parameter(0)
  %b = bf16[4,4]{1,0} parameter(1)
  %c = (u32[]{:T(128)}, bf16[8,4]{1,0}, bf16[4,4]{1,0}) tuple(%first, %a, %b)
  %while.1 = (u32[]{:T(128)}, bf16[8,4]{1,0}, bf16[4,4]{1,0}) while(%c), condition=%condition, body=%body
  %heads = bf16[12,8,16]{2,1,0} constant({...})
  %others = bf16[12,128,16]{2,1,0} constant({...})
  ROOT %logits = bf16[12,8,128]{1,2,0} convolution(%heads, %others), WINDOW, dim_labels=0bf_0oi->0bf
}
""".replace("WINDOW", "window={size=12 stride=11 lhs_dilate=12}")


def test_a_tpus_text_does_not_say_how_often_a_loop_runs_and_calls_a_product_of_heads_a_convolution():
    found = cost.read(TPU)
    assert found.flops == 4 * 2 * 8 * 4 * 4 + 2 * 12 * 8 * 128 * 16  # the counter is 1, 3, 5, 7
    assert found.bytes == {"all-gather": 4 * 4 * 4 * 2} and found.arrays == {"all-gather": {"bf16[4,4]": 4}}
    with pytest.raises(ValueError, match=r"loop while.1 has no counter"):
        cost.read(TPU.replace("direction=LT", "direction=NE"))


RING = """
HloModule m, num_partitions=8

%cut (p.0: f32[4,16,8], p.1: s32[]) -> f32[16,8] {
  %p.0 = f32[4,16,8]{2,1,0} parameter(0)
  %p.1 = s32[] parameter(1)
  ROOT %slice = f32[1,16,8]{2,1,0} dynamic-slice(%p.0, %p.1), dynamic_slice_sizes={1,16,8}
}

ENTRY %main (a: f32[4,16,8], i: s32[]) -> f32[64,8] {
  %a = f32[4,16,8]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %one = f32[1,16,8]{2,1,0} fusion(%a, %i), kind=kLoop, calls=%cut
  %near = f32[16,8]{1,0:T(8,128)S(1)} bitcast(%one)
  %kernel = f32[16,8]{1,0} custom-call(%near), custom_call_target="tpu_custom_call", backend_config={COST}
  %sum = f32[16,8]{1,0} all-reduce(%kernel), replica_groups=[2,4]<=[8], to_apply=%add
  %part = f32[4,8]{1,0} reduce-scatter(%sum), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  ROOT %all = f32[32,8]{1,0} all-gather(%part), replica_groups=[1,8]<=[8], dimensions={0}
}
""".replace("COST", '"cost_estimate":{"flops":"1000"}')


def test_what_is_sent_and_what_is_touched_is_counted():
    found, array = cost.read(RING), 4 * 16 * 8  # bytes
    assert found.flops == 1000  # what the kernel says of itself
    # In a ring of four a sum goes round twice, a scatter once; in one of eight each gets seven eighths.
    assert found.sent == 2 * array * 3 / 4 + array / 4 * 3 + 2 * array * 7 / 8
    # The fusion reads a quarter of its array and an index; what lies beside the main memory costs nothing there.
    operations = (2 * array + 4, array, 2 * array, array + array // 4, array // 4 + 2 * array)
    assert found.touched == sum(operations)
    assert cost.arguments(RING) == 4 * array + 4


SLICES = """
HloModule m, num_partitions=4

%body (c: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %c = (s32[], f32[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %x = f32[8,4]{1,0} get-tuple-element(%c), index=1
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %all-reduce.1 = f32[8,4]{1,0} all-reduce(%x), channel_id=1, replica_groups={{0,1,2,3}}, use_global_device_ids=true, to_apply=%sum
  %token = token[] after-all()
  %send.1 = (f32[8,4]{1,0}, u32[], token[]) send(%all-reduce.1, %token), channel_id=2, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv.1 = (f32[8,4]{1,0}, u32[], token[]) recv(%token), channel_id=3, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_transfer_type="ALL_REDUCE"}
  %send-done.1 = token[] send-done(%send.1), channel_id=2, is_host_transfer=true
  %recv-done.1 = (f32[8,4]{1,0}, token[]) recv-done(%recv.1), channel_id=3, is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
  %y = f32[8,4]{1,0} get-tuple-element(%recv-done.1), index=0
  ROOT %out = (s32[], f32[8,4]{1,0}) tuple(%next, %y)
}

%more (d: (s32[], f32[8,4])) -> pred[] {
  %d = (s32[], f32[8,4]{1,0}) parameter(0)
  %j = s32[] get-tuple-element(%d), index=0
  %three = s32[] constant(3)
  ROOT %less = pred[] compare(%j, %three), direction=LT
}

ENTRY %main (x: f32[8,4]) -> (s32[], f32[8,4]) {
  %x.0 = f32[8,4]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[8,4]{1,0}) tuple(%zero, %x.0)
  ROOT %end = (s32[], f32[8,4]{1,0}) while(%start), condition=%more, body=%body
}
"""  # noqa: E501


def test_what_goes_from_slice_to_slice_is_counted_apart():
    """A TPU's program hands it to the host, whose own program makes the sum; so it is compiled for two slices."""
    found, array = cost.read(SLICES, slices=2), 4 * 8 * 4  # bytes
    assert found.bytes == {"all-reduce": 3 * array, "all-reduce between slices": 3 * array}
    assert found.sent == 3 * 2 * array * 3 / 4
    assert found.far == 3 * 2 * array / 2 and cost.read(SLICES, slices=4).far == 3 * 2 * array * 3 / 4
    assert cost.read(SLICES.replace("ALL_REDUCE", "ALL_GATHER"), slices=2).far == 3 * array / 2


EITHER = """
HloModule m

%small (a: (f32[8,4], f32[4,4])) -> f32[8,4] {
  %a = (f32[8,4]{1,0}, f32[4,4]{1,0}) parameter(0)
  %a.x = f32[8,4]{1,0} get-tuple-element(%a), index=0
  %a.w = f32[4,4]{1,0} get-tuple-element(%a), index=1
  ROOT %a.y = f32[8,4]{1,0} dot(%a.x, %a.w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%large (b: (f32[8,4], f32[4,4])) -> f32[8,4] {
  %b = (f32[8,4]{1,0}, f32[4,4]{1,0}) parameter(0)
  %b.x = f32[8,4]{1,0} get-tuple-element(%b), index=0
  %b.w = f32[4,4]{1,0} get-tuple-element(%b), index=1
  %b.y = f32[8,4]{1,0} dot(%b.x, %b.w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %b.z = f32[8,4]{1,0} dot(%b.y, %b.w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (which: pred[], x: f32[8,4], w: f32[4,4]) -> f32[8,4] {
  %which = pred[] parameter(0)
  %x = f32[8,4]{1,0} parameter(1)
  %w = f32[4,4]{1,0} parameter(2)
  %both = (f32[8,4]{1,0}, f32[4,4]{1,0}) tuple(%x, %w)
  ROOT %out = f32[8,4]{1,0} conditional(%which, %both, %both), BRANCHES
}
"""


@pytest.mark.parametrize("order", [("small", "large"), ("large", "small")])
@pytest.mark.parametrize(
    "branches", ["true_computation=%{}, false_computation=%{}", "branch_computations={{%{}, %{}}}"]
)
def test_of_a_conditionals_branches_the_dearest_counts_alone(branches, order):
    found = cost.read(EITHER.replace("BRANCHES", branches.format(*order)))
    product, moved = 2 * 8 * 4 * 4, 4 * (2 * 8 * 4 + 4 * 4)
    assert (found.flops, found.touched) == (2 * product, 2 * moved)


def test_of_two_experts_one_is_counted():
    """Compiled, with their gradients, as a training step has them."""
    w = jnp.zeros((2, 32, 32))

    def loss(w, x, high):
        return jax.lax.cond(high, lambda: jnp.tanh(x @ w[0]).sum(), lambda: jnp.tanh(x @ w[1]).sum())

    text = jax.jit(jax.grad(loss)).lower(w, jnp.zeros((64, 32)), True).compile().as_text()
    assert cost.read(text).flops == 2 * 2 * 64 * 32 * 32  # forward, and the kernel's gradient


def _with_an_axis(found: cost.Cost, *sizes: int) -> list[str]:
    """The arrays that a collective moves with an axis of one of these sizes."""
    return [
        f"{kind} {shape}" for kind, arrays in found.arrays.items() for shape in arrays
        if {str(size) for size in sizes} & set(shape.partition("[")[2].rstrip("]").split(","))
    ]  # fmt: skip


def test_what_is_written_is_counted():
    def function(x, w):
        return jax.lax.scan(jax.checkpoint(lambda x, w: (jnp.tanh(x @ w), None)), x, w)[0]

    assert flops.forward(function, jnp.zeros((64, 32)), jnp.zeros((5, 32, 32))) == 5 * 2 * 64 * 32 * 32


# ---- The table -------------------------------------------------------------------------------------------------------


def test_constrain_is_nothing_without_a_mesh_and_follows_the_table_on_one():
    x = jnp.zeros((8, 6, 4))
    assert layout.constrain(x, "batch", "length", "embed") is x
    mesh = partitioning.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    whole = jax.device_put(x, NamedSharding(mesh, P()))
    placed = jax.jit(partitioning.laid_out(lambda x: layout.constrain(x, "batch", None, "mlp"), mesh))(whole)
    assert placed.sharding.is_equivalent_to(NamedSharding(mesh, P(("data", "fsdp"), None, "tensor")), 3)
    # Of the axes as many as divide.
    assert layout.activation_spec(("batch", "heads"), (6, 3), mesh.shape) == P("data", None)
    assert layout.activation_spec(("batch", "heads"), (3, 4), mesh.shape) == P(None, "tensor")


def test_an_axis_without_a_rule_is_an_error():
    with pytest.raises(ValueError, match="no rule for the axis 'lenght'"):
        layout.activation_spec(("batch", "lenght"), (8, 4), {"data": 1, "fsdp": 8, "tensor": 1})
    with pytest.raises(ValueError, match="are not those of an array"):
        layout.activation_spec(("batch",), (8, 4), {"data": 1, "fsdp": 8, "tensor": 1})
