"""The settings are the config: the same keys and types, and ranges that admit the defaults."""

from dataclasses import FrozenInstanceError, replace
from typing import Annotated, Literal, get_args, get_origin

import pytest

from signer_jax import configuration
from signer_jax.errors import SignerError
from signer_jax.ranges import each, number, one_of, range_of, whole
from signer_jax.settings import Settings, flatten, known
from signer_jax.validation import read


def plain(hint):
    """The type that a field's annotation stands for."""
    if get_origin(hint) is Annotated:
        return plain(get_args(hint)[0])
    return type(get_args(hint)[0]) if get_origin(hint) is Literal else hint


def test_the_settings_have_the_keys_and_types_of_the_default():
    config = configuration.shipped("default")
    values = flatten(config)
    assert known().keys() == values.keys()
    for name, hint in known().items():
        kind = plain(hint)
        if get_origin(kind) is tuple:
            item = get_args(kind)[0]
            assert isinstance(values[name], list) and all(type(one) is item for one in values[name]), name
        else:
            assert type(values[name]) is kind, name
    found = flatten(read(config))
    assert found == values and all(type(found[name]) is type(values[name]) for name in values)


@pytest.mark.parametrize("name", configuration.shipped_names())
def test_every_shipped_config_is_read(name):
    left_open = [key for key, value in flatten(configuration.shipped(name)).items() if value is None]
    config = configuration.load(name, [f"--config.{key}=folder" for key in left_open])
    found, values = flatten(read(config)), flatten(config)
    # What a config leaves to the variant is the variant's.
    left = [key for key in ("renderer.window", "renderer.shift", "renderer.overlap") if values[key] == 0]
    assert found | {key: values[key] for key in left} == values
    assert all(found[key] > 0 for key in left if key != "renderer.overlap")
    assert read(config.to_dict()) == read(config)


@pytest.mark.parametrize("name", [name for name in configuration.shipped_names() if name.startswith("wan")])
def test_folders_that_must_be_given_are_asked_for(name):
    for key, given in (("vae.init", "renderer.init"), ("renderer.init", "vae.init")):
        with pytest.raises(SignerError) as error:
            configuration.load(name, [f"--config.{given}=folder"])
        assert str(error.value) == (
            f"config.{key} is not set; set config.{key} to a folder made by signer import wan, --config.{key}=FOLDER"
        )


@pytest.mark.parametrize(("size", "shift"), [((480, 832), 3.0), ((720, 1280), 5.0)])
def test_a_shift_that_is_left_to_the_variant_is_that_of_the_size(size, shift):
    config = configuration.load("wan_t2v_14b", ["--config.renderer.init=folder", "--config.vae.init=folder"])
    config.data.size = size
    assert read(config).renderer.shift == shift
    config.renderer.shift = 4.0
    assert read(config).renderer.shift == 4.0


def test_settings_are_frozen():
    settings = read(configuration.load("default"))
    with pytest.raises(FrozenInstanceError):
        settings.slul.d_model = 3
    assert replace(settings, seed=3) != settings and settings.stage("vae") is settings.train.vae


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("slul.d_model", 1.0, "a whole number of at least 1"), ("slul.d_model", True, "a whole number"),
        ("slul.dropout", 1.0, "below 1"), ("remat", 1, "true, false or one of"), ("data.source", None, "text"),
        ("pose.dims", 2.0, "one of 2, 3"), ("pose.gating", "glosses", "did you mean 'gloss'"),
        ("renderer.patch", (1, 2), "a list of 3"), ("vae.temporal_downsample", (1,), "each true or false"),
        ("slul.length_penalty", float("nan"), "a finite number"), ("mesh.data", 0, "-1"),
        ("train.vae.trains", (), "at least 1"), ("train.vae.trains", ("(",), "each a regular expression"),
        ("train.vae.rates", ("a",), "each PATTERN=FACTOR"), ("train.vae.rates", ("a=-1",), "each PATTERN=FACTOR"),
        ("train.vae.rates", ("(=1",), "each PATTERN=FACTOR"), ("train.vae.ema", 1.0, "below 1"),
        ("train.vae.optimizer", "adam", "did you mean 'adamw'"), ("vae.buckets", ("17x64",), "each FRAMESxHEIGHT"),
        ("stages", (1,), "each text"), ("stages", "slul", "a list"), ("renderer.hand_weight", "3", "a finite number"),
    ],
)  # fmt: skip
def test_a_value_out_of_its_range_is_one_line(key, value, says):
    config = configuration.shipped("default").to_dict()
    *path, leaf = key.split(".")
    holder = config
    for name in path:
        holder = holder[name]
    holder[leaf] = value
    with pytest.raises(SignerError, match=says) as error:
        read(config)
    assert str(error.value).startswith(f"config.{key} is {value!r}") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vae.dim_mult": (1, 2), "vae.temporal_downsample": (False,)}, "dim_mult .1, 2.: principal components"),
        ({"vae.base_dim": 24}, "base_dim 24: principal components need at least 25"),
        ({"vae.z_dim": 13, "vae.base_dim": 27}, "z_dim 13: principal components need at most 12"),
        ({"train.vae.accumulate": 3}, "accumulate 3: must divide config.train.vae.batch 4"),
        ({"train.vae.trains": ("encoder",)}, "train.vae.trains .* principal components"),
        ({"renderer.guidance": 3.0}, "guidance 3.0.*condition_dropout above 0"),
        ({"renderer.face_weight": 2.0, "pose.joints": "upper_50"}, "face_weight 2: .*'upper_50' has no face"),
        ({"train.slul.patience": 3}, "slul.patience 3: counts looks, .*select_every to the steps"),
        ({"train.slul.average": 3}, "slul.average 3: counts looks"),
        ({"train.slul.select_every": 5, "train.slul.select_sentences": 0}, "select_sentences 0: there is nothing"),
        (
            {"train.slul.select_every": 5, "train.slul.average": 2, "train.slul.trains": ("lora",)},
            "average 2: adapters",
        ),
        (
            {"train.slul.select_every": 5, "train.slul.patience": 2, "train.slul.select_by": "last"},
            "patience 2: by 'last' every look is better",
        ),
        ({"train.slul.r_drop": 1.0}, "r_drop 1: without dropout .*config.slul.dropout above 0"),
    ],
)
def test_values_that_do_not_go_together_are_refused_and_the_advice_mends_them(changes, says):
    config = configuration.shipped("default")
    config.update_from_flattened_dict(changes)
    with pytest.raises(SignerError, match=says):
        read(config)
    config.vae.principal_start, config.renderer.condition_dropout = False, 0.1
    config.train.vae.batch, config.pose.joints = 6, "signing_74"
    config.train.slul.select_every, config.train.slul.select_sentences, config.slul.dropout = 5, 100, 0.1
    config.train.slul.trains, config.train.slul.select_by = ("full",), "bleu4"
    read(config)


