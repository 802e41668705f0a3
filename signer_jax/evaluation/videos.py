"""Videos on a split: rendered clips beside what gives their figures a meaning."""

import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import jax.numpy as jnp
import numpy as np

from signer_jax.data.records import Corpus
from signer_jax.data.streams import spread, video_indices
from signer_jax.errors import SignerError
from signer_jax.evaluation.figures import Evaluation, differences, error_of, means, ratio_error
from signer_jax.metrics import video as video_metrics
from signer_jax.metrics.frechet import Moments, cell_features, frechet_distance
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.pose.skeleton import on_joints
from signer_jax.progress import progress
from signer_jax.renderer.conditions import Conditions
from signer_jax.renderer.references import ReferenceBank
from signer_jax.renderer.sampler import Field
from signer_jax.renderer.windows import seams
from signer_jax.stations.render import Style, picture, render, roundtrip, style, style_of
from signer_jax.stations.studio import Studio
from signer_jax.stations.understand import semantics
from signer_jax.types import Pose, Sample

_HELD = 4 << 30  # bytes of a signer's training videos: 44 clips of 81 x 480 x 832, 5,000 of 80 x 64 x 64
Rows = dict[str, list[list[float]]]  # of each figure the values of each clip: what is drawn is a clip
# What knows no network, or an untrained one; the autoencoder is no baseline but the ceiling.
BASELINES = ("_reference", "_untrained", "_mean_frame", "_nearest_pose", "_composite")
SHOWN = {
    "": "rendered", "_reconstruction": "autoencoder", "_nearest_pose": "nearest pose",
    "_composite": "hands pasted from other frames",
}  # fmt: skip


def evaluate_videos(signer: Signer, split: str, limit: int, result: Evaluation) -> None:
    """Clips rendered from their true poses, whole, beside what gives the figures their meaning: at most `limit` of
    signers that training filmed, and at most as many of others, each evenly over theirs.

    SSIM and Hand SSIM as in the paper's tables; rows beside them: the same renderer untrained (`_untrained`), the
    reference picture alone, the signer's mean training frame, their training frame of the nearest pose, this with hands
    pasted from other frames (a composite without a network), the autoencoder as the ceiling. `video/detail`:
    correlation of the hand crops' gradients with the truth's: of noise about 0, of sharp hands in other places less
    than of hands in theirs (a still picture shares some edges with every frame). `video/sharpness`: gradient energy in
    the hand crops over the truth's, which noise has too; `…_far`: of the hands in the tenth of the frames that is
    farthest from any training pose. `video/flicker` where the truth stands still, in levels of 255; a still picture has
    none. `video/change_…`: the change from frame to frame over the truth's, across the seams of the windows (of blended
    ones all that two share) and inside them; `…_seam_most`: a clip's largest change at a seam over its largest inside,
    which a cut of one frame raises and the mean hardly. Signers without a training video have rows of their own,
    `video_unseen/…`; their reference is a frame of another clip of theirs. A clip that is itself a training clip is
    left out of its signer's reference frames and baselines, which are of as many training clips as memory holds
    (`filmed_by`).
    `…/frechet_cells`: of all frames together, see `metrics.frechet`: no FID. `…/clips`: how many were scored;
    `…_error`: the standard error over them; `…_over_best`: the difference to the best of `BASELINES`, pair by pair,
    with its own.
    """
    corpus, studio = signer.corpus, signer.studio
    records, listed, filmed_at = corpus.motions(split), corpus.listed(split), video_indices(corpus, split)
    trained = {name for _, video, name in corpus.listed("train") if video}
    known = [i for i in filmed_at if listed[i][2] in trained]
    guests = [i for i in filmed_at if listed[i][2] not in trained]
    first, shown = [known[k] for k in spread(len(known), limit)], {}
    picked = sorted([*first, *(guests[k] for k in spread(len(guests), limit))])
    rows: Rows = defaultdict(list)
    clips: Counter[str] = Counter()
    layouts: dict[str, Moments] = defaultdict(Moments)
    untrained = _untrained(signer)
    states: dict[int, Any] = dict.fromkeys(picked)
    if signer.texts:
        states |= zip(picked, signer.texts.of([records[i].text for i in picked]), strict=True)
    # One signer after the other, so that each one's training videos are read once, and one signer's are held.
    in_turn = iter(progress(sorted(picked, key=lambda i: listed[i][2]), "video"))
    for name, places in groupby(in_turn, key=lambda i: listed[i][2]):
        seen = name in trained
        training = filmed_by(corpus, name) if seen else {}
        for i in places:
            sample, _ = records.filmed(i)
            whole, truth = filmed(sample)
            whole = whole.slice(0, len(truth))
            clip = replace(sample, pose=whole)
            pose = on_joints(whole, signer.model.joints, signer.settings.pose.dims)
            H = mask = None
            if signer.model.slul is not None:
                H, mask = semantics(clip.text, clip.language, signer.linker)
            others = {k: other for k, other in training.items() if other.name != clip.name}
            bank = studio.latents.banks.get(name)  # of many signers a published model's run keeps some alone
            own = {i} if split == "train" else set()
            left = set(clips_of(corpus, name)) - own - (training.keys() - others.keys())
            bank = bank_of(bank, left) if bank and others else None
            look = style_of(bank, name) if bank else borrowed(studio, corpus, split, i)
            candidates = {
                "": render(whole, look, H, mask, studio, states[i]).video,
                "_reference": np.broadcast_to(picture(look, studio), truth.shape),
                "_reconstruction": reconstruct(truth, studio),
            }
            if untrained is not None:
                candidates["_untrained"] = render(whole, look, H, mask, untrained, states[i]).video
            if others:
                candidates |= baselines(clip, list(others.values()))
            folder = "video" if seen else "video_unseen"
            keys = [folder, f"{folder}/{clip.signer}"] if len(corpus.about["signers"]) > 1 else [folder]
            scored = clip_scores(candidates, truth, pose, signer)
            for kind, values in scored.items():
                for key in keys:
                    rows[f"{key}/{kind}"].append(values)
            clips.update(f"{key}/clips" for key in keys)
            for kind, video in {**candidates, "_truth": truth}.items():
                layouts[f"{folder}/frechet_cells{kind}"].add(cell_features(video))
            if others:
                score_motion(candidates, scored, truth, pose, distances(clip, list(others.values())), signer, rows)
            if i in first[:4] or not seen:
                names = SHOWN if others else {"": "rendered", "_reference": "reference"}
                shown[i] = {"ground truth": truth, **{names[name]: candidates[name] for name in names}}
    result.clips += [shown[i] for i in sorted(shown)]
    scores = {name: each for name, each in rows.items() if "/" in name}
    result.metrics |= means({name: [value for clip in each for value in clip] for name, each in scores.items()})
    result.metrics |= {name: float(count) for name, count in clips.items()}
    result.metrics |= layout_figures(layouts)
    result.each |= scores
    result.metrics |= motion_figures(rows)
    for folder in ("video", "video_unseen"):
        for kind in ("ssim", "hand_ssim", "detail"):
            figures, best = certainty(f"{folder}/{kind}", scores)
            result.metrics |= figures
            if best:
                result.facts[f"{folder}/{kind}_best"] = best


