"""`signer prepare`: a downloaded dataset into a prepared set, on one machine or many."""

import argparse
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signer_jax import storage
from signer_jax.cli.common import command, table
from signer_jax.errors import SignerError, closest, one_line
from signer_jax.json_files import LISTS, read_json
from signer_jax.mirror_places import is_below, shown

if TYPE_CHECKING:
    from signer_jax.data.datasets.item import Found
    from signer_jax.data.glossing import Glosses

ESTIMATORS = ("dwpose", "mediapipe")
DATASETS = ("how2sign", "prompt2sign", "wlasl", "phoenix14t", "csl_daily", "aslg_pc12", "openvid", "folder")
_OF_TEXTS = ("how2sign", "prompt2sign", "phoenix14t", "csl_daily", "folder")  # which are texts without their media, too
_SHARD = re.compile(r"(\d{1,4})/(\d{1,4})")
_SIZE = re.compile(r"([1-9]\d{0,3})x([1-9]\d{0,3})")


def add(commands: Any) -> None:
    parser = command(
        commands, "prepare",
        "Read a downloaded dataset once into a prepared set, which a run trains on where it is.",
        "signer prepare how2sign --source DIR --out sets/how2sign\n"
        "         signer train --config configs/how2sign_clips.py --workdir runs/a --config.data.corpus=prepared "
        "--config.data.source=sets/how2sign", run,
    )  # fmt: skip
    parser.add_argument("dataset", metavar="DATASET", help=f"one of {', '.join(DATASETS)}")
    parser.add_argument("--source", required=True, help="the dataset's folder, or gs://BUCKET/FOLDER, s3://…")
    parser.add_argument(
        "--out", required=True,
        help="the prepared set, a folder or gs://BUCKET/SET; what a killed start left there is gone on with",
    )  # fmt: skip
    parser.add_argument(
        "--shard", metavar="I/N",
        help="be worker I (from 0) of N, each with a range of the samples; the last to finish puts the set together, "
        "and so does the command without --shard",
    )  # fmt: skip
    parser.add_argument("--fps", type=float, default=0.0, help="bring all poses and videos to this rate (each its own)")
    parser.add_argument(
        "--pose-fps", type=float, default=0.0, metavar="N",
        help="the rate of poses that say none (OpenPose's JSON, DWPose's results); without it their video's, else left "
        "out; poses that are as many as their video's frames have its times in any case",
    )  # fmt: skip
    parser.add_argument(
        "--pose-size", metavar="HxW",
        help="height and width of the pictures of poses that are shares of one whose size nothing says (DWPose's "
        "results without their video, Prompt2Sign's .skels of 2025), else left out",
    )  # fmt: skip
    parser.add_argument(
        "--size", metavar="HxW",
        help="bring all videos to this height and width: around the signer where there is a pose, else the middle",
    )  # fmt: skip
    parser.add_argument(
        "--poses", choices=("ready", "none", *ESTIMATORS), default="ready",
        help="take the dataset's poses (ready), or also make those that it lacks, of the videos (dwpose, mediapipe)",
    )  # fmt: skip
    parser.add_argument(
        "--clean", choices=("all", "train", "none"), default="all",
        help="mend hands that are found twice, blink or jump for a frame, in poses of all splits (all), of train, "
        "or of none",
    )  # fmt: skip
    parser.add_argument(
        "--pose-weights",
        metavar="DIR",
        help="the estimator's files: yolox_l.onnx and dw-ll_ucoco_384.onnx, or holistic_landmarker.task",
    )
    parser.add_argument(
        "--prompts", type=int, default=0, metavar="N", help="add N prompts a training text, by templates (0)"
    )
    parser.add_argument(
        "--glosses", default="none", metavar="none|rules|slul:RUN",
        help="glosses for texts without any: by rules (English), by a trained run, or none; they are told from "
        "people's everywhere",
    )  # fmt: skip
    parser.add_argument(
        "--glosses-for", choices=("lacking", "all"), default="lacking",
        help="give them to texts without any (lacking), or to all in place of the dataset's own: further glosses for "
        "what a run learns beside the set with people's",
    )  # fmt: skip
    parser.add_argument(
        "--language", metavar="CODE",
        help="the sign language (IANA code such as ase) of samples for which the dataset names none",
    )  # fmt: skip
    parser.add_argument(
        "--spoken", metavar="CODE",
        help="the language (IANA code such as en) of texts for which the dataset names none",
    )  # fmt: skip
    parser.add_argument(
        "--video", choices=("bytes", "none"), default="bytes",
        help="keep the encoded videos (bytes); with --poses none, none takes a dataset's texts alone, and looks for no "
        "other files",
    )  # fmt: skip
    parser.add_argument(
        "--subset", type=int, metavar="K",
        help="of wlasl its first K glosses alone, which nslt_K.json lists: 100, 300, 1000 or 2000",
    )  # fmt: skip
    parser.add_argument(
        "--forget", action="store_true",
        help="take samples out of the set that the source no longer gives; else they stay, which ends with code 2, or "
        "nothing is changed",
    )  # fmt: skip
    parser.add_argument(
        "--per-part",
        type=int,
        metavar="N",
        help="samples a file, which a kill costs at most (256; 32 where --poses makes some, or --size or --fps has "
        "videos encoded anew)",
    )


