"""What a prepared set is like: its figures, and one page with histograms and samples, the skeleton beside the video."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from signer_jax import report as html
from signer_jax.data import framing, timing, video
from signer_jax.data.prepared import layout, leakage, summary
from signer_jax.data.shards import BROKEN, Shard
from signer_jax.errors import SignerError
from signer_jax.json_files import LISTS, read_json
from signer_jax.pose.draw import draw
from signer_jax.types import Pose

_SIDE = 320  # pixels of a sample's video, and of its skeleton
_MOST_SECONDS = 8.0  # that are shown of a sample
_TEXTS = 12  # texts in the table, of a set of texts alone
_SIGNERS = 15  # in the histogram: the others are one bar
_SECONDS = (0, 1, 2, 4, 6, 8, 12, 16, 32, 64)
_COUNTS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 64)


def figures(one: layout.PreparedSet) -> dict[str, Any]:
    """The set's counts by split, language and signer, and its histograms: counts by split of each bin."""
    groups: dict[str, dict[tuple[str, str], Counter[str]]] = {kind: defaultdict(Counter) for kind in _GROUPS}
    bins: dict[str, dict[str, Counter[str]]] = {name: {} for name in _HISTOGRAMS}
    seconds: Counter[str] = Counter()
    for split in one.counts:
        for _, table in one.tables(split):
            for row in table["kept"]:
                if row["prompt_by"]:
                    continue
                seconds[split] += row["seconds"]
                for kind, values in groups.items():
                    values[split, row[kind] or "not said"].update(_counted(row))
                for name, value in _values(row).items():
                    bins[name].setdefault(split, Counter())[value] += 1
    return {
        "dataset": one.dataset, "splits": {split: dict(count) for split, count in one.counts.items()},
        "hours": {split: seconds[split] / 3600 for split in one.counts},
        **{f"by_{kind}": [{"split": split, kind: value, **count, "hours": count["seconds"] / 3600}
                          for (split, value), count in sorted(values.items())] for kind, values in groups.items()},
        **_reported(one),
        "histograms": {name: _histogram(name, by_split) for name, by_split in bins.items() if by_split},
    }  # fmt: skip


_GROUPS = ("language", "signer")
_HISTOGRAMS = ("seconds", "words of a text", "glosses of a sample", "frames a second of poses",
               "frames a second of videos", "signers", "glosses by")  # fmt: skip


def _counted(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        "samples": 1, "texts": int(row["sentence"] != ""), "glosses": row["glosses"], "poses": int(row["frames"] > 0),
        "videos": int(row["video_fps"] > 0), "seconds": row["seconds"],
    }  # fmt: skip


def _values(row: Mapping[str, Any]) -> dict[str, str]:
    """In which bin of each histogram a row is; not in those of what it lacks."""
    found = {"signers": row["signer"] or "not said", "glosses by": row["glosses_by"] or "none"}
    if row["seconds"]:
        found["seconds"] = _label(_SECONDS, row["seconds"])
    if row["sentence"]:
        found["words of a text"] = _label(_COUNTS, row["words"])
    if row["glosses"]:
        found["glosses of a sample"] = _label(_COUNTS, row["glosses"])
    if row["frames"]:
        found["frames a second of poses"] = f"{row['fps']:.6g}"
    if row["video_fps"]:
        found["frames a second of videos"] = f"{row['video_fps']:.6g}"
    return found


def _label(edges: Sequence[int], value: float) -> str:
    """The bin of a value, in words: of seconds from an edge to below the next, of counts the first and the last."""
    at = int(np.searchsorted(edges, value, side="right")) - 1
    if at + 1 == len(edges):
        return f"{edges[at]} and more"
    if edges is _SECONDS:
        return f"{edges[at]} – {edges[at + 1]}"
    last = edges[at + 1] - 1
    return f"{edges[at]}" if last == edges[at] else f"{edges[at]} – {last}"


