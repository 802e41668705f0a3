"""`signer back-translate`: trains what judges runs, a sign-to-text model; resuming by itself."""

import argparse
from pathlib import Path
from typing import Any

from signer_jax.cli.common import command, judgement, say_overrides
from signer_jax.errors import one_line


def add(commands: Any) -> None:
    parser = command(
        commands, "back-translate",
        "Train a sign-to-text model on true poses, by which `signer evaluate --back-translation` judges runs.",
        "signer back-translate --config demo --workdir runs/reader\n"
        "         signer evaluate --workdir runs/demo --back-translation runs/reader", run,
    )  # fmt: skip
    parser.add_argument(
        "--config", required=True,
        help="the config of the runs that it is to judge, for their corpus; its own values are config.back_translation "
        "and config.train.back_translation",
    )  # fmt: skip
    parser.add_argument("--workdir", required=True, help="a folder of its own, no run's")
    say_overrides(parser)


def run(arguments: argparse.Namespace) -> None:
    from signer_jax import configuration
    from signer_jax.back_translation import training
    from signer_jax.back_translation.translator import BackTranslator
    from signer_jax.data.prepared.reading import opened
    from signer_jax.evaluation.back_translation import evaluate_truth
    from signer_jax.evaluation.figures import Evaluation
    from signer_jax.training.preemption import watched
    from signer_jax.validation import read

    settings = training.alone(read(configuration.load(arguments.config, arguments.overrides)))
    workdir = Path(arguments.workdir)
    with watched() as notice, training.claimed(settings, workdir):
        training.train(settings, workdir, notice)
    result, split = Evaluation(), settings.evaluate.split
    if split:
        corpus = opened(workdir / "data")
        evaluate_truth(BackTranslator.open(workdir), corpus, split, settings.evaluate.poses, result)
        print(judgement(result.metrics, split))
        for name, value in sorted(result.facts.items()):
            print(one_line(f"{name}: {value}"))
