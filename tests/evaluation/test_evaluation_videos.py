"""The videos' figures: baselines by signer, motion by hand, signers that training never saw, what is read."""

from collections import Counter, defaultdict
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from signer_jax import model as models
from signer_jax.data import records
from signer_jax.evaluation import Evaluation, evaluate_videos, videos
from signer_jax.evaluation.videos import (
    bank_of,
    baselines,
    borrowed,
    certainty,
    clip_scores,
    filmed_by,
    motion_figures,
    score_motion,
)
from signer_jax.renderer.references import ReferenceBank
from signer_jax.stations import studio as programs
from signer_jax.stations.render import Style
from signer_jax.types import Pose, Sample

RENDERER = SimpleNamespace(variant=SimpleNamespace(continues=0), temporal_ratio=1)
SIGNER = SimpleNamespace(
    settings=SimpleNamespace(pose=SimpleNamespace(joints="full_128")),
    studio=SimpleNamespace(window=4, overlap=0, renderer=RENDERER),
)


def clip(name: str, signer: str, level: int) -> Sample:
    pose = Pose(np.ones((3, 128, 3), np.float32), np.ones((3, 128), np.float32), 16.0)
    return Sample(name, "", "ase", (), signer, pose=pose, video=np.full((3, 16, 16, 3), level, np.uint8))


def test_published_weights_have_no_fresh_renderer_beside_them():
    settings = SimpleNamespace(renderer=SimpleNamespace(init="weights/t2v"))
    assert videos._untrained(SimpleNamespace(settings=settings)) is None


def test_the_baselines_are_made_of_the_signers_own_training_frames(tmp_path):
    train = [clip("1", "a", 90), clip("2", "b", 30), clip("3", "b", 50)]
    corpus = records.write(tmp_path / "data", {"train": lambda: train}, {"languages": {}})
    theirs = filmed_by(corpus, "b")
    assert [theirs[k].name for k in theirs] == ["2", "3"] and list(theirs) == [1, 2]
    found = baselines(clip("4", "b", 5), [theirs[1]])
    for name in ("_mean_frame", "_nearest_pose"):
        np.testing.assert_array_equal(found[name], np.full((3, 16, 16, 3), 30))
    np.testing.assert_array_equal(baselines(clip("4", "b", 5), list(theirs.values()))["_mean_frame"][0], 40)


def test_no_more_training_videos_are_held_than_the_memory_is_for(tmp_path, monkeypatch, capsys):
    train = [clip(str(i), "ab"[i % 2], i) for i in range(20)]  # of 2,304 bytes each
    corpus = records.write(tmp_path / "data", {"train": lambda: train}, {"languages": {}, "size": [16, 16]})
    capsys.readouterr()  # the bar
    assert list(filmed_by(corpus, "a")) == list(range(0, 20, 2)) and not capsys.readouterr().err
    read = Counter()
    get = records.Records.__getitem__
    monkeypatch.setattr(records.Records, "__getitem__", lambda self, i: read.update([i]) or get(self, i))
    monkeypatch.setattr(videos, "_HELD", 4 * 2304)
    theirs = filmed_by(corpus, "a")
    assert list(theirs) == [0, 6, 12, 18] == list(read)  # the others are not read at all
    assert "of a's 10 training clips 4, spread evenly, are what the videos are compared with" in capsys.readouterr().err
    assert videos.held([9, 9, 9], 1) == [0, 2] and videos.held([9], 1) == [0] and videos.held([], 1) == []
    monkeypatch.setattr(videos, "_HELD", 0)
    assert list(filmed_by(corpus, "a")) == [0, 18]


def motion(frames: int = 10) -> tuple[np.ndarray, Pose]:
    """A still picture with edges, and a pose whose hands are in the middle of it."""
    picture = np.random.default_rng(0).integers(60, 120, (48, 48, 3)).astype(np.uint8)
    return np.repeat(picture[None], frames, axis=0), Pose(
        np.zeros((frames, 128, 3), np.float32), np.ones((frames, 128), np.float32), 16.0
    )


