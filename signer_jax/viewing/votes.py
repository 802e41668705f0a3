"""What raters exported of a study, read and checked; and what it says (`signer study --votes`)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from signer_jax import outside, storage
from signer_jax.errors import SignerError, piled
from signer_jax.json_files import LISTS, MANIFEST, read_json
from signer_jax.metrics import preference
from signer_jax.viewing.study import KEY, KIND, MOST_SYSTEMS, Key, Trial, Video

PRIOR = 1.0  # votes of each system against one of mean strength, half of them won: what won all stays finite
RESAMPLES = 2_000
_BROKEN = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_CHOICES = ("left", "right", "same")
_DAY = 86_400  # seconds; a page may lie open for longer, which says nothing
_LONGEST = 200  # characters of a rater's name


@dataclass(frozen=True)
class Vote:
    rater: str
    trial: Trial
    left: str  # the number of the video that the rater saw there
    choice: str
    seconds: float | None = None  # from the pair's showing to the vote; None where the file does not say
    clip: float | None = None  # seconds of the longer video

    def winner(self) -> str | None:
        """The number of the video that is preferred, None for no difference."""
        if self.choice == "same":
            return None
        other = self.trial.right if self.left == self.trial.left else self.trial.left
        return self.left if self.choice == "left" else other


def read_key(directory: Path) -> Key:
    storage.check_folder(directory, KIND, "give the --out of the `signer study` that made it", needs=[KEY])
    try:
        found = read_json(directory / KEY, LISTS)
        videos = {str(number): Video(**video) for number, video in found["videos"].items()}
        trials = [Trial(**trial) for trial in found["trials"]]
        systems = list(found["systems"])
        names = [*systems, found["study"], found["question"]]
        names += [part for video in videos.values() for part in (video.system, video.clip)]
        if not all(isinstance(name, str) for name in names) or not isinstance(found["seed"], int) or found["seed"] < 0:
            raise ValueError("something else than text where text belongs, or a seed that is none")
        for trial in trials:
            left, right = videos[trial.left], videos[trial.right]
            if left.clip != right.clip or left.system == right.system or not isinstance(trial.name, str):
                raise ValueError("a pair that is none")
        if not {video.system for video in videos.values()} <= set(systems) or len(set(systems)) < len(systems):
            raise ValueError("its systems are not those of its videos")
        if not 2 <= len(systems) <= MOST_SYSTEMS:
            raise ValueError(f"{len(systems)} systems")
        if len({trial.name for trial in trials}) < len(trials):
            raise ValueError("two pairs of one name")
    except _BROKEN as error:
        reason = outside.reason_of(error)
        raise SignerError(f"{directory / KEY}: is damaged ({reason}); without it no votes can be read") from None
    return Key(found["study"], found["question"], found["seed"], systems, videos, trials)


def read_votes(key: Key, files: Sequence[str | Path]) -> list[Vote]:
    """The votes of all files. Raises `SignerError` for those of another study, and what nobody can have voted."""
    trials = {trial.name: trial for trial in key.trials}
    votes: list[Vote] = []
    where: dict[tuple[str, str], Path] = {}  # rater, trial
    for file in files:
        path = outside.plain_file(file, "give what a rater saved")
        rater, rows = _rows(path, key)
        for row in rows:
            vote = _vote(path, rater, row, trials)
            first = where.setdefault((rater, vote.trial.name), path)
            votes.append(vote)
            if len(where) < len(votes):
                again = "twice; remove one" if first is path else f"as in {first}; give one file of each rater"
                raise SignerError(f"{path}: {rater!r} votes on {vote.trial.name} {again}")
    if not votes:
        raise SignerError(f"{files[0]}: there is no vote in it; let the raters vote first")
    return votes


def _rows(path: Path, key: Key) -> tuple[str, list[Any]]:
    with outside.reading(path, "let it be saved again"):
        try:
            found = read_json(path, MANIFEST)
            study, rater, rows = found["study"], found["rater"], found["votes"]
            if not all(isinstance(one, str) for one in (study, rater)) or not isinstance(rows, list):
                raise ValueError("no study, rater and votes")
        except _BROKEN as error:
            reason = outside.reason_of(error)
            raise SignerError(f"{path}: is no file of votes ({reason}); give what a rater saved") from None
    if study != key.study:
        raise SignerError(f"{path}: has votes of the study {study[:40]}, not of {key.study}; give --study its folder")
    if not rater.strip() or len(rater) > _LONGEST or piled(rater):
        raise SignerError(f"{path}: names no rater in at most {_LONGEST} characters; write one into it")
    return rater.strip(), rows


def _vote(path: Path, rater: str, row: Any, trials: dict[str, Trial]) -> Vote:
    if not isinstance(row, dict) or not all(isinstance(row.get(part), str) for part in ("trial", "left", "right")):
        raise SignerError(f"{path}: holds a vote without its trial, left and right; let it be saved again")
    trial = trials.get(row["trial"])
    if trial is None or {row["left"], row["right"]} != {trial.left, trial.right}:
        shown = f"{row['trial']} of {row['left']} and {row['right']}"[:80]
        raise SignerError(f"{path}: the study has no pair {shown}; give what a rater saved, as it is")
    if row.get("choice") not in _CHOICES:
        raise SignerError(f"{path}: the choice of {trial.name} is none of {', '.join(_CHOICES)}; let it be saved again")
    return Vote(rater, trial, row["left"], row["choice"], _seconds(row.get("seconds")), _seconds(row.get("clip")))


def _seconds(value: Any) -> float | None:
    known = type(value) in (int, float) and 0 <= value <= _DAY
    return float(value) if known else None


# ---- What they say ---------------------------------------------------------------------------------------------------


def columns(key: Key, votes: Sequence[Vote]) -> preference.Votes:
    systems = {name: at for at, name in enumerate(key.systems)}
    raters, clips = _numbered(vote.rater for vote in votes), _numbered(v.clip for v in key.videos.values())
    rows = []
    for vote in votes:
        one, other = key.videos[vote.trial.left], key.videos[vote.trial.right]
        won = vote.winner()
        share = 0.5 if won is None else float(won == vote.trial.left)
        rows.append((systems[one.system], systems[other.system], share, raters[vote.rater], clips[one.clip]))
    one_of, other_of, share_of, rater_of, clip_of = (np.array(column) for column in zip(*rows, strict=True))
    voted = {clip: at for at, clip in enumerate(np.unique(clip_of))}  # those alone are drawn anew
    return preference.Votes(one_of, other_of, share_of, rater_of, np.array([voted[clip] for clip in clip_of]))


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: at for at, name in enumerate(dict.fromkeys(names))}


def result(key: Key, votes: Sequence[Vote]) -> dict[str, Any]:
    """The ranking, each pair's win rate, how raters agree, and what the votes do not tell."""
    found = columns(key, votes)
    n = len(key.systems)
    rng = np.random.default_rng(key.seed)
    ranking = preference.ranking(found, n, prior=PRIOR, count=RESAMPLES, rng=rng)
    systems, pairs, said = [], [], []
    of = (ranking.won + ranking.won.T).sum(1)
    order = [i for i in ranking.order if of[i]]
    if unseen := [name for name, count in zip(key.systems, of, strict=True) if not count]:
        said.append(f"no vote yet on {', '.join(unseen)}")
    for i in order:
        systems.append({
            "system": key.systems[i], "strength": float(ranking.strengths[i]), "low": float(ranking.low[i]),
            "high": float(ranking.high[i]), "votes": int(of[i]), "win_rate": float(ranking.won[i].sum() / of[i]),
        })  # fmt: skip
    for at, i in enumerate(order):
        for j in order[at + 1 :]:
            shares, clips = preference.between(found, i, j)
            pairs.append({
                "first": key.systems[i], "second": key.systems[j], "votes": len(shares), "clips": clips,
                "first_preferred": int((shares == 1).sum()), "no_difference": int((shares == 0.5).sum()),
                "second_preferred": int((shares == 0).sum()),
                "win_rate": float(ranking.rates[i, j]), "low": float(ranking.rates_low[i, j]),
                "high": float(ranking.rates_high[i, j]), "told_apart": bool(ranking.apart[i, j]),
            })  # fmt: skip
            if not ranking.apart[i, j]:
                why = f"compared on {clips} clips, {preference.FEWEST_CLIPS} at least are needed"
                if clips >= preference.FEWEST_CLIPS:
                    why = "the interval of their difference holds 0"
                said.append(f"too few votes to tell {key.systems[i]} from {key.systems[j]}: {why}")
    raters = {vote.rater for vote in votes}
    if len(raters) == 1:
        said.append("one rater alone: the intervals say nothing of what others prefer")
    trials = {vote.trial.name for vote in votes}
    if len(trials) < len(key.trials):
        said.append(f"{len(key.trials) - len(trials)} of {len(key.trials)} pairs have no vote yet")
    answers: dict[object, list[object]] = {}
    for vote in votes:
        won_by = vote.winner()
        answers.setdefault(vote.trial.name, []).append(won_by and key.videos[won_by].system)
    observed, chance, alpha = preference.agreement(answers)
    seconds = [vote.seconds for vote in votes if vote.seconds is not None]
    timed = [vote.seconds < vote.clip for vote in votes if vote.seconds is not None and vote.clip is not None]
    decided = [vote.choice == "left" for vote in votes if vote.choice != "same"]
    return {
        "study": key.study, "question": key.question, "systems": systems, "pairs": pairs, "votes": len(votes),
        "raters": len(raters), "trials": len(key.trials), "trials_voted": len(trials), "agreement": observed,
        "agreement_by_chance": chance, "krippendorff_alpha": alpha,
        "no_difference": sum(vote.choice == "same" for vote in votes) / len(votes),
        "left": sum(decided) / len(decided) if decided else float("nan"), "said": said,
        "median_seconds": float(np.median(seconds)) if seconds else float("nan"), "votes_timed": len(timed),
        "shorter_than_the_clip": sum(timed),
    }  # fmt: skip
