"""What the demo shows of a run that has only a part of the stations, or of the data."""

from types import SimpleNamespace

import numpy as np
import pytest

from signer_jax import showcase
from signer_jax.evaluation import Evaluation
from signer_jax.types import Pose, Sample, Signed


def pose(frames: int = 5) -> Pose:
    return Pose(np.zeros((frames, 128, 3), np.float32), np.ones((frames, 128), np.float32), 16.0)


def sample(text: str, video: bool) -> Sample:
    film = np.full((5, 32, 32, 3), 90, np.uint8) if video else None
    return Sample(text or "guest", text, "ase", ("HOUSE",) if text else (), "a", pose(), None, film)


class Run:
    """A run whose dev split has these samples; it signs what it is told to, without a model."""

    fps = 16.0

    def __init__(self, samples: list[Sample], *, signs: bool = True, renders: bool = True) -> None:
        self.model = SimpleNamespace(slp_moe=signs or None, renderer=renders or None)
        self.studio = SimpleNamespace(latents=SimpleNamespace(banks={"a": None}))
        self.corpus = SimpleNamespace(
            motions=lambda split: samples,
            listed=lambda split: [(5, one.video is not None, one.signer) for one in samples],
        )

    def sign(self, text: str, *, language: str) -> Signed:
        assert text
        video = np.zeros((7, 32, 32, 3), np.uint8) if self.model.renderer else None
        return Signed(["HOUSE"], pose(7), video, [], [], language, look="b" if self.model.renderer else "")


@pytest.mark.parametrize(
    ("samples", "renders", "panels", "says"),
    [
        ([sample("", True), sample("the house", True)], True, 3, "skeleton, rendered signer, ground truth"),
        ([sample("", True), sample("the house", False)], True, 3, "skeleton, rendered signer, ground truth"),
        ([sample("the tree", False), sample("the house", True)], False, 2, "HOUSE: skeleton, ground truth"),
    ],
)
def test_what_there_is_is_shown(samples, renders, panels, says):
    """A guest has no text: it is never the sentence that is signed."""
    caption, frames = showcase.side_by_side(Run(samples, renders=renders))
    assert frames.shape == (7, 256, panels * 256, 3) and says in caption and "the house" in caption
    # As in `sign` the gates choose who is rendered; beside a film of another signer that is said.
    both = any(one.video is not None and one.text for one in samples) and renders
    assert ("(rendered: b; truth: a)" in caption) == both


@pytest.mark.parametrize(
    "run", [Run([sample("a", True)], signs=False, renders=False), Run([]), Run([sample("", True)])]
)
def test_a_run_that_signs_nothing_still_has_its_report(run, tmp_path):
    assert showcase.side_by_side(run) is None
    result = {
        "step": 3, "metrics": {"gloss/bleu4": 1.0}, "wall_seconds": {"slul": 1.0}, "split": "dev", "devices": "cpu",
        "parameters": {"slul": 3}, "params_sha256": "0", "mesh": {}, "versions": {},
    }  # fmt: skip
    showcase.show(run, Evaluation(), result, tmp_path)
    assert (tmp_path / "report.html").exists() and not (tmp_path / "sign.mp4").exists()
