"""`.npy` and `.npz`: what `np.save` writes, and nothing that claims more than is there."""

import io
import zipfile

import numpy as np
import pytest

from signer_jax.arrays import open_npy, read_npz


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2", "<i4", "<i8", "|u1", "<u2"])
@pytest.mark.parametrize("shape", [(), (5,), (0,), (2, 3, 4), (7, 0, 2)])
def test_what_numpy_writes_is_read(tmp_path, dtype, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", a=array, b=array)
    for read in (open_npy(tmp_path / "a.npy"), read_npz(tmp_path / "a.npz")["b"]):
        assert read.dtype == array.dtype and read.shape == shape
        np.testing.assert_array_equal(read, array)


def _with(header: str, body: bytes = bytes(24), version: bytes = b"\1\0") -> bytes:
    raw = header.encode() + b"\n"
    return b"\x93NUMPY" + version + len(raw).to_bytes(2 if version == b"\1\0" else 4, "little") + raw + body


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x93NUMPY", _with(GOOD)[:-1], _with(GOOD) + b"x", _with(GOOD, version=b"\4\0"),
        *(_with(GOOD.replace(*change)) for change in (
            ("<f4", "|O"), ("<f4", "<U6"), ("<f4", ">f4"), ("<f4", "|V4"), ("False", "True"), ("(6,)", "(2**3,)"),
            ("<f4", "<f1"), ("<f4", "|f1"),
            ("(6,)", "(-6,)"), ("(6,)", "(999999999999,)"), ("(6,)", "(0, 99999999999999999999)"), ("(6,)", "6"),
            ("{", "{'a': __import__('os'), "), ("}", ""), ("}", "(" * 500),
        )),
    ],
)  # fmt: skip
def test_what_numpy_does_not_write_is_refused(tmp_path, data):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(ValueError):
        open_npy(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", data)
    with pytest.raises(ValueError):
        read_npz(tmp_path / "a.npz")


def test_a_small_archive_does_not_grow(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10_000_000))
    with pytest.raises(ValueError, match="compressed"):
        read_npz(tmp_path / "a.npz")
    whole = io.BytesIO()
    np.savez(whole, a=np.arange(100))
    data = bytearray(whole.getvalue())
    data[200] ^= 1  # its checksum tells
    (tmp_path / "b.npz").write_bytes(data)
    with pytest.raises(ValueError):
        read_npz(tmp_path / "b.npz")
