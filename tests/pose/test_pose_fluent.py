"""From a lexicon's signs to signing: strokes, pace, joins, curves and wrists by hand; numpy and JAX alike."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.pose import fluent, skeleton
from signer_jax.pose.curves import PEAK, PEAK_SPEED
from signer_jax.pose.fluent import AS_RECORDED, FLUENT, compose, joins, paced, padded, strokes
from signer_jax.types import Pose

FPS = 25.0
WRISTS = [skeleton.INDEX["left_wrist"], skeleton.INDEX["right_wrist"]]
ROOTS = [skeleton.INDEX["left_hand_wrist_root"], skeleton.INDEX["right_hand_wrist_root"]]
ARMS = [skeleton.INDEX[name] for side in ("left", "right") for name in skeleton.PARTS[f"{side}_arm"]]
FACE = [skeleton.INDEX[name] for name in skeleton.FACE]


def moving(x: list[float] | np.ndarray, y: list[float] | np.ndarray) -> Pose:
    """Both arms' joints at these places, all others at 0."""
    coordinates = np.zeros((len(x), 128, 2), np.float32)
    coordinates[:, ARMS, 0], coordinates[:, ARMS, 1] = np.asarray(x)[:, None], np.asarray(y)[:, None]
    return Pose(coordinates, np.ones((len(x), 128), np.float32), FPS)


