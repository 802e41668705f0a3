"""Greedy and beam search over SLUL's decoder, with a cache, many sentences at once, one compilation a shape."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from signer_jax.slul.constraint import BETWEEN, Automaton, advance, may_follow
from signer_jax.slul.t5 import T5, Cache, decode_step, init_cache, reorder
from signer_jax.slul.tokenizer import EOS, PAD


def next_log_probs(logits: Float[Array, "*b v"], allowed: Bool[Array, "v"] | None) -> Float[Array, "*b v"]:
    """Log-probabilities over the whole vocabulary, float32, -inf where a token may not follow.

    Pad never follows. `allowed` bars further tokens (eos stays allowed); the others keep their probability. It may be
    shorter than the vocabulary: published tables are longer than their tokenizers, and the ids beyond are barred.
    """
    ids = jnp.arange(logits.shape[-1])
    possible = ids != PAD
    if allowed is not None:
        possible &= jnp.pad(allowed, (0, logits.shape[-1] - len(allowed))) | (ids == EOS)
    return jnp.where(possible, jax.nn.log_softmax(logits.astype(jnp.float32)), -jnp.inf)


def normalised(log_prob: Float[Array, "*b"], length: Int[Array, "*b"], penalty: float) -> Float[Array, "*b"]:
    """log_prob / length**penalty; the length counts eos. Penalty 0 is the plain log-probability."""
    return log_prob / jnp.maximum(length, 1).astype(jnp.float32) ** penalty


class _Search(NamedTuple):
    time: Int[Array, ""]
    ids: Int[Array, "b w g"]
    token_log_probs: Float[Array, "b w g"]  # 0 behind the end
    log_prob: Float[Array, "b w"]
    length: Int[Array, "b w"]
    finished: Bool[Array, "b w"]
    state: Int[Array, "b w"]  # of the automaton
    cache: Cache


def begin_cache(
    t5: T5, params: dict, source: Int[Array, "b s"], beams: int, max_length: int, H: Float[Array, "b s d"] | None = None
) -> Cache:
    """The cache before the first token; the source is encoded where `H` is not known."""
    encoded: Any = t5.apply({"params": params}, source, method=T5.encode) if H is None else H
    return init_cache(t5, params, encoded, source != PAD, beams=beams, max_length=max_length)


def check_rules(rules: Automaton | None, language: Int[Array, "b"] | None) -> None:
    """Raises `ValueError` where there is one of them alone."""
    if (rules is None) != (language is None):
        raise ValueError("search: rules need the sentences' languages, and only they do; give both or neither")


def following(
    t5: T5, params: dict, token: Int[Array, "b w"], cache: Cache, state: Int[Array, "b w"], *,
    allowed: Bool[Array, "v"] | None, rules: Automaton | None = None, language: Int[Array, "b"] | None = None,
) -> tuple[Float[Array, "b w v"], Cache]:  # fmt: skip
    """`next_log_probs` of what follows each beam's last token, -inf also for what the rules bar in its state; and the
    next cache.
    """
    logits, cache = decode_step(t5, params, token, cache)
    log_probs: Any = next_log_probs(logits, allowed)
    if rules is not None and language is not None:
        log_probs = jnp.where(may_follow(rules, language, state), log_probs, -jnp.inf)
    return log_probs, cache


def moved(
    state: Int[Array, "b w"], token: Int[Array, "b w"], rules: Automaton | None, language: Int[Array, "b"] | None
) -> Int[Array, "b w"]:
    """The rules' states after these tokens; the same without rules."""
    if rules is None or language is None:
        return state
    next_state: Any = advance(rules, language, state, token)
    return next_state


def _begin(
    t5: T5, params: dict, source: Int[Array, "b s"], beams: int, max_length: int, H: Float[Array, "b s d"] | None = None
) -> _Search:
    batch = source.shape[0]
    return _Search(
        time=jnp.zeros((), jnp.int32),
        ids=jnp.full((batch, beams, max_length), PAD, jnp.int32),
        token_log_probs=jnp.zeros((batch, beams, max_length), jnp.float32),
        # Only beam 0 exists at first: equal beams would yield equal sequences.
        log_prob=jnp.broadcast_to(jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf), (batch, beams)),
        length=jnp.zeros((batch, beams), jnp.int32),
        finished=jnp.zeros((batch, beams), bool),
        state=jnp.full((batch, beams), BETWEEN, jnp.int32),
        cache=begin_cache(t5, params, source, beams, max_length, H),
    )


