"""SLUL's losses (PAPER 2.2): arrays in, one value a token or an example out, float32. The caller masks and weighs."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from signer_jax.masked import masked_mean
from signer_jax.slul.linker import LinkerOutput, is_gloss, shift_right
from signer_jax.slul.tokenizer import PAD


def cross_entropy(logits: Float[Array, "b g v"], target: Int[Array, "b g"]) -> Float[Array, "b g"]:
    """-log p(target_t | target_<t, H), padding included."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.take_along_axis(log_probs, target[..., None], axis=-1)[..., 0]


def likelihood(
    logits: Float[Array, "b g v"], target: Int[Array, "b g"], smoothing: float, z_weight: float
) -> Float[Array, "b g"]:
    """The cross entropy to a target that has `smoothing` of its probability spread evenly over the vocabulary
    (Szegedy et al. 2016), and `z_weight` log² Z, which keeps the logits from drifting (Z their sum of exponentials;
    t5x's z_loss). 0 leaves either out.
    """
    loss = cross_entropy(logits, target)
    if smoothing:
        log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
        loss = (1 - smoothing) * loss - smoothing * log_probs.mean(-1)
    if z_weight:
        loss = loss + z_weight * jnp.square(jax.nn.logsumexp(logits.astype(jnp.float32), axis=-1))
    return loss


def sagm(
    masked_logits: Float[Array, "b g v"], target: Int[Array, "b g"], masked_positions: Bool[Array, "b g"],
    smoothing: float = 0.0, z_weight: float = 0.0,
) -> Float[Array, "b g"]:  # fmt: skip
    """-m_t log p(g_t | masked g, H): the cross entropy of the masked pass where the token was masked, 0 elsewhere."""
    return jnp.where(masked_positions, likelihood(masked_logits, target, smoothing, z_weight), 0.0)


def consistency_kl(
    masked_logits: Float[Array, "b g v"], logits: Float[Array, "b g v"], stop_anchor_gradient: bool
) -> Float[Array, "b g"]:
    """KL(p(·|masked g; H) || p(·|g; H)) per token. The unmasked posterior is the anchor."""
    if stop_anchor_gradient:
        logits = jax.lax.stop_gradient(logits)
    masked_log_probs = jax.nn.log_softmax(masked_logits.astype(jnp.float32))
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return jnp.sum(jnp.exp(masked_log_probs) * (masked_log_probs - log_probs), -1)


def r_drop(first: Float[Array, "b g v"], second: Float[Array, "b g v"]) -> Float[Array, "b g"]:
    """½ KL(p || q) + ½ KL(q || p) per token, of what two passes with dropouts of their own say of the same tokens, with
    a gradient to both (R-Drop: Liang et al. 2021, arXiv 2106.14448).
    """
    log_p = jax.nn.log_softmax(first.astype(jnp.float32))
    log_q = jax.nn.log_softmax(second.astype(jnp.float32))
    return 0.5 * jnp.sum((jnp.exp(log_p) - jnp.exp(log_q)) * (log_p - log_q), -1)


def contrastive(
    h_x: Float[Array, "b d"], h_g: Float[Array, "b d"], target: Int[Array, "b g"], temperature: float
) -> Float[Array, "b"]:
    """Symmetric InfoNCE between a batch's pooled texts and pooled glosses: the mean of both directions, per example.

    Both are L2-normalised here. Examples with the same target are not negatives of each other.
    """
    similarity = _unit(h_x) @ _unit(h_g).T / temperature
    same = jnp.all(target[:, None, :] == target[None, :, :], axis=-1)
    own = jnp.eye(len(target), dtype=bool)
    similarity = jnp.where(same & ~own, -jnp.inf, similarity)
    # No `jnp.diagonal`: its gradient chooses at run time between two programs (`lax.cond`), both with sums over the
    # devices, which XLA's CPU client does not put in order with the others: two devices then wait for each other.
    positive = jnp.sum(jnp.where(own, similarity, 0), axis=1)
    text_to_gloss = jax.nn.logsumexp(similarity, axis=1) - positive
    gloss_to_text = jax.nn.logsumexp(similarity, axis=0) - positive
    return (text_to_gloss + gloss_to_text) / 2


def linker_losses(
    output: LinkerOutput, target: Int[Array, "b g"], *, temperature: float, stop_anchor_gradient: bool,
    label_smoothing: float, z_loss: float, over_tokens: str = "mean",
) -> dict[str, Float[Array, "b"]]:  # fmt: skip
    """The four losses of SLUL, each `[b]`; L_SLUL+SAGM is their weighted sum.

    "cross_entropy" and "kl" are means over the tokens up to eos, "sagm" over the masked tokens (0 where none was
    masked), "contrastive" is per example. `label_smoothing` and `z_loss` are of the first two (`likelihood`). Where
    `over_tokens` is "sum" the first three, and "r_drop", are sums over these tokens, as in the paper, where a long text
    counts more.

    The gloss encoding pools the states that have a gloss token as their input, so never the start.

    Of a text that was read twice "cross_entropy" is the mean of both readings, and "r_drop" the divergence of the one's
    posteriors from the other's, a mean over the tokens up to eos too. What was not computed is no term.
    """
    real = target != PAD
    masked, terms = output.masked_positions, dict[str, Any]()

    def of_each(values: Float[Array, "b g"], counted: Bool[Array, "b g"]) -> Float[Array, "b"]:
        each = masked_mean(values, counted, axis=1)
        return each if over_tokens == "mean" else each * counted.sum(1)

    plain = likelihood(output.logits, target, label_smoothing, z_loss)
    if output.masked_logits is not None:
        hidden = sagm(output.masked_logits, target, masked, label_smoothing, z_loss)
        apart = consistency_kl(output.masked_logits, output.logits, stop_anchor_gradient)
        terms |= {"sagm": of_each(hidden, masked), "kl": of_each(apart, real)}
    if output.gloss_states is not None:
        h_x = masked_mean(output.H, output.source_mask[..., None], axis=1)
        h_g = masked_mean(output.gloss_states, is_gloss(shift_right(target))[..., None], axis=1)
        terms["contrastive"] = contrastive(h_x, h_g, target, temperature)
    if output.second_logits is not None:
        plain = (plain + likelihood(output.second_logits, target, label_smoothing, z_loss)) / 2
        terms["r_drop"] = of_each(r_drop(output.logits, output.second_logits), real)
    return {"cross_entropy": of_each(plain, real), **terms}


def _unit(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    x = x.astype(jnp.float32)
    # The epsilon is inside the root: the gradient of an all-zero row (an empty gloss sequence) stays finite.
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), -1, keepdims=True) + 1e-12)