@pytest.mark.parametrize("name", [name for name, hint in known().items() if plain(hint) in (int, float)])
def test_no_number_may_be_beyond_all_bounds(name):
    """A slip of the keyboard is one line, not all the memory or hours."""
    config = configuration.shipped("default").to_dict()
    *path, leaf = name.split(".")
    holder = config
    for part in path:
        holder = holder[part]
    for value in (10**20, 1e30, float("nan"), float("inf"), -1e30, -(10**20)):
        holder[leaf] = value
        with pytest.raises(SignerError, match=f"config.{name} is .*: it must be") as error:
            read(config)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "most"),
    [("data.fps", 1000.0), ("data.size", 4096), ("seed", 2**31 - 1), ("slul.beams", 1000), ("slul.d_ff", 2**17),
     ("tokenizer.vocab_size", 10**6), ("train.slul.batch", 10**6), ("train.slul.steps", 10**9)],
)  # fmt: skip
def test_the_upper_bound_is_what_is_said(key, most):
    for value, fits in ((most, True), (most + 1, False)):
        config = configuration.shipped("phoenix14t")
        config.update_from_flattened_dict({key: value})
        if fits:
            assert flatten(read(config))[key] in (most, [most, most])  # one number is a square
        else:
            with pytest.raises(SignerError, match=f"{most:g}|{most}"):
                read(config)


def test_lists_are_not_longer_than_any_run_needs():
    assert each(whole(1), most=2).holds((1, 2)) and not each(whole(1), most=2).holds((1, 2, 3))
    assert (
        each(whole(1), least=1, most=2).words == "a list of at least 1 and at most 2, each a whole number of at least 1"
    )
    config = configuration.shipped("default")
    config.renderer.stem_features = (8,) * 11
    with pytest.raises(SignerError, match="of at most 10"):
        read(config)


def test_the_built_in_corpus_has_a_lowest_frame_rate():
    config = configuration.shipped("default")
    config.data.fps = 3.0
    with pytest.raises(SignerError, match="need 4 frames a second"):
        read(config)
    for fps in (0.0, 4.0):
        config.data.fps = fps
        assert read(config).data.fps == fps


def test_unknown_and_missing_keys_are_named():
    config = configuration.shipped("default").to_dict()
    with pytest.raises(SignerError, match="unknown key 'slul.d_modle' .did you mean 'slul.d_model'"):
        read({**config, "slul": {**config["slul"], "d_modle": 3}})
    del config["train"]["joint"]
    with pytest.raises(SignerError, match="lacks 'train.joint"):
        read(config)


def test_a_whole_number_stands_for_a_float():
    config = configuration.shipped("default").to_dict()
    config["loss"]["kl"] = 1
    assert repr(read(config).loss.kl) == "1.0"


def test_ranges_of_types():
    assert range_of(Literal["a", "b"]).holds("a") and not range_of(Literal["a", "b"]).holds("c")
    assert range_of(tuple[int, ...]).holds((1, -2)) and not range_of(tuple[int, ...]).holds((1, True))
    assert range_of(Annotated[int, whole(2)]).holds(2) and not range_of(Annotated[int, whole(2)]).holds(1)
    assert not range_of(float).holds(float("inf")) and range_of(float).holds(-2)
    assert not number(0, 1, above=True).holds(0) and number(0, 1).holds(1) and not number(0, 1).holds(1.5)
    assert each(one_of(1), least=1).words == "a list of at least 1, each one of 1"
    assert Settings.__dataclass_params__.frozen
