"""`signer score`: a file, or a folder of files, beside another of the same kind."""

import argparse
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from signer_jax import outside, storage
from signer_jax.cli.common import command, distinct, metric_rows, output_folder, read_lines, table
from signer_jax.errors import SignerError, Trouble, one_line

if TYPE_CHECKING:
    import numpy as np

    from signer_jax.metrics.reports import Ratio, Report
    from signer_jax.types import Pose

_SHOWN_PAIRS = 4_000_000  # pairs of frames, beyond which a bar shows how far it is
_MOST_WORDS = 10_000  # of a line: comparing two of them takes a second
_FLOOR_LINES, _FLOOR_WORDS = 1_000, 200  # of which the floor is computed
_NAMED = 5  # files; more are counted
_ENDINGS = {"text": (), "pose": (".pose",), "video": (".mp4", ".mov", ".webm", ".mkv", ".avi")}


class Pair(NamedTuple):
    """A hypothesis and its reference; `name` is "" of two files that were given."""

    name: str
    reference: Path
    hypothesis: Path


@dataclass
class Outcome:
    """What is printed: figures, the floor's, what they depend on, what else; of a folder each pair's figures."""

    metrics: dict[str, float]
    floor: dict[str, float]
    signatures: dict[str, str]
    facts: dict[str, str] = field(default_factory=dict)
    unscored: dict[str, int] = field(default_factory=dict)  # how many of the pairs, of figures that some pairs lack
    pairs: dict[str, dict[str, float]] = field(default_factory=dict)


def add(commands: Any) -> None:
    parser = command(
        commands, "score", "Compare hypotheses with references: texts (a line a sentence), .pose files or videos.",
        "signer score text --ref true.gloss --hyp predicted.gloss\n"
        "         signer score video --ref clips --hyp rendered --pose poses --json scores.json", run,
    )  # fmt: skip
    parser.add_argument("kind", choices=tuple(_ENDINGS))
    parser.add_argument("--ref", required=True, help="the reference, or a folder of them")
    parser.add_argument("--hyp", required=True, help="the hypothesis, or a folder of files of the same names")
    parser.add_argument("--json", help="write what the table prints to this file")
    parser.add_argument("--han", choices=("words", "characters"), default="words",
                        help="text: what is a word of Chinese: what spaces divide, or each character")  # fmt: skip
    videos = parser.add_argument_group("video")
    videos.add_argument("--pose", help="the references' poses (.pose, or a folder of them): Hand SSIM")
    videos.add_argument("--hand-crop", type=int, default=0, metavar="N",
                        help="pixels of the square around a hand (60 of 256 of the frame's shorter side)")  # fmt: skip
    videos.add_argument("--poses", choices=("dwpose", "mediapipe"),
                        help="find poses in both videos: Hand Pose, and Hand SSIM without --pose")  # fmt: skip
    videos.add_argument("--pose-weights", metavar="DIR", help="the files of --poses, as `signer prepare` takes them")
    videos.add_argument("--inception", metavar="FILE", help="FID's Inception weights as .safetensors: FID")
    videos.add_argument("--i3d", metavar="FILE", help="I3D of Kinetics-400 as .onnx: FVD")


def run(arguments: argparse.Namespace) -> None:
    from signer_jax.cli.score_video import check_options, score_video

    target = output_folder(arguments.json, "--json") if arguments.json else None
    inputs = {"--ref": arguments.ref, "--hyp": arguments.hyp, "--pose": arguments.pose}
    distinct(inputs | {"--inception": arguments.inception, "--i3d": arguments.i3d}, {"--json": arguments.json})
    check_options(arguments)
    pairs, facts = paired(Path(arguments.ref), Path(arguments.hyp), arguments.kind)
    if arguments.kind == "text":
        outcome = score_text(pairs, characters=arguments.han == "characters")
    elif arguments.kind == "pose":
        outcome = score_pose(pairs)
    else:
        outcome = score_video(pairs, arguments)
    facts |= outcome.facts | _unscored(outcome, len(pairs))
    facts |= {f"{name}_signature": text for name, text in outcome.signatures.items()}
    if target:
        written: dict[str, Any] = {"metrics": outcome.metrics, "floor": outcome.floor, "facts": facts}
        if len(pairs) > 1 or pairs[0].name:
            written |= {"unscored": outcome.unscored, "pairs": outcome.pairs}
        storage.write_file(target, storage.to_json(written))
    floor = {name: value for name, value in metric_rows(outcome.floor)}  # noqa: C416
    rows: list[tuple[str, ...]] = [(*row, floor.get(row[0], "")) for row in metric_rows(outcome.metrics)]
    print(table(rows, (f"metric ({arguments.kind})", "value", "floor")))
    for name, value in facts.items():
        print(f"{name}: {one_line(value)}")


