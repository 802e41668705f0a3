"""`signer train`: every stage of a config, resuming by itself."""

import argparse
from pathlib import Path
from typing import Any

from signer_jax.cli.common import command, metric_rows, say_overrides, table


def add(commands: Any) -> None:
    parser = command(
        commands, "train", "Train a config; resumes by itself where the folder has a checkpoint.",
        "signer train --config configs/phoenix14t.py --workdir runs/phoenix --config.data.source=DIR", run,
    )  # fmt: skip
    parser.add_argument(
        "--config", required=True,
        help="a config file, or the name of a shipped one; FILE.py:VARIANT calls its get_config(VARIANT)",
    )  # fmt: skip
    parser.add_argument("--workdir", required=True, help="where the run lives")
    say_overrides(parser)


def run(arguments: argparse.Namespace) -> None:
    from signer_jax import configuration, distributed

    distributed.start()
    with distributed.failing_at_once():
        config = configuration.load(arguments.config, arguments.overrides)
        finish(config, Path(arguments.workdir))


def finish(config: Any, workdir: Path) -> Any:
    """Trains, evaluates on `config.evaluate.split` and writes `result.json`; returns (result, evaluation, signer)."""
    import jax

    from signer_jax import result as results
    from signer_jax.distributed import wait_for_all
    from signer_jax.evaluation import Evaluation, evaluate
    from signer_jax.pipeline import Signer
    from signer_jax.training import run as training

    model, params = training.train(config, workdir)
    signer, result, evaluation = None, None, Evaluation()
    if jax.process_index() == 0:
        if config.evaluate.split:
            signer = Signer(config, workdir, model, params)
            with training.Clock(workdir, "evaluate"):
                evaluation = evaluate(signer, config.evaluate.split)
        result = results.build(config, params, workdir, evaluation.metrics, evaluation.facts, config.evaluate.split)
        results.write(workdir / "result.json", result)
        print(table(metric_rows(evaluation.metrics), (f"metric ({config.evaluate.split or 'not evaluated'})", "value")))
    wait_for_all("finished")
    return result, evaluation, signer
