import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from signer_jax import configuration
from signer_jax.errors import SignerError
from signer_jax.renderer.remat import POLICIES
from signer_jax.settings import flatten
from signer_jax.validation import read
from signer_jax.workdir import claimed, load_settings

CONFIGS = sorted(path.stem for path in configuration.SHIPPED.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_config_has_the_default_keys(name):
    # Configs of published models leave their folders to be given.
    unset = [key for key, value in flatten(configuration.shipped(name)).items() if value is None]
    assert bool(unset) == name.startswith(("wan", "pod"))
    given = [f"--config.{key}=folder" for key in unset]
    assert flatten(configuration.load(name, given)).keys() == flatten(configuration.load("default")).keys()
    # A plan needs none of them.
    settings = flatten(configuration.load_without_weights(name))
    assert {key for key, value in settings.items() if value == configuration.UNSET} == set(unset)


def test_overrides_take_the_type_that_stands_there():
    overrides = [
        "--config.train.slul.steps=7", "--config.slul.dropout=0", "--config.remat=true", "--config.stages=slul,pose",
        "--config.data.source=somewhere", "--config.vae.dim_mult=(1,2,4)",
        "--config.vae.temporal_downsample=False,True", "--config.data.sentences={'train': 5}",
    ]  # fmt: skip
    c = configuration.load("default", overrides)
    assert c.train.slul.steps == 7
    assert c.slul.dropout == 0.0 and isinstance(c.slul.dropout, float)
    assert c.remat is True and read(c).remat == "attention"
    assert c.stages == ("slul", "pose")
    assert c.data.source == "somewhere"
    assert c.vae.dim_mult == (1, 2, 4)
    assert c.vae.temporal_downsample == (False, True)
    assert c.data.sentences.to_dict() == {"train": 5, "dev": 120, "test": 120}


def test_remat_is_a_policys_name_or_true_or_false():
    for given, is_ in ({"true": "attention", "false": "dots_no_batch"} | {name: name for name in POLICIES}).items():
        assert read(configuration.load("default", [f"--config.remat={given}"])).remat == is_
    for given, is_ in ((True, "attention"), (False, "dots_no_batch"), ("full", "full")):
        config = configuration.shipped("demo")
        config.remat = given
        assert read(config).remat == read(config.to_dict()).remat == is_


@pytest.mark.parametrize(
    ("before", "text", "after"),
    [
        ((), "False,True,True", (False, True, True)),
        ((), "(False, True)", (False, True)),
        ((True,), "true,false", (True, False)),
        ((), "", ()),
        ((1, 2), "3,", (3,)),
        ((1.0,), "1,2.5", (1.0, 2.5)),
        (("a", "b"), "c", ("c",)),
        (("a",), "'c','d'", ("c", "d")),
        (("all",), "encoder/.{1,3}/x,[a,b]/y", ("encoder/.{1,3}/x", "[a,b]/y")),
        (("1",), "2,3", ("2", "3")),
        (((1, 2), (3, 4)), "(5,6),(7,8)", ((5, 6), (7, 8))),
        (((1, 2), (3, 4)), "((5,6),)", ((5, 6),)),
        ((1, "a"), "(2, 'b')", (2, "b")),
        (None, "None", None),
        (None, "3", 3),
        (None, "word", "word"),
        (None, "(1, None)", (1, None)),
        (True, "0", False),
        (False, "True", True),
        (1.0, "3", 3.0),
        ("", "3", "3"),
        ({"a": 1.0, "b": (1,)}, "{'a': 2}", {"a": 2.0, "b": (1,)}),
    ],
)
def test_an_override_is_parsed_as_what_it_replaces(before, text, after):
    config = ConfigDict({"key": before, "group": {"key": before}})
    for name in ("key", "group.key"):
        configuration.apply(config, f"--config.{name}={text}")
    found = config.to_dict()
    assert found == {"key": after, "group": {"key": after}}
    assert repr(found["key"]) == repr(after)  # 1, True and 1.0 are equal, but not the same


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ((True,), "yes please"), ((True,), "1,0"), ((1,), "True"), ((1,), "1.5"), ((1,), "a"), ((1,), "(1"),
        ((1, "a"), "(1,)"), (((1, 2),), "1,2"), ((1.0,), "nan"), ((), "(1e999,)"), (None, "1e999"),
        (True, "2"), (3, "2.0"), (3, "True"), (3, ""), (1.0, "nan"), (1.0, "inf"), (1.0, "-Infinity"), (1.0, "x"),
        ({"a": 1}, "{'b': 1}"), ({"a": 1}, "{'a': 'x'}"), ({"a": 1}, "3"), ({"a": 1.0}, "{'a': 1e999}"),
    ],
)  # fmt: skip
def test_an_override_that_does_not_fit_is_refused(before, text):
    config = ConfigDict({"key": before})
    with pytest.raises(SignerError, match="key must be") as error:
        configuration.apply(config, f"--config.key={text}")
    assert "\n" not in str(error.value) and config.to_dict() == {"key": before}


