"""The video diffusion transformer: Wan 2.1 (text or image to video), 2.2, TI2V-5B and Animate, with a control input.

The layout of the public WanTransformer3DModel, or of WanAnimateTransformer3DModel where there is a face branch;
`signer_jax.interop.wan` reads and writes their checkpoints. Latents are channels last. Matmuls run in `dtype`; norms,
softmax, modulation and the time embedding in float32.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float

from signer_jax.dense import Dense
from signer_jax.errors import SignerError
from signer_jax.layout import constrain, ways
from signer_jax.matmul import dense_dot
from signer_jax.renderer.animate import FaceAttention, FaceEncoder, MotionEncoder
from signer_jax.renderer.attention import attention
from signer_jax.renderer.control import cross_normalise
from signer_jax.renderer.remat import again, remat
from signer_jax.renderer.schedule import timestep_embedding
from signer_jax.renderer.variants import FaceBranch

Rotation = tuple[Float[jax.Array, "l k"], Float[jax.Array, "l k"]]  # cos and sin, one angle a pair of head channels
# `attend(q, k, v, lengths=..., keys=...)`, with what `attention` takes.
Attend = Callable[..., jax.Array]

_dense = partial(Dense, dot_general=dense_dot, kernel_init=nn.initializers.xavier_uniform())
_norm = partial(nn.LayerNorm, dtype=jnp.float32, use_fast_variance=False)
_plain_norm = partial(_norm, use_bias=False, use_scale=False)


def patchify(x: Float[jax.Array, "b t h w c"], patch: tuple[int, int, int]) -> Float[jax.Array, "b t2 h2 w2 k"]:
    """Cuts latents into patches, each flattened in the order (t, y, x, c); `SignerError` where they do not fit."""
    b, t, h, w, c = x.shape
    if t % patch[0] or h % patch[1] or w % patch[2]:
        raise SignerError(f"video transformer: latents of {t}x{h}x{w} do not divide into patches of {patch}")
    pt, ph, pw = patch
    x = x.reshape(b, t // pt, pt, h // ph, ph, w // pw, pw, c)
    return x.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(b, t // pt, h // ph, w // pw, pt * ph * pw * c)


def unpatchify(x: Float[jax.Array, "b t2 h2 w2 k"], patch: tuple[int, int, int]) -> Float[jax.Array, "b t h w c"]:
    """The inverse of `patchify`."""
    b, t, h, w, _ = x.shape
    pt, ph, pw = patch
    x = x.reshape(b, t, h, w, pt, ph, pw, -1).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(b, t * pt, h * ph, w * pw, -1)


def _filled(x: Float[jax.Array, "b l *d"], rows: int) -> Float[jax.Array, "b l2 *d"]:
    """With rows of zeros behind."""
    return jnp.pad(x, ((0, 0), (0, rows), *((0, 0),) * (x.ndim - 2))) if rows else x


def rotation_3d(grid: tuple[int, int, int], head_dim: int) -> Rotation:
    """Rotary angles of a token grid (t, h, w), base 10,000; a head's channels split into time, height and width.

    Height and width get 2·(head_dim // 6) channels each and time the rest (44/42/42 of 128). The angles are made in
    float64 for each axis alone, so that a program holds three small tables and not one row a token.
    """
    side = 2 * (head_dim // 6)
    channels = (head_dim - 2 * side, side, side)
    parts = []
    for axis, (length, size) in enumerate(zip(grid, channels, strict=True)):
        angles = np.outer(np.arange(length), 1e4 ** (-np.arange(0, size, 2) / size))  # [length, size / 2]
        shape = [1, 1, 1, size // 2]
        shape[axis] = length
        parts.append([f(angles).astype(np.float32).reshape(shape) for f in (np.cos, np.sin)])
    cos, sin = (
        jnp.concatenate([jnp.broadcast_to(part[i], (*grid, part[i].shape[-1])) for part in parts], axis=-1)
        for i in (0, 1)
    )
    return cos.reshape(-1, head_dim // 2), sin.reshape(-1, head_dim // 2)


def rotate(x: Float[jax.Array, "b l h d"], rotation: Rotation) -> Float[jax.Array, "b l h d"]:
    """Turns each pair of neighbouring head channels by its token's angle, in float32."""
    cos, sin = (part[None, :, None] for part in rotation)
    even, odd = jnp.moveaxis(x.astype(jnp.float32).reshape(*x.shape[:-1], -1, 2), -1, 0)
    turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)


