"""ArrayRecord files: what would unpack to more than its bytes can mean is refused before it is unpacked."""

import os
import resource

import msgpack
import numpy as np
import pytest
from array_record.python import array_record_data_source, array_record_module
from fuzz import memory

from signer_jax import storage
from signer_jax.data import shard_index, shards
from signer_jax.errors import SignerError, Trouble


def write(path, records, options="group_size:1,zstd:1"):
    writer = array_record_module.ArrayRecordWriter(str(path), options)
    for record in records:
        writer.write(record)
    writer.close()


def line(function, *arguments) -> str:
    with pytest.raises(SignerError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def shard(path):
    return shards.Shard(path, bytes, storage.REMAKE)


@pytest.mark.parametrize("sizes", [[0], [10, 70_000, 0, 200_000, 5], [65_000] * 9, list(range(65_380, 65_560, 7)), []])
def test_the_chunks_are_walked_to_the_end(tmp_path, sizes):
    """Through the headers that stand at each 64 KiB, wherever chunks begin and end."""
    rng = np.random.default_rng(0)
    records = [rng.bytes(size) for size in sizes]
    write(tmp_path / "x", records)
    assert shards.check_chunks(tmp_path / "x") >= len(sizes)
    opened = shard(tmp_path / "x")
    assert [opened[i] for i in range(len(opened))] == records
    data = (tmp_path / "x").read_bytes()
    for cut in (len(data) - 1, 70, 30):
        (tmp_path / "y").write_bytes(data[:cut])
        with pytest.raises(ValueError):
            shards.check_chunks(tmp_path / "y")


def test_what_grows_too_far_is_not_unpacked(tmp_path):
    write(tmp_path / "x", [b"whole", bytes(200 << 20)])  # in 20 kB
    assert (tmp_path / "x").stat().st_size < 200_000
    messages = []
    assert memory.grown(lambda: messages.append(line(shard, tmp_path / "x"))) < 50 << 20
    assert "would unpack to 2097" in messages[0] and str(tmp_path / "x") in messages[0]
    write(tmp_path / "x", [b"one"])
    data = bytearray((tmp_path / "x").read_bytes())
    assert data[88:90] == b"r\x01"  # the first chunk's kind and number of records
    data[89:92] = (12_000_000).to_bytes(3, "little")  # each takes a word of its own
    (tmp_path / "x").write_bytes(data)
    assert "would unpack to" in line(shard, tmp_path / "x")


def test_what_may_be_meant_is_read(tmp_path):
    black = bytes(60 << 20)  # 300 frames of 256 pixels
    with shards.new_shard(tmp_path / "x") as append:
        append(black)
    assert shard(tmp_path / "x")[0] == black


def test_the_writer_refuses_what_no_reader_takes(tmp_path, monkeypatch):
    with pytest.raises(SignerError, match="would unpack to"), shards.new_shard(tmp_path / "x") as append:
        append(bytes(70 << 20))
    monkeypatch.setattr(shards, "MOST_BYTES", 1000)
    assert "'clip' takes" in line(shards.pack, {"name": "clip", "video": np.zeros(1000, np.uint8)})
    record = msgpack.packb({"a": bytes(1000)})
    with pytest.raises(ValueError, match="more than"):
        shards.unpack(record)
    write(tmp_path / "x", [np.random.default_rng(0).bytes(2000)])
    assert "would unpack to 20" in line(shard, tmp_path / "x")


def _ext(shape, name, values, code=1):
    return msgpack.packb({"a": msgpack.ExtType(code, msgpack.packb((shape, name, values), use_bin_type=True))})


def test_values_come_back():
    tree = {
        "text": "Ä", "none": "", "rate": 25.0, "count": 3, "inside": {"0": {"x": np.arange(6).reshape(2, 3)}},
        **{name: np.ones((2, 0, 3), name) for name in ("float32", "float64", "int32", "uint8", "bool")},
    }  # fmt: skip
    back = shards.unpack(shards.pack(tree))
    assert back.keys() == tree.keys() and back["inside"]["0"]["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    for name, value in tree.items():
        if isinstance(value, np.ndarray):
            assert back[name].dtype == value.dtype and back[name].shape == value.shape
        elif name != "inside":
            assert back[name] == value


@pytest.mark.parametrize(
    "record",
    [
        msgpack.packb([1, 2]), msgpack.packb(3), msgpack.packb({"a": [None] * 10}), b"\xdd\x7f\xff\xff\xff",
        msgpack.packb({str(i): None for i in range(100_001)}), _ext((2,), "object", bytes(16)),
        _ext((2,), "float16", bytes(4)), _ext((3,), "float32", bytes(8)), _ext((-1, 0), "float32", b""),
        _ext((1,) * 9, "float32", bytes(4)), _ext([[2]], "float32", bytes(8)), _ext((2,), "float32", [1, 2]),
        _ext((2,), "float32", bytes(8), code=3), _ext((2,), "float32", bytes(8), code=2), b"\x81\xa1a" * 5000, b"",
    ],
    ids=lambda record: record[:12].hex(),
)  # fmt: skip
def test_a_record_of_another_form_is_refused(record):
    with pytest.raises(shards.BROKEN):
        shards.unpack(record)


def test_a_long_list_in_a_record_takes_no_memory():
    record = msgpack.packb({"a": [None] * 10_000_000})  # 10 MB, and 80 as a list

    def refused():
        with pytest.raises(shards.BROKEN):
            shards.unpack(record)

    assert memory.grown(refused) < 10 << 20


def _maps(depth, inside):
    """Maps of 90 values, the last of which is the next map."""
    head = b"\xde\x00\x5a" + b"".join(msgpack.packb(str(i)) + b"\xc0" for i in range(89)) + b"\xa1z"
    return head * depth + inside


@pytest.mark.parametrize(
    "record",
    [
        msgpack.packb({"a": {str(i): {str(j): {} for j in range(300)} for i in range(3000)}}),
        _maps(900, msgpack.packb({str(i): {} for i in range(90_000)})) + b"\xc0" * 500_000,
        msgpack.packb({"a": msgpack.ExtType(1, b"\x98" * 400_000)}),
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb([[[[[[[[[]] * 8] * 8] * 8] * 8] * 8] * 8] * 8, "", 1]))}),
    ],
    ids=["wide", "deep", "no end", "lists"],
)  # fmt: skip
def test_maps_in_maps_take_no_memory(record):
    """The library's limit is a map's: together they were 426 MB from a record of 700 kB."""

    def refused():
        with pytest.raises(ValueError, match="items|shape is no numbers"):
            shards.unpack(record)

    assert memory.grown(refused) < 10 << 20


