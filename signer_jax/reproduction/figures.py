"""Figures 4, 5 and 6 from the runs: curves over training, and pictures of one sentence through the chain."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from signer_jax import storage
from signer_jax.errors import SignerError
from signer_jax.evaluation.signed_videos import Filmed, filmed_texts, paired, sign
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.pose.draw import draw
from signer_jax.reproduction import curves, paper, plots, rows, runs
from signer_jax.reproduction.plots import Curve, Panel
from signer_jax.reproduction.runs import Workshop
from signer_jax.reproduction.scored import Scored
from signer_jax.showcase import png, training_curves
from signer_jax.types import Pose

_DTW = "DTW to the nearest valid pose, shoulder widths"
_SHOWN, _FRAMES, _PIXELS = 3, 8, 128  # sentences, frames of each, their height
_SEEDS_NEED = "remove the runs of that variant in runs/, and it is recorded as they train again"


def _over_shares(points: Mapping[float, Sequence[float]], *, dashed: bool = False) -> Curve:
    """The mean over seeds, and the band of all of them."""
    line = [(share, float(np.mean(each))) for share, each in points.items()]
    band = [(min(each), max(each)) for each in points.values()] if any(len(e) > 1 for e in points.values()) else []
    return Curve(line, band, dashed)


def _recorded(shop: Workshop, variant: str, stage: str) -> Mapping[float, Sequence[float]]:
    found = curves.over_seeds(shop, variant, stage)
    if not found:
        file = curves.path(shop, variant, shop.seeds[0])
        raise SignerError(f"{file}: has no DTW of stage {stage!r}, which is recorded while it trains; {_SEEDS_NEED}")
    return found


_DRAWN = {
    rows.BASE: (runs.BASE, "slul"), rows.SLUL: (runs.SLUL, "slul"), rows.SAGM: (runs.SAGM, "slul"),
    rows.MOE: (runs.MOE, "pose"),
}  # fmt: skip


def ends(shop: Workshop, name: str) -> dict[str, list[Scored]]:
    """Of the rows of a figure of curves the DTW of each seed where its stage ended."""
    found = {}
    for row in paper.CURVES[name].ours:
        points = _recorded(shop, *_DRAWN[row])
        found[row] = [Scored(values={"dev/dtw_to_nearest": one}) for one in points[max(points)]]
    return found


def figure4(shop: Workshop) -> list[Panel]:
    """DTW of the poses made from text while the part that a row adds is trained: SLUL's of the first three, SLP-MoE's
    of the last.
    """
    for seed in shop.seeds:
        for variant in (runs.BASE, runs.SLUL, runs.MOE):
            shop.trained(variant, seed)
    named = {row: _over_shares(_recorded(shop, *of)) for row, of in _DRAWN.items()}
    return [Panel(paper.FIGURES["figure4"], "share of the stage's steps", _DTW, named)]


def figure6(shop: Workshop) -> list[Panel]:
    """DTW with the gates as they train, beside poses without them; and the renderer's loss with and without H."""
    for seed in shop.seeds:
        for variant in (runs.JOINT, runs.PLAIN):
            shop.trained(variant, seed)
    gates = _recorded(shop, runs.MOE, "pose")
    before = _recorded(shop, runs.SAGM, "slul")
    last = before[max(before)]
    distance = {
        "with SLP-MoE": _over_shares(gates),
        "without: one signer's signs stitched": _over_shares(dict.fromkeys(gates, last), dashed=True),
    }
    panels = [Panel("DTW", "share of the steps of stage pose", _DTW, distance)]
    for stage in ("images", "renderer"):
        if stage in shop.stages(runs.PLAIN):
            named = {
                f"renderer {kind} H": _losses(shop, variant, stage)
                for kind, variant in (("with", runs.JOINT), ("without", runs.PLAIN))
            }
            panels.append(Panel(f"loss, stage {stage}", "step", "flow matching loss", named))
    return panels


def _losses(shop: Workshop, variant: str, stage: str) -> Curve:
    """A stage's loss, its mean over seeds at the steps that all of them have."""
    found = []
    for seed in shop.seeds:
        read = dict(training_curves(shop.workdir(variant, seed) / "tensorboard")).get(f"stage {stage}", {})
        found.append(dict(read.get("loss", [])))
    steps = sorted(set.intersection(*(set(one) for one in found)))
    return _over_shares({float(step): [one[step] for one in found] for step in steps})


# ---- Figure 5 --------------------------------------------------------------------------------------------------------


