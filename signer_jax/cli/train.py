"""`signer train`: every stage of a config, resuming by itself."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from signer_jax.cli.common import command, figures, say_overrides
from signer_jax.errors import SignerError, one_line


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
    parser.add_argument(
        "--profile", type=int, default=0, metavar="STEPS",
        help="trace so many steps of each stage, after its tenth, for TensorBoard's Profile tab",
    )  # fmt: skip
    say_overrides(parser)


def run(arguments: argparse.Namespace) -> None:
    from signer_jax import configuration, distributed
    from signer_jax.validation import read

    if arguments.profile < 0:
        raise SignerError(f"--profile {arguments.profile}: give how many steps are to be traced, 3 for example")
    config = configuration.load(arguments.config, arguments.overrides)
    read(config)  # what is wrong with it is told before this process waits for the others
    distributed.start()
    with distributed.failing_at_once():
        finish(config, Path(arguments.workdir), profile=arguments.profile)


def finish(config: Any, workdir: Path, then: Callable[..., None] | None = None, profile: int = 0) -> None:
    """Trains, evaluates on `config.evaluate.split` and writes `result.json`; `then` shows it (signer, evaluation, …).

    The workdir is held from the first to the last file that is written there. Raises `Preempted` where SIGTERM came.
    """
    from functools import partial

    import jax

    from signer_jax import result as results
    from signer_jax.distributed import wait_for_all
    from signer_jax.evaluation import Evaluation, evaluate
    from signer_jax.opened import along
    from signer_jax.pipeline import Signer
    from signer_jax.samples import Samples
    from signer_jax.scores import chosen, gloss_score
    from signer_jax.showcase import log_samples
    from signer_jax.training import run as training
    from signer_jax.training.monitoring import Monitor
    from signer_jax.training.partitioning import here
    from signer_jax.training.preemption import watched
    from signer_jax.validation import read
    from signer_jax.workdir import Clock

    settings = read(config)
    with watched() as notice, training.claimed(settings, workdir):
        show = Samples(settings, workdir, settings.evaluate.split or "dev") if settings.samples_every else None
        scored = partial(gloss_score, settings, workdir)
        model, params = training.train(settings, workdir, notice, profile, show, scored)
        mesh = training.mesh_of(settings)
        reached, target = results.reached(params), workdir / "result.json"
        first = jax.process_index() == 0
        reached |= chosen(settings, workdir) if first else {}
        # What was trained stands before what one process alone may have no room for.
        if first and not results.is_there(target, reached, ("params_sha256",)):
            results.write(target, results.build(settings, reached, workdir, {}, {}, "", mesh.shape))
        split, evaluation = settings.evaluate.split, Evaluation()
        if split or then:
            params = here(params, mesh, along=along(settings))
        if first:
            signer = Signer(settings, workdir, model, params)
            if split:
                with Clock(workdir, "evaluate"):
                    evaluation = evaluate(signer, split)
            result = results.build(settings, reached, workdir, evaluation.metrics, evaluation.facts, split, mesh.shape)
            # Beside the curves: `dev/gloss/bleu4`, …; before the result, which says that they are there.
            if split and not results.is_there(target, result):
                monitor = Monitor(workdir / "tensorboard")
                monitor.scalars(split, result["step"], evaluation.metrics)
                log_samples(evaluation, result["step"], monitor, signer.fps)
            results.write(target, result)
            print(figures(evaluation.metrics, split))
            if "gloss/selected_on" in evaluation.facts:
                print(one_line(f"gloss/selected_on: {evaluation.facts['gloss/selected_on']}"))
            if then:
                then(signer, evaluation, result, workdir)
        wait_for_all("finished")