def test_every_kind_of_value_is_walked():
    """As the library steps over it: a map behind each is found."""
    sizes = [0, 1, 31, 32, 255, 256, 65_535, 65_536]
    values = [None, True, False, 1.5, *(sign * 2**k for k in range(0, 64, 3) for sign in (1, -1) if k < 63)]
    for size in sizes:
        values += [bytes(size), "x" * size, msgpack.ExtType(5, bytes(size))]
    values += [msgpack.ExtType(5, bytes(size)) for size in (2, 4, 8, 16)] + [np.float32(1), {}, {"x": {"y": 1}}]
    packed = [msgpack.packb(value, default=float) for value in values] + [b"\xca" + bytes(4), b"\xd9\x01a"]
    for value in packed:
        record = b"\x82\xa1a" + value + b"\xa1b" + b"\xdf" + (100_000).to_bytes(4, "big") + bytes(100_000)
        with pytest.raises(ValueError, match="more than 100000 items"):
            shards.unpack(record)
        shards._check_items(record, 200_000, lists=False)


@pytest.mark.parametrize("value", [[], [1], {"b": []}, [[]]])
def test_a_record_holds_no_list(value):
    for more in (0, 200_000):
        with pytest.raises((ValueError, msgpack.UnpackException), match="list|max_array_len"):
            shards.unpack(msgpack.packb({"a": value, "text": "x" * more}))


def test_a_shard_is_a_plain_file_of_its_folder(tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path / "x", [b"a"])
    (tmp_path / "in" / "x").symlink_to(tmp_path / "x")
    assert "is a link out of its folder" in line(shard, tmp_path / "in" / "x")
    os.mkfifo(tmp_path / "in" / "pipe")
    assert "no regular file" in line(shard, tmp_path / "in" / "pipe")


def test_an_index_of_more_records_than_there_are(tmp_path, monkeypatch):
    write(tmp_path / "x", [b"a"])
    monkeypatch.setattr(array_record_data_source.ArrayRecordDataSource, "__len__", lambda self: 99)
    assert "its index names 99 records" in line(shard, tmp_path / "x")


def places_of(data: bytes) -> list[int]:
    found, place = [], 0
    while place < len(data):
        kind, records, size, _ = shards._chunk(data[place : place + 64], place)
        found += [place] if kind == ord("r") else []
        place = shards._end(place, size, records)
    return found


@pytest.mark.parametrize("length", [1, 2, 40, 3000])
def test_an_index_is_read_as_the_library_reads_it(tmp_path, length):
    rng = np.random.default_rng(0)
    write(tmp_path / "x", [rng.bytes(int(size)) for size in rng.integers(0, 300, length)])
    chunks = {place: size for place, (size, _) in shards.chunks_of(tmp_path / "x").items()}
    assert list(chunks) == places_of((tmp_path / "x").read_bytes())
    with (tmp_path / "x").open("rb") as file:
        shard_index.check(file.fileno(), chunks, (tmp_path / "x").stat().st_size)
        for gone in list(chunks)[:40]:  # whatever chunk the index leads to without its being there
            with pytest.raises(ValueError, match="no chunk begins"):
                shard_index.check(
                    file.fileno(), {k: v for k, v in chunks.items() if k != gone}, (tmp_path / "x").stat().st_size
                )


def test_few_of_many_parts_are_open(tmp_path):
    for part in range(9):
        write(tmp_path / shards.file_of("x", part), [b"%d" % part, b"and"])
    opened = [shards.Shard(tmp_path / shards.file_of("x", part), bytes, "") for part in range(9)]
    parts, before = shards.Parts(opened, most=3), len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert [parts[2 * part] for part in range(9)] == [b"%d" % part for part in range(9)]
        assert len(os.listdir("/proc/self/fd")) - before <= 3


def test_a_process_without_files_left_has_no_damaged_record(tmp_path):
    write(tmp_path / "x", [b"whole"])
    opened, limits = shard(tmp_path / "x"), resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(first := os.open(os.devnull, os.O_RDONLY))  # the lowest number that is free
    resource.setrlimit(resource.RLIMIT_NOFILE, (first, limits[1]))
    try:
        with pytest.raises(
            Trouble, match=r"x: cannot be opened: this process has too many files open; raise its limit"
        ):
            opened[0]
        with pytest.raises(Trouble):
            shard(tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert opened[0] == b"whole"
