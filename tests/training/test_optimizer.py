"""Which leaves Muon turns, and what its steps look like."""

import jax
import jax.numpy as jnp
import numpy as np

from signer_jax.training.optimizer import Optimisation, matrices, optimizer

PARAMS = {
    "stem": {"conv": {"kernel": (1, 3, 3, 32, 64), "bias": (64,)}, "narrow": {"kernel": (64, 13)}},
    "transformer": {"layers": {"wi": {"kernel": (2, 32, 48)}, "modulation": (2, 6, 32)}},
    "slul": {"token_embedding": {"embedding": (100, 32)}, "lm_head": {"kernel": (32, 100)}},
}


def params():
    shapes, tree = jax.tree.flatten(PARAMS, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return jax.tree.unflatten(tree, [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)])


def test_kernels_are_matrices_and_tables_biases_and_narrow_layers_are_none():
    found = matrices(params())
    assert found["stem"]["conv"]["kernel"] == ((0, 1, 2, 3), (4,))
    assert found["transformer"]["layers"]["wi"]["kernel"] == ((1,), (2,))  # a stack of two
    assert found["stem"]["conv"]["bias"] is None and found["stem"]["narrow"]["kernel"] is None
    assert found["transformer"]["layers"]["modulation"] is None
    assert found["slul"] == {"token_embedding": {"embedding": None}, "lm_head": {"kernel": None}}


def test_a_step_of_muon_turns_every_matrix_alike_and_follows_the_rate():
    """Every singular value of an orthogonal step is about one, whatever the gradient's were; rates: 0, then 1, warm."""
    p = params()
    tx = optimizer(Optimisation("muon", 10, 0.02, 1, 0.0, 1.0))
    state = tx.init(p)
    gradient = jax.tree.map(lambda leaf: leaf * jnp.linspace(1e-3, 1, leaf.shape[-1]), p)
    first, state = tx.update(gradient, state, p)
    assert all(float(jnp.abs(leaf).max()) == 0 for leaf in jax.tree.leaves(first))  # the warm-up begins at 0
    second, _ = tx.update(gradient, state, p)
    for layer in second["transformer"]["layers"]["wi"]["kernel"]:
        values = np.linalg.svd(layer, compute_uv=False) / 0.02
        assert ((values > 0.4) & (values < 1.6)).all()  # the iteration leaves .7 to 1.2, here times sqrt(48 / 32)
    assert 0.0015 < float(jnp.abs(second["stem"]["conv"]["bias"]).max()) < 0.0025  # Adam's, a tenth
