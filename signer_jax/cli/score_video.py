"""`signer score video`: frames of two videos, paired by time."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from signer_jax.cli.score import Outcome, Pair, each, files_by_name, together
from signer_jax.errors import SignerError, Trouble

if TYPE_CHECKING:
    import numpy as np

    from signer_jax.data.estimators.opening import Estimator
    from signer_jax.metrics.frechet import Sets, Side
    from signer_jax.metrics.reports import Report
    from signer_jax.pose.formats.clip import Clip

_OPTIONS = ("pose", "hand_crop", "poses", "pose_weights", "inception", "i3d")  # of `score`, of videos alone
_SHOWN_AFTER = 2.0  # seconds, after which a bar shows how many frames have been compared
_SAME_TIME = 1e-4  # seconds: time stamps are counted in fractions such as 1/12800
_CELLS, _CHANGES, _FID = "frechet_cells", "frechet_cells_change", "fid"
_CLIPS, _FVD, _I3D = "frechet_clips", "fvd", "frechet_i3d"
Timed: TypeAlias = "tuple[float, np.ndarray]"  # a frame behind the second at which it is shown
Hands: TypeAlias = "Callable[[int, float, tuple[int, int]], tuple[np.ndarray, np.ndarray]]"  # of frame, second, size


def check_options(arguments: argparse.Namespace) -> None:
    """Raises `SignerError` for options of another kind, or that lack one another."""
    given = [name for name in _OPTIONS if getattr(arguments, name)]
    if given and arguments.kind != "video":
        raise SignerError(f"--{given[0].replace('_', '-')}: is of videos; leave it out of score {arguments.kind}")
    if arguments.han != "words" and arguments.kind != "text":
        raise SignerError(f"--han: is of texts; leave it out of score {arguments.kind}")
    if arguments.poses and not arguments.pose_weights:
        raise SignerError(f"--poses {arguments.poses}: needs --pose-weights, the folder of its files")
    if arguments.pose_weights and not arguments.poses:
        raise SignerError(
            f"--pose-weights {arguments.pose_weights}: is of --poses dwpose or mediapipe; name one of them"
        )
    if arguments.hand_crop < 0:
        raise SignerError(f"--hand-crop {arguments.hand_crop}: must be pixels, such as 60")


def score_video(pairs: Sequence[Pair], arguments: argparse.Namespace) -> Outcome:
    """SSIM, PSNR and flicker always; of the hands and by weights what `arguments` allow. The Fréchet distances are of
    all frames, or clips, of both sides' videos, of all pairs together.

    A pair that cannot be read is left out and told of; a fault of the machine (`Trouble`) is no pair's and ends it all.
    """
    from signer_jax.metrics.frechet_clips import ClipSets
    from signer_jax.metrics.signatures import signature

    sets, about = _sets(arguments)
    estimator = None
    if arguments.poses:
        from signer_jax.data.estimators import opening

        estimator = opening.opened(arguments.poses, Path(arguments.pose_weights))
    poses = _poses(pairs, arguments.pose)
    reports: dict[str, Report] = {}
    failed: dict[str, str] = {}
    for pair in each(pairs):
        try:
            reports[pair.name] = _report(pair, sets, poses.get(pair.name), estimator, arguments.hand_crop)
        except Trouble:  # a disk, a network or too little memory, no fault of the pair
            raise
        except SignerError as error:
            for one in sets.values():
                one.drop()
            failed[pair.name] = str(error)
            if len(failed) == len(pairs):
                raise
    outcome = together(reports, failed)
    for name, one in sets.items():
        outcome.metrics[name], outcome.floor[name] = one.distances()
        unit = "clips" if isinstance(one, ClipSets) else "frames"
        of = {unit: one.theirs.moments.count, f"{unit}_hypothesis": one.ours.moments.count}
        outcome.signatures[name] = signature(**about[name], over="whole-videos", **of)
    if broken := [name for name, one in sets.items() if not one.finite]:
        outcome.facts["features that are not finite"] = f"{', '.join(broken)}: not scored; give another file of weights"
    outcome.metrics["frames"] = sum(report.scores["frames"].above for report in reports.values())
    outcome.floor.pop("frames", None)
    if arguments.pose and not estimator and (without := [pair.name for pair in pairs if pair.name not in poses]):
        outcome.facts["without a pose"] = f"{len(without)} of {len(pairs)} pairs, whose hands are not scored"
    return outcome


def _sets(arguments: argparse.Namespace) -> "tuple[dict[str, Sets], dict[str, dict[str, str | int]]]":
    """What Fréchet distances are of, and what each depends on but the number of frames or clips."""
    from signer_jax.metrics.frechet import Sets, cell_features
    from signer_jax.metrics.frechet_clips import LENGTH, ClipSets, clip_features

    sets = {
        _CELLS: Sets(cell_features), _CHANGES: Sets(cell_features, of_changes=True), _CLIPS: ClipSets(clip_features),
    }  # fmt: skip
    own: dict[str, str | int] = {"features": "own-cells-4x4-colours-and-edges-112", "weights": "none"}
    about = {
        _CELLS: own, _CHANGES: own | {"of": "changes-from-frame-to-frame"},
        _CLIPS: own | {"of": "mean-deviation-and-change-336", "length": LENGTH},
    }  # fmt: skip
    if arguments.inception:
        from signer_jax.interop import inception as weights
        from signer_jax.metrics import inception

        features, digest = weights.features(arguments.inception)
        sets[_FID] = Sets(features, inception.BATCH)
        about[_FID] = {"features": "inception-v3-2048", "resize": "bilinear-299", "weights": f"sha256-{digest[:16]}"}
    if arguments.i3d:
        from signer_jax.interop import i3d

        graph = i3d.opened(arguments.i3d)
        length, height, width = graph.sides
        name = _FVD if graph.of_fvd else _I3D
        sets[name] = ClipSets(graph.features, length)
        about[name] = {
            "features": f"logits-{i3d.CLASSES}", "resize": f"bilinear-corner-origin-{height}x{width}", "length": length,
            "weights": f"sha256-{graph.digest[:16]}",
        }  # fmt: skip
    return sets, about


def _poses(pairs: Sequence[Pair], path: str | None) -> dict[str, Path]:
    """The reference's poses of each pair that has some."""
    if not path:
        return {}
    if pairs[0].name:
        return files_by_name(Path(path), (".pose",))
    return {"": Path(path)}


