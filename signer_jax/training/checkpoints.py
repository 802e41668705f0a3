"""The one place that knows Orbax: a stage's checkpoints hold its parameters, optimizer, step, RNG and data position."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from grain.checkpoint import CheckpointRestore, CheckpointSave

from signer_jax.errors import SignerError


class Checkpoints:
    """The checkpoints of one stage, `<workdir>/checkpoints/<stage>/<step>`; saves are asynchronous and atomic."""

    def __init__(self, directory: str | Path, keep: int = 1):
        self.directory = Path(directory).absolute()
        # A save that was cut short never gets its final name; what is left of it is swept here.
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def latest(self) -> int | None:
        """The newest complete step, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, iterator: grain.DatasetIterator) -> None:
        """Starts a save; an earlier one is waited for first."""
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), data=CheckpointSave(iterator))
        self._manager.save(step, args=items)

    def restore(self, abstract_state: Any, iterator: grain.DatasetIterator) -> Any:
        """The newest state, on the shardings of `abstract_state`; `iterator` moves to where it stood.

        Raises `SignerError` where the checkpoint cannot be read or holds other shapes.
        """
        step = self.latest()
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state), data=CheckpointRestore(iterator))
        return self._read(step, items)["state"]

    def _read(self, step: int | None, items: Any) -> Any:
        if step is None:
            raise SignerError(f"{self.directory}: holds no checkpoint; train this stage first")
        with _readable(self.directory / str(step)):
            return self._manager.restore(step, args=items)

    def wait(self) -> None:
        """Returns when every save has reached the disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


def latest_step(directory: str | Path) -> int | None:
    """The newest complete step in a stage's folder, or None; writes nothing."""
    steps = [int(path.name) for path in Path(directory).glob("*") if path.name.isdigit()]
    return max(steps, default=None)


def read_params(directory: str | Path) -> Any:
    """The parameters of a stage's newest checkpoint as numpy arrays, whatever devices saved them; nothing else is read.

    Raises `SignerError` where there is no checkpoint, or it cannot be read.
    """
    directory = Path(directory).absolute()
    step = latest_step(directory)
    if step is None:
        raise SignerError(f"{directory}: holds no checkpoint; train this stage first")
    with (
        _readable(directory / str(step)),
        _only_errors(),
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer,
    ):
        path = directory / str(step) / "state"
        item = {"params": checkpointer.metadata(path).item_metadata.tree["params"]}
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
        restored = checkpointer.restore(
            path, args=ocp.args.PyTreeRestore(item=item, restore_args=as_numpy, partial_restore=True)
        )
    return restored["params"]


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


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Orbax and tensorstore raise many kinds of errors for a damaged checkpoint; all become one line."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise SignerError(
            f"{path}: this checkpoint cannot be read ({type(error).__name__}: {reason}); move that folder away to "
            "go on from the one before it, or from the stage's start"
        ) from error


def abstract(tree: Any) -> Any:
    """Shapes, dtypes and shardings of a tree of arrays, for restoring onto them."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