def test_a_placeholder_takes_its_type():
    config = ConfigDict({"key": placeholder(int)})
    with pytest.raises(SignerError, match="key must be"):
        configuration.apply(config, "--config.key=word")
    configuration.apply(config, "--config.key=3")
    assert config.key == 3


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("--config.slul.d_modle=3", "did you mean 'slul.d_model'"),
        ("--config.slul.d_model=wide", "must be a whole number"),
        ("--config.slul.d_model", "give a value"),
        ("--config.remat=maybe", "config.remat is 'maybe': it must be true, false or one of 'none', 'dots'"),
        ("--config.remat=ofload", "did you mean 'offload'"),
        ("--config.remat=3", "it must be true, false or one of"),
        ("--config.vae.dim_mult=(a", "must be a list"),
        ("--config.slul=3", "slul must be a dict"),
        ("--config.slul.d_model.x=3", "no key 'slul.d_model.x'"),
        ("--config.train.slul.steps=0", "at least 1"),
        ("--config.train.slul.steps=-5", "at least 1"),
        ("--config.train.vae.batch=0", "at least 1"),
        ("--config.train.vae.learning_rate=0", "above 0"),
        ("--config.train.vae.learning_rate=nan", "a finite number"),
        ("--config.loss.kl=inf", "a finite number"),
        ("--config.dtype=float23", "did you mean 'float32'"),
        ("--config.pose.window=0", "at least 4"),
        ("--config.vae.window=0", "at least 1"),
        ("--config.renderer.window=-1", "at least 0"),
        ("--config.data.corpus=phoenix", "did you mean 'phoenix14t'"),
        ("--config.pose.joints=signing", "did you mean 'signing_74'"),
        ("--config.pose.joints=upper", "one of"),
        ("--config.vae.temporal_downsample=1,0", "each true or false"),
        ("--config.vae.dim_mult=1,2", "one entry for each level"),
        ("--config.renderer.heads=3", "3 heads"),
        ("--config.mesh.data=0", "-1"),
        ("--config.stages=", "at least 1"),
        ("--config.evaluate.split=deev", "did you mean 'dev'"),
    ],
)
def test_a_wrong_override_is_one_clear_line(override, says):
    with pytest.raises(SignerError, match=says.replace("(", r"\(")) as error:
        configuration.load("default", [override])
    assert "\n" not in str(error.value)


def test_a_missing_config_names_the_shipped_ones():
    with pytest.raises(SignerError, match="did you mean 'demo'"):
        configuration.load("demoo")


START = "from signer_jax.configuration import shipped\ndef get_config():\n    c = shipped('default')\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = 1\n", "x.py defines no get_config"),
        ("get_config = 3\n", "x.py defines no get_config"),
        ("a = 1\ndef get_config(:\n", "x.py, line 2: SyntaxError"),
        ("a = 1\n\nb = a / 0\n", "x.py, line 3: ZeroDivisionError: division by zero"),
        ("def get_config():\n    raise SystemExit(3)\n", "x.py, line 2: SystemExit"),
        ("import nowhere_to_be_found\n", "x.py, line 1: ModuleNotFoundError"),
        ("def get_config():\n    import configs.mine\n", "line 2: ModuleNotFoundError.*import shipped"),
        ("def get_config():\n    return {}\n", "returned dict; return a ConfigDict"),
        ("def get_config(variant):\n    return variant\n", "needs a variant; give FILE.py:VARIANT"),
        (START + "    c.slul.d_modle = 3\n    return c\n", "unknown key 'slul.d_modle' .did you mean 'slul.d_model'"),
        (START + "    del c.slul.d_model\n    return c\n", "lacks 'slul.d_model'"),
        (START + "    c.slul.d_model = 'wide'\n    return c\n", "x.py, line 4: TypeError"),
        (START + "    c.loss.kl = float('nan')\n    return c\n", "config.loss.kl is nan: it must be a finite number"),
        (START + "    c.train.vae.steps = 0\n    return c\n", "config.train.vae.steps is 0"),
        (b"\xff\xfe", "x.py.*SyntaxError"),
    ],
)
def test_a_faulty_config_file_is_one_clear_line(text, says, tmp_path: Path):
    file = tmp_path / "x.py"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SignerError, match=says) as error:
        configuration.load(file)
    assert "\n" not in str(error.value)