def _unscored(outcome: Outcome, pairs: int) -> dict[str, str]:
    facts = {}
    if missing := [name for name, value in outcome.metrics.items() if not math.isfinite(value)]:
        facts["not scored"] = (
            f"{', '.join(missing)}: too few frames or joints, too many, or clips of other lengths (null in JSON)"
        )
    if some := [f"{name} in {count} of {pairs} pairs" for name, count in outcome.unscored.items() if count < pairs]:
        facts["left out of the means"] = f"{', '.join(some)}, which could not be scored"
    return facts


# ---- Pairs -----------------------------------------------------------------------------------------------------------


def paired(reference: Path, hypothesis: Path, kind: str) -> tuple[list[Pair], dict[str, str]]:
    """The two files, or those of two folders that have one name, whatever their ending; what has no other is told.

    Raises `SignerError` where one is a folder and the other none, and where nothing pairs.
    """
    folders = [os.path.isdir(path) for path in (reference, hypothesis)]
    if not any(folders):
        return [Pair("", reference, hypothesis)], {}
    if not all(folders):
        raise SignerError(f"--ref {reference} and --hyp {hypothesis}: give two files or two folders")
    theirs, ours = (files_by_name(path, _ENDINGS[kind]) for path in (reference, hypothesis))
    both = [name for name in theirs if name in ours]
    if not both:
        raise SignerError(
            f"--ref {reference} and --hyp {hypothesis}: have no {kind} files of one name; name them alike"
        )
    facts = {"files": f"{len(both)} of each side, paired by name"}
    alone = [name for name in theirs if name not in ours], [name for name in ours if name not in theirs]
    said = [f"only in {flag}: {_listed(names)}" for flag, names in zip(("--ref", "--hyp"), alone, strict=True) if names]
    if said:
        facts["not paired"] = "; ".join(said)
    return [Pair(name, theirs[name], ours[name]) for name in both], facts


