"""The beam search of t5x and transformers: what has ended stands apart from what runs, so it takes no beam's place.

The rules are those of transformers 5 (`generation/utils.py`, `_beam_search`, with `early_stopping=False`), which
`tests/parity/test_parity_decoding.py` compares token for token.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from signer_jax.slul.constraint import BETWEEN, Automaton
from signer_jax.slul.decoding import begin_cache, check_rules, following, moved
from signer_jax.slul.t5 import T5, Cache, reorder
from signer_jax.slul.tokenizer import EOS, PAD

_NONE = -1e9  # the score of a hypothesis that is not there; finite, as a sum of two of them is compared
_NO_HYPOTHESIS = -1e8


class _Beams(NamedTuple):
    ids: Int[Array, "b w g"]
    token_log_probs: Float[Array, "b w g"]
    scores: Float[Array, "b w"]  # of those that run their log-probability

    def chosen(self, places: Int[Array, "b k"]) -> "_Beams":
        return jax.tree.map(lambda x: _of(x, places), self)

    def and_(self, others: "_Beams") -> "_Beams":
        return jax.tree.map(lambda x, y: jnp.concatenate([x, y], 1), self, others)


class _Search(NamedTuple):
    time: Int[Array, ""]
    running: _Beams
    state: Int[Array, "b w"]  # of the automaton
    cache: Cache
    finished: _Beams
    is_finished: Bool[Array, "b w"]
    improving: Bool[Array, "b"]  # whether what runs may still become better than what has ended


def _of(x: Array, places: Int[Array, "b k"]) -> Array:
    return jnp.take_along_axis(x, places.reshape(places.shape + (1,) * (x.ndim - 2)), axis=1)


@functools.partial(jax.jit, static_argnames=("t5", "beams", "max_length"))
def standard_beam_search(
    t5: T5,
    params: dict,
    source: Int[Array, "b s"],
    *,
    beams: int,
    max_length: int,
    length_penalty: float,
    allowed: Bool[Array, "v"] | None = None,
    H: Float[Array, "b s d"] | None = None,
    rules: Automaton | None = None,
    language: Int[Array, "b"] | None = None,
) -> tuple[Int[Array, "b w g"], Float[Array, "b w"], Float[Array, "b w g"]]:
    """`decoding.beam_search` in every argument and result, another search between them.

    Of the 2 · beams likeliest continuations those that end are weighed as finished hypotheses where they are among the
    first `beams`, by log-probability / length**length_penalty, and the likeliest others run on. A sentence is done when
    all its finished hypotheses are better than its likeliest running one is at its present length.
    """
    check_rules(rules, language)
    batch, vocab_size = source.shape[0], t5.vocab_size
    empty = _Beams(
        jnp.full((batch, beams, max_length), PAD, jnp.int32), jnp.zeros((batch, beams, max_length), jnp.float32),
        jnp.full((batch, beams), _NONE, jnp.float32),
    )  # fmt: skip
    likely = jnp.arange(2 * beams) < beams

    def step(search: _Search) -> _Search:
        last = jax.lax.dynamic_index_in_dim(search.running.ids, search.time - 1, axis=2, keepdims=False)
        log_probs, cache = following(
            t5, params, last, search.cache, search.state, allowed=allowed, rules=rules, language=language
        )
        totals = (search.running.scores[..., None] + log_probs).reshape(batch, -1)
        scores, best = jax.lax.top_k(totals, 2 * beams)
        parents, token = best // vocab_size, (best % vocab_size).astype(jnp.int32)
        own = jnp.take_along_axis(log_probs.reshape(batch, -1), best, axis=1)
        ids, tokens = _of(search.running.ids, parents), _of(search.running.token_log_probs, parents)
        extended = _Beams(ids.at[:, :, search.time].set(token), tokens.at[:, :, search.time].set(own), scores)
        ends = (token == EOS) | (search.time == max_length - 1)

        _, further = jax.lax.top_k(jnp.where(ends, scores + _NONE, scores), beams)
        running = extended._replace(scores=jnp.where(ends, scores + _NONE, scores)).chosen(further)
        state = moved(_of(search.state, parents), token, rules, language)

        length = (search.time + 1).astype(jnp.float32)
        counts = ends & likely
        weighed = scores / length**length_penalty + jnp.where(counts & search.improving[:, None], 0.0, _NONE)
        merged = search.finished.and_(extended._replace(scores=weighed))
        _, kept = jax.lax.top_k(merged.scores, beams)
        finished = merged.chosen(kept)
        is_finished = _of(jnp.concatenate([search.is_finished, counts], 1), kept)
        worst = jnp.where(is_finished, finished.scores.min(1, keepdims=True), _NONE)
        better = (running.scores[:, :1] / length**length_penalty > worst).any(1)
        return _Search(
            search.time + 1, running, _of(state, further), reorder(cache, _of(parents, further)), finished, is_finished,
            search.improving & better,
        )  # fmt: skip

    def going(search: _Search) -> Bool[Array, ""]:
        return (search.time < max_length) & search.improving.any()

    first = jnp.where(jnp.arange(beams) == 0, 0.0, _NONE)
    begin = _Search(
        jnp.zeros((), jnp.int32), empty._replace(scores=jnp.broadcast_to(first, (batch, beams))),
        jnp.full((batch, beams), BETWEEN, jnp.int32), begin_cache(t5, params, source, beams, max_length, H), empty,
        jnp.zeros((batch, beams), bool), jnp.ones(batch, bool),
    )  # fmt: skip
    finished = jax.lax.while_loop(going, step, begin).finished
    there = finished.scores > _NO_HYPOTHESIS
    ids = jnp.where(there[..., None], finished.ids, PAD)
    tokens = jnp.where(there[..., None], finished.token_log_probs, 0.0)
    return ids, jnp.where(there, finished.scores, -jnp.inf), tokens