def _untrained(signer: Signer) -> Studio | None:
    """The studio with fresh parameters, in one step: what knows nothing makes nothing more of many.

    None for a renderer that began with published weights: a fresh one is no baseline of it.
    """
    if signer.settings.renderer.init:
        return None
    renderer = signer.studio.renderer

    def velocity(_: Any, seen: Conditions) -> Field:
        return lambda x, sigma: renderer.fresh_velocity(x, jnp.full(len(x), sigma), seen.reference)

    return signer.studio.by(velocity, steps=1)


def clip_scores(
    candidates: dict[str, np.ndarray], truth: np.ndarray, pose: Pose, signer: Signer
) -> dict[str, list[float]]:
    """Every candidate's SSIM of the frames and of the hands, and the hands' detail."""
    centres, visible, crop = hands_of(truth, pose, signer)
    true_hands = video_metrics.hand_crops(truth, centres, visible, crop)
    scores = {}
    for name, video in candidates.items():
        hands = video_metrics.hand_crops(video, centres, visible, crop)
        scores[f"ssim{name}"] = video_metrics.ssim(video, truth).tolist()
        scores[f"hand_ssim{name}"] = video_metrics.ssim(hands, true_hands).tolist()
        scores[f"detail{name}"] = video_metrics.gradient_correlation(hands, true_hands).tolist()
    return scores


def layout_figures(layouts: dict[str, Moments]) -> dict[str, float]:
    """The Fréchet distance of all frames' `cell_features` to the truth's; of few frames it is too large."""
    truth = {name.removesuffix("_truth"): moments for name, moments in layouts.items() if name.endswith("_truth")}
    return {
        name: frechet_distance(moments, truth[name[: name.index("frechet_cells") + len("frechet_cells")]])
        for name, moments in layouts.items() if not name.endswith("_truth") and moments.count > 1
    }  # fmt: skip


