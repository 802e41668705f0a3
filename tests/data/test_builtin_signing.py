"""The built-in corpus: phonology, signers, kinematics and the avatar."""

import subprocess
import sys

import numpy as np
import pytest

from signer_jax.data.builtin import avatar, corpus, kinematics, lexicon, phonology, signers
from signer_jax.errors import SignerError
from signer_jax.pose.skeleton import INDEX, VIEW_SIDE, VIEW_TOP

HANDS = {
    side: slice(INDEX[f"{side}_hand_wrist_root"], INDEX[f"{side}_hand_wrist_root"] + 21) for side in ("left", "right")
}


def _all_signs(language, variation=0.03, jitter=0.0):
    """Every gloss of a language, in performances of eight glosses, each by the next signer."""
    glosses, names = corpus.glosses_of(language), list(corpus.SIGNERS)
    for i in range(0, len(glosses), 8):
        sentence = corpus.Sentence("", language, glosses[i : i + 8], (0.0, 0.0), "yes-no", "")
        signer = names[i // 8 % len(names)]
        yield signer, corpus.perform(sentence, signer, i, variation=variation, jitter=jitter)


def test_inventories_and_the_number_of_glosses():
    assert len(phonology.HANDSHAPES) >= 20 and len(phonology.LOCATIONS) >= 14 and len(phonology.MOVEMENTS) >= 12
    distinct = {
        gloss for language in corpus.LANGUAGES for gloss in lexicon.lexicon(language) if not gloss.startswith("#")
    }
    assert len(distinct) >= 260
    assert len(corpus.SIGNERS) >= 4 and len(corpus.APPEARANCES) >= 4
    assert {signer.appearance for signer in corpus.SIGNERS.values()} <= set(corpus.APPEARANCES)


def test_every_gloss_has_a_form_of_its_own():
    for language in corpus.LANGUAGES:
        forms = [lexicon.form(entry) for entry in lexicon.lexicon(language).values()]
        assert len(set(forms)) == len(forms)


def test_the_same_gloss_differs_between_the_languages():
    for gloss in ("BUS", "HAND", "HOTEL", "COMPUTER"):
        assert lexicon.form(lexicon.phonology(gloss, "ase")) != lexicon.form(lexicon.phonology(gloss, "gsg"))
    with pytest.raises(SignerError, match="did you mean 'HOUSE'"):
        lexicon.phonology("HOUSES", "ase")


def test_signers_differ_on_most_glosses_and_agree_on_letters():
    for language in corpus.LANGUAGES:
        variants = {
            gloss: {lexicon.form(signers.variant(gloss, language, name)) for name in corpus.SIGNERS}
            for gloss in corpus.glosses_of(language)
        }
        words = [len(forms) > 1 for gloss, forms in variants.items() if not gloss.startswith("#")]
        assert 0.5 < np.mean(words) < 0.75
        assert all(len(forms) == 1 for gloss, forms in variants.items() if gloss.startswith("#"))


def test_a_sign_varies_by_generation_by_register_or_by_both():
    by_axes = {1: 0, 2: 0, 4: 0}
    for gloss in corpus.glosses_of("ase"):
        forms = {name: lexicon.form(signers.variant(gloss, "ase", name)) for name in corpus.SIGNERS}
        by_axes[len(set(forms.values()))] += 1
        if len(set(forms.values())) == 2:
            groups = [{forms[n] for n, who in corpus.SIGNERS.items() if getattr(who, axis) == value}
                      for axis in ("young", "formal") for value in (False, True)]  # fmt: skip
            assert [len(group) for group in groups] in ([1, 1, 2, 2], [2, 2, 1, 1])
    assert min(by_axes.values()) > 20
    assert {signers.signer_of(young, formal).name for young in (0, 1) for formal in (0, 1)} == set(corpus.SIGNERS)


def test_quaternions_and_rotations_agree():
    for palm, fingers in phonology.ORIENTATIONS:
        frame = phonology.frame_of(palm, fingers)
        assert np.linalg.det(frame) == pytest.approx(1.0)
        np.testing.assert_allclose(kinematics.rotations(kinematics.quaternion(frame)), frame, atol=1e-9)


def test_quick_forms_give_the_bits_of_the_plain_ones():
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(2, 9, 4))
    w, x, y, z = np.moveaxis(q, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    np.testing.assert_array_equal(kinematics.rotations(q), np.stack([np.stack(row, -1) for row in rows], -2))
    np.testing.assert_array_equal(kinematics.rotations(q[4]), kinematics.rotations(q)[4])
    np.testing.assert_array_equal(kinematics.multiply(p, q)[4], kinematics.multiply(p[4], q[4]))
    patch, cover = rng.normal(size=(3, 5, 4, 3)).astype(np.float32), rng.random((1, 5, 4)).astype(np.float32)
    colour = np.array((1, 50, 200), np.float32)
    by_hand = patch + cover[..., None] * (colour - patch)
    avatar._blend(patch, cover, colour)
    np.testing.assert_array_equal(patch, by_hand)


def test_a_right_palm_towards_the_viewer_has_its_thumb_at_the_viewers_right():
    hand = kinematics.hand(
        np.zeros((1, 3)), phonology.frame_of("out", "up")[None], phonology.HANDSHAPES["5"][None], 1.0
    )[0]
    assert hand[4, 0] > 0.15 and hand[20, 0] < -0.05 and hand[12, 1] < -0.45


def test_minimum_jerk_by_hand():
    np.testing.assert_allclose(kinematics.minimum_jerk(3), [0.103515625, 0.5, 0.896484375])


def test_bones_keep_their_length_and_hands_hang_on_their_wrists():
    for language in corpus.LANGUAGES:
        for name, (pose, _) in _all_signs(language):
            body, x = corpus.SIGNERS[name].body, pose.coordinates
            for side in ("right", "left"):
                shoulder, elbow, wrist = (x[:, INDEX[f"{side}_{part}"]] for part in ("shoulder", "elbow", "wrist"))
                np.testing.assert_allclose(np.linalg.norm(elbow - shoulder, axis=1), body.upper_arm, atol=1e-5)
                np.testing.assert_allclose(np.linalg.norm(wrist - elbow, axis=1), body.forearm, atol=1e-5)
                hand = x[:, HANDS[side]]
                np.testing.assert_array_equal(hand[:, 0], wrist)
                index = np.linalg.norm(np.diff(hand[:, 5:9], axis=1), axis=2)
                np.testing.assert_allclose(
                    index, body.hand * np.array([[0.112, 0.072, 0.056]]).repeat(len(x), 0), atol=1e-5
                )


def test_all_seen_joints_lie_in_the_view():
    low, high = np.array((-VIEW_SIDE / 2, -VIEW_TOP)), np.array((VIEW_SIDE / 2, VIEW_SIDE - VIEW_TOP))
    for language in corpus.LANGUAGES:
        for _, (pose, _) in _all_signs(language, jitter=0.008):
            seen = pose.coordinates[..., :2][pose.confidence > 0]
            assert (seen > low).all() and (seen < high).all()


def test_a_performance_has_the_right_timing_and_confidence():
    lengths = []
    for language in corpus.LANGUAGES:
        for _, (pose, spans) in _all_signs(language):
            assert pose.coordinates.dtype == np.float32 and pose.fps == 16
            assert spans[0, 0] >= 3 and spans[-1, 1] < len(pose)
            gaps = spans[1:, 0] - spans[:-1, 1]
            assert gaps.min() >= 2 and gaps.max() <= 6
            lengths.append(spans[:, 1] - spans[:, 0])
            legs = [INDEX[f"{s}_{part}"] for s in ("left", "right") for part in ("knee", "ankle")]
            assert (pose.confidence[:, legs] == 0).all() and (np.delete(pose.confidence, legs, 1) == 1).all()
    assert 8 <= np.concatenate(lengths).mean() <= 14


def test_transitions_do_not_jump():
    for _, (pose, _) in _all_signs("ase"):
        steps = np.linalg.norm(np.diff(pose.coordinates[:, INDEX["right_wrist"]], axis=0), axis=1)
        assert steps.max() < 0.55  # shoulder widths a frame: about 3 m/s, a fast arm


def test_performances_vary_with_seed_and_signer_and_jitter_is_noise_on_one_motion():
    sentence = corpus.read("i carried the bag.", "ase")
    pose, spans = corpus.perform(sentence, "amira", 0)
    again, _ = corpus.perform(sentence, "amira", 0)
    np.testing.assert_array_equal(pose.coordinates, again.coordinates)
    clean, clean_spans = corpus.perform(sentence, "amira", 0, jitter=0.0)
    np.testing.assert_array_equal(spans, clean_spans)
    noise = (pose.coordinates - clean.coordinates)[:, HANDS["right"]][:, 1:]
    assert 0.005 < noise.std() < 0.02
    other, _ = corpus.perform(sentence, "amira", 1, jitter=0.0)
    n = min(len(other), len(clean))
    assert np.abs(other.coordinates[:n] - clean.coordinates[:n]).max() > 0.02
    slow, _ = corpus.perform(sentence, "bruno", 0, variation=0.0)
    fast, _ = corpus.perform(sentence, "chen", 0, variation=0.0)
    assert len(slow) > len(fast)
    with pytest.raises(SignerError, match="did you mean 'amira'"):
        corpus.perform(sentence, "amir", 0)


def test_yes_no_questions_raise_the_brows():
    def brow(text):
        sentence = corpus.read(text, "ase")
        pose, spans = corpus.perform(sentence, "amira", 0, jitter=0.0)
        middle = pose.coordinates[spans[0, 0] : spans[-1, 1]]
        return (middle[:, INDEX["face_37"], 1] - middle[:, INDEX["face_19"], 1]).mean()

    assert brow("are you tired?") > brow("you are tired.") + 0.02 > brow("why are you tired?") + 0.02


@pytest.mark.parametrize("appearance", list(corpus.APPEARANCES))
@pytest.mark.parametrize("size", [64, 96])
def test_the_avatar_shows_skin_where_the_hands_are(appearance, size):
    pose, spans = corpus.perform(corpus.read("the house", "ase"), "amira", 0, jitter=0.0)
    video = avatar.render(pose.coordinates, appearance, (size, size))
    assert video.shape == (len(pose), size, size, 3) and video.dtype == np.uint8
    look = avatar.APPEARANCES[appearance]
    x = pose.coordinates[spans[0, 0] : spans[0, 1]]
    for side in ("right", "left"):
        middle = (x[:, HANDS[side]][:, 0, :2] + x[:, HANDS[side]][:, 9, :2]) / 2
        column, row = ((middle + (VIEW_SIDE / 2, VIEW_TOP)) * size / VIEW_SIDE).astype(int).T
        colour = video[np.arange(spans[0, 0], spans[0, 1]), row, column].astype(float)
        hue = colour / colour.sum(-1, keepdims=True)
        np.testing.assert_allclose(hue, np.tile(np.array(look.skin) / sum(look.skin), (len(hue), 1)), atol=0.03)
    # the corners are background, and do not move
    assert (video[:, 0, 0] == video[0, 0, 0]).all()
    assert np.abs(video[0, 0, 0] - np.array(look.background)).max() < 60


def test_appearances_differ_and_chunks_change_nothing(monkeypatch):
    pose, _ = corpus.perform(corpus.read("the house", "ase"), "amira", 0)
    videos = [avatar.render(pose.coordinates[:4], name, (64, 64)).astype(float) for name in corpus.APPEARANCES]
    for i, a in enumerate(videos):
        assert all(np.abs(a - b).mean() > 5 for b in videos[:i])
    whole = avatar.render(pose.coordinates, "teal", (64, 64)).astype(int)
    monkeypatch.setattr(avatar, "_CHUNK_PIXELS", 64 * 64 * 3)  # three frames at a time
    assert np.abs(whole - avatar.render(pose.coordinates, "teal", (64, 64))).max() <= 1


def test_the_avatar_names_mistakes():
    with pytest.raises(SignerError, match="did you mean 'teal'"):
        avatar.render(np.zeros((1, 128, 3)), "teel", (64, 64))
    with pytest.raises(SignerError, match="draws"):
        avatar.render(np.zeros((1, 50, 2)), "teal", (64, 64))
    assert avatar.render(np.zeros((0, 128, 3)), "teal", (64, 64)).shape == (0, 64, 64, 3)


def test_the_corpus_is_the_same_in_another_process():
    program = (
        "import zlib; from signer_jax.data.builtin import corpus as c;"
        "s = next(c.samples('train', sentences=1, poses=1, videos=0, seed=4, size=(32, 32)));"
        "print(s.text, s.signer, zlib.crc32(s.pose.coordinates.tobytes()))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "JAX_PLATFORMS": "cpu"},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(runs) == 1 and runs.pop().strip()
