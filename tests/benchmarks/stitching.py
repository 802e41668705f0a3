"""Sentences joined of single signs beside the real ones, beside the plain stitch and spoken-to-signed's.

    pip install spoken-to-signed && python tests/benchmarks/stitching.py DATA

DATA holds `stitching/` (fluent-pose-synthesis: of each sentence its gloss times, `_original.pose` and `_updated.pose`)
and `how2sign/` (clips of continuous signing with MediaPipe poses). All rows are made of the same signs: those that
`_updated.pose` joins by straight lines, a dictionary's and, where it had none, the sentence's own (these are counted).
Without spoken-to-signed its rows are left out.

Printed: what the files are; for each sentence and as a mean the DTW to the original (upper body, hands counted three
times in the second; what is shorter has less, so others stand there at our length too), its nDTWp as pose-evaluation
defines it and DTW-MJE, which no longer sentence loses by; the same to the original's sign frames alone, since its joins
are straight lines that nobody signed; then how it all moves.
The last rows ask what our values were worth had they been chosen on the other three sentences.
"""

import argparse
import contextlib
import io
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.signal import butter, filtfilt

from signer_jax.metrics import pose as scores
from signer_jax.metrics import published
from signer_jax.pose import fluent, skeleton, warping
from signer_jax.pose.clean import clean
from signer_jax.pose.formats import pose_file
from signer_jax.pose.skeleton import on_joints
from signer_jax.pose.sources.continuous import pieces
from signer_jax.pose.stitching import resample, steady, trim
from signer_jax.types import Pose

UPPER = skeleton.positions(skeleton.SUBSETS["upper_50"], skeleton.JOINTS)
HANDS = skeleton.positions((*skeleton.LEFT_HAND, *skeleton.RIGHT_HAND), skeleton.JOINTS)
WRISTS = skeleton.positions(("left_wrist", "right_wrist"), skeleton.JOINTS)
WEIGHTS = warping.joint_weights([skeleton.JOINTS[joint] for joint in UPPER], warping.HAND_WEIGHT)
LOW_PASS = 6.0  # Hz: above it detectors' noise outweighs what hands do
COPY = 0.02  # of the extent: a piece that follows the original's so closely is the original's
GRID = {"longest": (0.3, 0.4, 0.5), "faster": (1.5, 2.0, 3.0), "share": (0.2, 0.3), "memory": (0.0, 0.1, 0.2)}


class Sentence(NamedTuple):
    """One sample; all but `updated` normalised."""

    name: str
    truth: Pose
    signs_alone: Pose  # of the truth
    plain: Pose
    signs: list[Pose]
    updated: Path
    spans: list[tuple[int, int]]  # of the signs in `updated`
    copied: int


def normalised(pose: Pose) -> Pose:
    return clean(skeleton.normalise(pose)[0])


def read(folder: Path) -> list[Sentence]:
    found = []
    for file in sorted(folder.glob("*_original.pose")):
        updated = file.with_name(file.name.replace("_original", "_updated"))
        original, made = pose_file.read(file), pose_file.read(updated)
        ours, theirs = pieces(original), pieces(made)
        truth = normalised(original)
        found.append(
            Sentence(
                file.name.removesuffix("_original.pose"),
                truth,
                Pose.joined([truth.slice(*span) for span in ours]),
                normalised(made),
                [normalised(made.slice(*span)) for span in theirs],
                updated,
                theirs,
                sum(any(is_copy(original.slice(*a), made.slice(*b)) for a in ours) for b in theirs),
            )
        )
    return found


def is_copy(a: Pose, b: Pose) -> bool:
    """Whether two pieces are the same frames, moved and scaled."""
    if len(a) != len(b):
        return False
    x, y = (pose.coordinates[:, UPPER, :2] - pose.coordinates[:, UPPER, :2].mean(axis=(0, 1)) for pose in (a, b))
    scale = (x * y).sum() / (y * y).sum()
    return bool(np.abs(x - scale * y).mean() < COPY * np.ptp(x))


