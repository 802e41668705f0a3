"""`signer evaluate`: a run's figures on a split."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signer_jax.cli.common import SCORES, command, distinct, figures, judgement, output_folder
from signer_jax.cli.prepare import ESTIMATORS
from signer_jax.errors import SignerError, one_line

if TYPE_CHECKING:
    from signer_jax.data.estimators.opening import Estimator
    from signer_jax.evaluation.figures import Evaluation


def add(commands: Any) -> None:
    parser = command(
        commands, "evaluate", "Print a run's figures on a split, beside the baselines.",
        "signer evaluate --workdir runs/demo --split dev --json figures.json", run,
    )  # fmt: skip
    parser.add_argument("--workdir", required=True, help="a trained run")
    parser.add_argument("--split", default="dev", help="a split of its corpus (dev)")
    parser.add_argument("--json", help="write what the table prints to this file")
    parser.add_argument(
        "--back-translation", metavar="DIR",
        help="also read the run's poses back into text by the model of `signer back-translate` in this folder",
    )  # fmt: skip
    parser.add_argument(
        "--poses", choices=ESTIMATORS, help="with --back-translation, read the run's videos too: by this pose estimator"
    )
    parser.add_argument("--pose-weights", metavar="DIR", help="the estimator's files, as for `signer prepare`")
    parser.add_argument(
        "--out", metavar="DIR",
        help="also write the split's poses and videos, the truth's and the run's, as files for signer score and study",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from signer_jax import result as results
    from signer_jax import storage
    from signer_jax.back_translation.translator import BackTranslator
    from signer_jax.evaluation import evaluate, from_texts, outputs
    from signer_jax.evaluation.back_translation import check, evaluate_back_translation
    from signer_jax.opened import along
    from signer_jax.pipeline import Signer
    from signer_jax.scores import chosen
    from signer_jax.training.partitioning import own_mesh

    target = output_folder(arguments.json, "--json") if arguments.json else None
    distinct({"--workdir": arguments.workdir}, {"--json": arguments.json, "--out": arguments.out})
    if arguments.out is not None:
        storage.check_outside(arguments.out, f"--out {arguments.out}")
        storage.check_replaceable(arguments.out, outputs.KIND)
    estimator, translator = _estimator(arguments), None
    if arguments.back_translation is not None:
        translator = BackTranslator.open(arguments.back_translation)
    signer = Signer.load(arguments.workdir)
    c = signer.settings  # what its parameters lie on here, whatever it trained on
    mesh = own_mesh(asdict(c.mesh), along=along(c)).shape
    if translator is not None:
        check(signer, translator, arguments.split)
    evaluation = evaluate(signer, arguments.split)
    reached = results.reached(signer.params) | chosen(c, signer.workdir)

    def keep() -> None:
        if target:
            results.write(target, results.build(
                c, reached, Path(arguments.workdir), evaluation.metrics, evaluation.facts, arguments.split, mesh,
            ))  # fmt: skip

    keep()
    try:
        signed = from_texts(signer, arguments.split, evaluation)
        keep()
        if translator is not None:
            evaluate_back_translation(signer, translator, arguments.split, evaluation, estimator)
    finally:  # whatever ends the videos of texts or a back translation, which may take hours: what there is, is kept
        keep()
        _say(evaluation, arguments.split)
    if arguments.out is not None:
        written = outputs.write_outputs(signer, signed, Path(arguments.out))
        for line in written or [f"{arguments.out}: empty, since {arguments.split} has nothing that this run makes"]:
            print(one_line(line))


def _say(evaluation: "Evaluation", split: str) -> None:
    from signer_jax.evaluation.back_translation import POSES, VIDEOS

    tables = [folder for folder in (POSES, VIDEOS) if f"{folder}/bleu4_truth" in evaluation.metrics]
    read_back = tuple(f"{folder}/{score}" for folder in tables for score in SCORES)
    own = {name: value for name, value in evaluation.metrics.items() if not name.startswith(read_back)}
    print(figures(own, split))
    for folder in tables:
        print(f"\n{judgement(evaluation.metrics, split, folder)}\n")
    for name, value in sorted(evaluation.facts.items()):
        print(one_line(f"{name}: {value}"))


def _estimator(arguments: argparse.Namespace) -> "Estimator | None":
    """The pose estimator that is asked for. Raises `SignerError` where it is asked for in vain."""
    from signer_jax.data.estimators import opening

    if arguments.poses is None and arguments.pose_weights is None:
        return None
    if arguments.back_translation is None:
        raise SignerError("--poses and --pose-weights are of --back-translation, which is not given; give it, or none")
    if arguments.poses is None or arguments.pose_weights is None:
        lacking = "--poses" if arguments.poses is None else "--pose-weights"
        raise SignerError(f"{lacking} is not given: an estimator is named by --poses and --pose-weights; give both")
    return opening.opened(arguments.poses, Path(arguments.pose_weights))
