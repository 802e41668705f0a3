"""What a compiled program does, read from its text: FLOPs, the collectives' bytes and what operations read and write,
each loop as often as it runs, and of several branches the one with most FLOPs: of two experts one is run.

XLA's own `cost_analysis` counts the body of a loop once, and a step is a loop over layers with a loop over blocks of
queries in it.
"""

import math
import re
from dataclasses import dataclass
from functools import cache

import numpy as np

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8,
          "s64": 8, "u64": 8, "c64": 8}  # fmt: skip


_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_OPERATION = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
_BRANCH = re.compile(r"\b(?:true|false)_computation=%?([\w.\-]+)")


@dataclass(frozen=True)
class Cost:
    """Of one device and one call."""

    flops: float  # of matrix products and convolutions, and what kernels say of theirs
    bytes: dict[str, float]  # of each kind of collective: what it gives back
    arrays: dict[str, dict[str, float]]  # of each kind: how often an array of each shape, "bf16[96,8960]"
    sent: float = 0.0  # bytes that a device sends for its collectives, each in a ring of those that take part
    touched: float = 0.0  # bytes that operations read and write in the device's main memory
    far: float = 0.0  # bytes that a device sends to other slices of TPUs, beside `sent`, in a ring of the slices


def read(text: str, *, slices: int = 1) -> Cost:
    """The cost of a compiled program, `compiled.as_text()`, whose devices lie in so many slices."""
    computations, entry = _parse(text)
    times, fused = _times(computations, entry), _inside_operations(computations)
    partitions = re.search(r"num_partitions=(\d+)", text[: text.find("\n")])
    devices = int(partitions[1]) if partitions else 1
    flops = sent = touched = far = 0.0
    moved: dict[str, float] = {}
    arrays: dict[str, dict[str, float]] = {}
    for name, count in times.items():
        shapes = {op.name: op.shape for op in computations[name]}
        by_name = {op.name: op for op in computations[name]}
        for op in computations[name]:
            kind = op.kind.removesuffix("-done")  # of an asynchronous one: its start gives more than the results
            if name not in fused:
                touched += count * _touched(op, shapes, computations)
            flops += count * _flops(op, shapes)
            if kind in COLLECTIVES:
                for part in _SHAPE.findall(op.shape):
                    shape, among = f"{part[0]}[{part[1]}]", arrays.setdefault(kind, {})
                    among[shape] = among.get(shape, 0) + count
                    moved[kind] = moved.get(kind, 0) + count * _size(part)
                begun = by_name.get(next(iter(op.operands()), ""), op) if op.kind.endswith("-done") else op
                sent += count * _sent(kind, sum(map(_size, _SHAPE.findall(op.shape))), _together(begun, devices))
            if op.kind == "recv" and (between := _between_slices(op)):
                size = _size(_SHAPE.findall(op.shape)[0])  # what the network's own program gives back
                named = f"{between} between slices"
                moved[named] = moved.get(named, 0) + count * size
                far += count * _sent(between, size, slices)
    return Cost(flops, moved, arrays, sent, touched, far)


def arguments(text: str) -> float:
    """Bytes of the numbers that a program is given, without what pads them to tiles."""
    computations, entry = _parse(text)
    shapes = (op.shape for op in computations[entry] if op.kind == "parameter")
    return sum(_size(part) for shape in shapes for part in _SHAPE.findall(shape))


# ---- The text of a program -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Op:
    root: str | None
    name: str
    shape: str
    kind: str
    rest: str  # its operands and attributes

    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.rest.split(")", 1)[0])

    def value(self) -> int:
        """A constant's."""
        return int(self.rest.split(")", 1)[0])

    def attribute(self, name: str) -> str:
        found = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^,\s]+)", self.rest)
        return found[1] if found else ""


def _parse(text: str) -> tuple[dict[str, list[_Op]], str]:
    computations: dict[str, list[_Op]] = {}
    entry, ops = "", []
    for line in text.splitlines():
        if begun := _COMPUTATION.match(line):
            ops = computations.setdefault(begun[2], [])
            entry = begun[2] if begun[1] else entry
        elif found := _OPERATION.match(line):
            ops.append(_Op(*found.groups()))
    return computations, entry