def _histogram(name: str, by_split: Mapping[str, Counter[str]]) -> dict[str, Any]:
    every: Counter[str] = Counter()
    for count in by_split.values():
        every.update(count)
    edges = {"seconds": _SECONDS, "words of a text": _COUNTS, "glosses of a sample": _COUNTS}.get(name)
    if edges:
        labels = [_label(edges, edge) for edge in edges]
        there = [at for at, label in enumerate(labels) if every[label]]
        labels = labels[there[0] : there[-1] + 1]
    elif name.startswith("frames"):
        labels = sorted(every, key=float)
    else:
        labels = [label for label, _ in sorted(every.items(), key=lambda pair: (-pair[1], pair[0]))]
    others = labels[_SIGNERS:] if not edges else []
    labels = labels[: len(labels) - len(others)]
    counts = {split: [count[label] for label in labels] + [sum(count[one] for one in others)] * bool(others)
              for split, count in by_split.items()}  # fmt: skip
    return {"bins": labels + [f"{len(others)} others"] * bool(others), "counts": counts}


# ---- The page --------------------------------------------------------------------------------------------------------


def write_page(one: layout.PreparedSet, found: Mapping[str, Any], path: Path, most: int) -> None:
    """The page of a set's figures with at most so many samples."""
    tables: list[html.Table] = [_splits(one, found)]
    for kind in _GROUPS:
        rows = found[f"by_{kind}"]
        if len({row[kind] for row in rows}) > 1 or kind == "language":
            keys = ("samples", "texts", "glosses", "poses", "videos", "hours")
            cells = [[row["split"], row[kind], *(row[key] for key in keys)] for row in rows[:200]]
            note = f"{len(rows) - 200} more rows are in what --json writes." if len(rows) > 200 else ""
            tables.append((f"By {kind}", ("split", kind, *keys), cells, note))
    tables += _left_out(found)
    clips = list(samples(one, most)) if most else []
    if not clips and (texts := _texts(one)):
        tables.append(("Some texts", ("split", "language", "text", "glosses", "by"), texts, ""))
    histograms = [(name, each["bins"], each["counts"]) for name, each in found["histograms"].items()
                  if len(each["bins"]) > 1]  # fmt: skip
    constant = {name: each["bins"][0] for name, each in found["histograms"].items() if len(each["bins"]) == 1}
    html.write(
        path, title=f"Prepared set: {one.dataset}", samples=clips, bars=histograms, tables=tables, heading="Tables",
        facts={"dataset": one.dataset, "hours": sum(found["hours"].values()), **constant},
    )  # fmt: skip


def _splits(one: layout.PreparedSet, found: Mapping[str, Any]) -> html.Table:
    kinds = ("items", "left_out", "kept", "texts", "glossed", "poses", "videos", "prompts")
    rows = [
        [split, *(count.get(kind, 0) for kind in kinds), found["hours"][split]] for split, count in one.counts.items()
    ]
    return "Splits", ("split", *(kind.replace("_", " ") for kind in kinds), "hours"), rows, ""


def _reported(one: layout.PreparedSet) -> dict[str, list[dict[str, Any]]]:
    """What the set's report says of what was left out, of what was kept otherwise and of what its splits share."""
    try:
        report = read_json(one.directory / "report.json", LISTS)
        first = {row["reason"]: row["name"] for row in reversed(report["left_out"])}
        return {
            "left_out": [{"why": reason, "samples": count, "first": first[reason]}
                         for reason, count in Counter(report["counted"]["left_out"]).most_common()],
            "kept_otherwise": [row | {"first": row["first"][0]} for row in summary.kept_otherwise(report)],
            "shared": [{"what": row["what"], "splits": row["splits"], "shared": leakage.count_of(row),
                        "samples": leakage.samples_of(row)} for row in report["leakage"]],
        }  # fmt: skip
    except BROKEN as error:
        raise SignerError(f"{one.directory / 'report.json'}: is damaged ({error}); {layout.REMAKE}") from None


def _left_out(found: Mapping[str, Any]) -> list[html.Table]:
    tables: list[html.Table] = []
    if left := found["left_out"]:
        rows = [[*row.values()] for row in left]
        tables.append(("Left out", ("why", "samples", "the first"), rows, f"All of them are in {summary.LEFT_OUT}."))
    if mended := found["kept_otherwise"]:
        cells = [[row[kind] for kind in ("what", "samples", "joints", "first")] for row in mended]
        tables.append(("Kept otherwise than it came", ("what", "samples", "joints", "the first"), cells, ""))
    return tables