def test_motion_by_hand():
    truth, pose = motion()
    noise = np.random.default_rng(1).normal(90, 20, truth.shape).clip(0, 255).astype(np.uint8)
    stepped = truth.copy()
    stepped[4:8] += 10  # a step at each seam of windows of four frames
    rows = defaultdict(list)
    candidates = {"": stepped, "_noise": noise, "_reference": truth, "_mean_frame": np.full_like(truth, 90)}
    truth_moves = truth.copy()
    truth_moves[::2, :, :2] += 1  # so that its change is not 0
    score_motion(candidates, {}, truth_moves, pose, np.arange(10.0), SIGNER, rows)
    found = motion_figures(rows)
    assert found["video/sharpness"] == pytest.approx(1, rel=1e-3) == found["video/sharpness_reference"]
    assert found["video/sharpness_mean_frame"] == 0 and found["video/sharpness_noise"] > 0.7
    assert found["video/sharpness_far"] == pytest.approx(1, rel=1e-3)
    assert found["video/flicker_reference"] == found["video/flicker_mean_frame"] == 0
    # Two of the nine steps are of ten levels.
    assert found["video/flicker"] == pytest.approx(20 / 9)
    assert found["video/flicker_noise"] > 15 and 0 < found["video/flicker_truth"] < 0.1
    assert found["video/change_inside"] == 0 and found["video/change_seam"] > 50
    assert not any("change" in name and "noise" in name for name in found)


def test_seams_lie_where_the_studio_has_its_windows():
    """Which may be others than those of the run's settings."""
    truth, pose = motion()
    truth[::2, :, :2] += 1
    stepped = truth.copy()
    stepped[5:] += 10  # a step at the one seam of windows of five frames
    settings = SimpleNamespace(**vars(SIGNER.settings), renderer=SimpleNamespace(window=4, overlap=0, variant="own"))
    model = SimpleNamespace(vae=SimpleNamespace(temporal_ratio=1))
    studio = SimpleNamespace(window=5, overlap=0, renderer=RENDERER)
    rows = defaultdict(list)
    signer = SimpleNamespace(settings=settings, model=model, studio=studio)
    score_motion({"": stepped}, {}, truth, pose, np.arange(10.0), signer, rows)
    found = motion_figures(rows)
    assert found["video/change_inside"] == pytest.approx(1) and found["video/change_seam"] > 5


def test_a_cut_of_one_frame_at_one_seam_is_seen():
    truth, pose = motion(61)
    truth = truth + 2 * (np.arange(61) % 2).astype(np.uint8)[:, None, None, None]  # two levels from frame to frame
    cut = truth.copy()
    cut[35:] += 8  # among the changes to frames 32 to 36, which lie across two windows
    signer = SimpleNamespace(settings=SIGNER.settings, studio=SimpleNamespace(window=12, overlap=4, renderer=RENDERER))

    def found(video: np.ndarray) -> dict[str, float]:
        rows = defaultdict(list)
        score_motion({"": video}, {}, truth, pose, np.arange(61.0), signer, rows)
        return motion_figures(rows)

    assert found(truth)["video/change_seam_most"] == pytest.approx(1)
    assert found(cut)["video/change_seam"] < 1.2 and found(cut)["video/change_seam_most"] > 4
    assert "video/change_seam_most" not in found(np.full_like(truth, 90))  # nothing is divided by what never moves


def test_only_the_farthest_frames_are_far():
    truth, pose = motion(20)
    flat = truth.copy()
    flat[-2:] = 90
    rows = defaultdict(list)
    candidates = {"": flat, "_reference": truth}
    scored = clip_scores(candidates, truth, pose, SIGNER)
    score_motion(candidates, scored, truth, pose, np.arange(20.0), SIGNER, rows)
    found = motion_figures(rows)
    assert found["video/hand_ssim_far"] < 0.5 < found["video/hand_ssim_far_reference"] == 1
    assert found["video/detail_far_reference"] == found["video/sharpness_far_reference"] == pytest.approx(1, rel=1e-3)
    assert found.get("video/detail_far", 0) < 0.1
    assert found["video/sharpness"] == pytest.approx(0.9, abs=0.02) and found["video/sharpness_far"] == 0
    # A truth that never changes has nothing to be compared with, and nothing is divided by it.
    assert "video/change_seam" not in found and "video/change_inside" not in found
    assert motion_figures(defaultdict(list)) == {}


