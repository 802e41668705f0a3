"""`signer convert`: poses from one format to another."""

import argparse
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from signer_jax import outside
from signer_jax.cli.common import command, distinct, inside_one_another
from signer_jax.errors import SignerError, one_line

if TYPE_CHECKING:
    from signer_jax.pose.formats.clip import Clip

FOLDER = "folder of poses"
_SHOWN = 5  # remarks of a kind
_LONGEST = 100  # characters of a file's name that a clip's makes
_MOST_SIDE = 65_535  # pixels, as a `.pose` file says them
_ODD = re.compile(r"[^\w.+-]+")


def add(commands: Any) -> None:
    parser = command(
        commands, "convert", "Convert poses: .pose, OpenPose's JSON, DWPose's json/npz/npy, .skels, SLRTP's .pkl.",
        "signer convert openpose_output/json/CLIP clip.pose --fps 24\n"
        "         signer convert dev.skels dev-poses --fps 25\n"
        "         signer convert results_dwpose/npz clip.pose --fps 25 --size 720x1280", run,
    )  # fmt: skip
    parser.add_argument("input", metavar="IN", help="a file by its ending, or a folder with a file a frame")
    parser.add_argument(
        "output", metavar="OUT",
        help="a file by its ending; a folder's name (with a / behind it where it has a dot): OpenPose's JSON, named "
        "json, npz or npy DWPose's frames; of a file with several sequences a .pose of each",
    )  # fmt: skip
    parser.add_argument("--fps", type=float, help="frames a second, where the format does not say them")
    parser.add_argument("--size", help="height and width of the picture in pixels, such as 720x1280")
    parser.add_argument(
        "--canonical",
        action="store_true",
        help="by way of the 128 joints, where OUT is of IN's kind (or both are OpenPose's) and would keep all of it",
    )
    parser.add_argument("--force", action="store_true", help="replace a file that has OUT's name")


def run(arguments: argparse.Namespace) -> None:
    source, out = Path(arguments.input), Path(arguments.output)
    distinct({"IN": arguments.input}, {"OUT": arguments.output})
    folder = arguments.output.endswith(("/", os.sep))
    if source.is_dir() or folder or not out.suffix:
        inside_one_another({"IN": arguments.input, "OUT": arguments.output})
    size = picture_size(arguments.size) if arguments.size else None
    _check_output(out, folder=folder, replace_it=arguments.force)
    done = None if arguments.canonical else copied(source, out, arguments.fps, size, folder=folder)
    count, frames, said, dropped = done or _rewritten(source, out, arguments.fps, size, folder=folder)
    print(one_line(f"{out}: {count} {'sequence' if count == 1 else 'sequences'}, {frames} frames"))
    for remark, times in list(said.items())[:_SHOWN]:
        print(one_line(f"read: {remark}" + (f" ({times} times)" if times > 1 else "")))
    if len(said) > _SHOWN:
        print(f"read: {len(said) - _SHOWN} more remarks of this kind")
    print(one_line(f"dropped: {'; '.join(dropped) or 'nothing'}"))


# How many sequences and frames there are, what was read otherwise and how often, and what is not there.
_Done: TypeAlias = tuple[int, int, dict[str, int], list[str]]


def copied(
    source: Path, out: Path, fps: float | None, size: tuple[int, int] | None, *, folder: bool = False
) -> _Done | None:
    """From a kind to itself, and between OpenPose's two: whatever is in it; None of other pairs. With `folder` the
    output is one, whatever dots its name has.
    """
    from signer_jax.pose.formats import clip as clips
    from signer_jax.pose.formats import dwpose, openpose_137, openpose_json, pose_file, skels, slrtp

    of, to = kind_of(source), _written_as(out, many=is_many(source), folder=folder)
    if ".pose" in (of, to) and {of, to} <= {".pose", openpose_json.KIND}:
        whole = (
            pose_file.copy(source, out, fps, size) if of == to
            else openpose_137.to_pose(source, out, fps, size) if to == ".pose"
            else openpose_137.from_pose(source, out, fps)
        )  # fmt: skip
        return whole and (1, whole[0], dict.fromkeys(whole[1], 1), whole[2])
    if of != to:
        return None
    rate = None if fps is None else clips.rate(source, fps, of)
    if of == skels.KIND:
        count, frames, dropped = skels.copy(source, out)
    elif of == slrtp.KIND:
        count, frames, dropped = slrtp.copy(source, out)
        rate = None if rate == slrtp.FPS else rate
    elif of == openpose_json.KIND:
        count, (frames, dropped) = 1, openpose_json.copy(source, out)
    else:
        count, (frames, dropped) = 1, dwpose.copy(source, out, out.suffix.lower().removeprefix(".") or out.name)
    dropped += [] if rate is None else [f"the frame rate of {rate:g}"]
    return count, frames, {}, dropped + ([] if size is None else ["the picture's size"])


def _rewritten(source: Path, out: Path, fps: float | None, size: tuple[int, int] | None, *, folder: bool) -> _Done:
    """By way of the 128 joints."""
    from signer_jax.pose.formats import clip as clips

    said: dict[str, int] = {}
    frames = 0

    def told() -> Iterator["Clip"]:
        nonlocal frames
        for clip in read(source, fps):
            lost = clips.unread(clip)
            for remark in clip.remarks:
                if remark not in lost:
                    said[remark] = said.get(remark, 0) + 1
            frames += len(clip.pose)
            yield replace(clip, size=size or clip.size)

    count, dropped = write(out, told(), many=is_many(source), folder=folder)
    return count, frames, said, dropped


def picture_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text.strip())
    if match is None or not all(1 <= int(side) <= _MOST_SIDE for side in match.groups()):
        raise SignerError(f"--size {text}: is no height and width in pixels; give such as 720x1280")
    return int(match[1]), int(match[2])