def _report(
    pair: Pair, sets: "dict[str, Sets]", pose: Path | None, estimator: "Estimator | None", crop: int
) -> "Report":
    from signer_jax.data import video as videos
    from signer_jax.metrics.reports import Ratio
    from signer_jax.metrics.video_scores import VideoScores
    from signer_jax.pose.formats import pose_file
    from signer_jax.progress import progress

    rates = [videos.frame_rate(path) for path in (pair.reference, pair.hypothesis)]
    hands: Hands | None = None
    found: dict[str, Ratio] = {}
    facts: dict[str, str] = {}
    if estimator:
        hands, found, facts = _estimated(pair, estimator, rates)
    if pose:
        hands = _hands_at(pose_file.read_clip(pose), by_time=True)
        facts["hands"] = "where --pose has them"
    gathered = VideoScores(crop)
    counts = [0, 0, 0]
    frames = _paired_frames(pair, rates, counts, list(sets.values()))
    for i, ((time, theirs), (_, ours)) in enumerate(progress(frames, "frames compared", delay=_SHOWN_AFTER)):
        if theirs.shape != ours.shape:
            raise SignerError(
                f"{pair.hypothesis}: is {ours.shape[1]}x{ours.shape[0]}, the reference "
                f"{theirs.shape[1]}x{theirs.shape[0]}; resize one"
            )
        gathered.add(ours, theirs, hands(i, time, theirs.shape[:2]) if hands else None)
    if gathered.first is None:
        raise SignerError(
            f"{pair.reference} and {pair.hypothesis}: there is no frame to compare; give videos with frames"
        )
    for one in sets.values():
        one.close(gathered.first)
    report = gathered.report()
    if not hands:
        del report.scores["hand_ssim"], report.floor["hand_ssim"], report.signatures["hand_ssim"]
    # Of a hypothesis that ends early the other scores are over what there is of it alone.
    report.scores |= found | {"compared": Ratio(gathered.frames, gathered.frames + counts[0])}
    report.scores |= {"frames": Ratio(gathered.frames)}
    report.facts = {
        "fps": f"reference {rates[0]:g}, hypothesis {rates[1]:g}",
        "pairs": "each frame of the reference with the hypothesis's nearest in time, both from their first frame; "
        f"{counts[2]} times the same one again",
        "not compared": f"{counts[0]} frames of the reference after the hypothesis's end, "
        f"{counts[1]} frames of the hypothesis that are nearest to none",
        "floor": "the reference's first frame, held",
        **facts,
    }
    return report


# ---- Hands -----------------------------------------------------------------------------------------------------------