def wandering(frames: int, seed: int) -> Pose:
    """Smooth random ways of all joints, half a shoulder width wide."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None, None] / FPS
    waves = [rng.normal(0, 0.2, (1, 128, 3)) * np.cos(2 * np.pi * k * time + rng.uniform(0, 6, 3)) for k in (0, 0.7, 2)]
    return Pose(sum(waves).astype(np.float32), np.ones((frames, 128), np.float32), FPS)


def test_the_climb_and_the_sink_are_cut_between_signs_alone():
    climb, stay, sink = np.linspace(1.0, 0.1, 8)[:-1], np.full(10, 0.1), np.linspace(0.1, 1.0, 6)[1:]
    sign = moving(np.zeros(22), np.concatenate([climb, stay, sink]))
    start, end = strokes(padded([[sign] * 3, [sign]]), 0.4, FPS)
    # The first frame that no longer climbs .5 a second is the one before the hand stays: half of its step is the climb.
    assert start.tolist() == [[0, 8, 8], [0, 0, 0]]
    assert end.tolist() == [[16, 16, 22], [22, 0, 0]]
    fixed = padded([[sign] * 3], [[False, True, False]])
    assert [edge.tolist() for edge in strokes(fixed, 0.4, FPS)] == [[[0, 0, 8]], [[16, 22, 22]]]
    assert [edge.tolist() for edge in strokes(padded([[sign] * 3]), 0.2, FPS)] == [[[0, 4, 4]], [[18, 18, 22]]]
    short = moving(np.zeros(4), [1.0, 0.5, 0.1, 0.6])  # no three frames would be left
    assert [edge.tolist() for edge in strokes(padded([[short] * 3]), 0.6, FPS)] == [[[0, 0, 0]], [[4, 4, 4]]]


def test_pace_is_a_sentences_but_no_faster_than_a_human():
    slow, fast = moving(np.linspace(0, 0.4, 41), np.zeros(41)), moving(np.linspace(0, 4.0, 41), np.zeros(41))
    signs = padded([[slow, fast, slow.slice(0, 5)]])
    done = paced(signs, np.zeros((1, 3), int), signs.frames, FLUENT._replace(faster=9.0), FPS)
    # 41 steps of .1 at 25 a second are 2.5 shoulder widths a second: 6 are 17.1 frames.
    assert done.frames.tolist() == [[10, 18, 5]]
    np.testing.assert_allclose(done.coordinates[0, 0, :10, WRISTS[0], 0], np.linspace(0, 0.4, 10), atol=1e-6)
    assert np.abs(np.diff(done.coordinates[0, 1, :18, WRISTS[0], 0])).max() * FPS < PEAK_SPEED
    assert not done.confidence[0, 0, 10:].any()
    recorded = paced(signs, np.zeros((1, 3), int), signs.frames, AS_RECORDED, FPS)
    np.testing.assert_array_equal(recorded.coordinates, signs.coordinates)
    alone = padded([[slow]])
    assert paced(alone, np.zeros((1, 1), int), alone.frames, FLUENT, FPS).frames.tolist() == [[41]]


def test_fingers_limit_the_pace_and_one_jump_does_not():
    slow = moving(np.linspace(0, 0.4, 41), np.zeros(41))
    finger, wiggling, jumping = ARMS[8], slow.coordinates.copy(), slow.coordinates.copy()
    wiggling[:, finger, 0] += 0.1 * np.sin(2 * np.pi * 3 * np.arange(41) / FPS)  # 1.9 widths a second, 3 times
    jumping[20, WRISTS[0], 0] += 0.5  # 12 widths a second, once there and back
    quick = slow.coordinates.copy()
    quick[:, finger, 0] += 0.2 * np.sin(2 * np.pi * 3 * np.arange(41) / FPS)
    signs = padded([[Pose(one, slow.confidence, FPS) for one in (wiggling, jumping, quick)]])
    start = np.zeros((1, 3), int)
    assert paced(signs, start, signs.frames, FLUENT, FPS).frames.tolist() == [[21, 21, 26]]
    assert paced(signs, start, signs.frames, FLUENT._replace(faster=9.0), FPS).frames[0, 1] == 10


def test_a_missing_joint_never_pulls_another():
    sign = moving(np.full(40, 2.0), np.zeros(40))
    sign.confidence[10:20, WRISTS[0]] = 0
    sign.coordinates[10:20, WRISTS[0]] = 99
    signs = padded([[sign, sign]])
    done = paced(signs, np.zeros((1, 2), int), signs.frames, FLUENT, FPS)
    shown = done.confidence[0, 0, :20, WRISTS[0]] > 0
    assert 3 <= (~shown).sum() <= 7
    np.testing.assert_array_equal(done.coordinates[0, 0, :20, WRISTS[0], 0], np.where(shown, 2.0, 0.0))


def test_a_join_lies_where_place_and_velocity_agree():
    a, b = moving(np.linspace(0, 1, 21), np.zeros(21)), moving(np.linspace(0.85, 1.85, 21), np.zeros(21))
    room = np.full((1, 2, 2), 10)
    first, last = joins(padded([[a, b]]), room, FLUENT, FPS)
    assert (21 - last[0, 0]) + first[0, 1] == 3  # of the two ways of .15 that overlap, at .05 a frame
    assert a.coordinates[last[0, 0] - 1, WRISTS[0], 0] == pytest.approx(b.coordinates[first[0, 1], WRISTS[0], 0])
    turn = moving(np.concatenate([np.linspace(1, 0.85, 4), np.linspace(0.9, 1.7, 17)]), np.zeros(21))
    first, last = joins(padded([[a, turn]]), room, FLUENT._replace(memory=0.0), FPS)
    assert last[0, 0] == 21 and first[0, 1] == 0  # where both are at 1, though one comes and one goes
    first, last = joins(padded([[a, turn]]), room, FLUENT, FPS)
    assert (21 - last[0, 0]) + first[0, 1] == 6 and first[0, 1] > 3  # on the way back
    first, last = joins(padded([[a, b]]), np.full((1, 2, 2), 1), FLUENT, FPS)
    assert (21 - last[0, 0], first[0, 1]) == (1, 1)  # no more than there is room for
    fixed = joins(padded([[a, b]], [[True, True]]), room, FLUENT, FPS)
    assert fixed[1].tolist() == [[21, 21]] and fixed[0].tolist() == [[0, 0]]


@pytest.mark.parametrize("fps", [16.0, 25.0])
def test_a_sign_keeps_two_fifths_of_itself(fps):
    """A way up and a way down, each a sign's whole movement, joined where they fit: at any rate joins are chosen."""
    ways = [moving(np.zeros(31), np.linspace(1.0, 0.0, 31)), moving(np.zeros(31), np.linspace(0.0, 1.0, 31))]
    signs = [Pose(one.coordinates, one.confidence, fps) for one in ways]
    done = compose(padded([[signs[1], *signs, signs[0]]]), FLUENT, fps)
    kept = done.spans[0, :, 1] - done.spans[0, :, 0]
    assert (kept[1:3] >= 0.4 * 16 - 1).all() and (kept[1:3] < 16).all()
    overlap = [moving(np.linspace(x, x + 1, 24), np.zeros(24)) for x in (0.0, 0.9)]
    done = compose(padded([overlap]), FLUENT, fps)
    assert (done.spans[0, :, 1] - done.spans[0, :, 0]).sum() < 24


