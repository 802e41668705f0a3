"""Wan 2.1 T2V 1.3B, frozen, with ControlNeXt's branch beside it.

signer import wan Wan2.1-T2V-1.3B-Diffusers --out weights/t2v
signer train --config wan_t2v_1_3b --workdir runs/t2v --config.renderer.init=weights/t2v \\
    --config.vae.init=weights/t2v/vae --config.renderer.text_encoder=weights/t2v
"""

from signer_jax.configuration import shipped


def get_config():
    return shipped("wan", "wan2.1-t2v-1.3b")
