"""Mean-pose regression: from the words of a text to its pose, by least squares.

Several poses are right for one text, and least squares gives their mean (the paper's "average pose"): what a model that
regresses poses goes to, here in its plainest form and without a step of training. Ridge regression (Hoerl and Kennard
1970) of every joint at `FRAMES` moments of a sentence, and of its length, on which words the text has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float, Int

from signer_jax.data.records import Corpus
from signer_jax.pose import skeleton
from signer_jax.pose.skeleton import on_joints
from signer_jax.pose.stitching import resample
from signer_jax.progress import progress
from signer_jax.types import Pose, Sample
from signer_jax.writing import words_of

FRAMES = 32  # moments of a sentence, evenly from its first frame to its last
RIDGE = 1.0  # of the squared coefficients, beside squared shoulder widths
_DIMS = 2


@dataclass(frozen=True)
class Regression:
    """`weights [w + 1, k]`: of each word, and of none, the joints at all moments and the logarithm of the seconds."""

    words: dict[tuple[str, str], int]  # (language, word) -> its row
    weights: Float[np.ndarray, "w k"]
    joints: Int[np.ndarray, " j"]
    fps: float

    @classmethod
    def of(cls, corpus: Corpus, joints: str) -> Self | None:
        """From all training motions with a text and a pose; None where there is none."""
        subset, rows, targets = skeleton.subset(joints), list[list[tuple[str, str]]](), list[np.ndarray]()
        records = corpus.motions("train") if corpus.count("train", "pose") else ()
        for k in progress(range(len(records)), "regression"):
            sample = records[k]
            if sample.pose is not None and (found := _words(sample)):
                rows.append(found)
                targets.append(_target(sample.pose, subset))
        if not rows:
            return None
        words = {word: k for k, word in enumerate(sorted({word for row in rows for word in row}))}
        weights = ridge(_shown(rows, words), np.stack(targets), RIDGE)
        return cls(words, weights, subset, float(corpus.about["fps"]))

    def sign(self, samples: Sequence[Sample]) -> list[Pose]:
        """The pose of each text; of one without a known word the mean of all."""
        said = _shown([_words(sample) for sample in samples], self.words) @ self.weights
        return [self._pose(row) for row in said]

    def _pose(self, row: Float[np.ndarray, " k"]) -> Pose:
        moments = row[:-1].reshape(FRAMES, len(self.joints), _DIMS)
        coordinates = np.zeros((FRAMES, len(skeleton.JOINTS), 3), np.float32)
        coordinates[:, self.joints, :_DIMS] = moments
        confidence = np.zeros(coordinates.shape[:2], np.float32)
        confidence[:, self.joints] = 1.0
        return resample(Pose(coordinates, confidence, self.fps), max(2, round(np.exp(row[-1]) * self.fps)))


def ridge(
    x: Float[np.ndarray, "n w"], y: Float[np.ndarray, "n k"], penalty: float
) -> Float[np.ndarray, "w k"]:  # fmt: skip
    """argmin |x W - y|² + penalty |W|², where the last column of x, the constant, is not penalised."""
    held = np.eye(x.shape[1]) * penalty
    held[-1, -1] = 0.0
    return np.linalg.solve(x.T @ x + held, x.T @ y)


def _words(sample: Sample) -> list[tuple[str, str]]:
    return [(sample.language, word.key) for word in words_of(sample.text)]


def _shown(rows: Sequence[Sequence[tuple[str, str]]], words: dict[tuple[str, str], int]) -> np.ndarray:
    """Which words each text has, and a constant."""
    shown = np.zeros((len(rows), len(words) + 1))
    shown[:, -1] = 1.0
    for i, row in enumerate(rows):
        shown[i, [words[word] for word in row if word in words]] = 1.0
    return shown


def _target(pose: Pose, joints: np.ndarray) -> np.ndarray:
    moments = on_joints(resample(pose, FRAMES), joints, _DIMS)
    seen = np.where(moments.confidence[..., None] > 0, moments.coordinates, 0.0)
    return np.append(seen.reshape(-1), np.log(max(len(pose), 1) / pose.fps))
