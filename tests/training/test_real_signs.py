"""Real recordings through stage `pose`: signs of four DGS sentences and two ways to sign HOUSE, each cut by its times,
become a set, a run's prior and its training; the run then performs a real sentence's glosses in the sentence's timing.
"""

import csv
import shutil

import numpy as np
import pytest
from conftest import TINY

from signer_jax.cli.main import main
from signer_jax.pipeline import Signer
from signer_jax.pose import skeleton
from signer_jax.pose.formats import pose_file
from signer_jax.pose.sources.continuous import _sentence, spans_of
from signer_jax.stations.perform import Timing, perform
from signer_jax.stations.understand import semantics

HEAD = ("name", "pose", "text", "gloss", "glosses_by", "language", "spoken", "signer", "split", "start", "end")


@pytest.mark.slow
def test_real_signs_become_a_run_that_performs_a_real_sentence(samples, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    rows, timed = [], []
    for number in (1, 2, 3, 4):
        file = samples / f"stitching/train_{number}_original.pose"
        shutil.copy(file, source)
        pose = pose_file.read(file)
        _, start, end, glosses = _sentence(file.with_name(f"train_{number}_metadata.json"))
        spans = spans_of(glosses, start, end, pose)
        timed.append([(one.name, *span) for one, span in zip(glosses, spans, strict=True) if span])
        rows += [
            (f"dgs {number} {name} {a}", file.name, name, name, "human", "gsg", "de", f"dgs {number}", "train",
             a / pose.fps, b / pose.fps) for name, a, b in timed[-1]
        ]  # fmt: skip
    for name in ("colin-1-HOUSE", "colin-2-HOUSE", "colin-SAD"):
        shutil.copy(samples / f"pose/asl-variants/{name}.pose", source)
        gloss = name.split("-")[-1]
        who = name.removesuffix(f"-{gloss}")  # another way to sign HOUSE is another's here: a table has no variants
        rows.append((name, f"{name}.pose", gloss, gloss, "human", "ase", "en", who, "train", "", ""))
    with (source / "samples.csv").open("w", newline="") as out:
        csv.writer(out).writerows([HEAD, *rows])
    assert main(["prepare", "folder", "--source", str(source), "--out", str(tmp_path / "set")]) == 0
    run = tmp_path / "run"
    asked = ("corpus=prepared", f"source={tmp_path / 'set'}")
    config = [*(f"--config.data.{one}" for one in asked), "--config.stages=slul,pose"]
    assert main(["train", "--config", str(TINY), "--workdir", str(run), *config]) == 0

    signer = Signer.load(run)
    prior, linker = signer.retrieval.prior, signer.linker
    assert len(prior.variants("HOUSE", "ase")) == 2 and {"ase", "gsg"} == set(prior.languages)
    # ---- The gates weigh the two recordings of one gloss --------------------------------------------------------
    done = perform(("HOUSE", "SAD"), *semantics("HOUSE SAD", "ase", linker), "ase", signer.performer)
    assert [entry.gloss for entry in done.entries] == ["HOUSE", "SAD"]
    np.testing.assert_allclose(np.sum(done.weights, axis=-1), 1, atol=1e-5)
    assert (done.weights[0] > 0).sum() == 2 and (done.weights[1] > 0).sum() == 1
    # ---- A real sentence's glosses, at its own times ------------------------------------------------------------
    known = [one for one in timed[0] if prior.variants(one[0], "gsg")]
    assert len(known) >= 3
    first, last = known[0][1], known[-1][2]
    timing = Timing(np.array([(a - first, b - first) for _, a, b in known], np.int32), last - first)
    glosses = tuple(name for name, *_ in known)
    done = perform(glosses, *semantics(" ".join(glosses), "gsg", linker), "gsg", signer.performer, timing=timing)
    assert len(done.pose) == last - first and not done.skipped
    assert skeleton.fault(done.pose) == ""
    shown = done.pose.confidence > 0
    assert (done.pose.coordinates != done.stitched.coordinates)[shown].any()  # the stabiliser had its say
