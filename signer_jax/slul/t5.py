"""T5, the encoder-decoder of SLUL: v1.0, v1.1, mT5, ByT5 and UMT5 by their fields. Its encoder alone reads for Wan.

Source: "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (arXiv 1910.10683); the
numbers (buckets, no attention scaling, which dropout stands where) are those of transformers 5, `modeling_t5.py`.
Parameters are float32; matmuls run in `dtype`; norms, softmax and logits in float32.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from signer_jax.dense import Dense
from signer_jax.layout import constrain
from signer_jax.matmul import dense_dot
from signer_jax.slul.tokenizer import PAD

EPSILON = 1e-6  # of every T5 norm
MASKED = -1e9  # added to scores; finite, so that a row without any key stays free of NaN


def relative_buckets(
    relative: Int[Array, "*shape"], *, bidirectional: bool, buckets: int, max_distance: int
) -> Int[Array, "*shape"]:
    """The bucket of each relative position (key position - query position), same shape, in [0, buckets).

    The nearest half has one bucket a distance, the rest grows logarithmically up to `max_distance`. Bidirectional
    (the encoder) spends half of the buckets on keys to the right; causal (the decoder) gives those bucket 0.
    """
    offset = jnp.zeros_like(relative)
    if bidirectional:
        buckets //= 2
        offset = jnp.where(relative > 0, buckets, 0)
        distance = jnp.abs(relative)
    else:
        distance = jnp.maximum(-relative, 0)
    exact = buckets // 2
    growth = (buckets - exact) / math.log(max_distance / exact)
    far = exact + (jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact) * growth).astype(relative.dtype)
    return offset + jnp.where(distance < exact, distance, jnp.minimum(far, buckets - 1))


def mask_bias(mask: Bool[Array, "*shape"]) -> Float[Array, "*shape"]:
    """0 where attention may look, a large negative number elsewhere; float32, to be added to the scores."""
    return jnp.where(mask, 0.0, MASKED).astype(jnp.float32)


def rms_norm(x: Float[Array, "*b d"], scale: Float[Array, "d"]) -> Float[Array, "*b d"]:
    """x / rms(x) * scale, in float32: T5's layer norm has no mean and no bias."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + EPSILON) * scale


def attention_scores(
    query: Float[Array, "b q h k"], key: Float[Array, "b s h k"], bias: Float[Array, "#b #h #q s"]
) -> Float[Array, "b h q s"]:
    """query · key + bias in float32. T5 does not divide by sqrt(d_kv): its initialisation does."""
    return jnp.einsum("bqhk,bshk->bhqs", query, key, preferred_element_type=jnp.float32) + bias


class RMSNorm(nn.Module):
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        return rms_norm(x, scale).astype(self.dtype)


class Attention(nn.Module):
    """Projections around `attention_scores`; keys and values are projected apart, so that a cache can keep them."""

    d_model: int
    d_kv: int
    heads: int
    dropout: float
    dtype: jnp.dtype

    def setup(self) -> None:
        width = self.heads * self.d_kv
        self.query = _dense(width, (self.d_model * self.d_kv) ** -0.5, self.dtype)
        self.key = _dense(width, self.d_model**-0.5, self.dtype)
        self.value = _dense(width, self.d_model**-0.5, self.dtype)
        self.out = _dense(self.d_model, width**-0.5, self.dtype)
        self.drop = nn.Dropout(self.dropout)

    def keys_values(self, x: Float[Array, "b s d"]) -> tuple[Float[Array, "b s h k"], Float[Array, "b s h k"]]:
        return self._split(self.key(x)), self._split(self.value(x))

    def __call__(
        self,
        x: Float[Array, "b q d"],
        key: Float[Array, "b s h k"],
        value: Float[Array, "b s h k"],
        bias: Float[Array, "#b #h #q s"],
        *,
        train: bool,
    ) -> Float[Array, "b q d"]:
        weights = nn.softmax(attention_scores(self._split(self.query(x)), key, bias)).astype(self.dtype)
        weights = self.drop(weights, deterministic=not train)
        return self._merge(jnp.einsum("bhqs,bshk->bqhk", weights, value))

    def step(
        self,
        x: Float[Array, "b w d"],
        key: Float[Array, "b s h k"],
        value: Float[Array, "b s h k"],
        bias: Float[Array, "b h w s"],
        bias_self: Float[Array, "h"],
    ) -> tuple[Float[Array, "b w d"], Float[Array, "b w h k"], Float[Array, "b w h k"]]:
        """One new token in each of w beams attends to the stored keys and to itself; returns its key and value too."""
        query = self._split(self.query(x))
        new_key, new_value = self.keys_values(x)
        own = jnp.einsum("bwhk,bwhk->bhw", query, new_key, preferred_element_type=jnp.float32) + bias_self[:, None]
        scores = jnp.concatenate([attention_scores(query, key, bias), own[..., None]], -1)
        weights = nn.softmax(scores).astype(self.dtype)
        mixed = jnp.einsum("bhws,bshk->bwhk", weights[..., :-1], value)
        mixed += jnp.einsum("bhw,bwhk->bwhk", weights[..., -1], new_value)
        return self._merge(mixed), new_key, new_value

    def _split(self, x: Float[Array, "b s f"]) -> Float[Array, "b s h k"]:
        return constrain(x.reshape(*x.shape[:-1], self.heads, self.d_kv), "batch", "length", "heads", None)

    def _merge(self, x: Float[Array, "b s h k"]) -> Float[Array, "b s d"]:
        return self.out(x.reshape(*x.shape[:-2], self.heads * self.d_kv))


