"""The bytes of a `.pose` file: what it claims is checked against what is there before anything is allocated.

The format's own library takes the sizes that a file states on trust (133 kB of version 0.0 may ask for gigabytes) and
ignores what follows the last value; here every byte has a place, or the file is refused. Little-endian throughout:

    float32 version, uint16 width, height, depth, uint16 components; each component: its name and its point format
    (uint16 length, UTF-8), uint16 points, limbs, colours, then the points' names, uint16 pairs, uint16 triples
    0.0  uint16 fps, frames; each frame: uint16 people; each person: int16 id, then float32 [points, dims + confidence]
    0.1  uint16 fps, frames, people; float32 [frames, people, points, dims], float32 [frames, people, points]
    0.2  as 0.1 with float32 fps, uint32 frames

Version 0.1's frames follow from the bytes that are left, for its 16 bits overflow. In all six real files of that
version at hand both numbers are the same, so that a file where they differ modulo 65536 is taken to be cut or damaged.
None of the 75 real files at hand has a name twice.
"""

import struct
from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Names = tuple[tuple[str, tuple[str, ...]], ...]  # (component, its points), in the file's order
_LEAST_FRAME_RATE, _MOST_FRAME_RATE = 1.0, 1000.0
# A frame without a person takes two bytes in version 0.0 and as many values as the others here.
_MOST_GROWTH, _SMALL = 8, 1 << 24
_MOST_POINTS = 100_000  # of all components; the largest layout in use has 586
_COUNTS_00, _COUNTS_01, _COUNTS_02 = "<HH", "<HHH", "<fIH"  # frames a second, frames, and how many people
_AXES = "XYZ"  # what a point format begins with


class Broken(ValueError):
    """What is wrong with the bytes."""


class Empty(Broken):
    """There is nobody in it, or next to nobody."""


@dataclass(frozen=True)
class Layout:
    """The first person of a file: values `[t, points, dims]`, confidence `[t, points]`, as they are written."""

    names: Names
    values: Float[np.ndarray, "t points dims"]
    confidence: Float[np.ndarray, "t points"]
    fps: float
    width: int  # of the picture, in pixels, as the header has it
    height: int
    people: int  # most in a frame
    components: bytes  # the header from their number on, as it is written: limbs and colours too
    depth: int  # of the picture
    data: bytes  # of the file
    body: int  # where the first frame begins in it
    version: float  # 0.0, 0.1 or 0.2

    @property
    def all_bytes(self) -> int:
        """How much all people take as version 0.2 has them."""
        frames, points, dims = self.values.shape
        return 4 * frames * self.people * points * (dims + 1)


def parse(data: bytes) -> Layout:
    """Reads versions 0.0, 0.1 and 0.2. Raises `Broken` where the bytes are no whole file of these."""
    walk = _Walk(data)
    (version,) = walk.take("<f")
    width, height, depth = walk.take("<HHH")
    first = walk.place
    (count,) = walk.take("<H")
    names: list[tuple[str, tuple[str, ...]]] = []
    formats: list[int] = []  # lengths
    for _ in range(count):
        names.append(_component(walk, formats))
        if sum(len(points) for _, points in names) > _MOST_POINTS:
            raise Broken(f"it names more than {_MOST_POINTS} points")
    twice([name for name, _ in names], "component")
    if not any(points for _, points in names):
        raise Broken("it names no points")
    sizes = [len(points) for _, points in names]
    kind = round(version, 3) if np.isfinite(version) else version
    components = data[first : walk.place]
    body = walk.place + struct.calcsize({0.2: _COUNTS_02, 0.1: _COUNTS_01}.get(kind, _COUNTS_00))
    if kind == 0:
        values, confidence, fps, people = _version_00(walk, sizes, formats)
    elif kind in (0.1, 0.2):
        values, confidence, fps, people = _version_01(
            walk, sum(sizes), max(formats) - 1, _COUNTS_02 if kind == 0.2 else _COUNTS_01
        )
    else:
        raise Broken(f"version {version:g} is not 0.0, 0.1 or 0.2")
    if not _LEAST_FRAME_RATE <= fps <= _MOST_FRAME_RATE:  # NaN is no rate either
        raise Broken(f"{fps:g} frames a second, which are {_LEAST_FRAME_RATE:g} to {_MOST_FRAME_RATE:g}")
    return Layout(
        tuple(names), values, confidence, float(fps), width, height, people, components, depth, data, body, float(kind)
    )


