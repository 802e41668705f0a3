"""What "Stable Signer: Hierarchical Sign Language Generative Model" (arXiv 2512.04048) reports, and what it claims.

All figures of the paper's are in this file and nowhere else. Its data are How2Sign, Prompt2Sign and WLASL, its models
of T5's and Wan's size: none of its figures is comparable with ours in height. What can be compared is which of two rows
is the higher one. A claim is such a pair, of the paper's rows and of ours that stand for them.
"""

from dataclasses import dataclass

from signer_jax.reproduction import rows as ours

SOURCE = "arXiv 2512.04048"
BACK = ("bleu4", "bleu3", "bleu2", "bleu1", "rouge")
VIDEO = ("ssim", "hand_ssim", "hand_pose", "fid")
LOWER = frozenset({"hand_pose", "fid", "frechet_cells", "dtw", "dtw_to_nearest", "lost"})  # the lower the better
TITLES = {
    "bleu4": "BLEU-4", "bleu3": "BLEU-3", "bleu2": "BLEU-2", "bleu1": "BLEU-1", "rouge": "ROUGE-L", "ssim": "SSIM",
    "hand_ssim": "Hand SSIM", "hand_pose": "Hand Pose", "fid": "FID", "frechet_cells": "Fréchet of cells (no FID)",
    "dtw": "DTW", "dtw_to_nearest": "DTW to the nearest valid pose", "expert_accuracy": "expert accuracy",
    "lost": "BLEU-4 lost",
    "text_ssim": "SSIM, from text", "text_hand_ssim": "Hand SSIM, from text", "text_psnr": "PSNR, from text",
}  # fmt: skip
NOTHING = None  # "-" in the paper: not made public

Figures = dict[str, float | None]  # "dev/bleu4" -> figure


@dataclass(frozen=True)
class Claim:
    """The first row is above (or, of what is better low, below) the second, as the paper's own figures have it.

    `of`: our rows that stand for them, and `stands` what is to be said where these are others than the paper's.
    `best_of`: the second is, in each figure, that of these rows which scored best, and stands for the best baseline.
    `floor`: the row that the second has to be told from, or the claim is not told either.
    """

    rows: tuple[str, str]  # the paper's
    of: tuple[str, str]
    figures: tuple[str, ...]  # "dev/bleu4"
    stands: str = ""
    best_of: tuple[str, ...] = ()
    floor: str = ""


@dataclass(frozen=True)
class Table:
    """One of the paper's tables: its rows, our rows in the order in which they are shown, and its claims."""

    title: str
    figures: tuple[str, ...]  # columns: "dev/bleu4"
    rows: dict[str, Figures]
    ours: tuple[str, ...]
    claims: tuple[Claim, ...]
    extra: tuple[str, ...] = ()  # columns that the paper has not
    note: str = ""


def _of(names: tuple[str, ...], dev: tuple | None, test: tuple | None = None) -> Figures:
    """Figures of dev and test, of which a row may have one alone."""
    found: Figures = {}
    for split, values in (("dev", dev), ("test", test)):
        if values is not None:
            found |= {f"{split}/{name}": value for name, value in zip(names, values, strict=True)}
    return found


