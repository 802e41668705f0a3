"""What an example costs beside its reading, and how fast records come from a bucket that is far away.

    python tests/benchmarks/reading.py

First the processor time of an example's place in the order and of its generator, as Grain's datasets in a row compute
them and as `streams._Examples` does. Then small records of a set in a bucket whose server waits 50 ms a request: one
after the other, and as the prior's building asks for them.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

WAIT, RECORDS, AT_ONCE = 0.05, 200, 16


def orders() -> None:
    from signer_jax.data import streams

    for count in (3_000, 31_000, 300_000):
        chosen: dict[str, Any] = {
            "one object": streams._Examples(range(count), lambda row, rng: row, 1),
            "datasets in a row": streams.endless(range(count), 1).random_map(lambda row, rng: row),
        }
        said = ", ".join(f"{name} {least(of):.1f}" for name, of in chosen.items())
        print(f"{count} examples, µs of processor time each: {said}")


def least(examples: Any, passes: int = 5, count: int = 2000) -> float:
    times = []
    for _ in range(passes):
        start = time.process_time()
        for i in range(count):
            examples[i]
        times.append((time.process_time() - start) / count * 1e6)
    return min(times)


class Far:
    """The numbers of a file's records, which are in a bucket."""

    def __init__(self, folder: Path):
        from signer_jax import mirror
        from signer_jax.data import far_shards, shards

        os.environ["SIGNER_CACHE"] = str(folder)
        place = mirror.place_of(mirror.set_of("gs://bucket/set") / "own.motion.arrayrecord")
        assert place is not None
        self.shard = far_shards.FarShard(place.path(), place, RECORDS, shards.unpack, "make it again")

    def __len__(self) -> int:
        return RECORDS

    def __getitem__(self, index) -> int:
        return self.shard[int(index)]["number"]


def far(folder: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
    import object_server

    from signer_jax.data import shards, streams
    from signer_jax.object_store import store

    with object_server.serving("bucket") as server:
        for name in ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL"):
            os.environ[name] = server.url
        with shards.new_shard(folder / "made") as write:
            for i in range(RECORDS):
                noise = np.random.default_rng(i).integers(0, 255, 20_000).astype(np.uint8)
                write(shards.pack({"name": f"{i}", "number": i, "noise": noise}))
        store().put_file(str(folder / "made"), "gs://bucket/set/own.motion.arrayrecord")
        answer = object_server.Handler.do_GET

        def late(self) -> None:
            time.sleep(WAIT)
            answer(self)

        object_server.Handler.do_GET = late
        for name in ("one", "several"):
            records = Far(folder / name)
            found: Iterator[int] = (
                (records[i] for i in range(RECORDS)) if name == "one" else streams.in_order(records, AT_ONCE)
            )
            start = time.perf_counter()
            assert list(found) == list(range(RECORDS))
            print(f"{name} at a time: {RECORDS / (time.perf_counter() - start):.1f} records a second")


if __name__ == "__main__":
    orders()
    with tempfile.TemporaryDirectory() as temporary:
        far(Path(temporary))
