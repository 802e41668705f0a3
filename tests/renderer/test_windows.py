"""Windows over long videos: their plan by hand, the blend, noise by absolute frame, segments from pixels."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.errors import SignerError
from signer_jax.renderer import solvers, windows
from signer_jax.renderer.sampler import by_expert, solve
from signer_jax.renderer.schedule import NoiseSchedule

SIGMAS = NoiseSchedule(3.0, 4, 0.0).levels()


def test_a_plan_by_hand():
    plan = windows.plan([8], 4, 2)
    np.testing.assert_array_equal(plan.starts, [0, 2, 4])
    # Two shared frames: a quarter and three quarters going up, and the rest going down.
    np.testing.assert_allclose(plan.weights, [[1, 1, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 1, 1]])
    apart = windows.plan([8], 4, 0)
    np.testing.assert_array_equal(apart.starts, [0, 4])
    np.testing.assert_array_equal(apart.weights, np.ones((2, 4)))


@pytest.mark.parametrize("overlap", [0, 1, 3])
def test_every_frame_of_every_clip_is_shown_with_weights_of_one(overlap):
    frames = [7, 20, 9, 13, 8]
    plan = windows.plan(frames, 7, overlap)
    shown, ends = np.zeros(plan.total), np.cumsum(frames)
    for start, clip, weight in zip(plan.starts, plan.clips, plan.weights, strict=True):
        assert ends[clip] - frames[clip] <= start and start + 7 <= ends[clip]
        shown[start : start + 7] += weight
        assert (weight > 0).all()
    np.testing.assert_allclose(shown, 1.0, atol=1e-6)
    neighbours = np.diff(plan.starts)[np.diff(plan.clips) == 0]
    assert (neighbours <= 7 - overlap).all()


def test_what_cannot_be_planned_is_one_clear_line():
    with pytest.raises(SignerError, match="share at most 3"):
        windows.plan([9], 7, 4)
    with pytest.raises(SignerError, match="a clip of 5 latent frames is shorter than a window of 7"):
        windows.plan([9, 5], 7, 2)


def _noise(total):
    return windows.noise_of(jax.random.key(0), 0, total, (2, 2, 3))


def _solved(velocity, noise, plan, conditions, *, solver, rows, sigmas=SIGMAS, shown=False, programs=None):
    """As the station calls it: all steps in one program, for clips of any length that take as many calls or half."""
    method, (laid, calls) = solvers.solver(solver, sigmas), windows.laid(plan, rows)
    own = jax.tree.map(lambda leaf: np.asarray(leaf)[laid.at], conditions)

    def run(own, laid, calls, _, blend, first, last):
        if programs is not None:
            programs.append(blend.said.shape)  # when it is traced
        seen = lambda x, sigma, k: velocity(x, sigma, jax.tree.map(lambda leaf: jnp.asarray(leaf)[k], own))  # noqa: E731
        return windows.blended(seen, method, blend, laid, calls, first, last)

    run = partial(jax.jit(run, static_argnums=3), own, laid, calls)
    parts = by_expert(None, sigmas)
    return windows.solve(run, windows.start(method, noise, laid), parts, calls, shown=shown)[: len(noise)]


def _step_by_step(velocity, noise, plan, conditions, *, solver):
    """The same from the definition: a call a window, summed in float64."""
    method = solvers.solver(solver, SIGMAS)
    state, length = method.start(noise), plan.length
    for row in method.table:
        said = np.zeros(noise.shape)
        for k, (first, weights) in enumerate(zip(plan.starts, plan.weights, strict=True)):
            part = jax.tree.map(lambda leaf, k=k: leaf[k : k + 1], conditions)
            v = np.asarray(velocity(state.x[None, first : first + length], row[0], part)[0], np.float64)
            said[first : first + length] += weights[:, None, None, None] * v
        state = method.advance(state, jnp.asarray(said, jnp.float32), jnp.asarray(row))
    return state.x


@pytest.mark.parametrize("solver", solvers.NAMES)
def test_windows_of_a_model_that_looks_at_single_frames_are_the_whole(solver):
    """Such a model says the same of a frame in every window, so that the blend must be the whole video's solution."""
    field = lambda x, sigma: jnp.tanh(2 * x) * sigma - 0.2 * x  # noqa: E731
    noise, plan = _noise(18), windows.plan([11, 7], 5, 2)

    def velocity(x, sigma, conditions):
        np.testing.assert_array_equal(x.shape[:2], (3, 5))
        return field(x, sigma)

    out = _solved(velocity, noise, plan, {}, solver=solver, rows=3)
    np.testing.assert_allclose(out, solve(field, noise[None], SIGMAS, solver=solver)[0], atol=1e-5)