def _check_output(out: Path, *, folder: bool, replace_it: bool) -> None:
    named = out.suffix and not folder  # a file, unless that folder is there
    if named and not out.is_dir() and out.suffix not in _endings():
        known = ", ".join((".pose", ".skels", ".pkl", ".json", ".npz", ".npy"))
        raise SignerError(
            f"{out}: no poses are written as {out.suffix!r}; give one of {known}, or, of a folder, {out}/"
        )
    if named and out.suffix == ".pt":
        raise SignerError(f"{out}: .pt is torch's and only read; give a .pkl, which the challenge's code takes too")
    if os.path.lexists(out) and not out.is_dir() and not replace_it:
        raise SignerError(f"OUT {out}: is there already and would be replaced; give another name, or --force")


def _endings() -> tuple[str, ...]:
    """Of files that are written; of .pt in one line that they are not."""
    from signer_jax.pose.formats import slrtp

    return (".pose", ".skels", *slrtp.ENDINGS, *_dwpose_endings())


def _dwpose_endings() -> tuple[str, ...]:
    from signer_jax.pose.formats import dwpose

    return tuple(f".{kind}" for kind in dwpose.KINDS)


def is_many(source: Path) -> bool:
    """Whether the format holds several sequences."""
    from signer_jax.pose.formats import slrtp

    return not source.is_dir() and source.suffix.lower() in (".skels", *slrtp.ENDINGS)


def kind_of(source: Path) -> str:
    """Which format a file or a folder is of, by its ending: its module's `KIND`. Raises `SignerError` for none."""
    from signer_jax.pose.formats import dwpose, openpose_json, skels, slrtp

    ending = source.suffix.lower()
    if source.is_dir():
        openpose = any(entry.name.endswith(openpose_json.ENDING) for entry in source.iterdir())
        return openpose_json.KIND if openpose else dwpose.KIND
    if source.name.endswith(openpose_json.ENDING):
        return openpose_json.KIND
    kinds = {".skels": skels.KIND, ".pose": ".pose"} | dict.fromkeys(slrtp.ENDINGS, slrtp.KIND)
    kinds |= dict.fromkeys(_dwpose_endings(), dwpose.KIND)
    if ending not in kinds:
        outside.plain_file(source, "give a file or a folder of poses")
        known = ", ".join((".pose", ".skels", *slrtp.ENDINGS, *_dwpose_endings()))
        raise SignerError(f"{source}: no poses are known by this ending; give one of {known}, or a folder of frames")
    return kinds[ending]


def _written_as(out: Path, *, many: bool, folder: bool) -> str:
    """The kind in which an output of this name is written; none of a folder of several sequences."""
    from signer_jax.pose.formats import dwpose, openpose_json, skels, slrtp

    ending = out.suffix.lower()
    if folder or ending not in _endings():
        ending = ""
    if ending == ".skels":
        return skels.KIND
    if ending in slrtp.ENDINGS:
        return slrtp.KIND
    if many and not ending:
        return ""
    if ending == ".pose":
        return ".pose"
    kind = ending.removeprefix(".") or out.name
    return dwpose.KIND if kind in dwpose.KINDS and not out.name.endswith(openpose_json.ENDING) else openpose_json.KIND


def read(source: Path, fps: float | None) -> Iterator["Clip"]:
    """The clips of a file or a folder, by its ending. Raises `SignerError` for an unknown one."""
    from signer_jax.pose.formats import dwpose, openpose_json, pose_file, skels, slrtp

    kind = kind_of(source)
    if kind == openpose_json.KIND:
        yield openpose_json.read(source, fps)
    elif kind == dwpose.KIND:
        yield dwpose.read(source, fps)
    elif kind == skels.KIND:
        yield from skels.read(source, fps)
    elif kind == slrtp.KIND:
        yield from slrtp.read(source, fps)
    else:
        yield pose_file.read_clip(source, fps)


def write(out: Path, found: Iterator["Clip"], *, many: bool, folder: bool = False) -> tuple[int, list[str]]:
    """Writes clips by the output's ending, with `folder` a folder; returns how many they are, and what of them is not
    there.
    """
    from signer_jax.pose.formats import dwpose, openpose_json, pose_file, skels, slrtp

    kind = _written_as(out, many=many, folder=folder)
    if kind == skels.KIND:
        return skels.write(out, found)
    if kind == slrtp.KIND:
        return slrtp.write(out, found)
    if not kind:
        return _write_each(out, found)
    clip = next(found)
    if many and next(found, None) is not None:
        raise SignerError(f"{out}: holds one sequence where the input has several; give a folder's name")
    named = ["the sequence's name"] if many and clip.name != out.stem else []
    if kind == ".pose":
        return 1, pose_file.write_clip(out, clip) + named
    if kind == dwpose.KIND:
        return 1, dwpose.write(out, clip, out.suffix.lower().removeprefix(".") or out.name) + named
    return 1, openpose_json.write(out, clip) + named


def _write_each(out: Path, found: Iterator["Clip"]) -> tuple[int, list[str]]:
    from signer_jax import storage
    from signer_jax.pose.formats import pose_file

    dropped: dict[str, None] = {}
    names: set[str] = set()
    with storage.new_folder(out, FOLDER) as partial:
        for clip in found:
            stem = name = _ODD.sub("_", clip.name).strip("._")[:_LONGEST] or "clip"
            number = 2
            while name.lower() in names:
                name, number = f"{stem}-{number}", number + 1
            names.add(name.lower())
            said = pose_file.write_clip(partial / f"{name}.pose", clip)
            dropped |= dict.fromkeys(said + ["names, as they stand"] * (name != clip.name))
    return len(names), list(dropped)
