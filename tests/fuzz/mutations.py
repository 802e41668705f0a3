"""Seeded harm to the bytes of a valid file: the same seed and case give the same bytes."""

import json
import struct
from random import Random
from typing import Any

from fuzz.boxes import replaced

_EXTREMES = (
    0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1,
)  # fmt: skip
_STEP = 7919  # prime: truncations go through every length, whatever the file's size
DEEP = 3000
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 0.5, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**63, 2**64, 10**400, "", " ",
    "0", "nan", "x" * 100_000, "../x", "/etc/passwd", "a\0b", "a\nb", "\x1b[31mred\x1b[0m", "\u202eevil", "\ud800",
    "Ä" * 600, [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, list(range(1000)), [1.5, "a", None], "\ufeff",
)  # fmt: skip


def harmed(data: bytes, case: int, rng: Random) -> bytes:
    """The bytes changed in the way that the case's number says: cut, bits, lengths, stretches, what follows the end."""
    if not data:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(40)))
    return _KINDS[case % len(_KINDS)](bytearray(data), case // len(_KINDS), rng)


def _cut(data: bytearray, turn: int, rng: Random) -> bytes:
    return bytes(data[: turn * _STEP % len(data)])


def _bits(data: bytearray, turn: int, rng: Random) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _bits_in_front(data: bytearray, turn: int, rng: Random) -> bytes:
    """Where headers are."""
    data[rng.randrange(min(len(data), 400))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _length(data: bytearray, turn: int, rng: Random) -> bytes:
    """An extreme number where a length may stand."""
    width = rng.choice((1, 2, 4, 8))
    value = rng.choice((*_EXTREMES, len(data) - 1, len(data), len(data) + 1)) & (2 ** (8 * width) - 1)
    place = rng.randrange(min(len(data), rng.choice((64, 400, len(data)))))
    raw = value.to_bytes(width, rng.choice(("little", "big")))
    data[place : place + width] = raw
    return bytes(data)


def _stretch(data: bytearray, turn: int, rng: Random) -> bytes:
    """A stretch is left out, doubled, blanked or drawn anew."""
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.choice((1, 2, 4, 16, 100, len(data))))
    part = data[start:end]
    data[start:end] = rng.choice(
        (b"", bytes(part) * 2, bytes(len(part)), b"\xff" * len(part), bytes(rng.randrange(256) for _ in part[:200]))
    )
    return bytes(data)


def _behind(data: bytearray, turn: int, rng: Random) -> bytes:
    return bytes(data) + rng.choice((b"\0", b"\n", b"\0" * 100, bytes(data), bytes(data[: rng.randrange(len(data))])))


_KINDS = (_cut, _bits, _bits_in_front, _length, _stretch, _bits, _behind)


def odd_json(text: bytes, rng: Random) -> bytes:
    """A JSON file of which one place has another type, another size, or is gone."""
    if rng.random() < 0.05:
        return rng.choice(
            (b"", b"[" * DEEP, b"[" * 10**5, b'{"a":' * DEEP, b"null", b"\xff\xfe{\0}\0", b"NaN", b'"\xff"')
        )
    value = json.loads(text)
    holder, key = _place(value, rng)
    action = rng.random()
    if holder is None:
        value = rng.choice(ODD)
    elif action < 0.15:
        del holder[key]
    elif action < 0.25 and isinstance(holder, dict):
        holder[rng.choice(("", "a", "\x1b[2J", "x" * 300, "__class__", "update"))] = rng.choice(ODD)
    elif action < 0.25:
        holder.insert(key, rng.choice((holder[key], rng.choice(ODD))))
    elif action < 0.35 and isinstance(holder[key], int | float):
        holder[key] = rng.choice(
            (holder[key] + 1, -holder[key], holder[key] * 1000, float(holder[key]), str(holder[key]))
        )
    else:
        holder[key] = rng.choice(ODD)
    out = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.02:  # json's own writer would not go so deep
        out = out.replace("null", "[" * (depth := rng.choice((900, DEEP))) + "]" * depth, 1)
    if rng.random() < 0.05:
        return rng.choice((b"\xef\xbb\xbf", b" ", b"\n")) + out.encode("utf-8", "surrogatepass")
    return out.encode("utf-8", rng.choice(("backslashreplace", "surrogatepass")))


def _place(value: Any, rng: Random) -> tuple[Any, Any]:
    """A random place in a tree: its holder and its key there; nothing where the tree is a leaf."""
    holder, key = None, None
    while isinstance(value, dict | list) and value and (holder is None or rng.random() < 0.8):
        holder = value
        key = rng.choice(sorted(value)) if isinstance(value, dict) else rng.randrange(len(value))
        value = holder[key]
    return holder, key


CELLS = (
    "", " ", "0", "1", "-1", "1e9", "1e400", "nan", "inf", "0x10", "1_000", "٣", "true", "a.pose", "../a.pose",
    "/etc/passwd", "A\nB", "A\r\nB", '"', "'", "|", "\t", ",", "\0", "\x1b[2J", "\u202e", "\u2028", "x" * 501,
    "y" * 130_000, "Ä", "A\u0308", "<script>", "=1+1", "\ufeff", "GOOD",
)  # fmt: skip


def odd_rows(text: bytes, delimiter: str, rng: Random) -> bytes:
    """A table of which one cell, row or line end is another, in some encoding."""
    lines = text.decode("utf-8").splitlines()
    row = rng.randrange(len(lines))
    cells = lines[row].split(delimiter)
    cell = rng.randrange(len(cells))
    action = rng.random()
    if action < 0.6:
        cells[cell] = rng.choice(CELLS)
    elif action < 0.7:
        del cells[cell]
    elif action < 0.8:
        cells.insert(cell, rng.choice(CELLS))
    elif action < 0.9:
        cells = cells * 2
    else:
        rng.shuffle(cells)
    lines[row] = delimiter.join(cells)
    end = rng.choice(("\n", "\n", "\n", "\r\n", "\r", "\n\n", "\u2028"))
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"))
    return end.join(lines).encode(encoding, "replace")


def odd_text(rng: Random) -> bytes:
    """Any text: words of few kinds, line ends of all kinds, other encodings, or no text at all."""
    words = ("A", "B", "IX-1", "Ä", "A\u0308", "#ANNA", "\u200d", "\u2028", "\x85", "\x0c", "字", "😀", "\x1b[2J", "%s")
    if rng.random() < 0.15:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(60)))
    lines = [
        " ".join(rng.choice(words) for _ in range(rng.choice((0, 1, 3, 9, 60))))
        for _ in range(rng.choice((0, 1, 2, 5)))
    ]
    text = rng.choice(("\n", "\r\n", "\r")).join(lines) + rng.choice(("", "\n"))
    return text.encode(
        rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-16-le")), "replace"
    )


