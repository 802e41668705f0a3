"""A tiny T5 with random weights, made without compiling its initialisation."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from signer_jax.slul.t5 import T5


def tiny(**fields) -> T5:
    sizes = {"vocab_size": 12, "d_model": 16, "d_kv": 4, "d_ff": 24, "heads": 2, "encoder_layers": 2,
             "decoder_layers": 2, "relative_buckets": 8, "relative_max_distance": 16, "activation": "gated-gelu",
             "tie_embeddings": False, "relative_bias_every_layer": False, "dropout": 0.0}  # fmt: skip
    return T5(**{**sizes, **fields})


def weights(t5: T5, seed: int = 0) -> dict:
    """Random parameters, every norm scale and bias table away from its initial value."""
    rng = np.random.default_rng(seed)
    ids = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    shapes = flatten_dict(jax.eval_shape(t5.init, jax.random.key(0), ids, ids)["params"])

    def draw(path: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
        values = rng.normal(size=shape)
        if path[-1] == "scale":
            return 1 + 0.3 * values
        if path[-1] == "kernel":
            return values * shape[-2] ** -0.5
        return values

    return unflatten_dict({path: draw(path, leaf.shape).astype(np.float32) for path, leaf in shapes.items()})