def flat(pose: Pose, joints: np.ndarray = UPPER) -> Pose:
    return on_joints(pose, joints, 2)


def distances(ours: Pose, truth: Pose) -> list[float]:
    a, b = (scores.without_blinks(flat(pose)) for pose in (ours, truth))
    plane = [published.about_mean_shoulders(on_joints(pose, np.arange(128), 2)) for pose in (ours, truth)]
    hands = [flat(published.trimmed(pose), HANDS) for pose in plane]
    return [
        len(ours), warping.dtw(a, b), warping.dtw(a, b, weights=WEIGHTS), published.ndtw_p(*hands),
        scores.mean_error(scores.aligned_errors(a, b)),
    ]  # fmt: skip


def motion(pose: Pose) -> list[float]:
    """Mean speed, acceleration and jerk of the upper body, the jerk of what moves below `LOW_PASS`, and the speed that
    wrists, and hands' joints, surpass in one frame of a hundred.
    """
    body = flat(scores.without_blinks(pose))
    slow = body
    if len(body) > 15:
        b, a = butter(4, LOW_PASS / (body.fps / 2))
        slow = Pose(filtfilt(b, a, body.coordinates, axis=0), body.confidence, body.fps)
    both = (pose.confidence[1:] > 0) & (pose.confidence[:-1] > 0)
    speed = np.linalg.norm(np.diff(pose.coordinates[..., :2], axis=0), axis=-1) * pose.fps
    fast = [float(np.quantile(speed[:, joints][both[:, joints]], 0.99)) for joints in (WRISTS, HANDS)]
    return [*(scores.jerk(body, order=k) for k in (1, 2, 3)), scores.jerk(slow), *fast]


def ours(signs: Sequence[Pose], manner: fluent.Manner) -> Pose:
    parts = [steady(trim(sign), None) for sign in signs]
    done = fluent.compose(fluent.padded([parts]), manner, parts[0].fps)
    return Pose(done.coordinates[0], done.confidence[0], parts[0].fps)


def theirs(sentence: Sentence, **settings) -> Pose:
    """spoken-to-signed's concatenation; its prints are not ours."""
    from pose_format import Pose as Recorded
    from spoken_to_signed.gloss_to_pose import concatenate

    concatenate.ConcatenationSettings.is_reduce_holistic = False  # the samples are reduced already
    recorded = Recorded.read(sentence.updated.read_bytes())
    parts = [Recorded(recorded.header, recorded.body[start:end]) for start, end in sentence.spans]
    out = io.BytesIO()
    with contextlib.redirect_stdout(io.StringIO()):
        concatenate.concatenate_poses(parts, **settings).write(out)
    file = Path("/dev/shm" if Path("/dev/shm").is_dir() else ".") / "stitching-benchmark.pose"
    file.write_bytes(out.getvalue())
    try:
        return normalised(pose_file.read(file))
    finally:
        file.unlink()


