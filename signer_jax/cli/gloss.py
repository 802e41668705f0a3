"""`signer gloss`: text in, one line of glosses out, or a line a draw."""

import argparse
import sys
from typing import Any

from signer_jax.cli.common import check_text, command
from signer_jax.errors import SignerError, one_line

# Of drawing: flag -> type, what it is where it is not given, least, most, and what it means.
_DRAWING: dict[str, tuple[type, Any, float, float, str]] = {
    "--temperature": (float, 1.0, 0.01, 100, "of drawing: below 1 likely glosses are likelier yet (1)"),
    "--top-k": (int, 0, 0, 10**6, "of drawing: among so many of the likeliest pieces (0: all)"),
    "--top-p": (float, 1.0, 1e-6, 1, "of drawing: among the likeliest pieces of this probability together (1: all)"),
    "--seed": (int, 0, 0, 2**31 - 1, "of drawing (0)"),
}
_DRAWS = 1000


def add(commands: Any) -> None:
    parser = command(
        commands, "gloss", "Print the glosses of a text or prompt, in one line.",
        "signer gloss \"how do you sign 'my mother is tired'?\" --workdir runs/demo\n"
        '         signer gloss "the house is old" --workdir runs/demo --sample 5 --top-p .9', run,
    )  # fmt: skip
    parser.add_argument("text", help="text or a prompt")
    parser.add_argument("--workdir", required=True, help="a trained run")
    parser.add_argument("--language", help="the sign language (ase, gsg, …); found from the text where not given")
    parser.add_argument("--sample", type=int, metavar="N", help="draw so many times, a line each")
    for flag, (kind, _, _, _, meaning) in _DRAWING.items():
        parser.add_argument(flag, type=kind, help=meaning)


def drawing(arguments: argparse.Namespace) -> dict[str, Any]:
    """How glosses are drawn, by name; of no drawing nothing. Raises `SignerError` for values that mean none."""
    given = {flag: getattr(arguments, flag[2:].replace("-", "_")) for flag in _DRAWING}
    if arguments.sample is None:
        if flags := [flag for flag, value in given.items() if value is not None]:
            raise SignerError(f"{flags[0]}: glosses are drawn only with --sample N; give that too, or leave it out")
        return {}
    if not 1 <= arguments.sample <= _DRAWS:
        raise SignerError(f"--sample {arguments.sample}: give how many draws, 1 to {_DRAWS}; none are without it")
    for flag, (_, _, least, most, _) in _DRAWING.items():
        value = given[flag]
        if value is not None and not least <= value <= most:
            raise SignerError(f"{flag} {value}: give a number from {least:.10g} to {most:.10g}")
    values = {flag: default if given[flag] is None else given[flag] for flag, (_, default, *_) in _DRAWING.items()}
    return {flag[2:].replace("-", "_"): value for flag, value in values.items()}


def run(arguments: argparse.Namespace) -> None:
    check_text(arguments.text)
    drawn = drawing(arguments)

    from signer_jax.pipeline import Signer
    from signer_jax.stations.draws import understand_by_draws
    from signer_jax.stations.understand import understand

    signer = Signer.load(arguments.workdir, parts=("slul",))
    language, said = signer.language(arguments.text, arguments.language)
    if drawn:
        every = understand_by_draws([arguments.text], [language], signer.linker, arguments.sample, **drawn)
    else:
        every = [understand([arguments.text], [language], signer.linker)]
    every[0].check(arguments.language and language)
    if not drawn:
        every[0].require_glosses(0)
    remarks = [understood.remarks(0) for understood in every]
    shared = [remark for remark in remarks[0] if all(remark in each for each in remarks)]
    for understood in every:
        print(one_line(" ".join(understood.glosses[0])))
    for remark in [*([said] if said else ()), *shared]:
        print(f"signer: {one_line(remark)}", file=sys.stderr)
    for number, each in enumerate(remarks, 1):
        for remark in [remark for remark in each if remark not in shared]:
            print(f"signer: draw {number}: {one_line(remark)}", file=sys.stderr)
