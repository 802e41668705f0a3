"""Stage 1 (paper): a published Wan on captioned videos of anything (OpenVidHD), whose weights go on with sign video.

signer train --config wan_general --workdir runs/general --config.data.source=FOLDER \\
    --config.renderer.init=weights/t2v --config.vae.init=weights/t2v/vae --config.renderer.text_encoder=weights/t2v
signer export wan runs/general --out weights/general
signer train --config wan_t2v_1_3b --workdir runs/t2v --config.renderer.init=weights/general \\
    --config.vae.init=weights/general/vae --config.renderer.text_encoder=weights/t2v

`wan_general:VARIANT` is another published model's.
"""

from signer_jax.configuration import shipped
from signer_jax.renderer.variants import find


def get_config(variant="wan2.1-t2v-1.3b"):
    c = shipped("wan", variant)
    c.stages = ("renderer",)
    c.data.corpus = "openvid"
    # No pose is there: the control begins with sign video. A model that takes poses itself trains by adapters, which
    # leave what reads them as it is.
    c.renderer.control = "none"
    c.renderer.dropout_each.face = 1.0
    # A video; its own first frame is shown where the model is shown one, and of a model with the picture in front the
    # frame of these that is farthest from the window, or none where all lie within it.
    c.renderer.references = 4 if find(variant).front else 1
    c.train.renderer.trains = ("full",) if find(variant).pose == "branch" else ("lora",)
    # Of attention not the face branch's, which is in every layer's group.
    c.lora.targets = ("(self|cross)_attention/(query|key|value|out)/kernel$", "/(wi|wi_0|wi_1|wo)/kernel$")
    c.train.renderer.optimizer, c.train.renderer.learning_rate = "adamw", 1e-5
    c.evaluate.split = ""  # a clip is scored by its pose
    return c