def safetensors_by_hand(rng: Random) -> bytes:
    """A header with offsets, shapes and types of any kind before a few bytes."""
    numbers = (0, 4, 8, 24, -1, 0.5, "8", None, 2**40, 2**63, 2**64, True)
    header: dict[str, Any] = {}
    for name in rng.sample(["a", "b", "c", "__metadata__", "", "a/b", "x" * 2000], rng.randrange(4)):
        entry: dict[str, Any] = {
            "dtype": rng.choice(("F32", "F32", "F16", "BF16", "F64", "I64", "BOOL", "F8_E4M3", "F4", "X", 1, None)),
            "shape": rng.choice(([], [6], [2, 3], [2**40, 2**40], [-1], ["6"], [0], [0, 2**62], None, 6, [1] * 500)),
            "data_offsets": [rng.choice(numbers), rng.choice(numbers)],
        }
        if rng.random() < 0.2:
            del entry[rng.choice(sorted(entry))]
        header[name] = entry if rng.random() < 0.9 else rng.choice(ODD)
    text = json.dumps(header).encode() + b" " * rng.choice((0, 0, 3))
    if rng.random() < 0.1:  # the same name twice, or the same bytes for many names
        one = b'"%d":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}'
        text = b"{" + b",".join(one % (i * (rng.random() < 0.5)) for i in range(200)) + b"}"
    length = rng.choice((len(text),) * 6 + (0, 1, len(text) + 1, 2**32, 2**63))
    return struct.pack("<Q", length) + text + bytes(rng.choice((0, 8, 24, 24, 25)))


def npy_by_hand(data: bytes, rng: Random) -> bytes:
    """An array's file under a header that claims something else."""
    descr = rng.choice(("<f4", "<f4", ">f4", "<f8", "|O", "<U4", "|V0", "|S0", "<m8[ns]", "|b1", "<f2", "<c8", "f4,f4"))
    shape = rng.choice(
        ("(2, 128, 3)", "(0,)", "()", "(-1, 128, 3)", "(2**62, 128, 3)", "(1.5,)", "None", "[4]", f"({10**18}, 128)")
    )
    order = rng.choice(("False", "True", "None", "0"))
    text = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}"
    text = rng.choice(
        (text, text, text, "(" * 300, "{" + "'a':[" * 90, text[:-3], text.replace("descr", "dezcr"), "1" * 9)
    )
    version = rng.choice((b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\4\0", b"\0\0"))
    raw = (text + "\n").encode()
    length = rng.choice((len(raw),) * 5 + (0, 65535)).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + length + raw + data[128:]


def boxes_by_hand(rng: Random) -> bytes:
    """An ISO media file whose boxes hold one another and claim any length."""

    def box(depth: int) -> bytes:
        names = "moov trak mdia minf stbl stsz stco stts stsd mdat free mvhd tkhd mdhd hdlr elst edts udta meta"
        kind = rng.choice(names.split()).encode()
        inner = b"".join(box(depth + 1) for _ in range(rng.randrange(3))) if depth < 6 else b""
        inner += bytes(rng.choice((0, 255, rng.randrange(256))) for _ in range(rng.choice((0, 8, 20, 100))))
        size = rng.choice((len(inner) + 8,) * 8 + (0, 1, 7, 2**31, 2**32 - 1))
        return struct.pack(">I", size) + kind + inner

    body = b"".join(box(0) for _ in range(rng.randrange(1, 5)))
    return struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 512) + body + struct.pack(">I4s", 8, b"mdat")


def samples_by_hand(data: bytes, rng: Random) -> bytes:
    """An mp4 whose tables claim any number of samples and edits."""
    table = ("moov", "trak", "mdia", "minf", "stbl")
    count, edits = rng.choice((0, 5, 7, 600, 10**6, 10**7, 10**8, 2**32 - 1)), rng.choice((1, 1, 3, 300, 3000))
    edit = struct.pack(">IIHH", rng.choice((0, 240, 2**31)), rng.choice((0, 512, 2**32 - 1)), 1, 0)
    changes = {
        (*table, "stsz"): struct.pack(">III", 0, rng.choice((1, 20, 2**31)), count),
        (*table, "stsc"): struct.pack(">IIIII", 0, 1, 1, rng.choice((1, count)), 1),
        (*table, "stts"): struct.pack(">IIII", 0, 1, count, rng.choice((1, 512, 2**31))),
        ("moov", "trak", "edts", "elst"): struct.pack(">II", 0, edits) + edit * edits,
    }
    return replaced(data, dict(rng.sample(sorted(changes.items()), rng.choice((1, 2, 3, 4)))))
