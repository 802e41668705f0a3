"""Low-rank adapters (Hu et al. 2021): beside a frozen kernel W two small matrices, y = x W + α/r · (x A) B.

An adapter's A and B stand in the tree of parameters beside their kernel, as `lora_a [.., in, r]` and
`lora_b [.., r, out]` (a leading axis where layers are stacked), so that a tree of adapters joins its base like any
other part of it, and the scan over layers takes each layer's own. `Dense` adds the low-rank term where its parameters
have one. So no gradient of a frozen kernel is ever computed, nor a second copy of it made, and in bfloat16 the term is
not rounded away against the kernel: neither while it is trained nor afterwards (`held.Weights.read`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from signer_jax.dense import A, B, is_adapters
from signer_jax.errors import SignerError
from signer_jax.interop.lora import layers_of
from signer_jax.interop.names import Described
from signer_jax.renderer.video_transformer import VideoTransformer
from signer_jax.slul.t5 import T5
from signer_jax.training.trained import join, matching, paths


def places(params: Mapping, parts: Sequence[str], targets: Sequence[str], where: str) -> tuple[str, ...]:
    """The dense layers of the parts whose kernels the patterns find, as paths without the kernel.

    Raises `SignerError` where a pattern finds nothing, or what is no dense layer's kernel.
    """
    known = paths(params, parts)
    flat = flatten_dict({part: params[part] for part in parts}, sep="/")
    found: set[str] = set().union(*(matching(pattern, known, where) for pattern in targets))
    for name in sorted(found):
        stacks = flat[name].ndim - 2  # layers are scanned, and groups of layers too
        if not name.endswith("/kernel") or stacks not in ((1, 2) if "/layers/" in name else (0,)):
            raise SignerError(
                f"{where}: {name} {list(flat[name].shape)} is no dense layer's kernel, so that no adapter fits it; "
                "give patterns that end in /kernel$"
            )
    return tuple(sorted(name.removesuffix("/kernel") for name in found))


def check_held(at: Iterable[str], published: Mapping[str, Described], where: str) -> None:
    """Raises `SignerError` for an adapter of published weights that no file of adapters can hold.

    `published` are these by their paths. Weights that a run made itself have no other library to load adapters there.
    """
    for part, described in published.items():
        if not isinstance(described.module, T5 | VideoTransformer):
            continue  # of an autoencoder's layers `export lora` asks nothing
        layers = {f"{part}/{layer}" for layer in layers_of(described.module)}
        if strange := sorted(place for place in at if place.startswith(f"{part}/") and place not in layers):
            raise SignerError(
                f"{where}: {strange[0]} is a layer for which diffusers and PEFT have no adapters, so that export lora "
                "could not write them; give patterns that leave it out, and train it by its own rule beside lora"
            )


def fresh(params: Mapping, at: Sequence[str], rank: int, key: Array) -> dict:
    """New adapters, float32: A normal with a deviation of 1/r, B zero, so that they change nothing yet."""
    flat, new = flatten_dict(dict(params), sep="/"), {}
    for place, one in zip(at, jax.random.split(key, len(at)), strict=True):
        *stack, inputs, outputs = flat[f"{place}/kernel"].shape
        new[f"{place}/{A}"] = jax.random.normal(one, (*stack, inputs, rank), jnp.float32) / rank
        new[f"{place}/{B}"] = jnp.zeros((*stack, rank, outputs), jnp.float32)
    return unflatten_dict(new, sep="/")


def with_lora(params: Mapping, adapters: Mapping, scale: float) -> dict:
    """The parameters with adapters beside them, each B times `scale` = α/r; those that lie there already stay."""
    there, flat = flatten_dict(dict(params), sep="/"), flatten_dict(dict(adapters), sep="/")
    both = {name: value * scale if _is(name, B) else value for name, value in flat.items()}
    both |= {
        name: together(name, (there[name], value))
        for name, value in both.items()
        if is_adapters(name) and name in there
    }
    return join(params, unflatten_dict(both, sep="/"))


def together(name: str, some: Iterable[Any]) -> Array:
    """One A, or one B, that does what several do beside each other: their ranks follow each other."""
    return jnp.concatenate(tuple(some), axis=-1 if _is(name, A) else -2)


def merged(params: Mapping, adapters: Mapping, scale: float) -> dict:
    """The parameters with W + scale · A B for each W that has an adapter; of the same dtype, and no adapter left.

    What else `adapters` holds replaces its like.
    """
    flat, found = flatten_dict(dict(params), sep="/"), flatten_dict(dict(adapters), sep="/")
    result = flat | {name: value for name, value in found.items() if not is_adapters(name)}
    for name in found:
        if _is(name, A):
            place = name.removesuffix(f"/{A}")
            result[f"{place}/kernel"] = added(flat[f"{place}/kernel"], found[name], found[f"{place}/{B}"], scale)
    return unflatten_dict(result, sep="/")


def added(kernel: Any, a: Any, b: Any, scale: float) -> Array:
    """W + scale · A B, of W's dtype and where W lies."""
    changed = _sum(jnp.asarray(kernel), jnp.asarray(a), jnp.asarray(b), scale)
    return changed if isinstance(kernel, np.ndarray) else jax.device_put(changed, kernel.sharding)


@jax.jit
def _sum(kernel: Array, a: Array, b: Array, scale: float) -> Array:
    change = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST) * scale
    return (kernel.astype(jnp.float32) + change).astype(kernel.dtype)


def has_adapters(tree: Mapping) -> bool:
    return any(map(is_adapters, flatten_dict(dict(tree), sep="/")))


def _is(name: str, leaf: str) -> bool:
    return name.rpartition("/")[2] == leaf
