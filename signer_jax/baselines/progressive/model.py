"""The model: text pieces -> H; H, the frames before and their counters -> the next frames and the counter.

"Progressive Transformers for End-to-End Sign Language Production" (Saunders, Camgöz and Bowden 2020). A frame is its
joints' coordinates beside a counter that grows from 0 to 1 over the sequence; the decoder says both, and a pose ends
where the counter says 1. Here as there: sines and cosines for places, norms before each part, several future frames a
step. What is not theirs: coordinates are x and y of a normalised pose, with no mesh of their 3D skeleton.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from signer_jax.dense import Dense
from signer_jax.pose import skeleton
from signer_jax.settings import Progressive

DIMS = 2  # x and y
_END = 0.99  # of the counter: a mean squared error comes near 1 from below
_NORM = 1e-6


def places(count: int, width: int) -> Float[np.ndarray, "t d"]:
    """Sines and cosines of places 0 … count - 1 (Vaswani et al. 2017, 3.5)."""
    half = -(-width // 2)
    angle = np.arange(count)[:, None] / 10000 ** (np.arange(half) / half)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)[:, :width].astype(np.float32)


class Attention(nn.Module):
    """softmax(q kᵀ) v in heads; `mask` broadcasts to [b, n, t, s]."""

    heads: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], seen: Float[Array, "b s d"], mask: Bool[Array, "..."], *, train: bool
    ) -> Float[Array, "b t d"]:
        width = x.shape[-1]
        q, k, v = (
            Dense(width, name=name)(of).reshape(*of.shape[:2], self.heads, -1)
            for name, of in (("query", x), ("key", seen), ("value", seen))
        )
        logits = jnp.einsum("btnk,bsnk->bnts", q, k) / np.sqrt(width / self.heads)
        share = nn.softmax(jnp.where(mask, logits.astype(jnp.float32), -1e9))
        share = nn.Dropout(self.dropout, deterministic=not train)(share)
        return Dense(width, name="out")(jnp.einsum("bnts,bsnk->btnk", share, v).reshape(x.shape))


class Block(nn.Module):
    """Self-attention, attention to H where it is given, and a layer of two: each behind a norm, beside what it read."""

    heads: int
    d_ff: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], mask: Bool[Array, "..."], H: Float[Array, "b s d"] | None = None,
        H_mask: Bool[Array, "..."] | None = None, *, train: bool,
    ) -> Float[Array, "b t d"]:  # fmt: skip
        drop = nn.Dropout(self.dropout, deterministic=not train)
        inner = nn.LayerNorm(epsilon=_NORM, name="norm")(x)
        x = x + drop(Attention(self.heads, self.dropout, name="attention")(inner, inner, mask, train=train))
        if H is not None and H_mask is not None:
            inner = nn.LayerNorm(epsilon=_NORM, name="cross_norm")(x)
            x = x + drop(Attention(self.heads, self.dropout, name="cross_attention")(inner, H, H_mask, train=train))
        inner = nn.relu(Dense(self.d_ff, name="wi")(nn.LayerNorm(epsilon=_NORM, name="ff_norm")(x)))
        return x + drop(Dense(x.shape[-1], name="wo")(inner))


class ProgressiveTransformer(nn.Module):
    """Text to pose; `future` frames a step."""

    pieces: int
    joints: int
    d_model: int
    heads: int
    d_ff: int
    encoder_layers: int
    decoder_layers: int
    dropout: float
    future: int

    def setup(self) -> None:
        block = partial(Block, self.heads, self.d_ff, self.dropout)
        self.token_embedding = nn.Embed(self.pieces, self.d_model)
        self.encoder = [block(name=f"encoder_{i}") for i in range(self.encoder_layers)]
        self.encoder_norm = nn.LayerNorm(epsilon=_NORM)
        self.frame = Dense(self.d_model)
        self.decoder = [block(name=f"decoder_{i}") for i in range(self.decoder_layers)]
        self.decoder_norm = nn.LayerNorm(epsilon=_NORM)
        self.pose = Dense(self.future * self.joints * DIMS)
        self.counter = Dense(1)

    def encode(self, source: Int[Array, "b s"], *, train: bool = False) -> Float[Array, "b s d"]:
        """H of text pieces, 0 where there are none."""
        x = self.token_embedding(source) * np.sqrt(self.d_model) + places(source.shape[1], self.d_model)
        mask = (source != 0)[:, None, None]
        for block in self.encoder:
            x = block(x, mask, train=train)
        return self.encoder_norm(x)

    def decode(
        self, frames: Float[Array, "b t j c"], counters: Float[Array, "b t"], H: Float[Array, "b s d"],
        there: Bool[Array, "b s"], *, train: bool = False,
    ) -> tuple[Float[Array, "b t f j c"], Float[Array, "b t"]]:  # fmt: skip
        """The `future` frames after each of `frames`, which sees itself and those before; the first one's counter."""
        b, t = counters.shape
        shown = jnp.concatenate([frames.reshape(b, t, -1), counters[..., None]], axis=-1)
        x = self.frame(shown) + places(t, self.d_model)
        before = jnp.tril(jnp.ones((t, t), bool))[None, None]
        for block in self.decoder:
            x = block(x, before, H, there[:, None, None], train=train)
        x = self.decoder_norm(x)
        return self.pose(x).reshape(b, t, self.future, self.joints, DIMS), self.counter(x)[..., 0]

    def __call__(
        self, source: Int[Array, "b s"], frames: Float[Array, "b t j c"], counters: Float[Array, "b t"], *,
        train: bool = False,
    ) -> tuple[Float[Array, "b t f j c"], Float[Array, "b t"]]:  # fmt: skip
        return self.decode(frames, counters, self.encode(source, train=train), source != 0, train=train)


