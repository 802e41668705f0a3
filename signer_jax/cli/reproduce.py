"""`signer reproduce`: the paper's tables and figures, its rows beside ours."""

import argparse
import os
import socket
import time
from pathlib import Path
from typing import Any

from signer_jax.cli.common import command, say_overrides
from signer_jax.errors import SignerError, one_line

ALL = "all"
MOST_SEEDS = 100
LOCK = ".reproduce.lock"
WHAT = (
    "table1", "table2", "table3", "table4", "table5", "table6", "experts", "losses", "figure4", "figure5", "figure6",
)  # fmt: skip


def add(commands: Any) -> None:
    parser = command(
        commands, "reproduce", "Train, score and write the paper's tables and figures, its rows beside ours.",
        "signer reproduce table2 --config reproduce --workdir runs/paper --seeds 3", run,
    )  # fmt: skip
    parser.add_argument(
        "tables", nargs="+", choices=(*WHAT, ALL), metavar="TABLE", help=f"{', '.join(WHAT)}, or {ALL}",
    )  # fmt: skip
    parser.add_argument("--config", default="reproduce", help="the config of the runs (reproduce)")
    parser.add_argument("--workdir", required=True, help="where runs, scores, tables and figures lie; resumed")
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="trainings of each row, of seeds 0 to N - 1 (3)"
    )
    say_overrides(parser)


def run(arguments: argparse.Namespace) -> None:
    from signer_jax import configuration, mirror, storage
    from signer_jax.reproduction import curves, making
    from signer_jax.reproduction.runs import Workshop
    from signer_jax.training.preemption import watched
    from signer_jax.validation import read

    if not 1 <= arguments.seeds <= MOST_SEEDS:
        raise SignerError(f"--seeds {arguments.seeds}: give 1 to {MOST_SEEDS}; 3 or more tell a difference")
    folder = Path(arguments.workdir)
    if mirror.place_of(folder) is not None:
        raise SignerError("--workdir: runs of a reproduction share files, which a bucket cannot; give a local folder")
    storage.check_is_folder(folder, f"--workdir {folder}")
    storage.check_outside(folder / "x", f"--workdir {folder}")
    if storage.is_run(folder):
        raise SignerError(f"--workdir {folder}: is a run itself; give a folder that a reproduction's runs can lie in")
    settings = read(configuration.load(arguments.config, arguments.overrides))
    folder.mkdir(parents=True, exist_ok=True)
    holder = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    wanted = WHAT if ALL in arguments.tables else tuple(dict.fromkeys(arguments.tables))
    with watched() as notice, storage.locked(folder / LOCK, holder, "wait for it or stop it"):
        shop = Workshop(folder, settings, tuple(range(arguments.seeds)), notice)
        shop.watch = curves.recording(shop)
        for name in wanted:
            shop.check(making.NEEDS[name], name)
        for name in wanted:  # prepares the corpus, and before hours of training
            making.check(shop, name)
        for name in wanted:
            files, found = making.make(shop, name)
            print(one_line(f"{name}: {', '.join(str(file) for file in files)}"), flush=True)
            for one in found:
                print(one_line(f"  {one.text}"), flush=True)
            if found:  # of all tables that are there, also those of earlier calls
                storage.write_file(folder / "claims.md", making.summary(shop))
                print(one_line(f"claims: {folder / 'claims.md'}"), flush=True)