def run(arguments: argparse.Namespace) -> None:
    if arguments.dataset not in DATASETS:
        raise SignerError(
            f"{arguments.dataset}: unknown dataset{closest(arguments.dataset, DATASETS)}; known: {', '.join(DATASETS)}"
        )
    worker, workers = shard_of(arguments.shard)
    for flag, fps in {"--fps": arguments.fps, "--pose-fps": arguments.pose_fps}.items():
        if fps and not 1 <= fps <= 1000:
            raise SignerError(f"{flag} {fps:g}: is no frame rate; give 1 to 1000, or leave it out")
    if arguments.per_part is not None and not 1 <= arguments.per_part <= 100_000:
        raise SignerError(f"--per-part {arguments.per_part}: give 1 to 100000")
    if arguments.subset is not None and arguments.dataset != "wlasl":
        raise SignerError(f"--subset {arguments.subset}: {arguments.dataset} has no subsets, wlasl alone; leave it out")
    if not 0 <= arguments.prompts <= 8:
        raise SignerError(f"--prompts {arguments.prompts}: give 0 to 8, as many templates as there are")
    by, _, taught = arguments.glosses.partition(":")
    if arguments.glosses not in ("none", "rules") and not (by == "slul" and taught):
        raise SignerError(f"--glosses {arguments.glosses}: give none, rules, or slul:RUN with a trained run's folder")
    if arguments.glosses == "none" and arguments.glosses_for != "lacking":
        raise SignerError(f"--glosses-for {arguments.glosses_for}: there are none to give; add --glosses slul:RUN")
    if (arguments.poses in ESTIMATORS) != bool(arguments.pose_weights):
        raise SignerError(
            f"--poses {arguments.poses}: needs --pose-weights, the folder of its files" if arguments.poses in ESTIMATORS
            else f"--pose-weights {arguments.pose_weights}: is of --poses dwpose or mediapipe; name one of them"
        )  # fmt: skip
    language, spoken = _languages(arguments.language, arguments.spoken)
    size, pose_size = _sides("--size", arguments.size), _sides("--pose-size", arguments.pose_size)
    source, out = Path(arguments.source), Path(arguments.out)
    if not source.is_dir():
        raise SignerError(f"--source {source}: no such folder; give the dataset's")
    if out.resolve().is_relative_to(source.resolve()) or is_below(out, source):
        raise SignerError(f"--out {out}: lies in --source; choose a place outside of it")
    storage.check_outside(out, f"--out {out}")
    if not taught:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # nothing else here is an accelerator's work

    import importlib

    from signer_jax.data import glossing
    from signer_jax.data.estimators import opening
    from signer_jax.data.prepared import work
    from signer_jax.data.prepared.taking import How

    reader = importlib.import_module(f"signer_jax.data.datasets.{arguments.dataset}")
    chosen = {} if arguments.subset is None else {"subset": arguments.subset}
    splits = reader.splits(source, **chosen)
    weights = arguments.pose_weights
    estimator = opening.opened(arguments.poses, Path(weights)) if weights else None
    glosses, glosses_by = _of_run(taught) if taught else (glossing.by_rules if by == "rules" else None, by)
    how = How(
        arguments.fps, arguments.pose_fps, pose_size, size, arguments.poses, estimator.made_by if estimator else "",
        arguments.video, arguments.prompts, glosses_by, arguments.glosses_for, language, spoken, arguments.clean,
    )  # fmt: skip

    texts_alone = how.video == how.poses == "none" and arguments.dataset in _OF_TEXTS
    wanted = {"media": False} if texts_alone else {}

    def items(split: str) -> "Iterable[Found]":
        found = reader.items(source, split, **chosen, **wanted)
        return map(_without_media, found) if texts_alone else found

    remarks = reader.remarks(source) if hasattr(reader, "remarks") else []
    for line in remarks:
        print(f"signer: {shown(line)}", file=sys.stderr)
    job = work.Job(
        arguments.dataset, source, out, how, splits, items, arguments.per_part, arguments.subset, estimator, glosses,
        remarks, arguments.forget,
    )  # fmt: skip
    begun = (out / "about.json").exists() and work.about_of(out)["workers"]
    if arguments.shard is None and begun and begun > 1:  # its workers have done the work
        work.claim(job, begun)
        work.merge(out, wait=True)
    elif not work.work(job, worker, workers):
        print(f"worker {worker} of {workers} is done; the set is put together when all are")
        return
    _say(out, remarks)


