"""`signer gloss`: text in, one line of glosses out."""

import argparse
import sys
from typing import Any

from signer_jax.cli.common import check_text, command
from signer_jax.errors import one_line


def add(commands: Any) -> None:
    parser = command(
        commands, "gloss", "Print the glosses of a text or prompt, in one line.",
        "signer gloss \"how do you sign 'my mother is tired'?\" --workdir runs/demo", run,
    )  # fmt: skip
    parser.add_argument("text", help="text or a prompt")
    parser.add_argument("--workdir", required=True, help="a trained run")
    parser.add_argument("--language", help="the sign language (ase, gsg, …); found from the text where not given")


def run(arguments: argparse.Namespace) -> None:
    check_text(arguments.text)

    from signer_jax.pipeline import Signer
    from signer_jax.stations.understand import understand

    signer = Signer.load(arguments.workdir, parts=("slul",))
    language, said = signer.language(arguments.text, arguments.language)
    understood = understand([arguments.text], [language], signer.linker)
    understood.check(arguments.language and language)
    understood.require_glosses(0)
    print(one_line(" ".join(understood.glosses[0])))
    for remark in [*([said] if said else ()), *understood.remarks(0)]:
        print(f"signer: {one_line(remark)}", file=sys.stderr)
