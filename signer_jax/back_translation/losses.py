"""The losses of the sign-to-text model, an example each, and the glosses that its CTC head says."""

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from signer_jax.back_translation.model import BLANK
from signer_jax.masked import masked_mean
from signer_jax.slul.losses import cross_entropy
from signer_jax.slul.tokenizer import PAD


def gloss_loss(
    logits: Float[Array, "b s n"], steps: Bool[Array, "b s"], classes: Int[Array, "b k"]
) -> tuple[Float[Array, " b"], Bool[Array, " b"]]:
    """-log p(glosses | pose) by CTC (Graves et al. 2006), a gloss; and of which examples there is one.

    `classes` are padded with the blank. There is none of an example without glosses, nor of one that has too few steps:
    one for each gloss, and a blank between two that are the same.
    """
    given = classes != BLANK
    repeated = (classes[:, 1:] == classes[:, :-1]) & given[:, 1:]
    count = given.sum(axis=1)
    can = (count > 0) & (steps.sum(axis=1) >= count + repeated.sum(axis=1))
    loss = optax.ctc_loss(logits, ~steps * 1.0, classes, ~given * 1.0, blank_id=BLANK)
    return jnp.where(can, loss, 0.0) / jnp.maximum(count, 1), can


def text_loss(logits: Float[Array, "b g v"], target: Int[Array, "b g"]) -> Float[Array, " b"]:
    """The cross entropy of the text's pieces, their mean up to eos."""
    return masked_mean(cross_entropy(logits, target), target != PAD, axis=1)


def best_path(logits: Float[np.ndarray, "s n"], steps: Bool[np.ndarray, " s"]) -> list[int]:
    """The glosses of the likeliest class of each step: repeats are one, blanks are none."""
    classes = np.asarray(logits)[np.asarray(steps)].argmax(axis=-1)
    first = np.diff(classes, prepend=-1) != 0
    return [int(k) - 1 for k in classes[first] if k != BLANK]
