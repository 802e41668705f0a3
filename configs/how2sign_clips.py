"""Autoencoder and renderer on real How2Sign clips with MediaPipe poses, at 64 pixels; no text.

signer train --config configs/how2sign_clips.py --workdir runs/how2sign --config.data.source=FOLDER
"""

from signer_jax.configuration import shipped


def get_config():
    c = shipped("default")
    c.stages = ("vae", "renderer")
    c.data.corpus = "how2sign_clips"
    c.data.fps = 0.0  # as filmed, 24
    c.renderer.stride = 2
    c.train.vae.steps = 200
    c.train.vae.learning_rate = 1e-4
    c.train.renderer.steps = 900
    c.train.renderer.warmup = 18
    c.evaluate.videos = 1000  # every window of the held-out clips
    return c
