"""The video autoencoder of the Wan family (2.1, and 2.2 with residual shortcuts and pixel patches), channels last.

The original (diffusers' AutoencoderKLWan) walks through the video in chunks, 1 frame and then 4 at a time, with a
cache of two frames at every convolution. That walk equals one causal pass over the whole video, which is what this
module computes (the parity tests prove it):

- causal convolutions see zeros before the first frame;
- temporal downsampling leaves frame 0 as it is and convolves (2k-2, 2k-1, 2k) for every later output k;
- temporal upsampling leaves latent 0 as it is and treats latent 1 as if it were the first.

Applied with the collection `convolution.CHUNK` as mutable, the same modules take a video chunk by chunk, as
`vae_chunks` does where memory must not grow with its length.
"""

from math import prod
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from signer_jax.dense import Dense
from signer_jax.errors import SignerError
from signer_jax.layout import constrain, ways
from signer_jax.renderer.convolution import Convolution, after_the_chunk_before, in_chunks, is_first_chunk

# Bounds of the log variance in the original; outside of them exp() leaves float32.
LOGVAR_RANGE = (-30.0, 20.0)
# Frames with more latent pixels than this attend one frame after another, to bound the memory of the scores.
MAX_PIXELS_AT_ONCE = 1024


def spread(x: Float[jax.Array, "b t h w c"]) -> Float[jax.Array, "b t h w c"]:
    """The same array, its pictures split among the devices that share a window (`layout`), as convolutions leave it.

    Along one side, the same at every level of the autoencoder: the one that can be halved more often, which the devices
    divide first, of two alike the longer; whole where they do not divide it. What a convolution needs of its
    neighbours' parts, the compiler fetches, so that the numbers are those of one device.
    """
    if ways("side") == 1:
        return x
    axis = max((2, 3), key=lambda axis: (x.shape[axis] & -x.shape[axis], x.shape[axis]))
    divided = x.shape[axis] % ways("side") == 0
    return constrain(x, _rows(x), None, *("side" if divided and axis == side else None for side in (2, 3)), None)


def _rows(x: jax.Array) -> str | None:
    """How the rows are split: of a single clip they are not."""
    return "batch" if len(x) % ways("batch") == 0 else None


def rms_norm(x: Float[jax.Array, "... c"], scale: Float[jax.Array, "c"]) -> Float[jax.Array, "... c"]:
    """x / |x| over the channels, times sqrt(c) and a scale; float32 inside, |x| at least 1e-12 (torch's normalize)."""
    wide = x.astype(jnp.float32)
    square = jnp.maximum(jnp.sum(wide * wide, -1, keepdims=True), 1e-24)
    return (wide * (jax.lax.rsqrt(square) * x.shape[-1] ** 0.5) * scale).astype(x.dtype)


