"""What a decoder may say: sequences of a language's own glosses, as an automaton over their pieces.

A mask over the vocabulary is not enough, since the pieces of two glosses also spell glosses that nobody signs, or the
other language's. The automaton is the tree of every gloss's pieces: from inside a gloss only its continuations follow,
and where a gloss is complete also another gloss's first piece, or eos. It is four arrays, so that the search
stays one compiled program, whatever the language of each sentence and however many glosses there are.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from signer_jax.slul.tokenizer import EOS, PAD, UNKNOWN, Tokenizer
from signer_jax.types import Array

BETWEEN = 0  # the state in front of the first gloss


class Automaton(NamedTuple):
    """States are the places inside the languages' glosses, `BETWEEN` the start; o counts the ways out of a state."""

    first: Int[Array, "languages v"]  # the state that a gloss's first piece leads to, -1 where no gloss begins so
    piece: Int[Array, "states o"]  # what continues the gloss; v where there is nothing more
    following: Int[Array, "states o"]  # and the state that it leads to
    complete: Bool[Array, "states"]  # a gloss may end here


def automaton(glosses: Mapping[str, Iterable[str]], tokenizer: Tokenizer, vocab_size: int) -> Automaton:
    """The automaton of each language's glosses; its languages are those of `glosses`, in that order.

    A gloss that the vocabulary cannot write without its unknown piece is left out.
    """
    children: list[dict[int, int]] = [{}]
    complete = [True]
    first = np.full((len(glosses), vocab_size), -1, np.int32)
    for language, known in enumerate(glosses.values()):
        root: dict[int, int] = {}
        for gloss in sorted(known):
            ids = tokenizer.encode_gloss([gloss])[:-1]
            if not ids or UNKNOWN in ids:
                continue
            here, state = root, BETWEEN
            for piece in ids:
                if piece not in here:
                    here[piece] = len(children)
                    children.append({})
                    complete.append(False)
                state = here[piece]
                here = children[state]
            complete[state] = True
        first[language, list(root)] = list(root.values())
    width = max(map(len, children)) or 1
    pieces = np.full((len(children), width), vocab_size, np.int32)
    following = np.zeros((len(children), width), np.int32)
    for state, ways in enumerate(children):
        pieces[state, : len(ways)] = list(ways)
        following[state, : len(ways)] = list(ways.values())
    return Automaton(first, pieces, following, np.array(complete))


def may_follow(rules: Automaton, language: Int[Array, "b"], state: Int[Array, "b w"]) -> Bool[Array, "b w v"]:
    """The ids that may come next in each state; eos only where a gloss is complete."""
    batch, beams = state.shape
    complete = jnp.asarray(rules.complete)[state]
    allowed = complete[..., None] & (jnp.asarray(rules.first)[language] >= 0)[:, None, :]
    rows, columns = jnp.arange(batch)[:, None, None], jnp.arange(beams)[None, :, None]
    allowed = allowed.at[rows, columns, jnp.asarray(rules.piece)[state]].set(True, mode="drop")
    return allowed.at[..., EOS].set(complete)


def advance(
    rules: Automaton, language: Int[Array, "b"], state: Int[Array, "b w"], token: Int[Array, "b w"]
) -> Int[Array, "b w"]:
    """The state after `token`, which `may_follow` allowed; `BETWEEN` after eos or pad."""
    inside = jnp.asarray(rules.piece)[state] == token[..., None]
    further = jnp.where(inside, jnp.asarray(rules.following)[state], 0).sum(-1)
    begun = jnp.maximum(jnp.asarray(rules.first)[language[:, None], token], BETWEEN)
    return jnp.where(inside.any(-1), further, begun)


def whole_glosses(rules: Automaton, language: int, ids: Sequence[int]) -> list[int]:
    """The ids without eos, pad, and the beginning of a gloss that the search had no room to finish."""
    state, kept = BETWEEN, 0
    for place, token in enumerate(map(int, ids)):
        if token in (EOS, PAD):
            break
        ways = np.flatnonzero(rules.piece[state] == token)
        state = int(rules.following[state, ways[0]]) if len(ways) else int(rules.first[language, token])
        kept = place + 1 if rules.complete[state] else kept
    return [int(token) for token in ids[:kept]]
