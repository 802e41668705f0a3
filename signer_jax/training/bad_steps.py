"""Steps that are left out: how a spike is told from a usual gradient, and the batch that is kept where a run ends."""

import copy
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from signer_jax import storage
from signer_jax.errors import SignerError

_DECAY = 0.98  # of the usual norm's running mean: about fifty steps
_FIRST = 20  # steps that make the mean before anything is measured by it

Usual = dict[str, Array]


def usual_at_first() -> Usual:
    """Before the first step: the norms' running mean, and of how many it is."""
    return {"norm": jnp.zeros(()), "steps": jnp.zeros((), jnp.int32)}


def is_spike(norm: Array, usual: Usual, spike: float) -> Array:
    """Whether a gradient's norm is more than `spike` times the usual one."""
    return (usual["steps"] >= _FIRST) & (norm > spike * usual["norm"])


def usual_after(usual: Usual, norm: Array, taken: Array) -> Usual:
    """The plain mean of the first fifty norms, then the running one; of steps that were `taken`."""
    n = usual["steps"]
    kept = jnp.minimum(_DECAY, n / (n + 1.0))
    mean = kept * usual["norm"] + (1.0 - kept) * norm
    return {"norm": jnp.where(taken, mean, usual["norm"]), "steps": n + taken}


class Mean:
    """The mean loss of the steps since it was last taken, without those that were left out."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, dict[str, Array]]] = []
        self._total, self._steps = 0.0, 0

    def add(self, step: int, metrics: Mapping[str, Array]) -> None:
        """Waits for no device. `metrics` has the step's loss, its gradient's norm and whether it was `skipped`."""
        self._waiting.append((step, {name: metrics[name] for name in ("loss", "gradient_norm", "skipped")}))

    def read(self) -> list[str]:
        """Fetches what was added; what is to be said of each step that was left out."""
        left = []
        for step, values in jax.device_get(self._waiting):
            loss = float(values["loss"])
            if values["skipped"]:
                left.append(f"step {step} (loss {loss:.4g}, gradient norm {float(values['gradient_norm']):.4g})")
            elif math.isfinite(loss):
                self._total, self._steps = self._total + loss, self._steps + 1
        self._waiting = []
        return left

    def taken(self) -> float | None:
        """None of no step. It begins anew."""
        self.read()
        mean = self._total / self._steps if self._steps else None
        self._total, self._steps = 0.0, 0
        return mean


class Looked:
    """Where the data stood when the steps so far were last found to be good."""

    def __init__(self, step: int, batches: grain.DatasetIterator):
        self.step, self._batches = step, batches
        self._state = copy.deepcopy(batches.get_state())

    def keep(self, folder: Path, stage: str, step: int) -> str:
        """Reads the batch of a later step again and writes it to `folder`; what is to be said of it.

        Each process keeps the rows that it reads. A run that cannot write ends with its own message.
        """
        self._batches.set_state(self._state)
        for _ in range(self.step, step):
            batch: dict[str, Any] = next(self._batches)
        mine = f"-process{jax.process_index()}" if jax.process_count() > 1 else ""
        path = folder / f"{stage}-{step}{mine}.npz"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with storage.new_file(path) as partial, partial.open("wb") as file:
                np.savez(file, step=step, **batch)
        except (SignerError, OSError) as error:
            print(f"signer: the batch of step {step} was not kept ({error})", file=sys.stderr)
            return ""
        return f"; the batch of step {step} is kept in {path}"