def certainty(name: str, rows: Rows) -> tuple[dict[str, float], str]:
    """How sure a figure is over clips, how far it is from the best baseline's, and which one that is ("": none)."""
    if name not in rows:
        return {}, ""
    figures = error_of(name, rows[name])
    there = {one: rows[f"{name}{one}"] for one in BASELINES if len(rows.get(f"{name}{one}", ())) == len(rows[name])}
    there = {one: clips for one, clips in there.items() if np.isfinite(np.concatenate(clips)).any()}
    if not there:
        return figures, ""
    best = max(there, key=lambda one: float(np.nanmean(np.concatenate(there[one]))))
    return figures | differences(f"{name}_over_best", rows[name], there[best]), best.removeprefix("_")


def score_motion(
    candidates: dict[str, np.ndarray], scored: dict[str, list[float]], truth: np.ndarray, pose: Pose, far: np.ndarray,
    signer: Signer, rows: Rows,
) -> None:  # fmt: skip
    """Adds what sharpness, flicker, the seams and the far hands' figures are computed from.

    `scored`: what `clip_scores` says of these; `far [t]`: the distance to the training poses.
    """
    centres, visible, crop = hands_of(truth, pose, signer)
    rows["far"].append(list(far[np.nonzero(visible)[0]]))
    for kind in (kind for kind in scored if kind.startswith(("hand_ssim", "detail"))):
        rows[kind].append(scored[kind])
    studio = signer.studio
    goes_on, ratio = bool(studio.renderer.variant.continues), studio.renderer.temporal_ratio
    seam = seams(len(truth), studio.window, studio.overlap, ratio=ratio, goes_on=goes_on)
    for name, video in {**candidates, "_truth": truth}.items():
        hands = video_metrics.hand_crops(video, centres, visible, crop)
        rows[f"energy{name}"].append(list(video_metrics.gradient_energy(hands)))
        if len(truth) > 1:
            rows[f"flicker{name}"].append([video_metrics.flicker(video, truth)])
        if name in ("", "_truth"):  # the windows are the renderer's
            change = video_metrics.frame_change(video)
            rows[f"seam{name}"].append(list(change[seam]))
            rows[f"inside{name}"].append(list(change[~seam]))
            if name == "" and seam.any() and not seam.all():
                rows["most_seam"].append([change[seam].max()])
                rows["most_inside"].append([change[~seam].max()])


def hands_of(truth: np.ndarray, pose: Pose, signer: Signer) -> tuple[np.ndarray, np.ndarray, int]:
    """Where the hands are in the frames, whether they are shown, and the side of the crop around them, in pixels."""
    names = skeleton.SUBSETS[signer.settings.pose.joints]
    centres, visible = video_metrics.hand_centres(pose, names, truth.shape[1:3])
    return centres, visible, video_metrics.hand_crop(*truth.shape[1:3])


def motion_figures(rows: Rows) -> dict[str, float]:
    """Sharpness, flicker and seams from what `score_motion` gathered; no row where nothing could be scored."""

    def ratio(name: str, row: str, truth: str, kept: Sequence[np.ndarray | slice] | None = None) -> dict[str, float]:
        """The sum of a row over the truth's, and how sure that is over clips."""
        kept = kept or [slice(None)] * len(rows[row])
        ours, theirs = (
            [float(np.sum(np.array(clip)[where])) for clip, where in zip(rows[one], kept, strict=True)]
            for one in (row, truth)
        )
        if sum(theirs) <= 0:
            return {}
        return {name: sum(ours) / sum(theirs), f"{name}_error": ratio_error(ours, theirs)}

    figures: dict[str, float] = {}
    far = [np.array(clip) for clip in rows["far"]]
    if any(map(len, far)):
        limit = np.quantile(np.concatenate(far), 0.9)
        kept = [clip >= limit for clip in far]
        for row in [row for row in rows if row.startswith("energy") and row != "energy_truth"]:
            for part, frames in (("", None), ("_far", kept)):
                name = f"video/sharpness{part}{row.removeprefix('energy')}"
                found = ratio(name, row, "energy_truth", frames)
                figures |= found if row == "energy" else {key: value for key, value in found.items() if key == name}
        for kind in ("hand_ssim", "detail"):
            for row in [row for row in rows if row.startswith(kind)]:
                groups = [list(np.array(clip)[where]) for clip, where in zip(rows[row], kept, strict=True)]
                name = f"video/{kind}_far{row.removeprefix(kind)}"
                figures |= means({name: [value for clip in groups for value in clip]})
                figures |= error_of(name, groups) if row == kind else {}
    for part in ("seam", "inside"):
        figures |= ratio(f"video/change_{part}", part, f"{part}_truth")
    figures |= ratio("video/change_seam_most", "most_seam", "most_inside")
    flicker = [row for row in rows if row.startswith("flicker")]
    figures |= means({f"video/{row}": [value for clip in rows[row] for value in clip] for row in flicker})
    figures |= error_of("video/flicker", rows["flicker"])
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def bank_of(bank: ReferenceBank, clips: Collection[int]) -> ReferenceBank | None:
    """A signer's reference frames that are from these training clips (by their places); None where there are none."""
    kept = np.isin(bank.motion, list(clips))
    if kept.all():
        return bank
    return bank.of(kept) if kept.any() else None