def figure5(shop: Workshop) -> list[tuple[str, np.ndarray]]:
    """Of some sentences of dev the simplified pose (the joints that the models see, stabilised), the pose video (all
    joints), the video, and the ground truth's frames: strips with what they show.
    """
    signer = shop.signer(runs.JOINT, shop.seeds[0])
    strips: list[tuple[str, np.ndarray]] = []
    for sample in filmed_texts(signer, "dev", _SHOWN).values():
        made = sign(signer, sample)
        assert sample.pose is not None and sample.video is not None
        if made is None:
            strips.append((f"“{sample.text}”: could not be signed; ground truth", _strip(sample.video)))
            continue
        truth = min(len(sample.video), len(sample.pose))
        simple = skeleton.subset(signer.settings.pose.joints)
        shown = {
            f"“{sample.text}”: simplified pose (a)": _strip(_poses(_alone(made.pose, simple))),
            "pose video (b)": _strip(_poses(made.pose)),
            "final video (c)": _strip(made.video),
            "final video, its frames paired with the truth's": _strip(
                _paired(made, sample.pose.slice(0, truth), signer)
            ),
            "ground truth": _strip(sample.video[:truth]),
            "ground truth's pose, as detected": _strip(_poses(sample.pose.slice(0, truth))),
        }
        strips += shown.items()
    if not strips:
        raise SignerError("figure5: none of dev's videos has a text and a signer whom training filmed; prepare another")
    return strips


def _paired(made: Filmed, truth: Pose, signer: Signer) -> np.ndarray:
    found = paired(made, truth, signer)
    assert found is not None
    return found


def _alone(pose: Pose, joints: np.ndarray) -> Pose:
    """With these joints shown and no others."""
    seen = np.zeros_like(pose.confidence)
    seen[:, joints] = pose.confidence[:, joints]
    return Pose(pose.coordinates, seen, pose.fps)


def _poses(pose: Pose) -> np.ndarray:
    return draw(pose, _PIXELS)


def _strip(video: np.ndarray) -> np.ndarray:
    """Frames beside each other, evenly over a video, `_PIXELS` high."""
    at = np.linspace(0, len(video) - 1, _FRAMES).round().astype(int)
    width = round(video.shape[2] * _PIXELS / video.shape[1])
    return np.concatenate([np.asarray(Image.fromarray(video[k]).resize((width, _PIXELS))) for k in at], axis=1)


def grid_png(strips: Sequence[tuple[str, np.ndarray]]) -> bytes:
    font, line = ImageFont.load_default(14), 20
    height = sum(picture.shape[0] + line for _, picture in strips)
    sheet = Image.new("RGB", (max(picture.shape[1] for _, picture in strips), height), "#ffffff")
    canvas, down = ImageDraw.Draw(sheet), 0
    for said, picture in strips:
        canvas.text((4, down + 3), plots.plain(said), fill="#222222", font=font)
        sheet.paste(Image.fromarray(picture), (0, down + line))
        down += line + picture.shape[0]
    data = io.BytesIO()
    sheet.save(data, "PNG")
    return data.getvalue()


def grid_svg(strips: Sequence[tuple[str, np.ndarray]]) -> str:
    """The strips as PNGs within, their words as text."""
    line, down, parts = 20, 0, []
    for said, picture in strips:
        height, width = picture.shape[:2]
        data = base64.b64encode(png(picture)).decode("ascii")
        parts.append(f'<text x="4" y="{down + 15}" fill="#222222">{escape(said)}</text>')
        parts.append(
            f'<image x="0" y="{down + line}" width="{width}" height="{height}" href="data:image/png;base64,{data}"/>'
        )
        down += line + height
    width = max(picture.shape[1] for _, picture in strips)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {down}" width="{width}" height="{down}" '
        'font-family="DejaVu Sans, sans-serif" font-size="14">'
    )
    return "\n".join([head, f'<rect width="{width}" height="{down}" fill="#ffffff"/>', *parts, "</svg>"]) + "\n"


def write(shop: Workshop, name: str) -> list[Path]:
    """Writes `NAME.svg` and `NAME.png`; returns them."""
    if name == "figure5":
        strips = figure5(shop)
        drawn, pixels = grid_svg(strips), grid_png(strips)
    else:
        panels = {"figure4": figure4, "figure6": figure6}[name](shop)
        drawn, pixels = plots.svg(panels), plots.png(panels)
    files = [shop.folder / f"{name}.{ending}" for ending in ("svg", "png")]
    storage.write_file(files[0], drawn)
    storage.write_file(files[1], pixels)
    return files