class Attention(nn.Module):
    """Multi-head attention with RMS norm of queries and keys over all heads, before the split.

    With `image` tokens, the same queries attend to them in a second attention; the two are summed before `out`.
    `semantics` are further tokens of the context, beside a published text: the context's own weights make their keys
    and values, and what is found is added times a gate a head that is zero at the start. In the same softmax they would
    take weight from the text however small their values; keys and values of their own, as the image has them, would be
    two more matrices a layer (2.1 billion numbers at 14B). They come with a factor an example: 0 adds nothing at all.
    """

    heads: int
    eps: float
    dtype: jnp.dtype
    attend: Attend

    @nn.compact
    def __call__(
        self,
        x: Float[jax.Array, "b l d"],
        context: Float[jax.Array, "b m d"],
        *,
        image: Float[jax.Array, "b i d"] | None = None,
        semantics: tuple[Float[jax.Array, "b s d"], Float[jax.Array, " b"]] | None = None,
        rotation: Rotation | None = None,
        tokens: int | None = None,
    ) -> Float[jax.Array, "b l d"]:
        """`tokens`: where the context is x itself, how many rows are tokens; the others only fill the length up."""
        dim, across = x.shape[-1], partial(self.attend, lengths=("tokens", "length"))
        dense = partial(_dense, dim, dtype=self.dtype)
        norm = partial(nn.RMSNorm, self.eps, dtype=jnp.float32)

        def split(y: jax.Array) -> jax.Array:  # [b, l, d] -> [b, l, h, d / h]
            return y.reshape(*y.shape[:2], self.heads, dim // self.heads)

        def normed(y: jax.Array, module: nn.Module) -> jax.Array:
            return split(module(y).astype(self.dtype))

        to_key, key_norm, to_value = dense(name="key"), norm(name="key_norm"), dense(name="value")
        # In float32: who attends scales it, and rounds it once.
        query = split(norm(name="query_norm")(dense(name="query")(x)))
        key, value = normed(to_key(context), key_norm), split(to_value(context))
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if tokens is None:
            attended = across(query, key, value)
        else:
            attended = self.attend(query, key, value, lengths=("tokens", "tokens"), keys=tokens)
        if image is not None:
            image_key = normed(dense(name="image_key")(image), norm(name="image_key_norm"))
            attended = attended + across(query, image_key, split(dense(name="image_value")(image)))
        if semantics is not None:
            gate = self.param("semantics_gate", nn.initializers.zeros, (self.heads,)).astype(self.dtype)
            rows, said = semantics
            found = across(query, normed(to_key(rows), key_norm), split(to_value(rows)))
            attended = attended + said.astype(self.dtype)[:, None, None, None] * gate[:, None] * found
        return constrain(dense(name="out")(attended.reshape(x.shape)), "batch", "tokens", "embed")


class Block(nn.Module):
    """Self-attention and feed-forward, each modulated by the timestep and gated; between them plain cross-attention.

    Rows of x after the first `tokens` only fill the length up: nothing attends to them.
    """

    heads: int
    ffn_dim: int
    eps: float
    dtype: jnp.dtype
    attend: Attend
    tokens: int

    @nn.compact
    def __call__(
        self,
        x: Float[jax.Array, "b l d"],
        text: Float[jax.Array, "b s d"],
        image: Float[jax.Array, "b i d"] | None,
        semantics: tuple[Float[jax.Array, "b s d"], Float[jax.Array, " b"]] | None,
        time: Float[jax.Array, "b k 6 d"],
        rotation: Rotation,
    ) -> tuple[Float[jax.Array, "b l d"], None]:
        """`time` has k = 1 for one timestep an example or k = l for one a token. Returns a pair, as `nn.scan` wants."""
        dim, x = x.shape[-1], constrain(x, "batch", "tokens", "embed")
        table = self.param("modulation", nn.initializers.normal(dim**-0.5), (6, dim))
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = jnp.moveaxis(table + time, 2, 0)  # each [b, k, d]
        attend = partial(Attention, self.heads, self.eps, self.dtype, self.attend)
        dense = partial(_dense, dtype=self.dtype)

        h = (_plain_norm(self.eps)(x) * (1 + scale) + shift).astype(self.dtype)
        h = attend(name="self_attention")(h, h, rotation=rotation, tokens=self.tokens)
        x = (x.astype(jnp.float32) + h.astype(jnp.float32) * gate).astype(self.dtype)

        h = _norm(self.eps, name="cross_norm")(x).astype(self.dtype)
        x = x + attend(name="cross_attention")(h, text, image=image, semantics=semantics)

        h = (_plain_norm(self.eps)(x) * (1 + ffn_scale) + ffn_shift).astype(self.dtype)
        h = constrain(dense(self.ffn_dim, name="wi")(h), "batch", "tokens", "mlp")
        h = constrain(dense(dim, name="wo")(nn.gelu(h, approximate=True)), "batch", "tokens", "embed")
        x = (x.astype(jnp.float32) + h.astype(jnp.float32) * ffn_gate).astype(self.dtype)
        return constrain(x, "batch", "tokens", "embed"), None


class FaceGroup(nn.Module):
    """`every` blocks, with the adapter to the face's tokens after the first; a step of the scan over groups.

    A program holds two blocks and one adapter, however many layers there are.
    """

    heads: int
    ffn_dim: int
    eps: float
    dtype: jnp.dtype
    attend: Attend
    tokens: int
    every: int
    scan_unroll: int
    remat: str

    @nn.compact
    def __call__(
        self, x: Float[jax.Array, "b l d"], face: Float[jax.Array, "b k n d"], *inputs: Any
    ) -> tuple[Float[jax.Array, "b l d"], None]:
        """`inputs` are those of `Block`."""
        values = (self.heads, self.ffn_dim, self.eps, self.dtype, self.attend, self.tokens)
        block = remat(Block, self.remat)
        adapter: Any = nn.remat(FaceAttention) if again(self.remat) else FaceAttention
        x, _ = block(*values, name="first")(x, *inputs)
        a_frame = self.tokens // face.shape[1]
        x = x + adapter(self.heads, self.eps, self.dtype, self.attend, a_frame, name="face_attention")(x, face)
        if self.every > 1:
            rest = _scanned(Block, self.every - 1, self.scan_unroll, self.remat)(*values, name="rest")
            x, _ = rest(x, *inputs)
        return x, None


def _scanned(module: type[nn.Module], length: int, unroll: int, policy: str) -> Any:
    """`module` over a stack of `length` parameters, whatever else it is given the same for all."""
    # A rolled scan already keeps XLA from merging the recomputation with the forward pass; an unrolled one not.
    module = remat(module, policy, prevent_cse=unroll > 1)
    return nn.scan(
        module, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=nn.broadcast, length=length,
        unroll=unroll,
    )  # fmt: skip


class VideoTransformer(nn.Module):
    """Predicts the velocity of video latents from the noise level, the text and, where given, image and control.

    `image_dim` is the width of CLIP's tokens in the 2.1 image models and Animate, and None elsewhere. `patch` is
    (t, y, x). `face` is Animate's branch: pose latents and a face video are then inputs too. `semantics_dim` is the
    width of further tokens beside the text, which change nothing at the start. `attend` computes attention
    `[b, l, h, d]`. On a mesh with an axis `context` every device has a part of the tokens, from the patch embedding to
    the projection back. `remat`: one of `POLICIES`.
    """

    in_channels: int
    out_channels: int
    dim: int
    heads: int
    ffn_dim: int
    layers: int
    text_dim: int
    freq_dim: int
    patch: tuple[int, int, int]
    image_dim: int | None
    eps: float
    face: FaceBranch | None = None
    semantics_dim: int | None = None
    dtype: jnp.dtype = jnp.float32
    scan_unroll: int = 1
    remat: str = "dots_no_batch"
    attend: Attend = attention

    @nn.compact
    def __call__(
        self,
        latents: Float[jax.Array, "b t h w in_channels"],
        timestep: Float[jax.Array, "b"] | Float[jax.Array, "b l"],
        text: Float[jax.Array, "b s text_dim"],
        *,
        image: Float[jax.Array, "b i image_dim"] | None = None,
        control: Float[jax.Array, "b t2 h2 w2 dim"] | None = None,
        control_scale: Float[jax.Array, "b"] | None = None,
        pose: Float[jax.Array, "b t-1 h w z"] | None = None,
        face: Float[jax.Array, "b f y x 3"] | None = None,
        semantics: Float[jax.Array, "b s semantics_dim"] | None = None,
    ) -> Float[jax.Array, "b t h w out_channels"]:
        """Float32 velocity of the latents.

        Args:
          timestep: 1000 σ for each example, or for each token (TI2V-5B: 0 on the tokens of a given first frame).
          text: text-encoder states. There is no mask: rows past the text's end are zeros and take part, as in Wan.
          control: features on the token grid (`ControlBranch`), added once after the patch embedding; of the last
            frames where there are fewer, those before them have none.
          control_scale: how strongly; 0 on the unconditional half of guidance and where training drops the control,
            1 where None.
          pose: Animate's latents of the pose video, added to the frames after the first, which is the reference.
          face: Animate's video of the face in [-1, 1], 4·(t - 2) + 1 frames; None is a face that says nothing.
          semantics: SLUL's features of the sentence, with zero rows past its end. All zeros, or None: nothing said, and
            the model is as it is without them.

        Raises:
          SignerError: latents do not divide into patches, have other than `in_channels` channels, an image or a pose is
            missing or not expected, the face has another size or length, or the control is not on the token grid.
        """
        self._check(latents, image, semantics)
        self._check_animate(latents, pose, face)
        x = patchify(latents.astype(self.dtype), self.patch)
        x = _dense(self.dim, dtype=self.dtype, name="patch_embedding")(x)  # [b, t2, h2, w2, dim]
        if control is not None:
            before = x.shape[1] - control.shape[1]  # a reference in front of the video has no pose
            if before not in (0, 1) or control.shape != x[:, before:].shape:
                raise SignerError(f"video transformer: control {control.shape} is not on the token grid {x.shape}")
            scale = jnp.ones(len(x)) if control_scale is None else control_scale
            controlled = cross_normalise(x[:, before:], control, scale)
            x = jnp.concatenate([x[:, :before], controlled], axis=1) if before else controlled
        if pose is not None:
            posed = patchify(pose.astype(self.dtype), self.patch)
            posed = _dense(self.dim, dtype=self.dtype, name="pose_patch_embedding")(posed)
            x = jnp.concatenate([x[:, :1], x[:, 1:] + posed], axis=1)
        grid = (x.shape[1], x.shape[2], x.shape[3])
        tokens = int(np.prod(grid))
        fill = -tokens % ways("tokens")  # rows that nothing attends to, up to a length that the devices share evenly
        x = constrain(_filled(x.reshape(x.shape[0], -1, self.dim), fill), "batch", "tokens", "embed")

        time, modulation = self._time(timestep, fill)
        text = self._text(text)
        image = None if image is None else self._image(image)
        beside = None
        if semantics is not None:
            # The projection has a bias: rows of zeros would say something.
            said = (semantics != 0).any(axis=(1, 2))
            rows = _dense(self.dim, dtype=self.dtype, name="semantics")(semantics)
            beside = constrain(rows, "batch", "length", "embed"), said

        values = (self.heads, self.ffn_dim, self.eps, self.dtype, self.attend, tokens)
        cos, sin = (_filled(part[None], fill)[0] for part in rotation_3d(grid, self.dim // self.heads))
        inputs = (text, image, beside, modulation, (cos, sin))
        if self.face is None:
            x, _ = _scanned(Block, self.layers, self.scan_unroll, self.remat)(*values, name="layers")(x, *inputs)
        else:
            every = self.face.every
            groups = nn.scan(
                FaceGroup, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=nn.broadcast,
                length=self.layers // every,
            )(*values, every, self.scan_unroll, self.remat, name="layers")  # fmt: skip
            x, _ = groups(x, self._face(face, len(x), grid[0]), *inputs)

        table = self.param("modulation", nn.initializers.normal(self.dim**-0.5), (2, self.dim))
        shift, scale = jnp.moveaxis(table + time[:, :, None], 2, 0)
        x = (_plain_norm(self.eps)(x) * (1 + scale) + shift).astype(self.dtype)
        # Zero at the start, so that an untrained model predicts a velocity of zero (as the original does).
        size = self.out_channels * int(np.prod(self.patch))
        x = Dense(size, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="patch_projection")(x)
        x = constrain(x, "batch", "tokens", None)[:, :tokens]
        return unpatchify(x.reshape(x.shape[0], *grid, -1), self.patch).astype(jnp.float32)

    def _check(self, latents: jax.Array, image: jax.Array | None, semantics: jax.Array | None) -> None:
        if latents.shape[-1] != self.in_channels:
            raise SignerError(
                f"video transformer: latents have {latents.shape[-1]} channels, the model takes {self.in_channels}"
            )
        if (image is None) != (self.image_dim is None):
            need = "takes no image tokens" if self.image_dim is None else "needs image tokens"
            raise SignerError(f"video transformer: this model {need} (image_dim is {self.image_dim})")
        if semantics is not None and semantics.shape[-1] != self.semantics_dim:
            raise SignerError(
                f"video transformer: semantics of width {semantics.shape[-1]}, this model takes {self.semantics_dim}"
            )

    def _check_animate(self, latents: jax.Array, pose: jax.Array | None, face: jax.Array | None) -> None:
        if self.face is None:
            if pose is not None or face is not None:
                raise SignerError("video transformer: this model takes no pose latents and no face; Animate does")
            return
        if self.layers % self.face.every:
            raise SignerError(
                f"video transformer: {self.layers} layers do not divide into groups of {self.face.every} with an "
                "adapter each"
            )
        b, t, h, w, _ = latents.shape
        expected = (b, t - 1, h, w, self.out_channels)
        if pose is None or pose.shape != expected:
            given = "none" if pose is None else list(pose.shape)
            raise SignerError(
                f"video transformer: this model needs pose latents {list(expected)}, one frame fewer than the latents "
                f"(the reference is in front), not {given}"
            )
        frames = 4 * (t - 2) + 1
        if face is not None and face.shape[1] != frames:
            raise SignerError(f"face video: {face.shape[1]} frames, {t - 1} latent frames of video need {frames}")

    def _face(self, face: jax.Array | None, b: int, frames: int) -> Float[jax.Array, "b t n d"]:
        """The face's tokens of each latent frame; zeros for the first, which is the reference."""
        assert self.face is not None
        size = self.face.size
        blank = face is None  # guidance's other half: black pictures, and one of them says what all do
        pictures = jnp.full((1, 1, size, size, 3), -1.0) if face is None else face
        vectors = MotionEncoder(self.face, self.dtype, name="motion_encoder")(pictures.reshape(-1, *pictures.shape[2:]))
        vectors = vectors.reshape(*pictures.shape[:2], -1)
        if blank:
            vectors = jnp.broadcast_to(vectors, (b, 4 * (frames - 2) + 1, vectors.shape[-1]))
        tokens = FaceEncoder(self.face, self.dim, self.dtype, name="face_encoder")(vectors)
        return jnp.pad(tokens, ((0, 0), (1, 0), (0, 0), (0, 0)))

    def _time(self, timestep: jax.Array, fill: int) -> tuple[Float[jax.Array, "b k d"], Float[jax.Array, "b k 6 d"]]:
        """The time embedding and the six modulations of the blocks, k = 1 or the number of tokens; float32."""
        dense = partial(Dense, dtype=jnp.float32, kernel_init=nn.initializers.normal(0.02))
        timestep = timestep[:, None] if timestep.ndim == 1 else _filled(timestep, fill)
        rows = None if timestep.shape[1] == 1 else "tokens"
        time = nn.silu(dense(self.dim, name="time_in")(timestep_embedding(timestep, self.freq_dim)))
        time = constrain(dense(self.dim, name="time_out")(time), "batch", rows, "embed")
        modulation = _dense(6 * self.dim, dtype=jnp.float32, name="time_modulation")(nn.silu(time))
        modulation = constrain(modulation, "batch", rows, "embed")
        return time, modulation.reshape(*time.shape[:2], 6, self.dim)

    def _text(self, text: jax.Array) -> Float[jax.Array, "b s d"]:
        dense = partial(Dense, self.dim, dtype=self.dtype, kernel_init=nn.initializers.normal(0.02))
        h = constrain(dense(name="text_in")(text), "batch", "length", "mlp")
        return constrain(dense(name="text_out")(nn.gelu(h, approximate=True)), "batch", "length", "embed")

    def _image(self, image: jax.Array) -> Float[jax.Array, "b i d"]:
        # These two norms have their own epsilon in the original.
        h = _norm(1e-5, name="image_norm_in")(image).astype(self.dtype)
        h = nn.gelu(_dense(image.shape[-1], dtype=self.dtype, name="image_in")(h), approximate=False)
        h = _dense(self.dim, dtype=self.dtype, name="image_out")(h)
        return _norm(1e-5, name="image_norm_out")(h).astype(self.dtype)
