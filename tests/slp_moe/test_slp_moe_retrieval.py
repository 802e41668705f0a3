from dataclasses import replace

import numpy as np

from signer_jax.data import records
from signer_jax.data.windows import Limits, MotionWindows
from signer_jax.pose import skeleton
from signer_jax.pose.prior import REST, Entry, Prior
from signer_jax.pose.stitching import stitch
from signer_jax.slp_moe import retrieval
from signer_jax.types import Pose, Sample

STORED = 2**-12  # what float16 may change of the values here, which are below .5


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
    # Of three signs two are kept: from the third one on, frames belong to none.
    cut = retrieval.frame_gloss(np.array([[1, 3], [5, 6], [7, 8]]), 8, 2)
    np.testing.assert_allclose(cut, [*by_hand[:7], [0, 0]], atol=1e-6)


def moving(seed: int, frames: int) -> Pose:
    """A pose with movement, of which some joints are seen now and then, and one arm not in every sign."""
    rng = np.random.default_rng(seed)
    coordinates = rng.normal(0, 0.3, (frames, 128, 3)).cumsum(axis=0).astype(np.float32)
    confidence = rng.choice(np.array([0, 0.5, 1], np.float32), (frames, 128), p=[0.2, 0.3, 0.5])
    if seed % 2:
        confidence[:] = 1
    return Pose(coordinates * (confidence[..., None] > 0), confidence, 16.0)


def test_experts_at_once_are_each_of_them_stitched_alone_to_the_bit(tmp_path):
    glosses, signers = ("A", "B", "C"), ("a", "b", "c")
    entries = [
        (entry(signer, gloss), moving(10 * i + k, 3 + i + k))
        for i, gloss in enumerate(glosses) for k, signer in enumerate(signers)
        if (signer, gloss) not in {("a", "B"), ("c", "C")}
    ]  # fmt: skip
    entries += [(Entry(REST, "", signer), moving(90 + k, 1)) for k, signer in enumerate("ab")]  # c has none
    prior = Prior.build(entries, tmp_path / "prior", fps=16.0)
    spans, total = np.array([[9, 14], [18, 19], [19, 26]], np.int32), 40
    for joints in (skeleton.subset("signing_74"), skeleton.subset("full_128"), np.array([120, 3, 40])):  # no wrist
        for dims in (2, 3):
            lookup = retrieval.Retrieval(prior, joints, dims, experts=3, glosses=3)
            slots = [lookup.slots(gloss, "ase") for gloss in glosses]
            experts = lookup.on_timeline(slots, spans, total)
            for k in range(3):
                chosen = [row[k] or next(one for one in row if one) for row in slots]
                whole = stitch(
                    [prior.pose(one) for one in chosen], spans, total, fps=16.0, rest=prior.rest(chosen[0].signer)
                )
                np.testing.assert_array_equal(experts.candidates[k], whole.coordinates[:, joints, :dims])
                np.testing.assert_array_equal(experts.candidate_confidence[k], whole.confidence[:, joints])


def small_prior(tmp_path) -> Prior:
    entries = [(entry("a", "A"), pose(0.1)), (entry("b", "A"), pose(0.2)), (entry("b", "B"), pose(0.4))]
    return Prior.build(entries, tmp_path / "prior", fps=16.0)


def test_what_can_be_shown_is_signed_or_spelled(tmp_path):
    entries = [(entry("a", gloss), pose(0.1)) for gloss in ("HOUSE", "#A", "#B")]
    lookup = retrieval.Retrieval(Prior.build(entries, tmp_path / "prior", fps=16.0), np.arange(5), 2, 2, glosses=4)
    assert lookup.shows("HOUSE", "ase") and lookup.shows("#AB", "ase") and lookup.shows("BA", "ase")
    assert not lookup.shows("TREE", "ase") and not lookup.shows("HOUSE", "gsg")
    assert lookup.spells("AB", "ase") and not lookup.spells("HOUSE", "ase") and not lookup.spells("AB", "gsg")


def test_experts_share_one_timeline(tmp_path):
    lookup = retrieval.Retrieval(small_prior(tmp_path), np.arange(5), 2, experts=2, glosses=4)
    slots = [lookup.slots("A", "ase"), lookup.slots("B", "ase")]
    experts = lookup.on_timeline(slots, np.array([[0, 3], [5, 9]]), 10)
    assert experts.candidates.shape == (2, 10, 5, 2)
    np.testing.assert_allclose(experts.candidates[0, :3], 0.1, atol=STORED)
    np.testing.assert_allclose(experts.candidates[1, :3], 0.2, atol=STORED)
    # Expert 0 has no B: the other's stands in, and the mask says so.
    np.testing.assert_allclose(experts.candidates[:, 5:9], 0.4, atol=STORED)
    np.testing.assert_array_equal(experts.candidate_mask, [[True, True], [False, True], [False, False], [False, False]])