def _estimated(pair: Pair, estimator: "Estimator", rates: list[float]) -> "tuple[Hands | None, dict, dict[str, str]]":
    """Where the hands are, and Hand Pose, of poses that are found in both videos, a frame beside a frame."""
    from signer_jax.metrics.reports import Ratio
    from signer_jax.metrics.video_scores import hand_distances
    from signer_jax.pose import skeleton
    from signer_jax.pose.formats.clip import NobodySeen

    facts = {"hands": f"found by {estimator.made_by}"}
    clips: list[Clip | None] = []
    for which in (0, 1):
        frames = (shown[which][1] for shown in _paired_frames(pair, rates, [0, 0, 0]))
        try:
            clips.append(estimator.estimate((pair.reference, pair.hypothesis)[which].name, frames, rates[0]))
        except NobodySeen:
            facts["hands"] += f"; it finds nobody in {('the reference', 'the hypothesis')[which]}"
            clips.append(None)
    theirs, ours = clips
    nothing = Ratio(float("nan"))
    found = {"hand_pose": nothing, "hand_pose_lacking": nothing}
    if theirs is not None and ours is not None:
        index = skeleton.positions((*skeleton.LEFT_HAND, *skeleton.RIGHT_HAND), skeleton.JOINTS)
        keypoints = [(clip.pose.coordinates[:, index, :2], clip.pose.confidence[:, index]) for clip in (ours, theirs)]
        found["hand_pose"], found["hand_pose_lacking"] = hand_distances(*keypoints)
    facts["hand_pose_signature"] = _signature(estimator)
    return _hands_at(theirs, by_time=False) if theirs is not None else None, found, facts


def _signature(estimator: "Estimator") -> str:
    from signer_jax.metrics.signatures import signature

    return signature(
        keypoints="hands-42",
        unit="pixels",
        dist="euclidean",
        fill="none",
        estimator=estimator.made_by.replace("|", "/"),
    )


def _hands_at(clip: "Clip", *, by_time: bool) -> Hands:
    """The middles of the hands in a frame, and whether they are shown; of a clip's frame of that time, or number."""
    import numpy as np

    from signer_jax.metrics.video import hand_middles
    from signer_jax.pose import skeleton
    from signer_jax.pose.formats import clip as clips

    pose = clip.pose if clip.unit == clips.PIXELS else clips.normalised(clip)[0]

    def at(number: int, time: float, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        frame = round(time * pose.fps) if by_time else number
        if frame >= len(pose):
            return np.zeros((2, 2)), np.zeros(2, bool)
        xy = pose.coordinates[frame : frame + 1, :, :2]
        if clip.unit != clips.PIXELS:
            xy = skeleton.to_pixels(xy, *size)
        elif clip.size:
            xy = xy * (np.array(size[::-1]) / clip.size[::-1])
        centres, visible = hand_middles(xy, pose.confidence[frame : frame + 1] > 0, skeleton.JOINTS)
        return centres[0], visible[0]

    return at


# ---- Frames ----------------------------------------------------------------------------------------------------------


def _paired_frames(
    pair: Pair, rates: Sequence[float], counts: list[int], sets: "Sequence[Sets]" = ()
) -> Iterator[tuple[Timed, Timed]]:
    """As `pair_frames`; `sets` have all frames of both videos behind them, those too that pair with none."""
    theirs = _seen(pair.reference, [one.theirs for one in sets])
    return pair_frames(theirs, _seen(pair.hypothesis, [one.ours for one in sets]), 1 / rates[1], counts)


def _seen(path: Path, sides: "Sequence[Side]") -> Iterator[tuple[float, Timed]]:
    """A video's frames behind their times, each added to all `sides` when it is read."""
    from signer_jax.data import video as videos

    for time, frame in videos.timed_frames(path):
        for side in sides:
            side.add(frame)
        yield time, (time, frame)


def pair_frames(
    reference: Iterable[tuple[float, object]],
    hypothesis: Iterable[tuple[float, object]],
    duration: float,
    counts: list[int],
) -> Iterator[tuple]:
    """Each frame of the reference beside the hypothesis's whose time stamp is nearest (of two equally near, the first).

    `duration` is that of a frame of the hypothesis, in seconds. Both run to their ends, so that damage is noticed; few
    frames are held. `counts` is filled in place: frames of the reference after the hypothesis's end, frames of the
    hypothesis that are nearest to none, pairs whose hypothesis frame was in the pair before too.
    """
    hypothesis = iter(hypothesis)
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