def test_between_two_signs_at_rest_the_hands_move_with_the_least_jerk():
    a, b = moving(np.zeros(6), np.zeros(6)), moving(np.full(6, 1.6), np.full(6, 0.3))
    done = compose(padded([[a, b]]), AS_RECORDED, FPS)
    (_, end), (start, _) = done.spans[0]
    steps = start - end + 1
    assert start - end == round(FPS * PEAK * np.hypot(1.6, 0.3) / PEAK_SPEED)  # more than the .25 s of AS_RECORDED
    u = np.arange(steps + 1) / steps
    expected = 1.6 * (10 * u**3 - 15 * u**4 + 6 * u**5)
    np.testing.assert_allclose(done.coordinates[0, end - 1 : start + 1, WRISTS[1], 0], expected, atol=1e-5)
    speed = np.linalg.norm(np.diff(done.coordinates[0, :, WRISTS[1]], axis=0), axis=-1).max() * FPS
    assert speed < PEAK_SPEED * 1.02


def test_wrists_are_where_hands_begin_and_faces_are_as_they_were():
    a, b = wandering(9, 1), wandering(9, 2)
    done = compose(padded([[a, b]]), AS_RECORDED, FPS)
    np.testing.assert_allclose(done.coordinates[:, :, WRISTS, :2], done.coordinates[:, :, ROOTS, :2], atol=1e-6)
    for sign, (start, end) in zip((a, b), done.spans[0], strict=True):
        np.testing.assert_array_equal(done.coordinates[0, start:end, FACE], sign.coordinates[:, FACE].swapaxes(0, 1))
    unseen = a.confidence.copy()
    unseen[:, ROOTS[0]] = 0
    alone = compose(padded([[Pose(a.coordinates, unseen, FPS)]]), AS_RECORDED, FPS)
    start, end = alone.spans[0, 0]
    np.testing.assert_array_equal(alone.coordinates[0, start:end, WRISTS[0]], a.coordinates[:, WRISTS[0]])


def test_a_wrist_keeps_its_depth_and_does_not_flicker_with_a_hands_confidence(samples):
    """An arm's depth counts from the hips, a hand's from its wrist: in MediaPipe's files they differ by 5 widths."""
    from signer_jax.pose.clean import clean
    from signer_jax.pose.formats import pose_file
    from signer_jax.pose.stitching import steady

    file = min((samples / "how2sign").rglob("*.pose"))
    pose = steady(clean(skeleton.normalise(pose_file.read(file))[0]), None)
    pose = pose.slice(0, 30)
    apart = pose.coordinates[:, WRISTS, 2] - pose.coordinates[:, ROOTS, 2]
    assert np.abs(apart).max() > 0.5
    done = fluent.with_wrists(pose.coordinates, pose.confidence)
    np.testing.assert_array_equal(done[..., 2], pose.coordinates[..., 2])
    flickering = pose.confidence.copy()
    flickering[:, ROOTS] = np.random.default_rng(0).uniform(0.4, 1.0, (30, 2))
    np.testing.assert_array_equal(fluent.with_wrists(pose.coordinates, flickering), done)


