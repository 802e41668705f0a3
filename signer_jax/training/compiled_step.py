"""A stage's step that was compiled beforehand: `signer plan --save` keeps it in a file, and a run takes it from there.

It is taken where it is the same program, to the letter of what jax gives the compiler, for the same devices, by the
same versions. Anything else is told, and compiled as without the file. The file holds what runs: it is trusted as a
config file is.
"""

import base64
import hashlib
import io
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jaxlib
from jax.experimental import serialize_executable
from jax.extend.mlir import ir

from signer_jax import mirror, storage
from signer_jax.errors import SignerError, one_line
from signer_jax.json_files import CONFIG, parse_json
from signer_jax.outside import plain_file, reading
from signer_jax.training.loop import Program

RECORD = "record.json"
# The bytes of a kernel in the text of a program: a quoted value of the JSON that its call has for a text.
_KERNEL = re.compile(r"(?<=\\22body\\22: \\22)[A-Za-z0-9+/=]+(?=\\22)")
GIVE = "give what `signer plan --save` wrote, or leave config.compiled empty"


class Saved(NamedTuple):
    facts: dict[str, Any]  # what must be alike where it is used, by its names
    stage: str
    batch: dict[str, list]  # name -> shape and type
    program: bytes


def saved(program: Program, lowered: jax.stages.Lowered, compiled: jax.stages.Compiled, batch: Mapping) -> Saved:
    """What a file keeps of a stage's step, lowered from `program.trace(batch)`."""
    held, _, _ = serialize_executable.serialize(compiled)
    return Saved(_facts(program, lowered), program.stage.name, _described(batch), held)


def write(path: Path, steps: Sequence[Saved]) -> None:
    """Of some stages, into one file."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as file:
        rows = {one.stage: {"facts": one.facts, "batch": one.batch} for one in steps}
        file.writestr(RECORD, storage.to_json(rows))
        for one in steps:
            file.writestr(one.stage, one.program)
    storage.write_file(path, found.getvalue())


def check(path: str | Path, stages: Sequence[str]) -> None:
    """Raises `SignerError` as `read` of any of the stages, and reads no program."""
    with _opened(path) as file:
        for stage in stages:
            if _row(file, stage) is not None:
                file.getinfo(stage)


def read(path: str | Path, stage: str) -> Saved | None:
    """The stage's step of a file, which may lie in a bucket; None where it has none.

    Raises `SignerError` for what is no such file.
    """
    with _opened(path) as file:
        row = _row(file, stage)
        return None if row is None else Saved(row["facts"], stage, row["batch"], file.read(stage))


def _row(file: zipfile.ZipFile, stage: str) -> dict[str, Any] | None:
    row = parse_json(file.read(RECORD), CONFIG).get(stage)
    return None if row is None else {name: row[name] for name in ("facts", "batch")}


@contextmanager
def _opened(path: str | Path) -> Iterator[zipfile.ZipFile]:
    path = plain_file(mirror.copied(str(path), "config.compiled"), GIVE)
    with reading(path, GIVE):
        try:
            with zipfile.ZipFile(path) as file:
                yield file
        except (zipfile.BadZipFile, KeyError, ValueError, AttributeError, TypeError) as error:
            why = one_line(str(error))[:200]
            raise SignerError(f"{path}: is no compiled step, or a damaged one ({why}); {GIVE}") from None


def step_of(program: Program, path: str | Path) -> Callable:
    """The program's step: on batches of the shapes that the file's was compiled for the file's own, where it fits.

    Which it is is told once. Raises `SignerError` as `read`.
    """
    name, found = program.stage.name, read(path, program.stage.name)
    if found is None:
        _say(f"stage {name!r}: {path} holds no step of it; it is compiled here")
        return program.step
    taken: dict[str, Callable | None] = {}  # the file's, once it has been looked at
    other = False

    def step(state: Any, frozen: Any, batch: Any, asked: Any) -> Any:
        nonlocal other
        if _described(batch) != found.batch:
            if not other:
                _say(f"stage {name!r}: {path} is of other batches ({_difference(found.batch, _described(batch))}); "
                     "these are compiled here")  # fmt: skip
            other = True
            return program.step(state, frozen, batch, asked)
        if "" not in taken:
            taken[""] = _loaded(program, found, batch, path)
        return (taken[""] or program.step)(state, frozen, batch, asked)

    return step


def _loaded(program: Program, found: Saved, batch: Mapping[str, Any], path: str | Path) -> Callable | None:
    """The file's step on these devices; None, told, where it is not this one."""
    name = program.stage.name
    shapes = {key: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for key, leaf in batch.items()}
    lowered = program.trace(program.placed(shapes)).lower(lowering_platforms=(_platform(program),))
    if why := _difference(found.facts, _facts(program, lowered)):
        _say(f"stage {name!r}: {path} is not used ({why}); the step is compiled here")
        return None
    devices = list(program.mesh.devices.flat)
    try:
        compiled = serialize_executable.deserialize_and_load(
            found.program, jax.tree.structure(lowered.args_info), lowered.out_tree, devices[0].client, devices
        )
    except Exception as error:  # whatever a platform's own reader raises
        _say(f"stage {name!r}: {path} is not used ({one_line(str(error))[:200]}); the step is compiled here")
        return None
    _say(f"stage {name!r}: its step is the one that was compiled beforehand, {path}")
    return compiled


