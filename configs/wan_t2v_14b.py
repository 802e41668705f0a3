"""Wan 2.1 T2V 14B: adapters in the transformer, and ControlNeXt's branch beside it.

signer import wan Wan2.1-T2V-14B-Diffusers --out weights/t2v
signer train --config wan_t2v_14b --workdir runs/t2v --config.renderer.init=weights/t2v \\
    --config.vae.init=weights/t2v/vae --config.renderer.text_encoder=weights/t2v
"""

from signer_jax.configuration import shipped


def get_config():
    c = shipped("wan", "wan2.1-t2v-14b")
    c.train.renderer.trains = ("lora", "branch")
    c.train.joint.trains = (*c.train.joint.trains, "lora")
    c.lora.rank, c.lora.alpha = 32, 32.0
    return c
