"""`signer reproduce` end to end with the tiny config: every table and figure, what runs share."""

import csv
import json
from itertools import product
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import TINY

from signer_jax.cli.main import main
from signer_jax.reproduction import paper, rows, runs, texts
from signer_jax.reproduction.runs import lend
from signer_jax.training.checkpoints import read_params

OF_TEXTS = ("table1", "table2", "table3", "table4", "experts", "losses", "figure4")
OF_VIDEOS = ("table5", "table6", "figure5", "figure6")
VALUES = (
    "evaluate.sentences=3", "evaluate.noise=0.5", "evaluate.poses=3", "evaluate.videos=2",
    "stages=slul,pose,vae,images,renderer,joint", "train.slul.select_every=100", "train.slul.select_sentences=2",
)  # fmt: skip


def reproduce(workdir: Path, *words: str) -> int:
    values = [f"--config.{value}" for value in VALUES]
    return main(["reproduce", *words, "--config", str(TINY), "--workdir", str(workdir), "--seeds", "1", *values])


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of poses and glosses."""
    workdir = tmp_path_factory.mktemp("reproduced") / "paper"
    assert reproduce(workdir, *OF_TEXTS) == 0
    return workdir


@pytest.fixture(scope="module")
def filmed(said: Path) -> Path:
    """All of videos, in the same folder."""
    assert reproduce(said, *OF_VIDEOS) == 0
    return said


def bytes_of(run: Path, stage: str) -> list[np.ndarray]:
    return jax.tree.leaves(read_params(run / "checkpoints" / stage))


def is_written(workdir: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if name in paper.FIGURES:
            assert (workdir / f"{name}.svg").read_text().startswith("<svg")
            assert (workdir / f"{name}.png").read_bytes()[1:4] == b"PNG"
            ends = paper.CURVES.get(name)
            assert ends is None or all(f"| {row} | here |" in (workdir / f"{name}.md").read_text() for row in ends.ours)
            continue
        table = paper.JUDGED[name]
        text = (workdir / f"{name}.md").read_text()
        assert all((workdir / f"{name}.{ending}").stat().st_size for ending in ("tex", "html"))
        assert all(f"| {row} | the paper |" in text for row in table.rows)
        assert all(f"| {row} | here |" in text for row in table.ours)
        assert "It cannot be told here" in text  # of one seed and three sentences nothing can
        with (workdir / f"{name}.csv").open(newline="") as file:
            scored = [row for row in csv.DictReader(file) if row["of"] == "here" and row["seeds"] == "1"]
        assert {row["row"] for row in scored} == set(table.ours), name
        if name == "losses":
            assert {(row["row"], row["figure"]) for row in scored} == set(product(table.ours, table.extra))


@pytest.mark.slow
def test_every_table_and_figure_of_texts_is_written(said):
    is_written(said, OF_TEXTS)
    claims = (said / "claims.md").read_text()
    assert claims.count("## table") == 4 and "## losses: SLUL's losses, one by one" in claims


@pytest.mark.slow
def test_every_table_and_figure_of_videos_is_written(filmed):
    is_written(filmed, OF_VIDEOS)
    with (filmed / "table6.csv").open(newline="") as file:
        ours = {row["figure"] for row in csv.DictReader(file) if row["row"].endswith(("without H", "without SLP-MoE"))}
    assert ours == {f"dev/{name}" for name in ("ssim", "hand_ssim", "frechet_cells", "text_ssim", "text_hand_ssim",
                                               "text_psnr")}  # fmt: skip


@pytest.mark.slow
def test_runs_of_texts_differ_by_their_losses_alone(said):
    files = [said / "runs" / f"{run}-0" / "config.json" for run in ("base", "slul", "moe", "masked", "kl", "sagm")]
    base, slul, moe, *others = (json.loads(file.read_text())["loss"] for file in files)
    weighing = [{name for name in ("sagm", "kl", "contrastive") if one[name]} for one in others]
    assert weighing == [{"sagm"}, {"kl"}, {"sagm", "kl", "contrastive"}]
    assert [texts.UNDERSTOOD[row] for row in (rows.GLOSS_MASKED, rows.GLOSS_KL)] == ["masked", "kl"]
    assert base["contrastive"] == base["sagm"] == base["kl"] == slul["sagm"] == slul["kl"] == 0
    assert slul["contrastive"] == moe["contrastive"] > 0
    others = (bytes_of(said / "runs" / f"{run}-0", "slul") for run in ("base", "slul"))
    assert any(not np.array_equal(a, b) for a, b in zip(*others, strict=True))
    points = [one for run in ("sagm", "moe") for one in json.loads((said / "curves" / f"{run}-0.json").read_text())]
    assert [(one["stage"], one["share"]) for one in points] == [
        (stage, share) for stage in ("slul", "pose") for share in (0.25, 0.5, 0.75, 1.0)
    ]
    assert all(0 < one["dtw"] < 10 for one in points)


@pytest.mark.slow
def test_runs_share_the_stages_that_are_alike(filmed):
    for stage, other in runs.TAKES["joint"].items():
        ours, theirs = (bytes_of(filmed / "runs" / f"{run}-0", stage) for run in ("joint", other))
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    shared = (filmed / "shared" / "tokenizer.model").stat()
    assert (filmed / "runs" / "plain-0" / "tokenizer.model").stat().st_ino == shared.st_ino


@pytest.mark.slow
def test_what_is_there_is_not_made_again(said, capsys):
    before = {file: file.stat().st_mtime_ns for file in (said / "scores").iterdir()}
    steps = {file: file.stat().st_mtime_ns for file in (said / "runs").glob("*/checkpoints/*/*")}
    assert reproduce(said, "table2", "table4") == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert {file: file.stat().st_mtime_ns for file in steps} == steps
    out = capsys.readouterr()
    assert "scoring" not in out.err and out.out.count("SLUL above Base in BLEU-4 (dev): the paper's +7.53") == 1


def test_nothing_is_reproduced_within_a_run(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"made_by": "signer_jax"}))
    assert main(["reproduce", "table2", "--config", str(TINY), "--workdir", str(tmp_path)]) == 2
    assert "is a run itself; give a folder" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


def test_what_cannot_be_made_is_said_before_anything_is(tmp_path, capsys):
    for words, says in (
        (
            ["table5", "--config.stages=slul,pose"],
            "table5: needs the stages vae, renderer, joint, which config.stages (slul,",
        ),
        (["table2", "--seeds", "0"], "--seeds 0: give 1 to 100"),
        (
            ["losses", "--config.loss.kl=0"],
            "losses: some of its rows would be trained alike, since they differ by losses that weigh nothing; give "
            "weights (--config.loss.kl=0.1), or",
        ),
        (["table4", "--config.loss.kl=0", "--config.loss.sagm=0"], "(--config.loss.sagm=0.5 --config.loss.kl=0.1), or"),
        (
            ["losses", "--config.evaluate.noise=0"],
            "losses: reads noisy texts too, and config.evaluate.noise is 0; give",
        ),
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
