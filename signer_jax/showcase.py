"""What a run shows a person: `sign.mp4`, the TensorBoard pictures and `report.html`."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from signer_jax import mirror, outside, report
from signer_jax.data import video as videos
from signer_jax.data.streams import video_indices
from signer_jax.evaluation import Evaluation
from signer_jax.model import TRAINED
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.pose.draw import draw
from signer_jax.training.monitoring import Monitor
from signer_jax.types import Pose, Sample

PANEL = 256  # pixels of a panel of the video
SAMPLES, SAMPLE_FRAMES = 6, 81  # clips in TensorBoard, and how much of each
STRIP = 8  # frames of a pose strip

# A row that names no other input is measured on the truth's glosses, timing or poses: one station, not the chain.
TARGETS = (
    ("gloss BLEU-4, %", "gloss/bleu4", "≥ 85, far above both baselines"),
    ("gloss BLEU-4, %, glosses of the nearest training text", "gloss/bleu4_nearest_text", "baseline (TF-IDF)"),
    ("gloss BLEU-4, %, the text in upper case", "gloss/bleu4_copy", "baseline"),
    (
        "text to pose: DTW of the whole pose to the nearest valid one",
        "pose/text_dtw",
        "far below the nearest text's; shoulder widths",
    ),
    ("text to pose, standard error", "pose/text_dtw_error", "over sentences"),
    ("text to pose, texts that could not be signed", "pose/text_dtw_failed", "0; each counts as standing still does"),
    (
        "text to pose, the recording of the nearest training text",
        "pose/text_dtw_nearest_text",
        "baseline (TF-IDF): no model",
    ),
    ("text to pose, the pose of another text", "pose/text_dtw_shuffled", "baseline"),
    ("text to pose, standing still", "pose/text_dtw_rest", "baseline"),
    ("text to pose, from the true glosses", "pose/text_dtw_true_glosses", "what the glosses understood may reach"),
    (
        "form accuracy: the gates choose the form that the truth has",
        "pose/form_accuracy",
        "on the true glosses; above any constant choice. Signers share forms: the same where the DTW to the truth is "
        "within that of 95 of 100 further performances by the truth's own signer",
    ),
    ("form accuracy, standard error", "pose/form_accuracy_error", "over sentences: the gates choose once a sentence"),
    ("form accuracy, a random expert", "pose/form_accuracy_random", "baseline"),
    ("form accuracy, always training's most frequent expert", "pose/form_accuracy_majority", "baseline"),
    (
        "form accuracy, the best constant expert",
        "pose/form_accuracy_constant",
        "baseline, chosen on this split: the best without reading",
    ),
    ("form accuracy, signer of the nearest training text", "pose/form_accuracy_nearest_text", "baseline (TF-IDF)"),
    ("form accuracy, counts of the text's words", "pose/form_accuracy_word_counts", "baseline (naive Bayes)"),
    (
        "form accuracy above the best constant expert's",
        "pose/form_accuracy_over_constant",
        "above twice its standard error",
    ),
    ("its standard error", "pose/form_accuracy_over_constant_error", "over sentences"),
    ("form accuracy above the word counts'", "pose/form_accuracy_over_word_counts", "above 0 if gates pay"),
    ("its standard error", "pose/form_accuracy_over_word_counts_error", "over sentences"),
    (
        "expert accuracy: the gates choose the signer whom the truth follows",
        "pose/expert_accuracy",
        "on the true glosses; above chance and any constant choice; the text leaves a part of it open",
    ),
    (
        "expert accuracy, standard error",
        "pose/expert_accuracy_error",
        "over sentences: the gates choose once a sentence",
    ),
    ("expert accuracy by chance", "pose/expert_accuracy_chance", "baseline: 1 of the gloss's candidates"),
    ("expert accuracy, always training's most frequent expert", "pose/expert_accuracy_majority", "baseline"),
    (
        "expert accuracy, the best constant expert",
        "pose/expert_accuracy_constant",
        "baseline, chosen on this split: the best without reading",
    ),
    (
        "expert accuracy, signer of the nearest training text",
        "pose/expert_accuracy_nearest_text",
        "baseline (TF-IDF)",
    ),
    ("expert accuracy, counts of the text's words", "pose/expert_accuracy_word_counts", "baseline (naive Bayes)"),
    (
        "expert accuracy above the best constant expert's",
        "pose/expert_accuracy_over_constant",
        "above twice its standard error",
    ),
    ("its standard error", "pose/expert_accuracy_over_constant_error", "over sentences"),
    (
        "expert accuracy above the word counts'",
        "pose/expert_accuracy_over_word_counts",
        "above 0 if gates pay",
    ),
    ("its standard error", "pose/expert_accuracy_over_word_counts_error", "over sentences"),
    (
        "DTW to the truth, top expert",
        "pose/dtw_followed_top_expert",
        "on the true glosses and timing; below the baselines; shoulder widths",
    ),
    ("DTW to the truth, random expert", "pose/dtw_followed_random_expert", "baseline"),
    ("DTW to the truth, training's most frequent expert", "pose/dtw_followed_majority_expert", "baseline"),
    ("DTW to the truth, the best constant expert", "pose/dtw_followed_constant_expert", "baseline"),
    ("DTW to the truth, signer of the nearest training text", "pose/dtw_followed_nearest_text_expert", "baseline"),
    ("DTW to the truth, by counts of the text's words", "pose/dtw_followed_word_counts_expert", "baseline"),
    (
        "DTW to the truth, top expert's over the best constant one's",
        "pose/dtw_followed_top_expert_over_constant",
        "below 0 by twice its standard error",
    ),
    ("its standard error", "pose/dtw_followed_top_expert_over_constant_error", "over sentences"),
    ("DTW to the truth, mean of the candidates", "pose/dtw_followed_mean_pose", "baseline: the average pose"),
    ("DTW to the truth, the followed expert", "pose/dtw_followed_followed_expert", "ceiling: the right choice always"),
    (
        "DTW to the nearest of all valid variants, top expert",
        "pose/dtw_nearest_top_expert",
        "≤ half of the mean pose's; says nothing about the choice",
    ),
    ("DTW to the nearest of all, random expert", "pose/dtw_nearest_random_expert", "any one expert comes as close"),
    (
        "DTW to the nearest of all, mean of the candidates",
        "pose/dtw_nearest_mean_pose",
        "the average pose that the paper warns of",
    ),
    ("L_smooth before the stabiliser", "pose/smooth_before", "the followed expert; squared shoulder widths a frame"),
    ("L_smooth after it", "pose/smooth_after", "≥ 30 % lower"),
    ("L_smooth, filter (1, 2, 1) / 4 instead", "pose/smooth_binomial", "baseline: no training"),
    ("L_smooth, Savitzky-Golay (7, 2) instead", "pose/smooth_savitzky_golay", "baseline: no training"),
    ("L_smooth, exact least squares (.1) instead", "pose/smooth_penalised", "baseline: no training"),
    ("L_smooth of the ground truth", "pose/smooth_truth", "as detected, with its noise: no goal"),
    ("hand error before", "pose/hand_before", "the followed expert, whose hands are the truth's; shoulder widths"),
    ("hand error after", "pose/hand_after", "≤ 5 % higher; below both filters'"),
    ("hand error, filter (1, 2, 1) / 4 instead", "pose/hand_binomial", "baseline: no training"),
    ("hand error, Savitzky-Golay (7, 2) instead", "pose/hand_savitzky_golay", "baseline: no training"),
    ("hand error, exact least squares (.1) instead", "pose/hand_penalised", "baseline: no training"),
    (
        "jerk after the stabiliser",
        "pose/jerk_after",
        "below before, with the hand error kept: a pose that stands still has none; shoulder widths / s³",
    ),
    ("jerk before it", "pose/jerk_before", "as detected, with its noise"),
    ("jerk, filter (1, 2, 1) / 4 instead", "pose/jerk_binomial", "baseline: no training"),
    ("jerk, Savitzky-Golay (7, 2) instead", "pose/jerk_savitzky_golay", "baseline: no training"),
    ("jerk, exact least squares (.1) instead", "pose/jerk_penalised", "baseline: no training"),
    ("jerk of the ground truth", "pose/jerk_truth", "as detected: mostly its noise, so no goal"),
    ("SSIM of the rendered video", "video/ssim", "from the truth's poses; above the five baselines"),
    ("SSIM, standard error", "video/ssim_error", "over clips"),
    (
        "SSIM above the best baseline's",
        "video/ssim_over_best",
        "above twice its standard error",
    ),
    ("its standard error", "video/ssim_over_best_error", "over clips"),
    ("SSIM, mean training frame of the signer", "video/ssim_mean_frame", "baseline"),
    ("SSIM, training frame of the nearest pose", "video/ssim_nearest_pose", "baseline"),
    ("SSIM, that with its hands pasted from other frames", "video/ssim_composite", "baseline: no network"),
    ("SSIM, the reference picture alone", "video/ssim_reference", "baseline"),
    ("SSIM, the renderer untrained, in one step", "video/ssim_untrained", "baseline"),
    ("SSIM, autoencoder alone", "video/ssim_reconstruction", "ceiling of this renderer"),
    ("Hand SSIM of the rendered video", "video/hand_ssim", "from the truth's poses; above the five baselines"),
    ("Hand SSIM, standard error", "video/hand_ssim_error", "over clips"),
    (
        "Hand SSIM above the best baseline's",
        "video/hand_ssim_over_best",
        "above twice its standard error",
    ),
    ("its standard error", "video/hand_ssim_over_best_error", "over clips"),
    ("Hand SSIM, mean frame", "video/hand_ssim_mean_frame", "baseline"),
    ("Hand SSIM, nearest pose", "video/hand_ssim_nearest_pose", "baseline"),
    ("Hand SSIM, that with its hands pasted", "video/hand_ssim_composite", "baseline: no network"),
    ("Hand SSIM, the reference picture alone", "video/hand_ssim_reference", "baseline"),
    ("Hand SSIM, the renderer untrained, in one step", "video/hand_ssim_untrained", "baseline"),
    ("Hand SSIM, autoencoder alone", "video/hand_ssim_reconstruction", "ceiling of this renderer"),
    ("Hand SSIM, farthest tenth of the frames", "video/hand_ssim_far", "farthest from any training pose"),
    ("Hand SSIM, nearest pose, of these", "video/hand_ssim_far_nearest_pose", "baseline"),
    ("Hand SSIM, the reference picture, of these", "video/hand_ssim_far_reference", "baseline"),
    (
        "detail of the hands",
        "video/detail",
        "correlation of gradients with the truth's: 1 has its edges in their places, noise about 0, a still picture "
        "what it shares with the truth; above the five baselines",
    ),
    ("detail, standard error", "video/detail_error", "over clips"),
    ("detail, mean frame", "video/detail_mean_frame", "baseline"),
    ("detail, nearest pose", "video/detail_nearest_pose", "baseline"),
    ("detail, that with its hands pasted", "video/detail_composite", "baseline: no network"),
    ("detail, the reference picture alone", "video/detail_reference", "baseline"),
    (
        "detail, the renderer untrained, in one step",
        "video/detail_untrained",
        "baseline: a blur, whose edges lie as a still picture's may",
    ),
    ("detail, autoencoder alone", "video/detail_reconstruction", "ceiling of this renderer"),
    ("detail, farthest tenth of the frames", "video/detail_far", "farthest from any training pose"),
    ("detail, nearest pose, of these", "video/detail_far_nearest_pose", "baseline"),
    ("detail, the reference picture, of these", "video/detail_far_reference", "baseline"),
    (
        "sharpness of the hands",
        "video/sharpness",
        "gradient energy over the truth's: .7 to 1.3; noise has it too, so read it beside the detail",
    ),
    ("sharpness, standard error", "video/sharpness_error", "over clips"),
    ("sharpness, farthest tenth of the frames", "video/sharpness_far", "farthest from any training pose: .7 to 1.3"),
    ("sharpness, the reference picture, of these", "video/sharpness_far_reference", "filmed: 1, but for the place"),
    ("sharpness, mean frame", "video/sharpness_mean_frame", "blur"),
    ("sharpness, nearest pose", "video/sharpness_nearest_pose", "filmed: 1, but for the pose"),
    ("sharpness, that with its hands pasted", "video/sharpness_composite", "filmed, but for the seams of the pasting"),
    ("sharpness, the reference picture alone", "video/sharpness_reference", "filmed: 1, but for the place"),
    (
        "sharpness, the renderer untrained, in one step",
        "video/sharpness_untrained",
        "blur; noise without a hybrid head",
    ),
    ("sharpness, autoencoder alone", "video/sharpness_reconstruction", "ceiling of this renderer"),
    ("flicker", "video/flicker", "≤ .5 levels of 255 where the truth stands still; a still picture has 0"),
    ("flicker, standard error", "video/flicker_error", "over clips"),
    ("flicker of the truth", "video/flicker_truth", "what filming leaves"),
    ("flicker, nearest pose", "video/flicker_nearest_pose", "jumps between clips"),
    ("flicker, that with its hands pasted", "video/flicker_composite", "jumps between clips, and the hands' own"),
    ("flicker, the renderer untrained, in one step", "video/flicker_untrained", "baseline"),
    ("flicker, autoencoder alone", "video/flicker_reconstruction", "of this, the autoencoder's part"),
    ("change across window seams over the truth's", "video/change_seam", "as inside the windows"),
    ("largest change at a window seam over the largest inside", "video/change_seam_most", "about 1 or less"),
    ("change inside the windows over the truth's", "video/change_inside", ""),
    ("SSIM, signers that training never saw", "video_unseen/ssim", "the reference alone is the baseline"),
    ("SSIM of these, standard error", "video_unseen/ssim_error", "over clips"),
    ("SSIM, the reference alone, of these", "video_unseen/ssim_reference", "baseline"),
    ("Hand SSIM, signers that training never saw", "video_unseen/hand_ssim", "the reference alone is the baseline"),
    ("Hand SSIM of these, standard error", "video_unseen/hand_ssim_error", "over clips"),
    ("Hand SSIM, the reference alone, of these", "video_unseen/hand_ssim_reference", "baseline"),
)
# What each block of rows is a mean over.
COUNTS = (
    ("gloss/sentences", "texts for glosses"), ("pose/sentences", "sentences for poses"),
    ("pose/glosses", "glosses with a choice among experts"), ("video/clips", "clips"),
    ("video_unseen/clips", "clips of signers that training never saw"),
)  # fmt: skip
# Beside the table: what its rows are measured on.
MEASURED = (
    "“text to pose” goes the whole way from the text, as `signer sign` does. All other rows are of one station on the "
    "truth: glosses from the text, poses from the true glosses and timing, videos from the true poses. Text to video "
    "has no figure: it differs from the truth in timing, so frames cannot be paired; the video at the top shows it."
)


def show(signer: Signer, evaluation: Evaluation, result: dict, workdir: Path) -> None:
    """Writes the video of one dev sentence (where the run signs), also to TensorBoard, and the report."""
    caption, frames = side_by_side(signer) or ("", None)
    if frames is not None:
        videos.write(workdir / "sign.mp4", frames, signer.fps)
        Monitor(workdir / "tensorboard").video("video/signed", result["step"], frames[:, ::2, ::2], signer.fps)
    write_report(evaluation, result, workdir, caption)


def side_by_side(signer: Signer) -> tuple[str, np.ndarray] | None:
    """A dev sentence through the chain, beside its ground truth: skeleton, rendered signer, ground truth. As in `sign`,
    who is rendered is whom the gates chose, who need not be the truth's signer.

    As far as the run goes: without a renderer, or without a video of any sentence, skeletons alone; None where it makes
    no pose of a text, or dev has no text with a pose.
    """
    sample = _shown(signer)
    if sample is None or sample.pose is None:
        return None
    signed = signer.sign(sample.text, language=sample.language)
    filmed = {"rendered signer": signed.video, "ground truth": sample.video}
    panels = {name: enlarge(video) for name, video in filmed.items() if video is not None}
    size = next((panel.shape[1:3] for panel in panels.values()), (PANEL, PANEL))  # as large as what was filmed
    panels = {"skeleton": draw(signed.pose, size), **panels}
    if sample.video is None:
        panels["ground truth"] = draw(sample.pose, size)
    index = np.arange(max(map(len, panels.values())))
    frames = np.concatenate([panel[np.minimum(index, len(panel) - 1)] for panel in panels.values()], axis=2)
    caption = f"“{sample.text}” [{sample.language}] → {' '.join(signed.glosses)}: {', '.join(panels)}"
    if signed.look and sample.video is not None:
        caption += f" (rendered: {signed.look}; truth: {sample.signer})"
    return caption, frames


def _shown(signer: Signer) -> Sample | None:
    """The first dev sample that has a text and a video, else the first with a text and a pose (a guest has no text)."""
    if signer.model.slp_moe is None:
        return None
    records, filmed = signer.corpus.motions("dev"), video_indices(signer.corpus, "dev")
    rest = (i for i in range(len(records)) if i not in filmed)
    return next((records[i] for i in (*filmed, *rest) if records[i].text), None)


def enlarge(video: np.ndarray) -> np.ndarray:
    """Pixels repeated up to the panel's height."""
    scale = max(1, PANEL // video.shape[1])
    return video.repeat(scale, axis=1).repeat(scale, axis=2)


def reduced(video: np.ndarray) -> np.ndarray:
    """Every n-th pixel of it, so that no frame is higher than the panel."""
    each = -(-video.shape[1] // PANEL)
    return video[:, ::each, ::each]


def strip(pose: Pose, joints: str) -> np.ndarray:
    """Some frames of a pose on a subset of joints, side by side: uint8 `[h, STRIP·h, 3]`."""
    index = np.linspace(0, len(pose) - 1, STRIP).round().astype(int)
    full = np.zeros((STRIP, len(skeleton.JOINTS), pose.coordinates.shape[-1]), np.float32)
    confidence = np.zeros(full.shape[:2], np.float32)
    where = skeleton.subset(joints)
    full[:, where], confidence[:, where] = pose.coordinates[index], pose.confidence[index]
    return np.concatenate(list(draw(Pose(full, confidence, pose.fps), PANEL // 2)), axis=1)


def clip_strip(clip: dict[str, np.ndarray]) -> np.ndarray:
    """The middle frames of a clip's versions, a row each: uint8 picture."""
    rows = []
    for video in clip.values():
        index = np.linspace(0, len(video) - 1, STRIP).round().astype(int)
        rows.append(np.concatenate(list(video[index]), axis=1))
    return np.concatenate(rows, axis=0).repeat(2, axis=0).repeat(2, axis=1)


def log_samples(evaluation: Evaluation, step: int, monitor: Monitor, fps: float, within: str = "") -> None:
    """Glosses as text, pose strips as images, rendered clips as video, in TensorBoard.

    Of few clips, small and short: an animated image of large ones takes minutes and a hundred megabytes.
    """
    if evaluation.glosses or not within:
        monitor.text(f"{within}glosses", step, list(evaluation.glosses[:30]), ("text", "predicted", "true"))
    for label, pose in evaluation.poses:
        monitor.image(f"{within}pose/{label}", step, strip(pose, evaluation.joints))
    for i, clip in enumerate(evaluation.clips[:SAMPLES]):
        shown = [reduced(video[:SAMPLE_FRAMES]) for video in clip.values()]
        monitor.video(f"{within}video/{i}", step, np.concatenate(shown, axis=2), fps)


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def training_curves(directory: Path) -> list[tuple[str, dict[str, list[tuple[int, float]]]]]:
    """The loss and its terms of each stage, read back from TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    outside.check_tree(directory, "remove it: what this run has not written there is none of its curves")
    if not directory.is_dir():  # no curve could be written
        return []
    mirror.fetch_plain(directory)
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0, "images": 1, "tensors": 1})
    events.Reload()
    names = events.Tags()["scalars"]
    curves = []
    for stage in TRAINED:
        series = {
            name.split("/", 1)[1]: [(event.step, event.value) for event in events.Scalars(name)]
            for name in names
            if name.startswith(f"{stage}/") and name.count("/") == 1 and not name.endswith("gradient_norm")
        }
        if series:
            curves.append((f"stage {stage}", series))
    return curves


def by_signer(metrics: dict[str, float]) -> tuple[list[str], list[tuple[object, ...]]]:
    """The figures that are there for each signer (`pose/NAME/SIGNER`, `video/SIGNER/NAME`) beside their means: the
    header and a row a figure. No rows where no figure has more than one signer.
    """
    cells: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        part, *rest = key.split("/", 2)
        if len(rest) == 2 and not key.endswith("_unscored"):
            signer, name = rest if part.startswith("video") else reversed(rest)
            cells.setdefault(f"{part}/{name}", {})[signer] = value
    signers = sorted({signer for row in cells.values() for signer in row})
    if len(signers) < 2:
        return ["figure"], []
    rows: list[tuple[object, ...]] = [
        (name, metrics.get(name), *(row.get(signer) for signer in signers)) for name, row in sorted(cells.items())
    ]
    return ["figure", "mean", *signers], rows


def counted(metrics: dict[str, float]) -> str:
    """How many sentences and clips the figures are means over."""
    return ", ".join(f"{metrics[name]:.0f} {what}" for name, what in COUNTS if name in metrics)


def write_report(evaluation: Evaluation, result: dict, workdir: Path, caption: str) -> None:
    metrics = result["metrics"]
    targets = [(label, f"{metrics[name]:.4g}", goal) for label, name, goal in TARGETS if name in metrics]
    everything = [(name, f"{value:.4g}") for name, value in sorted(metrics.items())]
    header, signers = by_signer(metrics)
    seconds = [(stage, f"{value:.0f}") for stage, value in result["wall_seconds"].items()]
    note = f"split: {result['split']}; scored: {counted(metrics) or 'nothing'}\n{MEASURED}"
    legends = [" / ".join(clip) for clip in evaluation.clips]
    report.write(
        workdir / "report.html",
        title="signer_jax: the whole chain on the built-in corpus",
        tables=[
            ("What it shows", ("figure", "value", "goal or meaning"), targets, note),
            (
                "Glosses",
                ("text", "predicted", "true"),
                evaluation.glosses[:12],
                evaluation.facts.get("gloss/bleu_signature", ""),
            ),
            *((("By signer", header, signers, "a dash: no clip of this signer is in the split"),) if signers else ()),
            ("Every figure", ("name", "value"), everything, ""),
            ("Wall time", ("stage", "seconds"), seconds, result["devices"]),
        ],
        curves=training_curves(workdir / "tensorboard"),
        pictures=[
            *((f"Pose: {label}", png(strip(pose, evaluation.joints))) for label, pose in evaluation.poses),
            *(
                (f"{result['split']} clip {i}, rendered from the true poses; rows: {legends[i]}", png(clip_strip(clip)))
                for i, clip in enumerate(evaluation.clips)
            ),
        ],
        videos=[(caption, (workdir / "sign.mp4").read_bytes())] if caption else [],
        facts={
            "step": str(result["step"]),
            "parameters": ", ".join(f"{part} {count:,}" for part, count in result["parameters"].items()),
            "params_sha256": result["params_sha256"],
            "mesh": str(result["mesh"]),
            **result["versions"],
        },
    )
