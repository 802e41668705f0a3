"""`signer score`: two files of the same kind, compared."""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signer_jax import storage
from signer_jax.cli.common import command, distinct, metric_rows, output_folder, read_lines, table
from signer_jax.errors import SignerError, one_line

if TYPE_CHECKING:
    import numpy as np

    from signer_jax.types import Pose

_SHOWN_PAIRS = 4_000_000  # pairs of frames, beyond which a bar shows how far it is
_MOST_WORDS = 10_000  # of a line: comparing two of them takes a second
_SHOWN_AFTER = 2.0  # seconds, after which a bar shows how many frames have been compared
_SAME_TIME = 1e-4  # seconds: time stamps are counted in fractions such as 1/12800


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
    distinct({"--ref": arguments.ref, "--hyp": arguments.hyp}, {"--json": arguments.json})
    score = {"text": score_text, "pose": score_pose, "video": score_video}[arguments.kind]
    metrics, facts = score(Path(arguments.ref), Path(arguments.hyp))
    if missing := [name for name, value in metrics.items() if not math.isfinite(value)]:
        facts["not scored"] = f"{', '.join(missing)}: too few frames or joints for it (null in JSON)"
    if target:
        storage.write_file(target, storage.to_json({"metrics": metrics, "facts": facts}))
    print(table(metric_rows(metrics), (f"metric ({arguments.kind})", "value")))
    for name, value in facts.items():
        print(f"{name}: {one_line(value)}")


def score_text(reference: Path, hypothesis: Path) -> tuple[dict[str, float], dict[str, str]]:
    from signer_jax.metrics import text

    hypotheses, references = read_lines(hypothesis), read_lines(reference)
    if len(hypotheses) != len(references):
        raise SignerError(
            f"{hypothesis}: has {len(hypotheses)} lines where {reference} has {len(references)}; give one hypothesis "
            "for every reference"
        )
    for path, lines in ((hypothesis, hypotheses), (reference, references)):
        for number, line in enumerate(lines, start=1):
            if (words := len(line.split())) > _MOST_WORDS:
                raise SignerError(f"{path}: line {number} has {words} words, {_MOST_WORDS} at most; split it")
    if not any(line.strip() for line in references):
        raise SignerError(f"{reference}: has no words, so there is nothing to score; check the file")
    bleu = text.bleu(hypotheses, references)
    signature = str(bleu.pop("signature"))
    metrics = {name: float(value) for name, value in bleu.items()}
    metrics |= {
        "rouge": text.rouge_l(hypotheses, references),
        "wer": text.word_error_rate(hypotheses, references),
        "exact": text.exact_match(hypotheses, references),
    }
    return metrics, {"bleu_signature": signature}


def normalised(path: Path) -> tuple["Pose", "np.ndarray"]:
    """The pose in shoulder widths, and which joints its layout has."""
    from signer_jax.pose import skeleton
    from signer_jax.pose.formats import pose_file

    pose, has = pose_file.read_with_layout(path)
    try:
        return skeleton.normalise(pose)[0], has
    except SignerError as error:
        raise SignerError(f"{path}: {error}") from None


