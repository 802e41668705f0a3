"""A checkpoint's stored pieces: what one may unpack to is told before it is unpacked."""

import json
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from fuzz import files, memory

from signer_jax.errors import SignerError
from signer_jax.packed import most_unpacked
from signer_jax.training import checkpoints, pieces
from signer_jax.training.checkpoints import Checkpoints, read_params


def _packed(size: int) -> bytes:
    """A zstd frame of so many zeros."""
    kind = {"shape": [size], "chunks": [size], "dtype": "|u1", "compressor": {"id": "zstd", "level": 1}}
    spec = {"driver": "zarr", "kvstore": {"driver": "memory"}, "metadata": {**kind, "fill_value": 1}}
    array = tensorstore.open(spec, create=True, context=tensorstore.Context()).result()
    array.write(np.zeros(size, np.uint8)).result()
    return array.kvstore.read("0").result().value


@pytest.fixture(scope="module")
def large() -> bytes:
    return _packed(300 << 20)


def _forged(folder: Path, key: str, value) -> Path:
    """A checkpoint in which another value stands for one of its database; `value` is made of the old one."""
    with Checkpoints(folder / "part") as saved:
        params = {"part": {"kernel": jnp.ones((8, 16)), "bias": jnp.ones(16)}}
        state = {"params": params, "step": jnp.int32(1), "many": [jnp.ones(3), jnp.ones((2, 2))]}
        saved.save(1, state, files._Place())  # type: ignore[arg-type]
    state = folder / "part" / "1" / "state"
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{state}/"}).result()
    store.write(key, value(store.read(key).result().value)).result()
    return folder / "part"


def _about(**changes):
    return lambda old: json.dumps({**json.loads(old), **changes}).encode()


@pytest.mark.parametrize(
    ("key", "change", "says"),
    [
        ("params.part.kernel/0.0", lambda large: lambda old: large, "may unpack to"),
        ("params.part.bias/.zarray", lambda large: _about(chunks=[10**9]), "cut into pieces of"),
        ("params.part.bias/.zarray", lambda large: _about(compressor={"id": "zlib", "level": 1}), "is packed by"),
        ("params.part.bias/0", lambda large: lambda old: old[:-1], "zstd frame"),
        ("params.part.bias/0", lambda large: lambda old: old + b"\0", "zstd frame"),
    ],
)
def test_a_piece_unpacks_to_no_more_than_it_holds(tmp_path, large, key, change, says):
    """tensorstore unpacks each to its end, whatever it should hold."""
    folder = _forged(tmp_path, key, change(large))
    said = []

    def refused() -> None:
        with pytest.raises(SignerError, match=says) as error:
            read_params(folder)
        said.append(str(error.value))

    assert memory.grown(refused) < 100 << 20
    assert "is damaged" in said[0] and "move that folder away" in said[0]


def _node(packed: bytes) -> bytes:
    return b"\x0c\xdb\x20\xde" + (len(packed) + 18).to_bytes(8, "little") + b"\0\1" + packed + bytes(4)


def test_a_node_unpacks_to_little(tmp_path, large, monkeypatch):
    """Of those that the database names, its list of versions among them; another file's bytes are read by nobody."""
    folder = _forged(tmp_path, "params.part.bias/0", lambda old: old)
    state, dump = folder / "1" / "state", tensorstore.ocdbt.dump
    (state / "d" / "x").write_bytes(_node(large))
    read_params(folder)

    def forged(base, *place, **options):
        if place:
            return dump(base, *place, **options)
        root = {"location": f"btreenode::d/x:0:{len(large) + 18}"}
        return SimpleNamespace(result=lambda: {"versions": [{"root": root}]})

    monkeypatch.setattr(tensorstore.ocdbt, "dump", forged)

    def refused() -> None:
        with pytest.raises(SignerError, match=r"byte 0 of x, unpacks to more than 64 MB"):
            read_params(folder)

    assert memory.grown(refused) < 100 << 20
    monkeypatch.undo()
    (state / "manifest.ocdbt").write_bytes(_node(large))
    with pytest.raises(SignerError, match=r"byte 0 of manifest.ocdbt, unpacks to more than 64 MB"):
        read_params(folder)


