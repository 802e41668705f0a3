"""Windows without a reference picture are counted before training, as the reference banks will have it."""

from types import SimpleNamespace

import numpy as np
import pytest

from signer_jax import configuration
from signer_jax.data import buckets
from signer_jax.renderer.references import ReferenceBank
from signer_jax.renderer.variants import find
from signer_jax.training import bucketed, input_pipeline, unreferenced
from signer_jax.training.unreferenced import count
from signer_jax.validation import read

SIGNERS = ["a", "a", "b", "c", "d"]  # of five motions
KEPT = [(0, 3), (1, 2), (2, 1), (2, 9), (3, 4)]  # none of d


def bank(signer: str) -> ReferenceBank | None:
    theirs = [(motion, frame) for motion, frame in KEPT if SIGNERS[motion] == signer]
    if not theirs:
        return None
    motion, frame = (np.array(one) for one in zip(*theirs, strict=True))
    rows = np.zeros((len(theirs), 1, 1, 1), np.float32)
    return ReferenceBank(rows, rows[:, 0], rows[:, 0, 0], motion, frame=frame)


@pytest.mark.parametrize("own", [True, False])
def test_the_count_is_what_the_banks_give(own):
    rng = np.random.default_rng(0)
    windows = [(motion, start) for motion in range(5) for start in range(12)]
    for length in (1, 5, 10):
        none = 0
        for motion, start in windows:
            theirs = bank(SIGNERS[motion])
            window = (start, length) if own else None
            none += theirs is None or theirs.place_but(motion, rng, dropout=0.0, window=window) is None
        assert count(windows, length, KEPT, SIGNERS, own=own) == none
        assert 0 < none < len(windows)


def corpus(*clips: tuple[int, str]) -> SimpleNamespace:
    listed = [(frames, True, signer) for frames, signer in clips]
    size = (480, 832)
    return SimpleNamespace(
        listed=lambda split: listed if split == "train" else [], size=size, sizes_of=lambda split: [size] * len(listed)
    )


def said(variant: str, *clips: tuple[int, str], sizes: tuple[str, ...] = (), stages=("renderer",)) -> list[str]:
    config = configuration.shipped("wan_general", variant) if variant != "own" else configuration.shipped("default")
    if variant != "own":
        config.renderer.init = config.vae.init = "somewhere"
    config.renderer.buckets, config.stages = sizes, stages
    settings, data = read(config), corpus(*clips)
    model = SimpleNamespace(renderer=SimpleNamespace(variant=find(variant)), vae=SimpleNamespace(temporal_ratio=4))
    of = None
    if sizes:
        clips = input_pipeline.training_clips(data)
        plan = buckets.plan(clips, buckets.read(sizes, temporal=4, spatial=16, where=""), crop=0.25, enlarge=1.0)
        of = bucketed.Windows.of(data, clips, plan, settings.renderer.stride)
    return unreferenced.told(settings, data, model, of)


def test_general_video_that_teaches_no_reference_is_told_in_a_line():
    animate = "wan2.2-animate-14b"
    (line,) = said(animate, (77, "x"), (60, "y"))  # every frame of each is in its window
    assert line == (
        "2 of 2 training windows are shown no reference picture: the signer has no other clip, and no frame that is "
        "kept of it lies outside of them, so they teach nothing about it; longer clips, or fewer frames in "
        "config.renderer.window, give some"
    )
    assert said(animate, (300, "x"), (200, "y")) == []
    (line,) = said(animate, (300, "x"), (77, "y"))
    assert line.startswith("1 of 7 training windows")
    assert said(animate, (77, "x"), (60, "x")) == []  # another clip of the same signer
    assert said(animate, (77, "x"), (60, "y"), sizes=("33x480x832",)) == []  # shorter windows
    (line,) = said(animate, (77, "x"), (60, "y"), sizes=("77x480x832", "57x480x832"))
    assert line.startswith("1 of 3 training windows") and "config.renderer.buckets" in line
    assert said("wan2.1-t2v-1.3b", (81, "x")) == said("wan2.1-i2v-14b", (81, "x")) == []  # takes none; its own frame


def test_signers_of_one_clip_are_told_of_this_projects_renderer():
    (line,) = said("own", (9, "x"), (9, "y"), (9, "y"), stages=("vae", "images", "renderer"))
    assert line.startswith("3 of 9 training windows") and line.endswith(
        "clips of which each signer has several teach it"
    )
    (line,) = said("own", (9, "x"), stages=("vae", "images"))
    assert line.startswith("3 of 3 training windows")
