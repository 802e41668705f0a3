"""`signer view`: poses beside each other, on a page that plays them, as a video or as a picture."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signer_jax import storage
from signer_jax.cli.common import command, distinct, output_folder
from signer_jax.cli.convert import picture_size, read
from signer_jax.errors import SignerError, closest, one_line

if TYPE_CHECKING:
    from signer_jax.viewing.poses import Shown

_PAGE = "view.html"
_SIDE = 384  # pixels of a skeleton in a video and in a picture


def add(commands: Any) -> None:
    parser = command(
        commands, "view", "Play poses beside each other on a page for the browser; or draw them.",
        "signer view signed.pose recorded.pose --out beside.html\n"
        "         signer view true.skels made.skels --fps 25 --name dev/1 --name dev/2\n"
        "         signer view signed.pose --video signed.mp4 --png signed.png", run,
    )  # fmt: skip
    parser.add_argument("files", metavar="F", nargs="+", help="poses in any format that `signer convert` reads")
    parser.add_argument("--out", help=f"the page ({_PAGE}, unless --video or --png is given alone)")
    parser.add_argument("--video", help="an mp4 of the skeletons beside each other")
    parser.add_argument("--png", help="a picture: a row a pose, eight moments of it")
    parser.add_argument("--name", action="append", help="of a file with several sequences this one; may be repeated")
    parser.add_argument("--from", dest="start", type=float, default=0.0, metavar="SECONDS", help="begin there (0)")
    parser.add_argument("--threshold", type=float, default=0.3, help="the highest confidence that is not drawn (0.3)")
    parser.add_argument("--fps", type=float, help="frames a second, where the format does not say them")
    parser.add_argument("--size", help="height and width of the picture in pixels, such as 720x1280")


def run(arguments: argparse.Namespace) -> None:
    outputs = {"--out": arguments.out, "--video": arguments.video, "--png": arguments.png}
    if not any(outputs.values()):
        outputs["--out"] = _PAGE
    for flag, path in outputs.items():
        if path:
            output_folder(path, flag)
    distinct({f"the pose file {at + 1}": path for at, path in enumerate(arguments.files)}, outputs)
    for flag, value, highest in (("--from", arguments.start, math.inf), ("--threshold", arguments.threshold, 1)):
        if not 0 <= value < highest:
            raise SignerError(f"{flag} {value:g}: give a number from 0 to below {highest:g}")

    from signer_jax.data import video
    from signer_jax.viewing import poses

    shown = poses.between(_shown(arguments), arguments.start)
    for one in shown:
        facts = "; ".join((one.facts["joints"], one.facts["frames"], f"missing {one.facts['missing']}"))
        print(one_line(f"{one.name}: {facts}"))
        for remark in one.remarks:
            print(one_line(f"{one.name}: {remark}"))
    if outputs["--out"]:
        poses.write_page(outputs["--out"], shown, arguments.threshold, arguments.start)
    if outputs["--video"]:
        from signer_jax.progress import progress

        pictures = progress(poses.frames(shown, _SIDE, arguments.threshold), "frames drawn", delay=2.0)
        data = video.encoded(pictures, max(one.pose.fps for one in shown))
        storage.write_file(outputs["--video"], data)
    if outputs["--png"]:
        storage.write_file(outputs["--png"], poses.picture(shown, _SIDE, arguments.threshold))
    print(one_line(f"{', '.join(path for path in outputs.values() if path)}: written"))


def _shown(arguments: argparse.Namespace) -> "list[Shown]":
    """The sequences that are looked at: those that are named, else of each file as many as there is room for; the first
    of all files, then the second of all, so that what is compared stands side by side.
    """
    from signer_jax.pose.formats import clip as clips
    from signer_jax.viewing.poses import MOST_CLIPS, as_shown

    size = picture_size(arguments.size) if arguments.size else None
    names: Sequence[str] = arguments.name or ()
    room = MOST_CLIPS // (len(arguments.files) * max(1, len(names)))
    if not room:
        raise SignerError(f"more than {MOST_CLIPS} sequences cannot be seen at once; give fewer files or names")
    files: list[list[Shown]] = []
    for path in map(Path, arguments.files):
        of_file: list[Shown] = []
        files.append(of_file)
        left, others = list(names), []
        shown = 0
        says_fps = path.suffix.lower() == ".pose" and not path.is_dir()
        for clip in read(path, None if says_fps else arguments.fps):
            if names and clip.name not in left:
                others.append(clip.name)
                continue
            if not names and shown == room:
                print(one_line(f"{path}: the first {room} of its sequences are shown; --name shows others"))
                break
            sized = replace(clip, size=size or clip.size)
            name = str(Path(*path.parts[-2:]))
            of_file.append(as_shown(clips.scaled(sized, "signer view"), name, arguments.threshold))
            shown += 1
            if names:
                left.remove(clip.name)
                if not left:
                    break
        if left:
            raise SignerError(f"{path}: has no sequence {left[0]!r}{closest(left[0], others)}; give another --name")
    return [one for together in zip_longest(*files) for one in together if one is not None]