def borrowed(studio: Studio, corpus: Corpus, split: str, i: int) -> Style:
    """A style for clip `i` of a split where training has none: the first frame of another clip of the signer's there;
    zeros without one.
    """
    listed = corpus.listed(split)
    for k in video_indices(corpus, split):
        if k != i and listed[k][2] == listed[i][2]:
            return style(studio, picture=corpus.motions(split).video(k)[0])
    return Style(np.zeros_like(style(studio).reference))


def distances(clip: Sample, training: Sequence[Sample]) -> np.ndarray:
    """`[t]`: how far each frame's arms and hands are from the nearest training frame of the signer."""
    pose, _ = filmed(clip)
    arms = skeleton.positions(skeleton.PARTS["arms"], skeleton.JOINTS)
    theirs = [filmed(sample)[0] for sample in training]
    return video_metrics.pose_distance(
        Pose(pose.coordinates[:, arms], pose.confidence[:, arms], pose.fps),
        np.concatenate([one.coordinates[:, arms] for one in theirs]),
        np.concatenate([one.confidence[:, arms] for one in theirs]),
    )


def clips_of(corpus: Corpus, name: str) -> list[int]:
    """The places of a signer's training samples that have a video."""
    listed = corpus.listed("train")
    return [i for i in video_indices(corpus, "train") if listed[i][2] == name]


def filmed_by(corpus: Corpus, name: str) -> dict[int, Sample]:
    """The training samples of a signer that have a video, by their places: all, or where these take more than `_HELD`
    so many as do not, spread evenly, which is said on standard error.
    """
    listed, every = corpus.listed("train"), clips_of(corpus, name)
    height, width = corpus.size or (0, 0)
    places = [every[k] for k in held([listed[i][0] * height * width * 3 for i in every], _HELD)]
    if len(places) < len(every):
        print(
            f"signer: of {name}'s {len(every)} training clips {len(places)}, spread evenly, are what the videos are "
            f"compared with: all are more than the {_HELD / 1e9:.1f} GB that are held at a time",
            file=sys.stderr,
        )
    records = corpus.motions("train")
    return {i: records.filmed(i)[0] for i in places}


def held(sizes: Sequence[int], most: int) -> list[int]:
    """Places of as many items as take `most` bytes together, spread evenly; two of them in any case."""
    count = len(sizes)
    while count > 2 and sum(sizes[k] for k in spread(len(sizes), count)) > most:
        count -= max(1, count // 20)
    return spread(len(sizes), max(count, 2)).tolist()


def reconstruct(video: np.ndarray, studio: Studio) -> np.ndarray:
    """Through the autoencoder and back, window by window: what no renderer on these latents can pass."""
    length = studio.window
    index = np.minimum(np.arange(-(-len(video) // length) * length), len(video) - 1).reshape(-1, length)
    through = [roundtrip(video[at][None], studio)[0] for at in index]
    return np.concatenate(through)[: len(video)]


def baselines(clip: Sample, training: Sequence[Sample]) -> dict[str, np.ndarray]:
    """The mean frame of the signer's training clips, for every frame their frame of the nearest pose, and that with the
    hands cut from other frames.
    """
    compared = skeleton.positions(skeleton.PARTS["arms"], skeleton.JOINTS)
    mean = video_metrics.mean_frame(filmed(sample)[1] for sample in training)
    (nearest,) = video_metrics.nearest_pose_baseline([clip], training, compared)
    return {
        "_mean_frame": np.broadcast_to(mean, filmed(clip)[1].shape),
        "_nearest_pose": nearest,
        "_composite": video_metrics.composite_baseline(clip, training, nearest),
    }


def filmed(sample: Sample) -> tuple[Pose, np.ndarray]:
    """A sample's pose and video, which every listed video has."""
    if sample.pose is None or sample.video is None:
        raise SignerError(
            f"sample {sample.name!r} has no pose or no video, though the corpus lists both; prepare it again"
        )
    return sample.pose, sample.video
