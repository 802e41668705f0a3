"""`signer reproduce` end to end with the tiny config: every table and figure, what runs share."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import TINY

from signer_jax.cli.main import main
from signer_jax.reproduction import paper, runs
from signer_jax.reproduction.runs import lend
from signer_jax.training.checkpoints import read_params

OF_TEXTS = ("table1", "table2", "table3", "table4", "experts", "figure4")
VALUES = ("evaluate.sentences=3", "evaluate.poses=3", "evaluate.videos=2", "stages=slul,pose,vae,images,renderer,joint")


def reproduce(workdir: Path, *words: str) -> int:
    values = [f"--config.{value}" for value in VALUES]
    return main(["reproduce", *words, "--config", str(TINY), "--workdir", str(workdir), "--seeds", "1", *values])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("reproduced") / "paper"
    assert reproduce(workdir, "all") == 0
    return workdir


def bytes_of(run: Path, stage: str) -> list[np.ndarray]:
    return jax.tree.leaves(read_params(run / "checkpoints" / stage))


@pytest.mark.slow
def test_every_table_and_figure_is_written(made):
    for name, table in {**paper.TABLES, paper.EXPERT_TABLE: paper.EXPERTS}.items():
        text = (made / f"{name}.md").read_text()
        assert all((made / f"{name}.{ending}").stat().st_size for ending in ("csv", "tex", "html"))
        assert all(f"| {row} | the paper |" in text for row in table.rows)
        assert all(f"| {row} | here |" in text for row in table.ours)
        assert "It cannot be told here" in text  # of one seed and three sentences nothing can
        scored = (made / f"{name}.csv").read_text().splitlines()
        shown = {line.split(",")[1] for line in scored if line.startswith("here,") and ",," not in line[:8]}
        assert len([line for line in scored if line.startswith("here,")]) > 3 and len(shown) >= 2, name
    for name in paper.FIGURES:
        assert (made / f"{name}.svg").read_text().startswith("<svg") and (made / f"{name}.png").read_bytes()[
            1:4
        ] == b"PNG"
    assert (made / "claims.md").read_text().count("## table") == 6


@pytest.mark.slow
def test_runs_differ_by_what_they_are_about_and_share_the_rest(made):
    configs = {run: json.loads((made / "runs" / f"{run}-0" / "config.json").read_text()) for run in runs.STAGES}
    assert (
        configs["base"]["loss"]["contrastive"] == configs["base"]["loss"]["sagm"] == configs["slul"]["loss"]["kl"] == 0
    )
    assert configs["slul"]["loss"]["contrastive"] == configs["moe"]["loss"]["contrastive"] > 0
    assert configs["joint"]["loss"] == configs["moe"]["loss"] and configs["plain"]["stages"] == list(
        runs.STAGES["plain"]
    )
    for stage, other in runs.TAKES["joint"].items():
        ours, theirs = (bytes_of(made / "runs" / f"{run}-0", stage) for run in ("joint", other))
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    others = (bytes_of(made / "runs" / f"{run}-0", "slul") for run in ("base", "slul"))
    assert any(not np.array_equal(a, b) for a, b in zip(*others, strict=True))
    shared = (made / "shared" / "tokenizer.model").stat()
    assert (made / "runs" / "plain-0" / "tokenizer.model").stat().st_ino == shared.st_ino
    points = json.loads((made / "curves" / "moe-0.json").read_text())
    assert [(one["stage"], one["share"]) for one in points] == [
        (stage, share) for stage in ("slul", "pose") for share in (0.25, 0.5, 0.75, 1.0)
    ]
    assert all(0 < one["dtw"] < 10 for one in points)


@pytest.mark.slow
def test_what_is_there_is_not_made_again(made, capsys):
    before = {file: file.stat().st_mtime_ns for file in (made / "scores").iterdir()}
    steps = {file: file.stat().st_mtime_ns for file in (made / "runs").glob("*/checkpoints/*/*")}
    assert reproduce(made, "table2", "table4") == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert {file: file.stat().st_mtime_ns for file in steps} == steps
    out = capsys.readouterr()
    assert "scoring" not in out.err and out.out.count("SLUL above Base in BLEU-4 (dev): the paper's +7.53") == 1


def test_what_cannot_be_made_is_said_before_anything_is(tmp_path, capsys):
    for words, says in (
        (["table5", "--config.stages=slul,pose"], "table5: needs the stages vae, renderer, which config.stages (slul,"),
        (["table2", "--seeds", "0"], "--seeds 0: give 1 to 100"),
    ):
        assert main(["reproduce", "--config", str(TINY), "--workdir", str(tmp_path / "w"), *words]) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "w" / "runs").exists() and not (tmp_path / "w" / "shared").exists()


def test_files_are_lent_and_never_replaced(tmp_path):
    source, target = tmp_path / "a", tmp_path / "b" / "c"
    (source / "d").mkdir(parents=True)
    (source / "d" / "e").write_text("1")
    lend(source, target)
    assert (target / "d" / "e").stat().st_ino == (source / "d" / "e").stat().st_ino
    (source / "f").write_text("2")
    lend(source, target)
    lend(tmp_path / "none", tmp_path / "g")
    assert not (target / "f").exists() and not (tmp_path / "g").exists()
