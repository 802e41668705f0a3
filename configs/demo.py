"""The demo: the whole chain on the built-in corpus, in about ten minutes on two CPU cores.

signer demo                   or    signer train --config configs/demo.py --workdir runs/demo
signer train --config demo:8 --workdir runs/demo8    on eight devices, which share a batch: batches of their multiples

Expected on two cores: the table in the README.
"""

from signer_jax.configuration import shipped
from signer_jax.errors import SignerError


def get_config(devices="1"):
    if not devices.isdecimal() or not int(devices):
        raise SignerError(f"--config demo:{devices}: give a number of devices behind the colon, demo:8 for example")
    c = shipped("default")
    c.data.poses.train = 2000
    c.data.poses.dev = 120
    c.data.videos.train = 60
    c.data.read_threads = 1  # stitching is Python: two threads wait for each other, .3 s of CPU a batch in place of .1
    for stage, steps in (
        ("slul", 900), ("pose", 450), ("vae", 4), ("images", 820), ("renderer", 270), ("joint", 4),
        ("back_translation", 2000),  # `signer back-translate`
    ):  # fmt: skip
        c.train[stage].steps = steps
        c.train[stage].warmup = max(1, steps // 20)
        c.train[stage].batch = -(-c.train[stage].batch // int(devices)) * int(devices)
    # With Muon, in so few steps, a straight line to zero goes further than a cosine.
    for stage in ("slul", "images", "renderer", "back_translation"):
        c.train[stage].schedule = "linear"
    c.renderer.solver, c.renderer.steps = "dpm++", 8  # what Euler's 16 steps give, in half the time
    c.renderer.temperature = 0.8  # less speckle; the hands keep seven tenths of the truth's sharpness
    # So small a SLUL keeps little of a text but what its glosses ask for. Gates on the mean of its features find fewer
    # signers than counts of the words do; on the mean of a layer over each token, at a rate of their own, more.
    c.pose.pool_hidden = 256
    c.train.pose.rates = ("^slp_moe/(pool|gates)/=8",)
    # So few steps must not spoil the principal components it starts from: at 2e-6 they already tell the frames of a
    # window apart by their place, which flickers by half a grey level.
    c.train.vae.optimizer, c.train.vae.learning_rate = "adamw", 1e-7
    c.evaluate.poses, c.evaluate.videos = 120, 8  # every dev sentence with a pose; beside the clips the guest's two
    return c
