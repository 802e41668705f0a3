from pathlib import Path

import pytest

from signer_jax import configuration
from signer_jax.errors import SignerError
from signer_jax.workdir import claimed, flatten, load_config

CONFIGS = sorted(path.stem for path in configuration.SHIPPED.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_config_has_the_default_keys(name):
    assert flatten(configuration.load(name)).keys() == flatten(configuration.load("default")).keys()


def test_overrides_take_the_type_that_stands_there():
    overrides = [
        "--config.train.slul.steps=7", "--config.slul.dropout=0", "--config.remat=true", "--config.stages=slul,pose",
        "--config.data.source=somewhere", "--config.vae.dim_mult=(1,2,4)",
    ]  # fmt: skip
    c = configuration.load("default", overrides)
    assert c.train.slul.steps == 7
    assert c.slul.dropout == 0.0 and isinstance(c.slul.dropout, float)
    assert c.remat is True
    assert c.stages == ("slul", "pose")
    assert c.data.source == "somewhere"
    assert c.vae.dim_mult == (1, 2, 4)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("--config.slul.d_modle=3", "did you mean 'slul.d_model'"),
        ("--config.slul.d_model=wide", "must be a whole number"),
        ("--config.slul.d_model", "give a value"),
        ("--config.remat=maybe", "must be true or false"),
        ("--config.vae.dim_mult=(a", "must be a list"),
        ("--config.slul=3", "no key 'slul'"),
    ],
)
def test_a_wrong_override_is_one_clear_line(override, says):
    with pytest.raises(SignerError, match=says.replace("(", r"\(")) as error:
        configuration.load("default", [override])
    assert "\n" not in str(error.value)


def test_a_missing_config_names_the_shipped_ones():
    with pytest.raises(SignerError, match="did you mean 'demo'"):
        configuration.load("demoo")


def test_a_config_file_without_get_config(tmp_path: Path):
    (tmp_path / "x.py").write_text("a = 1\n")
    with pytest.raises(SignerError, match="defines no get_config"):
        configuration.load(tmp_path / "x.py")


def test_a_workdir_belongs_to_its_config(tmp_path: Path):
    c = configuration.load("default")
    with claimed(tmp_path / "run", c):
        assert flatten(load_config(tmp_path / "run")) == flatten(c)
    c.log_every = 3  # what does not change the training may change
    c.mesh.fsdp = 2
    with claimed(tmp_path / "run", c):
        pass
    c.slul.d_model = 64
    with pytest.raises(SignerError, match="slul.d_model was 128, is now 64"), claimed(tmp_path / "run", c):
        pass
    assert load_config(tmp_path / "run").slul.d_model == 128
