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


def test_a_node_unpacks_to_little(tmp_path, large):
    folder = _forged(tmp_path, "params.part.bias/0", lambda old: old)
    read_params(folder)
    head = b"\x0c\xdb\x20\xde" + (len(large) + 18).to_bytes(8, "little") + b"\0\1"
    (folder / "1" / "state" / "d" / "x").write_bytes(b"anything" + head + large + bytes(4))
    with pytest.raises(SignerError, match=r"byte 8 of x, unpacks to more than 64 MB"):
        read_params(folder)


def test_processes_share_out_what_they_look_at(tmp_path, monkeypatch):
    state = _forged(tmp_path, "params.part.bias/0", lambda old: old) / "1" / "state"
    files, names = pieces.nodes(state), {f"a{k}": k % 3 for k in range(7)}
    for count in (2, 3):
        shares = [pieces.nodes(state, k, count) for k in range(count)]
        assert sorted(chain(*shares)) == sorted(files) and max(map(len, shares)) <= -(-len(files) // count)
        shares = [pieces.arrays(names, k, count) for k in range(count)]
        assert sorted(chain(*shares)) == sorted(names) and max(map(len, shares)) <= -(-len(names) // count)

    looked, opened = [], []

    def look(state, names):
        looked.append(sorted(names))
        raise ValueError("enough")

    def spread(several):
        """A place whose devices belong to several processes, or to one."""
        return lambda name, shape: SimpleNamespace(is_fully_addressable=not several)

    about = checkpoints._read_about(tmp_path / "part" / "1")
    monkeypatch.setattr(checkpoints, "_read_about", lambda _: about)
    monkeypatch.setattr(checkpoints, "check_same_arrays", lambda *_: None)
    monkeypatch.setattr(checkpoints, "process_allgather", np.atleast_1d)
    monkeypatch.setattr(pieces, "check_arrays", look)
    with Checkpoints(tmp_path / "part") as saved:
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        for k in range(2):
            monkeypatch.setattr(jax, "process_index", lambda k=k: k)
            with pytest.raises(SignerError, match="enough"):
                saved._restore(tmp_path / "part" / "1", {}, files)
        # What a stage trained, when another one begins.
        trained = {name for name in about["arrays"] if name.startswith("params/")}
        monkeypatch.setattr(pieces, "check_nodes", opened.append)
        for k in range(2):
            monkeypatch.setattr(jax, "process_index", lambda k=k: k)
            for place in (spread(True), spread(False)):
                with pytest.raises(SignerError, match="enough"):
                    read_params(tmp_path / "part", place)
        monkeypatch.undo()
    assert sorted(chain(*looked[:2])) == sorted(about["arrays"]) and all(looked)
    assert sorted(looked[2] + looked[4]) == looked[3] == looked[5] == sorted(trained)  # one alone looks at all
    assert sorted(opened[0] + opened[2]) == sorted(opened[1]) == sorted(opened[3]) == sorted(files) and opened[0]


def test_a_frame_holds_what_its_blocks_say(large):
    for size in (1, 100, 70_000, 1_000_000):
        assert size <= most_unpacked(_packed(size)) <= 4 * size + (1 << 18)
    assert 300 << 20 <= most_unpacked(large) <= 600 << 20 and len(large) < 100_000
    for frame in (b"", large[:4], large[:-1], large[:1000], large + b"\0", b"x" * 40):
        with pytest.raises(ValueError, match="zstd frame"):
            most_unpacked(frame)
