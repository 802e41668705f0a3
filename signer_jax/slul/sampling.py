"""Drawing from SLUL's decoder: temperature, the likeliest k tokens, the nucleus of p; one loop with a cache."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from signer_jax.slul.constraint import BETWEEN, Automaton
from signer_jax.slul.decoding import begin_cache, check_rules, following, moved
from signer_jax.slul.t5 import T5, Cache
from signer_jax.slul.tokenizer import EOS, PAD


def sharpened(log_probs: Float[Array, "*b v"], temperature: float, top_k: int, top_p: float) -> Float[Array, "*b v"]:
    """Log-weights, -inf for what is not drawn: of log-probabilities over `temperature` the `top_k` likeliest (0: all),
    and of these the fewest whose probabilities add up to `top_p` (the likeliest one always; Holtzman et al. 2020).
    """
    weights = log_probs / temperature
    if 0 < top_k < weights.shape[-1]:
        least = jax.lax.top_k(weights, top_k)[0][..., -1:]
        weights = jnp.where(weights < least, -jnp.inf, weights)
    order = jnp.argsort(-weights, axis=-1)
    probabilities = jax.nn.softmax(jnp.take_along_axis(weights, order, axis=-1))
    before = jnp.cumsum(probabilities, -1) - probabilities
    inside = (before < top_p) | (jnp.arange(weights.shape[-1]) == 0)
    kept = jnp.take_along_axis(inside, jnp.argsort(order, axis=-1), axis=-1)
    return jnp.where(kept, weights, -jnp.inf)


class _Drawn(NamedTuple):
    time: Int[Array, ""]
    ids: Int[Array, "b w g"]
    token_log_probs: Float[Array, "b w g"]
    finished: Bool[Array, "b w"]
    state: Int[Array, "b w"]
    cache: Cache


@functools.partial(jax.jit, static_argnames=("t5", "samples", "max_length", "top_k"))
def sample(
    t5: T5,
    params: dict,
    source: Int[Array, "b s"],
    rng: Array,
    *,
    samples: int,
    max_length: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    allowed: Bool[Array, "v"] | None = None,
    H: Float[Array, "b s d"] | None = None,
    rules: Automaton | None = None,
    language: Int[Array, "b"] | None = None,
) -> tuple[Int[Array, "b w g"], Float[Array, "b w"], Float[Array, "b w g"]]:
    """`samples` sequences of each sentence, independent of each other: ids, their log-probability by the model itself,
    whatever they were drawn by, and that of each token; other arguments as in `decoding.beam_search`.

    What a sentence gets depends on `rng` and its place in the batch, and on nothing else of the batch.
    """
    check_rules(rules, language)
    batch = source.shape[0]
    keys = jax.vmap(functools.partial(jax.random.fold_in, rng))(jnp.arange(batch))

    def step(drawn: _Drawn) -> _Drawn:
        last = jax.lax.dynamic_index_in_dim(drawn.ids, drawn.time - 1, axis=2, keepdims=False)
        log_probs, cache = following(
            t5, params, last, drawn.cache, drawn.state, allowed=allowed, rules=rules, language=language
        )
        weights = sharpened(log_probs, temperature, top_k, top_p)
        here = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, drawn.time)
        token = jax.vmap(jax.random.categorical)(here, weights).astype(jnp.int32)
        own = jnp.take_along_axis(log_probs, token[..., None], axis=-1)[..., 0]
        token, own = jnp.where(drawn.finished, PAD, token), jnp.where(drawn.finished, 0.0, own)
        return _Drawn(
            drawn.time + 1, drawn.ids.at[:, :, drawn.time].set(token),
            drawn.token_log_probs.at[:, :, drawn.time].set(own), drawn.finished | (token == EOS),
            moved(drawn.state, token, rules, language), cache,
        )  # fmt: skip

    def going(drawn: _Drawn) -> Bool[Array, ""]:
        return (drawn.time < max_length) & ~drawn.finished.all()

    cache = begin_cache(t5, params, source, samples, max_length, H)
    # Row w of the cache is sample w's from the first step on: nothing is reordered.
    begin = _Drawn(
        jnp.zeros((), jnp.int32), jnp.full((batch, samples, max_length), PAD, jnp.int32),
        jnp.zeros((batch, samples, max_length), jnp.float32), jnp.zeros((batch, samples), bool),
        jnp.full((batch, samples), BETWEEN, jnp.int32), cache,
    )  # fmt: skip
    drawn = jax.lax.while_loop(going, step, begin)
    return drawn.ids, drawn.token_log_probs.sum(-1), drawn.token_log_probs