class FeedForward(nn.Module):
    """relu(x wi) wo (v1.0), or (gelu(x wi_0) * (x wi_1)) wo with the tanh approximation (v1.1, UMT5)."""

    d_model: int
    d_ff: int
    activation: str
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b s d"], *, train: bool) -> Float[Array, "b s d"]:
        wide = functools.partial(_dense, self.d_ff, self.d_model**-0.5, self.dtype)
        if self.activation == "relu":
            hidden = nn.relu(wide(name="wi")(x))
        elif self.activation == "gated-gelu":
            hidden = nn.gelu(wide(name="wi_0")(x), approximate=True) * wide(name="wi_1")(x)
        else:
            raise ValueError(f"T5.activation: {self.activation!r} is neither 'relu' nor 'gated-gelu'")
        hidden = nn.Dropout(self.dropout)(constrain(hidden, "batch", "length", "mlp"), deterministic=not train)
        return _dense(self.d_model, self.d_ff**-0.5, self.dtype, name="wo")(hidden)


class Block(nn.Module):
    """Self-attention, cross attention (decoder only), feed-forward; each normed before and added after."""

    decoder: bool
    d_model: int
    d_kv: int
    d_ff: int
    heads: int
    buckets: int
    activation: str
    own_bias: bool
    dropout: float
    dtype: jnp.dtype

    def setup(self) -> None:
        attention = functools.partial(Attention, self.d_model, self.d_kv, self.heads, self.dropout, self.dtype)
        if self.own_bias:
            self.relative_bias = _bias_table(self.buckets, self.heads, self.d_model)
        self.self_attention_norm = RMSNorm(self.dtype)
        self.self_attention = attention()
        if self.decoder:
            self.cross_attention_norm = RMSNorm(self.dtype)
            self.cross_attention = attention()
        self.mlp_norm = RMSNorm(self.dtype)
        self.mlp = FeedForward(self.d_model, self.d_ff, self.activation, self.dropout, self.dtype)
        self.drop = nn.Dropout(self.dropout)

    def __call__(
        self,
        x: Float[Array, "b q d"],
        positions: Int[Array, "q q"],
        bias: Float[Array, "#b #h q q"],
        H: Float[Array, "b s d"] | None,
        H_bias: Float[Array, "b 1 1 s"] | None,
        train: bool,
    ) -> tuple[Float[Array, "b q d"], None]:
        """`bias` holds the mask, and the relative bias where the layers share it. Without `H` no cross attention."""
        x = constrain(x, "batch", "length", "embed")
        if self.own_bias:
            bias = bias + self.relative_bias(positions).transpose(2, 0, 1)
        normed = self.self_attention_norm(x)
        x = self._add(
            x, self.self_attention(normed, *self.self_attention.keys_values(normed), bias, train=train), train
        )
        if H is not None and H_bias is not None:
            keys, values = self.cross_attention.keys_values(H)
            x = self._add(
                x, self.cross_attention(self.cross_attention_norm(x), keys, values, H_bias, train=train), train
            )
        x = self._add(x, self.mlp(self.mlp_norm(x), train=train), train)
        return constrain(x, "batch", "length", "embed"), None

    def step(
        self,
        x: Float[Array, "b w d"],
        positions: Int[Array, "g+1"],
        bias_row: Float[Array, "g+1 h"] | None,
        stored: Float[Array, "b 1 w w*g"],
        keys: Float[Array, "b*w g h k"],
        values: Float[Array, "b*w g h k"],
        cross_keys: Float[Array, "b s h k"],
        cross_values: Float[Array, "b s h k"],
        H_bias: Float[Array, "b 1 1 s"],
    ) -> tuple[Float[Array, "b w d"], tuple[Float[Array, "b*w h k"], Float[Array, "b*w h k"]]]:
        """One decoding step of every beam. `positions`: the buckets of the stored tokens and, last, of the new one."""
        batch, beams, _ = x.shape
        length = keys.shape[1]
        row = self.relative_bias(positions) if bias_row is None else bias_row
        # All beams of a sentence share one list of w*g keys; `stored` masks those of foreign beams. Reordering the
        # beams then moves a small table instead of the cache.
        bias = stored + jnp.tile(row[:-1].T, (1, beams))[None, :, None, :]
        flat = (batch, beams * length, self.heads, self.d_kv)
        mixed, key, value = self.self_attention.step(
            self.self_attention_norm(x), keys.reshape(flat), values.reshape(flat), bias, row[-1]
        )
        x = x + mixed
        # The beams stand where a sequence's positions stand: cross keys are per sentence, never repeated per beam.
        x = x + self.cross_attention(self.cross_attention_norm(x), cross_keys, cross_values, H_bias, train=False)
        x = x + self.mlp(self.mlp_norm(x), train=False)
        return x, (key.reshape(-1, *key.shape[2:]), value.reshape(-1, *value.shape[2:]))

    def cross_keys_values(self, H: Float[Array, "b s d"]) -> tuple[Float[Array, "b s h k"], Float[Array, "b s h k"]]:
        return self.cross_attention.keys_values(H)

    def _add(self, x: Array, update: Array, train: bool) -> Array:
        return x + self.drop(update, deterministic=not train)


