"""`signer encode`: latents and text states of a config's run, before it and on any number of machines."""

import argparse
from pathlib import Path
from typing import Any

from signer_jax import storage
from signer_jax.cli.common import command, say_overrides, table
from signer_jax.cli.prepare import shard_of
from signer_jax.mirror_places import shown


def add(commands: Any) -> None:
    parser = command(
        commands, "encode", "Encode a run's videos and texts before it, once for all runs that read the same.",
        "signer encode --config configs/wan_ti2v_5b.py --config.data.corpus=prepared\n"
        "  --config.data.source=sets/how2sign --out sets/how2sign-encoded --shard 0/8\n"
        "then: signer train … --config.data.encoded=sets/how2sign-encoded", run,
    )  # fmt: skip
    parser.add_argument("--config", required=True, help="as signer train has it, with the same overrides")
    parser.add_argument(
        "--out", required=True, help="a folder, here or in a bucket, for encodings of any number of configs; parts stay"
    )
    parser.add_argument(
        "--shard", metavar="I/N", help="be worker I (from 0) of N, of one process or many, with a share of the parts"
    )
    say_overrides(parser)


def run(arguments: argparse.Namespace) -> None:
    from signer_jax import configuration, distributed
    from signer_jax.validation import read

    worker, workers = shard_of(arguments.shard)
    settings = read(configuration.load(arguments.config, arguments.overrides))
    out = Path(arguments.out)
    storage.check_is_folder(out, f"--out {out}")
    storage.check_outside(out / "x", f"--out {out}")
    distributed.start()
    with distributed.failing_at_once():
        import jax

        from signer_jax.training.encode import encode

        made = encode(settings, out, worker, workers)
        if jax.process_index() == 0:
            rows = [(one.place.name, *(str(n) for n in one[1:])) for one in made]
            print(table(rows, ("encoding", "parts", "made now", "not there")))
            if any(one.absent for one in made):
                print("the rest is other workers'; the same command without --shard makes what none has made")
            else:
                print(f"all is there: signer train … --config.data.encoded={shown(str(out))}")
        distributed.wait_for_all("finished")
