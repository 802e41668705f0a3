"""The one place that knows Orbax: a stage's checkpoints hold what it trains, optimizer, step, RNG and data position.

`<workdir>/checkpoints/<stage>/<step>/state` is the tree of arrays, `…/about` says what it holds: each array's type,
shape and checksum, and the data's position. A checkpoint whose bytes have changed is told from one that belongs to
another model, and neither is ever loaded. Of a run in a bucket they lie there (`mirror.checkpoints`).
"""

import itertools
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.experimental.multihost_utils import process_allgather
from orbax.checkpoint._src.multihost import multihost as coordination
from orbax.checkpoint.checkpoint_managers import PreservationPolicy

from signer_jax import bucket_lock, outside
from signer_jax.distributed import check_all_are_there, first_says, longest_wait, wait_for_all
from signer_jax.errors import Absent, SignerError, Trouble
from signer_jax.interop.names import Place
from signer_jax.json_files import LISTS, check_bounds
from signer_jax.mirror import holding, is_url, reaching
from signer_jax.outside import reason_of
from signer_jax.training import partitioning, pieces
from signer_jax.training.base import Base, base_of, is_base
from signer_jax.training.base import check as check_base
from signer_jax.training.contents import (
    check_claims,
    check_same_arrays,
    check_sums,
    described,
    describes,
    sealed,
    shapes,
)
from signer_jax.training.damage import MOVE, Damaged, readable, short, without_stragglers
from signer_jax.training.partitioning import path_name

_NOTES = ("_CHECKPOINT_METADATA", "about/metadata", "state/_METADATA", "state/_sharding", "state/array_metadatas/*")
_OUTSIDE = "move what it leads to here, or take it away"
_TOGETHER = 1 << 30  # bytes of parameters that are read before they are rounded