def files_by_name(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    """The folder's files (hidden ones and folders are passed over) by their names without an ending, in order."""
    found: dict[str, Path] = {}
    with outside.reading(folder, "give a folder that may be read"):
        files = sorted(file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file())
    for file in files:
        if endings and file.suffix.lower() not in endings:
            continue
        if file.stem in found:
            raise SignerError(f"{folder}: has {found[file.stem].name} and {file.name}, which are one name; keep one")
        found[file.stem] = file
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def each(pairs: Sequence[Pair]) -> Iterable[Pair]:
    from signer_jax.progress import progress

    return progress(pairs, "pairs") if len(pairs) > 1 else pairs


def together(reports: "dict[str, Report]", failed: dict[str, str]) -> Outcome:
    """The figures of all pairs: means over those that could be scored, as each score has it."""
    from signer_jax.metrics.reports import Ratio, joined, unscored

    def values(rows: "list[dict[str, Ratio]]") -> dict[str, float]:
        return {name: ratio.value for name, ratio in joined(rows).items()}

    done = list(reports.values())
    lacking = unscored([one.scores for one in done])
    outcome = Outcome(
        values([one.scores for one in done]), values([one.floor for one in done]),
        _distinct([one.signatures for one in done]), _distinct([one.facts for one in done]), lacking,
    )  # fmt: skip
    if failed:
        whole = {name: Ratio(float("nan")) for name in outcome.metrics}
        outcome.unscored = unscored([*(one.scores for one in done), *[whole] * len(failed)])
        said = "; ".join(f"{name}: {line}" for name, line in list(failed.items())[:_NAMED])
        outcome.facts["pairs that could not be read"] = f"{len(failed)}: {said}"
    if "" not in reports:
        outcome.pairs = {name: {key: ratio.value for key, ratio in one.scores.items()} for name, one in reports.items()}
    return outcome


def _distinct(rows: Sequence[dict[str, str]]) -> dict[str, str]:
    """What is said of all pairs: each thing once."""
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        said = list(dict.fromkeys(row[name] for row in rows if name in row))
        more = f" … and {len(said) - _NAMED} others" if len(said) > _NAMED else ""
        found[name] = " … ".join(said[:_NAMED]) + more
    return found


# ---- Texts and poses -------------------------------------------------------------------------------------------------


def score_text(pairs: Sequence[Pair], *, characters: bool = False) -> Outcome:
    """The lines of all pairs as one corpus; `characters`: each Han character is a word."""
    from signer_jax.metrics import text
    from signer_jax.writing import han_apart, has_han

    hypotheses: list[str] = []
    references: list[str] = []
    for _, reference, hypothesis in pairs:
        ours, theirs = read_lines(hypothesis), read_lines(reference)
        if characters:
            ours, theirs = list(map(han_apart, ours)), list(map(han_apart, theirs))
        if len(ours) != len(theirs):
            raise SignerError(
                f"{hypothesis}: has {len(ours)} lines where {reference} has {len(theirs)}; give one hypothesis "
                "for every reference"
            )
        for path, lines in ((hypothesis, ours), (reference, theirs)):
            for place, line in enumerate(lines, start=1):
                if (words := len(line.split())) > _MOST_WORDS:
                    raise SignerError(f"{path}: line {place} has {words} words, {_MOST_WORDS} at most; split it")
        hypotheses += ours
        references += theirs
    if not any(line.strip() for line in references):
        raise SignerError(f"{pairs[0].reference}: has no words, so there is nothing to score; check the file")

    def scores(ours: list[str], theirs: list[str]) -> tuple[dict[str, float], dict[str, str]]:
        bleu, chrf = text.bleu(ours, theirs), text.chrf(ours, theirs)
        signed = {"bleu": str(bleu.pop("signature")), "chrf": str(chrf.pop("signature"))}
        metrics = {name: float(value) for name, value in (bleu | chrf).items()}
        metrics |= {
            "rouge": text.rouge_l(ours, theirs),
            "wer": text.word_error_rate(ours, theirs),
            "exact": text.exact_match(ours, theirs),
        }
        signed |= text.signatures()
        if characters:
            signed |= {name: f"{said}|han:characters" for name, said in signed.items() if name != "chrf"}
        return metrics, signed

    metrics, signatures = scores(hypotheses, references)
    outcome = Outcome(metrics, {}, signatures)
    if not characters and (count := sum(map(has_han, references))):
        outcome.facts["Han characters"] = (
            f"in {count} references, whose words are what spaces divide; --han characters takes each as a word"
        )
    lines = [line for line in references if 0 < len(line.split()) <= _FLOOR_WORDS][:_FLOOR_LINES]
    if len(set(lines)) > 1:
        floors = [scores(answers, lines)[0] for answers in _dumb_answers(lines)]
        outcome.floor = {
            name: (min if name == "wer" else max)(floor[name] for floor in floors) for name in floors[0]
        }  # fmt: skip
        outcome.facts["floor"] = (
            "the better of two: the next other reference in each line's place, and the commonest reference in all, "
            f"where one comes twice; of {_FLOOR_LINES:,} lines at most"
        )
    return outcome


def _dumb_answers(lines: Sequence[str]) -> list[list[str]]:
    """Hypotheses that know nothing of a line: the next different reference; the one that is there most often, if one is
    there more than once.
    """
    from collections import Counter

    following, after = [""] * len(lines), lines[0]  # the next line that is different, from the end, twice around
    for i in reversed(range(2 * len(lines))):
        line, then = lines[i % len(lines)], lines[(i + 1) % len(lines)]
        after = then if then != line else after
        following[i % len(lines)] = after
    commonest, count = Counter(lines).most_common(1)[0]
    return [following, *([[commonest] * len(lines)] if count > 1 else [])]


def normalised(path: Path) -> tuple["Pose", "np.ndarray"]:
    """The pose in shoulder widths, and which joints its layout has."""
    from signer_jax.pose import skeleton
    from signer_jax.pose.formats import pose_file

    pose, has = pose_file.read_with_layout(path)
    try:
        return skeleton.normalise(pose)[0], has
    except SignerError as error:
        raise SignerError(f"{path}: {error}") from None


def score_pose(pairs: Sequence[Pair]) -> Outcome:
    from signer_jax.metrics.pose_scores import total_distance

    reports, failed = {}, {}
    for pair in each(pairs):
        try:
            reports[pair.name] = _pose_report(pair.reference, pair.hypothesis)
        except Trouble:
            raise
        except SignerError as error:
            failed[pair.name] = str(error)
            if len(failed) == len(pairs):
                raise
    outcome = together(reports, failed)
    outcome.metrics |= total_distance(outcome.metrics)
    outcome.floor |= total_distance(outcome.floor)
    return outcome


def _pose_report(reference: Path, hypothesis: Path) -> "Report":
    """x and y of the joints that both layouts have, and z is a guess of the detector's, which not every layout has.
    `lacking` alone is of all joints of the reference's layout, or one without hands would seem to lack nothing.
    """
    import numpy as np

    from signer_jax.metrics.pose_scores import pose_report
    from signer_jax.pose import skeleton, warping
    from signer_jax.progress import progress

    (theirs, they_have), (ours, we_have) = normalised(reference), normalised(hypothesis)
    joints = np.flatnonzero(they_have & we_have)
    names = [skeleton.JOINTS[joint] for joint in joints]
    long = len(theirs) * len(ours) > _SHOWN_PAIRS
    watch = (lambda blocks: progress(blocks, "warping")) if long else iter
    report = pose_report(ours, theirs, joints, watch, owed=np.flatnonzero(they_have))
    shown = [f"{(pose.confidence[:, joints] <= 0).mean():.1%}" for pose in (theirs, ours)]
    radius = warping.band(len(ours), len(theirs))
    report.facts = {
        "unit": "shoulder widths (of a DTW: a frame of the reference); velocity in shoulder widths / s, jerk / s^3",
        "joints": f"x and y of the {len(joints)} of {len(skeleton.JOINTS)} that both layouts have: "
        f"{', '.join(f'{sum(name in group for name in names)} of {part}' for part, group in _parts().items())}; "
        f"hand-weighted: hands count {warping.HAND_WEIGHT:g}-fold",
        "lacking": f"of the {they_have.sum()} joints of the reference's layout, "
        f"{(they_have & ~we_have).sum()} of which the hypothesis's has none of",
        "normaliser": "a clip's median shoulder centre and width",
        "fill": f"{warping.MISSING:g} where only the reference shows a joint; what it does not show is not scored",
        "fps": f"reference {theirs.fps:g}, hypothesis {ours.fps:g}",
        "missing": f"reference {shown[0]}, hypothesis {shown[1]} of these joints in all frames",
        "warping": "any path"
        if radius is None
        else f"within {radius} frames of the straight line from corner to corner, since the files are long",
        "floor": "the reference's mean pose, held",
    }
    return report


def _parts() -> dict[str, tuple[str, ...]]:
    from signer_jax.pose.skeleton import BODY, FACE, LEFT_HAND, RIGHT_HAND

    return {"the body": BODY, "the face": FACE, "the hands": (*LEFT_HAND, *RIGHT_HAND)}
