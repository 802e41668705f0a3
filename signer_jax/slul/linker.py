"""SLUL's forward pass: one encoder pass, the plain and the masked decoder pass in one call, the gloss encoding.

Source: PAPER 2.2 (arXiv 2512.04048). Targets are gloss ids ending in eos, padded with 0.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from signer_jax.slul.t5 import T5
from signer_jax.slul.tokenizer import EOS, PAD


class LinkerOutput(NamedTuple):
    """`masked_positions` is aligned with the target: where True, the decoder saw the mask in place of that token.

    `gloss_states` are aligned with the decoder's input: position t has seen the tokens before target t.
    `second_logits` are the plain pass of a second reading, with dropouts of its own. None: not asked for.
    """

    H: Float[Array, "b s d"]
    source_mask: Bool[Array, "b s"]
    logits: Float[Array, "b g v"]
    masked_logits: Float[Array, "b g v"] | None
    masked_positions: Bool[Array, "b g"]
    gloss_states: Float[Array, "b g d"] | None
    second_logits: Float[Array, "b g v"] | None = None


def shift_right(target: Int[Array, "b g"]) -> Int[Array, "b g"]:
    """The decoder's input: the start id (0) in front, the last id dropped."""
    return jnp.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=PAD)


def is_gloss(ids: Int[Array, "b g"]) -> Bool[Array, "b g"]:
    """True for gloss tokens; False for padding, start and eos."""
    return (ids != PAD) & (ids != EOS)


def mask_target(
    target: Int[Array, "b g"], uniform: Float[Array, "b g"], rate: float, mask_id: int
) -> tuple[Int[Array, "b g"], Bool[Array, "b g"]]:
    """SAGM (PAPER 2.2): the target with mask_id where uniform < rate, real gloss tokens only; and where that was."""
    masked = (uniform < rate) & is_gloss(target)
    return jnp.where(masked, mask_id, target), masked


def pool_glosses(
    states: Float[Array, "b g d"], gloss_index: Int[Array, "b g"], glosses: int
) -> tuple[Float[Array, "b n d"], Bool[Array, "b n"]]:
    """The mean decoder state of each gloss (the query of gates that decide once a gloss, PAPER 2.3), float32.

    `gloss_index` is aligned with the target (`Tokenizer.gloss_index`, -1 elsewhere), the states with the decoder's
    input: token t is the newest that state t + 1 has seen. Returns `[b, glosses, d]` and which of them exist.
    """
    seen = jnp.pad(gloss_index[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    member = (seen[:, None, :] == jnp.arange(glosses)[None, :, None]).astype(jnp.float32)
    count = member.sum(-1)
    total = jnp.einsum("bng,bgd->bnd", member, states.astype(jnp.float32))
    return total / jnp.maximum(count, 1.0)[..., None], count > 0


def gloss_queries(
    t5: T5,
    params: dict,
    target: Int[Array, "b g"],
    gloss_index: Int[Array, "b g"],
    H: Float[Array, "b s d"],
    source_mask: Bool[Array, "b s"],
    glosses: int,
) -> Float[Array, "b n d"]:
    """One query a gloss: the mean of its tokens' decoder states, teacher forced; zeros beyond the target's glosses."""
    states = t5.apply({"params": params}, shift_right(target), H, source_mask, method=T5.decode)
    return pool_glosses(jnp.asarray(states), gloss_index, glosses)[0]


def linker_forward(
    t5: T5,
    params: dict,
    source: Int[Array, "b s"],
    target: Int[Array, "b g"],
    mask_uniform: Float[Array, "b g"],
    mask_rate: float,
    mask_id: int,
    *,
    train: bool,
    dropout_rng: Array | None,
    contrastive_cross: bool,
    masks: bool = True,
    contrasts: bool = True,
    twice: bool = False,
) -> LinkerOutput:
    """Everything that SLUL's losses need (PAPER 2.2).

    `mask_uniform`: u ~ U(0, 1), fresh every step. `dropout_rng` may be None where `train` is False.
    `contrastive_cross`: take the gloss encoding of the contrastive loss from the plain pass, whose states attend to the
    encoder, instead of a decoder pass without cross attention. `masks`, `contrasts`: whether the masked pass and the
    gloss encoding are wanted at all. `twice`: read a second time with other dropouts (`losses.r_drop`): the encoder's
    one pass is then of twice the rows and the decoder's of one more, the masked glosses go with the first reading, and
    so does all else that is given.
    """

    def apply(index: int, *args: Any, **kwargs: Any) -> Any:
        rngs = {} if dropout_rng is None else {"dropout": jax.random.fold_in(dropout_rng, index)}
        return t5.apply({"params": params}, *args, rngs=rngs, **kwargs)

    source_mask = source != PAD
    readings = 2 if twice else 1
    read = apply(0, jnp.concatenate([source] * readings), train=train, method=T5.encode)
    H, *again = jnp.split(read, readings)
    masked_target, masked = mask_target(target, mask_uniform, mask_rate, mask_id)
    plain_in = shift_right(target)
    passes = [(plain_in, H), *[(shift_right(masked_target), H)] * masks, *((plain_in, other) for other in again)]
    every_in, every_H = (jnp.concatenate(given) for given in zip(*passes, strict=True))
    every_mask = jnp.concatenate([source_mask] * len(passes))
    states = apply(1, every_in, every_H, every_mask, train=train, method=T5.decode)
    plain_logits, *logits = jnp.split(apply(2, states, method=T5.logits), len(passes))
    masked_logits = logits.pop(0) if masks else None
    gloss_states = None
    if contrasts and contrastive_cross:
        gloss_states = jnp.split(states, len(passes))[0]
    elif contrasts:
        gloss_states = apply(3, plain_in, None, None, cross=False, train=train, method=T5.decode)
    return LinkerOutput(H, source_mask, plain_logits, masked_logits, masked, gloss_states, *logits)
