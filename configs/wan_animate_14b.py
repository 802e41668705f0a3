"""Wan 2.2 Animate 14B, which sees the pose by itself: adapters in the transformer, and SLUL's features.

signer import wan Wan2.2-Animate-14B-Diffusers --out weights/animate
signer train --config wan_animate_14b --workdir runs/animate --config.renderer.init=weights/animate \\
    --config.vae.init=weights/animate/vae --config.renderer.text_encoder=weights/animate \\
    --config.renderer.image_encoder=weights/animate
"""

from signer_jax.configuration import shipped


def get_config():
    c = shipped("wan", "wan2.2-animate-14b")
    c.renderer.control = "variant"  # pose tokens
    c.train.renderer.trains = ("lora", "semantics")
    c.train.joint.trains = ("^slul/", "^slp_moe/", "^stabiliser/", "lora", "semantics")
    c.lora.rank, c.lora.alpha = 32, 32.0
    return c