def score_pose(reference: Path, hypothesis: Path) -> tuple[dict[str, float], dict[str, str]]:
    """x and y of the joints that both layouts have: what a layout lacks is no fault of the signing, and z is a guess of
    the detector's, which not every layout has.
    """
    import numpy as np

    from signer_jax.metrics import pose
    from signer_jax.pose import skeleton, warping

    (theirs, they_have), (ours, we_have) = normalised(reference), normalised(hypothesis)
    joints = np.flatnonzero(they_have & we_have)
    theirs, ours = (skeleton.on_joints(one, joints, 2) for one in (theirs, ours))
    names = [skeleton.JOINTS[joint] for joint in joints]
    weights = np.stack([warping.joint_weights(names, weight) for weight in (1.0, warping.HAND_WEIGHT)])
    if len(theirs) * len(ours) > _SHOWN_PAIRS:
        from signer_jax.progress import progress

        distances = warping.dtw_by_weights(ours, theirs, weights, watch=lambda blocks: progress(blocks, "warping"))
    else:
        distances = warping.dtw_by_weights(ours, theirs, weights)
    metrics = {
        "dtw": float(distances[0]),
        "dtw_hand_weighted": float(distances[1]),
        "jerk": pose.jerk(ours),
        "jerk_reference": pose.jerk(theirs),
    }
    shown = [f"{(p.confidence <= 0).mean():.1%}" for p in (theirs, ours)]
    radius = warping.band(len(ours), len(theirs))
    return metrics, {
        "unit": "shoulder widths (a frame of the reference); jerk in shoulder widths / s^3",
        "joints": f"x and y of the {len(joints)} of {len(skeleton.JOINTS)} that both layouts have: "
        f"{', '.join(f'{sum(name in group for name in names)} of {part}' for part, group in _parts().items())}; "
        f"hand-weighted: hands count {warping.HAND_WEIGHT:g}-fold",
        "normaliser": "a clip's median shoulder centre and width",
        "fill": f"{warping.MISSING:g} where only the reference shows a joint; what it does not show is not scored",
        "fps": f"reference {theirs.fps:g}, hypothesis {ours.fps:g}",
        "missing": f"reference {shown[0]}, hypothesis {shown[1]} of these joints in all frames",
        "warping": "any path"
        if radius is None
        else f"within {radius} frames of the straight line from corner to corner, since the files are long",
    }


def _parts() -> dict[str, tuple[str, ...]]:
    from signer_jax.pose.skeleton import BODY, FACE, LEFT_HAND, RIGHT_HAND

    return {"the body": BODY, "the face": FACE, "the hands": (*LEFT_HAND, *RIGHT_HAND)}


def _pairs(
    reference: Iterator[tuple[float, "np.ndarray"]],
    hypothesis: Iterator[tuple[float, "np.ndarray"]],
    duration: float,
    counts: list[int],
) -> Iterator[tuple["np.ndarray", "np.ndarray"]]:
    """Each frame of the reference beside the hypothesis's whose time stamp is nearest (of two equally near, the first).

    `duration` is that of a frame of the hypothesis, in seconds. Both run to their ends, so that damage is noticed; few
    frames are held. `counts` is filled in place: frames of the reference after the hypothesis's end, frames of the
    hypothesis that are nearest to none, pairs whose hypothesis frame was in the pair before too.
    """
    current = next(hypothesis, None)
    following, used = next(hypothesis, None), False
    for time, frame in reference:
        while current and following and abs(following[0] - time) < abs(current[0] - time) - _SAME_TIME:
            counts[1] += not used
            current, following, used = following, next(hypothesis, None), False
        if current is None or (time >= current[0] + duration - _SAME_TIME and following is None):
            counts[0] += 1
            continue
        counts[2] += used
        used = True
        yield frame, current[1]
    counts[1] += sum((current is not None and not used, following is not None, *(1 for _ in hypothesis)))


def score_video(reference: Path, hypothesis: Path) -> tuple[dict[str, float], dict[str, str]]:
    from signer_jax.data import video as videos
    from signer_jax.metrics import video
    from signer_jax.progress import progress

    rates = [videos.frame_rate(path) for path in (reference, hypothesis)]
    total, frames, counts = 0.0, 0, [0, 0, 0]
    pairs = _pairs(videos.timed_frames(reference), videos.timed_frames(hypothesis), 1 / rates[1], counts)
    for theirs, ours in progress(pairs, "frames compared", delay=_SHOWN_AFTER):
        if theirs.shape != ours.shape:
            raise SignerError(
                f"{hypothesis}: is {ours.shape[1]}x{ours.shape[0]}, the reference "
                f"{theirs.shape[1]}x{theirs.shape[0]}; resize one"
            )
        total += float(video.ssim(ours[None], theirs[None])[0])
        frames += 1
    if not frames:
        raise SignerError(f"{reference} and {hypothesis}: there is no frame to compare; give videos with frames")
    return {"ssim": total / frames, "frames": float(frames)}, {
        "fps": f"reference {rates[0]:g}, hypothesis {rates[1]:g}",
        "pairs": "each frame of the reference with the hypothesis's nearest in time, both from their first frame; "
        f"{counts[2]} times the same one again",
        "not compared": f"{counts[0]} frames of the reference after the hypothesis's end, "
        f"{counts[1]} frames of the hypothesis that are nearest to none",
    }
