"""`signer demo`: the whole chain, small, on the built-in corpus; ends with a table, a video and a report."""

import argparse
from pathlib import Path
from typing import Any

from signer_jax.cli.common import command, say_overrides
from signer_jax.errors import SignerError
from signer_jax.mirror_places import shown


def add(commands: Any) -> None:
    parser = command(
        commands, "demo", "Train, evaluate and show the whole chain on the built-in corpus.",
        "signer demo --workdir runs/demo", run,
    )  # fmt: skip
    parser.add_argument("--workdir", default="runs/demo", help="where the run lives (runs/demo)")
    parser.set_defaults(config="demo")
    say_overrides(parser)
    parser.add_argument("--steps", type=int, help="optimizer steps in all, shared among the stages as by default")


def run(arguments: argparse.Namespace) -> None:
    from signer_jax import configuration
    from signer_jax.cli.train import finish
    from signer_jax.showcase import show

    config = configuration.load(arguments.config, arguments.overrides)
    if arguments.steps is not None:
        share_steps(config, arguments.steps)
    workdir = Path(arguments.workdir)
    finish(config, workdir, show)
    made = {"video": "sign.mp4", "report": "report.html", "figures": "result.json"}
    there = [f"{what}: {workdir / name}" for what, name in made.items() if (workdir / name).exists()]
    print(shown("\n" + "   ".join(there)))


def share_steps(config: Any, total: int) -> None:
    """Scales every stage's steps so that they add up to about `total`."""
    if total < len(config.stages):
        raise SignerError(f"--steps {total}: give at least {len(config.stages)}, one a stage")
    default = sum(config.train[stage].steps for stage in config.stages)
    for stage in config.stages:
        c = config.train[stage]
        c.steps = max(1, round(c.steps * total / default))
        c.warmup = max(1, c.steps // 20)
