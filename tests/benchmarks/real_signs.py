"""The stabiliser trained on real continuous signing, and which candidate a real sign follows.

    python tests/benchmarks/real_signs.py DATA

The stabiliser: How2Sign's clips with MediaPipe poses (DATA/how2sign, by the splits of `how2sign_clips`). A detector's
poses are the truth here, their own noise with it; what is to be mended is more of it, added: white noise by joint as
the built-in corpus has it, and of the hands' joints one in a hundred that jumps. Trained as stage `pose` trains it, by
L_smooth (its second difference, and its third), L_hand, L_vel and the distance of all joints, with the weights of
`configs/default.py`, and with L_smooth's chosen on dev: the default's is for 16 frames a second. Beside it what needs
no training, values chosen on dev: the exact penalised least-squares smoother, Savitzky-Golay and the binomial filter,
and to do nothing. ± is the standard error over the test clips.

`moved` is how far a confident hand's joints were moved on average, and `least` how far the exact smoother moves them
that is as smooth: 1 and no less is what it must.

Choosing: of the signs of DATA/stitching, which of the dictionary's 19 signs is nearest by hand-weighted DTW, as y is
found for data that does not say it; those that are the sentence's own frames are left out.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(Path(__file__).parent))
from stitching import is_copy, normalised

from signer_jax.configuration import shipped
from signer_jax.data.builtin.performance import _NOISE
from signer_jax.data.corpora.how2sign_clips import clips
from signer_jax.metrics import pose as scores
from signer_jax.pose import filters, skeleton, warping
from signer_jax.pose.formats import pose_file
from signer_jax.pose.skeleton import on_joints
from signer_jax.pose.sources.continuous import pieces
from signer_jax.pose.stitching import trim
from signer_jax.slp_moe import losses
from signer_jax.slp_moe.stabiliser import Stabiliser
from signer_jax.types import Pose

NOISE = 0.012  # shoulder widths of the body, 1.4 times as much of the hands: the built-in corpus's
JUMPS, JUMP = 0.01, 0.15  # of the hands' joints, and how far
SHARES = (0.003, 0.01, 0.03, 0.1)  # of L_smooth's default weight
WEIGHTS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 1.0)  # of the exact smoother's differences
STEPS, BATCH, WINDOW = 600, 16, 48
JOINTS = skeleton.subset("signing_74")
NAMES = ("hand error", "all joints", "smooth/1e3", "jerk", "moved", "/ least", "farthest")
HANDS = warping.hand_index([skeleton.JOINTS[joint] for joint in JOINTS])


@dataclass(frozen=True)
class Clip:
    truth: Pose
    noisy: Pose


def noisy(pose: Pose, seed: int) -> Pose:
    rng = np.random.default_rng(seed)
    off = rng.normal(size=pose.coordinates.shape) * (NOISE * _NOISE[JOINTS])[:, None]
    jump = rng.normal(size=off.shape) * JUMP * (rng.uniform(size=off.shape[:2]) < JUMPS)[..., None]
    off[:, HANDS] += jump[:, HANDS]
    return Pose((pose.coordinates + off).astype(np.float32), pose.confidence, pose.fps)


def read(data: Path, split: str) -> list[Clip]:
    found = []
    for i, clip in enumerate(clips(data / "how2sign", split)):
        assert clip.pose is not None
        truth = on_joints(normalised(pose_file.read(clip.pose)), JOINTS, 2)
        found.append(Clip(truth, noisy(truth, hash_of(split) + i)))
    return found


def hash_of(split: str) -> int:
    return {"train": 0, "dev": 1000, "test": 2000}[split]


def train(clips: list[Clip], order: int, share: float, reach: float) -> tuple[Stabiliser, dict]:
    """Of the default config's size and weights, L_smooth's times `share`; fresh noise every step."""
    c = shipped("default")
    model = Stabiliser(c.pose.stabiliser_hidden, c.pose.stabiliser_layers, c.pose.stabiliser_kernel, reach=reach)
    windows = [
        clip.truth.slice(i, i + WINDOW)
        for clip in clips
        for i in range(0, len(clip.truth) - WINDOW + 1, WINDOW // 4)
    ]  # fmt: skip
    pose = jnp.asarray(np.stack([window.coordinates for window in windows]))
    shown = jnp.asarray(np.stack([window.confidence for window in windows]))
    spread = jnp.asarray((NOISE * _NOISE[JOINTS])[:, None], jnp.float32)
    hands = jnp.zeros(len(JOINTS)).at[HANDS].set(1.0)
    # The third difference of the same noise is 20/6 as large as the second, squared.
    smooth = share * c.loss.smooth * (1.0 if order == 2 else 6 / 20)

    def loss(params, key):
        at, white, where, far = jax.random.split(key, 4)
        pick = jax.random.randint(at, (BATCH,), 0, len(windows))
        truth, seen = pose[pick], shown[pick]
        jumps = (jax.random.uniform(where, seen.shape) < JUMPS)[..., None] * hands[:, None]
        off = jax.random.normal(white, truth.shape) * spread + jax.random.normal(far, truth.shape) * JUMP * jumps
        stable = model.apply({"params": params}, truth + off, seen)
        total = smooth * losses.smoothness(stable, seen, order=order) + c.loss.velocity * losses.velocity_loss(
            stable, seen
        )
        total += c.loss.hand * losses.hand_loss(stable, truth, seen, HANDS)
        return (total + c.loss.pose * losses.pose_reconstruction(stable, truth, seen)).mean()

    tune = optax.adamw(optax.linear_schedule(c.train.pose.learning_rate, 0.0, STEPS))

    def step(carry, i):
        params, state = carry
        value, slope = jax.value_and_grad(loss)(params, jax.random.fold_in(jax.random.key(1), i))
        update, state = tune.update(slope, state, params)
        return (optax.apply_updates(params, update), state), value

    params = model.init(jax.random.key(0), pose[:1], shown[:1])["params"]
    (params, _), values = jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.arange(STEPS)))(
        (params, tune.init(params))
    )
    first, last = values[:20].mean(), values[-20:].mean()
    print(f"order {order}, share {share:g}, reach {reach:g}: {len(windows)} windows, loss {first:.3f} -> {last:.3f}")
    return model, params


def figures(mended: Pose, clip: Clip) -> list[float]:
    """Hand error, error of all joints, smoothness (1e-3, second difference), jerk, how far the hands were moved, that
    over the exact smoother's way, and how far a joint of the hands was moved at most, over its confidence.
    """
    moved = scores.hand_error(mended, clip.noisy, HANDS)
    way = np.linalg.norm(mended.coordinates - clip.noisy.coordinates, axis=-1)
    return [
        scores.hand_error(mended, clip.truth, HANDS), scores.mpjpe(mended, clip.truth),
        1e3 * roughness(mended), scores.jerk(mended), moved, moved / max(least(mended, clip), 1e-9),
        float((way * clip.noisy.confidence)[:, HANDS].max()),
    ]  # fmt: skip


def roughness(pose: Pose) -> float:
    return float(losses.smoothness(pose.coordinates[None, :, HANDS], pose.confidence[None, :, HANDS], order=2)[0])


def least(mended: Pose, clip: Clip) -> float:
    """How far the exact smoother moves the hands that leaves them as rough as `mended`."""
    hands = on_joints(clip.noisy, HANDS, 2)
    low, high = 1e-4, 1e4
    goal = roughness(mended)
    for _ in range(14):
        middle = np.sqrt(low * high)
        rough = filters.penalised(hands, middle)
        value = losses.smoothness(rough.coordinates[None], rough.confidence[None], order=2)[0]
        low, high = (middle, high) if value > goal else (low, middle)
    return scores.hand_error(filters.penalised(hands, high), hands, np.arange(len(HANDS)))


def told(values: np.ndarray) -> str:
    """Mean and standard error."""
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    return f"{mean:9.4f}±{error:6.4f}" if abs(mean) < 10 else f"{mean:9.0f}±{error:6.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    sets = {split: read(data, split) for split in ("train", "dev", "test")}
    print(
        {split: f"{len(found)} clips, {sum(len(one.truth) for one in found)} frames" for split, found in sets.items()}
    )

    def network(order: int, share: float, reach: float = 0.0):
        model, params = train(sets["train"], order, share, reach)
        run = jax.jit(lambda pose, shown: model.apply({"params": params}, pose, shown))

        def mend(pose: Pose) -> Pose:
            wide = -(-len(pose) // 64) * 64
            at = np.minimum(np.arange(wide), len(pose) - 1)
            done = np.asarray(run(pose.coordinates[at][None], pose.confidence[at][None]))[0, : len(pose)]
            return Pose(done, pose.confidence, pose.fps)

        return mend

    def chosen(name: str, every: dict):
        error = {
            values: np.mean([scores.hand_error(mend(one.noisy), one.truth, HANDS) for one in sets["dev"]])
            for values, mend in every.items()
        }
        best = min(error, key=error.__getitem__)
        return f"{name} {best}", every[best]

    systems = dict([
        ("as it came", lambda pose: pose),
        ("binomial (1, 2, 1) / 4", filters.binomial),
        chosen("Savitzky-Golay", {
            (w, o): lambda pose, w=w, o=o: filters.savitzky_golay(pose, w, o) for w in (5, 7, 9) for o in (2, 3)
        }),
        chosen("penalised, 2nd", {w: lambda pose, w=w: filters.penalised(pose, w, 2) for w in WEIGHTS}),
        chosen("penalised, 3rd", {w: lambda pose, w=w: filters.penalised(pose, w, 3) for w in WEIGHTS}),
        ("stabiliser, default", network(2, 1.0)),
        chosen("stabiliser, 2nd", {share: network(2, share) for share in SHARES}),
        chosen("stabiliser, 3rd", {share: network(3, share) for share in SHARES}),
        ("stabiliser, 2nd, reach", network(2, SHARES[0], 0.1)),
    ])  # fmt: skip
    print(f"{'':28}" + "".join(f"{name:>16}" for name in NAMES))
    every = {name: np.array([figures(mend(one.noisy), one) for one in sets["test"]]) for name, mend in systems.items()}
    for name, rows in every.items():
        print(f"{name:28}" + "".join(map(told, rows.T)))
    exact = next(name for name in every if name.startswith("penalised, 2nd"))
    print(f"error of hands and of all joints less than those of {exact!r}, clip by clip:")
    for name, rows in every.items():
        print(f"{name:28}" + "".join(map(told, (every[exact] - rows)[:, :2].T)))
    truth = np.array([[1e3 * roughness(one.truth), scores.jerk(one.truth)] for one in sets["test"]]).mean(0)
    print(f"the truth as detected: smooth {truth[0]:.3f}, jerk {truth[1]:.0f}")
    choose(data)


def choose(data: Path) -> None:
    weights = warping.joint_weights(skeleton.JOINTS, warping.HAND_WEIGHT)
    asked, offered = [], []
    for file in sorted((data / "stitching").glob("*_original.pose")):
        original = pose_file.read(file)
        made = pose_file.read(file.with_name(file.name.replace("_original", "_updated")))
        ours, theirs = pieces(original), pieces(made)
        if len(ours) != len(theirs):  # one sign is gone from the original: the last of three is the other's second
            ours = [ours[0], None, ours[1]]
        for a, b in zip(ours, theirs, strict=True):
            if a and not is_copy(original.slice(*a), made.slice(*b)) and a[1] - a[0] >= 3:
                asked.append(normalised(original.slice(*a)))
                offered.append(trim(normalised(made.slice(*b))))
    ranks = []
    for i, sign in enumerate(asked):
        distance = [warping.dtw(candidate, sign, weights=weights) for candidate in offered]
        ranks.append(int((np.array(distance) < distance[i]).sum()))
        assert warping.nearest_candidate(offered, sign, weights=weights) == int(np.argmin(distance))
    ranks = np.array(ranks)
    n, first, few = len(ranks), np.mean(ranks == 0), np.mean(ranks < 5)
    print(
        f"choosing among {n}: right {first:.2f} (chance {1 / n:.2f}), within five {few:.2f} ({5 / n:.2f}), "
        f"median rank {np.median(ranks) + 1:.0f} of {n}"
    )


if __name__ == "__main__":
    main()
