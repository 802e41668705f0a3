"""`signer data`: what a prepared set is like, in a table and on one page."""

import argparse
from pathlib import Path
from typing import Any

from signer_jax import storage
from signer_jax.cli.common import command, table
from signer_jax.errors import SignerError, one_line

MOST_SAMPLES = 100


def add(commands: Any) -> None:
    parser = command(
        commands, "data", "Print what a prepared set holds, and write a page with histograms and samples.",
        "signer data sets/how2sign --out how2sign.html", run,
    )  # fmt: skip
    parser.add_argument("dir", metavar="DIR", help="a prepared set (`signer prepare`)")
    parser.add_argument("--out", help="the page (DIR/data.html)")
    parser.add_argument("--samples", type=int, default=8, metavar="N", help="samples on the page, with their video (8)")
    parser.add_argument("--json", help="write the figures to this file")


def run(arguments: argparse.Namespace) -> None:
    if not 0 <= arguments.samples <= MOST_SAMPLES:
        raise SignerError(f"--samples {arguments.samples}: give 0 to {MOST_SAMPLES}")

    from signer_jax.data.prepared import looking
    from signer_jax.data.prepared.layout import PreparedSet

    one = PreparedSet(arguments.dir)
    page = Path(arguments.out or one.directory / "data.html")
    for flag, path in (("--out", page), ("--json", arguments.json and Path(arguments.json))):
        if path and path.is_dir():
            raise SignerError(f"{flag} {path}: is a folder; give a file")
    found = looking.figures(one)
    looking.write_page(one, found, page, arguments.samples)
    if arguments.json:
        storage.write_file(arguments.json, storage.to_json(found))
    kinds = ("kept", "left_out", "texts", "glossed", "poses", "videos", "prompts")
    rows = [(split, *(str(count.get(kind, 0)) for kind in kinds), f"{found['hours'][split]:.2f}")
            for split, count in one.counts.items()]  # fmt: skip
    print(table(rows, ("split", *(kind.replace("_", " ") for kind in kinds), "hours")))
    for name, each in found["histograms"].items():
        total = {label: sum(count[at] for count in each["counts"].values()) for at, label in enumerate(each["bins"])}
        print(one_line(f"{name}: {', '.join(f'{label} ({count})' for label, count in total.items() if count)}"))
    for row in found["kept_otherwise"]:
        joints = f", {row['joints']} joints" if row["joints"] else ""
        print(one_line(f"kept otherwise: {row['what']}: {row['samples']} samples{joints}"))
    for row in found["shared"]:
        touched = f", in samples: {row['samples']}" if row["samples"] else ""
        print(one_line(f"shared by {' and '.join(row['splits'])}: {row['what']}: {row['shared']}{touched}"))
    print(one_line(f"{page}: its figures and samples"))
