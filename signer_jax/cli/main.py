"""The `signer` program: one small file a command, one clear line for a user's mistake."""

import argparse
import sys
from collections.abc import Sequence

from signer_jax import __version__
from signer_jax.allocator import accelerator_installed, keep_freed_memory
from signer_jax.cli import demo, evaluate, gloss, logs, prior, score, sign, train
from signer_jax.errors import SignerError, one_line
from signer_jax.storage import reason_of

COMMANDS = (demo, train, evaluate, gloss, sign, score, prior)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="signer", description="Text or a prompt in, a sign-language video out.", epilog="Start with: signer demo"
    )
    top.add_argument("--version", action="version", version=f"signer {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0 done, 2 bad input, 130 interrupted."""
    top = parser()
    known, rest = top.parse_known_args(arguments)
    overrides = [argument for argument in rest if argument.startswith("--config.")]
    if unknown := [argument for argument in rest if argument not in overrides]:
        top.error(f"unrecognized arguments: {' '.join(unknown)}")
    if overrides and not hasattr(known, "config"):
        top.error(f"{overrides[0]}: this command takes no config")
    known.overrides = overrides
    logs.keep_to_one_line()
    if not accelerator_installed():
        keep_freed_memory()
    try:
        known.run(known)
    except SignerError as error:
        print(f"signer: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # what no reader or writer below has put into words
        where = f"{error.filename}: " if error.filename else ""
        print(f"signer: {one_line(where + reason_of(error))}", file=sys.stderr)
        return 2
    except MemoryError:  # as above
        print("signer: takes more memory than there is; close other programs, or give less at once", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("signer: interrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
