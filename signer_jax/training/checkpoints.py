"""The one place that knows Orbax: a stage's checkpoints hold what it trains, optimizer, step, RNG and data position.

`<workdir>/checkpoints/<stage>/<step>/state` is the tree of arrays, `…/about` says what it holds: each array's type,
shape and checksum, and the data's position. A checkpoint whose bytes have changed is told from one that belongs to
another model, and neither is ever loaded. Of a run in a bucket they lie there (`mirror.checkpoints`).
"""

import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.experimental.multihost_utils import process_allgather
from orbax.checkpoint._src.multihost import multihost as coordination

from signer_jax import bucket_lock
from signer_jax.distributed import (
    check_all_are_there,
    first_says,
    first_tells,
    longest_wait,
    seen,
)
from signer_jax.errors import Absent, SignerError, Trouble
from signer_jax.interop.later import grouped
from signer_jax.interop.names import Place
from signer_jax.object_store import is_url, sizes
from signer_jax.training import partitioning, pieces
from signer_jax.training.base import Base, base_of
from signer_jax.training.base import check as check_base
from signer_jax.training.contents import (
    check_claims,
    check_same_arrays,
    check_sums,
    check_tree,
    described,
    read_about,
    sealed,
    shapes,
)
from signer_jax.training.damage import Damaged, only_errors, readable, short, without_stragglers
from signer_jax.training.partitioning import path_name
from signer_jax.training.selection import LastAndBest, Look, Params, looks_of
from signer_jax.training.there import absolute, latest_step, pass_over, steps_of

_TOGETHER = 1 << 30  # bytes of parameters that are read before they are rounded