def _columns(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{split}/{name}" for split in ("dev", "test") for name in names)


_TWO = ("bleu4", "rouge")
_MAIN = ("dev/bleu4", "dev/rouge", "test/bleu4", "test/rouge")
_SHOWN = ("dev/ssim", "dev/hand_ssim", "dev/hand_pose", "dev/fid")
_POSES = (
    "Ours are read from poses: back translation of videos needs a pose estimator, and no estimator for people sees "
    "anybody in the built-in corpus's figures."
)
_STABLE_1 = _of(BACK, (23.24, 30.41, 39.14, 47.85, 70.68), (15.67, 21.65, 28.49, 48.87, 59.56))
_FAST = _of(BACK, (17.19, 23.11, 29.49, 36.96, 55.85), (12.85, 17.35, 23.38, 39.46, 46.89))
_PLAIN_BASELINES = (ours.REGRESSION, ours.DICTIONARY, ours.RETRIEVAL)
_SIGNLLM = "SignLLM-1x1B-Super-P (ASL)"
_BASE, _SLUL, _SAGM, _MOE = "Base", "SLUL", "SLUL + SAGM Loss", "SLUL + SAGM Loss + SLP MoE"
_STABLE, _WITHOUT = "Stable Signer", "Stable Signer (No SLP-MoE)"

TABLES: dict[str, Table] = {
    "table1": Table(
        "Pose video, read back into text",
        _columns(BACK),
        {
            "NSLP-G": _of(BACK, None, (5.75, 8.21, 11.62, 17.55, 31.98)),
            "Fast-SLP Transformers (ASL)": _FAST,
            "Neural Sign Actors": _of(BACK, None, (13.12, 18.25, 25.44, 41.31, 47.55)),
            _SIGNLLM: _of(BACK, (18.68, 25.11, 31.99, 40.14, 60.47), (13.93, 18.86, 25.40, 42.87, 50.91)),
            _STABLE: _STABLE_1,
        },
        (ours.SHUFFLED, ours.REGRESSION, ours.PROGRESSIVE, ours.DICTIONARY, ours.RETRIEVAL, ours.SAGM, ours.TRUTH),
        (
            Claim((_STABLE, _SIGNLLM), (ours.SAGM, ours.PROGRESSIVE), _MAIN,
                  "a Progressive Transformer stands for the learned systems before it", floor=ours.SHUFFLED),
            Claim((_STABLE, _SIGNLLM), (ours.SAGM, ours.RETRIEVAL), _MAIN, best_of=_PLAIN_BASELINES),
        ),
        note="The paper's row is that of SLUL + SAGM Loss in its table 2, poses without SLP-MoE, and so is ours.",
    ),
    "table2": Table(
        "Ablation, read back into text",
        _columns(BACK),
        {
            _BASE: _of(BACK, (15.09, 21.98, 31.07, 59.40, 62.09), (12.99, 16.07, 26.82, 55.32, 58.93)),
            _SLUL: _of(BACK, (22.62, 34.23, 48.31, 71.16, 72.21), (17.09, 22.31, 37.13, 58.40, 63.22)),
            _SAGM: _STABLE_1,
            _MOE: _of(BACK, (25.55, 36.79, 47.12, 66.79, 78.98), (21.03, 24.99, 39.03, 57.59, 65.26)),
        },
        (ours.SHUFFLED, ours.BASE, ours.SLUL, ours.SAGM, ours.MOE, ours.TRUTH),
        (
            Claim((_SLUL, _BASE), (ours.SLUL, ours.BASE), _MAIN),
            Claim((_SAGM, _SLUL), (ours.SAGM, ours.SLUL), _MAIN),
            Claim((_MOE, _SAGM), (ours.MOE, ours.SAGM), _MAIN),
        ),
        note=f"The paper's last row is of final videos. {_POSES}",
    ),
    "table3": Table(
        "Final video, read back into text",
        _columns(_TWO),
        {
            "Progressive Transformers": _of(_TWO, (15.18, 49.46), (15.92, 46.57)),
            "Neural Sign Actors": _of(_TWO, None, (13.12, 47.55)),
            "Fast-SLP Transformers": _of(_TWO, (17.19, 55.85), (12.85, 46.89)),
            _STABLE: _of(_TWO, (25.55, 78.98), (21.03, 65.26)),
        },
        (ours.SHUFFLED, ours.PROGRESSIVE, ours.DICTIONARY, ours.RETRIEVAL, ours.MOE, ours.TRUTH),
        (
            Claim((_STABLE, "Progressive Transformers"), (ours.MOE, ours.PROGRESSIVE), _MAIN,
                  "of poses: no video was read", floor=ours.SHUFFLED),
            Claim((_STABLE, "Fast-SLP Transformers"), (ours.MOE, ours.RETRIEVAL), _MAIN,
                  "of poses: no video was read; the best of our baselines without a network in this figure",
                  best_of=(ours.DICTIONARY, ours.RETRIEVAL)),
        ),
        note=_POSES,
    ),
    "table4": Table(
        "Prompt to gloss",
        _columns(_TWO),
        {
            "Stoll et al.": _of(_TWO, (16.34, 48.42), (15.26, 48.10)),
            "Saunders et al.": _of(_TWO, (20.23, 55.41), (19.10, 54.55)),
            "Zhang et al.": _of(_TWO, None, (27.60, 66.40)),
            "SignLLM": _of(_TWO, (23.10, 58.76), (22.05, 56.46)),
            _STABLE: _of(_TWO, (32.08, 76.54), (30.74, 69.72)),
        },
        (ours.COPY, ours.GLOSS_DICTIONARY, ours.GLOSS_RETRIEVAL, ours.GLOSS_BASE, ours.GLOSS_SLUL, ours.GLOSS_SAGM),
        (
            Claim((_STABLE, "SignLLM"), (ours.GLOSS_SAGM, ours.GLOSS_BASE), _MAIN,
                  "T5 with cross entropy alone stands for the learned systems before it"),
            Claim((_STABLE, "Stoll et al."), (ours.GLOSS_SAGM, ours.GLOSS_RETRIEVAL), _MAIN,
                  best_of=(ours.COPY, ours.GLOSS_DICTIONARY, ours.GLOSS_RETRIEVAL)),
        ),
    ),
    "table5": Table(
        "Video quality, from true poses",
        _SHOWN,
        {
            "EDN": _of(VIDEO, (0.737, 0.553, 23.09, 41.54)),
            "vid2vid": _of(VIDEO, (0.750, 0.570, 22.51, 56.17)),
            "Pix2PixHD": _of(VIDEO, (0.737, 0.553, 23.06, 42.57)),
            "Stoll et al.": _of(VIDEO, (0.727, 0.533, 23.17, 64.01)),
            "SignGAN": _of(VIDEO, (0.759, 0.605, 22.05, 27.75)),
            "SignDiff": _of(VIDEO, (0.849, 0.676, 20.04, 25.22)),
            _STABLE: _of(VIDEO, (0.892, 0.732, 17.68, 21.04)),
        },
        (ours.REFERENCE, ours.MEAN_FRAME, ours.NEAREST_POSE, ours.COMPOSITE, ours.JOINT, ours.AUTOENCODER),
        (
            Claim((_STABLE, "SignDiff"), (ours.JOINT, ours.NEAREST_POSE), ("dev/ssim", "dev/hand_ssim"),
                  "the training frame of the nearest pose stands for the best system before it"),
        ),
        extra=("dev/frechet_cells",),
        note="The paper does not say of which split; ours are of dev. Hand Pose needs a pose estimator and FID "
        "Inception's weights (signer evaluate --out, then signer score video).",
    ),
    "table6": Table(
        "Video quality with and without SLP-MoE",
        _SHOWN,
        {
            "Baseline (SignGAN)": _of(VIDEO, (0.743, 0.582, 22.87, 39.33)),
            "Hand Discriminator": _of(VIDEO, (0.738, 0.565, 22.81, 39.22)),
            "Hand Keypoint Loss": _of(VIDEO, (0.759, 0.605, 22.05, 27.75)),
            "Zhang et al.": _of(VIDEO, (0.864, NOTHING, NOTHING, 56.28)),
            "SignDiff": _of(VIDEO, (0.849, 0.676, 20.04, 25.22)),
            _WITHOUT: _of(VIDEO, (0.872, 0.716, 19.24, 24.22)),
            _STABLE: _of(VIDEO, (0.892, 0.732, 17.68, 21.04)),
        },
        (ours.PLAIN, ours.JOINT, ours.PLAIN_TEXT, ours.JOINT_TEXT),
        (
            Claim((_STABLE, _WITHOUT), (ours.JOINT_TEXT, ours.PLAIN_TEXT), ("dev/text_ssim", "dev/text_hand_ssim"),
                  "the gates and the stabiliser, and with them the renderer's H and its joint stage"),
        ),
        extra=("dev/frechet_cells", "dev/text_ssim", "dev/text_hand_ssim", "dev/text_psnr"),
        note="Of true poses no gate touches a video: the two renderers differ in H and in the joint stage, whose steps "
        "are below, and nothing is claimed of them. From text: without, poses by one signer's recordings, neither "
        "gates nor stabiliser, and the renderer without H; frames are paired by the DTW of the two poses.",
    ),
}  # fmt: skip

_DISTANCES = ("dev/dtw_to_nearest", "dev/dtw")
# The text's claim around Figures 1 and 5, which has no table: any one of several right poses, not their average.
EXPERTS = Table(
    "Expert choice and the average pose",
    (),
    {},
    (ours.MEAN_OF_EXPERTS, ours.RANDOM_EXPERT, ours.MAJORITY_EXPERT, ours.NEAREST_EXPERT, ours.COUNTS_EXPERT,
     ours.TOP_EXPERT, ours.RIGHT_EXPERT),
    (
        Claim(("one of several right poses", "their average"), (ours.TOP_EXPERT, ours.MEAN_OF_EXPERTS), _DISTANCES),
        Claim(("one of several right poses", "their average"), (ours.RANDOM_EXPERT, ours.MEAN_OF_EXPERTS), _DISTANCES,
              "any expert, chosen without reading"),
        Claim(("the gates' choice", "a choice that reads nothing"), (ours.TOP_EXPERT, ours.MAJORITY_EXPERT),
              ("dev/expert_accuracy", "dev/dtw")),
        Claim(("the gates' choice", "a plain reader of the text"), (ours.TOP_EXPERT, ours.COUNTS_EXPERT),
              ("dev/expert_accuracy", "dev/dtw"), "the paper has no such row"),
    ),
    extra=("dev/expert_accuracy", "dev/dtw", "dev/dtw_to_nearest"),
    note="On the true glosses and timing. The paper says this in words and shows it in pictures; it has no figures. "
    "The valid poses of a sentence are its recording and the variants, each in one expert's own way: any expert is "
    "near to one of them and an average to none, nearly by construction. DTW is to the recording that is the truth.",
)  # fmt: skip

_BASE_ROW, _ALONE = "cross entropy alone", "the paper has no row of one loss alone"
_CLEAN = ("dev/bleu4",)
# What the text says of the losses in 2.2, of which the paper has no table.
LOSSES = Table(
    "SLUL's losses, one by one",
    (),
    {},
    (ours.COPY, ours.GLOSS_RETRIEVAL, ours.GLOSS_BASE, ours.GLOSS_MASKED, ours.GLOSS_KL, ours.GLOSS_SLUL,
     ours.GLOSS_SAGM),
    (
        Claim(("SLUL + SAGM Loss", _BASE_ROW), (ours.GLOSS_SAGM, ours.GLOSS_BASE), _CLEAN),
        Claim(("SLUL + SAGM Loss", _BASE_ROW), (ours.GLOSS_SAGM, ours.GLOSS_BASE),
              ("dropped/lost", "swapped/lost", "misspelt/lost"), "robustness to noisy or under-specified prompts"),
        Claim(("the masked glosses' loss", _BASE_ROW), (ours.GLOSS_MASKED, ours.GLOSS_BASE), _CLEAN, _ALONE),
        Claim(("the divergence", _BASE_ROW), (ours.GLOSS_KL, ours.GLOSS_BASE), _CLEAN, _ALONE),
        Claim(("the contrastive loss", _BASE_ROW), (ours.GLOSS_SLUL, ours.GLOSS_BASE), _CLEAN, _ALONE),
    ),
    extra=("dev/bleu4", "dev/rouge", "held-out/bleu4", "test/bleu4",
           *(f"{noise}/{name}" for noise in ("dropped", "swapped", "misspelt") for name in ("bleu4", "lost"))),
    note="Base is cross entropy alone, SLUL the contrastive loss beside it, SLUL + SAGM all of them. Dropped, swapped "
    "and misspelt are dev's texts with such words; lost is what that costs in BLEU-4.",
)  # fmt: skip

_END = ("dev/dtw_to_nearest",)
_CURVES = "DTW of whole poses, of at most 40 sentences of dev, at the end of the stage."
# What the text says of Figures 4 and 6, of which the paper has the curves' pictures alone.
CURVES = {
    "figure4": Table(
        "DTW at the end of training",
        (),
        {},
        (ours.BASE, ours.SLUL, ours.SAGM, ours.MOE),
        (
            Claim(("SLUL", "Base"), (ours.SLUL, ours.BASE), _END, "better final performance"),
            Claim(("SLP-MoE", "Base"), (ours.MOE, ours.BASE), _END, "the lowest DTW scores throughout"),
            Claim(("SLP-MoE", "SLUL + SAGM Loss"), (ours.MOE, ours.SAGM), _END, "the lowest DTW scores throughout"),
        ),
        extra=_END,
        note=_CURVES,
    ),
    "figure6": Table(
        "DTW at the end of training, with and without SLP-MoE",
        (),
        {},
        (ours.SAGM, ours.MOE),
        (Claim(("with SLP-MoE", "without it"), (ours.MOE, ours.SAGM), _END, "better final performance"),),
        extra=_END,
        note=f"{_CURVES} Without: one signer's signs, stitched.",
    ),
}  # fmt: skip

FIGURES = {
    "figure4": "DTW over training, with and without each part",
    "figure5": "Simplified pose, pose video, final frames, ground truth",
    "figure6": "DTW and loss over training, with and without SLP-MoE",
}
EXPERT_TABLE, LOSS_TABLE = "experts", "losses"
JUDGED = TABLES | {EXPERT_TABLE: EXPERTS, LOSS_TABLE: LOSSES} | CURVES  # what has claims


def reported(claim: Claim, figure: str, table: Table) -> tuple[float, float] | None:
    """What the paper has of a claim's rows in a figure, if it has both; of our videos from text it is its videos'."""
    theirs = figure.replace("/text_", "/")
    first, second = (table.rows.get(row, {}).get(theirs) for row in claim.rows)
    return None if first is None or second is None else (first, second)


def direction(claim: Claim, figure: str, table: Table) -> int:
    """Of the paper's first row over its second in a figure: 1 above, -1 below; where it has none, 1 for what is better.

    A claim that the paper makes in words alone is that the first is the better one.
    """
    theirs = reported(claim, figure, table)
    if theirs is None:
        return -1 if figure.partition("/")[2] in LOWER else 1
    return 1 if theirs[0] > theirs[1] else -1
