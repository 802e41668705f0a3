"""The `signer` program: one small file a command, one clear line for a user's mistake."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from signer_jax import __version__
from signer_jax.allocator import tune
from signer_jax.cli import (
    back_translate,
    convert,
    data,
    demo,
    encode,
    evaluate,
    export,
    gloss,
    import_,
    logs,
    plan,
    prepare,
    prior,
    reproduce,
    score,
    sign,
    study,
    train,
    view,
)  # fmt: skip
from signer_jax.errors import RESTART, Preempted, SignerError
from signer_jax.mirror import copied, path_of, set_of
from signer_jax.mirror_places import shown
from signer_jax.object_store import in_bucket, is_url
from signer_jax.outside import check_local, code_of, line_of

COMMANDS = (demo, prepare, data, encode, train, plan, back_translate, evaluate, gloss, sign, score, convert, view,
            study, reproduce, prior, import_, export)  # fmt: skip
# Arguments that name a file or a folder, and whether a flag does. (What else `prepare` calls --video has choices.)
PATHS = {"config": True, "workdir": True, "out": True, "pose": True, "from_pose": True, "prior": True, "style": True,
         "source": True, "ref": True, "hyp": True, "json": True, "path": False, "src": False, "dir": False,
         "input": False, "output": False, "save": True, "pose_weights": True, "video": True,
         "png": True, "study": True, "files": False, "videos": True, "votes": True, "pose_folder": True,
         "gloss_file": True, "inception": True, "i3d": True, "back_translation": True}  # fmt: skip
# Of these, what may lie in a bucket: folders of ours, and what others made, which is copied.
IN_BUCKETS, COPIED = (
    ("workdir", "dir", "prior", "path", "back_translation"),
    ("src", "source", "style", "from_pose", "ref", "hyp", "input", "pose_folder"),
)
SETS = {("prepare", "out"), ("data", "dir"), ("encode", "out")}  # these may lie in other buckets too


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
    """Runs a command; returns the exit code: 0 done, 1 a plan that does not fit or trouble that may pass (a disk, a
    network, a folder in use, memory), 2 bad input, 69 another process is gone or hangs, 75 preempted (start either
    again), 130 interrupted, 141 nobody reads on.
    """
    top = parser()
    known, rest = top.parse_known_args(with_equals(sys.argv[1:] if arguments is None else arguments))
    overrides = [argument for argument in rest if argument.startswith("--config.")]
    if unknown := [argument for argument in rest if argument not in overrides]:
        top.error(f"unrecognized arguments: {' '.join(unknown)}")
    if overrides and not hasattr(known, "config"):
        top.error(f"{overrides[0]}: this command takes no config")
    known.overrides = overrides
    logs.keep_to_one_line()
    tune(restart=arguments is None)
    try:
        check_paths(known)
        with logs.interruptible():
            code = known.run(known)
    except KeyboardInterrupt:
        resumes = "; the same command resumes from the last checkpoint" if hasattr(known, "config") else ""
        print(f"signer: interrupted{resumes}", file=sys.stderr, flush=True)
        return ended(130, arguments is None)
    except Preempted as stopped:
        print(f"signer: {stopped}", file=sys.stderr, flush=True)
        return ended(RESTART, arguments is None)
    except BrokenPipeError:  # who reads has enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the flush at the end
        return ended(141, arguments is None)
    except Exception as error:
        line = line_of(error)
        if line is None:
            raise
        print(f"signer: {shown(line)}", file=sys.stderr, flush=True)
        return ended(code_of(error), arguments is None)
    return code or 0


def ended(code: int, at_once: bool) -> int:
    """The exit code of what was cut off, or the exit: threads of XLA's and Grain's may still be at work, and a program
    that takes itself down in order then crashes.
    """
    if at_once:
        sys.stdout.flush()
        os._exit(code)
    return code


def with_equals(arguments: Sequence[str]) -> list[str]:
    """`--config.KEY VALUE` as `--config.KEY=VALUE`: both are usual, and no command with a config takes bare words.

    What begins with two dashes is the next flag, no value.
    """
    joined: list[str] = []
    waits = False  # whether the last one is an override that has no value yet
    for argument in arguments:
        if waits and not argument.startswith("--"):
            joined[-1] += f"={argument}"
            waits = False
            continue
        joined.append(argument)
        waits = argument.startswith("--config.") and "=" not in argument
    return joined


def check_paths(arguments: argparse.Namespace) -> None:
    """Raises `SignerError` for a path that is given and empty (of a shell's variable that is not set, most often), or
    is a URL: of a run in a bucket the mirror's path takes its place.
    """
    for name, flag in PATHS.items():
        given = getattr(arguments, name, None)
        said = f"--{name.replace('_', '-')}" if flag else f"the {name}"
        for one in given if isinstance(given, list) else [given]:
            if not isinstance(one, str):
                continue
            if not one.strip():
                raise SignerError(f"{said} is empty; give a path, or leave it out where it may be left out")
            if (arguments.command, name) in SETS and in_bucket(one):
                setattr(arguments, name, str(set_of(one, said)))
            elif name in IN_BUCKETS and is_url(one):
                setattr(arguments, name, str(path_of(one, said)))
            elif name in COPIED and in_bucket(one):
                setattr(arguments, name, str(copied(one, said, _later(arguments.command, name))))
            else:
                check_local(one, said)


def _later(command: str, name: str) -> Callable[[str], bool] | None:
    """Which files of a source in a bucket a command fetches when it reads them; None: it wants all at once."""
    if (command, name) != ("prepare", "source"):
        return None
    from signer_jax.data.datasets.finding import is_media

    return is_media


if __name__ == "__main__":
    sys.exit(main())
