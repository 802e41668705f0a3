"""`signer plan`: what a config takes on accelerators that are not here, before they are paid for."""

import argparse
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any

from signer_jax.cli.common import command, distinct, output_folder, say_overrides
from signer_jax.errors import SignerError, closest, one_line

DOES_NOT_FIT = 1


def add(commands: Any) -> None:
    parser = command(
        commands, "plan",
        "Say whether a config fits accelerators that are not here, how much of its work is the model's, and how "
        "long a step takes at least.",
        "signer plan --config pod_wan_14b --topology v5p:4x4x4\n"
        "         signer plan --config wan_t2v_14b --topology h100:8 --stage renderer --json plan.json", run,
    )  # fmt: skip
    parser.description = f"{parser.description}\n\n" + (
        "Each stage's own step, its batch, model, optimizer and mesh, is compiled ahead of time for a TPU (which\n"
        "needs libtpu: pip install 'signer-jax[tpu]' in a second environment); of GPUs it is arithmetic on shapes.\n"
        "No weights, corpus or chips are needed: what is not here is taken as published, which is said.\n"
        "Exit code: 0 where all stages fit, 1 where one does not, 2 for bad input."
    )
    parser.add_argument(
        "--config", required=True,
        help="a config file, or the name of a shipped one; FILE.py:VARIANT calls its get_config(VARIANT)",
    )  # fmt: skip
    parser.add_argument(
        "--topology", required=True,
        help="a TPU's shape (v5e:4x4, v6e:8x8, v5p:4x4x4; 2xv5p:4x4x4: two slices), a number of GPUs (a100:8, h100:8, "
        "h200:64), or cpu:8",
    )  # fmt: skip
    parser.add_argument("--stage", help="one of config.stages; all of them if not given")
    parser.add_argument(
        "--search", type=int, nargs="?", const=12, metavar="N",
        help="try other meshes, batches and remat, at most N of them a stage (12), and rank what fits",
    )  # fmt: skip
    parser.add_argument("--json", help="write the same as numbers to this file")
    parser.add_argument(
        "--save", metavar="FILE", help="keep the compiled steps in this file, for a run with --config.compiled=FILE"
    )
    say_overrides(parser)


def run(arguments: argparse.Namespace) -> int:
    target = output_folder(arguments.json, "--json") if arguments.json else None
    save = output_folder(arguments.save, "--save") if arguments.save else None
    distinct({"--config": arguments.config}, {"--json": arguments.json, "--save": arguments.save})
    if save and arguments.search is not None:
        raise SignerError("--save keeps the program of one plan, and --search makes many; give one of the two")
    if arguments.search is not None and not 1 <= arguments.search <= 1000:
        raise SignerError(f"--search {arguments.search}: give how many to try, 1 to 1000")
    from signer_jax.chips import CPU, topology

    where = topology(arguments.topology)
    if where.tpu and importlib.util.find_spec("libtpu") is None:
        raise SignerError(
            f"--topology {where.name}: a TPU's compiler, libtpu, is not installed; pip install 'signer-jax[tpu]' in a "
            "second environment, since libtpu slows the start of every jax program beside it"
        )
    if save and not (where.tpu or where.kind == CPU):
        raise SignerError(
            f"--save: of {where.name} nothing is compiled: a GPU's programs are compiled where there is one; "
            "JAX_COMPILATION_CACHE_DIR=FOLDER keeps them from one start to the next"
        )
    _quiet(where.size if where.kind == CPU else 0)

    from signer_jax import configuration, storage
    from signer_jax.planning import plan as planning
    from signer_jax.planning import search, steps, weightless
    from signer_jax.training import compiled_step
    from signer_jax.training.run import check_stages

    settings = configuration.load_without_weights(arguments.config, arguments.overrides)
    check_stages(settings)
    if arguments.stage is not None and arguments.stage not in settings.stages:
        raise SignerError(
            f"--stage {arguments.stage}: not a stage of this config{closest(arguments.stage, settings.stages)}, which "
            f"has {', '.join(settings.stages)}"
        )
    stages = [arguments.stage] if arguments.stage else list(settings.stages)
    devices = steps.devices_of(where)
    plans: list[planning.Plan] = []

    def write() -> None:  # after each stage: what was planned stays where a later one fails
        if target:
            storage.write_file(target, storage.to_json([plan.figures() for plan in plans]))

    if arguments.search is None:
        mesh = steps.mesh_on(settings, where, devices)
        for name in stages:  # before minutes go by
            steps.check(name, settings, mesh)
        described = weightless.described(settings)
        for name in stages:
            _say(f"stage {name}: tracing{' and compiling' if devices else ''} …")
            plans.append(planning.plan(name, settings, where, described, mesh, keep=save is not None))
            _print(planning.lines(plans[-1]))
            write()
            if save and (kept := [plan.saved for plan in plans if plan.saved is not None]):
                compiled_step.write(save, kept)
        if save:
            _say(_kept(save, [plan.stage for plan in plans if plan.saved is not None]))
    else:
        for name in stages:
            tried = search.search(name, settings, where, devices, most=arguments.search, say=_say)
            plans += tried
            _print(search.ranking(tried))
            write()
    found = any if arguments.search is not None else all
    return 0 if all(found(plan.fits for plan in plans if plan.stage == name) for name in stages) else DOES_NOT_FIT


def _kept(file: Path, stages: list[str]) -> str:
    if not stages:
        return f"{file}: not written, since no step could be compiled"
    return f"{file}: the compiled step of {', '.join(stages)}; a run on such devices takes --config.compiled={file}"


def _say(line: str) -> None:
    print(f"signer: {one_line(line)}", file=sys.stderr, flush=True)


def _print(lines: list[str]) -> None:
    print("\n".join(map(one_line, lines)), flush=True)


def _quiet(virtual: int) -> None:
    """JAX on the CPU, with so many virtual devices, and libtpu neither looking for chips nor logging that it found
    none. Of use before JAX is loaded.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for name, value in (
        ("TPU_SKIP_MDS_QUERY", "1"), ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"), ("TPU_ACCELERATOR_TYPE", "v5p-8"),
        ("TPU_WORKER_HOSTNAMES", "localhost"), ("TPU_STDERR_LOG_LEVEL", "3"), ("TPU_MIN_LOG_LEVEL", "3"),
    ):  # fmt: skip
        os.environ.setdefault(name, value)
    flags = os.environ.get("XLA_FLAGS", "")
    if virtual > 1 and not re.search(r"xla_force_host_platform_device_count", flags):
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={virtual}".strip()