def _last_token(search: _Search) -> Int[Array, "b w"]:
    # T5 starts with pad; ids[..., -1] is still pad at time 0.
    return jax.lax.dynamic_index_in_dim(search.ids, search.time - 1, axis=2, keepdims=False)


@functools.partial(jax.jit, static_argnames=("t5", "max_length"))
def greedy(
    t5: T5, params: dict, source: Int[Array, "b s"], *, max_length: int, allowed: Bool[Array, "v"] | None = None
) -> tuple[Int[Array, "b g"], Float[Array, "b"]]:
    """The likeliest token at every step. Returns ids `[b, max_length]` (eos included, pad after it) and their summed
    log-probability `[b]`. `allowed` `[v]`: ids that may be emitted (`Tokenizer.gloss_ids`), all when None.
    """

    def step(search: _Search) -> _Search:
        log_probs, cache = following(t5, params, _last_token(search), search.cache, search.state, allowed=allowed)
        token = jnp.where(search.finished, PAD, jnp.argmax(log_probs, -1))
        gain = jnp.where(search.finished, 0.0, jnp.max(log_probs, -1))
        return _Search(
            search.time + 1,
            search.ids.at[:, :, search.time].set(token.astype(jnp.int32)),
            search.token_log_probs.at[:, :, search.time].set(gain),
            search.log_prob + gain,
            search.length + ~search.finished,
            search.finished | (token == EOS),
            search.state,
            cache,
        )

    def going(search: _Search) -> Bool[Array, ""]:
        return (search.time < max_length) & ~jnp.all(search.finished)

    search = jax.lax.while_loop(going, step, _begin(t5, params, source, 1, max_length))
    return search.ids[:, 0], search.log_prob[:, 0]


@functools.partial(jax.jit, static_argnames=("t5", "beams", "max_length"))
def beam_search(
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
    """The `beams` best hypotheses of each sentence: ids `[b, beams, max_length]`, scores `[b, beams]`, best first, and
    the log-probability of each of their tokens `[b, beams, max_length]`, 0 behind the end.

    Score: log-probability / length**length_penalty. A finished hypothesis keeps its place among the beams while nothing
    better pushes it out, so the search ends when all places are finished, and one beam is greedy search whatever the
    penalty. A hypothesis without eos was cut at `max_length`; a score of -inf means that fewer hypotheses exist.
    `allowed` as in `greedy`. `H`: the source as `T5.encode` gives it, where that is known already. `rules`: only the
    glosses of its language number `language` are said (`signer_jax.slul.constraint`); what they bar keeps no
    probability, what they leave keeps its own.
    """
    check_rules(rules, language)
    keep = jnp.arange(t5.vocab_size) == PAD  # a finished hypothesis has one continuation: itself
    kept_log_probs = jnp.where(keep, 0.0, -jnp.inf)

    def step(search: _Search) -> _Search:
        log_probs, cache = following(
            t5, params, _last_token(search), search.cache, search.state,
            allowed=allowed, rules=rules, language=language,
        )  # fmt: skip
        gains = jnp.where(search.finished[..., None], kept_log_probs, log_probs)
        totals = search.log_prob[..., None] + gains
        lengths = search.length + ~search.finished
        scores = normalised(totals, lengths[..., None], length_penalty)
        _, best = jax.lax.top_k(scores.reshape(scores.shape[0], -1), beams)
        parents, token = best // t5.vocab_size, best % t5.vocab_size

        def of_parents(x: Array) -> Array:
            return jnp.take_along_axis(x, parents.reshape(parents.shape + (1,) * (x.ndim - 2)), axis=1)

        own = jnp.take_along_axis(gains.reshape(gains.shape[0], -1), best, axis=1)
        state = moved(of_parents(search.state), token, rules, language)
        return _Search(
            search.time + 1,
            of_parents(search.ids).at[:, :, search.time].set(token.astype(jnp.int32)),
            of_parents(search.token_log_probs).at[:, :, search.time].set(own),
            jnp.take_along_axis(totals.reshape(totals.shape[0], -1), best, axis=1),
            of_parents(lengths),
            of_parents(search.finished) | (token == EOS),
            state,
            reorder(cache, parents),
        )

    def going(search: _Search) -> Bool[Array, ""]:
        return (search.time < max_length) & jnp.any(~search.finished & (search.log_prob > -jnp.inf))

    search = jax.lax.while_loop(going, step, _begin(t5, params, source, beams, max_length, H))
    return search.ids, normalised(search.log_prob, search.length, length_penalty), search.token_log_probs
