"""How many training windows are shown no reference picture, counted before anything is encoded.

A model whose reference is another picture of the signer (`own`, Animate) learns nothing about it from a window whose
signer has no other clip; Animate is shown another frame of the same clip then, where one is kept that the window does
not show. On general video, where each video is a signer of its own, that may be every window there is.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from signer_jax.data.records import Corpus
from signer_jax.model import Model
from signer_jax.renderer.references import latent_frame_times
from signer_jax.renderer.render import Renderer
from signer_jax.settings import Settings
from signer_jax.training import bucketed, latents, pictures
from signer_jax.training.bucketed import Windows
from signer_jax.training.pictures import Cut

Frame = tuple[int, int]  # motion, which of its frames


def count(windows: Iterable[Frame], length: int, kept: Iterable[Frame], signers: Sequence[str], *, own: bool) -> int:
    """How many windows of `length` frames (motion, first frame) have none of the `kept` frames for a reference.

    `signers` are the motions'. `own`: whether a frame of the window's own clip, from outside the window, is one where
    there is no other clip (`ReferenceBank.place_but`).
    """
    motions: dict[str, set[int]] = defaultdict(set)
    ends: dict[str, tuple[int, int]] = {}
    for motion, frame in kept:
        signer = signers[motion]
        motions[signer].add(motion)
        first, last = ends.get(signer, (frame, frame))
        ends[signer] = min(first, frame), max(last, frame)
    without = 0
    for motion, start in windows:
        theirs = motions.get(signers[motion], set())
        if len(theirs) > 1 or (theirs and motion not in theirs):
            continue
        first, last = ends.get(signers[motion], (start, start))
        without += not (own and (first < start or last >= start + length))
    return without


def told(settings: Settings, corpus: Corpus, model: Model, of: Windows | None) -> list[str]:
    """A line where windows have no reference, of a variant that is shown another picture; `of`: those of buckets."""
    if model.renderer is None:
        return []
    variant = model.renderer.variant
    if not (variant.front or "reference" in variant.streams):
        return []
    signers = [signer for *_, signer in corpus.listed("train")]
    single = not {"renderer", "joint"} & set(settings.stages)
    without = total = 0
    for windows, length, kept in _kept(settings, corpus, model, model.renderer, of):
        without += count(windows, 1 if single else length, kept, signers, own=variant.front)
        total += len(windows)
    if not without:
        return []
    several = "clips of which each signer has several teach it"
    mend = f"longer clips, or fewer frames in config.renderer.{'window' if of is None else 'buckets'}, give some"
    own = ", and no frame that is kept of it lies outside of them" if variant.front else ""
    return [
        f"{without} of {total} training windows are shown no reference picture: the signer has no other clip{own}, so "
        f"they teach nothing about it; {mend if variant.front else several}"
    ]


def _kept(
    settings: Settings, corpus: Corpus, model: Model, renderer: Renderer, of: Windows | None
) -> Iterable[tuple[list[Frame], int, list[Frame]]]:
    """The windows of each size, their length, and the frames that are kept for references."""
    c, front = settings.renderer, renderer.variant.front
    most = {"crop": settings.data.crop, "enlarge": settings.data.enlarge}
    if of is None:
        items = latents.training_windows(corpus, c.window, c.stride)
        if front:
            yield items, c.window, pictures.picture_places(corpus, c.references, None, None)
            return
        times = latent_frame_times(c.window, model.vae.temporal_ratio)[: 1 if c.buckets else None]
        found = latents.reference_places(corpus, items, times, c.references)
        yield items, c.window, [(items[row][0], items[row][1] + int(times[k])) for row, k in found]
        return
    for bucket, size in enumerate(of.plan.buckets):
        items = [(of.motion(row), of.starts[row]) for row in of.plan.members(bucket)]
        if front:
            cut = Cut(size, of.brought_to(size, **most))
            yield items, size.frames, pictures.picture_places(corpus, c.references, cut, None)
        else:
            shown = bucketed.reference_frames(corpus, of, size, c.references, most=None, **most)
            yield items, size.frames, [(motion, frame) for motion, frame, _ in shown]
