"""Wan 2.2 TI2V 5B in full, with ControlNeXt's branch beside it, for a v6e:8x8.

signer plan --config pod_ti2v_5b --topology v6e:8x8 --stage renderer
signer import wan Wan2.2-TI2V-5B-Diffusers --out weights/ti2v
signer train --config pod_ti2v_5b --workdir runs/ti2v --config.renderer.init=weights/ti2v \\
    --config.vae.init=weights/ti2v/vae --config.renderer.text_encoder=weights/ti2v
"""

from ml_collections import config_dict

from signer_jax.configuration import shipped


def get_config():
    c = shipped("wan_ti2v_5b")
    c.renderer.text_encoder = config_dict.placeholder(str)
    c.train.slul.batch = c.train.pose.batch = 64
    c.train.renderer.trains = ("full",)
    c.train.renderer.batch = 64  # a clip a chip
    c.train.renderer.optimizer, c.train.renderer.learning_rate = "adamw", 1e-5
    return c