def test_the_chosen_candidate_is_the_signers_own_or_the_nearest(tmp_path):
    lookup = retrieval.Retrieval(small_prior(tmp_path), np.arange(128), 3, experts=2, glosses=3)
    slots = [lookup.slots("A", "ase"), lookup.slots("B", "ase"), lookup.slots("C", "ase")]
    spans = np.array([[0, 3], [3, 6], [6, 9]])
    own = Sample("s", "", "ase", ("A", "B", "C"), "b", pose(0.1, 9), spans)
    np.testing.assert_array_equal(retrieval.chosen_candidates(own, slots, lookup, "sentence"), [1, 1, -1])
    stranger = Sample("s", "", "ase", ("A", "B", "C"), "z", pose(0.12, 9), spans)
    for gating in ("sentence", "gloss"):
        np.testing.assert_array_equal(retrieval.chosen_candidates(stranger, slots, lookup, gating), [0, 1, -1])


def test_a_label_does_not_contradict_its_sentence(tmp_path):
    """Signer b has no C but a has: gates that decide once a sentence are not told to follow a there."""
    entries = [(entry("a", "A"), pose(0.1)), (entry("b", "A"), pose(0.2)), (entry("a", "C"), pose(0.1))]
    lookup = retrieval.Retrieval(Prior.build(entries, tmp_path / "prior", fps=16.0), np.arange(128), 3, 2, glosses=2)
    sample = Sample("s", "", "ase", ("A", "C"), "b", pose(0.2, 6), np.array([[0, 3], [3, 6]]))
    slots = [lookup.slots(gloss, "ase") for gloss in sample.glosses]
    np.testing.assert_array_equal(retrieval.chosen_candidates(sample, slots, lookup, "sentence"), [1, -1])
    np.testing.assert_array_equal(retrieval.chosen_candidates(sample, slots, lookup, "gloss"), [1, 0])


def test_the_prior_takes_each_signers_first_performances_from_two_samples():
    spans = np.array([[0, 2], [2, 6]])
    samples = [
        Sample("1", "", "ase", ("A", "B"), "a", pose(0.1), spans),
        Sample("2", "", "ase", ("A", "A"), "b", pose(0.2), spans),
        Sample("3", "", "ase", ("B", "A"), "a", pose(0.3), spans),
        Sample("4", "", "ase", ("B", "C"), "a", pose(0.4), spans),
    ]
    found = [(e.gloss, e.signer, e.source, e.priority, len(p)) for e, p in retrieval.prior_entries(samples)]
    # Sample 2 signs A twice: were both taken, leaving the sample out would leave nothing.
    assert found == [
        ("A", "a", "1", 0, 2), ("B", "a", "1", 0, 4), ("A", "b", "2", 0, 2), ("B", "a", "3", 1, 2),
        ("A", "a", "3", 1, 4), ("C", "a", "4", 0, 4),
    ]  # fmt: skip


def motions(tmp_path, samples: list[Sample]) -> records.Records:
    return records.write(tmp_path / "data", {"train": lambda: samples}, {"languages": {}}).motions("train")


def performances(tmp_path) -> tuple[list[Sample], retrieval.Retrieval]:
    """Two signers; "a" signs A in two samples and B in one, "b" signs A in one."""
    spans = np.array([[1, 4], [4, 6]])
    samples = [
        Sample("1", "", "ase", ("A", "B"), "a", pose(0.1), spans),
        Sample("2", "", "ase", ("A",), "a", pose(0.3), spans[:1]),
        Sample("3", "", "ase", ("A",), "b", pose(0.14), spans[:1]),
    ]
    prior = Prior.build(retrieval.prior_entries(samples), tmp_path / "prior", fps=16.0)
    return samples, retrieval.Retrieval(prior, np.arange(128), 3, experts=2, glosses=2)


def test_a_sample_is_not_offered_its_own_performance(tmp_path):
    samples, lookup = performances(tmp_path)

    def sources(gloss: str, without: str = "") -> list:
        return [entry and entry.source for entry in lookup.slots(gloss, "ase", without=without)]

    assert sources("A") == ["1", "3"]  # one performance a signer
    assert sources("A", "1") == ["2", "3"]  # the signer's other one stands in
    assert sources("A", "3") == ["1", None]
    assert sources("B") == ["1", None] and sources("B", "1") == [None, None]
    # The truth of sample 1 follows its signer's other A; of its B there is nothing else.
    slots = [lookup.slots(gloss, "ase", without="1") for gloss in samples[0].glosses]
    np.testing.assert_array_equal(retrieval.chosen_candidates(samples[0], slots, lookup, "gloss"), [0, -1])
    # Signer b has no other A: the nearest of the others is what the truth follows, where each gloss is for itself.
    slots = [lookup.slots("A", "ase", without="3")]
    np.testing.assert_array_equal(retrieval.chosen_candidates(samples[2], slots, lookup, "gloss"), [0, -1])
    shard = motions(tmp_path, samples)
    for gating, label in (("sentence", -1), ("gloss", 0)):
        windows = MotionWindows(shard, lookup.joints, 3, Limits(4, 4, 2), retrieval=lookup, gating=gating)
        np.testing.assert_array_equal(windows.window(2, 0, 6)["chosen"], [label, -1])


