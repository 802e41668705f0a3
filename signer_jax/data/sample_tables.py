"""What an mp4 or mov makes FFmpeg hold before its first frame, told by its tables before FFmpeg sees them.

FFmpeg keeps some 70 bytes for each sample that a table claims, whether its bytes are there or not: 12 bytes say that a
hundred million samples are of one size, an edit list repeats all of them for each of its edits, and a packed index
unpacks a thousandfold. It also finds such tables wherever they stand, so they are looked for by their names, in
whatever is no frame.
"""

import re
import struct

# Names of boxes (ISO/IEC 14496-12, QuickTime File Format), and how many bytes behind the name their numbers take.
_TABLES = re.compile(rb"trak|stsz|stz2|stts|trun|elst|cmov|iloc|iinf")
_LEAST_SAMPLE = 8  # bytes that a frame has at least, its place in the tables counted
_FEW = 1 << 20  # samples, whatever the file's size
_REFUSED = {
    b"cmov": "its index is packed (cmov)",
    b"iloc": "it holds pictures (HEIF)",
    b"iinf": "it holds pictures (HEIF)",
}


def fault(boxes: list[bytes], size: int) -> str:
    """What is wrong with the outermost boxes that hold no frames, of a file of `size` bytes; "" where nothing is."""
    samples, edits = 0, 1
    tables: list[tuple[int, int]] = []  # of the track that is read, as `durations`
    durations: list[tuple[int, int, int]] = []
    for box in boxes:
        for match in _TABLES.finditer(box):
            name, numbers = match[0], _numbers(box, match)
            if name in _REFUSED:
                return _REFUSED[name]
            if name == b"trak":
                samples += _samples(tables, durations, size)
                tables, durations = [], []
            elif len(numbers) < 12:
                continue  # the file's end, which whoever reads it finds
            elif name == b"stts":
                entries, count, duration = struct.unpack_from(">3I", numbers[4:] + bytes(12))
                durations.append((entries, count, duration))
            elif name == b"trun":
                (count,) = struct.unpack_from(">I", numbers, 4)
                samples += count
            elif name == b"elst":
                edits = max(edits, struct.unpack_from(">I", numbers, 4)[0])
            else:
                each, count = struct.unpack_from(">2I", numbers, 4)
                tables.append((0 if name == b"stz2" else each, count))
    samples += _samples(tables, durations, size)
    most = max(_FEW, size // _LEAST_SAMPLE)
    if samples > most:
        return f"its tables claim {samples} frames"
    return f"{edits} edits of {samples} frames" if edits * samples > most and edits > 1 else ""


def _numbers(box: bytes, match: re.Match[bytes]) -> bytes:
    """What follows a box's name, and its length where that has 64 bits: version and flags first."""
    start = match.end() + 8 * (box[match.start() - 4 : match.start()] == b"\0\0\0\1")
    return box[start : start + 24]


def _samples(tables: list[tuple[int, int]], durations: list[tuple[int, int, int]], size: int) -> int:
    """The samples that a track's tables claim; 0 of sound that is not packed, of which FFmpeg keeps no more than where
    its stretches begin: every sample lasts 1, and all of them have one size, with their bytes in the file.
    """
    sound = durations and all((entries, duration) == (1, 1) for entries, _, duration in durations)
    return sum(count for each, count in tables if not (sound and each and each * count <= size))
