"""Signing a text and comparing poses beside the libraries that do the same, in one process, turn by turn.

    pip install spoken-to-signed fastdtw dtaidistance && python tests/benchmarks/peers.py DATA [--rounds 5]

Text to pose file: eight words whose glosses are known, in a lexicon folder of DATA's four Swiss German signs, each
twice under names of its own. Both read the same files; both are warm, ours with the database open, spoken-to-signed
with its lexicon read and its poses cached. Every call has the words in an order of its own, which this process has not
signed before. Ours looks the words up, joins the signs and writes the file; theirs is given the tokens. Both are
measured as they come, which makes signs shorter on both sides, and with signs at the pace at which they were recorded.

DTW: 64 pairs of 120 and 150 frames of 100 values. fastdtw (radius 1, an approximation: it is never below the exact
path) and dtaidistance's C code (exact; a pair a call, in one process). Beside them our scores' own `dtw` of
poses with as many numbers, which know of missing joints. What the
results differ by is printed. Medians of the rounds, seconds of the processor, which other programs on the machine move
less than the clock; the programs take turns. OPENBLAS_NUM_THREADS=1 in front, or its threads' waiting is counted too.
"""

import argparse
import contextlib
import csv
import io
import shutil
import tempfile
import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np

from signer_jax.pose.fluent import AS_RECORDED, FLUENT, Manner
from signer_jax.pose.formats import pose_file
from signer_jax.pose.prior import Prior
from signer_jax.pose.sources.common import Cut
from signer_jax.pose.sources.lexicon import read_lexicon
from signer_jax.pose.warping import dtw, dtw_of_frames
from signer_jax.stations.lookup import look_up
from signer_jax.types import Pose

PAIRS, OURS, THEIRS, VALUES = 64, 120, 150, 100
OURS_FLUENT, OURS_RECORDED = "ours, fluent", "ours, as recorded"
PEER, PEER_RECORDED = "spoken-to-signed", "spoken-to-signed, signs as long as recorded"