@pytest.mark.parametrize("solver", solvers.NAMES)
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_one_program_is_the_steps_one_after_the_other(solver, rows):
    """Whether a call makes one window or several, and whether somebody watches it or not."""
    mix = lambda x, sigma, c: jnp.tanh(x - c["at"][:, None, None, None, None] * x.mean(1, keepdims=True)) * sigma  # noqa: E731
    noise, plan = _noise(18), windows.plan([11, 7], 5, 2)
    own, programs = {"at": np.linspace(0.5, 1.5, len(plan.starts)).astype(np.float32)}, []
    made = [
        _solved(mix, noise, plan, own, solver=solver, rows=rows, shown=shown, programs=programs)
        for shown in (False, True)
    ]
    np.testing.assert_array_equal(*made)
    assert len(programs) == 2  # one each, however often it is called
    expected = _step_by_step(mix, noise, plan, own, solver=solver)
    np.testing.assert_allclose(made[0], expected, atol=1e-6 * np.abs(expected).max())


def test_clips_of_many_lengths_share_few_programs():
    shapes = {windows.laid(windows.plan([n], 5, 2), 2)[0].weights.shape for n in range(5, 60)}
    assert shapes == {(calls, 2, 5) for calls in (1, 2, 4, 8, 16)}
    laid, calls = windows.laid(windows.plan([8, 5], 5, 2), 2)  # two windows and one
    assert calls == 2 and laid.frames == 20
    np.testing.assert_array_equal(laid.at, [[0, 1], [2, 2]])
    np.testing.assert_array_equal(laid.starts, [[0, 3], [8, 8]])
    assert laid.weights[1, 0].all() and not laid.weights[1, 1].any()


def test_each_window_has_its_own_conditions_and_the_change_across_a_seam_is_that_inside_windows():
    """A scene that moves smoothly, which every other window sees brighter: apart it jumps at the seams, blended it does
    not where the windows nearly agree; where they do not, the fade from one to the other is to be seen.
    """

    def scene(x, sigma, c):  # leads to a wave that runs on over the pixels, frame by frame
        frame = c["start"][:, None] + np.arange(x.shape[1])
        pixel = np.linspace(0, 2 * np.pi, x.shape[3], endpoint=False)
        seen = jnp.sin(0.5 * frame[..., None] + pixel) + c["brighter"][:, None, None]
        return (x - seen[:, :, None, :, None]) / sigma

    noise, ratio = jax.random.normal(jax.random.key(0), (48, 1, 16, 1)), {}
    for overlap, apart in ((0, 0.3), (3, 0.1), (3, 1.0)):
        plan = windows.plan([48], 8, overlap)
        own = {"start": plan.starts, "brighter": np.where(np.arange(len(plan.starts)) % 2, apart, -apart)}
        out = _solved(scene, noise, plan, own, solver="euler", rows=2)
        change = np.abs(np.diff(np.asarray(out)[:, 0, :, 0], axis=0)).mean(axis=1)
        seam = windows.seams(48, 8, overlap, ratio=1, goes_on=False)
        np.testing.assert_allclose(change[~seam], 0.3, atol=0.05)  # the scene's own
        ratio[overlap, apart] = change[seam].mean() / change[~seam].mean()
    assert ratio[0, 0.3] > 1.5 and 0.9 < ratio[3, 0.1] < 1.1 and ratio[3, 1.0] > 1.5


def test_noise_goes_by_the_absolute_frame():
    np.testing.assert_array_equal(_noise(20)[:9], _noise(9))
    np.testing.assert_array_equal(windows.noise_of(jax.random.key(0), 8, 12, (2, 2, 3)), _noise(20)[8:])
    assert len(np.unique(np.asarray(_noise(20)).round(6))) == 20 * 12


def test_the_same_seed_gives_the_same_video_and_windows_apart_do_not_see_what_follows():
    def video(total, overlap):
        mix = lambda x, sigma, c: jnp.tanh(x - x.mean(axis=1, keepdims=True)) * sigma  # noqa: E731
        plan = windows.plan([total], 5, overlap)
        return np.asarray(_solved(mix, _noise(total), plan, {}, solver="unipc", rows=2))

    np.testing.assert_array_equal(video(17, 2), video(17, 2))
    np.testing.assert_array_equal(video(25, 0)[:10], video(10, 0))


