"""Video scores against scikit-image and by hand."""

import numpy as np
import pytest
from fuzz import memory
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from signer_jax.errors import SignerError
from signer_jax.metrics import video as scores
from signer_jax.metrics.video import (
    composite_baseline,
    flicker,
    frame_change,
    gradient_correlation,
    gradient_energy,
    hand_centres,
    hand_crop,
    hand_crops,
    hand_ssim,
    mean_frame,
    nearest_pose_baseline,
    pose_distance,
    psnr,
    squared_error,
    ssim,
)
from signer_jax.pose import skeleton
from signer_jax.types import Pose, Sample


def reference_ssim(a, b):
    return structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1
    )


def noisy_pair(t=5, h=32, w=41, seed=0):
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.linspace(0, 180, h), np.linspace(0, 60, w))[None, :, :, None]
    a = np.clip(smooth + rng.normal(0, 20, (t, h, w, 3)), 0, 255).astype(np.uint8)
    b = np.clip(a + rng.normal(0, 25, a.shape), 0, 255).astype(np.uint8)
    return a, b


@pytest.mark.parametrize("values", [1, 41 * 3 * 4, 41 * 3 * 33])
def test_a_large_frame_goes_in_bands(monkeypatch, values):
    a, b = noisy_pair()
    whole, most = ssim(a, b), []
    similarity = scores._similarity
    monkeypatch.setattr(scores, "_CHUNK_VALUES", values)
    monkeypatch.setattr(scores, "_similarity", lambda x, y: most.append(x.shape[1]) or similarity(x, y))
    np.testing.assert_allclose(ssim(a, b), whole, rtol=1e-12)
    assert max(most) == min(32, values // 41 + 10 if values > 41 else 11)  # of one channel


def test_a_large_frame_takes_little_memory():
    frame = np.random.default_rng(0).integers(0, 255, (1, 1080, 1920, 3), np.uint8)
    assert memory.grown(lambda: ssim(frame, frame)) < 120 << 20


@pytest.mark.parametrize("size", [(11, 11), (32, 41), (64, 64)])
def test_ssim_equals_scikit_image(size):
    a, b = noisy_pair(3, *size)
    np.testing.assert_allclose(ssim(a, b), [reference_ssim(x, y) for x, y in zip(a, b, strict=True)], atol=1e-6)
    np.testing.assert_allclose(ssim(a, a), 1.0)


def test_ssim_in_chunks_is_the_same(monkeypatch):
    a, b = noisy_pair()
    whole = ssim(a, b)
    monkeypatch.setattr(scores, "_CHUNK_VALUES", 2 * a[0].size)
    np.testing.assert_array_equal(ssim(a, b), whole)


def test_ssim_refuses_what_does_not_fit():
    a, b = noisy_pair()
    with pytest.raises(SignerError, match="differ"):
        ssim(a, b[:2])
    with pytest.raises(SignerError, match="window"):
        ssim(a[:, :8], b[:, :8])


def test_hand_ssim_is_the_ssim_of_the_crops():
    a, b = noisy_pair(2, 48, 40)
    centres = np.array([[[20.0, 24.0], [1.0, 47.0]], [[39.0, 0.0], [12.3, 30.9]]])
    visible = np.array([[True, True], [True, False]])
    result = hand_ssim(a, b, centres, visible, 15)
    # Corner = round(centre - 7.5), halves to the even one (12.5 -> 12), moved inside the frame.
    corners = {(0, 0): (12, 16), (0, 1): (0, 33), (1, 0): (25, 0)}
    for (frame, hand), (x, y) in corners.items():
        crops = (v[frame, y : y + 15, x : x + 15] for v in (a, b))
        assert result[frame, hand] == pytest.approx(reference_ssim(*crops), abs=1e-6)
    assert np.isnan(result[1, 1])
    with pytest.raises(SignerError, match="crop is 41"):
        hand_ssim(a, b, centres, visible, 41)
    nothing = hand_ssim(a, b, centres, np.zeros((2, 2), bool), 15)
    assert np.isnan(nothing).all()


def test_hand_crop_keeps_the_papers_share():
    assert hand_crop(256, 256) == 60
    assert hand_crop(128, 256) == 30
    assert hand_crop(32, 32) == 11


def test_hand_centres_are_in_pixels_of_the_view():
    joints = skeleton.SUBSETS["upper_50"]
    coordinates, confidence = np.zeros((2, 50, 2), np.float32), np.zeros((2, 50), np.float32)
    left = skeleton.positions(skeleton.LEFT_HAND, joints)
    confidence[0, left[:3]] = 1
    coordinates[0, left[:3]] = [[0.0, 0.0], [0.1, 0.4], [0.2, 0.1]]
    coordinates[0, left[3]] = np.nan  # missing
    centres, visible = hand_centres(Pose(coordinates, confidence, 25.0), joints, (260, 260))
    np.testing.assert_array_equal(visible, [[True, False], [False, False]])
    # 100 pixels a shoulder width; the origin is at (130, 110).
    np.testing.assert_allclose(centres[0, 0], [130 + 10, 110 + 20], rtol=1e-5)
    assert np.isfinite(centres).all()


def test_flicker_looks_at_static_pixels_only():
    reference = np.full((3, 2, 2, 3), 100, np.uint8)
    reference[1, 0, 0, 1] = 150  # moves, and moves back
    video = reference.copy()
    video[1, 0, 0] = 0
    video[1, 1, 1] = (106, 100, 97)
    # 3 static pixels × 3 channels × 2 steps; changes 6 + 3, twice.
    assert flicker(video, reference) == pytest.approx(18 / 18)
    assert flicker(reference, reference) == 0
    assert np.isnan(flicker(video[:1], reference[:1]))
    with pytest.raises(SignerError, match="differ"):
        flicker(video[:2], reference)


def test_hand_crops_come_frame_by_frame_and_stay_inside():
    video = np.arange(2 * 20 * 20 * 3, dtype=np.uint16).reshape(2, 20, 20, 3)
    centres = np.array([[[10.0, 10.0], [0.0, 19.0]], [[5.0, 5.0], [19.0, 0.0]]])
    crops = hand_crops(video, centres, np.array([[True, True], [False, True]]), 12)
    for crop, expected in zip(crops, (video[0, 4:16, 4:16], video[0, 8:, :12], video[1, :12, 8:]), strict=True):
        np.testing.assert_array_equal(crop, expected)


def test_gradient_energy_by_hand():
    step = np.zeros((1, 2, 3, 3), np.uint8)
    step[0, :, 2] = 4  # one edge of 4 levels: of the two columns' differences one is 4, the rows are equal
    assert gradient_energy(step) == pytest.approx([4**2 / 2])
    step[0, 1] += 3  # and the lower row 3 lighter
    assert gradient_energy(step) == pytest.approx([4**2 / 2 + 3**2])
    assert gradient_energy(np.full((2, 5, 5, 3), 9, np.uint8)).tolist() == [0, 0]


def test_frame_change_by_hand():
    video = np.zeros((3, 2, 2, 3), np.uint8)
    video[1, 0, 0] = 8  # a quarter of the pixels, up by 8 and down again
    np.testing.assert_allclose(frame_change(video), [2, 2])
    assert len(frame_change(video[:1])) == 0


def test_pose_distance_is_to_the_nearest_and_over_what_is_shown():
    bank = np.zeros((2, 2, 2), np.float32)
    bank[1] = 3.0
    seen = np.array([[1, 1], [1, 0]], np.float32)
    coordinates = np.array([[[0.3, 0.4], [0, 0]], [[0.3, 0.4], [9, 9]], [[3, 3], [3, 3]]], np.float32)
    confidence = np.array([[1, 1], [1, 0], [1, 1]], np.float32)
    # 0.5 and 0 of two joints; 0.5 of one; frame 1 of the bank: 0, and 1 for the joint that it lacks.
    expected = [(0.25 / 2) ** 0.5, 0.5, 0.5**0.5]
    np.testing.assert_allclose(pose_distance(Pose(coordinates, confidence, 25.0), bank, seen), expected, rtol=1e-5)


def test_mean_frame_weighs_frames_not_videos():
    videos = [np.full((3, 4, 4, 3), 10, np.uint8), np.full((1, 4, 4, 3), 250, np.uint8)]
    np.testing.assert_array_equal(mean_frame(videos), np.full((4, 4, 3), 70))
    with pytest.raises(SignerError, match="no video"):
        mean_frame([])


def signed(name, signer, places, shade):
    """A clip of one joint at `places`; frame i of its video has the grey `shade` + i."""
    coordinates = np.array(places, np.float32).reshape(-1, 1, 1).repeat(3, axis=-1)
    video = (shade + np.arange(len(places), dtype=np.uint8))[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    pose = Pose(coordinates, np.ones((len(places), 1), np.float32), 25.0)
    return Sample(name, "", "ase", signer=signer, pose=pose, video=video)


def test_nearest_pose_baseline_copies_frames_of_the_same_signer():
    training = [
        signed("a", "anna", [0, 1, 2], 10),
        signed("b", "ben", [5, 6], 100),
        signed("c", "anna", [3, 4], 50),
    ]
    evaluation = [signed("x", "anna", [4.2, 0.9, 5.1], 0), signed("y", "ben", [0], 0)]
    videos = list(nearest_pose_baseline(evaluation, training, np.array([0])))
    np.testing.assert_array_equal(videos[0][:, 0, 0, 0], [51, 11, 51])
    np.testing.assert_array_equal(videos[1][:, 0, 0, 0], [100])
    # Depth does not count: a picture does not show it.
    near = evaluation[0].pose.coordinates
    near[..., 2] += 9.0
    np.testing.assert_array_equal(next(nearest_pose_baseline(evaluation, training, np.array([0]))), videos[0])
    with pytest.raises(SignerError, match="'carl'"):
        next(nearest_pose_baseline([signed("z", "carl", [0], 0)], training, np.array([0])))


def test_edges_in_their_places_correlate_and_noise_does_not():
    """Whatever their contrast; noise as sharp as the truth, and edges one pixel off, do not."""
    truth = np.random.default_rng(0).integers(60, 120, (2, 32, 32, 3)).astype(np.uint8)
    noise = np.random.default_rng(1).normal(90, 20, truth.shape).clip(0, 255).astype(np.uint8)
    np.testing.assert_allclose(gradient_correlation(truth, truth), 1)
    np.testing.assert_allclose(gradient_correlation(2 * truth, truth), 1)
    np.testing.assert_allclose(gradient_correlation(255 - truth, truth), -1)
    assert gradient_energy(noise).mean() > 0.7 * gradient_energy(truth).mean()
    assert np.abs(gradient_correlation(noise, truth)).max() < 0.05
    flat = np.full_like(truth, 90)
    np.testing.assert_array_equal(gradient_correlation(flat, truth), 0)
    assert np.isnan(gradient_correlation(truth, flat)).all()
    with pytest.raises(SignerError, match="differ"):
        gradient_correlation(truth[:1], truth)


def handed(name, shapes, place, seed):
    """Frames of noise in which the right hand is at `place` [t, 2], its fingers spread by `shapes` [t]."""
    rng = np.random.default_rng(seed)
    coordinates = np.zeros((len(shapes), len(skeleton.JOINTS), 3), np.float32)
    confidence = np.zeros(coordinates.shape[:2], np.float32)
    hand = skeleton.positions(skeleton.RIGHT_HAND, skeleton.JOINTS)
    spread = np.linspace(-1, 1, len(hand))[None, :, None] * np.asarray(shapes)[:, None, None]
    coordinates[:, hand, :2] = np.asarray(place)[:, None] + spread * [0.1, 0.05]
    confidence[:, hand] = 1
    video = rng.integers(0, 255, (len(shapes), 64, 64, 3)).astype(np.uint8)
    return Sample(name, "", "ase", (), "anna", pose=Pose(coordinates, confidence, 25.0), video=video)


def test_the_composite_lays_the_most_similar_hand_where_the_pose_has_it():
    training = [handed("a", [0.5, 1.0, 1.5], [[0, 0.2]] * 3, 1), handed("b", [2.0], [[0, 0.2]], 2)]
    clip = handed("c", [1.02, 1.9], [[0.3, -0.2], [-0.3, 0.4]], 3)
    body = np.zeros_like(clip.video)
    made = composite_baseline(clip, training, body)
    crop = hand_crop(64, 64)

    def square(sample, video, frame):
        centres, visible = hand_centres(sample.pose, skeleton.JOINTS, (64, 64))
        return hand_crops(video[frame : frame + 1], centres[frame : frame + 1], visible[frame : frame + 1], crop)

    np.testing.assert_array_equal(square(clip, made, 0), square(training[0], training[0].video, 1))
    np.testing.assert_array_equal(square(clip, made, 1), square(training[1], training[1].video, 0))
    assert (made > 0).any(axis=-1).sum() <= 2 * crop**2 and not body.any()
    with pytest.raises(SignerError, match="lack a pose or a video"):
        composite_baseline(clip, [], body)


def test_psnr_equals_scikit_image():
    a, b = noisy_pair()
    errors = squared_error(a, b)
    for x, y, error in zip(a, b, errors, strict=True):
        assert psnr(error) == pytest.approx(peak_signal_noise_ratio(x, y, data_range=255))
    assert psnr(errors.mean()) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255))
    assert psnr(squared_error(a, a).mean()) == np.inf and len(squared_error(a[:0], b[:0])) == 0
    with pytest.raises(SignerError, match="differ"):
        squared_error(a, b[:2])
