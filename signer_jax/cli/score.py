"""`signer score`: two files of the same kind, compared."""

import argparse
import json
from pathlib import Path
from typing import Any

from signer_jax.cli.common import command, metric_rows, output_folder, table
from signer_jax.errors import SignerError
from signer_jax.storage import write_file


def add(commands: Any) -> None:
    parser = command(
        commands, "score", "Compare a hypothesis with a reference: text (a line a sentence), .pose or .mp4.",
        "signer score text --ref true.gloss --hyp predicted.gloss", run,
    )  # fmt: skip
    parser.add_argument("kind", choices=("text", "pose", "video"))
    parser.add_argument("--ref", required=True, help="the reference")
    parser.add_argument("--hyp", required=True, help="the hypothesis")
    parser.add_argument("--json", help="write what the table prints to this file")


def run(arguments: argparse.Namespace) -> None:
    target = output_folder(arguments.json, "--json") if arguments.json else None
    score = {"text": score_text, "pose": score_pose, "video": score_video}[arguments.kind]
    metrics, facts = score(Path(arguments.ref), Path(arguments.hyp))
    if target:
        write_file(target, json.dumps({"metrics": metrics, "facts": facts}, indent=1) + "\n")
    print(table(metric_rows(metrics), (f"metric ({arguments.kind})", "value")))
    for name, value in facts.items():
        print(f"{name}: {value}")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SignerError(f"{path}: {error.strerror}; give a text file with a sentence a line") from None


def score_text(reference: Path, hypothesis: Path) -> tuple[dict[str, float], dict[str, str]]:
    from signer_jax.metrics import text

    hypotheses, references = _lines(hypothesis), _lines(reference)
    bleu = text.bleu(hypotheses, references)
    signature = str(bleu.pop("signature"))
    metrics = {name: float(value) for name, value in bleu.items()}
    metrics |= {
        "rouge": text.rouge_l(hypotheses, references),
        "wer": text.word_error_rate(hypotheses, references),
        "exact": text.exact_match(hypotheses, references),
    }
    return metrics, {"bleu_signature": signature}


def score_pose(reference: Path, hypothesis: Path) -> tuple[dict[str, float], dict[str, str]]:
    from signer_jax.metrics import pose
    from signer_jax.pose import skeleton, warping
    from signer_jax.pose.formats import pose_file

    theirs, _, _ = skeleton.normalise(pose_file.read(reference))
    ours, _, _ = skeleton.normalise(pose_file.read(hypothesis))
    weights = warping.joint_weights(skeleton.JOINTS, warping.HAND_WEIGHT)
    return {
        "dtw": warping.dtw(ours, theirs),
        "dtw_hand_weighted": warping.dtw(ours, theirs, weights=weights),
        "jerk": pose.jerk(ours),
        "jerk_reference": pose.jerk(theirs),
    }, {"unit": "shoulder widths (a frame of the reference); jerk in shoulder widths / s^3"}


def score_video(reference: Path, hypothesis: Path) -> tuple[dict[str, float], dict[str, str]]:
    from signer_jax.data import video as videos
    from signer_jax.metrics import video

    theirs, _ = videos.read(reference)
    ours, _ = videos.read(hypothesis)
    frames = min(len(theirs), len(ours))
    if theirs.shape[1:] != ours.shape[1:]:
        raise SignerError(
            f"{hypothesis}: is {ours.shape[2]}x{ours.shape[1]}, the reference "
            f"{theirs.shape[2]}x{theirs.shape[1]}; resize one"
        )
    metrics = {"ssim": float(video.ssim(ours[:frames], theirs[:frames]).mean()), "frames": float(frames)}
    return metrics, {"note": f"{abs(len(theirs) - len(ours))} frames beyond the shorter video were not compared"}