def _places(
    one: layout.PreparedSet, kind: str, most: int, decode: Callable[[bytes], Any]
) -> Iterator[tuple[str, Shard, int]]:
    """Split, file and record of some samples, spread over the set; a split has one at least, as far as `most` goes."""
    by_split: dict[str, list[tuple[str, int]]] = {}  # a part and how many it has
    for split in one.counts:
        for name, table in one.tables(split):
            if said := table["files"].get(f"{name}.{kind}.arrayrecord"):
                by_split.setdefault(split, []).append((name, said["records"]))
    for at, (split, files) in enumerate(by_split.items()):
        share = most // len(by_split) + (at < most % len(by_split))
        ends = np.cumsum([count for _, count in files])
        for place in np.unique(np.linspace(0, ends[-1] - 1, min(share, int(ends[-1]))).round().astype(int)):
            file = int(np.searchsorted(ends, place, side="right"))
            name, count = files[file]
            yield split, one.shard(name, kind, count, decode), int(place - ends[file] + count)


def samples(one: layout.PreparedSet, most: int) -> Iterator[html.Media]:
    """A caption and an mp4 of some samples: the video beside its skeleton, or what there is of the two."""
    for split, file, at in _places(one, layout.MOTION, most, layout.read_motion):
        motion = file[at]
        sample = motion.sample
        about = ", ".join(filter(None, (split, sample.language, sample.signer and f"signer {sample.signer}",
                                        f"{motion.seconds:.1f} s")))  # fmt: skip
        lines = [f"{sample.name} ({about})", sample.text[:300]]
        if sample.glosses:
            lines.append(f"{' '.join(sample.glosses)[:300]} ({sample.glosses_by})")
        yield "\n".join(filter(None, lines)), animation(motion)


def _texts(one: layout.PreparedSet) -> list[list[str]]:
    rows = []
    for split, file, at in _places(one, layout.TEXT, _TEXTS, layout.read_text):
        sample = file[at]
        rows.append([split, sample.language, sample.text[:300], " ".join(sample.glosses)[:300], sample.glosses_by])
    return rows


def animation(motion: layout.Motion) -> bytes:
    """An mp4 of a sample's first seconds at its own rate: at the left its video, at the right its skeleton."""
    pose = motion.sample.pose
    fps = float(pose.fps) if pose is not None else motion.video_fps
    wanted = timing.grid(0, min(motion.seconds, _MOST_SECONDS), fps)
    parts = []
    if motion.video is not None and (shown := _shown(motion, wanted)) is not None:
        parts.append(shown)
    if pose is not None:
        moved = timing.at_times(pose, np.arange(len(pose)) / pose.fps, wanted, fps)
        drawn = np.stack([_drawn(moved, i) for i in range(len(wanted))])
        parts.append(drawn)
    return video.encoded(np.concatenate(parts, axis=2), fps)


def _drawn(pose: Pose, at: int) -> UInt8[np.ndarray, "h w 3"]:
    return draw(pose.slice(at, at + 1), (_SIDE, _SIDE))[0]


def _shown(motion: layout.Motion, wanted: np.ndarray) -> UInt8[np.ndarray, "t h w 3"] | None:
    """The video's frames at these times, seen as the skeleton beside it is where they belong together."""
    stamps: list[float] = []
    end = float(wanted[-1]) + 1 / motion.video_fps

    def frames() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for time, frame in video.frames_of(motion.sample.name, motion.video or b""):
            if time > end:
                return
            stamps.append(time)
            yield frame

    size = (_SIDE, _SIDE)
    if motion.centre is None:
        seen = list(framing.middle(frames(), size))
    else:
        seen = list(framing.around_signer(frames(), motion.centre, motion.scale, size))
    return np.stack(seen)[timing.nearest(np.array(stamps), wanted)] if seen else None