class Checkpoints:
    """The checkpoints of one stage; saves are asynchronous and atomic. A context: its end waits for what was begun."""

    def __init__(
        self, directory: str | Path, keep: int = 1, best: bool = False,
        beside: Mapping[str, str | Path] | None = None,
    ):  # fmt: skip
        """Keeps the last `keep`, with `best` also the one of the lowest loss (`save`).

        `beside`: the folders of the published weights that what is trained stands beside, by their parts' paths.
        """
        self.beside = beside or {}
        self._base: Base | None = None
        self.directory = _absolute(directory)
        _check_tree(self.directory)
        seconds = math.ceil(60 * longest_wait(os.environ))
        if jax.process_count() > 1:  # Orbax's threads meet within five minutes, and it has no public form for more
            coordination._DEFAULT_BARRIER_TIMEOUT = seconds
        # A save that was cut short never gets its final name; what is left of it is swept here, under the run's lock.
        self._best, self._losses = best, _losses(self.directory) if best else {}
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_LastAndBest(keep, self._losses),
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(timeout_secs=seconds),
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

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

    def latest(self) -> int | None:
        """The newest complete step, or None, as the first process finds it. Every process calls it."""
        step = first_says(max(_steps(self.directory), default=-1))
        return None if step < 0 else step

    def save(self, step: int, state: Any, iterator: grain.DatasetIterator, loss: float | None = None) -> None:
        """Starts a save; an earlier one is waited for first. Raises `SignerError` where that one failed.

        `loss` says how good the state is, the same number in every process; without it is never the best. Raises
        `Trouble` where the stage's folder has gone: Orbax would make it anew, in a workdir that nothing can resume; and
        where the run's lock in a bucket is another's by now.
        """
        if is_url(self.directory):
            _check_lock(self.directory)
        if not (is_url(self.directory) or self.directory.is_dir()):  # by its name: a mount gives new inode numbers
            raise Trouble(
                f"{self.directory}: has gone since the run began, so step {step} is not saved; mount the workdir "
                "again, or put it back, then run the same command"
            )
        about: dict[str, Any] = {"data": iterator.get_state(), "arrays": described(state)}
        if loss is not None:
            about["loss"] = loss
        if self._best and loss is not None:
            self._losses[step] = loss
        if self.beside and jax.process_index() == 0:  # which alone writes it
            self._base = self._base or base_of(self.beside)
            about["base"] = self._base
        about = sealed(about)
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about))
        with self._saving():
            self._manager.save(step, args=items)

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
                self._manager.reload()

    def _restore(self, folder: Path, abstract_state: Any, iterator: grain.DatasetIterator) -> Any:
        with _for_all(folder):
            about = _read_about(folder)
            check_base(folder, about.get("base", {}), self.beside)
            if self.beside and jax.process_index() == 0:
                self._base = base_of(self.beside, about.get("base"))
            check_same_arrays(folder, about["arrays"], shapes(abstract_state))
        _check_pieces(folder, about["arrays"])
        with _alone(), readable(folder, whole=True):
            restored = self._manager.restore(
                int(folder.name), args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
            )
        check_sums(folder, about["arrays"], described(restored["state"]))
        try:
            iterator.set_state(about["data"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise Damaged(folder, f"is damaged (its place in the data is none: {short(error)})") from error
        return restored["state"]

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


def _check_lock(directory: Any) -> None:
    """Raises `Trouble` in every process where the first, which holds the run's lock in a bucket, has lost it."""
    lost = None
    try:
        bucket_lock.check()
    except Trouble as error:
        lost = error
    if first_says(lost is not None):
        raise lost or Trouble(f"{directory}: the first process says why nothing more is saved")


@dataclass(frozen=True)
class _LastAndBest(PreservationPolicy):
    """Which checkpoints stay when another one comes. `losses`, of those among which the best is sought, grows as they
    are saved.
    """

    last: int
    losses: Mapping[int, float]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [info.step for info in checkpoints]
        best = min((step for step in steps if step in self.losses), key=lambda step: self.losses[step], default=None)
        return [step == best or step in sorted(steps)[-self.last :] for step in steps]


def _losses(directory: Path) -> dict[int, float]:
    """Of the checkpoints that are there, each that says one and whose list is whole."""
    found = {}
    for step in _steps(directory):
        try:
            loss = _read_about(directory / str(step)).get("loss")
        except SignerError:
            continue  # told where it is read for its arrays
        if isinstance(loss, float) and math.isfinite(loss):
            found[step] = loss
    return found


def latest_step(directory: str | Path) -> int | None:
    """The newest complete step in a stage's folder, or None; writes nothing."""
    return max(_steps(directory), default=None)


def _steps(directory: str | Path) -> list[int]:
    folder = _absolute(directory)
    # In a bucket, where nothing is renamed, a save has its name from its beginning, and this file at its end.
    found = holding(folder, "commit_success.txt") if is_url(folder) else folder.glob("*")
    return [int(path.name) for path in found if path.name.isdecimal() and path.name.isascii()]


def _absolute(directory: str | Path) -> Any:
    return directory if is_url(directory) else Path(directory).absolute()


def _check_tree(folder: Path) -> None:
    if not is_url(folder):  # a bucket has no links
        outside.check_tree(folder, _OUTSIDE)


def pass_over(damage: Damaged) -> None:
    """Sets a damaged checkpoint aside, to `STEP.damaged`, so that the one before it is the newest, and says so.

    Every process calls it. Raises `damage` where there is none before it.
    """
    folder = damage.folder
    before = first_says(max((step for step in _steps(folder.parent) if step < int(folder.name)), default=-1))
    if before < 0:
        raise damage
    if jax.process_index() == 0:
        aside = _set_aside(damage)
        print(f"signer: {damage.what}; it is now {aside.name}, and step {before} is gone on from", file=sys.stderr)
    wait_for_all("damaged checkpoint")


def leave_behind(damage: Damaged) -> NoReturn:
    """`pass_over` by one of several processes alone: sets the checkpoint aside and ends, so that all start again.

    Raises `Absent`, or `damage` where there is none before it.
    """
    before = max((step for step in _steps(damage.folder.parent) if step < int(damage.folder.name)), default=-1)
    if before < 0:
        raise damage
    with suppress(FileNotFoundError):  # another process met it too
        _set_aside(damage)
    raise Absent(f"{damage.what}; it is set aside, start all processes again to go on from step {before}") from damage


def _set_aside(damage: Damaged) -> Path:
    folder = damage.folder
    names = (f"{folder.name}.damaged{f'-{k}' if k else ''}" for k in itertools.count())
    taken = (lambda path: path.exists()) if is_url(folder) else os.path.lexists
    try:
        with reaching(folder):
            aside = next(folder.parent / name for name in names if not taken(folder.parent / name))
            with suppress(FileNotFoundError):
                return folder.rename(aside)
    except OSError as error:
        said = f"{damage.what}, and cannot be set aside ({reason_of(error)}); {MOVE}"
        raise outside.told(error, said) from None
    raise FileNotFoundError(str(folder))


def read_params(directory: str | Path, place: Place | None = None, kinds: Mapping[str, np.dtype] | None = None) -> Any:
    """What a stage trained, of its newest checkpoint, whatever devices saved it; nothing else is read.

    Numpy arrays, or with `place` arrays on the devices, of which each process reads what its own hold. Where the stage
    keeps a running mean of it, that mean. What it did not train is in no checkpoint of its. `kinds` names those that
    are read, by path, and their types (needs `place`); where they are rounded, some are read at a time.

    Raises `SignerError` where there is no checkpoint, it cannot be read, or is damaged.
    """
    whole = _absolute(directory)
    folder = _newest(whole)
    try:
        return _read_params(folder, place, kinds)
    except SignerError:
        # A training run that goes on may have replaced the checkpoint while it was read.
        if folder.exists() or latest_step(whole) is None:
            raise
        return _read_params(_newest(whole), place, kinds)


def read_sizes(directory: str | Path) -> dict[str, int]:
    """How many numbers each parameter has that a stage trained, by its path, of its newest checkpoint; none is read.

    Raises `SignerError` as `read_params`.
    """
    return _sizes(_read_about(_newest(_absolute(directory))))


def read_sizes_beside(directory: str | Path, beside: Mapping[str, str | Path]) -> dict[str, int]:
    """`read_sizes`, where the checkpoint belongs to the published weights in the folders `beside`.

    Raises `SignerError` where it belongs to others.
    """
    folder = _newest(_absolute(directory))
    about = _read_about(folder)
    check_base(folder, about.get("base", {}), beside)
    return _sizes(about)


def _sizes(about: dict) -> dict[str, int]:
    arrays = about["arrays"]
    return {
        name.removeprefix("params/"): math.prod(array["shape"])
        for name, array in arrays.items() if name.startswith("params/")
    }  # fmt: skip


def _read_params(folder: Path, place: Place | None, kinds: Mapping[str, np.dtype] | None) -> Any:
    together = place is not None and not place("", ()).is_fully_addressable  # all processes read, each its own shards
    with _for_all(folder, together):
        described_as = _read_about(folder)["arrays"]
    key = "ema" if any(name.startswith("ema/") for name in described_as) else "params"
    arrays = {
        name: array for name, array in described_as.items()
        if name.startswith(f"{key}/") and (kinds is None or name.removeprefix(f"{key}/") in kinds)
    }  # fmt: skip
    _check_pieces(folder, arrays, together)
    path = folder / "state"
    with readable(folder), _only_errors(), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        whole = flatten_dict({key: checkpointer.metadata(path).item_metadata.tree[key]}, sep="/")
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
            with readable(folder, whole=True):
                restored = checkpointer.restore(
                    path, args=ocp.args.PyTreeRestore(item=some, restore_args=how, partial_restore=True)
                )
            check_sums(folder, {name: arrays[name] for name in names}, described(restored))
            for name, value in flatten_dict(restored[key], sep="/").items():
                found[name] = value if kinds is None else partitioning.as_type(value, kinds[name])
    return unflatten_dict(found, sep="/")


def _groups(arrays: Mapping[str, dict], kinds: Mapping[str, np.dtype]) -> list[list[str]]:
    """The arrays' names, those together that are read at a time: some that are rounded, and all that are not."""
    rounded = [name for name in arrays if name in kinds and np.dtype(arrays[name]["dtype"]) != kinds[name]]
    groups: list[list[str]] = [[name for name in arrays if name not in rounded]]
    size = _TOGETHER
    for name in rounded:
        bytes_ = math.prod(arrays[name]["shape"]) * np.dtype(arrays[name]["dtype"]).itemsize
        if size + bytes_ > _TOGETHER:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += bytes_
    return [group for group in groups if group]


def _newest(directory: Path) -> Path:
    step = latest_step(directory)
    if step is None:
        raise _no_checkpoint(directory)
    return directory / str(step)


def _no_checkpoint(directory: Path) -> SignerError:
    return SignerError(f"{directory}: holds no checkpoint; train this stage first")


def _read_about(folder: Path) -> dict:
    _check_tree(folder)
    if not (folder / "about").is_dir():
        raise Damaged(folder, "does not say what it holds (no 'about')")
    with readable(folder):
        for note in _NOTES:  # which Orbax parses whole
            for file in folder.glob(note):
                with file.open("rb") as data:
                    check_bounds(data.read(LISTS + 1), LISTS)
    with readable(folder), ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        about = dict(checkpointer.restore(folder / "about"))
    seal = about.pop("seal", None)
    if seal != sealed(about)["seal"]:
        raise Damaged(folder, "is damaged (what it says of itself has changed)")
    arrays = about.get("arrays")
    if "data" not in about or not isinstance(arrays, dict) or not all(map(describes, arrays.values())):
        raise Damaged(folder, "is damaged (it lists no arrays, or no place in the data)")
    if not is_base(about.get("base", {})):
        raise Damaged(folder, "is damaged (it does not say which weights it belongs to)")
    return about


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
    """What one process finds damaged is damaged for all that read `together`: they go the same way."""
    damage = None
    try:
        yield
    except Damaged as found:
        damage = found
    if together and jax.process_count() > 1 and process_allgather(np.int32(damage is not None)).any():
        damage = damage or Damaged(folder, "is damaged (as another process reads it)")
    if damage is not None:
        raise damage


@contextmanager
def _alone() -> Iterator[None]:
    """Around reading by several processes, each its own shards: damage that one meets ends the run, as the others wait
    for it there.
    """
    try:
        yield
    except Damaged as damage:
        if jax.process_count() == 1:
            raise
        raise Trouble(str(damage)) from damage


@contextmanager
def _only_errors() -> Iterator[None]:
    """Orbax warns when one item of a checkpoint is read alone; the user asked for nothing else."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