def test_values_are_found_however_many_nodes_there_are(tmp_path):
    """Keys in a node lack what all in it begin with."""
    config = {"max_decoded_node_bytes": 200, "max_inline_value_bytes": 4}
    base = f"file://{tmp_path}/"
    written = tensorstore.KvStore.open({"driver": "ocdbt", "base": base, "config": config}).result()
    wanted = {f"params.a{k:03d}/0": bytes([k]) * (2 + 10 * (k % 2)) for k in range(40)}
    with tensorstore.Transaction() as all_at_once:
        for key, value in wanted.items():
            written.with_transaction(all_at_once)[key] = value
    found = pieces.values(tmp_path)
    assert {key: one if isinstance(one, bytes) else one.read() for key, one in found.items()} == wanted
    for place in ("value:../:manifest.ocdbt:0:1", "value::d/none:0:1", "value::manifest.ocdbt:0:9999999"):
        with pytest.raises(ValueError, match="has no"):
            pieces._placed(tmp_path, {tmp_path / "manifest.ocdbt": 100}, place)


def test_a_checkpoint_is_read_once(tmp_path):
    """By resuming and by whoever opens a run, checks included: by the kernel's count of what was read."""
    numbers = np.random.default_rng(0).integers(0, 2**32, (2, 1 << 20), np.uint32)
    state = {"params": {"part": {"kernel": jnp.asarray(numbers)}}, "step": jnp.int32(1)}

    def read() -> int:
        text = Path("/proc/self/io").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("rchar"))

    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state)
    taken = []
    with Checkpoints(tmp_path / "part") as saved:
        saved.save(1, state, files._Place())  # type: ignore[arg-type]
        saved.wait()
        for work in (lambda: saved.restore(shapes, files._Place()), lambda: read_params(tmp_path / "part")):
            before = read()
            found = work()
            taken.append((read() - before) / numbers.nbytes)
            np.testing.assert_array_equal(jax.tree.leaves(found)[0], numbers)
    assert all(1 <= times < 1.2 for times in taken), taken


def test_processes_share_out_what_they_look_at(tmp_path, monkeypatch):
    _forged(tmp_path, "params.part.bias/0", lambda old: old)
    names = {f"a{k}": k % 3 for k in range(7)}
    for count in (2, 3):
        shares = [pieces.arrays(names, k, count) for k in range(count)]
        assert sorted(chain(*shares)) == sorted(names) and max(map(len, shares)) <= -(-len(names) // count)

    looked = []

    def look(_, names):
        looked.append(sorted(names))
        raise ValueError("enough")

    def spread(several):
        """A place whose devices belong to several processes, or to one."""
        return lambda name, shape: SimpleNamespace(is_fully_addressable=not several)

    about = checkpoints.read_about(tmp_path / "part" / "1")
    monkeypatch.setattr(checkpoints, "read_about", lambda _: about)
    monkeypatch.setattr(checkpoints, "check_same_arrays", lambda *_: None)
    monkeypatch.setattr(checkpoints, "process_allgather", np.atleast_2d)
    monkeypatch.setattr(checkpoints, "first_says", lambda number: number)
    monkeypatch.setattr(checkpoints, "first_tells", lambda what, make: make())
    monkeypatch.setattr(pieces, "check_arrays", look)
    with Checkpoints(tmp_path / "part") as saved:
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        for k in range(2):
            monkeypatch.setattr(jax, "process_index", lambda k=k: k)
            with pytest.raises(SignerError, match="enough"):
                saved._restore(tmp_path / "part" / "1", {}, files)
        # What a stage trained, when another one begins.
        trained = {name for name in about["arrays"] if name.startswith("params/")}
        for k in range(2):
            monkeypatch.setattr(jax, "process_index", lambda k=k: k)
            for place in (spread(True), spread(False)):
                with pytest.raises(SignerError, match="enough"):
                    read_params(tmp_path / "part", place)
        monkeypatch.undo()
    assert sorted(chain(*looked[:2])) == sorted(about["arrays"]) and all(looked)
    assert sorted(looked[2] + looked[4]) == looked[3] == looked[5] == sorted(trained)  # one alone looks at all


def test_a_frame_holds_what_its_blocks_say(large):
    for size in (1, 100, 70_000, 1_000_000):
        assert size <= most_unpacked(_packed(size)) <= 4 * size + (1 << 18)
    assert 300 << 20 <= most_unpacked(large) <= 600 << 20 and len(large) < 100_000
    for frame in (b"", large[:4], large[:-1], large[:1000], large + b"\0", b"x" * 40):
        with pytest.raises(ValueError, match="zstd frame"):
            most_unpacked(frame)
