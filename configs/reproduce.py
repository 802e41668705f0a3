"""The paper's tables and figures on the built-in corpus: the demo's chain, so many times as its rows and seeds ask for.

signer reproduce all --workdir runs/paper           (this is its config by default; --seeds 3)

1 hour 52 minutes on two CPU cores beside other work, without `losses`. docs/reproduction.md has what came of it.
"""

from signer_jax.configuration import shipped


def get_config():
    c = shipped("demo")
    for stage, steps in (
        ("slul", 600), ("pose", 300), ("images", 500), ("renderer", 180), ("back_translation", 1600),
        ("progressive", 1200),
    ):  # fmt: skip
        c.train[stage].steps = steps
        c.train[stage].warmup = max(1, steps // 20)
    c.train.progressive.schedule = "linear"
    c.evaluate.sentences, c.evaluate.poses, c.evaluate.videos = 120, 120, 8
    c.evaluate.noise = 0.2
    return c
