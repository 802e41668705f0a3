"""`signer evaluate`: a run's figures on a split."""

import argparse
from pathlib import Path
from typing import Any

from signer_jax.cli.common import command, distinct, figures, output_folder
from signer_jax.errors import one_line


def add(commands: Any) -> None:
    parser = command(
        commands, "evaluate", "Print a run's figures on a split, beside the baselines.",
        "signer evaluate --workdir runs/demo --split dev --json figures.json", run,
    )  # fmt: skip
    parser.add_argument("--workdir", required=True, help="a trained run")
    parser.add_argument("--split", default="dev", help="a split of its corpus (dev)")
    parser.add_argument("--json", help="write what the table prints to this file")


def run(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from signer_jax import result as results
    from signer_jax.evaluation import evaluate
    from signer_jax.opened import along
    from signer_jax.pipeline import Signer
    from signer_jax.scores import chosen
    from signer_jax.training.partitioning import own_mesh

    target = output_folder(arguments.json, "--json") if arguments.json else None
    distinct({"--workdir": arguments.workdir}, {"--json": arguments.json})
    signer = Signer.load(arguments.workdir)
    c = signer.settings  # what its parameters lie on here, whatever it trained on
    mesh = own_mesh(asdict(c.mesh), along=along(c)).shape
    evaluation = evaluate(signer, arguments.split)
    result = results.build(
        signer.settings, results.reached(signer.params) | chosen(c, signer.workdir), Path(arguments.workdir),
        evaluation.metrics, evaluation.facts, arguments.split, mesh,
    )  # fmt: skip
    if target:
        results.write(target, result)
    print(figures(evaluation.metrics, arguments.split))
    for name, value in sorted(evaluation.facts.items()):
        print(one_line(f"{name}: {value}"))
