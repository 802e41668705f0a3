"""Wan 2.2 TI2V 5B, frozen, with ControlNeXt's branch beside it; its autoencoder has 16 pixels a side of a latent.

signer import wan Wan2.2-TI2V-5B-Diffusers --out weights/ti2v
signer train --config wan_ti2v_5b --workdir runs/ti2v --config.renderer.init=weights/ti2v \\
    --config.vae.init=weights/ti2v/vae --config.renderer.text_encoder=weights/ti2v
"""

from signer_jax.configuration import shipped


def get_config():
    return shipped("wan", "wan2.2-ti2v-5b")
