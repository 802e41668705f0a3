"""What the configs of published Wan models share; `wan:VARIANT` is a config for a variant that has none of its own.

signer import wan Wan2.1-I2V-14B-480P-Diffusers --out weights/i2v
signer train --config wan:wan2.1-i2v-14b --workdir runs/i2v --config.renderer.init=weights/i2v \\
    --config.vae.init=weights/i2v/vae --config.renderer.text_encoder=weights/i2v \\
    --config.renderer.image_encoder=weights/i2v
"""

from ml_collections import config_dict

from signer_jax.configuration import shipped
from signer_jax.renderer.variants import find


def get_config(variant="wan2.1-t2v-1.3b"):
    c = shipped("default")
    c.stages = ("slul", "pose", "renderer")
    c.data.size = (480, 832)
    c.data.fps = find(variant).fps or c.data.fps
    c.vae.init = config_dict.placeholder(str)
    c.renderer.variant = variant
    c.renderer.init = config_dict.placeholder(str)
    c.renderer.stem_features = ()
    c.renderer.window = 0  # the variant's frames
    # Blended at every step where the windows of a longer video meet; who goes on from the last frames has its own.
    c.renderer.overlap = 0 if find(variant).continues else 16
    c.renderer.stride = 40
    c.renderer.references = 32
    if "mask" in find(variant).streams and find(variant).pose != "channels":
        c.renderer.reference_dropout = 0.0  # published image models have never been without a picture
    c.renderer.control = "branch" if find(variant).pose == "branch" else "variant"  # which sees the pose by itself
    c.renderer.control_size = 480
    c.renderer.control_fold = (find(variant).spatial_ratio or 8) // 8  # TI2V's latents are of 16 pixels a side
    c.renderer.control_channels = (64, 128, 256, 512)  # 1.0 % of the 1.3B model
    c.renderer.shift = 0.0  # the variant's at this size
    c.renderer.noise_share = 0.0  # published models were trained on all levels alike
    c.renderer.velocity_floor = 0.0
    c.renderer.shared_noise = False  # they know white noise alone
    c.renderer.solver, c.renderer.steps = "unipc", 30
    c.renderer.guidance_each.text, c.renderer.dropout_each.text = find(variant).guidance, 0.1
    c.renderer.guidance_low_noise = find(variant).guidance_low or 0.0
    # Where there is no branch to train: adapters, and what reads SLUL's features.
    c.train.renderer.trains = ("branch",) if find(variant).pose == "branch" else ("lora", "semantics")
    c.train.renderer.optimizer, c.train.renderer.learning_rate = "adamw", 1e-4
    c.train.renderer.steps, c.train.renderer.warmup, c.train.renderer.batch = 4000, 100, 8
    c.train.renderer.frozen_dtype = "bfloat16"
    c.train.renderer.ema = 0.999
    # For who adds it to the stages: the chain before the video model in full, and in this what its own stage trains.
    c.train.joint.trains = ("^slul/", "^slp_moe/", "^stabiliser/", "branch")
    c.train.joint.batch = 8
    c.train.joint.frozen_dtype = "bfloat16"
    c.dtype = "bfloat16"
    c.remat = "attention"
    c.mesh.data, c.mesh.fsdp = 1, -1
    c.evaluate.videos = 4
    return c
