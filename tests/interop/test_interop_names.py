"""One table, read and written by the same rows, on a module of three parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.interop.names import LEADING_ONE, Row, layer, layer_norm, to_ours, to_theirs

TABLE = [*layer("layers/wi", "blocks.{}.wi"), Row("modulation", "table", LEADING_ONE), *layer_norm("norm", "ln")]
SHAPES = {"layers": {"wi": {"kernel": (2, 3, 4), "bias": (2, 4)}}, "modulation": (5,),
          "norm": {"scale": (3,), "bias": (3,)}}  # fmt: skip


def init():
    return {"params": jax.tree.map(lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32), SHAPES,
                                   is_leaf=lambda node: isinstance(node, tuple))}  # fmt: skip


def theirs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"blocks.0.wi.weight": (4, 3), "blocks.1.wi.weight": (4, 3), "blocks.0.wi.bias": (4,),
              "blocks.1.wi.bias": (4,), "table": (1, 5), "ln.weight": (3,), "ln.bias": (3,)}  # fmt: skip
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_a_model_there_and_back():
    tensors = theirs()
    ours = to_ours("folder", TABLE, dict(tensors), init)
    assert jax.tree.map(np.shape, ours) == SHAPES
    np.testing.assert_array_equal(ours["layers"]["wi"]["kernel"][1], tensors["blocks.1.wi.weight"].T)
    np.testing.assert_array_equal(ours["modulation"], tensors["table"][0])
    back = to_theirs(TABLE, ours)
    assert back.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(back[name], value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"blocks.1.wi.weight": (4, 2)}, "blocks.1.wi.weight makes layers/wi/kernel of shape .2, 4., its config says"),
        ({"ln.bias": (4,)}, "ln.bias makes norm/bias of shape .4,., its config says .3,."),
        ({"blocks.1.wi.bias": None}, "lacks 1 tensors, the first 'blocks.1.wi.bias'"),
        ({"blocks.2.wi.bias": (4,)}, "has 1 unknown tensors, the first 'blocks.2.wi.bias'"),
    ],
)
def test_what_does_not_fit_is_one_line(change, says):
    tensors = theirs()
    for name, shape in change.items():
        if shape is None:
            del tensors[name]
        else:
            tensors[name] = np.zeros(shape, np.float32)
    with pytest.raises(SignerError, match=says) as error:
        to_ours("folder", TABLE, tensors, init)
    assert "\n" not in str(error.value)


def test_what_may_be_extra_is_left_out():
    tensors = theirs() | {"blocks.0.unread": np.zeros(2, np.float32)}
    assert jax.tree.map(np.shape, to_ours("folder", TABLE, tensors, init, optional=("unread",))) == SHAPES


def test_a_parameter_that_no_row_names_is_our_mistake():
    with pytest.raises(AssertionError, match="norm/bias"):
        to_ours("folder", TABLE[:-1], theirs(), init)