class Stack(nn.Module):
    """`depth` blocks in one scan (parameters `[depth, ...]` under `layers`), and the final norm."""

    block: dict  # the fields of Block
    depth: int
    relative_max_distance: int
    scan_unroll: int
    remat: bool

    def setup(self) -> None:
        if not self.block["own_bias"]:
            self.relative_bias = _bias_table(self.block["buckets"], self.block["heads"], self.block["d_model"])
        # `train` is argument 6, counting self. Inside a scan the compiler cannot merge the recomputation away.
        block = nn.remat(Block, static_argnums=(6,), prevent_cse=False) if self.remat else Block
        scanned = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast,) * 5,
            length=self.depth,
            unroll=self.scan_unroll,
        )
        self.layers = scanned(**self.block)
        self.final_norm = RMSNorm(self.block["dtype"])
        self.drop = nn.Dropout(self.block["dropout"])

    def __call__(
        self,
        x: Float[Array, "b q d"],
        mask: Bool[Array, "#b 1 #q q"],
        H: Float[Array, "b s d"] | None,
        H_bias: Float[Array, "b 1 1 s"] | None,
        *,
        train: bool,
    ) -> Float[Array, "b q d"]:
        here = jnp.arange(x.shape[1])
        positions = self.positions(here[None, :] - here[:, None])
        bias = mask_bias(mask)
        if not self.block["own_bias"]:
            bias = bias + self.relative_bias(positions).transpose(2, 0, 1)
        x, _ = self.layers(self.drop(x, deterministic=not train), positions, bias, H, H_bias, train)
        return self.drop(self.final_norm(x), deterministic=not train)

    def positions(self, relative: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
        return relative_buckets(
            relative,
            bidirectional=not self.block["decoder"],
            buckets=self.block["buckets"],
            max_distance=self.relative_max_distance,
        )

    def bias_row(self, positions: Int[Array, "s"]) -> Float[Array, "s h"] | None:
        """The shared relative bias, or None where every layer has its own."""
        return None if self.block["own_bias"] else self.relative_bias(positions)

    def finish(self, x: Float[Array, "b w d"]) -> Float[Array, "b w d"]:
        return self.final_norm(x)


class T5(nn.Module):
    """The encoder-decoder. Ids: 0 pad and decoder start, 1 eos.

    v1.0: activation "relu", tie_embeddings. v1.1, mT5, ByT5: "gated-gelu", untied. UMT5: "gated-gelu",
    relative_bias_every_layer. `scale_logits` (states times d_model**-0.5 before the vocabulary projection) follows
    `tie_embeddings` when None; `interop.t5` sets it as the family of a published checkpoint has it. A fresh table of
    embeddings is normal with `embedding_deviation`, d_model**-0.5 when 0.

    An encoder alone is the same module with the parameters that `init(key, source, method=T5.encode)` makes: Linen
    makes none for a decoder that is not called.
    """

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    relative_buckets: int
    relative_max_distance: int
    activation: str
    tie_embeddings: bool
    relative_bias_every_layer: bool
    dropout: float
    dtype: jnp.dtype = jnp.float32
    scan_unroll: int = 1
    remat: bool = False
    scale_logits: bool | None = None
    embedding_deviation: float = 0.0

    def setup(self) -> None:
        # The original draws embeddings of size 1 for an optimizer that scales its steps by the parameter's size. Adam's
        # steps do not: from size 1 a rare word would need hundreds of them, so a fresh table starts small. It is under
        # the first norm anyway, but in what the blocks add to it a small one is lost: size 1, and steps as much longer,
        # keep words apart from the first block on.
        fresh = nn.initializers.normal(self.embedding_deviation or self.d_model**-0.5)
        self.token_embedding = nn.Embed(self.vocab_size, self.d_model, dtype=self.dtype, embedding_init=fresh)
        run = (self.relative_max_distance, self.scan_unroll, self.remat)
        self.encoder = Stack(_block_fields(self, decoder=False), self.encoder_layers, *run)
        self.decoder = Stack(_block_fields(self, decoder=True), self.decoder_layers, *run)
        if not self.tie_embeddings:
            self.lm_head = _dense(self.vocab_size, self.d_model**-0.5, self.dtype, dot_general=_float32_dot)

    def __call__(
        self, source: Int[Array, "b s"], target_in: Int[Array, "b g"], *, train: bool = False
    ) -> Float[Array, "b g v"]:
        """Logits `[b, g, v]` float32 of the token after each of `target_in` (which starts with 0)."""
        H = self.encode(source, train=train)
        return self.logits(self.decode(target_in, H, source != PAD, train=train))

    def encode(
        self, source: Int[Array, "b s"], mask: Bool[Array, "b s"] | None = None, *, train: bool = False
    ) -> Float[Array, "b s d"]:
        """H `[b, s, d]`, after the final norm. What `mask` leaves out (padding, id 0, when None) is never attended to;
        its own rows mean nothing.
        """
        mask = source != PAD if mask is None else mask
        return self.encode_embedded(self.token_embedding(source), mask, train=train)

    def encode_embedded(
        self, x: Float[Array, "b s d"], mask: Bool[Array, "b s"], *, train: bool = False
    ) -> Float[Array, "b s d"]:
        """`encode` of what is embedded already: frames of a pose stand where words do."""
        return self.encoder(x, mask[:, None, None, :], None, None, train=train)

    def decode(
        self,
        target_in: Int[Array, "b g"],
        H: Float[Array, "b s d"] | None,
        source_mask: Bool[Array, "b s"] | None,
        *,
        cross: bool = True,
        train: bool = False,
    ) -> Float[Array, "b g d"]:
        """Decoder states `[b, g, d]`, after the final norm; position t has seen `target_in[:, :t + 1]`.

        `cross=False` skips cross attention: the gloss encoding of the contrastive loss (`H` and its mask are unused).
        """
        here = jnp.arange(target_in.shape[1])
        causal = (here[None, :] <= here[:, None])[None, None]
        if not cross:
            return self.decoder(self.token_embedding(target_in), causal, None, None, train=train)
        if H is None or source_mask is None:
            raise ValueError("T5.decode: cross attention needs H and source_mask; give them, or cross=False")
        H_bias = mask_bias(source_mask[:, None, None, :])
        return self.decoder(self.token_embedding(target_in), causal, H, H_bias, train=train)

    def logits(self, states: Float[Array, "b g d"]) -> Float[Array, "b g v"]:
        """Unnormalised log-probabilities `[b, g, v]`, float32."""
        if self.tie_embeddings if self.scale_logits is None else self.scale_logits:
            states = states * self.d_model**-0.5
        if not self.tie_embeddings:
            return self.lm_head(states)
        table = self.token_embedding.embedding.astype(self.dtype)
        return jnp.einsum("bgd,vd->bgv", states, table, preferred_element_type=jnp.float32)

    def begin_step(
        self, token: Int[Array, "b w"], time: Int[Array, ""], length: int
    ) -> tuple[Float[Array, "b w d"], Int[Array, "length+1"], Float[Array, "length+1 h"] | None]:
        """What every layer of a decoding step needs: embeddings, buckets of stored and new token, their shared bias."""
        relative = jnp.append(jnp.arange(length) - time, 0)
        positions = self.decoder.positions(relative)
        return self.token_embedding(token), positions, self.decoder.bias_row(positions)

    def finish_step(self, x: Float[Array, "b w d"]) -> Float[Array, "b w v"]:
        return self.logits(self.decoder.finish(x))


class Cache(NamedTuple):
    """What decoding keeps between steps, for b sentences with w beams each and at most g tokens."""

    keys: Float[Array, "layers b*w g h k"]
    values: Float[Array, "layers b*w g h k"]
    beam_of: Int[Array, "b w g"]  # whose row holds the token of time t in this beam's history
    time: Int[Array, ""]  # tokens stored so far
    cross_keys: Float[Array, "layers b s h k"]
    cross_values: Float[Array, "layers b s h k"]
    source_bias: Float[Array, "b 1 1 s"]


def init_cache(
    t5: T5, params: dict, H: Float[Array, "b s d"], source_mask: Bool[Array, "b s"], *, beams: int, max_length: int
) -> Cache:
    """An empty cache; the cross attention's keys and values are computed here, once a sentence."""
    block = Block(**_block_fields(t5, decoder=True), parent=None)
    project: Any = functools.partial(block.apply, method=Block.cross_keys_values)
    cross_keys, cross_values = jax.vmap(lambda layer: project({"params": layer}, H))(params["decoder"]["layers"])
    batch = H.shape[0]
    empty = jnp.zeros((t5.decoder_layers, batch * beams, max_length, t5.heads, t5.d_kv), t5.dtype)
    beam_of = jnp.zeros((batch, beams, max_length), jnp.int32)
    bias = mask_bias(source_mask[:, None, None, :])
    return Cache(empty, empty, beam_of, jnp.zeros((), jnp.int32), cross_keys, cross_values, bias)


def decode_step(t5: T5, params: dict, token: Int[Array, "b w"], cache: Cache) -> tuple[Float[Array, "b w v"], Cache]:
    """Feeds one token to each beam. Returns the logits `[b, w, v]` of the next one and the new cache.

    Equals the last position of `T5.decode` on the beam's whole history. Pure: the given cache is not changed.
    """
    batch, beams, length = cache.beam_of.shape
    variables = {"params": params}
    begun: Any = t5.apply(variables, token, cache.time, length, method=T5.begin_step)
    x, positions, bias_row = begun
    # [b, w, w', g]: may beam w look at the token that row w' holds for time t?
    mine = cache.beam_of[:, :, None, :] == jnp.arange(beams)[None, None, :, None]
    past = jnp.arange(length) < cache.time
    stored = mask_bias(mine & past).reshape(batch, 1, beams, beams * length)
    block = Block(**_block_fields(t5, decoder=True), parent=None)

    def layer(x: Array, weights_and_cache: tuple) -> Any:
        weights, *kept = weights_and_cache
        return block.apply(
            {"params": weights}, x, positions, bias_row, stored, *kept, cache.source_bias, method=Block.step
        )

    layers = (params["decoder"]["layers"], cache.keys, cache.values, cache.cross_keys, cache.cross_values)
    x, (keys, values) = jax.lax.scan(layer, x, layers, unroll=t5.scan_unroll)
    beam_of = cache.beam_of.at[:, :, cache.time].set(jnp.arange(beams, dtype=jnp.int32))
    cache = cache._replace(
        keys=cache.keys.at[:, :, cache.time].set(keys),
        values=cache.values.at[:, :, cache.time].set(values),
        beam_of=beam_of,
        time=cache.time + 1,
    )
    logits: Any = t5.apply(variables, x, method=T5.finish_step)
    return logits, cache


def reorder(cache: Cache, parents: Int[Array, "b w"]) -> Cache:
    """Beam w continues the history of beam `parents[:, w]`. Keys and values stay where they are."""
    return cache._replace(beam_of=jnp.take_along_axis(cache.beam_of, parents[:, :, None], axis=1))


def _block_fields(t5: T5, *, decoder: bool) -> dict:
    return {
        "decoder": decoder,
        "d_model": t5.d_model,
        "d_kv": t5.d_kv,
        "d_ff": t5.d_ff,
        "heads": t5.heads,
        "buckets": t5.relative_buckets,
        "activation": t5.activation,
        "own_bias": t5.relative_bias_every_layer,
        "dropout": t5.dropout,
        "dtype": t5.dtype,
    }


def _float32_dot(*args: Any, **kwargs: Any) -> Array:
    return jax.lax.dot_general(*args, **{**kwargs, "preferred_element_type": jnp.float32})


def _dense(width: int, deviation: float, dtype: jnp.dtype, **kwargs: Any) -> Dense:
    kwargs = {"dot_general": dense_dot, "kernel_init": nn.initializers.normal(deviation)} | kwargs
    return Dense(width, use_bias=False, dtype=dtype, **kwargs)


def _bias_table(buckets: int, heads: int, d_model: int) -> nn.Embed:
    return nn.Embed(buckets, heads, embedding_init=nn.initializers.normal(d_model**-0.5))
