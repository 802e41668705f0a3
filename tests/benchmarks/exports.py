"""How much of a published transformer `signer export wan` has in memory at a time, counted by its shapes.

    python tests/benchmarks/exports.py [VARIANT …]

Parameters come as `export.py` asks for them, in the order in which the files are written, without a number in them:
each counts while something holds it. Printed in GB of float32, for files in float32 and in bfloat16: all of them, the
largest array, and the most that was there at once.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from signer_jax import export, model
from signer_jax.interop import shards, state_dict, wan
from signer_jax.interop.later import later
from signer_jax.renderer.variants import VARIANTS

SHOWN = ("wan2.1-t2v-1.3b", "wan2.2-t2v-a14b", "wan2.2-animate-14b")


class Counted:
    """An array's place, for as long as it is held."""

    now = most = 0

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        Counted.now += 4 * math.prod(shape)
        Counted.most = max(Counted.most, Counted.now)

    def __del__(self) -> None:
        Counted.now -= 4 * math.prod(self.shape)

    def __getitem__(self, index: object) -> np.ndarray:
        return np.broadcast_to(np.float32(0), self.shape)[index]


def counted(shapes: Mapping[str, tuple[int, ...]], paths: Sequence[str]) -> dict[str, Counted]:
    return {path: Counted(shapes[path]) for path in paths}


def main() -> None:
    for name in sys.argv[1:] or SHOWN:
        module = model.published_transformer(VARIANTS[name])
        shapes = {
            path: leaf.shape for path, leaf in sorted(flatten_dict(wan._init(module)()["params"], sep="/").items())
        }
        sizes = [4 * math.prod(shape) for shape in shapes.values()]
        for kind in ("F32", "BF16"):
            Counted.most = 0
            params = later(shapes, partial(counted, shapes), together=export._TOGETHER)
            _, tensors, rest = wan.theirs(module, unflatten_dict(params, sep="/"))
            entries = [
                shards.Entry(key, one.shape, state_dict.kind_at(one.ours, kind), one.make)
                for key, one in tensors.items()
            ]
            for group in shards.planned(entries, "model").values():
                for entry in sorted(group, key=lambda one: -shards.TYPES[one.kind].itemsize):
                    entry.pieces()
            print(
                f"{name} {kind}: {sum(sizes) / 1e9:.1f} in all, largest {max(sizes) / 1e9:.1f}, at once "
                f"{Counted.most / 1e9:.1f}, left {Counted.now / 1e9:.1f} ({len(rest)} parameters without a tensor)"
            )


if __name__ == "__main__":
    main()
