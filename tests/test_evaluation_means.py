"""Means over what could be scored; what could not is counted, and a signer without training video is left out."""

import numpy as np

from signer_jax.data import records
from signer_jax.evaluation import baselines, means
from signer_jax.types import Pose, Sample


def test_one_nan_does_not_take_the_mean_away():
    found = means({"a": [1.0, float("nan"), 3.0], "b": [2.0], "c": [float("nan")] * 2, "d": []})
    assert found == {"a": 2.0, "a_unscored": 1.0, "b": 2.0, "c_unscored": 2.0}


def clip(name: str, signer: str, level: int) -> Sample:
    pose = Pose(np.ones((3, 128, 3), np.float32), np.ones((3, 128), np.float32), 16.0)
    return Sample(name, "", "ase", (), signer, pose=pose, video=np.full((3, 16, 16, 3), level, np.uint8))


def test_a_signer_without_training_video_is_left_out_of_the_baselines(tmp_path):
    corpus = records.write(tmp_path / "data", {"train": lambda: [clip("1", "a", 90)]}, {"languages": {}})
    found = baselines(corpus, [clip("2", "stranger", 5), clip("3", "a", 7)])
    assert found["_mean_frame"][0] is None and found["_nearest_pose"][0] is None
    for name in found:
        np.testing.assert_array_equal(found[name][1], np.full((3, 16, 16, 3), 90))
