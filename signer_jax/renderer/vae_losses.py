"""Losses of the video autoencoder: arrays in, one value an example out."""

import jax
import jax.numpy as jnp
from jaxtyping import Float


def reconstruction(
    video: Float[jax.Array, "b t h w c"], target: Float[jax.Array, "b t h w c"]
) -> Float[jax.Array, "b"]:
    """Mean absolute error."""
    return jnp.abs(video.astype(jnp.float32) - target).mean((1, 2, 3, 4))


def kl(mean: Float[jax.Array, "b t h w z"], logvar: Float[jax.Array, "b t h w z"]) -> Float[jax.Array, "b"]:
    """KL(N(mean, exp logvar) || N(0, 1)), the mean over latent values."""
    return 0.5 * (mean**2 + jnp.exp(logvar) - 1.0 - logvar).mean((1, 2, 3, 4))


def sharpness(video: Float[jax.Array, "b t h w c"], target: Float[jax.Array, "b t h w c"]) -> Float[jax.Array, "b"]:
    """Mean absolute error of the differences between neighbouring pixels, along height and width.

    A blurred edge costs little in the mean absolute error of the pixels and much in this.
    """
    error = video.astype(jnp.float32) - target
    rows = jnp.abs(jnp.diff(error, axis=2)).mean((1, 2, 3, 4))
    columns = jnp.abs(jnp.diff(error, axis=3)).mean((1, 2, 3, 4))
    return rows + columns
