"""Text to pose, beside what needs no model; what cannot be signed counts."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from signer_jax.evaluation import Evaluation, texts
from signer_jax.evaluation.poses import evaluate_poses
from signer_jax.evaluation.readers import performed_texts
from signer_jax.evaluation.texts import nearest_recordings, resting, shuffled
from signer_jax.types import Pose, Sample


def test_another_text_is_of_the_same_language_and_says_something_else():
    told = [("a", "X Y"), ("b", "X"), ("a", "X Y"), ("a", "Z")]
    samples = [Sample(str(i), "", language, tuple(text.split())) for i, (language, text) in enumerate(told)]
    assert shuffled(samples) == [3, None, 3, 0]


def test_text_to_pose_goes_through_what_was_understood(tiny_run, monkeypatch):
    """Where the true glosses are understood, the pose is that of the true glosses; other texts' poses are farther."""
    from signer_jax import Signer

    signer = Signer.load(tiny_run)
    understand = texts.understand
    records = signer.corpus.motions("dev")
    truth = {records[i].text: records[i].glosses for i in range(len(records))}

    def understood(texts, languages, linker):
        found = understand(texts, languages, linker)
        return replace(found, sentences=tuple(replace(s, glosses=truth[texts[s.of]]) for s in found.sentences))

    monkeypatch.setattr(texts, "understand", understood)
    result = Evaluation(joints=signer.settings.pose.joints)
    evaluate_poses(signer, "dev", 4, result)
    found = result.metrics
    assert found["pose/text_dtw"] == pytest.approx(found["pose/text_dtw_true_glosses"], rel=1e-5)
    assert 0 < found["pose/text_dtw"] < found["pose/text_dtw_shuffled"]  # a run of four steps: in the demo a sixth
    assert {"pose/hand_before", "pose/hand_after", "pose/jerk_after"} <= set(found)
    assert found["pose/expert_accuracy_constant"] >= found["pose/expert_accuracy_majority"]
    for reader in ("nearest_text", "word_counts"):
        assert 0 <= found[f"pose/expert_accuracy_{reader}"] <= found[f"pose/form_accuracy_{reader}"] <= 1
        assert found[f"pose/dtw_followed_{reader}_expert"] > 0
        assert found[f"pose/expert_accuracy_over_{reader}"] == pytest.approx(
            found["pose/expert_accuracy"] - found[f"pose/expert_accuracy_{reader}"]
        )
    assert found["pose/text_dtw"] < found["pose/text_dtw_rest"] and found["pose/text_dtw_failed"] == 0
    assert found["pose/text_dtw_over_nearest_text"] == pytest.approx(
        found["pose/text_dtw"] - found["pose/text_dtw_nearest_text"]
    )
    # Where nothing is understood each text counts as standing still, and it is said how often.
    truth = dict.fromkeys(truth, ())
    again = Evaluation(joints=signer.settings.pose.joints)
    evaluate_poses(signer, "dev", 4, again)
    assert again.metrics["pose/text_dtw"] == again.metrics["pose/text_dtw_rest"] == found["pose/text_dtw_rest"]
    assert again.metrics["pose/text_dtw_failed"] == again.metrics["pose/sentences"] == 4
    assert again.metrics["pose/text_dtw_true_glosses"] == pytest.approx(found["pose/text_dtw_true_glosses"], rel=0.1)
    assert again.metrics["pose/text_dtw_true_glosses_failed"] == 0
    assert not any(name.startswith("pose/text_dtw") and name.endswith("_unscored") for name in again.metrics)


def test_what_was_understood_right_is_performed_once(tiny_run, monkeypatch):
    """One batch of all texts: the second time only of the text whose true glosses are others."""
    from signer_jax import Signer

    signer = Signer.load(tiny_run)
    records = signer.corpus.motions("dev")
    samples = [sample for i in range(len(records)) if (sample := records[i]).text]
    understand, perform_many, batches = texts.understand, texts.perform_many, []

    def understood(said, languages, linker):
        found = understand(said, languages, linker)
        made = [replace(s, glosses=samples[s.of].glosses[: 1 if s.of == 0 else None]) for s in found.sentences]
        return replace(found, sentences=tuple(made))

    def performed(glosses, *args, **named):
        batches.append(list(glosses))
        return perform_many(glosses, *args, **named)

    monkeypatch.setattr(texts, "understand", understood)
    monkeypatch.setattr(texts, "perform_many", performed)
    signed, told = texts.perform_texts(signer, samples, signer.model.joints, signer.settings.pose.dims)
    assert len(samples[0].glosses) > 1 and all(sample.glosses for sample in samples)
    assert [one is other for one, other in zip(signed, told, strict=True)] == [False] + [True] * (len(samples) - 1)
    assert len(batches) == 1 and len(batches[0]) == len(samples) + 1
    assert len(told[0]) > len(signed[0])


def test_a_training_text_is_not_its_own_nearest(tiny_run):
    """On the training split the recording of the nearest text is another one's."""
    from signer_jax import Signer

    signer = Signer.load(tiny_run)
    records = signer.corpus.motions("train")
    samples = [records[i] for i in range(3)]
    bank = performed_texts(signer.corpus)
    for sample, pose in zip(samples, nearest_recordings(signer.corpus, samples, bank), strict=True):
        assert pose is not None and not np.array_equal(pose.coordinates, sample.pose.coordinates)


def test_who_has_no_rest_pose_shows_nothing():
    still = Pose(np.ones((1, 128, 3), np.float32), np.ones((1, 128), np.float32), 16.0)
    rests = {"b": still}
    prior = SimpleNamespace(rest=lambda name, without: rests.get(name), fps=16.0)
    retrieval = SimpleNamespace(signers=["a", "b"], prior=prior)
    assert resting(retrieval, [0, 1, 2], "own") is still
    rests.clear()
    assert not resting(retrieval, [0, 1, 2], "own").confidence.any()
