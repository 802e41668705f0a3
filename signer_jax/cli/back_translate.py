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
    from signer_jax import result as results
    from signer_jax.back_translation import training
    from signer_jax.back_translation.translator import BackTranslator
    from signer_jax.data.prepared.reading import opened
    from signer_jax.evaluation.back_translation import POSES, evaluate_truth
    from signer_jax.evaluation.figures import Evaluation
    from signer_jax.training.preemption import watched
    from signer_jax.validation import read

    settings = training.alone(read(configuration.load(arguments.config, arguments.overrides)))
    workdir, split, result = Path(arguments.workdir), settings.evaluate.split, Evaluation()
    with watched() as notice, training.claimed(settings, workdir):
        training.train(settings, workdir, notice)
        if not split:
            print("back/poses: not scored: config.evaluate.split is empty")
            return
        translator = BackTranslator.open(workdir)
        evaluate_truth(translator, opened(workdir / "data"), split, settings.evaluate.poses, result)
        reached = results.reached(translator.params)
        made = results.build(settings, reached, workdir, result.metrics, result.facts, split, training.shape())
        results.write(workdir / "result.json", made)
    if f"{POSES}/sentences" in result.metrics:
        print(judgement(result.metrics, split))
    for name, value in sorted(result.facts.items()):
        print(one_line(f"{name}: {value}"))
