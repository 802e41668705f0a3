"""Wan 2.2 T2V A14B: adapters in both experts, and ControlNeXt's branch beside them.

signer import wan Wan2.2-T2V-A14B-Diffusers --out weights/a14b
signer train --config wan_a14b --workdir runs/a14b --config.renderer.init=weights/a14b \\
    --config.vae.init=weights/a14b/vae --config.renderer.text_encoder=weights/a14b
"""

from signer_jax.configuration import shipped


def get_config():
    c = shipped("wan", "wan2.2-t2v-a14b")
    c.train.renderer.trains = ("lora", "branch")
    c.train.joint.trains = (*c.train.joint.trains, "lora")
    c.lora.rank, c.lora.alpha = 32, 32.0
    return c
