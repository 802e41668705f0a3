"""What the tests of training share: a stage's values, as the default config has them but for what a test changes."""

from dataclasses import replace

from signer_jax import configuration
from signer_jax.training.loop import Stage
from signer_jax.validation import read

DEFAULT = read(configuration.load("default"))
OPTIMIZERS, LORA = DEFAULT.optimizers, DEFAULT.lora


def training(**changes):
    """AdamW at 1e-2 with a warm-up of one step, six steps of eight examples."""
    values = {"steps": 6, "batch": 8, "optimizer": "adamw", "learning_rate": 1e-2, "warmup": 1}
    return replace(DEFAULT.train.pose, **(values | changes))


def stage(
    objective, parts=("part",), *, name="part", lora=LORA, nonfinite_steps=1, offload_optimizer=False, **changes
) -> Stage:
    made = Stage(name, objective, parts, training(**changes), OPTIMIZERS, lora, nonfinite_steps)
    return replace(made, offload_optimizer=offload_optimizer)