def test_a_joint_that_one_side_lacks_goes_with_its_wrist_and_fades():
    a, b = moving(np.zeros(6), np.zeros(6)), moving(np.full(6, 1.0), np.zeros(6))
    finger, toe = ARMS[5], skeleton.INDEX["left_ankle"]
    b.confidence[:, finger] = 0
    for sign in (a, b):
        sign.confidence[:, toe] = 0
    done = compose(padded([[a, b]]), AS_RECORDED, FPS)
    between = slice(done.spans[0, 0, 1], done.spans[0, 1, 0])
    shown = done.confidence[0, between, finger]
    assert shown[0] > 0 and (np.diff(shown) <= 0).all() and (shown[len(shown) // 2 + 1 :] == 0).all()
    wrist = done.coordinates[0, between, WRISTS[0]]
    np.testing.assert_allclose(done.coordinates[0, between, finger][shown > 0], wrist[shown > 0], atol=1e-6)
    assert not done.confidence[0, :, toe].any() and not done.coordinates[0, :, toe].any()


@pytest.fixture(scope="module")
def sentences() -> list[list[Pose]]:
    lengths = ((30, 12, 45, 7), (20,), (3, 50, 6))
    signs = [[wandering(length, 10 * i + k) for k, length in enumerate(row)] for i, row in enumerate(lengths)]
    signs[0][2].confidence[:, ARMS[4:9]] = 0
    return signs


@pytest.mark.parametrize("manner", [FLUENT, AS_RECORDED], ids=["fluent", "as recorded"])
def test_a_batch_in_jit_is_what_numpy_makes_of_each_sentence_alone(sentences, manner):
    total = 220
    batch = jax.jit(lambda signs: compose(signs, manner, FPS, total))(jax.tree.map(jnp.asarray, padded(sentences)))
    for i, signs in enumerate(sentences):
        alone = compose(padded([signs]), manner, FPS)
        frames = int(alone.frames[0])
        assert frames == batch.frames[i] <= total
        np.testing.assert_array_equal(batch.spans[i, : len(signs)], alone.spans[0])
        np.testing.assert_allclose(batch.coordinates[i, :frames], alone.coordinates[0], atol=2e-5)
        np.testing.assert_allclose(batch.confidence[i, :frames], alone.confidence[0], atol=1e-6)
        assert (
            not np.asarray(batch.confidence[i, frames:]).any() and not np.asarray(batch.coordinates[i, frames:]).any()
        )
        spans = alone.spans[0]
        assert (spans[:, 1] - spans[:, 0] >= 2).all() and (spans[1:, 0] > spans[:-1, 1]).all()
        hold = round(manner.hold * FPS)
        assert spans[0, 0] == hold and spans[-1, 1] == frames - hold
    cut = compose(padded(sentences), manner, FPS, 30)
    np.testing.assert_allclose(cut.coordinates[2], batch.coordinates[2, :30], atol=2e-5)
    assert cut.frames.tolist() == batch.frames.tolist()


@pytest.mark.parametrize("manner", [FLUENT, AS_RECORDED], ids=["fluent", "as recorded"])
def test_a_long_sentence_is_the_same_a_few_signs_at_a_time(manner):
    rng = np.random.default_rng(0)
    signs = [wandering(int(frames), i) for i, frames in enumerate(rng.integers(5, 50, 27))]
    fixed = [i % 7 == 2 for i in range(27)]
    whole = compose(padded([signs], [fixed]), manner, FPS)
    parts = fluent.sentence(signs, fixed, manner)
    np.testing.assert_allclose(parts.coordinates, whole.coordinates[0], atol=1e-5)
    np.testing.assert_array_equal(parts.confidence, whole.confidence[0])
    with pytest.raises(SignerError, match="there is no sign to stitch"):
        fluent.sentence([], [], manner)


def test_a_long_sign_costs_what_it_is_and_not_that_times_the_signs():
    def peak(count: int) -> int:
        signs = [wandering(600, 0), *[wandering(12, 1)] * count]
        tracemalloc.start()
        fluent.sentence(signs, [True] + [False] * count, FLUENT)
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(90) < 1.5 * peak(30)


@pytest.mark.parametrize("sentence", [1, 2, 3, 4])
def test_real_signs_flow_no_faster_than_a_human(samples, sentence):
    """DGS signs cut out of the samples' stitched sentences: hands stay, and their wrists keep to a human speed."""
    from signer_jax.pose.clean import clean
    from signer_jax.pose.formats import pose_file
    from signer_jax.pose.sources.continuous import pieces
    from signer_jax.pose.stitching import steady, trim

    pose = pose_file.read(samples / f"stitching/train_{sentence}_updated.pose")
    signs = [trim(clean(skeleton.normalise(pose.slice(*span))[0])) for span in pieces(pose)]
    steadied = [steady(sign, None) for sign in signs]
    done = fluent.compose(fluent.padded([steadied]), FLUENT, pose.fps)
    assert done.frames[0] < 0.75 * len(pose)
    # The last sign of train_3 lacks one hand altogether; every other joint stays in every frame.
    seen = np.all([(one.confidence[:, ARMS] > 0).all(axis=0) for one in steadied], axis=0)
    assert (done.confidence[0][:, ARMS][:, seen] > 0).all()
    assert (~seen).sum() == (21 if sentence == 3 else 0)
    speed = np.linalg.norm(np.diff(done.coordinates[0, :, WRISTS, :2], axis=1), axis=-1) * pose.fps
    recorded = [np.linalg.norm(np.diff(one.coordinates[:, WRISTS, :2], axis=0), axis=-1).max() for one in signs]
    assert speed.max() < 1.1 * max(PEAK_SPEED, max(recorded) * pose.fps)  # the tenth: transitions overshoot