def in_turns(programs: dict[str, Callable[[], object]], rounds: int) -> tuple[dict[str, float], dict[str, object]]:
    """Median seconds of the processor by each, and what each gave; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    gave: dict[str, object] = {}
    order = list(programs)
    for turn in range(rounds + 1):
        order.append(order.pop(0))  # none is always behind the same one
        for name in order:
            program = programs[name]
            start = time.process_time()
            gave[name] = program()
            if turn:
                times[name].append(time.process_time() - start)
    return {name: float(np.median(seconds)) for name, seconds in times.items()}, gave


def lexicon(data: Path, folder: Path) -> list[str]:
    """Eight words and their folder."""
    rows = []
    for file in sorted((data / "lexicon" / "sgg-small" / "sgg").glob("*.pose")):
        for copy in ("eins", "zwei"):
            word = f"{file.stem}{copy}"
            shutil.copy(file, folder / f"{word}.pose")
            rows.append([f"{word}.pose", "de", "sgg", 0, 0, word, word, 0])
    with (folder / "index.csv").open("w", newline="") as out:
        csv.writer(out).writerows(
            [["path", "spoken_language", "signed_language", "start", "end", "words", "glosses", "priority"], *rows]
        )
    return [row[5] for row in rows]


def text_to_pose(data: Path, rounds: int) -> None:
    from spoken_to_signed.gloss_to_pose import CSVPoseLookup, concatenate_poses
    from spoken_to_signed.text_to_gloss.types import GlossItem

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "lexicon"
        folder.mkdir()
        words = lexicon(data, folder)
        prior = Prior.build(read_lexicon(folder, trimmed=True, cut=Cut())[0], Path(place) / "prior", 25.0)
        known = CSVPoseLookup(str(folder))
        orders = list(permutations(words))
        sentences = iter([orders[i] for i in np.random.default_rng(0).permutation(len(orders))])

        def ours(name: str, manner: Manner) -> int:
            signed = look_up(" ".join(next(sentences)), "sgg", prior, manner)
            pose_file.write(Path(place) / f"{name}.pose", signed.pose)
            return len(signed.glosses)

        def theirs(name: str, longest: float | None) -> int:
            """As its `gloss_to_pose`, which has .8 seconds."""
            tokens = [GlossItem(word, word) for word in next(sentences)]
            with contextlib.redirect_stdout(io.StringIO()):
                found = known.lookup_sequence(tokens, "de", "sgg")
                spans = [one.signing_span for one in found]
                pose = concatenate_poses([one.pose for one in found], max_sign_seconds=longest, signing_spans=spans)
            with (Path(place) / f"{name}.pose").open("wb") as out:
                pose.write(out)
            return len(tokens)

        programs = {
            OURS_FLUENT: lambda: ours(OURS_FLUENT, FLUENT), PEER: lambda: theirs(PEER, 0.8),
            OURS_RECORDED: lambda: ours(OURS_RECORDED, AS_RECORDED), PEER_RECORDED: lambda: theirs(PEER_RECORDED, None),
        }  # fmt: skip
        seconds, gave = in_turns(programs, rounds)
        assert set(gave.values()) == {8}
        for name in programs:
            made = pose_file.read(Path(place) / f"{name}.pose")
            print(f"{name}: {len(made)} frames, {len(made) / made.fps:.1f} s, {1e3 * seconds[name]:.0f} ms")
    for one, peer in ((OURS_FLUENT, PEER), (OURS_RECORDED, PEER_RECORDED)):
        print(f"  {one}: {seconds[peer] / seconds[one]:.1f} times as fast as {peer}")


def warping(rounds: int) -> None:
    from dtaidistance import dtw_ndim
    from fastdtw import fastdtw
    from scipy.spatial.distance import euclidean

    rng = np.random.default_rng(0)
    a, b = (np.cumsum(rng.normal(0, 0.1, (PAIRS, frames, VALUES)), axis=1) for frames in (OURS, THEIRS))
    poses = [tuple(Pose(x.reshape(-1, VALUES // 2, 2), np.ones((len(x), VALUES // 2)), 25.0) for x in pair)
             for pair in zip(a, b, strict=True)]  # fmt: skip
    few = 4  # pairs of fastdtw, which takes seconds for all
    seconds, gave = in_turns(
        {
            "ours, squares": lambda: dtw_of_frames(a, b, squared=True),
            "dtaidistance (C)": lambda: np.array([dtw_ndim.distance_fast(x, y) for x, y in zip(a, b, strict=True)]),
            "our scores' dtw": lambda: [dtw(x, y) for x, y in poses],
            "ours, distances": lambda: dtw_of_frames(a, b, squared=False),
            "fastdtw": lambda: np.array(
                [fastdtw(x, y, dist=euclidean)[0] for x, y in zip(a[:few], b[:few], strict=True)]
            ),
        },
        rounds,
    )
    seconds["fastdtw"] *= PAIRS / few
    print(
        f"DTW of {PAIRS} pairs of {OURS} x {THEIRS} frames: "
        + ", ".join(f"{n} {1e3 * s:.0f} ms" for n, s in seconds.items())
    )
    print(f"  dtaidistance takes {seconds['dtaidistance (C)'] / seconds['ours, squares']:.1f} times as long")
    print(
        f"  fastdtw (of {few} pairs, times {PAIRS // few}) {seconds['fastdtw'] / seconds['ours, distances']:.0f} times"
    )
    apart = np.abs(gave["ours, squares"] / gave["dtaidistance (C)"] - 1).max()
    over = gave["fastdtw"] / gave["ours, distances"][:few] - 1
    print(f"  ours and dtaidistance's differ by {apart:.1e} at most, relatively")
    print(f"  fastdtw's are {over.min():.1%} to {over.max():.1%} above the exact ones")
    assert apart < 1e-9 and over.min() > -1e-9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    text_to_pose(given.data, given.rounds)
    warping(given.rounds)


if __name__ == "__main__":
    main()