def test_a_variant_is_given_to_get_config(tmp_path: Path):
    file = tmp_path / "x.py"
    file.write_text(START.replace("()", "(size='small')") + "    c.data.source = size\n    return c\n")
    assert configuration.load(file).data.source == "small"
    assert configuration.load(f"{file}:large").data.source == "large"
    assert configuration.load(f"{file}:a:b", ["--config.seed=3"]).data.source == "a:b"
    with pytest.raises(SignerError, match="takes no variant"):
        configuration.load("phoenix14t:large")
    with pytest.raises(SignerError, match="^--config demo:large: give a number of devices"):
        configuration.load("demo:large")
    with pytest.raises(SignerError, match="^--config pod_wan_14b:foo: give 480p or 720p"):
        configuration.load("pod_wan_14b:foo")
    with pytest.raises(SignerError, match="no such file"):
        configuration.load(f"{tmp_path / 'y.py'}:large")


def test_a_bare_name_is_the_shipped_config_whatever_the_folder_holds(tmp_path: Path, monkeypatch):
    """A folder `demo`, a file `demo`, and a foreign package `configs` ahead of ours on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "phoenix14t").mkdir()
    (tmp_path / "phoenix14t" / "__main__.py").write_text("raise SystemExit('ran')\n")
    (tmp_path / "demo").write_text("not a config\n")
    (tmp_path / "configs").mkdir()
    for name in ("__init__", "default", "mine"):
        (tmp_path / "configs" / f"{name}.py").write_text("raise RuntimeError('foreign')\n")
    for name in ("demo", "phoenix14t", "configs/phoenix14t.py", "phoenix14t.py"):
        assert configuration.load(name).stages
    with pytest.raises(SignerError, match="foreign"):
        configuration.load("configs/default.py")  # a path is the user's file where there is one
    with pytest.raises(SignerError, match="is a folder"):
        configuration.load("./phoenix14t")
    copied = tmp_path / "configs" / "copied.py"
    copied.write_text((configuration.SHIPPED / "phoenix14t.py").read_text())
    assert flatten(configuration.load("configs/copied.py")) == flatten(configuration.load("phoenix14t"))


def test_a_workdir_belongs_to_its_config(tmp_path: Path):
    c = configuration.load("default")
    with claimed(tmp_path / "run", read(c)):
        assert load_settings(tmp_path / "run") == read(c)
    c.log_every = 3  # what does not change the training may change
    c.mesh.fsdp, c.train.pose.accumulate = 2, 2
    with claimed(tmp_path / "run", read(c)):
        pass
    c.slul.d_model = 64
    (tmp_path / "run" / "checkpoints" / "slul" / "200").mkdir(parents=True)  # something was trained
    with pytest.raises(SignerError, match="slul.d_model was 128, is now 64"), claimed(tmp_path / "run", read(c)):
        pass
    assert load_settings(tmp_path / "run").slul.d_model == 128
    c.slul.d_model = 128
    for stage in ("slul", "vae", "images", "renderer", "joint"):  # they draw for each part
        c.train[stage].accumulate = c.train[stage].batch
        with pytest.raises(SignerError, match=f"train.{stage}.accumulate was 1"), claimed(tmp_path / "run", read(c)):
            pass
        c.train[stage].accumulate = 1
    c.slul.d_model = 128
    c.renderer.overlap, c.renderer.solver, c.renderer.steps = 1, "unipc", 8  # of signing alone
    c.renderer.temperature = 0.5
    with claimed(tmp_path / "run", read(c)):
        assert load_settings(tmp_path / "run").renderer.overlap == 1


def test_a_config_that_sets_a_learning_rate_names_its_optimizer():
    """Rates of AdamW and Muon are ten times apart: one that stays while the default's optimizer changes is wrong."""
    for path in sorted(configuration.SHIPPED.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        for stage in re.findall(r"c\.train\.(\w+)\.learning_rate", text):
            assert f"c.train.{stage}.optimizer" in text, f"{path.name}: train.{stage}"
