import numpy as np

from signer_jax.pose.prior import Entry, Prior
from signer_jax.slp_moe import retrieval
from signer_jax.types import Pose, Sample


def entry(signer: str, gloss: str = "A") -> Entry:
    return Entry(gloss=gloss, language="ase", signer=signer)


def pose(value: float, frames: int = 6) -> Pose:
    return Pose(np.full((frames, 128, 3), value, np.float32), np.ones((frames, 128), np.float32), 16.0)


def test_an_expert_keeps_to_one_signer():
    signers = ["a", "b", "c"]
    b, c = entry("b"), entry("c")
    assert retrieval.expert_slots([c, b], signers, 3) == [None, b, c]
    # A second way of the same signer, and a signer beyond the experts, fill what is free, in order.
    again, stranger = Entry("A", "ase", "b", variant=1), entry("z")
    assert retrieval.expert_slots([b, again, stranger], signers, 4) == [again, b, stranger, None]
    assert retrieval.expert_slots([], signers, 2) == [None, None]


def test_frames_belong_to_glosses_with_cross_fades():
    weights = retrieval.frame_gloss(np.array([[1, 3], [5, 6]]), 8, 3)
    by_hand = np.array([[1, 0], [1, 0], [1, 0], [2 / 3, 1 / 3], [1 / 3, 2 / 3], [0, 1], [0, 1], [0, 1]])
    np.testing.assert_allclose(weights[:, :2], by_hand, atol=1e-6)
    assert not weights[:, 2].any()


def small_prior(tmp_path) -> Prior:
    entries = [(entry("a", "A"), pose(0.1)), (entry("b", "A"), pose(0.2)), (entry("b", "B"), pose(0.4))]
    return Prior.build(entries, tmp_path / "prior", fps=16.0)


def test_experts_share_one_timeline(tmp_path):
    lookup = retrieval.Retrieval(small_prior(tmp_path), np.arange(5), 2, experts=2, glosses=4)
    slots = [lookup.slots("A", "ase"), lookup.slots("B", "ase")]
    experts = lookup.on_timeline(slots, np.array([[0, 3], [5, 9]]), 10)
    assert experts.candidates.shape == (2, 10, 5, 2)
    np.testing.assert_allclose(experts.candidates[0, :3], 0.1)
    np.testing.assert_allclose(experts.candidates[1, :3], 0.2)
    # Expert 0 has no B: the other's stands in, and the mask says so.
    np.testing.assert_allclose(experts.candidates[:, 5:9], 0.4)
    np.testing.assert_array_equal(experts.candidate_mask, [[True, True], [False, True], [False, False], [False, False]])


def test_the_chosen_candidate_is_the_signers_own_or_the_nearest(tmp_path):
    lookup = retrieval.Retrieval(small_prior(tmp_path), np.arange(128), 3, experts=2, glosses=3)
    slots = [lookup.slots("A", "ase"), lookup.slots("B", "ase"), lookup.slots("C", "ase")]
    spans = np.array([[0, 3], [3, 6], [6, 9]])
    own = Sample("s", "", "ase", ("A", "B", "C"), "b", pose(0.1, 9), spans)
    np.testing.assert_array_equal(retrieval.chosen_candidates(own, slots, lookup), [1, 1, -1])
    stranger = Sample("s", "", "ase", ("A", "B", "C"), "z", pose(0.12, 9), spans)
    np.testing.assert_array_equal(retrieval.chosen_candidates(stranger, slots, lookup), [0, 1, -1])


def test_the_prior_takes_each_signers_first_performance():
    spans = np.array([[0, 2], [2, 6]])
    samples = [
        Sample("1", "", "ase", ("A", "B"), "a", pose(0.1), spans),
        Sample("2", "", "ase", ("A", "A"), "b", pose(0.2), spans),
        Sample("3", "", "ase", ("B", "A"), "a", pose(0.3), spans),
    ]
    found = [(e.gloss, e.signer, e.source, len(p)) for e, p in retrieval.prior_entries(samples)]
    assert found == [("A", "a", "1", 2), ("B", "a", "1", 4), ("A", "b", "2", 2)]
