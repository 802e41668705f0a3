"""Wan 2.1 T2V 14B in full, with ControlNeXt's branch beside it, for a v5p:4x4x4: clips of 81 frames of 480x832, or with
`pod_wan_14b:720p` of 720x1280.

signer plan --config pod_wan_14b --topology v5p:4x4x4 --stage renderer
signer import wan Wan2.1-T2V-14B-Diffusers --out weights/t2v
signer train --config pod_wan_14b --workdir runs/t2v --config.renderer.init=weights/t2v \\
    --config.vae.init=weights/t2v/vae --config.renderer.text_encoder=weights/t2v
"""

from ml_collections import config_dict

from signer_jax.configuration import shipped
from signer_jax.errors import SignerError


def get_config(size="480p"):
    c = shipped("wan_t2v_14b")
    if size == "720p":
        c.data.size = (720, 1280)
        c.renderer.control_size = 720
    elif size != "480p":
        raise SignerError(f"--config pod_wan_14b:{size}: give 480p or 720p behind the colon")
    c.renderer.text_encoder = config_dict.placeholder(str)
    c.train.slul.batch = c.train.pose.batch = 64
    c.train.renderer.trains = ("full",)
    c.train.renderer.batch = 64  # a clip a chip
    c.train.renderer.optimizer, c.train.renderer.learning_rate = "adamw", 1e-5
    return c