def test_training_windows_hold_no_performance_of_their_own(tmp_path):
    samples, lookup = performances(tmp_path)
    windows = MotionWindows(motions(tmp_path, samples), lookup.joints, 3, Limits(4, 4, 2), retrieval=lookup)
    whole = windows.window(0, 0, 6)
    signed = whole["candidates"][:, 1:4]  # the frames of A; at the edges stands the rest pose
    assert signed.size and not np.isclose(signed, 0.1, atol=2 * STORED).any()  # sample 1's own value
    np.testing.assert_array_equal(whole["candidate_mask"], [[True, True], [False, False]])
    np.testing.assert_array_equal(whole["chosen"], [0, -1])


def test_a_sample_does_not_rest_in_its_own_first_frame(tmp_path):
    samples, lookup = performances(tmp_path)
    rests = [(e.signer, e.source, e.priority) for e, _ in retrieval.prior_entries(samples) if e.gloss == REST]
    assert rests == [("a", "1", 0), ("a", "2", 1), ("b", "3", 0)]
    windows = MotionWindows(motions(tmp_path, samples), lookup.joints, 3, Limits(4, 4, 2), retrieval=lookup)
    edges = {i: windows.window(i, 0, 1)["candidates"][:, 0] for i in (0, 1)}  # by experts: a, b
    for i, other in ((0, 0.3), (1, 0.1)):
        np.testing.assert_allclose(edges[i][0], other, atol=STORED)
        np.testing.assert_allclose(edges[i][1], 0.14, atol=STORED)
    # A signer with a single performance has no other rest, and holds the first sign's pose; in signing it rests.
    assert lookup.prior.rest("b", without="3") is None and lookup.prior.rest("b") is not None


def test_what_the_gates_see_does_not_depend_on_the_window_or_the_timing(tmp_path):
    samples, lookup = performances(tmp_path)
    windows = MotionWindows(motions(tmp_path, samples), lookup.joints, 3, Limits(4, 4, 2), retrieval=lookup)
    slots = [lookup.slots(gloss, "ase", without="1") for gloss in samples[0].glosses]
    features, mask = lookup.features(slots, 2)  # as at inference, where there is no timeline yet
    assert features[0].any(axis=-1).all()
    for start, length in ((0, 6), (0, 2), (4, 5), (5, 32)):
        window = windows.window(0, start, length)
        np.testing.assert_array_equal(window["candidate_features"], features)
        np.testing.assert_array_equal(window["candidate_mask"], mask)


def test_frames_of_signs_beyond_the_kept_ones_are_not_learned_from(tmp_path):
    samples, lookup = performances(tmp_path)
    long = replace(samples[0], glosses=("A",) * 3, spans=np.array([[0, 2], [2, 3], [4, 6]], np.int32))
    windows = MotionWindows(motions(tmp_path, [long]), lookup.joints, 3, Limits(4, 4, 2), retrieval=lookup)
    window = windows.window(0, 1, 6)
    np.testing.assert_array_equal(window["valid"], [True] * 3 + [False] * 3)
    np.testing.assert_allclose(window["frame_gloss"].sum(axis=1), [1, 1, 1, 0, 0, 0], atol=1e-6)
    assert "signed" not in window


def test_frames_past_the_end_belong_to_no_gloss_in_training_as_at_inference(tmp_path):
    samples, lookup = performances(tmp_path)
    windows = MotionWindows(motions(tmp_path, samples), lookup.joints, 3, Limits(4, 4, 2), retrieval=lookup)
    window = windows.window(1, 3, 6)
    np.testing.assert_array_equal(window["valid"], [True] * 3 + [False] * 3)
    np.testing.assert_array_equal(window["frame_gloss"].sum(axis=1), [1, 1, 1, 0, 0, 0])
    assert not window["candidate_confidence"][:, 3:].any() and window["candidate_confidence"][:, :3].all()
    slots = [lookup.slots("A", "ase", without="2")]
    padded = retrieval.at_frames(lookup.on_timeline(slots, samples[1].spans, 6), np.arange(3, 9))
    for name, value in vars(padded).items():
        np.testing.assert_array_equal(value, window[name])