def _facts(program: Program, lowered: jax.stages.Lowered) -> dict[str, Any]:
    devices = list(program.mesh.devices.flat)
    return {
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "compiler": str(devices[0].client.platform_version).splitlines()[-1],
        "flags": os.environ.get("LIBTPU_INIT_ARGS", "") if _platform(program) == "tpu" else "",
        "XLA_FLAGS": _xla_flags(),
        "devices": f"{len(devices)} {devices[0].device_kind}",
        "processes": len({device.process_index for device in devices}),
        "mesh": dict(program.mesh.shape),
        "program": program_hash(lowered),
    }


def program_hash(lowered: jax.stages.Lowered) -> str:
    """Of the text that jax gives the compiler, without the source's lines and folders: each machine has others.

    jax leaves them out but for a TPU's own kernels, which the text holds as Mosaic's bytes.
    """
    module: Any = lowered.compiler_ir()
    context = module.context
    before, context.allow_unregistered_dialects = context.allow_unregistered_dialects, True

    def plain(found: re.Match) -> str:
        try:
            with context:
                kernel = ir.Module.parse(base64.b64decode(found[0], validate=True))
                return str(kernel.operation.get_asm(enable_debug_info=False))
        except (ValueError, ir.MLIRError):  # no kernel, or of a form that this jaxlib does not read: as it is
            return found[0]

    try:
        text = _KERNEL.sub(plain, lowered.as_text())
    finally:
        context.allow_unregistered_dialects = before
    return hashlib.sha256(text.encode()).hexdigest()


def _xla_flags() -> str:
    """Those of the environment, in any order; how many virtual devices a CPU has is among the devices."""
    words = os.environ.get("XLA_FLAGS", "").split()
    return " ".join(sorted(word for word in words if "xla_force_host_platform_device_count" not in word))


def _platform(program: Program) -> str:
    return program.mesh.devices.flat[0].platform


def _described(batch: Mapping[str, Any]) -> dict[str, list]:
    return {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in sorted(batch.items())}


def _difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The first thing that is not alike, in words; nothing where all is."""
    for name in sorted(there.keys() | here.keys(), key=lambda name: (name == "program", name)):
        if there.get(name) != here.get(name):
            if name == "program":
                return "it is another program: the config, the vocabulary's size or the source differ"
            return f"{name}: {there.get(name)} there, {here.get(name)} here"
    return ""


def _say(line: str) -> None:
    if jax.process_index() == 0:
        print(f"signer: {line}", file=sys.stderr, flush=True)