def frame_attention(q, k, v) -> Float[jax.Array, "b t l c"]:
    """Single-head attention within each frame, `[b, t, l, c]` each."""

    def attend(q, k, v):
        scores = jnp.einsum("...qc,...kc->...qk", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
        return jnp.einsum("...qk,...kc->...qc", jax.nn.softmax(scores, -1).astype(v.dtype), v)

    if ways("tokens") > 1 and q.shape[2] % ways("tokens") == 0:  # each device its own queries, all of them every key
        q = constrain(q, _rows(q), None, "tokens", None)
    if q.shape[2] <= MAX_PIXELS_AT_ONCE:
        return attend(q, k, v)
    by_frame = jax.lax.map(lambda qkv: attend(*qkv), tuple(jnp.moveaxis(a, 1, 0) for a in (q, k, v)))
    return jnp.moveaxis(by_frame, 0, 1)


def patchify(video: Float[jax.Array, "b t h w c"], size: int) -> Float[jax.Array, "b t h2 w2 c2"]:
    """Folds `size` x `size` pixels into channels, ordered (channel, x, y) as Wan 2.2 does."""
    b, t, h, w, c = video.shape
    x = video.reshape(b, t, h // size, size, w // size, size, c)
    return x.transpose(0, 1, 2, 4, 6, 5, 3).reshape(b, t, h // size, w // size, c * size * size)


def unpatchify(x: Float[jax.Array, "b t h2 w2 c2"], size: int) -> Float[jax.Array, "b t h w c"]:
    """The inverse of `patchify`."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h, w, c // size**2, size, size)
    return x.transpose(0, 1, 2, 6, 3, 5, 4).reshape(b, t, h * size, w * size, c // size**2)


def average_down(x: Float[jax.Array, "b t h w c"], features: int, ratio: tuple[int, int, int]) -> jax.Array:
    """Shortcut of a downsampling level (Wan 2.2): pixels folded into channels, then means of channel groups.

    Zero frames are put before the first where the ratio does not divide the frame count.
    """
    b, t, h, w, c = x.shape
    x = jnp.pad(x, ((0, 0), (-t % ratio[0], 0), (0, 0), (0, 0), (0, 0)))
    t, h, w = (n // r for n, r in zip(x.shape[1:4], ratio, strict=True))
    x = x.reshape(b, t, ratio[0], h, ratio[1], w, ratio[2], c).transpose(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(b, t, h, w, features, c * prod(ratio) // features).mean(-1)


def duplicate_up(
    x: Float[jax.Array, "b t h w c"], features: int, ratio: tuple[int, int, int], *, first: bool
) -> jax.Array:
    """Shortcut of an upsampling level (Wan 2.2): channels repeated and unfolded into pixels.

    `first`: x begins the video, whose frame 0 counts once.
    """
    b, t, h, w, c = x.shape
    x = jnp.repeat(x, features * prod(ratio) // c, axis=-1).reshape(b, t, h, w, features, *ratio)
    x = x.transpose(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, t * ratio[0], h * ratio[1], w * ratio[2], features)
    return x[:, ratio[0] - 1 :] if first else x


class RMSNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return rms_norm(x, self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32))


class ResidualBlock(nn.Module):
    """Norm, SiLU, causal conv, twice; a 1x1x1 shortcut where the channel count changes."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        skip = x
        if x.shape[-1] != self.features:
            skip = Convolution(self.features, (1, 1, 1), dtype=self.dtype, name="shortcut")(x)
        y = nn.silu(RMSNorm(name="norm1")(x))
        y = spread(Convolution(self.features, (3, 3, 3), dtype=self.dtype, name="conv1")(y))
        y = nn.silu(RMSNorm(name="norm2")(y))
        return spread(skip + Convolution(self.features, (3, 3, 3), dtype=self.dtype, name="conv2")(y))


class AttentionBlock(nn.Module):
    """Residual single-head attention within each frame."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        b, t, h, w, c = x.shape
        y = RMSNorm(name="norm")(x).reshape(b, t, h * w, c)
        q, k, v = jnp.split(Dense(3 * c, dtype=self.dtype, name="qkv")(y), 3, axis=-1)
        y = Dense(c, dtype=self.dtype, name="out")(frame_attention(q, k, v))
        return spread(x + y.reshape(x.shape))


class Middle(nn.Module):
    features: int
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(self, x):
        block = nn.remat(ResidualBlock) if self.remat else ResidualBlock
        x = block(self.features, self.dtype, name="resnet_0")(x)
        x = AttentionBlock(self.dtype, name="attention")(x)
        return block(self.features, self.dtype, name="resnet_1")(x)


class Downsample(nn.Module):
    """Halves height and width, and (t - 1) where `temporal`."""

    temporal: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        features, padding = x.shape[-1], ((0, 0), (0, 1), (0, 1))
        x = spread(Convolution(features, (1, 3, 3), (1, 2, 2), padding, self.dtype, name="conv")(x))
        if not self.temporal:
            return x
        first = is_first_chunk(self)
        whole = after_the_chunk_before(self, x, 1) if in_chunks(self) else x
        whole = whole[:, -x.shape[1] :] if first else whole
        later = Convolution(features, (3, 1, 1), (2, 1, 1), ((0, 0),) * 3, self.dtype, name="time_conv")(whole)
        return jnp.concatenate([x[:, :1], later], 1) if first else later


class Upsample(nn.Module):
    """Doubles height and width (nearest, then a conv), and (t - 1) where `temporal`."""

    features: int
    temporal: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        if self.temporal:
            kept = x[:, :1] if is_first_chunk(self) else x[:, :0]
            x = x[:, kept.shape[1] :]
            b, t, h, w, c = x.shape
            later = Convolution(2 * c, (3, 1, 1), dtype=self.dtype, name="time_conv")(x)
            later = later.reshape(b, t, h, w, 2, c).transpose(0, 1, 4, 2, 3, 5).reshape(b, 2 * t, h, w, c)
            x = jnp.concatenate([kept, later], 1)
        x = spread(x.repeat(2, axis=2).repeat(2, axis=3))
        return spread(Convolution(self.features, (1, 3, 3), dtype=self.dtype, name="conv")(x))


class DownLevel(nn.Module):
    """Residual blocks, then `Downsample` unless it is the last level; `shortcut` adds 2.2's path around them all."""

    features: int
    num_res_blocks: int
    downsample: bool
    temporal: bool
    shortcut: bool
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(self, x):
        block = nn.remat(ResidualBlock) if self.remat else ResidualBlock
        y = x
        for i in range(self.num_res_blocks):
            y = block(self.features, self.dtype, name=f"resnet_{i}")(y)
        if self.downsample:
            y = Downsample(self.temporal, self.dtype, name="downsample")(y)
        if not self.shortcut:
            return y
        space = 2 if self.downsample else 1
        return y + average_down(x, self.features, (2 if self.temporal else 1, space, space))


class UpLevel(nn.Module):
    """Residual blocks, then `Upsample` unless it is the last level; `shortcut` adds 2.2's path around them all."""

    features: int
    num_res_blocks: int
    upsample: bool
    temporal: bool
    shortcut: bool
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(self, x):
        block = nn.remat(ResidualBlock) if self.remat else ResidualBlock
        y = x
        for i in range(self.num_res_blocks + 1):
            y = block(self.features, self.dtype, name=f"resnet_{i}")(y)
        if not self.upsample:
            return y
        # 2.1 halves the channels while it upsamples, 2.2 does not.
        features = self.features if self.shortcut else self.features // 2
        y = Upsample(features, self.temporal, self.dtype, name="upsample")(y)
        if not self.shortcut:
            return y
        return y + duplicate_up(x, self.features, (2 if self.temporal else 1, 2, 2), first=is_first_chunk(self))


class Encoder(nn.Module):
    base_dim: int
    features: int
    dim_mult: tuple[int, ...]
    num_res_blocks: int
    temporal_downsample: tuple[bool, ...]
    is_residual: bool
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(self, x):
        x = spread(Convolution(self.base_dim, (3, 3, 3), dtype=self.dtype, name="conv_in")(spread(x)))
        last = len(self.dim_mult) - 1
        for i, mult in enumerate(self.dim_mult):
            x = DownLevel(
                features=self.base_dim * mult,
                num_res_blocks=self.num_res_blocks,
                downsample=i < last,
                temporal=i < last and self.temporal_downsample[i],
                shortcut=self.is_residual,
                dtype=self.dtype,
                remat=self.remat,
                name=f"down_{i}",
            )(x)
        x = Middle(self.base_dim * self.dim_mult[-1], self.dtype, self.remat, name="middle")(x)
        x = nn.silu(RMSNorm(name="norm_out")(x))
        return spread(Convolution(self.features, (3, 3, 3), dtype=self.dtype, name="conv_out")(x))


class Decoder(nn.Module):
    base_dim: int
    features: int
    dim_mult: tuple[int, ...]
    num_res_blocks: int
    temporal_upsample: tuple[bool, ...]
    is_residual: bool
    dtype: jnp.dtype
    remat: bool

    @nn.compact
    def __call__(self, x):
        widest = self.base_dim * self.dim_mult[-1]
        x = spread(Convolution(widest, (3, 3, 3), dtype=self.dtype, name="conv_in")(spread(x)))
        x = Middle(widest, self.dtype, self.remat, name="middle")(x)
        last = len(self.dim_mult) - 1
        for i, mult in enumerate(reversed(self.dim_mult)):
            x = UpLevel(
                features=self.base_dim * mult,
                num_res_blocks=self.num_res_blocks,
                upsample=i < last,
                temporal=i < last and self.temporal_upsample[i],
                shortcut=self.is_residual,
                dtype=self.dtype,
                remat=self.remat,
                name=f"up_{i}",
            )(x)
        x = nn.silu(RMSNorm(name="norm_out")(x))
        return spread(Convolution(self.features, (3, 3, 3), dtype=self.dtype, name="conv_out")(x))


class VideoVAE(nn.Module):
    """Video to latents and back. Fields as in the published config.json (diffusers' AutoencoderKLWan).

    `temporal_downsample` has one entry a level but the last. `in_channels` and `out_channels` count the channels after
    pixels are folded by `patch_size` (3 without it, 12 with 2). `latents_mean` and `latents_std` have `z_dim` entries.
    Raises `SignerError` where the fields do not fit each other, or a video does not fit the compression.
    """

    base_dim: int
    decoder_base_dim: int
    z_dim: int
    dim_mult: tuple[int, ...]
    num_res_blocks: int
    temporal_downsample: tuple[bool, ...]
    in_channels: int
    out_channels: int
    patch_size: int | None
    is_residual: bool
    latents_mean: tuple[float, ...]
    latents_std: tuple[float, ...]
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    def setup(self) -> None:
        if len(self.temporal_downsample) != len(self.dim_mult) - 1:
            raise SignerError(
                f"vae: temporal_downsample has {len(self.temporal_downsample)} entries, dim_mult {len(self.dim_mult)}; "
                "give one for every entry of dim_mult but the last"
            )
        if not len(self.latents_mean) == len(self.latents_std) == self.z_dim:
            raise SignerError(f"vae: latents_mean and latents_std need z_dim = {self.z_dim} entries each")
        common: dict[str, Any] = {
            "dim_mult": tuple(self.dim_mult),
            "num_res_blocks": self.num_res_blocks,
            "is_residual": self.is_residual,
            "dtype": self.dtype,
            "remat": self.remat,
        }
        time = tuple(self.temporal_downsample)
        # Encoding in bfloat16 drifts from frame to frame (SSIM .98 to .76 has been seen); decoding does not.
        exact = {**common, "dtype": jnp.float32}
        self.encoder = Encoder(self.base_dim, 2 * self.z_dim, temporal_downsample=time, **exact)
        self.decoder = Decoder(self.decoder_base_dim, self.out_channels, temporal_upsample=time[::-1], **common)
        self.quant_conv = Convolution(2 * self.z_dim, (1, 1, 1), dtype=jnp.float32)
        self.post_quant_conv = Convolution(self.z_dim, (1, 1, 1), dtype=self.dtype)

    @property
    def temporal_ratio(self) -> int:
        """Frames a latent frame stands for (the first stands for one): t frames give 1 + (t - 1) // ratio latents."""
        return 2 ** sum(map(bool, self.temporal_downsample))

    @property
    def spatial_ratio(self) -> int:
        """Pixels a latent pixel stands for, along height and along width."""
        return 2 ** (len(self.dim_mult) - 1) * (self.patch_size or 1)

    def encode(
        self, video: Float[jax.Array, "b t h w c"]
    ) -> tuple[Float[jax.Array, "b t2 h2 w2 z"], Float[jax.Array, "b t2 h2 w2 z"]]:
        """Video in [-1, 1] to the posterior's mean and log variance, not normalised; float32, whatever `dtype` is.

        The video has `temporal_ratio` * k + 1 frames. Raises `SignerError` for another number (the original drops the
        last ones), where `spatial_ratio` does not divide height and width, or the channels are not the config's.
        """
        self.check(video.shape[1:])
        return self.encode_chunk(video)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises `SignerError` unless a video of this shape, `(t, h, w, c)`, can be encoded."""
        ratio, patch = self.spatial_ratio, self.patch_size or 1
        t, h, w, c = shape
        if t < 1 or h % ratio or w % ratio or c * patch**2 != self.in_channels:
            raise SignerError(
                f"vae: cannot encode {t} frames of {h}x{w} with {c} channels; give at least one frame, "
                f"height and width that {ratio} divides, and {self.in_channels // patch**2} channels"
            )
        if over := (t - 1) % self.temporal_ratio:
            raise SignerError(
                f"vae: a video of {t} frames fills no whole number of latents; give {t - over} or "
                f"{t - over + self.temporal_ratio} frames ({self.temporal_ratio} k + 1)"
            )

    def encode_chunk(self, video: Float[jax.Array, "b t h w c"]) -> tuple[jax.Array, jax.Array]:
        """`encode` of a video that is known to fit, or of one chunk of it (`vae_chunks`)."""
        patch = self.patch_size or 1
        moments = self.quant_conv(self.encoder(patchify(video, patch).astype(jnp.float32)))
        mean, logvar = jnp.split(moments.astype(jnp.float32), 2, axis=-1)
        return mean, jnp.clip(logvar, *LOGVAR_RANGE)

    def decode(self, latents: Float[jax.Array, "b t2 h2 w2 z"], *, clip: bool = True) -> Float[jax.Array, "b t h w c"]:
        """Latents (not normalised) to a video of 1 + `temporal_ratio` * (t2 - 1) frames, float32.

        `clip` bounds it to [-1, 1] as the original does; train without, or clipped pixels have no gradient.
        """
        video = self.decoder(self.post_quant_conv(latents.astype(self.dtype)))
        video = unpatchify(video, self.patch_size or 1).astype(jnp.float32)
        return jnp.clip(video, -1.0, 1.0) if clip else video

    def __call__(self, video: Float[jax.Array, "b t h w c"], noise: Float[jax.Array, "b t2 h2 w2 z"] | None = None):
        """The training pass: `(reconstruction, mean, logvar)`; latents are the mean where `noise` is None.

        The reconstruction is not clipped.
        """
        mean, logvar = self.encode(video)
        latents = mean if noise is None else mean + jnp.exp(0.5 * logvar) * noise
        return self.decode(latents, clip=False), mean, logvar

    def normalise(self, latents: Float[jax.Array, "... z"]) -> Float[jax.Array, "... z"]:
        """(z - mean) / std by the config's constants: what the video transformer works on."""
        return (latents - jnp.asarray(self.latents_mean)) / jnp.asarray(self.latents_std)

    def denormalise(self, latents: Float[jax.Array, "... z"]) -> Float[jax.Array, "... z"]:
        """The inverse of `normalise`."""
        return latents * jnp.asarray(self.latents_std) + jnp.asarray(self.latents_mean)