def test_detail_tells_edges_in_their_places_from_noise_as_sharp():
    truth, pose = motion()
    noise = np.random.default_rng(1).normal(90, 20, truth.shape).clip(0, 255).astype(np.uint8)
    found = clip_scores({"": truth, "_noise": noise, "_mean_frame": np.full_like(truth, 90)}, truth, pose, SIGNER)
    assert len(found) == 9
    assert np.mean(found["detail"]) == pytest.approx(1) == np.mean(found["ssim"]) == np.mean(found["hand_ssim"])
    assert abs(np.mean(found["detail_noise"])) < 0.05 and np.mean(found["detail_mean_frame"]) == 0


def test_a_figure_is_as_sure_as_its_clips():
    """By hand, of three clips; the best baseline is the best in the mean, and each clip is its own pair."""
    rows = {"video/ssim": [[0.9, 0.9], [0.8, 0.8], [0.7, 0.7]], "video/ssim_mean_frame": [[0.5] * 2] * 3}
    rows |= {"video/ssim_composite": [[0.8] * 2, [0.7] * 2, [0.6] * 2], "video/ssim_reconstruction": [[1.0] * 2] * 3}
    found, best = certainty("video/ssim", rows)
    assert best == "composite"  # the ceiling is no baseline
    assert found["video/ssim_error"] == pytest.approx(np.std([0.9, 0.8, 0.7], ddof=1) / np.sqrt(3))
    assert found["video/ssim_over_best"] == pytest.approx(0.1)
    assert found["video/ssim_over_best_error"] == pytest.approx(0, abs=1e-9)
    # One that some clips lack is not compared pair by pair.
    assert certainty("video/ssim", {**rows, "video/ssim_composite": [[0.8] * 2]})[1] == "mean_frame"
    # One that could not be scored is none.
    assert certainty("video/ssim", {"video/ssim": [[0.9]], "video/ssim_reference": [[np.nan]]}) == ({}, "")
    assert certainty("video/ssim", {"video/ssim": [[0.9]]}) == ({}, "") == certainty("video/detail", rows)


