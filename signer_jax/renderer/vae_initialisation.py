"""A start for small video autoencoders: the principal components of the frames' patches, instead of random weights.

With random weights a tiny autoencoder spends its first minutes on finding what linear algebra gives in a second. The
weights are ordinary ones: every layer trains on.
"""

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float

from signer_jax.errors import SignerError
from signer_jax.renderer.vae import VideoVAE, patchify

# How strongly latents are evened out: a component's standard deviation s becomes s^(1 - EVENNESS). 1 would give fine
# texture as much of the latents (and of a diffusion loss on them) as the outline; 0 would leave it almost none.
EVENNESS = 0.0
# The constant channel beside the signal's norm: the greater, the more nearly linear is the channel norm.
CONSTANT_RATIO = 12.0
# The posterior's log variance at the start: latents have unit scale and this is 2% of it.
FIRST_LOGVAR = -8.0


def principal_patches(
    patches: Float[np.ndarray, "n p"], z_dim: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "p"], Float[np.ndarray, "p z"], Float[np.ndarray, "z p"]]:
    """`(mean, encode, decode)` with latents `(patch - mean) @ encode` and patches `latents @ decode + mean`.

    The `z_dim` first principal components, evened out (`EVENNESS`), rotated at random so that every latent channel
    carries the same share, and scaled to a root mean square of 1.
    """
    mean = patches.mean(0)
    variances, components = np.linalg.eigh(np.cov(patches - mean, rowvar=False))
    variances, components = np.maximum(variances[::-1][:z_dim], 1e-12), components[:, ::-1][:, :z_dim]
    evened = np.sqrt(variances) ** EVENNESS
    rotation = np.linalg.qr(rng.normal(size=(z_dim, z_dim)))[0]
    scale = np.sqrt((variances / evened**2).mean())
    return mean, components / (evened * scale) @ rotation, rotation.T @ (components * (evened * scale)).T


def initialise_from_frames(module: VideoVAE, params: dict, frames: Float[np.ndarray, "n h w c"], seed: int = 0) -> dict:
    """Params (as `module.init` gives them) whose encoder and decoder are the principal components of the patches.

    `frames` in [-1, 1], some hundreds. How the network stays linear: residual branches and the attention end in zeros;
    a channel with a large constant fixes the channel norm; every latent channel x runs beside its negative, for
    silu(x) - silu(-x) = x. Norms are scaled so that the branches see inputs of unit size once they learn.

    Raises `SignerError` where the module has several levels (nearest upsampling followed by a convolution cannot invert
    the folding of pixels) or fewer than `2 * z_dim + 1` channels.
    """
    z, channels = module.z_dim, min(module.base_dim, module.decoder_base_dim)
    if tuple(module.dim_mult) != (1,) or channels < 2 * z + 1:
        raise SignerError(
            f"vae: principal components need dim_mult (1,) and 2 * z_dim + 1 channels, not {tuple(module.dim_mult)}, "
            f"{channels} channels and z_dim {z}; change these or start from random weights"
        )
    rng = np.random.default_rng(seed)
    patches = np.asarray(patchify(jnp.asarray(frames)[None], module.patch_size or 1), np.float64)
    mean, encode, decode = principal_patches(patches.reshape(-1, patches.shape[-1]), z, rng)

    flat = {name: np.array(leaf) for name, leaf in flatten_dict(params, sep="/").items()}
    first_moments = np.concatenate([np.zeros(z), np.full(z, FIRST_LOGVAR)])
    _linear_half(flat, "encoder", encode, -mean @ encode, np.eye(z, 2 * z), first_moments)
    _linear_half(flat, "decoder", np.eye(z), np.zeros(z), decode, mean)
    for name in ("quant_conv", "post_quant_conv"):
        flat[f"{name}/kernel"][0, 0, 0] = np.eye(flat[f"{name}/bias"].shape[0])
        flat[f"{name}/bias"][:] = 0.0
    return unflatten_dict({name: jnp.asarray(leaf, jnp.float32) for name, leaf in flat.items()}, sep="/")


def _linear_half(flat, half, into, into_bias, out, out_bias) -> None:
    """Makes one half compute `(x @ into + into_bias) @ out + out_bias`, in place; latents have unit scale."""
    z, channels = into.shape[1], flat[f"{half}/conv_in/bias"].shape[0]
    constant = CONSTANT_RATIO * np.sqrt(2 * z)
    for name, leaf in flat.items():
        if not name.startswith(f"{half}/"):
            continue
        if name.endswith(("conv2/kernel", "conv2/bias", "attention/out/kernel", "attention/out/bias")):
            leaf[:] = 0.0
        elif name.endswith("/scale"):
            # The norm divides by about `constant` and multiplies by sqrt(channels): undone for the signal. norm2 sees
            # no constant channel and would not need it; leaving it at 1 learned no faster.
            leaf[:] = constant / np.sqrt(channels)
            leaf[2 * z] = 1.0 / np.sqrt(channels)
    kernel, bias = flat[f"{half}/conv_in/kernel"], flat[f"{half}/conv_in/bias"]
    kernel[:], bias[:] = 0.0, 0.0
    # The last temporal tap and the middle of the window: the pixel itself.
    kernel[-1, 1, 1, :, : 2 * z] = np.concatenate([into, -into], 1)
    bias[: 2 * z] = np.concatenate([into_bias, -into_bias])
    bias[2 * z] = constant
    kernel, bias = flat[f"{half}/conv_out/kernel"], flat[f"{half}/conv_out/bias"]
    kernel[:] = 0.0
    kernel[-1, 1, 1, : 2 * z] = np.concatenate([out, -out], 0)
    bias[:] = out_bias
