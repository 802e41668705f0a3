"""Our rows of videos and of experts: what an evaluation gives, sentence by sentence and clip by clip."""

from collections.abc import Callable, Sequence

from signer_jax.errors import SignerError
from signer_jax.evaluation.figures import Evaluation
from signer_jax.evaluation.poses import evaluate_poses
from signer_jax.evaluation.signed_videos import Filmed, filmed_texts, score_signed, sign
from signer_jax.evaluation.videos import evaluate_videos
from signer_jax.pipeline import Signer
from signer_jax.progress import progress
from signer_jax.reproduction import rows, runs, texts
from signer_jax.reproduction.runs import Workshop
from signer_jax.reproduction.scored import Scored, of_means
from signer_jax.training.partitioning import on_mesh_of
from signer_jax.types import Sample

SPLIT = "dev"
# The ending of a candidate in `evaluation.videos`, by the row that it is.
_CANDIDATES = {
    rows.REFERENCE: "_reference", rows.MEAN_FRAME: "_mean_frame", rows.NEAREST_POSE: "_nearest_pose",
    rows.COMPOSITE: "_composite", rows.AUTOENCODER: "_reconstruction", rows.JOINT: "",
}  # fmt: skip
_EXPERTS = {
    rows.MEAN_OF_EXPERTS: ("mean_pose", None), rows.RANDOM_EXPERT: ("random_expert", "expert_accuracy_chance"),
    rows.MAJORITY_EXPERT: ("majority_expert", "expert_accuracy_majority"),
    rows.NEAREST_EXPERT: ("nearest_text_expert", "expert_accuracy_nearest_text"),
    rows.COUNTS_EXPERT: ("word_counts_expert", "expert_accuracy_word_counts"),
    rows.TOP_EXPERT: ("top_expert", "expert_accuracy"), rows.RIGHT_EXPERT: ("followed_expert", None),
}  # fmt: skip


def _numbered(groups: Sequence[object]) -> list[str]:
    return [str(k) for k in range(len(groups))]


def _from_true_poses(signer: Signer) -> Evaluation:
    result = Evaluation()
    with on_mesh_of(signer.params):
        evaluate_videos(signer, SPLIT, signer.settings.evaluate.videos, result)
    return result


def _scores(result: Evaluation, ending: str) -> Scored:
    """SSIM and Hand SSIM, clip by clip, and the distance of all frames' layout."""
    names = {f"{SPLIT}/{kind}": f"video/{kind}{ending}" for kind in ("ssim", "hand_ssim")}
    groups = {figure: result.each[name] for figure, name in names.items() if name in result.each}
    if not groups:
        return Scored()
    found = of_means(groups, _numbered(next(iter(groups.values()))))
    found = found.joined(Scored(notes={SPLIT: f"{len(next(iter(groups.values())))} clips"}))
    distance = result.metrics.get(f"video/frechet_cells{ending}")
    return found if distance is None else found.joined(Scored(values={f"{SPLIT}/frechet_cells": distance}))


def _from_text(signer: Signer, samples: Sequence[Sample], made: Sequence[Filmed | None]) -> Scored:
    if not samples:
        return Scored()
    result = Evaluation()
    score_signed(signer, samples, made, result)
    groups = {f"{SPLIT}/text_{kind}": result.each[f"video_text/{kind}"] for kind in ("ssim", "hand_ssim", "psnr")}
    failed = sum(one is None for one in made)
    notes = {SPLIT: f"{len(samples)} texts, {failed} not signed, which count as a still picture"}
    return of_means(groups, [sample.name for sample in samples]).joined(Scored(notes=notes))


def joint_rows(shop: Workshop, seed: int) -> dict[str, Scored]:
    """The run with SLP-MoE, and what stands beside its clips."""
    signer = shop.signer(runs.JOINT, seed)
    result = _from_true_poses(signer)
    found = {row: _scores(result, ending) for row, ending in _CANDIDATES.items()}
    samples = [*filmed_texts(signer, SPLIT, signer.settings.evaluate.videos).values()]
    made = [sign(signer, sample) for sample in progress(samples, "texts signed")]
    return found | {rows.JOINT_TEXT: _from_text(signer, samples, made)}


def plain_rows(shop: Workshop, seed: int) -> dict[str, Scored]:
    """The renderer alone; from text, of poses that one signer's recordings give by SLUL's glosses."""
    samples = [*filmed_texts(shop.signer(runs.PLAIN, seed), SPLIT, shop.settings.evaluate.videos).values()]
    poses = texts.by_rule(shop.linked(runs.SAGM, seed), samples) if samples else []
    signer = shop.signer(runs.PLAIN, seed)
    made: list[Filmed | None] = []
    for sample, pose in zip(progress(samples, "texts signed"), poses, strict=True):
        made.append(None if pose is None else Filmed(pose, signer.film(pose, signer=_look(signer, sample)).video))
    return {rows.PLAIN: _scores(_from_true_poses(signer), ""), rows.PLAIN_TEXT: _from_text(signer, samples, made)}


def _look(signer: Signer, sample: Sample) -> str | None:
    return sample.signer if sample.signer in signer.studio.latents.banks else None


def expert_rows(shop: Workshop, seed: int) -> dict[str, Scored]:
    """The choice of experts on the true glosses, sentence by sentence."""
    signer, result = shop.signer(runs.MOE, seed), Evaluation()
    with on_mesh_of(signer.params):
        evaluate_poses(signer, SPLIT, signer.settings.evaluate.poses, result)
    found = {}
    for row, (expert, accuracy) in _EXPERTS.items():
        groups = {
            f"{SPLIT}/dtw": f"pose/dtw_followed_{expert}", f"{SPLIT}/dtw_to_nearest": f"pose/dtw_nearest_{expert}",
        }  # fmt: skip
        groups |= {f"{SPLIT}/expert_accuracy": f"pose/{accuracy}"} if accuracy else {}
        known = {figure: result.each[name] for figure, name in groups.items() if name in result.each}
        count = len(next(iter(known.values()), []))
        notes = {SPLIT: f"{count} sentences with a choice"}
        found[row] = of_means(known, _numbered(range(count))).joined(Scored(notes=notes)) if known else Scored()
    return found


# Rows that one evaluation gives together: by each, the function of a workshop and a seed that does.
TOGETHER: dict[str, Callable[[Workshop, int], dict[str, Scored]]] = {
    **dict.fromkeys((*_CANDIDATES, rows.JOINT_TEXT), joint_rows),
    **dict.fromkeys((rows.PLAIN, rows.PLAIN_TEXT), plain_rows), **dict.fromkeys(_EXPERTS, expert_rows),
}  # fmt: skip


def check(shop: Workshop, what: str) -> None:
    """Raises `SignerError` where the corpus has no video that could be scored."""
    corpus = shop.corpus()
    if not (corpus.count(SPLIT, "video") and corpus.count(SPLIT, "pose")):
        raise SignerError(f"{what}: {SPLIT} of the corpus has no video with a pose; name a table of poses or glosses")