def build(c: Progressive, pieces: int) -> ProgressiveTransformer:
    return ProgressiveTransformer(
        pieces, len(skeleton.SUBSETS[c.joints]), c.d_model, c.heads, c.d_ff, c.encoder_layers, c.decoder_layers,
        c.dropout, c.future,
    )  # fmt: skip


def example(module: ProgressiveTransformer) -> tuple[Any, ...]:
    """Zeros in the shapes that the model takes, one example."""
    return jnp.ones((1, 2), jnp.int32), jnp.zeros((1, 2, module.joints, DIMS)), jnp.zeros((1, 2))


def counters_of(lengths: Int[Array, " b"], frames: int) -> Float[Array, "b t"]:
    """How far along the sequence each frame is: frame k of n (from 1) at k / n, and 1 behind the end."""
    return jnp.minimum(jnp.arange(1, frames + 1) / jnp.maximum(lengths, 1)[:, None], 1.0)


def shifted(values: Float[Array, "b t *d"]) -> Float[Array, "b t *d"]:
    """What stands before each frame; zeros before the first, its counter too."""
    return jnp.concatenate([jnp.zeros_like(values[:, :1]), values[:, :-1]], axis=1)


def ahead(values: Any, count: int) -> Any:
    """`[b, t, count, ...]`: each frame and the `count - 1` after it, the last ones repeated."""
    t = values.shape[1]
    return values[:, jnp.minimum(jnp.arange(t)[:, None] + jnp.arange(count), t - 1)]


def losses(
    said: Float[Array, "b t f j c"], counted: Float[Array, "b t"], frames: Float[Array, "b t j c"],
    confidence: Float[Array, "b t j"], lengths: Int[Array, " b"],
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:  # fmt: skip
    """The squared errors of the joints that the truth shows, within the sequence, and of the counter, an example."""
    t, future = counted.shape[1], said.shape[2]
    valid = jnp.arange(t) < lengths[:, None]
    shown = ((confidence > 0) & valid[..., None]).astype(jnp.float32)
    weight = ahead(shown, future) * (jnp.arange(t)[:, None] + jnp.arange(future) < t)[None, :, :, None]
    error = jnp.square(said - ahead(frames, future)).sum(-1) * weight
    pose = error.sum((1, 2, 3)) / jnp.maximum(weight.sum((1, 2, 3)), 1.0)
    apart = jnp.square(counted - counters_of(lengths, t)) * valid
    return pose, apart.sum(1) / jnp.maximum(lengths, 1)


@partial(jax.jit, static_argnums=(0, 3))
def generate(
    module: ProgressiveTransformer, params: Any, source: Int[Array, "b s"], frames: int
) -> tuple[Float[Array, "b t j c"], Int[Array, " b"]]:
    """At most `frames` frames a text, each from those before it and their counters; and how many there are until the
    counter says the end.
    """
    variables = {"params": params}
    H: Any = module.apply(variables, source, method="encode")
    b = source.shape[0]

    def step(k: Array, made: tuple[Array, Array]) -> tuple[Array, Array]:
        poses, counters = made
        said: Any = module.apply(variables, shifted(poses), shifted(counters), H, source != 0, method="decode")
        return poses.at[:, k].set(said[0][:, k, 0]), counters.at[:, k].set(said[1][:, k])

    start = jnp.zeros((b, frames, module.joints, DIMS)), jnp.zeros((b, frames))
    poses, counters = jax.lax.fori_loop(0, frames, step, start)
    over = counters >= _END
    return poses, jnp.where(over.any(axis=1), over.argmax(axis=1) + 1, frames)
