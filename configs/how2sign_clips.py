"""Autoencoder and renderer on real How2Sign clips with MediaPipe poses, at 64 pixels; no text.

signer train --config configs/how2sign_clips.py --workdir runs/how2sign --config.data.source=FOLDER
signer train --config how2sign_clips:256 --workdir runs/how2sign256 ...   at 128 or 256 pixels, for an accelerator
"""

from signer_jax.configuration import shipped
from signer_jax.errors import SignerError


def get_config(pixels="64"):
    if pixels not in ("64", "128", "256"):
        raise SignerError(f"--config how2sign_clips:{pixels}: give 64, 128 or 256 pixels behind the colon")
    c = shipped("default")
    c.stages = ("vae", "images", "renderer")
    c.data.corpus = "how2sign_clips"
    c.data.size = (int(pixels), int(pixels))
    c.data.fps = 0.0  # as filmed, 24
    c.train.vae.optimizer, c.train.vae.learning_rate = "adamw", 1e-7  # it starts nearly lossless
    c.train.vae.steps, c.train.vae.warmup = 10, 1
    c.train.images.steps, c.train.images.warmup = 4500, 225
    c.train.renderer.steps, c.train.renderer.warmup = 450, 22
    c.renderer.steps = 2  # the best SSIM; 3 have .7 of the truth's sharpness and .008 less
    c.evaluate.videos = 1000  # every held-out clip
    if pixels != "64":
        # Both have 64x64 latents, in which 2x2 or 4x4 pixels lose nothing.
        c.renderer.stem_features = (128, 192, 256)
        c.renderer.dim, c.renderer.ffn_dim, c.renderer.layers = 256, 512, 4
        c.renderer.control_size = 256
        c.renderer.shift = 1.0  # the same noise hides less of a larger picture
        c.renderer.steps = 4
        c.train.images.batch, c.train.renderer.batch = 32, 12
        c.train.images.steps, c.train.images.warmup = 8000, 400
        c.train.renderer.steps, c.train.renderer.warmup = 1200, 60
        c.dtype = "bfloat16"
        c.data.read_threads = 8
    if pixels == "256":
        c.vae.patch_size, c.vae.z_dim, c.vae.base_dim = 4, 48, 98
    return c
