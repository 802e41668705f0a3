"""Videos of texts: frames paired by the poses, by hand; what stands beside a score."""

from types import SimpleNamespace

import numpy as np
import pytest

from signer_jax.evaluation.figures import Evaluation
from signer_jax.evaluation.outputs import file_name
from signer_jax.evaluation.signed_videos import Filmed, paired, paired_frames, score_signed
from signer_jax.pose import skeleton
from signer_jax.types import Pose, Sample

SIGNER = SimpleNamespace(
    settings=SimpleNamespace(pose=SimpleNamespace(joints="full_128", dims=2)),
    model=SimpleNamespace(joints=np.arange(len(skeleton.JOINTS))),
)


def moving(heights: list[float]) -> Filmed:
    """A signer whose joints all are so far down, frame by frame, and a video that is as grey as they are low."""
    rng = np.random.default_rng(0)
    places = rng.uniform(-0.4, 0.4, (len(skeleton.JOINTS), 3)).astype(np.float32)
    coordinates = places + np.array(heights, np.float32)[:, None, None] * [0, 1, 0]
    texture = rng.integers(0, 60, (64, 64, 3))
    video = np.stack([texture + int(150 * height) for height in heights]).astype(np.uint8)
    pose = Pose(coordinates.astype(np.float32), np.ones(coordinates.shape[:2], np.float32), 16.0)
    return Filmed(pose, video)


def sample(one: Filmed, glosses: tuple[str, ...]) -> Sample:
    return Sample("a/b", "text", "ase", glosses, "x", pose=one.pose, video=one.video)


def test_each_frame_of_the_truth_has_the_middle_one_of_those_paired_with_it():
    cost = np.full((5, 3), 9.0)
    for place in ((0, 0), (1, 1), (2, 1), (3, 1), (4, 2)):
        cost[place] = 0
    assert paired_frames(cost).tolist() == [0, 2, 4]


def test_the_same_signing_at_another_pace_is_the_same_video():
    truth, slow = moving([0, 0.2, 0.4, 0.6]), moving([0, 0, 0.2, 0.2, 0.4, 0.4, 0.6, 0.6])
    np.testing.assert_array_equal(paired(slow, truth.pose, SIGNER), truth.video)
    assert paired(None, truth.pose, SIGNER) is None


def test_a_score_stands_between_a_still_picture_and_the_truth():
    first, second = moving([0, 0.2, 0.4, 0.6]), moving([0.8, 0.6, 0.7, 0.8, 0.9])
    samples = [sample(first, ("A",)), sample(second, ("B",))]
    result = Evaluation()
    score_signed(SIGNER, samples, [first, None], result)
    m = result.metrics
    # The first one is the truth itself, whose PSNR has no value; the second could not be signed, and stands still.
    assert result.each["video_text/ssim"][0] == pytest.approx([1.0] * 4)
    assert result.each["video_text/ssim"][1] == result.each["video_text/ssim_reference"][1]
    assert m["video_text/failed"] == 1 and m["video_text/clips"] == 2 and m["video_text/psnr_unscored"] == 1
    assert m["video_text/ssim"] > m["video_text/ssim_reference"]
    assert m["video_text/ssim_over_reference"] == pytest.approx(m["video_text/ssim"] - m["video_text/ssim_reference"])


def test_files_have_plain_names_that_differ():
    assert [file_name(place, "a/b") for place in (7, 12)] == ["00007-a_b", "00012-a_b"]
