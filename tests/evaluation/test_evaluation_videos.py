"""The baselines of a video, by signer."""

import numpy as np

from signer_jax.data import records
from signer_jax.evaluation.videos import baselines
from signer_jax.types import Pose, Sample


def clip(name: str, signer: str, level: int) -> Sample:
    pose = Pose(np.ones((3, 128, 3), np.float32), np.ones((3, 128), np.float32), 16.0)
    return Sample(name, "", "ase", (), signer, pose=pose, video=np.full((3, 16, 16, 3), level, np.uint8))


def test_the_baselines_are_made_of_the_signers_own_training_frames(tmp_path):
    train = [clip("1", "a", 90), clip("2", "b", 30)]
    corpus = records.write(tmp_path / "data", {"train": lambda: train}, {"languages": {}})
    found = baselines(corpus, [clip("3", "b", 5), clip("4", "a", 7)])
    for name in ("_mean_frame", "_nearest_pose"):
        for video, level in zip(found[name], (30, 90), strict=True):
            np.testing.assert_array_equal(video, np.full((3, 16, 16, 3), level))
