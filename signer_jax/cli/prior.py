"""`signer prior`: build a pose database from a lexicon folder, or say what one holds."""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from signer_jax.cli.common import check_database, command, distinct
from signer_jax.errors import SignerError, one_line
from signer_jax.storage import to_json

if TYPE_CHECKING:
    from signer_jax.pose.prior import Entry
    from signer_jax.types import Pose

PROBLEMS_SHOWN = 3
LEAST_FPS, MOST_FPS = 1, 1000


def add(commands: Any) -> None:
    parser = command(
        commands, "prior", "Build a pose prior database, or print what one holds.",
        "signer prior build --source lexicon --out lexicon.prior && signer prior info lexicon.prior", show_info,
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", required=True, metavar="build|info")
    build = command(
        actions, "build", "Read a lexicon folder (index.csv beside .pose files).",
        "signer prior build --source lexicon --out lexicon.prior", run_build,
    )  # fmt: skip
    build.add_argument("--source", required=True, help="the lexicon folder")
    build.add_argument("--out", required=True, help="the database's folder")
    build.add_argument("--fps", type=float, default=25.0, help="its frame rate (25)")
    build.add_argument(
        "--no-trim", dest="trim", action="store_false",
        help="keep the rest before and after each sign (rows with a start or end within their file always do)",
    )  # fmt: skip
    info = command(actions, "info", "Print what a database holds.", "signer prior info lexicon.prior", show_info)
    info.add_argument("path", help="the database's folder")
    info.add_argument("--json", action="store_true", help="print it as JSON")


def run_build(arguments: argparse.Namespace) -> None:
    distinct({"--source": arguments.source}, {"--out": arguments.out})
    if not LEAST_FPS <= arguments.fps <= MOST_FPS:
        raise SignerError(f"--fps {arguments.fps:g}: give {LEAST_FPS} to {MOST_FPS} frames a second")

    from signer_jax.pose.lexicon import Cut, read_lexicon
    from signer_jax.pose.prior import Prior
    from signer_jax.progress import progress

    cut = Cut()
    entries, problems = read_lexicon(arguments.source, trimmed=arguments.trim, cut=cut)
    rates: Counter[float] = Counter()
    signs = _counted(progress(entries, "signs"), rates)
    prior = Prior.build(signs, arguments.out, arguments.fps, problems=problems)
    print(one_line(f"{arguments.out}: {len(prior)} signs, languages {', '.join(prior.languages)}"))
    if cut.frames:
        print(f"trimmed {cut.frames} frames of rest off {cut.signs} signs; --no-trim keeps them")
    if cut.beyond:
        print(one_line(f"clipped {len(cut.beyond)} rows that end beyond their file, the first: {cut.beyond[0]}"))
    if cut.seconds:
        print(
            f"start and end of {cut.seconds} rows were read as seconds: as milliseconds their signs would last less "
            "than a tenth of a second"
        )
    others = {rate: count for rate, count in rates.items() if rate != arguments.fps}
    if others:
        print(
            f"resampled {sum(others.values())} signs from {', '.join(f'{rate:g}' for rate in sorted(others)[:5])} to "
            f"{arguments.fps:g} frames a second, the same time long; --fps sets the rate"
        )
    if problems:
        print(one_line(f"left out {len(problems)} rows, the first: {problems[0]}"))


def _counted(signs: "Iterable[tuple[Entry, Pose]]", rates: Counter[float]) -> "Iterator[tuple[Entry, Pose]]":
    """The signs as they come; `rates` counts in place how many of each frame rate there are."""
    for entry, pose in signs:
        rates[pose.fps] += 1
        yield entry, pose


def show_info(arguments: argparse.Namespace) -> None:
    from signer_jax.pose.prior import Prior

    check_database(arguments.path)
    info = Prior.open(arguments.path).info()
    if arguments.json:
        print(to_json(info).encode("utf-8", "backslashreplace").decode(), end="")
        return
    for name, value in info.items():
        if name == "problems":
            print(f"problems: {len(value)}")
            for problem in value[:PROBLEMS_SHOWN]:
                print(f"  {one_line(problem)}")
        else:
            print(one_line(f"{name}: {value}"))