def _times(computations: dict[str, list[_Op]], entry: str) -> dict[str, float]:
    """How often each computation runs; of the branches of a conditional the dearest, the others not at all."""
    times: dict[str, float] = {}

    @cache
    def called(name: str) -> list[tuple[str, int]]:
        """What a computation calls, and how often."""
        found = []
        for op in computations[name]:
            trips = _trips(op, computations[name], computations) if op.kind == "while" else 1
            found += [(one, trips) for one in _CALLED.findall(op.rest) if one in computations]
            if op.kind == "conditional":
                found.append((max(_branches(op), key=cost), 1))
        return found

    @cache
    def cost(name: str) -> tuple[float, int]:
        """FLOPs of one run, and operations, which tell branches without any apart."""
        shapes = {op.name: op.shape for op in computations[name]}
        inside = [(trips * cost(one)[0], trips * cost(one)[1]) for one, trips in called(name)]
        flops = sum(_flops(op, shapes) for op in computations[name]) + sum(flops for flops, _ in inside)
        return flops, len(computations[name]) + sum(ops for _, ops in inside)

    def run(name: str, count: float) -> None:
        times[name] = times.get(name, 0) + count
        for one, trips in called(name):
            run(one, count * trips)

    run(entry, 1)
    return times


def _branches(op: _Op) -> list[str]:
    """The computations of which a conditional runs one."""
    return re.findall(r"%?([\w.\-]+)", op.attribute("branch_computations").strip("{}")) or _BRANCH.findall(op.rest)


def _trips(loop: _Op, around: list[_Op], computations: dict[str, list[_Op]]) -> int:
    """How often a loop runs: as XLA says, or from its counter's start, step and limit.

    Raises `ValueError` for a loop that does not count.
    """
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest):
        return int(known[1])
    condition, body = (computations[loop.attribute(name).lstrip("%")] for name in ("condition", "body"))
    compared = next(op for op in condition if op.root)
    by_name = {op.name: op for op in condition}
    counter, limit = (_source(by_name[name], by_name) for name in compared.operands())
    if compared.kind == "compare" and compared.attribute("direction") == "LT" and limit.kind == "constant":
        place = int(counter.attribute("index"))
        by_name = {op.name: op for op in body}
        added = _source(by_name[next(op for op in body if op.root).operands()[place]], by_name)
        steps = [_source(by_name[name], by_name) for name in added.operands()] if added.kind == "add" else []
        step = next((op.value() for op in steps if op.kind == "constant"), None)
        by_name = {op.name: op for op in around}
        first = _source(by_name[_source(by_name[loop.operands()[0]], by_name).operands()[place]], by_name)
        if step and first.kind == "constant":
            return max(0, math.ceil((limit.value() - first.value()) / step))
    raise ValueError(f"the loop {loop.name} has no counter that can be read")


def _source(op: _Op, by_name: dict[str, _Op]) -> _Op:
    """What an operation copies."""
    while op.kind in ("copy", "bitcast", "convert"):
        op = by_name[op.operands()[0]]
    return op


def _together(op: _Op, devices: int) -> int:
    """Among how many devices a collective runs: the size of its first group; all of them where it names none."""
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]", op.rest):
        return int(iota[1])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", op.rest)
    return len(listed[1].split(",")) if listed else devices


def _sent(kind: str, results: float, n: int) -> float:
    """Bytes that each of n devices sends for a collective with these results, in a ring."""
    share = (n - 1) / n
    factors = {"all-reduce": 2 * share, "reduce-scatter": n - 1, "collective-permute": 1}
    return results * factors.get(kind, share)


def _between_slices(op: _Op) -> str:
    """The kind of collective that runs from slice to slice, outside the program, for this transfer; "" of others."""
    found = re.search(r'_xla_megascale_transfer_type="(\w+)"', op.rest)
    return found[1].lower().replace("_", "-").replace("one-to-one", "collective-permute") if found else ""


# Operations that move nothing by themselves: what they call does, or what takes their results.
_FREE = frozenset({
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "partition-id", "replica-id", "iota", "opt-barrier", "copy-done", "async-start", "async-update", "send-done",
    "recv-done",
})  # fmt: skip


def _inside_operations(computations: dict[str, list[_Op]]) -> set[str]:
    """The computations that are one operation each where they are called: fusions, and functions of reductions."""
    return {
        called
        for ops in computations.values() for op in ops if op.kind not in ("while", "conditional", "call")
        for called in _CALLED.findall(op.rest)
    }  # fmt: skip


def _in_memory(shape: str) -> float:
    """Bytes of a shape's arrays, but for those that lie in a memory of their own beside the device's (`S(1)`)."""
    return sum(
        _size((kind, sizes)) for kind, sizes, place in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\](\{[^}]*\})?", shape)
        if "S(" not in place
    )  # fmt: skip


