"""`signer study`: a blind comparison of videos for people to judge, and the ranking that their votes give."""

import argparse
import math
import secrets
from pathlib import Path
from typing import Any

from signer_jax import storage
from signer_jax.cli.common import command, distinct, output_folder, table
from signer_jax.errors import SignerError, one_line

_QUESTION = "Which of the two is better?"


def add(commands: Any) -> None:
    parser = command(
        commands, "study", "Write a page on which people compare videos blindly; turn their votes into a ranking.",
        "signer study --videos ours=runs/a/videos base=runs/b/videos --out study\n"
        "         signer study --votes votes-*.json --study study", run,
    )  # fmt: skip
    making = parser.add_argument_group("a new study")
    making.add_argument("--videos", nargs="+", metavar="[NAME=]DIR", help="a folder of videos for each system, whose "
                        "files of one name are compared")  # fmt: skip
    making.add_argument("--out", help="the study's folder: page/ for the raters, key.json for nobody but you")
    making.add_argument("--pairs", type=int, metavar="N", help="a balanced sample of so many pairs (all of them)")
    making.add_argument("--seed", type=int, help="of the order, the sides and the sample (a fresh one)")
    making.add_argument("--question", help=f"what is asked ({_QUESTION})")
    reading = parser.add_argument_group("its votes")
    reading.add_argument("--votes", nargs="+", metavar="FILE", help="what raters saved")
    reading.add_argument("--study", metavar="DIR", help="the study's folder, with its key.json")
    reading.add_argument("--json", help="write what the tables print to this file")


def run(arguments: argparse.Namespace) -> None:
    making = {name: getattr(arguments, name) for name in ("videos", "out", "pairs", "seed", "question")}
    reading = {name: getattr(arguments, name) for name in ("votes", "study", "json")}
    for needed, others in ((("videos", "out"), reading), (("votes", "study"), making)):
        own = making if others is reading else reading
        if all(own[name] for name in needed) and not any(value is not None for value in others.values()):
            make(arguments) if own is making else rank(arguments)
            return
    raise SignerError("study: give --videos and --out for a new one, or --votes and --study for its votes")


def make(arguments: argparse.Namespace) -> None:
    if arguments.pairs is not None and arguments.pairs < 1:
        raise SignerError(f"--pairs {arguments.pairs}: give 1 or more")
    if arguments.seed is not None and arguments.seed < 0:
        raise SignerError(f"--seed {arguments.seed}: give 0 or more")
    storage.check_outside(arguments.out, f"--out {arguments.out}")

    from signer_jax.viewing import study

    out = Path(arguments.out)
    storage.check_is_folder(out, f"--out {out}")
    seed = secrets.randbelow(1 << 31) if arguments.seed is None else arguments.seed
    question = _QUESTION if arguments.question is None else arguments.question
    for line in study.make(out, arguments.videos, pairs=arguments.pairs, seed=seed, question=question):
        print(one_line(line))
    print(one_line(f"{out / 'page'}: for the raters, study.html and what lies beside it"))
    print(one_line(f"{out / study.KEY}: says which video is whose; keep it from the raters, and keep it"))


def rank(arguments: argparse.Namespace) -> None:
    target = output_folder(arguments.json, "--json") if arguments.json else None
    distinct({f"--votes ({at})": path for at, path in enumerate(arguments.votes, start=1)}, {"--json": arguments.json})

    from signer_jax.viewing import votes

    key = votes.read_key(Path(arguments.study))
    found = votes.result(key, votes.read_votes(key, arguments.votes))
    if target:
        storage.write_file(target, storage.to_json(found))
    rows: list[tuple[str, ...]]
    rows = [(one["system"], f"{one['strength']:+.2f}", _range(one, "+.2f"), _share(one["win_rate"]), str(one["votes"]))
            for one in found["systems"]]  # fmt: skip
    print(table(rows, ("system, the best first", "strength", "95 %", "win rate", "votes")))
    print()
    rows = [
        (f"{one['first']} / {one['second']}", str(one["first_preferred"]), str(one["no_difference"]),
         str(one["second_preferred"]), _share(one["win_rate"]), _range(one, ".2f"), str(one["clips"]),
         "yes" if one["told_apart"] else "no")
        for one in found["pairs"]
    ]  # fmt: skip
    print(table(rows, ("pair", "first", "same", "second", "win rate", "95 %", "clips", "told apart")))
    print()
    lines = (
        "strength: Bradley-Terry, the log of the odds against a system of mean strength (0); a tie is half a win,",
        f"and each system has {votes.PRIOR:g} made-up vote, half won. A win rate of 0.50 is no preference.",
        f"95 %: {votes.RESAMPLES} resamples of raters and clips",
        f"{found['votes']} votes of {found['raters']} raters on {found['trials_voted']} of {found['trials']} pairs",
        f"two raters agree on a pair: {_share(found['agreement'])} (by chance {_share(found['agreement_by_chance'])}, "
        f"Krippendorff's alpha {_share(found['krippendorff_alpha'])})",
        f"no difference: {_share(found['no_difference'])} of the votes; left: {_share(found['left'])} of the others "
        "(0.50 without a habit)",
        f"seconds to a vote: {_seconds(found['median_seconds'])} (median); {found['shorter_than_the_clip']} of "
        f"{found['votes_timed']} timed votes in less than the longer clip takes",
    )
    for line in (*lines, *found["said"]):
        print(one_line(line))


def _share(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"


def _seconds(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "-"


def _range(one: dict[str, Any], form: str) -> str:
    return f"{one['low']:{form}} to {one['high']:{form}}" if math.isfinite(one["low"]) else "-"