def test_a_bar_counts_the_calls(capsys):
    still = lambda x, sigma, c: jnp.zeros_like(x)  # noqa: E731
    _solved(still, _noise(9), windows.plan([9], 3, 1), {}, solver="euler", rows=2, shown=True)
    err = capsys.readouterr().err
    assert "windows rendered" in err and "8/8" in err
    _solved(still, _noise(9), windows.plan([9], 3, 1), {}, solver="euler", rows=2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("total", "starts"), [(77, [0]), (3, [0]), (78, [0, 72]), (149, [0, 72]), (150, [0, 72, 144])])
def test_segments_begin_with_the_last_frames_of_the_one_before(total, starts):
    seen = []

    def film(start, before):
        seen.append(start)
        segment = start + np.arange(77.0).reshape(1, 77, 1, 1, 1)
        if before is not None:
            np.testing.assert_array_equal(before, segment[:, :5])
            segment[:, :5] += 0.5  # through the autoencoder they come back a little different; what is there stays
        return segment

    video = np.concatenate(list(windows.chain(film, total, length=77, overlap=5, ratio=4, shown=False)), axis=1)
    np.testing.assert_array_equal(video.ravel(), np.arange(total))
    assert seen == starts


def test_segments_of_other_lengths_are_refused_with_the_nearest():
    def chain(length, overlap):
        return list(
            windows.chain(
                lambda *_: np.zeros((1, 77, 1, 1, 1)), 80, length=length, overlap=overlap, ratio=4, shown=False
            )
        )

    with pytest.raises(SignerError, match="length 80 fills no whole number of latents; give 77 or 81"):
        chain(80, 5)
    with pytest.raises(SignerError, match="overlap 4 fills .* give 1 or 5"):
        chain(77, 4)
    with pytest.raises(SignerError, match="overlap 0 fills .* give 1 or 5"):
        chain(77, 0)
    with pytest.raises(SignerError, match="below the length"):
        chain(5, 5)


def test_where_the_seams_are():
    """Of 12 frames in windows of 5: apart, blended over 2, and going on from 1, whose segments end at 4 and 8."""

    def across(overlap, goes_on, ratio=1):
        return list(np.flatnonzero(windows.seams(12, 5, overlap, ratio=ratio, goes_on=goes_on)) + 1)

    assert across(0, False) == across(0, False, 4) == [5, 10]
    assert across(2, False) == [*range(3, 6), *range(6, 9), *range(9, 12)]  # the last window ends with the clip
    assert across(1, True) == across(1, True, 4) == [5, 9]
    made = list(
        windows.chain(
            lambda start, before: np.full((1, 5, 1, 1, 1), start), 12, length=5, overlap=1, ratio=4, shown=False
        )
    )
    whose = np.concatenate(made, axis=1).ravel()
    assert list(np.flatnonzero(np.diff(whose)) + 1) == [5, 9]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (233, [*range(73, 82), *range(149, 158)]),
        # The last window ends where the clip does: it shares all but a latent with the one before.
        (161, [*range(73, 158)]), (160, [*range(73, 158)]), (81, []), (5, []), (1, []),
    ],
)  # fmt: skip
def test_the_seams_of_blended_windows_are_all_frames_in_which_one_fades_into_the_other(frames, expected):
    """Windows of 81 frames that share 8, four frames a latent: 21 latents, the next ones from the 19th and 38th on."""
    assert list(np.flatnonzero(windows.seams(frames, 81, 8, ratio=4, goes_on=False)) + 1) == expected
    if not expected:
        return
    # A model that paints each window in a colour of its own, and a decoder that repeats it over the latent's frames.
    plan = windows.plan([windows.latent_frames(frames, 21, 4)], 21, 2)
    paint = lambda x, sigma, c: jnp.broadcast_to(c["colour"][:, None, None, None, None], x.shape)  # noqa: E731
    latents = _solved(
        paint, jnp.zeros((plan.total, 1, 1, 1)), plan, {"colour": np.arange(len(plan.starts), dtype=np.float32)},
        solver="euler", rows=1, sigmas=np.array([1.0, 0.0]),
    )  # fmt: skip
    video = np.concatenate([np.ravel(latents)[:1], np.repeat(np.ravel(latents)[1:], 4)])[:frames]
    changes = np.flatnonzero(np.abs(np.diff(video)) > 1e-6) + 1
    assert set(changes) <= set(expected) and set(changes[[0, -1]]) == set(expected[:1] + expected[-1:])