class Checkpoints:
    """The checkpoints of one stage; saves are asynchronous and atomic. A context: its end waits for what was begun."""

    def __init__(
        self, directory: str | Path, keep: int = 1, best: int = 0,
        beside: Mapping[str, str | Path] | None = None,
    ):  # fmt: skip
        """Keeps the last `keep`, and the `best` of the lowest loss, or of the highest score where they are looked at
        (`save`).

        `beside`: the folders of the published weights that what is trained stands beside, by their parts' paths.
        """
        self.beside = beside or {}
        self._base: Base | None = None
        self.directory = absolute(directory)
        check_tree(self.directory)
        seconds = math.ceil(60 * longest_wait(os.environ))
        if jax.process_count() > 1:  # Orbax's threads meet within five minutes, and it has no public form for more
            coordination._DEFAULT_BARRIER_TIMEOUT = seconds
        elif jax.default_backend() == "cpu":
            _write_from_one_device()
        # A save that was cut short never gets its final name; what is left of it is swept here, under the run's lock.
        told = first_tells("losses", lambda: list(_losses(self.directory).items())) if best else []
        self._best, self._losses = best, dict(told)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=LastAndBest(keep, best, self._losses),
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(timeout_secs=seconds),
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)
        self._list()

    def __enter__(self) -> "Checkpoints":
        self._quiet = without_stragglers()
        self._quiet.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Absent):  # without one of the processes no save ends
            return
        try:
            self.wait()
        except SignerError as failed:
            if error is None:
                raise
            print(f"signer: {failed}", file=sys.stderr)
        finally:
            self._manager.close()
            if error is None:
                self._quiet.__exit__(None, None, None)

    def _list(self) -> None:
        """Orbax's list of what is there becomes the first process's: by it each decides what is saved and removed."""
        self._manager.reload()
        steps = first_tells("checkpoints", lambda: sorted(self._manager.all_steps()))

        def listed() -> bool:
            self._manager.reload()
            return sorted(self._manager.all_steps()) == steps

        seen(f"{self.directory}: checkpoints of steps {', '.join(map(str, steps)) or 'none'}", listed)

    def latest(self) -> int | None:
        """The newest complete step, or None, as the first process finds it. Every process calls it."""
        return _latest(self.directory, together=True)

    def save(
        self, step: int, state: Any, iterator: grain.DatasetIterator, loss: float | None = None,
        looked: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Starts a save; an earlier one is waited for first. Raises `SignerError` where that one failed.

        `loss` says how good the state is, the same number in every process; without it is never the best. `looked`: of
        a stage that is looked at, all looks so far (`selection.record`), by which the best are then told, not by
        losses. Raises `Trouble` where the stage's folder has gone: Orbax would make it anew, in a workdir that nothing
        can resume; and where the run's lock in a bucket is another's by now.
        """
        if is_url(self.directory):
            _check_lock(self.directory)
        if not (is_url(self.directory) or self.directory.is_dir()):  # by its name: a mount gives new inode numbers
            raise Trouble(
                f"{self.directory}: has gone since the run began, so step {step} is not saved; mount the workdir "
                "again, or put it back, then run the same command"
            )
        about: dict[str, Any] = {"data": iterator.get_state(), "arrays": described(partitioning.from_memory(state))}
        if loss is not None:
            about["loss"] = loss
        if looked is not None:
            about["looked"] = looked
            self._losses.clear()
            self._losses.update({at: -score for at, score in looks_of(looked)})
        elif self._best and loss is not None:
            self._losses[step] = loss
        if self.beside and jax.process_index() == 0:  # which alone writes it
            self._base = self._base or base_of(self.beside)
            about["base"] = self._base
        about = sealed(about)
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about))
        with self._saving():
            saved = self._manager.save(step, args=items)
        if not saved:  # Orbax saves none before one that it lists
            raise Trouble(
                f"{self.directory}: step {step} was not saved, as one of step {self._manager.latest_step()} is there; "
                "look whether another run writes there, then run the same command again"
            )

    def wait(self) -> None:
        """Returns when every save has reached the disk. Raises `SignerError` where one did not."""
        with self._saving():
            self._manager.wait_until_finished()

    def restore(self, abstract_state: Any, iterator: grain.DatasetIterator) -> Any:
        """The newest state that is whole, on the shardings of `abstract_state`; `iterator` moves to where it stood.

        A damaged checkpoint is told and set aside (`pass_over`). Raises `SignerError` where there is none, it holds
        other arrays, or cannot be read, and `Damaged` where there is none before a damaged one.
        """
        while True:
            if (step := self.latest()) is None:
                raise _no_checkpoint(self.directory)
            folder = self.directory / str(step)
            try:
                return self._restore(folder, abstract_state, iterator)
            except Damaged as damage:
                pass_over(damage)
                self._list()

    def looks(self) -> list[Look]:
        """The looks at the stage before the newest checkpoint, as the first process reads them. Every process calls it.

        Raises `SignerError` as `restore`.
        """
        if (step := self.latest()) is None:
            return []
        folder = self.directory / str(step)
        try:
            return looks_of(_about(folder).get("looked", {}))
        except (TypeError, ValueError, AttributeError) as error:
            raise Damaged(folder, f"is damaged (its looks are none: {short(error)})") from error

    def steps(self) -> list[int]:
        """Those of the checkpoints that are there when every save has ended, as the first process finds them."""
        self.wait()
        return first_tells("checkpoints", lambda: sorted(steps_of(self.directory)))

    def mean(self, steps: Sequence[int], own: Params, place: Place, *, counted: bool) -> Params:
        """The mean of what the stage would have given after these steps, and of its `own` now where that is `counted`,
        whose arrays these are otherwise like. Some arrays are read at a time: no more is in memory than the mean and
        some of one checkpoint.

        Raises `Damaged` for the first that is, the same in every process.
        """
        now, found, together = flatten_dict(own, sep="/"), dict[str, Any](), _reads_together(place)
        for names in grouped({name: leaf.nbytes for name, leaf in now.items()}, _TOGETHER):
            kinds = {name: np.dtype(now[name].dtype) for name in names}
            means = {name: now[name] for name in names} if counted else {}
            for count, step in enumerate(steps, 1 + counted):
                read = flatten_dict(_read_params(self.directory / str(step), place, kinds, together), sep="/")
                means = _towards(means, read, 1 / count) if means else read
            found |= means
        return unflatten_dict(found, sep="/")

    def _restore(self, folder: Path, abstract_state: Any, iterator: grain.DatasetIterator) -> Any:
        about = _about(folder)
        with _for_all(folder):
            check_base(folder, about.get("base", {}), self.beside)
            if self.beside and jax.process_index() == 0:
                self._base = base_of(self.beside, about.get("base"))
            check_same_arrays(folder, about["arrays"], shapes(abstract_state))
        _check_pieces(folder, about["arrays"])
        with _for_all(folder), readable(folder, whole=True), closing(ocp.StandardCheckpointHandler()) as handler:
            restored = handler.restore(epath.Path(folder / "state"), args=ocp.args.StandardRestore(abstract_state))
        found = described(restored)
        with _for_all(folder):
            check_sums(folder, about["arrays"], found)
            try:
                iterator.set_state(about["data"])
            except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
                raise Damaged(folder, f"is damaged (its place in the data is none: {short(error)})") from error
        return restored

    @contextmanager
    def _saving(self) -> Iterator[None]:
        # tensorstore reports a full disk as a ValueError, Orbax's threads pass on whatever they met.
        try:
            yield
        except Exception as error:
            if not (isinstance(error, OSError | ValueError | RuntimeError) or is_url(self.directory)):
                raise
            check_all_are_there(error)
            if jax.process_count() > 1 and isinstance(error, jax.errors.JaxRuntimeError):
                raise
            step = latest_step(self.directory)
            kept = "there is none before it" if step is None else f"the one of step {step} is whole"
            raise Trouble(
                f"{self.directory}: a checkpoint could not be saved ({short(error)}); {kept}; "
                "check the place and its space, then run the same command again"
            ) from error


@cache
def _write_from_one_device() -> None:
    """What all devices have is written from one. By itself Orbax writes a slice from each, so that hosts share the
    work: of one process nothing is gained by it, and a program is compiled for each shape, to cut the slices out.
    """
    try:
        from orbax.checkpoint._src.metadata.array_metadata_store import Store
    except ImportError:  # it has no public name: another version's place for it is unknown, and Orbax does as it does
        return
    whole = ocp.type_handlers.ArrayHandler(use_replica_parallel=False, array_metadata_store=Store())
    with only_errors():
        ocp.type_handlers.register_type_handler(jax.Array, whole, override=True)


def _check_lock(directory: Any) -> None:
    """Raises `Trouble` in every process where the first, which holds the run's lock in a bucket, has lost it."""
    lost = None
    try:
        bucket_lock.check()
    except Trouble as error:
        lost = error
    if first_says(lost is not None):
        raise lost or Trouble(f"{directory}: the first process says why nothing more is saved")


def _losses(directory: Path) -> dict[int, float]:
    """Of the checkpoints that are there, each that says one and whose list is whole."""
    found = {}
    for step in steps_of(directory):
        try:
            loss = read_about(directory / str(step)).get("loss")
        except SignerError:
            continue  # told where it is read for its arrays
        if isinstance(loss, float) and math.isfinite(loss):
            found[step] = loss
    return found


def read_looked(directory: str | Path) -> dict[str, Any]:
    """What the newest checkpoint of a stage says of the looks at it, and of what was given (`selection.record`), to one
    process alone; {} where nobody looked. Raises `SignerError` as `read_params`.
    """
    return _about(_newest(absolute(directory)), together=False).get("looked", {})


class Replaced(Trouble):
    """The checkpoint that was read has gone: its run is trained on, and a newer one is there."""


def newest_step(directory: str | Path, place: Place | None = None) -> int:
    """The step of a stage's newest checkpoint, to the processes that `read_params` with this `place`, so that several
    reads are of one. Raises `SignerError` where there is none.
    """
    return int(_newest(absolute(directory), _reads_together(place)).name)


def read_params(
    directory: str | Path, place: Place | None = None, kinds: Mapping[str, np.dtype] | None = None,
    step: int | None = None,
) -> Any:  # fmt: skip
    """What a stage trained, of its newest checkpoint or that of `step`, whatever devices saved it; no more is read.

    Numpy arrays, or with `place` arrays on the devices, of which each process reads what its own hold. Where the stage
    keeps a running mean of it, that mean. What it did not train is in no checkpoint of its. `kinds` names those that
    are read, by path, and their types (needs `place`); where they are rounded, some are read at a time.

    Raises `SignerError` where there is no checkpoint, it cannot be read, or is damaged, and `Replaced` where that of
    `step` has gone.
    """
    whole, together = absolute(directory), _reads_together(place)
    folder = _newest(whole, together) if step is None else whole / str(step)
    try:
        with _while_there(folder, together):
            return _read_params(folder, place, kinds, together)
    except Replaced:
        if step is not None:
            raise
    return _read_params(_newest(whole), place, kinds)


@contextmanager
def _while_there(folder: Path, together: bool) -> Iterator[None]:
    """What cannot be read since a training run that goes on has replaced the checkpoint raises `Replaced`. Of processes
    that read `together` one alone might see that.
    """
    try:
        yield
    except SignerError as error:
        if together or folder.exists() or latest_step(folder.parent) is None:
            raise
        raise Replaced(
            f"{folder}: was replaced by a newer checkpoint while it was read: the run is trained on; run the same "
            "command again when that has ended"
        ) from error


def read_sizes(directory: str | Path) -> dict[str, int]:
    """How many numbers each parameter has that a stage trained, by its path, of its newest checkpoint; none is read.

    Raises `SignerError` as `read_params`.
    """
    return _sizes(read_about(_newest(absolute(directory))))


def read_sizes_beside(
    directory: str | Path, beside: Mapping[str, str | Path], place: Place | None, step: int
) -> dict[str, int]:
    """`read_sizes` of the checkpoint of a step, where it belongs to the published weights in the folders `beside`; by
    the processes that `read_params` with this `place`.

    Raises `SignerError` where it belongs to others, and `Replaced` where it has gone.
    """
    folder, together = absolute(directory) / str(step), _reads_together(place)
    with _while_there(folder, together):
        about = _about(folder, together)
    check_base(folder, about.get("base", {}), beside)
    return _sizes(about)


def _sizes(about: dict) -> dict[str, int]:
    arrays = about["arrays"]
    return {
        name.removeprefix("params/"): math.prod(array["shape"])
        for name, array in arrays.items() if name.startswith("params/")
    }  # fmt: skip


def _reads_together(place: Place | None) -> bool:
    """Whether all processes read, each its own shards, or one by itself."""
    return place is not None and not place("", ()).is_fully_addressable


def _read_params(
    folder: Path, place: Place | None, kinds: Mapping[str, np.dtype] | None, together: bool = False
) -> Any:
    described_as = _about(folder, together)["arrays"]
    key = "ema" if any(name.startswith("ema/") for name in described_as) else "params"
    arrays = {
        name: array for name, array in described_as.items()
        if name.startswith(f"{key}/") and (kinds is None or name.removeprefix(f"{key}/") in kinds)
    }  # fmt: skip
    _check_pieces(folder, arrays, together)
    path = epath.Path(folder / "state")
    with only_errors(), closing(ocp.PyTreeCheckpointHandler()) as handler:
        with _for_all(folder, together), readable(folder):
            whole = flatten_dict({key: handler.metadata(path).tree[key]}, sep="/")
            item = {name: leaf for name, leaf in whole.items() if kinds is None or name in arrays}
            check_claims(folder, unflatten_dict(item, sep="/"), arrays)

        def there(path: Any, array: Any) -> ocp.RestoreArgs:
            if place is None:
                return ocp.RestoreArgs(restore_type=np.ndarray)
            return ocp.ArrayRestoreArgs(sharding=place(path_name(path[1:]), tuple(array.shape)))

        found: dict[str, Any] = {}
        for names in _groups(arrays, {} if kinds is None else {f"{key}/{name}": of for name, of in kinds.items()}):
            some = unflatten_dict({name: item[name] for name in names}, sep="/")
            how = jax.tree_util.tree_map_with_path(there, some)
            asked = ocp.args.PyTreeRestore(item=some, restore_args=how, partial_restore=True)
            with _for_all(folder, together), readable(folder, whole=True):
                restored = handler.restore(path, args=asked)
            sums = described(restored)
            with _for_all(folder, together):
                check_sums(folder, {name: arrays[name] for name in names}, sums)
            for name, value in flatten_dict(restored[key], sep="/").items():
                found[name] = value if kinds is None else partitioning.as_type(value, kinds[name])
    return unflatten_dict(found, sep="/")


def _groups(arrays: Mapping[str, dict], kinds: Mapping[str, np.dtype]) -> list[list[str]]:
    """The arrays' names, those together that are read at a time: some that are rounded, and all that are not."""
    rounded = {
        name: math.prod(array["shape"]) * np.dtype(array["dtype"]).itemsize
        for name, array in arrays.items() if name in kinds and np.dtype(array["dtype"]) != kinds[name]
    }  # fmt: skip
    whole = [name for name in arrays if name not in rounded]
    return [*([whole] if whole else []), *grouped(rounded, _TOGETHER)]


@jax.jit
def _towards(means: Params, read: Params, share: float) -> Params:
    """The means with one more counted, which has this share of them."""
    return {name: mean + share * (read[name] - mean) for name, mean in means.items()}


def _latest(directory: Path, together: bool) -> int | None:
    """The newest step, to all that read `together` as the first lists it: each may see another state of the folder."""
    step = max(steps_of(directory), default=-1)
    step = first_says(step) if together else step
    return None if step < 0 else step


def _newest(directory: Path, together: bool = False) -> Path:
    step = _latest(directory, together)
    if step is None:
        raise _no_checkpoint(directory)
    return directory / str(step)


def _no_checkpoint(directory: Path) -> SignerError:
    return SignerError(f"{directory}: holds no checkpoint; train this stage first")


def _about(folder: Path, together: bool = True) -> dict:
    """What a checkpoint says of itself, to all that read `together` as the first reads it. The others go on when they
    see all of its files: what is not there yet is no damage.
    """
    if not together or jax.process_count() == 1:
        return read_about(folder)

    def read() -> dict:
        try:
            return {"about": read_about(folder), "files": _files(folder)}
        except Damaged as damage:
            return {"damage": damage.found}

    told = first_tells("checkpoint", read)
    if "damage" in told:
        raise Damaged(folder, told["damage"])
    seen(str(folder), lambda: told["files"].items() <= _files(folder).items())
    return told["about"]


def _files(folder: Path) -> dict[str, int]:
    """The sizes of its files, by their places in it; none where they cannot be listed just now."""
    try:
        return {file.relative_to(folder).as_posix(): size for file, size in sizes(folder).items()}
    except OSError:
        return {}


def _check_pieces(folder: Path, arrays: Mapping[str, dict], together: bool = True) -> None:
    """Raises `Damaged` where the stored pieces of these arrays are not as they are written here (`pieces`).

    Of processes that read `together` each looks at its share of the arrays.
    """
    share = (jax.process_index(), jax.process_count()) if together else (0, 1)
    with _for_all(folder, together), readable(folder):
        sizes = {name: math.prod(array["shape"]) for name, array in arrays.items()}
        pieces.check_arrays(pieces.values(folder / "state"), pieces.arrays(sizes, *share))


@contextmanager
def _for_all(folder: Path, together: bool = True) -> Iterator[None]:
    """What one process finds is so for all that read `together`: they go the same way, on or to the same error.

    Nothing in it may wait for other processes, as Orbax's checkpointers do: its handlers do not.
    """
    error = None
    try:
        yield
    except SignerError as found:
        error = found
    if together and jax.process_count() > 1:
        kinds = process_allgather(np.array([isinstance(error, Damaged), error is not None], np.int32))
        if (kinds[:, 1] > kinds[:, 0]).any() and (error is None or isinstance(error, Damaged)):
            raise Trouble(f"{folder}: another process cannot read this checkpoint; look at its own message") from error
        if kinds.any() and error is None:
            raise Damaged(folder, "is damaged (as another process reads it)")
    if error is not None:
        raise error
