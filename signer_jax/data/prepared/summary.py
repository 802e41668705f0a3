"""What a prepared set holds and what it does not: `index.json` and its report, of its parts' tables."""

import csv
import io
import math
import sqlite3
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from signer_jax import report as html
from signer_jax import storage
from signer_jax.data import far_shards, framing, prompts
from signer_jax.data.glossing import UNGLOSSED
from signer_jax.data.prepared import layout, leakage
from signer_jax.data.prepared.compared import Compared
from signer_jax.data.prepared.taking import DROPPED, FILLED, FILTERS, MOVED, OTHER_TIMES
from signer_jax.data.video import frames_of
from signer_jax.errors import SignerError
from signer_jax.pose.draw import draw

LEFT_OUT, OTHERWISE = "left_out.csv", "kept_otherwise.csv"  # every name; the report has the first of each kind
_UNSIGNED = ("openvid",)  # what shows no sign language
_KEPT = 1000  # rows of a kind in report.json
_SHOWN = 20  # names of a reason on the page
_SAMPLES = 8  # pictures
_PICTURE = 320  # pixels
_LENGTHS = (1, 2, 4, 8, 16, 32, 64)  # seconds, of the histogram
_KINDS = (
    "items", "left_out", "kept", "texts", "glossed", "sentences", "poses", "videos", "posed_videos", "signs",
)  # fmt: skip
_GLOSSES = {"lacking": "glosses where there were none", "all": "glosses of all texts, the dataset's own left out"}
_NAME, _PART = "name", "part"  # kinds of what samples are compared by, beside leakage's
_JOINTS = (DROPPED, FILLED, MOVED)  # what is told with "N of M" joints
_MEDIA = {"pose": "frames", "video": "video_fps"}  # and what of a row says that there is one
_TWICE = "same part of the same files as another sample of its split: kept twice"


