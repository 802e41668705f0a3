"""Autoencoder and renderer on real How2Sign clips with MediaPipe poses, at 64 pixels; no text.

signer train --config configs/how2sign_clips.py --workdir runs/how2sign --config.data.source=FOLDER
"""

from signer_jax.configuration import shipped


def get_config():
    c = shipped("default")
    c.stages = ("vae", "images", "renderer")
    c.data.corpus = "how2sign_clips"
    c.data.fps = 0.0  # as filmed, 24
    c.train.vae.optimizer, c.train.vae.learning_rate = "adamw", 1e-7  # it starts nearly lossless
    c.train.vae.steps, c.train.vae.warmup = 10, 1
    c.train.images.steps, c.train.images.warmup = 4500, 225
    c.train.renderer.steps, c.train.renderer.warmup = 450, 22
    c.renderer.steps = 2  # the best SSIM; 3 have .7 of the truth's sharpness and .008 less
    c.evaluate.videos = 1000  # every held-out clip
    return c
