"""What `sign` says of a whole text, of sentences that are performed each by itself."""

from types import SimpleNamespace

import numpy as np
import pytest

from signer_jax import pipeline
from signer_jax.pose.prior import Entry
from signer_jax.stations.perform import Performed
from signer_jax.stations.understood import Sentence, Understood
from signer_jax.types import Pose


@pytest.mark.parametrize(
    ("sentences", "most"),
    [(("a" * 7, "bb", "bb"), "a"), (("aab", "bbb", "a"), "b"), (("ab", "ba"), "a"), (("ba", "a", "b"), "b")],
)
def test_who_performs_a_text_performs_most_of_its_signs(monkeypatch, sentences, most):
    """Of all its sentences together: each letter stands for a sign of a signer; of equals the first to appear."""
    read = tuple(Sentence(letters, "ase", 0, known=1, glosses=tuple(letters)) for letters in sentences)
    understood = Understood(np.zeros((len(read), 1, 2)), np.ones((len(read), 1), bool), read, 9)
    pose = Pose(np.zeros((2, 128, 3), np.float32), np.ones((2, 128), np.float32), 16.0)

    def perform(glosses, *_):
        entries = tuple(Entry("SIGN", "ase", who) for who in glosses)
        return Performed(pose, pose, np.zeros((0, 2), np.int32), (), np.zeros((0, 1)), entries, (), ())

    monkeypatch.setattr(pipeline, "understand", lambda *_: understood)
    monkeypatch.setattr(pipeline, "perform", perform)
    run = pipeline.Signer.__new__(pipeline.Signer)
    run.__dict__ |= {"model": SimpleNamespace(renderer=None), "linker": None, "performer": None}
    monkeypatch.setattr(run, "language", lambda *_: ("ase", ""))
    assert run._sign(". ".join(sentences), None, None, None).signer == most
