"""`signer plan --save` and `config.compiled`: a run takes the step that the plan compiled, where it is the same one."""

import json
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_run
import small_stage
from conftest import TINY
from jax.experimental import pallas

from signer_jax import configuration
from signer_jax.cli.main import main
from signer_jax.errors import SignerError
from signer_jax.training import compiled_step, loop, partitioning, run
from signer_jax.validation import read

CONFIG = ["--config.mesh.data=1", "--config.mesh.fsdp=8", "--config.stages=slul"]


@pytest.mark.slow
def test_a_run_takes_the_step_that_the_plan_compiled(tmp_path, capfd):
    file = tmp_path / "slul.step"
    assert main(["plan", "--config", str(TINY), "--topology", "cpu:8", *CONFIG, "--save", str(file)]) == 0
    assert f"the compiled step of slul; a run on such devices takes --config.compiled={file}" in capfd.readouterr().err
    settings = read(configuration.load(str(TINY), [*CONFIG, f"--config.compiled={file}"]))
    with run.claimed(settings, tmp_path / "run"):
        run.train(settings, tmp_path / "run")
    assert f"stage 'slul': its step is the one that was compiled beforehand, {file}" in capfd.readouterr().err


# ---- A small stage's -------------------------------------------------------------------------------------------------


def program(**changes) -> loop.Program:
    made = small_stage.stage(small_run.objective, batch=8, **changes)
    return loop.Program(made, small_run.params(), partitioning.make_mesh(small_run.WHOLE))


def batch(made: loop.Program, rows: int = 8) -> dict:
    x = np.random.default_rng(1).normal(size=(rows, 8)).astype(np.float32)
    return partitioning.put_batch({"x": x, "y": np.ones(rows, np.float32)}, made.mesh)


def state(made: loop.Program):
    initial = loop.starting(made.stage, made.tx, 0)
    return jax.jit(initial, out_shardings=made.shardings)(jax.tree.map(jnp.asarray, small_run.params()))


@pytest.fixture
def kept(tmp_path):
    made, file = program(), tmp_path / "a.step"
    shapes = made.placed(batch(made))
    lowered = made.trace(shapes).lower(lowering_platforms=("cpu",))
    compiled_step.write(file, [compiled_step.saved(made, lowered, lowered.compile(), shapes)])
    return file


def test_the_kept_step_gives_what_the_compiled_one_gives(kept, capfd):
    made = program()
    ours, theirs = state(made), state(made)
    step, before = compiled_step.step_of(made, kept), jax.tree.leaves(theirs)[1]
    for _ in range(3):
        ours, metrics, _ = made.step(ours, {}, batch(made), None)
        theirs, others, _ = step(theirs, {}, batch(made), None)
    jax.tree.map(np.testing.assert_array_equal, (ours, metrics), (theirs, others))
    assert before.is_deleted()  # the state before is given away, as it is without a file
    said = capfd.readouterr().err
    assert said == f"signer: stage 'part': its step is the one that was compiled beforehand, {kept}\n"


@pytest.mark.parametrize(
    ("changes", "facts", "says"),
    [
        ({"learning_rate": 2e-2}, {}, "it is another program: the config, the vocabulary's size or the source differ"),
        ({}, {"jaxlib": "0.0.1"}, f"jaxlib: 0.0.1 there, {jax.lib.__version__} here"),
        ({}, {"devices": "64 TPU v5"}, "devices: 64 TPU v5 there, 8 cpu here"),
        ({}, {"XLA_FLAGS": "--xla_a=1"}, f"XLA_FLAGS: --xla_a=1 there, {compiled_step._xla_flags()} here"),
    ],
)
def test_another_step_is_told_and_compiled(kept, tmp_path, capfd, changes, facts, says):
    found = compiled_step.read(kept, "part")
    compiled_step.write(kept, [found._replace(facts=found.facts | facts)])
    made = program(**changes)
    step = compiled_step.step_of(made, kept)
    ours, theirs = state(made), state(made)
    for _ in range(2):
        ours, theirs = made.step(ours, {}, batch(made), None)[0], step(theirs, {}, batch(made), None)[0]
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert capfd.readouterr().err == f"signer: stage 'part': {kept} is not used ({says}); the step is compiled here\n"


def test_the_compilers_flags_have_no_order(monkeypatch):
    """And how many virtual devices a CPU has is told by the devices."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_c=3 --xla_force_host_platform_device_count=8 --xla_b=2")
    assert compiled_step._xla_flags() == "--xla_b=2 --xla_c=3"


def test_a_run_begins_without_reading_the_programs(kept, monkeypatch):
    read, names = zipfile.ZipFile.read, []
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda file, name: names.append(name) or read(file, name))
    compiled_step.check(kept, ["part", "other"])
    assert set(names) == {compiled_step.RECORD}


KERNEL = """
def kernel(x, out):
    out[...] = x[...] * {factor}

def double(x):
    return pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype))(x)
"""


def test_where_a_kernels_source_lies_makes_no_other_program():
    """A TPU's kernel holds it, and a plan and a run seldom lie in the same folder."""

    def lowered(file: str, factor: int = 2) -> jax.stages.Lowered:
        made: dict = {"jax": jax, "pl": pallas}
        exec(compile(KERNEL.format(factor=factor), file, "exec"), made)
        return jax.jit(made["double"]).trace(jnp.zeros((8, 128))).lower(lowering_platforms=("tpu",))

    here, there, other = lowered("/a/one.py"), lowered("/b/c/two.py"), lowered("/a/one.py", factor=3)
    assert here.as_text() != there.as_text()
    assert compiled_step.program_hash(here) == compiled_step.program_hash(there) != compiled_step.program_hash(other)


def test_batches_of_other_shapes_are_compiled_beside_it(kept, capfd):
    made = program()
    step, now = compiled_step.step_of(made, kept), state(made)
    for rows in (16, 8, 16):
        now = step(now, {}, batch(made, rows), None)[0]
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2 and "is of other batches (x: [[8, 8], 'float32'] there, [[16, 8], 'float32'] here)" in said[0]
    assert "was compiled beforehand" in said[1]


def test_a_stage_without_one_is_compiled(kept, capfd):
    made = program(name="other")
    assert compiled_step.step_of(made, kept) is made.step
    assert "stage 'other': " in (said := capfd.readouterr().err) and "holds no step of it; it is compiled here" in said


@pytest.mark.parametrize("harm", ["absent", "folder", "text", "cut", "record"])
def test_what_is_no_such_file_is_one_line(kept, tmp_path, harm):
    path = tmp_path / "harmed"
    if harm == "folder":
        path.mkdir()
    elif harm == "text":
        path.write_text("a step")
    elif harm == "cut":
        path.write_bytes(kept.read_bytes()[:1000])
    elif harm == "record":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(compiled_step.RECORD, json.dumps({"part": 1}))
    with pytest.raises(SignerError, match="give what `signer plan --save` wrote") as error:
        compiled_step.check(path, ["part"])
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    if harm == "absent":
        config = read(configuration.load(str(TINY), [*CONFIG, f"--config.compiled={path}"]))
        with pytest.raises(SignerError, match="no such file"), run.claimed(config, tmp_path / "run"):
            pass
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--topology", "h100:8"], "--save: of h100:8 nothing is compiled"),
        (["--topology", "cpu:8", "--search"], "--save keeps the program of one plan, and --search makes many"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_once(capsys, tmp_path, arguments, says):
    assert main(["plan", "--config", str(TINY), *arguments, "--save", str(tmp_path / "a")]) == 2
    assert says in capsys.readouterr().err
