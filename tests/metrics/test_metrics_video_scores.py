"""The scores of two videos, gathered frame by frame, beside scikit-image over whole videos; and joined over pairs."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from signer_jax.metrics import video
from signer_jax.metrics.reports import Ratio, joined, unscored
from signer_jax.metrics.video_scores import VideoScores, hand_distances


def clip(seed, t=7, size=(32, 40)):
    rng = np.random.default_rng(seed)
    ground = rng.integers(40, 200, (1, *size, 3))
    return (ground + rng.integers(-2, 4, (t, *size, 3))).astype(np.uint8)


def gathered(ours, theirs, hands=None, crop=0):
    scores = VideoScores(crop)
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        scores.add(a, b, hands[i] if hands else None)
    return scores.report()


def ssim(a, b):
    return structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1
    )


def test_frame_by_frame_is_the_whole():
    theirs = clip(0)
    ours = np.clip(theirs + np.random.default_rng(9).normal(0, 20, theirs.shape), 0, 255).astype(np.uint8)
    found = gathered(ours, theirs)
    assert found.scores["ssim"].value == pytest.approx(
        np.mean([ssim(a, b) for a, b in zip(ours, theirs, strict=True)]), abs=1e-6
    )
    assert found.scores["psnr"].value == pytest.approx(peak_signal_noise_ratio(theirs, ours, data_range=255))
    assert found.scores["flicker"].value == pytest.approx(video.flicker(ours, theirs))
    assert found.scores["flicker_reference"].value == pytest.approx(video.flicker(theirs, theirs))
    held = np.broadcast_to(theirs[:1], theirs.shape)
    assert found.floor["ssim"].value == pytest.approx(np.mean([ssim(theirs[0], theirs[i]) for i in (2, 6)]), abs=1e-6)
    assert found.floor["psnr"].value == pytest.approx(peak_signal_noise_ratio(theirs, held, data_range=255))
    assert found.floor["flicker"].value == 0
    assert math.isnan(found.scores["hand_ssim"].value)


def test_hands_are_cropped_where_they_are():
    theirs, ours = clip(0, t=3), clip(1, t=3)
    seen = [np.array([True, False]), np.array([False, False]), np.array([True, True])]
    hands = [(np.array([[10.0, 12.0], [30.0, 20.0]]), one) for one in seen]
    found = gathered(ours, theirs, hands, crop=12).scores["hand_ssim"]
    centres = np.stack([centre for centre, _ in hands])
    expected = video.hand_ssim(ours, theirs, centres, np.stack(seen), 12)
    assert found.below == 3 and found.value == pytest.approx(np.nanmean(expected))
    report = gathered(ours, theirs, hands, crop=12)
    assert "crop:12|" in report.signatures["hand_ssim"]
    assert f"crop:{video.hand_crop(32, 40)}|" in gathered(ours, theirs, hands).signatures["hand_ssim"]


LARGE = """
import numpy as np
from fuzz import memory
from signer_jax.metrics.frechet import Sets, cell_features
from signer_jax.metrics.video_scores import VideoScores

memory.keep_little()
frame = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), np.uint8)
scores, sets = VideoScores(), (Sets(cell_features), Sets(cell_features, of_changes=True))

def add():
    for side in (side for one in sets for side in (one.ours, one.theirs)):
        side.add(frame)
    scores.add(frame, frame)

add()
print(memory.grown(add))
"""


def test_large_frames_take_little_memory():
    """In a process of its own: what other tests' threads take at the same time counts too."""
    paths = os.pathsep.join([str(ROOT / "tests"), *sys.path])
    command = [sys.executable, "-c", LARGE]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0 and int(done.stdout) < 150 << 20, done.stderr[-2000:] or done.stdout


@pytest.mark.parametrize("frames", [0, 1])
def test_too_few_frames_are_not_scored(frames):
    theirs = clip(0, t=frames)
    found = gathered(theirs, theirs)
    assert math.isnan(found.scores["flicker"].value) and math.isnan(found.scores["psnr"].value)


def test_hand_pose_is_of_what_is_found_in_both():
    theirs = np.zeros((2, 3, 2)), np.array([[1, 1, 1], [1, 0, 0]])
    ours = np.full((2, 3, 2), (3.0, 4.0)), np.array([[1, 1, 0], [1, 1, 1]])
    ours[0][0, 2] = np.nan
    distance, lacking = hand_distances(ours, theirs)
    assert distance == Ratio(15, 3) and lacking == Ratio(1, 4)
    nothing, share = hand_distances(ours, (theirs[0], np.zeros((2, 3))))
    assert math.isnan(nothing.value) and math.isnan(share.value)


def test_pairs_join_over_what_could_be_scored():
    rows = [
        {"a": Ratio(6, 3), "b": Ratio(1)},
        {"a": Ratio(math.nan), "b": Ratio(3)},
        {"a": Ratio(4, 1), "b": Ratio(0, 0)},
    ]
    found = joined(rows)
    assert found["a"].value == pytest.approx(10 / 4) and found["b"].value == 2
    assert unscored(rows) == {"a": 1, "b": 1}
    assert math.isnan(joined([{"a": Ratio(math.inf)}])["a"].value) and joined([]) == {}