def everybody(file: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Values `[t, people, points, dims]` and confidences `[t, people, points]` of all people, 0 of who is not there.

    Views of the bytes, but of version 0.0, where they take `Layout.all_bytes`.
    """
    frames, points, dims = file.values.shape
    shape = (frames, file.people, points)
    walk = _Walk(file.data, file.body)
    if file.version:
        return walk.floats((*shape, dims)), walk.floats(shape)
    values = np.zeros((*shape, dims + 1), np.float32)
    for frame in range(frames):
        for person in range(walk.take("<H")[0]):
            walk.take("<h")
            values[frame, person] = walk.floats((points, dims + 1))
    return values[..., :-1], values[..., -1]


def numbered(file: Layout) -> bool:
    """Whether the people have numbers, which version 0.0 alone holds; 0 and -1 alone say nothing."""
    if file.version:
        return False
    walk, found = _Walk(file.data, file.body), set()
    frames, points, dims = file.values.shape
    for _ in range(frames):
        for _ in range(walk.take("<H")[0]):
            found.add(walk.take("<h")[0])
            walk.skip(4 * points * (dims + 1), "a frame")
    return bool(found - {0, -1}) or len(found) > 1


def drawn(file: Layout) -> bool:
    """Whether the header says how the points are to be drawn: limbs, or colours."""
    walk = _Walk(file.components)
    for _ in range(walk.take("<H")[0]):
        walk.text(), walk.text()
        points, limbs, colours = walk.take("<HHH")
        if limbs or colours:
            return True
        for _ in range(points):
            walk.text()
    return False


def as_version_02(file: Layout, fps: float, width: int, height: int) -> bytes:
    """The file with all its people, points, axes, limbs and colours as version 0.2; one of 0.2 comes out as it is."""
    values, confidence = everybody(file)
    head = struct.pack("<fHHH", 0.2, width, height, file.depth) + file.components
    head += struct.pack(_COUNTS_02, fps, len(values), file.people)
    return b"".join((head, np.ascontiguousarray(values).data, np.ascontiguousarray(confidence).data))


class _Walk:
    def __init__(self, data: bytes, place: int = 0) -> None:
        self.data, self.place = data, place

    @property
    def left(self) -> int:
        return len(self.data) - self.place

    def skip(self, size: int, what: str) -> int:
        """Where the next `size` bytes start."""
        if size > self.left:
            raise Broken(f"it ends inside {what}, byte {len(self.data)}")
        start, self.place = self.place, self.place + size
        return start

    def take(self, form: str) -> tuple:
        return struct.unpack_from(form, self.data, self.skip(struct.calcsize(form), "its header"))

    def text(self) -> str:
        (length,) = self.take("<H")
        start = self.skip(length, "a name")
        try:
            return self.data[start : self.place].decode()
        except UnicodeDecodeError:
            raise Broken(f"the name at byte {start} is no UTF-8") from None

    def floats(self, shape: tuple[int, ...]) -> np.ndarray:
        """A view of the next float32 values, nothing copied."""
        count = int(np.prod(shape, dtype=object))
        return np.frombuffer(self.data, "<f4", count, self.skip(4 * count, "its values")).reshape(shape)


def _component(walk: _Walk, formats: list[int]) -> tuple[str, tuple[str, ...]]:
    name, form = walk.text(), walk.text()
    if not 3 <= len(form) <= 9 or not form.endswith("C") or not form.startswith(_AXES[: len(form) - 1]):
        raise Broken(f"component {name[:40]!r} has the point format {form[:12]!r}, which is such as XYC or XYZC")
    formats.append(len(form))
    points, limbs, colours = walk.take("<HHH")
    names = [walk.text() for _ in range(points)]
    walk.skip(4 * limbs + 6 * colours, "a component")
    twice(names, f"point of {name[:40]!r}")
    return name, tuple(names)


def twice(names: list[str], what: str) -> None:
    """Raises `Broken` where a name occurs twice: which of the two is meant would be a guess."""
    name, count = Counter(names).most_common(1)[0] if names else ("", 1)
    if count > 1:
        raise Broken(f"the {what} {name[:40]!r} occurs twice")


def _version_01(walk: _Walk, points: int, dims: int, form: str) -> tuple[np.ndarray, np.ndarray, float, int]:
    fps, frames, people = walk.take(form)
    if not people or not walk.left:
        raise Empty("it holds no person or no frame")
    size = 4 * people * points * (dims + 1)  # of a frame
    held, rest = divmod(walk.left, size)
    if rest or (held != frames if form == _COUNTS_02 else (held - frames) % 65536):
        raise Broken(f"{walk.left} bytes of values where it names {frames} frames of {size}")
    values = walk.floats((held, people, points, dims))
    return values[:, 0], walk.floats((held, people, points))[:, 0], fps, people


def _version_00(walk: _Walk, sizes: list[int], formats: list[int]) -> tuple[np.ndarray, np.ndarray, float, int]:
    fps, frames = walk.take(_COUNTS_00)
    if len(set(formats)) > 1:
        raise Broken("its components have different point formats")
    points, width = sum(sizes), formats[0]
    first = np.zeros(frames, np.int64)  # where a frame's first person starts, 0: nobody
    person = 2 + 4 * points * width
    most = 0
    for frame in range(frames):
        (people,) = walk.take("<H")
        start = walk.skip(people * person, f"frame {frame + 1} of {frames}")
        first[frame] = start + 2 if people else 0
        most = max(most, people)
    if walk.left:
        raise Broken(f"{walk.left} bytes follow its last frame")
    if not first.any():
        raise Empty("it holds no person or no frame")
    if 4 * frames * points * width > _MOST_GROWTH * len(walk.data) + _SMALL:
        raise Empty(f"{int((first == 0).sum())} of its {frames} frames show nobody")
    values = np.zeros((frames, points, width), np.float32)
    for frame, start in enumerate(first):
        if start:
            values[frame] = np.frombuffer(walk.data, "<f4", points * width, start).reshape(points, width)
    return values[..., :-1], values[..., -1], fps, most
