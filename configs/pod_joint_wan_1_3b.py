"""The whole chain end to end with Wan 2.1 T2V 1.3B, which learns in full in the joint stage, for a v6e:4x4.

signer plan --config pod_joint_wan_1_3b --topology v6e:4x4 --stage joint
signer import wan Wan2.1-T2V-1.3B-Diffusers --out weights/t2v
signer train --config pod_joint_wan_1_3b --workdir runs/joint --config.renderer.init=weights/t2v \\
    --config.vae.init=weights/t2v/vae --config.renderer.text_encoder=weights/t2v
"""

from ml_collections import config_dict

from signer_jax.configuration import shipped


def get_config():
    c = shipped("wan_t2v_1_3b")
    c.stages = ("slul", "pose", "renderer", "joint")
    c.renderer.text_encoder = config_dict.placeholder(str)
    # The gradient reaches the pose through the control picture, which at 480 rows takes more than the transformer does.
    c.renderer.control_size = 240
    c.train.slul.batch = c.train.pose.batch = 64
    c.train.renderer.batch = c.train.joint.batch = 16  # a clip a chip
    c.train.joint.optimizer, c.train.joint.learning_rate = "adamw", 1e-5
    c.train.joint.trains = ("full",)
    return c
