"""`signer prior`: build a pose database, add to it, or say what one holds."""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signer_jax.cli.common import check_database, command, distinct, read_lines
from signer_jax.errors import SignerError, one_line
from signer_jax.pose.sources import BUILTIN, CONTINUOUS, FINGERSPELLING, KINDS, LEXICON, WLASL
from signer_jax.storage import to_json

if TYPE_CHECKING:
    from signer_jax.pose.prior import Added, Entry, Prior
    from signer_jax.pose.sources.common import Cut
    from signer_jax.types import Pose

PROBLEMS_SHOWN = 3
GLOSSES_SHOWN = 20
LEAST_FPS, MOST_FPS = 1, 1000
FPS = 25.0
MOST_SENTENCES = 4000
SENTENCES = 800
# What an option is of: others would pass over it without a word.
_OF = {
    "--pose-folder": (WLASL,), "--splits": (WLASL,), "--language": (CONTINUOUS,), "--sentences": (BUILTIN,),
    "--no-trim": (LEXICON, WLASL, FINGERSPELLING),
}  # fmt: skip


def add(commands: Any) -> None:
    parser = command(
        commands, "prior", "Build a pose prior database, add to it, or print what one holds.",
        "signer prior build --source lexicon --out lexicon.prior && signer prior info lexicon.prior", show_info,
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", required=True, metavar="build|add|info")
    build = command(
        actions, "build",
        "Read a lexicon folder (index.csv beside .pose files), WLASL's json and poses, a continuous corpus with timed "
        "glosses, the built-in corpus, or the recorded alphabets of spoken-to-signed.",
        "signer prior build --source lexicon --out lexicon.prior\n"
        "         signer prior build --source fingerspelling --out alphabets.prior", run_build,
    )  # fmt: skip
    more = command(
        actions, "add", "Add the signs of one more source to a database; what it has already is passed over.",
        "signer prior add --source fingerspelling --out lexicon.prior", run_add,
    )  # fmt: skip
    for one in (build, more):
        one.add_argument("--source", required=True, help="the folder; or builtin, or fingerspelling")
        one.add_argument("--kind", choices=KINDS, help="what the source is; told by its files where not given")
        one.add_argument("--out", required=True, help="the database's folder")
        one.add_argument("--pose-folder", help="of WLASL: the folder with <video_id>.pose (poses, beside the json)")
        one.add_argument("--splits", help="of WLASL: its splits, such as train,val (train)")
        one.add_argument("--language", help="of a continuous corpus: the code of its sign language (gsg, ase, …)")
        one.add_argument("--sentences", type=int, help="of the built-in corpus: how many (800; all glosses by 400)")
        one.add_argument("--variants", type=int, help="how many ways to sign a gloss are kept, the best (all)")
        one.add_argument(
            "--fallback", action="append", default=[], metavar="CODE=OTHER",
            help="signs of OTHER stand in where CODE has none (slf=ise); may be given several times",
        )  # fmt: skip
        one.add_argument(
            "--no-trim", dest="trim", action="store_false",
            help="keep the rest before and after each sign (rows with a start or end within their file always do)",
        )  # fmt: skip
    build.add_argument("--fps", type=float, default=FPS, help="its frame rate (25)")
    info = command(actions, "info", "Print what a database holds.", "signer prior info lexicon.prior", show_info)
    info.add_argument("path", help="the database's folder")
    info.add_argument("--json", action="store_true", help="print it as JSON")
    info.add_argument(
        "--glosses", "--gloss-file", dest="gloss_file", metavar="FILE",
        help="a gloss a line: how many of them are there, how they are found, and which are not",
    )  # fmt: skip
    info.add_argument("--language", help="the sign language that --glosses is looked up in (the one that has most)")


def run_build(arguments: argparse.Namespace) -> None:
    if not LEAST_FPS <= arguments.fps <= MOST_FPS:
        raise SignerError(f"--fps {arguments.fps:g}: give {LEAST_FPS} to {MOST_FPS} frames a second")

    def made(signs: "Iterable[tuple[Entry, Pose]]", problems: list[str], given: dict) -> "Added":
        from signer_jax.pose.prior import Added, Prior

        return Added(Prior.build(signs, arguments.out, arguments.fps, problems=problems, **given), 0)

    _run(arguments, made)


def run_add(arguments: argparse.Namespace) -> None:
    check_database(arguments.out)

    def made(signs: "Iterable[tuple[Entry, Pose]]", problems: list[str], given: dict) -> "Added":
        from signer_jax.pose.prior import Prior

        return Prior.add(signs, arguments.out, problems=problems, **given)

    _run(arguments, made)


def _run(arguments: argparse.Namespace, made: Any) -> None:
    distinct({"--source": arguments.source, "--pose-folder": arguments.pose_folder}, {"--out": arguments.out})
    given: dict[str, Any] = {"fallbacks": _fallbacks(arguments.fallback), "most": arguments.variants}
    if arguments.variants is not None and arguments.variants < 1:
        raise SignerError(f"--variants {arguments.variants}: give 1 or more")

    from signer_jax.pose.sources import kinds
    from signer_jax.pose.sources.common import Cut
    from signer_jax.progress import progress

    cut = Cut()
    kind = arguments.kind or kinds.kind_of(arguments.source)
    _check_options(arguments, kind)
    splits = None if arguments.splits is None else [name.strip() for name in arguments.splits.split(",")]
    if splits is not None and not all(splits):
        raise SignerError(f"--splits {arguments.splits!r}: give names of splits with commas between them, as train,val")
    given["isolated"] = kind in (LEXICON, WLASL, FINGERSPELLING)
    given["source"] = arguments.source if kind in (BUILTIN, FINGERSPELLING) else str(Path(arguments.source).resolve())
    problems: list[str] = []
    if kind == BUILTIN:
        entries = _builtin(SENTENCES if arguments.sentences is None else arguments.sentences)
    else:
        entries, problems = kinds.read(
            arguments.source, kind, language=arguments.language or "",
            poses=Path(arguments.pose_folder) if arguments.pose_folder else None,
            splits=splits or (), trimmed=arguments.trim, cut=cut,
        )  # fmt: skip
    rates: Counter[float] = Counter()
    prior, known, changed, left_out = made(_counted(progress(entries, "signs"), rates), problems, given)
    print(one_line(f"{arguments.out}: {len(prior)} signs, languages {', '.join(prior.languages)}"))
    if known:
        told = f"; {changed} of them have other words, forms, priority or quality now" if changed else ""
        print(f"passed over {known} signs that were there already{told}")
    if left_out:
        print(
            f"left out {left_out} signs of this source's glosses, old ones among them: --variants {arguments.variants} "
            "keeps the best"
        )
    if cut.of_splits:
        print(one_line(f"read of the splits {', '.join(cut.of_splits)}: {', '.join(cut.splits)}"))
    _say(cut, rates, prior.fps, problems)


def _check_options(arguments: argparse.Namespace, kind: str) -> None:
    """Raises `SignerError` for an option that this kind of source would pass over."""
    given = {
        "--pose-folder": arguments.pose_folder, "--splits": arguments.splits, "--language": arguments.language,
        "--sentences": arguments.sentences, "--no-trim": None if arguments.trim else True,
    }  # fmt: skip
    for flag, value in given.items():
        if value is not None and kind not in _OF[flag]:
            raise SignerError(f"{flag} is of {' and '.join(_OF[flag])}, this source is {kind}; leave it out")


def _say(cut: "Cut", rates: Counter[float], fps: float, problems: list[str]) -> None:
    if cut.frames:
        print(f"trimmed {cut.frames} frames of rest off {cut.signs} signs; --no-trim keeps them")
    if cut.beyond:
        print(one_line(f"clipped {len(cut.beyond)} rows that end beyond their file, the first: {cut.beyond[0]}"))
    if cut.whole:
        print(one_line(f"took {len(cut.whole)} poses of YouTube's whole, as cut already, the first: {cut.whole[0]}"))
    if cut.seconds:
        print(
            f"start and end of {cut.seconds} rows were read as seconds: as milliseconds their signs would last less "
            "than a tenth of a second"
        )
    others = {rate: count for rate, count in rates.items() if rate != fps}
    if others:
        print(
            f"resampled {sum(others.values())} signs from {', '.join(f'{rate:g}' for rate in sorted(others)[:5])} to "
            f"{fps:g} frames a second, the same time long; --fps sets the rate"
        )
    if problems:
        print(one_line(f"left out {len(problems)} rows, the first: {problems[0]}"))


def _fallbacks(given: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in given:
        code, _, other = one.partition("=")
        if not code or not other or code == other:
            raise SignerError(f"--fallback {one}: give two codes of sign languages, such as slf=ise")
        found.setdefault(code, []).append(other)
    return found


def _builtin(sentences: int) -> "Iterator[tuple[Entry, Pose]]":
    if not 1 <= sentences <= MOST_SENTENCES:
        raise SignerError(f"--sentences {sentences}: give 1 to {MOST_SENTENCES}")

    from signer_jax.data.builtin import corpus
    from signer_jax.slp_moe.retrieval import prior_entries

    return prior_entries(
        corpus.samples("train", sentences=sentences, poses=sentences, videos=0, seed=0, size=(64, 64), fps=FPS)
    )


def _counted(signs: "Iterable[tuple[Entry, Pose]]", rates: Counter[float]) -> "Iterator[tuple[Entry, Pose]]":
    """The signs as they come; `rates` counts in place how many of each frame rate there are."""
    for entry, pose in signs:
        rates[pose.fps] += 1
        yield entry, pose


def show_info(arguments: argparse.Namespace) -> None:
    from signer_jax.pose.prior import Prior

    check_database(arguments.path)
    if arguments.language and not arguments.gloss_file:
        raise SignerError("--language says where --glosses is looked up; give both")
    prior = Prior.open(arguments.path)
    info = prior.info()
    if arguments.gloss_file:
        info["coverage"] = _coverage(prior, read_lines(arguments.gloss_file), arguments.language)
    if arguments.json:
        print(to_json(info).encode("utf-8", "backslashreplace").decode(), end="")
        return
    for name, value in info.items():
        if name == "problems":
            print(f"problems: {len(value)}")
            for problem in value[:PROBLEMS_SHOWN]:
                print(f"  {one_line(problem)}")
        elif name == "coverage":
            print(one_line(
                f"coverage: {value['share']:.1%} of {value['glosses']} glosses have signs in {value['language']} "
                f"({value['signs']}), {value['spelled']} more are spelled, "
                f"{value['partial']} compounds have signs in part; {_ways(value['found'])}"
            ))  # fmt: skip
            missing = value["missing"]
            if missing:
                more = f" and {len(missing) - GLOSSES_SHOWN} more" if len(missing) > GLOSSES_SHOWN else ""
                print(one_line(f"missing: {' '.join(missing[:GLOSSES_SHOWN])}{more}"))
        else:
            print(one_line(f"{name}: {_ways(value) if isinstance(value, dict) else value}"))


def _ways(counts: dict) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "-"


def _coverage(prior: "Prior", lines: list[str], language: str | None) -> dict:
    """How each gloss of a list is found in a language: in the one that has signs for most of them, where none is given.

    `share` is of signs, the language's own and those of one that stands in. What is spelled stands apart, as do
    compounds of which a part is spelled or lacks; marks are none of the glosses that are asked for. Raises
    `SignerError` for a list without a gloss.
    """
    from signer_jax.language import choose_language
    from signer_jax.pose.lookup import HOW, MARK, SKIPPED, SPELLED, find

    glosses = list(dict.fromkeys(filter(None, map(str.strip, lines))))
    if not glosses:
        raise SignerError("--glosses: the list is empty; give a gloss a line")
    known = dict.fromkeys(prior.fallbacks, "") | prior.spoken
    codes = sorted(known) if language is None else [choose_language(language, known, len)[0]]
    every = {code: [find([gloss], code, prior)[0] for gloss in glosses] for code in codes}
    ways = {code: [one.how for one in found] for code, found in every.items()}
    apart = (MARK, SPELLED, SKIPPED)
    signs = {code: sum(one.how not in apart and not one.partial for one in found) for code, found in every.items()}
    best = max(codes, key=lambda code: (signs[code], ways[code].count(SPELLED)))
    counts = Counter(ways[best])
    asked = len(glosses) - counts[MARK]
    return {
        "language": best,
        "glosses": asked,
        "signs": signs[best],
        "share": round(signs[best] / max(1, asked), 4),
        "spelled": counts[SPELLED],
        "partial": sum(one.partial for one in every[best]),
        "marks": counts[MARK],
        "found": {way: counts[way] for way in HOW if counts[way]},
        "missing": [gloss for gloss, way in zip(glosses, ways[best], strict=True) if way == SKIPPED],
    }