def systems(sentences: Sequence[Sentence]) -> dict[str, Callable[[Sentence], Pose]]:
    free = fluent.FLUENT

    def length(one: Sentence) -> int:
        return len(ours(one.signs, free))

    next_of = {one.name: sentences[i - 1] for i, one in enumerate(sentences)}
    every: dict[str, Callable[[Sentence], Pose]] = {
        "the original itself": lambda one: one.truth,
        "its mean pose, held": lambda one: Pose.joined([scores.still(one.truth)] * len(one.truth)),
        "the plain stitch's first frame": lambda one: resample(one.plain.slice(0, 1), length(one)),
        "plain stitch (_updated)": lambda one: one.plain,
        "  as long as ours": lambda one: resample(one.plain, length(one)),
    }
    try:
        import spoken_to_signed  # noqa: F401

        every |= {
            "spoken-to-signed": theirs,
            "  its hands at rest shown": lambda one: theirs(one, hide_idle_hands=False),
            "  and signs of .4 s at most": lambda one: theirs(one, hide_idle_hands=False, max_sign_seconds=0.4),
        }
    except ImportError:
        print("spoken-to-signed is not installed: its rows are left out")
    return every | {
        "ours, as recorded": lambda one: ours(one.signs, fluent.AS_RECORDED),
        "  as long as ours fluent": lambda one: resample(ours(one.signs, fluent.AS_RECORDED), length(one)),
        "ours": lambda one: ours(one.signs, free),
        "  strokes not cut": lambda one: ours(one.signs, free._replace(strokes=False)),
        "  joins not chosen": lambda one: ours(one.signs, free._replace(window=0.0)),
        "  joins by place alone": lambda one: ours(one.signs, free._replace(memory=0.0)),
        "  another sentence's signs": lambda one: ours(next_of[one.name].signs, free),
        "  at most 4 times as fast": lambda one: ours(one.signs, free._replace(faster=4.0)),
        "  as fast as they were": lambda one: ours(one.signs, free._replace(faster=1.0)),
    }


def line(name: str, values: Sequence[float]) -> str:
    return f"{name:30}" + "".join(f"{value:9.0f}" if abs(value) >= 100 else f"{value:9.3f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    sentences = read(data / "stitching")
    for one in sentences:
        straight = 1 - len(one.signs_alone) / len(one.truth)
        print(
            f"{one.name}: {len(one.truth)} frames, {straight:.0%} of them on straight lines between the signs; "
            f"{len(one.signs)} signs, {one.copied} of them the original's own"
        )
    every = systems(sentences)
    made = {name: [system(one) for one in sentences] for name, system in every.items()}
    names = ["frames", "DTW", "hands x3", "nDTWp", "DTW-MJE"]
    for what in ("truth", "signs_alone"):
        print(
            f"\nto the {'original' if what == 'truth' else 'original without straight lines'}, mean of {len(sentences)}"
        )
        print(f"{'':30}" + "".join(f"{name:>9}" for name in names) + "   DTW and nDTWp of each")
        for name, poses in made.items():
            rows = np.array([distances(p, getattr(one, what)) for p, one in zip(poses, sentences, strict=True)])
            each = "  ".join(f"{row[1]:.2f} {row[3]:5.2f}" for row in rows)
            print(line(name, rows.mean(axis=0)) + f"   {each}")
    print(
        f"\n{'':30}"
        + "".join(f"{name:>9}" for name in ("speed", "accel.", "jerk", f"<{LOW_PASS:g} Hz", "wrists", "fingers"))
    )
    for name, poses in made.items():
        if "held" not in name:
            print(line(name, np.mean([motion(pose) for pose in poses], axis=0)))
    clips = [normalised(pose_file.read(file)) for file in sorted((data / "how2sign").rglob("*.pose"))]
    moved = np.array([motion(clip) for clip in clips])
    print(line(f"How2Sign, median of {len(clips)}", np.median(moved, axis=0)))
    for share in (0.1, 0.9):
        print(line(f"  {share:.0%} of the clips below", np.quantile(moved, share, axis=0)))
    print("\nDTW with the values that are best for the other sentences:")
    grid = [fluent.FLUENT._replace(**dict(zip(GRID, values, strict=True))) for values in product(*GRID.values())]
    table = np.array([[distances(ours(one.signs, manner), one.truth)[1] for one in sentences] for manner in grid])
    held = []
    for i, one in enumerate(sentences):
        best = int(np.delete(table, i, axis=1).mean(axis=1).argmin())
        held.append(table[best, i])
        values = ", ".join(f"{name} {getattr(grid[best], name):g}" for name in GRID)
        print(f"  {one.name}: {table[best, i]:.2f} by {values}")
    least, most = table.mean(axis=1).min(), table.mean(axis=1).max()
    print(f"  mean {np.mean(held):.3f}; of all {len(grid)} settings {least:.3f} to {most:.3f}")


if __name__ == "__main__":
    main()