def _touched(op: _Op, shapes: dict[str, str], computations: dict[str, list[_Op]]) -> float:
    """Bytes that an operation reads and writes; of an array that it only cuts from or writes a part into, the part."""
    if op.kind in _FREE or (op.kind.endswith("-start") and op.kind != "copy-start"):
        return 0.0
    if op.kind == "copy-start":
        return _in_memory(op.shape)  # its result and what it copies
    given = [shapes.get(name, "") for name in op.operands()]
    if op.kind == "dynamic-slice":
        return 2 * _in_memory(op.shape)
    if op.kind == "dynamic-update-slice":
        return 2 * _in_memory(given[1])
    parts: dict[int, float] = {}
    written = _in_memory(op.shape)
    called = next((name for name in _CALLED.findall(op.rest) if name in computations), None)
    if op.kind == "fusion" and called is not None:
        parts, inside = _parts(computations[called])
        written = min(written, inside) if inside else written
    return written + sum(min(_in_memory(one), parts.get(i, math.inf)) for i, one in enumerate(given))


def _parts(ops: list[_Op]) -> tuple[dict[int, float], float]:
    """Of a fusion: how much of each parameter it reads, where that is cut from it alone, and how much it writes where
    it writes into an array that it is given (0 where it writes all of its results).
    """
    places = {op.name: op.value() for op in ops if op.kind == "parameter"}
    shapes = {op.name: op.shape for op in ops}
    parts: dict[int, float] = {}
    for name, place in places.items():
        users = [op for op in ops if name in op.operands()]
        if users and all(op.kind == "dynamic-slice" and op.operands()[0] == name for op in users):
            parts[place] = sum(_in_memory(op.shape) for op in users)
        elif users and all(op.kind == "dynamic-update-slice" and op.operands()[0] == name for op in users):
            parts[place] = 0.0
    root = next((op for op in ops if op.root), None)
    into = root is not None and root.kind == "dynamic-update-slice"
    return parts, _in_memory(shapes.get(root.operands()[1], "")) if into and root is not None else 0.0


def _dimensions(shape: str) -> tuple[int, ...]:
    found = _SHAPE.search(shape)
    return tuple(int(n) for n in found[2].split(",") if n) if found else ()


def _size(part: tuple[str, str]) -> float:
    return _BYTES.get(part[0], 0) * math.prod(int(n) for n in part[1].split(",") if n)


def _flops(op: _Op, shapes: dict[str, str]) -> float:
    """Of an operation by itself, without what it calls."""
    if op.kind == "dot":
        return _dot(op, shapes)
    if op.kind == "convolution":
        return _convolution(op, shapes)
    said = re.search(r'"flops":\s*"?([\d.e+]+)', op.rest) if op.kind == "custom-call" else None
    return float(said[1]) if said else 0.0


def _dot(op: _Op, shapes: dict[str, str]) -> float:
    left = _dimensions(shapes[op.operands()[0]])
    contracted = [int(n) for n in op.attribute("lhs_contracting_dims").strip("{}").split(",") if n]
    return 2.0 * math.prod(_dimensions(op.shape)) * math.prod(left[i] for i in contracted)


def _convolution(op: _Op, shapes: dict[str, str]) -> float:
    """A TPU's matrix products are convolutions too, those of a batch with dilated windows that meet mostly holes."""
    inputs, kernel = (_dimensions(shapes[name]) for name in op.operands()[:2])
    outputs = _dimensions(op.shape)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", op.rest)
    assert labels is not None
    spatial = sorted(set(labels[1]) - {"b", "f"})
    window = dict(re.findall(r"(\w+)=([\dx_\-]+)", op.attribute("window")))

    def values(name: str, default: str) -> list[str]:
        return window[name].split("x") if name in window else [default] * len(spatial)

    names = ("size", "stride", "lhs_dilate", "rhs_dilate")
    sizes, strides, spreads, gaps = (map(int, values(name, "1")) for name in names)
    lows = (int(pad.split("_")[0]) for pad in values("pad", "0_0"))
    taps = 1.0
    for axis, size, stride, spread, gap, low in zip(spatial, sizes, strides, spreads, gaps, lows, strict=True):
        length, out = inputs[labels[1].index(axis)], outputs[labels[3].index(axis)]
        place = np.arange(out)[:, None] * stride + np.arange(size)[None] * gap - low
        taps *= ((place >= 0) & (place < (length - 1) * spread + 1) & (place % spread == 0)).sum()
    rows = outputs[labels[3].index("b")] * outputs[labels[3].index("f")]
    return 2.0 * rows * taps * kernel[labels[2].index("i")] / int(op.attribute("batch_group_count") or 1)