def gathered(
    out: Path, about: Mapping[str, Any], parts: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The index and the report; the names in full in `LEFT_OUT` and `OTHERWISE`.

    Raises `SignerError` where a split has two samples of one name.
    """
    try:
        with _Rows(out / LEFT_OUT, ("split", "name", "reason", "where", "detail", "by")) as left, \
                _Rows(out / OTHERWISE, ("what", "split", "name", "detail")) as mended, \
                Compared(mended.beside("compared.sqlite")) as compared:  # fmt: skip
            return _gathered(out, about, parts, left, mended, compared)
    except sqlite3.Error as error:
        raise SignerError(f"{out}: cannot be written ({error}); check the place, its rights and its space") from None


class _Rows:
    """A csv that is written row by row, of which the first rows of each kind and their numbers are kept."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.columns = columns
        self.first: dict[str, list[dict[str, str]]] = {}
        self.counts: Counter[str] = Counter()
        self._held = ExitStack()
        self._path = path

    def __enter__(self) -> "_Rows":
        self._partial = self._held.enter_context(storage.new_file(self._path))
        opened = self._partial.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        file = self._held.enter_context(opened)
        self._write = csv.writer(file, lineterminator="\n").writerow
        self._write(self.columns)
        return self

    def beside(self, name: str) -> Path:
        """Where a file may be written that goes when this one is done."""
        return self._partial.with_name(name)

    def __exit__(self, *raised: Any) -> bool | None:
        return self._held.__exit__(*raised)

    def add(self, kind: str, row: dict[str, str]) -> None:
        self._write([row[column] for column in self.columns])
        self.counts[kind] += 1
        if self.counts[kind] <= _KEPT:
            self.first.setdefault(kind, []).append(row)


def _gathered(
    out: Path, about: Mapping[str, Any], parts: Mapping[str, Sequence[str]], left: _Rows, mended: _Rows,
    compared: Compared,
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    counts: dict[str, dict[str, int]] = {}
    files: dict[str, Any] = {}
    filtered: Counter[tuple[str, str]] = Counter()
    rates: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    by: Counter[str] = Counter()
    posed: Counter[str] = Counter()
    languages: set[str] = set()
    lacks: Counter[str] = Counter()  # texts without a language, or without glosses
    unasked: Counter[str] = Counter()  # training texts without a prompt by templates, by their spoken language
    joints: dict[str, Counter[str]] = {}  # that cleaning moved, and that are seen in the same samples
    ways: leakage.Ways = {}
    glosses: dict[str, dict[str, dict[str, Counter[str]]]] = {}  # language -> split -> by whom
    for split, listed in parts.items():
        count = counts[split] = dict.fromkeys(
            ("items", "left_out", "kept", "texts", "glossed", "sentences", "poses", "videos", "posed_videos", "signs",
             "prompts"), 0,
        )  # fmt: skip

        def otherwise(what: str, name: str, detail: str = "", split: str = split) -> None:
            mended.add(what, {"what": what, "split": split, "name": name, "detail": detail})
            if what in _JOINTS:
                moved, _, seen = detail.partition(" of ")
                joints.setdefault(what, Counter()).update({"joints": int(moved), "of": int(seen)})

        for table in (layout.table_of(out, name) for name in listed):
            files |= table["files"]
            for one in table["left"]:
                left.add(one["reason"], one | {"split": split})
                filtered[one["by"], one["reason"]] += 1
            for what, name, detail in _mended(table):
                otherwise(what, name, detail)
            for language, makers in table["glosses_by"].items():
                for maker, known in makers.items():
                    of_split = glosses.setdefault(language, {}).setdefault(split, {})
                    of_split.setdefault(maker, Counter()).update(known)
            asked = sum(bool(one["prompt_by"]) for one in table["kept"])
            count["items"] += len(table["kept"]) + len(table["left"]) - asked
            count["left_out"] += len(table["left"])
            for one in table["kept"]:
                _count(count, one)
                if compared.first(_NAME, split, name := one["name"], "") is not None:
                    raise SignerError(f"{out}: {split} has two samples named {name}; prepare it into another folder")
                languages.add(one["language"])
                if one["prompt_by"]:
                    continue
                if one["same"] and (first := compared.first(_PART, split, one["same"], name)) is not None:
                    otherwise(_TWICE, name, first)
                by[one["glosses_by"] or "none"] += 1
                lacks["language"] += bool(one["sentence"]) and not one["language"]
                lacks["glosses"] += bool(one["sentence"]) and not one["glosses"]
                if split == "train" and one["sentence"] and not prompts.templates_of(one["spoken"]):
                    unasked[one["spoken"]] += 1
                if one["frames"]:
                    posed[one["pose_by"] or "the dataset"] += 1
                if one["seconds"]:
                    compared.lasts(split, one["seconds"])
                if one["frames"]:
                    rates[f"pose {one['fps']:.6g}"] += 1
                if one["video_fps"]:
                    rates[f"video {one['video_fps']:.6g}"] += 1
                    sizes[f"{one['width']}x{one['height']}"] += 1
                leakage.add_ways(ways, split, one)
                for kind in filter(one.get, leakage.KINDS):
                    compared.first(kind, split, one[kind], name)
        for what, there in _MEDIA.items():
            for table in (layout.table_of(out, name) for name in listed if 0 < count[f"{what}s"] < count["kept"]):
                for one in table["kept"]:
                    if not one[there] and not one["prompt_by"]:
                        otherwise(f"no {what}, which others of its split have", one["name"])
    twice, first_twice = compared.in_several(_NAME, _KEPT)
    index = {
        "made_by": about["made_by"], "kind": about["kind"], "version": about["version"], "dataset": about["dataset"],
        "splits": counts, "parts": {split: list(listed) for split, listed in parts.items()}, "files": files,
        "languages": sorted(languages - {""}),
    }  # fmt: skip
    report = {
        "dataset": about["dataset"], "source": about["source"], "how": about["how"], "counts": counts,
        "remarks": [
            *_remarks(about, lacks, sum(count["texts"] for count in counts.values()), mended.counts[UNGLOSSED]),
            *_unasked(about, unasked, counts.get("train", {}).get("texts", 0)),
        ],
        "filters": _filters(counts, filtered), "left_out": [row for rows in left.first.values() for row in rows],
        "kept_otherwise": {what: [row["name"] for row in rows] for what, rows in sorted(mended.first.items())},
        "details": {what: {row["name"]: row["detail"] for row in rows}
                    for what, rows in sorted(mended.first.items()) if any(row["detail"] for row in rows)},
        "cleaned": {what: dict(of) for what, of in sorted(joints.items())},
        "counted": {"left_out": dict(left.counts.most_common()), "kept_otherwise": dict(sorted(mended.counts.items())),
                    "named_twice": twice},
        "named_twice": first_twice,
        "lengths": {split: found for split in parts if (found := _lengths(compared, split))},
        "frame_rates": dict(rates.most_common()), "sizes": dict(sizes.most_common()),
        "glosses_by": dict(by), "poses_by": dict(posed),
        "leakage": leakage.within(compared, ways, [split for split, count in counts.items() if count["kept"]]),
        "gloss_coverage": {language: _coverage(of) for language, of in sorted(glosses.items()) if any(of.values())},
    }  # fmt: skip
    return index, report


def _count(count: dict[str, int], one: Mapping[str, Any]) -> None:
    if one["prompt_by"]:
        count["prompts"] += 1
        return
    count["kept"] += 1
    count["texts"] += one["sentence"] != ""
    count["glossed"] += one["glosses"] > 0
    count["sentences"] += one["sentence"] != "" and one["glosses"] > 0 and one["language"] != ""
    count["poses"] += one["frames"] > 0
    count["videos"] += one["video_fps"] > 0
    count["posed_videos"] += one["frames"] > 0 and one["video_fps"] > 0
    count["signs"] += layout.is_sign(one)


def _remarks(about: Mapping[str, Any], lacks: Mapping[str, int], texts: int, unglossed: int) -> list[str]:
    """What of the whole set a run will stumble over, in lines."""
    lines = []
    if lacks["language"] and about["dataset"] not in _UNSIGNED:
        lines.append(f"{lacks['language']} of {texts} texts have no language, so that no run learns glosses of them; "
                     "name it with --language")  # fmt: skip
    maker = about["how"]["glosses"].partition(" ")[0]
    if lacks["glosses"] and maker == "none" and about["dataset"] not in _UNSIGNED:
        lines.append(f"{lacks['glosses']} of {texts} texts have no glosses, so that no run learns glosses of them; "
                     "--glosses rules or slul:RUN makes some")  # fmt: skip
    if lacks["glosses"] and maker != "none":
        of = (
            "rules are of English texts: name these with --spoken en where the dataset does not" if maker == "rules"
            else "the run must know the language, which --language names where the dataset does not"
        )  # fmt: skip
        lines.append(f"{lacks['glosses']} of {texts} texts have no glosses, and --glosses {maker} made none; {of}")
    if unglossed:
        lines.append(f"{unglossed} of {texts} texts have glosses in the dataset, for which --glosses {maker} made "
                     f"none: with --glosses-for all they stand without any ({OTHERWISE} names them)")  # fmt: skip
    return lines


def _unasked(about: Mapping[str, Any], unasked: Mapping[str, int], texts: int) -> list[str]:
    """How many training texts have none of the prompts that `--prompts` asks for, and why; a line, or none."""
    if not about["how"].get("prompts") or not unasked:
        return []
    in_others = [f"{count} in {spoken}" for spoken, count in sorted(unasked.items()) if spoken]
    why = [f"{', '.join(in_others)}, without templates ({', '.join(prompts.TEMPLATES)} have some)"] if in_others else []
    if nameless := unasked.get("", 0):
        why.append(f"{nameless} in no language that is known: name it with --spoken")
    return [f"{sum(unasked.values())} of {texts} training texts have no prompts by templates: {'; '.join(why)}"]


def _mended(table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What, name and detail of what a part kept otherwise. In sets of before a detail stands behind its name."""
    for what, which in table["mended"].items():
        if isinstance(which, dict):
            yield from ((what, name, detail) for name, detail in which.items())
            continue
        for name in which:
            if what in (*_JOINTS, OTHER_TIMES):
                own, _, detail = name.removesuffix(")").rpartition(" (")
                yield what, own, detail
            else:
                yield what, name, ""


def _filters(counts: Mapping[str, Mapping[str, int]], reasons: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    """Each filter in its order: the reader's own first, then `FILTERS`; how many came to it, and went on."""
    before = sum(count["items"] for count in counts.values())
    own = sorted(reason for by, reason in reasons if by == "named")
    rows = []
    for by, reason in [*(("named", reason) for reason in own), *(("taken", reason) for reason in FILTERS)]:
        gone = reasons[by, reason]
        rows.append({"filter": reason, "by": by, "before": before, "left_out": gone, "after": before - gone})
        before -= gone
    return rows


def _lengths(compared: Compared, split: str) -> dict[str, Any]:
    """Of a split's samples, nothing where none has a length."""
    if not (count := sum(times for _, times in compared.lengths(split))):
        return {}
    edges = (0.0, *_LENGTHS, math.inf)
    bins = [0] * (len(edges) - 1)
    middle, wanted = [], [(count - 1) // 2, count // 2]
    shortest, length, passed, total = math.inf, 0, 0, 0
    for length, times in compared.lengths(split):  # from the shortest on
        shortest = min(shortest, length)
        bins[bisect_right(edges, length / 1e6) - 1] += times
        middle += [length / 1e6 for at in wanted if passed <= at < passed + times]
        passed, total = passed + times, total + length * times
    return {
        "count": count, "hours": total / 3.6e9, "shortest": shortest / 1e6, "median": sum(middle) / 2,
        "longest": length / 1e6,
        "histogram": {
            f"{low:g} to {high:g} s" if math.isfinite(high) else f"{low:g} s and more": times
            for low, high, times in zip(edges, edges[1:], bins, strict=False)
        },
    }  # fmt: skip


def _coverage(glosses: Mapping[str, Mapping[str, Counter[str]]]) -> dict[str, Any]:
    """Of a language, by split and by who made them: how many glosses there are, how many occur once, and which share of
    them training has seen of the same maker; never those of people and of programs in one figure.
    """
    return {
        split: {
            maker: {
                "glosses": count.total(), "different": len(count), "once": sum(times == 1 for times in count.values()),
                "seen_in_training": sum(times for gloss, times in count.items()
                                        if gloss in glosses.get("train", {}).get(maker, ())) / count.total(),
            }
            for maker, count in sorted(makers.items()) if count
        }
        for split, makers in glosses.items() if any(makers.values())
    }  # fmt: skip


# ---- The page --------------------------------------------------------------------------------------------------------


def write_page(out: Path, index: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    """`report.html`: the report for people, with pictures of samples."""
    counts = report["counts"]
    columns = ("items", "left_out", "kept", "texts", "glossed", "poses", "videos", "prompts")
    tables: list[html.Table] = [
        ("Samples", ("split", *(name.replace("_", " ") for name in columns)),
         [[split, *(count[name] for name in columns)] for split, count in counts.items()], ""),
        ("Filters, in their order", ("filter", "before", "left out", "after"),
         [[row["filter"], row["before"], row["left_out"], row["after"]] for row in report["filters"]],
         "The first ones are the dataset's tables and folders, the others what became of the files."),
    ]  # fmt: skip
    by_reason: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for one in report["left_out"]:
        by_reason[one["reason"]].append(one)
    for reason, rows in by_reason.items():
        count = report["counted"]["left_out"][reason]
        note = f"{count - _SHOWN} more are in {LEFT_OUT}." if count > _SHOWN else ""
        cells = [[one["name"], one["split"], one["where"], one["detail"]] for one in rows[:_SHOWN]]
        tables.append((f"Left out: {reason} ({count})", ("name", "split", "where", "what is wrong"), cells, note))
    if report["kept_otherwise"]:
        note = f"All of them are in {OTHERWISE}."
        tables.append(("Kept otherwise than it came", ("what", "samples", "joints", "the first"),
                       [[row["what"], row["samples"], row["joints"], ", ".join(row["first"][:_SHOWN])]
                        for row in kept_otherwise(report)], note))  # fmt: skip
    if report["remarks"]:
        tables.append(("To be known", ("remark",), [[line] for line in report["remarks"]], ""))
    lengths = report["lengths"]
    if lengths:
        kinds = ("count", "hours", "shortest", "median", "longest")
        spans = [[split, *(one[kind] for kind in kinds)] for split, one in lengths.items()]
        tables.append(("Lengths, in seconds", ("split", *kinds), spans, ""))
        bins = list(next(iter(lengths.values()))["histogram"])
        cells = [[name, *(one["histogram"][name] for one in lengths.values())] for name in bins]
        tables.append(("Samples by length", ("seconds", *lengths), cells, ""))
    several = (
        ("Frame rates", "frame_rates"), ("Sizes of the videos", "sizes"), ("Glosses", "glosses_by"),
        ("Poses", "poses_by"),
    )  # fmt: skip
    for caption, values in several:
        if report[values]:
            head = {"glosses_by": "by whom", "poses_by": "by what"}.get(values, "value")
            tables.append((caption, (head, "samples"), list(report[values].items()), ""))
    if coverage := report["gloss_coverage"]:
        cells = [[language, split, by, *one.values()] for language, of in coverage.items()
                 for split, makers in of.items() for by, one in makers.items()]  # fmt: skip
        heads = ("language", "split", "by whom", "glosses", "different", "occur once", "share seen in training")
        tables.append(("Glosses covered", heads, cells, ""))
    cells = [[row["what"], " and ".join(row["splits"]), leakage.count_of(row), leakage.samples_of(row),
              ", ".join(row["examples"])] for row in report["leakage"]]  # fmt: skip
    if cells:
        kinds_shared = ("what", "splits", "shared", "samples that have one", "examples")
        tables.append(("Shared between splits", kinds_shared, cells, ""))
    html.write(
        out / "report.html", title=f"Prepared: {report['dataset']}", tables=tables,
        pictures=[(caption, _png(picture)) for caption, picture in samples(out, index)],
        facts={"dataset": report["dataset"], "source": report["source"], **_said(report["how"])},
    )  # fmt: skip


def kept_otherwise(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For people: what was kept otherwise, of how many samples, how many joints that is, the `first` with details."""
    details, cleaned = report.get("details", {}), report.get("cleaned", {})
    rows = []
    for what, names in report["kept_otherwise"].items():
        of = details.get(what, {})
        rows.append({
            "what": what, "samples": report["counted"]["kept_otherwise"][what],
            "joints": "{joints} of {of}".format(**cleaned[what]) if what in cleaned else "",
            "first": [f"{name} ({of[name]})" if of.get(name) else name for name in names],
        })  # fmt: skip
    return rows


def _said(how: Mapping[str, Any]) -> dict[str, object]:
    size = how["size"]
    return {
        "poses cleaned": {"all": "of all splits", "train": "of train alone"}.get(how.get("clean", "all"), "none"),
        "frames a second": how["fps"] or "each sample's own", "poses": how["poses"], "video": how["video"],
        "size of the videos": f"{size[0]}x{size[1]} (height x width)" if size else "each sample's own",
        **({"language of what names none": how["language"]} if how.get("language") else {}),
        **({"language of texts that name none": how["spoken"]} if how.get("spoken") else {}),
        "prompts a training text": how["prompts"],
        _GLOSSES.get(how.get("glosses_for", ""), _GLOSSES["lacking"]): how["glosses"],
        **({"pictures of poses that are shares of one": "{}x{} (height x width), assumed".format(*how["pose_size"])}
           if how["pose_size"] else {}),
        **({"poses where there were none": how["poses_by"]} if how["poses_by"] else {}),
    }  # fmt: skip


def samples(
    out: Path, index: Mapping[str, Any], most: int = _SAMPLES
) -> Iterator[tuple[str, UInt8[np.ndarray, "h w 3"]]]:
    """A picture of the middle of some samples, spread over the parts: the video with the skeleton on it, or what there
    is of the two.
    """
    found = [(name, said["records"]) for name, said in sorted(index["files"].items()) if f".{layout.MOTION}." in name]
    ends = np.cumsum([count for _, count in found])
    for place in np.linspace(0, ends[-1] - 1, min(most, int(ends[-1]))).round().astype(int) if found else ():
        file = int(np.searchsorted(ends, place, side="right"))
        name, at = found[file][0], int(place - ends[file] + found[file][1])
        said = index["files"][name]
        path = out / layout.PARTS / name
        motion = far_shards.opened(path, said["records"], layout.read_motion, layout.REMAKE, said["bytes"])[at]
        text = motion.sample.text or " ".join(motion.sample.glosses)
        yield f"{motion.sample.name}{': ' if text else ''}{text[:200]}", picture(motion)


def picture(motion: layout.Motion) -> UInt8[np.ndarray, "h w 3"]:
    """The frame in the middle of a sample, with the skeleton on it."""
    size = (_PICTURE, _PICTURE)
    drawn = np.zeros((*size, 3), np.uint8)
    pose = motion.sample.pose
    if pose is not None:
        at = len(pose) // 2
        drawn = draw(pose.slice(at, at + 1), size)[0]
    if motion.video is None:
        return drawn
    frame = None
    for time, shown in frames_of(motion.sample.name, motion.video):
        frame = shown
        if time >= motion.seconds / 2:
            break
    if frame is None:
        return drawn
    if motion.centre is None:
        return next(framing.middle([frame], size))
    seen = next(framing.around_signer([frame], motion.centre, motion.scale, size))
    return np.where(drawn.max(-1, keepdims=True) > 0, drawn, seen)


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=88)
    return file.getvalue()