def _without_media(found: "Found") -> "Found":
    """Of what has no text either, a clip of no table, no file is read only to be told."""
    from signer_jax.data.datasets.item import Left

    return found if isinstance(found, Left) else replace(found, video=None, pose=None)


def _of_run(folder: str) -> "tuple[Glosses, str]":
    """Glosses by a trained SLUL, and what they are said to be by: the run and its parameters' checksum."""
    from signer_jax.pipeline import Signer
    from signer_jax.result import params_sha256
    from signer_jax.stations.understand import understand

    signer = Signer.load(folder, parts=("slul",))
    linker = signer.linker

    def glosses(texts: Sequence[str], language: str, spoken: str) -> list[tuple[str, ...]] | None:
        if language not in linker.words or language not in linker.languages:
            return None
        understood = understand(texts, [language] * len(texts), linker)
        return [tuple(one) for one in understood.glosses]

    return glosses, f"slul ({folder}, parameters {params_sha256(signer.params['slul'])})"


def _languages(language: str | None, spoken: str | None) -> tuple[str, str]:
    """The codes of the two, "" where they are not given."""
    from signer_jax.data.language_codes import iana_of

    code = iana_of(language) if language else ""
    if language and not code:
        raise SignerError(f"--language {language}: is no sign language; give its IANA code, such as ase or gsg")
    if spoken and not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{1,8})*", spoken):
        raise SignerError(f"--spoken {spoken}: is no language's code; give IANA's, such as en or de")
    return code, spoken or ""


def _sides(flag: str, text: str | None) -> tuple[int, int] | None:
    """Height and width, None where the flag is not given."""
    if not text:
        return None
    match = _SIZE.fullmatch(text)
    if not match:
        raise SignerError(f"{flag} {text}: give height x width in pixels, such as 256x256")
    return int(match[1]), int(match[2])


def shard_of(text: str | None) -> tuple[int, int]:
    """The worker of `--shard` and how many there are; the only one where none is given."""
    if text is None:
        return 0, 1
    match = _SHARD.fullmatch(text)
    worker, workers = (int(match[1]), int(match[2])) if match else (0, 0)
    if not worker < workers:
        raise SignerError(f"--shard {text}: give which of how many, from 0: 0/4, 1/4, 2/4 and 3/4")
    return worker, workers


def _say(out: Path, known: Sequence[str]) -> None:
    """The counts of a set, its remarks but those that are `known`, and where its report is. Raises `SignerError` where
    nothing was kept.
    """
    kinds = ("items", "left_out", "kept", "texts", "glossed", "poses", "videos", "prompts")
    counts = read_json(out / "index.json", LISTS)["splits"]  # it was just written, and of a bucket's lies here
    rows = [(split, *(str(count[kind]) for kind in kinds)) for split, count in counts.items()]
    print(table(rows, ("split", *(kind.replace("_", " ") for kind in kinds))))
    report = out / "report.html"
    print(f"{shown(str(report))}: what is in it, and what was left out and why")
    items, kept = (sum(count[kind] for count in counts.values()) for kind in ("items", "kept"))
    if not kept:
        raise SignerError(
            f"{out}: nothing is kept, of {items} items; {report} says why, mend that and prepare it again"
        )
    for line in read_json(out / "report.json", LISTS)["remarks"]:
        if line not in known:
            print(one_line(shown(f"signer: {out}: {line}")), file=sys.stderr)
    if 2 * kept < items:
        line = shown(f"signer: {out}: less than half is kept, {kept} of {items} items; {report} says why")
        print(one_line(line), file=sys.stderr)
