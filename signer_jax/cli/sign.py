"""`signer sign`: text in, video out."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signer_jax.cli.common import check_database, check_text, command, distinct, middle_of, open_picture, output_folder
from signer_jax.cli.score import normalised
from signer_jax.errors import SignerError, one_line

if TYPE_CHECKING:
    import numpy as np

SKELETON_SIZE = 256  # pixels of a skeleton video
LONG = 500  # frames: what takes longer shows how far it is


def add(commands: Any) -> None:
    parser = command(
        commands, "sign", "Make a video of a text or prompt; print its glosses.",
        "signer sign \"how do you sign 'my mother is tired'?\" --workdir runs/demo --out tired.mp4\n"
        "         signer sign \"ADA\" --prior lexicon.prior --pose ada.pose --out ada.mp4", run,
    )  # fmt: skip
    parser.add_argument("text", nargs="?", default="", help="text or a prompt")
    parser.add_argument("--workdir", help="a trained run")
    parser.add_argument("--prior", help="a pose database instead of a run: its words, or letters, as a skeleton video")
    parser.add_argument("--out", required=True, help="the video, .mp4")
    parser.add_argument("--pose", help="write the pose too, .pose")
    parser.add_argument(
        "--from-pose", metavar="FILE.pose", help="render this pose; the text is then what the run's text encoder reads"
    )
    parser.add_argument("--style", help="a picture of the signer to render")
    parser.add_argument("--language", help="the sign language (ase, gsg, …); found from the text where not given")
    parser.add_argument(
        "--as-recorded", action="store_true",
        help="with --prior: signs as slow as the database has them, each with its rise and sink",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    if bool(arguments.workdir) == bool(arguments.prior):
        raise SignerError("sign: give either --workdir (a trained run) or --prior (a pose database)")
    given = arguments.from_pose
    if given and (arguments.prior or arguments.pose or arguments.language):
        raise SignerError("--from-pose is rendered by --workdir alone; leave --prior, --pose and --language out")
    if arguments.as_recorded and not arguments.prior:
        raise SignerError("--as-recorded needs --prior: a run has learned its times; leave it out")
    if arguments.text or not given:
        check_text(arguments.text)
    video_file = output_folder(arguments.out, "--out")
    if video_file.suffix.lower() != ".mp4":
        raise SignerError(f"--out {arguments.out}: the video must end in .mp4")
    pose_file = output_folder(arguments.pose, "--pose") if arguments.pose else None
    inputs = {"--workdir": arguments.workdir, "--prior": arguments.prior, "--style": arguments.style}
    inputs["--from-pose"] = given
    distinct(inputs, {"--out": arguments.out, "--pose": arguments.pose})
    if pose_file and pose_file.suffix.lower() != ".pose":
        raise SignerError(f"--pose {arguments.pose}: the pose must end in .pose")
    if arguments.style and not arguments.workdir:
        raise SignerError("--style needs --workdir: a pose database has no renderer")
    picture = open_picture(arguments.style) if arguments.style else None

    import numpy as np

    from signer_jax.pipeline import Signer, check_asked
    from signer_jax.pose import fluent
    from signer_jax.pose.clean import clean
    from signer_jax.pose.draw import draw
    from signer_jax.pose.formats import pose_file as pose_format
    from signer_jax.pose.prior import Prior
    from signer_jax.progress import progress
    from signer_jax.stations.lookup import look_up
    from signer_jax.stations.understood import listed

    if arguments.workdir:
        pose = clean(normalised(Path(given))[0]) if given else None
        check_asked(
            arguments.workdir, arguments.text, language=arguments.language, styled=picture is not None,
            posed=pose is not None,
        )  # fmt: skip
        signer = Signer.load(arguments.workdir)
        style = middle_of(picture, signer.settings.data.size) if picture else None
        if pose is not None:
            filmed = signer.film(pose, text=arguments.text, style=style).video
            write(video_file, filmed, signer.fps)
            return
        signed = signer.sign(arguments.text, language=arguments.language, style=style)
    else:
        check_database(arguments.prior)
        prior = Prior.open(arguments.prior)
        manner = fluent.FLUENT if prior.isolated and not arguments.as_recorded else fluent.AS_RECORDED
        signed = look_up(arguments.text, arguments.language, prior, manner)
    print(one_line(" ".join(signed.glosses)))
    if signed.found:
        print(one_line(f"found: {', '.join(f'{word} ({how})' for word, how in signed.found)}"))
    if signed.fingerspelled:
        print(one_line(f"fingerspelled: {' '.join(signed.fingerspelled)}"))
    if signed.skipped:
        print(one_line(f"skipped (neither the sign nor its letters are known): {' '.join(signed.skipped)}"))
    if signed.unknown:
        print(one_line(f"skipped (words that no training text has): {listed(signed.unknown)}"))
    for remark in signed.remarks:
        print(one_line(f"signer: {remark}"), file=sys.stderr)
    if signed.look and signed.look != signed.signer:
        print(one_line(f"performed by {signed.signer}, of whom there is no training video; shown as {signed.look}"))
    long = len(signed.pose) > LONG
    if signed.video is None:
        parts = progress(range(0, len(signed.pose), LONG), "frames drawn", shown=long, unit_scale=LONG)
        frames = np.concatenate([draw(signed.pose.slice(i, i + LONG), SKELETON_SIZE) for i in parts])
    else:
        frames = signed.video
    if pose_file:
        pose_format.write(pose_file, signed.pose)
    write(video_file, frames, signed.pose.fps)


def write(file: Path, frames: "np.ndarray", fps: float) -> None:
    """The video, small ones enlarged."""
    from functools import partial

    from signer_jax.data import video as videos
    from signer_jax.progress import progress

    scale = max(1, SKELETON_SIZE // frames.shape[1])
    shown = partial(progress, what="frames written", shown=len(frames) > LONG)
    videos.write(file, frames, fps, scale=scale, watch=shown)