def test_sharpness_and_flicker_are_as_sure_as_their_clips():
    truth, pose = motion()
    blurred = ((truth.astype(int) + 90) // 2).astype(np.uint8)
    rows = defaultdict(list)
    for video in (truth, blurred):
        score_motion({"": video, "_mean_frame": truth}, {}, truth, pose, np.arange(10.0), SIGNER, rows)
    found = motion_figures(rows)
    assert found["video/sharpness"] == pytest.approx(0.625, abs=0.02)  # energy goes with the square
    assert found["video/sharpness_error"] == pytest.approx(0.375, abs=0.02)
    assert found["video/flicker_error"] == 0 and "video/sharpness_mean_frame_error" not in found


def test_a_clip_without_a_still_place_is_told_and_not_in_the_mean():
    rows = defaultdict(list, flicker=[[2.0], [np.nan], [4.0]], flicker_truth=[[np.nan]])
    found = motion_figures(rows)
    assert found["video/flicker"] == 3 and found["video/flicker_unscored"] == 1
    assert "video/flicker_truth" not in found and found["video/flicker_truth_unscored"] == 1


def test_a_style_is_borrowed_from_another_clip_of_the_same_signer(tmp_path, monkeypatch):
    dev = [clip("1", "guest", 10), clip("2", "other", 20), clip("3", "guest", 30), clip("4", "alone", 40)]
    corpus = records.write(tmp_path / "data", {"dev": lambda: dev}, {"languages": {}})

    def style(studio, picture=None):
        return Style(np.ones((2, 2, 4)) if picture is None else picture)

    monkeypatch.setattr(videos, "style", style)
    assert (borrowed(None, corpus, "dev", 0).reference == 30).all()
    assert (borrowed(None, corpus, "dev", 2).reference == 10).all()
    assert not borrowed(None, corpus, "dev", 3).reference.any()


def test_a_bank_without_a_clip():
    bank = ReferenceBank(np.arange(6.0).reshape(6, 1, 1, 1), np.zeros((6, 2, 2)), np.ones((6, 2)), np.arange(6) // 2)
    left = bank_of(bank, {0: None, 2: None})
    np.testing.assert_array_equal(left.motion, [0, 0, 2, 2])
    np.testing.assert_array_equal(left.latents.ravel(), [0, 1, 4, 5])
    assert bank_of(bank, {7: None}) is None and bank_of(bank, {0: None, 1: None, 2: None}) is bank


@pytest.fixture
def signer(tiny_run):
    from signer_jax import Signer

    return Signer.load(tiny_run)


def evaluated(signer, split: str, limit: int) -> Evaluation:
    result = Evaluation(joints=signer.settings.pose.joints)
    evaluate_videos(signer, split, limit, result)
    return result


@pytest.mark.parametrize("overlap", [0, 4])
def test_the_untrained_renderer_is_the_one_with_fresh_parameters(signer, overlap, monkeypatch):
    """Nothing is initialised or run for it: it is known what fresh parameters make, in windows of any kind."""
    studio = replace(signer.studio, overlap=overlap)
    ours = replace(videos._untrained(signer), overlap=overlap)
    fresh = replace(studio, params={**studio.params, "renderer": models.init_renderer(signer.model, jax.random.key(7))})
    pose = signer.corpus.motions("dev")[0].pose
    look = videos.style(studio)
    H, mask = videos.semantics("my mother is tired", "ase", signer.linker)
    made = [videos.render(pose, look, H, mask, one).video.astype(int) for one in (ours, fresh)]
    assert len(made[0]) == len(pose) and np.abs(made[0] - made[1]).max() <= 1  # rounding
    monkeypatch.setattr(programs, "_LONG", 1)  # a window so large that each of its steps is told
    told = videos.render(pose, look, H, mask, ours).video.astype(int)
    assert np.abs(told - made[0]).max() <= 1


def test_each_clip_is_scored_once_and_rendered_once(signer, monkeypatch):
    """Its figures go to the signer's rows and to all clips': they are not computed for each of these."""
    calls = Counter()
    for name in ("render", "clip_scores", "reconstruct"):
        of = getattr(videos, name)
        monkeypatch.setattr(videos, name, lambda *args, name=name, of=of: calls.update([name]) or of(*args))
    monkeypatch.setattr(models, "init_renderer", None)  # nothing is initialised
    found = evaluated(signer, "dev", 1)
    clips = int(found.metrics["video/clips"] + found.metrics.get("video_unseen/clips", 0))
    assert calls == {"render": 2 * clips, "clip_scores": clips, "reconstruct": clips}  # trained and untrained


def test_a_training_clip_is_no_baseline_of_its_own(signer, monkeypatch):
    used = []
    whole = videos.bank_of

    def bank_of(bank, clips):
        used.append(whole(bank, clips))
        return used[-1]

    monkeypatch.setattr(videos, "bank_of", bank_of)
    reads = Counter()
    monkeypatch.setattr(videos, "filmed_by", lambda corpus, name: reads.update([name]) or filmed_by(corpus, name))
    found = evaluated(signer, "train", 8).metrics
    assert found["video/ssim_nearest_pose"] < 0.999 and found["video/detail_nearest_pose"] < 0.999
    sizes = Counter(int(m) for bank in signer.latents.banks.values() for m in bank.motion)
    assert used and all(sum(sizes.values()) > len(bank) and len(set(bank.motion)) >= 1 for bank in used if bank)
    assert any(len(bank) < len(next(b for b in signer.latents.banks.values() if bank.motion[0] in b.motion))
               for bank in used if bank)  # fmt: skip
    # Each signer's training videos are read once, however many clips are scored.
    assert reads and set(reads.values()) == {1} and sum(reads.values()) < 8


def test_a_clip_that_is_not_scored_is_not_read(signer, monkeypatch):
    read = Counter()
    get = records.Records.__getitem__

    def counted(self, index):
        read[self._path.name] += 1
        return get(self, index)

    monkeypatch.setattr(records.Records, "__getitem__", counted)
    listed = signer.corpus.listed("dev")
    guests = [i for i, (_, filmed, who) in enumerate(listed) if filmed and who not in signer.latents.banks]
    assert len(listed) > 1 + len(guests)
    evaluated(signer, "dev", 1)
    # One clip of a known signer; of the guests one too, and another one's first frame as its reference.
    assert read["dev.motion.arrayrecord"] == 1 + min(len(guests), 2)


def test_guests_take_no_places_of_other_clips(signer, monkeypatch):
    """Of six clips, two of them a guest's, four are asked for: four are scored, and both of the guest's beside them."""
    known = next(iter(signer.latents.banks))
    scored = []
    monkeypatch.setattr(videos, "video_indices", lambda corpus, split: list(range(4 if split == "train" else 6)))
    rows = [(9, True, known)] * 4 + [(9, True, "guest")] * 2
    monkeypatch.setattr(signer.corpus, "listed", lambda split: rows[:4] if split == "train" else rows)
    clips = [clip(str(i), known if i < 4 else "guest", i) for i in range(6)]
    monkeypatch.setattr(
        signer.corpus, "motions", lambda split: SimpleNamespace(filmed=lambda i: (clips[i], clips[i].video))
    )
    monkeypatch.setattr(videos, "semantics", lambda *args: (None, None))
    monkeypatch.setattr(videos, "filmed_by", lambda corpus, name: {})
    monkeypatch.setattr(videos, "borrowed", lambda *args: Style(np.zeros(1)))
    monkeypatch.setattr(videos, "picture", lambda look, studio: np.zeros((16, 16, 3), np.uint8))
    monkeypatch.setattr(videos, "reconstruct", lambda truth, studio: truth)
    monkeypatch.setattr(videos, "_untrained", lambda signer: None)
    monkeypatch.setattr(
        videos, "render",
        lambda whole, *rest: scored.append(1) or SimpleNamespace(video=np.zeros((3, 16, 16, 3), np.uint8)),
    )  # fmt: skip
    found = evaluated(signer, "dev", 4).metrics
    assert found["video/clips"] == 4 and found["video_unseen/clips"] == 2 and len(scored) == 6
    assert found["video_unseen/guest/clips"] == 2
    assert evaluated(signer, "dev", 1).metrics["video_unseen/clips"] == 1


def test_a_signer_without_a_training_video_has_rows_of_his_own(signer, monkeypatch):
    """A signer's training videos are taken away: these clips are scored without baselines, no figure of the others."""
    dev = signer.corpus.listed("dev")
    name = next(who for _, filmed, who in dev if filmed)
    banks = {key: bank for key, bank in signer.latents.banks.items() if key != name}
    rows = [[frames, video and who != name, who] for frames, video, who in signer.corpus.listed("train")]
    monkeypatch.setitem(signer.corpus.about["motions"], "train", rows)
    signer.__dict__["studio"] = replace(signer.studio, latents=replace(signer.latents, banks=banks))
    found = evaluated(signer, "dev", 8)
    assert {"video_unseen/ssim", "video_unseen/hand_ssim", f"video_unseen/{name}/ssim_reference"} <= set(found.metrics)
    assert not any(key.startswith("video_unseen") and "nearest_pose" in key for key in found.metrics)
    assert f"video/{name}/ssim" not in found.metrics
    assert any(list(shown) == ["ground truth", "rendered", "reference"] for shown in found.clips)
