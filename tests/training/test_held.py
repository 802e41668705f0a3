"""What is in memory: of the parts that a stage or signing uses, each in its type, and read straight into it."""

import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from renderer import tiny_wan

from signer_jax import model as models
from signer_jax.dense import is_adapters
from signer_jax.errors import SignerError
from signer_jax.interop import names, state_dict
from signer_jax.interop.names import BFLOAT16, FLOAT32
from signer_jax.model import TRAINED
from signer_jax.renderer import variants
from signer_jax.training import base, held, loop, lora, partitioning, published, run
from signer_jax.training.checkpoints import Checkpoints, Replaced, read_params
from signer_jax.training.held import Weights
from signer_jax.validation import read

VOCABULARY = 50


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[str, str]:
    base = tmp_path_factory.mktemp("weights")
    return tiny_wan.write_transformer(base / "t2v", "wan2.1-t2v-1.3b"), tiny_wan.write_vae(base / "vae")


@pytest.fixture(scope="module")
def animate(tmp_path_factory) -> str:
    return tiny_wan.write_transformer(tmp_path_factory.mktemp("weights") / "animate", "wan2.2-animate-14b")


def weights_of(folders: tuple[str, str], workdir, variant: str = "wan2.1-t2v-1.3b", **changes) -> Weights:
    c = tiny_wan.config_of(variant, *folders, slul=True)
    c.stages = ("slul", "pose", "renderer", "joint")
    c.lora.rank = 2
    c.update_from_flattened_dict(
        {"dtype": "bfloat16", "train.renderer.trains": ("lora", "branch"), "train.renderer.frozen_dtype": "bfloat16"}
        | {"train.joint.trains": ("^slul/", "lora"), "train.joint.frozen_dtype": "bfloat16"}
        | changes
    )
    mesh = partitioning.make_mesh({"data": 1, "fsdp": -1, "tensor": 1}, jax.devices()[:2])
    return Weights.of(read(c), VOCABULARY, workdir, mesh)


def flat(tree) -> dict:
    return flatten_dict(tree, sep="/")


class Place:
    """A place in data that there are none of."""

    def get_state(self) -> dict:
        return {}


def keep(weights: Weights, stage: str, learned: dict, step: int = 1) -> None:
    """As the end of a stage leaves it."""
    with Checkpoints(weights.workdir / "checkpoints" / stage) as checkpoints:
        checkpoints.save(step, {"params": learned}, Place())


def learned_by(weights: Weights, stage: str, seed: int) -> dict:
    """Made-up results of a stage: what it trains, and adapters."""
    c, rng = weights.settings.stage(stage), np.random.default_rng(seed)
    moving, _ = weights.for_stage(stage)
    shapes = flat(weights.shapes)
    tree = {path: rng.normal(size=shapes[path].shape).astype(np.float32) for path in moving}
    if "lora" in c.trains:
        at = lora.places(weights.shapes, TRAINED[stage], weights.settings.lora.targets, "")
        at = tuple(place for place in at if f"{place}/kernel" not in tree)
        fresh = flat(lora.fresh(weights.shapes, at, 2, jax.random.key(seed)))
        tree |= {path: rng.normal(size=value.shape).astype(np.float32) for path, value in fresh.items()}
    return unflatten_dict(tree, sep="/")


# ---- Which parts, in what types --------------------------------------------------------------------------------------


def test_a_stage_has_what_it_uses(folders, tmp_path):
    weights = weights_of(folders, tmp_path)
    uses = {name: set().union(*weights.for_stage(name)) for name in TRAINED if name in weights.settings.stages}
    parts = {name: {path.partition("/")[0] for path in paths} for name, paths in uses.items()}
    assert parts == {
        "slul": {"slul"},
        "pose": {"slul", "slp_moe", "stabiliser"},
        "renderer": {"slul", "vae", "renderer"},
        "joint": {"slul", "slp_moe", "stabiliser", "vae", "renderer"},
    }
    moving, frozen = weights.for_stage("renderer")
    assert moving and all(path.startswith("renderer/control/") or "semantics" in path for path in moving)
    assert set(moving.values()) == {FLOAT32}
    assert {kind for path, kind in frozen.items() if path.startswith("vae/")} == {FLOAT32}
    assert frozen["renderer/transformer/layers/wi/kernel"] == frozen["slul/token_embedding/embedding"] == BFLOAT16
    for path in ("modulation", "time_in/kernel", "layers/modulation", "layers/self_attention/query_norm/scale"):
        assert frozen[f"renderer/transformer/{path}"] == FLOAT32
    assert set(weights.for_stage("slul")[0].values()) == {FLOAT32}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, BFLOAT16), ({"dtype": "float32"}, FLOAT32), ({"renderer.dtype": "float32"}, FLOAT32),
        ({"dtype": "float32", "renderer.dtype": "bfloat16"}, BFLOAT16),
    ],
)  # fmt: skip
def test_signing_has_published_weights_as_it_computes_or_as_it_is_told(folders, tmp_path, changes, expected):
    kinds = weights_of(folders, tmp_path, **changes).for_signing()
    assert kinds["renderer/transformer/layers/wi/kernel"] == expected
    assert {kind for path, kind in kinds.items() if not path.startswith("renderer/")} == {FLOAT32}


def test_what_a_run_trained_from_nothing_signs_as_it_was_trained():
    c = tiny_wan.config_of("wan2.1-t2v-1.3b", "", "")
    c.dtype = "bfloat16"
    assert held.signing_dtype(read(c)) == FLOAT32


def test_nothing_is_in_memory_but_what_a_stage_uses(folders, tmp_path):
    weights = weights_of(folders, tmp_path)
    before = {id(array) for array in jax.live_arrays()}

    def live() -> tuple[int, int]:
        """Numbers, and bytes of the arrays made since then."""
        arrays = [array for array in jax.live_arrays() if id(array) not in before]
        return sum(array.size for array in arrays), sum(array.nbytes for array in arrays)

    def size(kinds, beside: int) -> tuple[int, int]:
        """With so many numbers of adapters, float32."""
        shapes = flat(weights.shapes)
        return (
            sum(shapes[path].size for path in kinds) + beside,
            sum(shapes[path].size * kind.itemsize for path, kind in kinds.items()) + 4 * beside,
        )

    params: dict = {}
    adapters = 0
    for i, stage in enumerate(weights.settings.stages):
        moving, frozen = weights.for_stage(stage)
        params = weights.ready(params, moving | frozen, weights.settings.stages[:i], merged=moving)
        lie = {path: leaf.dtype for path, leaf in flat(params).items() if not is_adapters(path)}
        assert lie == moving | frozen
        beside = sum(leaf.size for path, leaf in flat(params).items() if is_adapters(path))
        assert beside == (adapters if stage == "joint" else 0) and live() == size(lie, beside)  # to the byte
        learned = learned_by(weights, stage, i)
        adapters += sum(leaf.size for path, leaf in flat(learned).items() if is_adapters(path))
        keep(weights, stage, learned)
        params = {part: tree for part, tree in params.items() if part not in TRAINED[stage]}
    params = weights.ready(params, weights.for_signing(), weights.settings.stages)
    assert live() == size(weights.for_signing(), adapters)
    assert list(params) == list(weights.shapes)


# ---- The right numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"dtype": "float32"}])
def test_what_is_read_is_what_the_stages_made_of_it(folders, tmp_path, changes):
    """By hand: the published weights or the seed's, then each stage's, adapters merged in float32."""
    weights = weights_of(folders, tmp_path, **changes)
    settings = weights.settings
    model, published = models.build(settings, VOCABULARY)
    expected = jax.device_get(models.init(model, settings, published, settings.seed))
    for i, stage in enumerate(settings.stages):
        learned = learned_by(weights, stage, i)
        keep(weights, stage, learned)
        expected = lora.merged(expected, learned, settings.lora.alpha / settings.lora.rank)
    whole = weights.read(weights.whole(), settings.stages, merged=weights.whole())
    for path, value in flat(whole).items():
        np.testing.assert_array_equal(value, flat(expected)[path], err_msg=path)
    mixed, apart = weights.for_signing(), flat(weights.read(weights.for_signing(), settings.stages))
    beside = {f"{path.rpartition('/')[0]}/kernel" for path in apart if is_adapters(path)}
    assert bool(beside) == (settings.dtype == "bfloat16")  # in float32 they are merged for signing too
    for path in mixed:
        if path not in beside:
            np.testing.assert_array_equal(apart[path], flat(expected)[path].astype(mixed[path]), err_msg=path)
    part = weights.read(weights.whole(("vae",)), settings.stages)
    assert part.keys() == {"vae"}


def test_published_tensors_go_straight_into_their_type(folders, tmp_path, monkeypatch):
    """No shard is made in float32 and rounded afterwards, on the host or on the device."""
    weights = weights_of(folders, tmp_path, **{"train.renderer.trains": ("branch",), "stages": ("slul", "renderer")})
    made, placed = [], names.placed

    def noted(shape, sharding, shard):
        def watched(index):
            part = shard(index)
            made.append((part.shape, part.dtype))
            return part

        return placed(shape, sharding, watched)

    monkeypatch.setattr(names, "placed", noted)
    _, frozen = weights.for_stage("renderer")
    kinds = {path: kind for path, kind in frozen.items() if path.startswith("renderer/")}
    read = weights.read(kinds, ())
    wanted = sum(leaf.size for leaf in jax.tree.leaves(read) if leaf.dtype == BFLOAT16)
    # Two devices: what is not split is made once.
    assert sum(int(np.prod(shape)) for shape, dtype in made if dtype == BFLOAT16) == wanted > 10_000
    monkeypatch.setattr(partitioning, "as_type", lambda leaf, dtype: leaf)
    for path, value in flat(weights.read(kinds, ())).items():
        assert value.dtype == kinds[path], path


def test_what_a_stage_trained_is_not_read_from_the_published_files(folders, tmp_path, monkeypatch):
    weights = weights_of(folders, tmp_path, **{"train.renderer.trains": ("full",), "stages": ("slul", "renderer")})
    for i, stage in enumerate(weights.settings.stages):
        keep(weights, stage, learned_by(weights, stage, i))
    monkeypatch.setattr(state_dict.FileTensor, "__getitem__", lambda *_: pytest.fail("was read"))
    weights.read(weights.for_signing(("slul", "renderer")), weights.settings.stages)


def test_a_checkpoint_without_a_parameter_that_its_stage_trains_is_refused(folders, tmp_path):
    weights = weights_of(folders, tmp_path, stages=("slul",))
    learned = learned_by(weights, "slul", 0)
    del learned["slul"]["encoder"]
    keep(weights, "slul", learned)
    with pytest.raises(SignerError, match="another model: it has nothing for slul/encoder/") as error:
        weights.read(weights.whole(("slul",)), ("slul",))
    assert "\n" not in str(error.value)


def test_what_is_read_bit_by_bit_is_of_one_checkpoint(folders, tmp_path):
    """The run may be trained on meanwhile: a part of the next checkpoint beside one of the last is no model."""
    weights = weights_of(folders, tmp_path, stages=("slul",))
    first, second = (learned_by(weights, "slul", seed) for seed in (0, 1))
    kinds = weights.whole(("slul",))
    one, *others = sorted(kinds)
    keep(weights, "slul", first)
    read = weights.reader(kinds, ("slul",))
    np.testing.assert_array_equal(flat(read({one: kinds[one]}))[one], flat(first)[one])
    keep(weights, "slul", second, 2)
    with pytest.raises(Replaced, match="slul/1: was replaced by a newer checkpoint while it was read") as error:
        read({path: kinds[path] for path in others})
    assert "\n" not in str(error.value)
    jax.tree.map(np.testing.assert_array_equal, weights.read(kinds, ("slul",))["slul"], second["slul"])


def test_checkpoints_are_read_some_at_a_time_where_they_are_rounded(tmp_path, monkeypatch):
    from signer_jax.training import checkpoints as module

    values = {f"w{i}": np.full((8, 4), i + 1 / 3, np.float32) for i in range(5)}
    with Checkpoints(tmp_path / "part") as checkpoints:
        checkpoints.save(1, {"params": {"part": values}}, Place())
    mesh = partitioning.make_mesh({"data": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])
    monkeypatch.setattr(module, "_TOGETHER", 2 * 8 * 4 * 4)
    summed, described = [], module.described
    monkeypatch.setattr(module, "described", lambda tree: summed.append(len(jax.tree.leaves(tree))) or described(tree))
    kinds = {f"part/w{i}": BFLOAT16 if i else FLOAT32 for i in range(4)}
    found = read_params(tmp_path / "part", partitioning.placing(mesh), kinds)["part"]
    assert summed == [1, 2, 1] and found.keys() == {"w0", "w1", "w2", "w3"}
    for i in range(4):
        assert found[f"w{i}"].dtype == kinds[f"part/w{i}"]
        np.testing.assert_array_equal(found[f"w{i}"], values[f"w{i}"].astype(kinds[f"part/w{i}"]))


def test_a_stage_knows_which_parameters_a_step_may_leave_alone(folders, tmp_path):
    model = weights_of(folders, tmp_path).model
    assert run.experts_of("renderer", model) == ()
    variant = variants.VARIANTS["wan2.2-t2v-a14b"]
    two = replace(model, renderer=replace(model.renderer, variant=variant))
    assert run.experts_of("slul", two) == ()
    for stage in ("images", "renderer", "joint"):
        assert run.experts_of(stage, two) == ("renderer/transformer/high", "renderer/transformer/low")


# ---- The same results ------------------------------------------------------------------------------------------------


def moved_by_hand(weights: Weights, stage: str, seed: int) -> dict:
    """Made-up results of a stage whose adapters move kernels by some thousandths, as trained ones do."""
    learned = flat(learned_by(weights, stage, seed))
    return unflatten_dict({p: v * np.float32(0.03 if is_adapters(p) else 0.2) for p, v in learned.items()}, sep="/")


@pytest.mark.parametrize("frozen_dtype", ["bfloat16", "float32"])
def test_adapters_sign_as_they_were_trained(folders, tmp_path, frozen_dtype):
    """In bfloat16, beside the kernels: after the renderer's stage, at the start of `joint`, and after that."""
    changes = {f"train.{stage}.frozen_dtype": frozen_dtype for stage in ("renderer", "joint")}
    weights = weights_of(folders, tmp_path, **changes, **{"train.joint.trains": ("lora",)})
    stages = weights.settings.stages
    module = weights.model.renderer.transformer
    inputs, options = models.transformer_inputs(weights.model.renderer)
    rng = np.random.default_rng(5)
    inputs, options = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), (inputs, options))

    @partial(jax.jit, compiler_options={"xla_allow_excess_precision": False})
    def answer(params):
        return module.apply({"params": params}, *inputs, **options)

    def forward(params) -> np.ndarray:
        # By one program, wherever they lie: several devices round bfloat16's sums in another order.
        return np.asarray(answer(jax.device_get(params["renderer"]["transformer"])))

    for i, stage in enumerate(stages[:2]):
        keep(weights, stage, learned_by(weights, stage, i))
    params, ended = {}, np.empty(0)
    for i, name in enumerate(stages[2:], 2):
        moving, frozen = weights.for_stage(name)
        params = weights.ready(params, moving | frozen, stages[:i], merged=moving)
        stage = run.stage_of(name, weights.model, weights.settings, 0)
        new, rest = loop.cut(stage, params, 0)
        started = forward(lora.with_lora(rest, new, stage.scale))
        if name == "joint":
            np.testing.assert_array_equal(started, ended)  # B is zero: nothing of the stage before is lost
        learned = moved_by_hand(weights, name, i)
        assert jax.tree.map(np.shape, learned) == jax.tree.map(np.shape, new)
        keep(weights, name, learned)
        ended = forward(lora.with_lora(rest, learned, stage.scale))
        assert np.abs(ended - started).max() > 1e-3
        assert "renderer" in weights.spent(params, learned)  # and so is read anew
        params = {part: tree for part, tree in params.items() if part not in stage.parts}
        signing = weights.read(weights.for_signing(("renderer",)), stages[: i + 1])
        np.testing.assert_array_equal(forward(signing), ended)
    whole = weights.whole(("renderer",))
    merged = forward(weights.read(whole, stages, merged=whole))
    assert np.abs(merged - ended).max() > 0  # what exports have is float32's, rounded where it is used


@pytest.mark.parametrize("variant", ["wan2.1-t2v-1.3b", "wan2.2-animate-14b"])
def test_rounded_to_what_is_computed_in_the_transformer_gives_the_same(variant):
    """All that lies in bfloat16 is rounded to it wherever it is used; the rest lies in float32."""
    module = tiny_wan.module_of(variant).clone(dtype=jnp.bfloat16, semantics_dim=6)
    rng = np.random.default_rng(0)
    options = {"semantics": rng.normal(size=(1, 4, 6)).astype(np.float32)}
    if module.image_dim:
        options["image"] = rng.normal(size=(1, 3, module.image_dim)).astype(np.float32)
    if module.face:
        options["pose"] = rng.normal(size=(1, 1, 4, 4, tiny_wan.Z)).astype(np.float32)
        options["face"] = rng.uniform(-1, 1, (1, 1, module.face.size, module.face.size, 3)).astype(np.float32)
    inputs = (
        rng.normal(size=(1, 2, 4, 4, module.in_channels)).astype(np.float32), np.array([500.0], np.float32),
        rng.normal(size=(1, 3, tiny_wan.TEXT)).astype(np.float32),
    )  # fmt: skip
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, **options))["params"]
    whole = tiny_wan.random(shapes, 3)
    rounded = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.astype(names.held_as(f"renderer/transformer/{partitioning.path_name(path)}", BFLOAT16)),
        whole,
    )
    kinds = [leaf.dtype for leaf in jax.tree.leaves(rounded)]
    assert 0 < kinds.count(FLOAT32) < kinds.count(BFLOAT16) or variant == "wan2.2-animate-14b"

    def run(params):
        return module.apply({"params": params}, *inputs, **options)

    # The compiler may leave out a rounding where it computes in more: here it may not.
    exact = {"xla_allow_excess_precision": False}
    outputs = [np.asarray(jax.jit(run, compiler_options=exact)(params)) for params in (whole, rounded)]
    np.testing.assert_array_equal(*outputs)
    assert np.isfinite(outputs[0]).all()


def test_a_text_encoder_in_bfloat16_files_lies_in_it_and_says_the_same(tmp_path, monkeypatch):
    from signer_jax.training import text_states

    source = tmp_path / "source"
    tiny_wan.write_text_encoder(source)
    rounded = tmp_path / "rounded"
    shutil.copytree(source, rounded)
    state_dict_of = state_dict.read_tensors(source / "text_encoder")
    config = json.loads((source / "text_encoder" / "config.json").read_text())
    shutil.rmtree(rounded / "text_encoder")
    (rounded / "text_encoder").mkdir()
    state_dict.write_into(
        rounded / "text_encoder", config, [tensor.entry("BF16") for tensor in state_dict_of.values()]
    )  # fmt: skip
    seen, load = [], text_states.t5.load_encoder

    def noted(*arguments, **options):
        module, params = load(*arguments, **options)
        seen.append({leaf.dtype for leaf in jax.tree.leaves(params)})
        return module, params

    monkeypatch.setattr(text_states.t5, "load_encoder", noted)
    mesh = partitioning.make_mesh({"data": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])

    def states(folder, dtype: str):
        encoder = text_states.TextEncoder.at(str(folder), tiny_wan.TEXT, 8, dtype)
        return dict(text_states.encode(encoder, ["house"], mesh))["house"]

    held_, read_ = states(rounded, ""), states(rounded, "float32")
    assert seen == [{BFLOAT16}, {FLOAT32}]
    np.testing.assert_array_equal(held_, read_)
    states(source, ""), states(source, "bfloat16")
    assert seen[2] == {FLOAT32} and seen[3] == {FLOAT32, BFLOAT16}


# ---- The weights that a checkpoint belongs to ------------------------------------------------------------------------


def test_adapters_are_refused_on_other_weights_than_those_they_were_trained_beside(folders, tmp_path, monkeypatch):
    """Of the same classes and shapes, so that nothing else tells them apart."""
    mine = tuple(shutil.copytree(folder, tmp_path / Path(folder).name) for folder in folders)
    weights = weights_of(tuple(map(str, mine)), tmp_path / "run", **{"train.renderer.trains": ("lora",)})
    theirs = mine[0] / "transformer"
    assert weights.beside("slul") == {} and weights.beside("renderer") == {"renderer/transformer": theirs}
    place = tmp_path / "run" / "checkpoints" / "renderer"
    with Checkpoints(place, beside=weights.beside("renderer")) as checkpoints:
        checkpoints.save(1, {"params": learned_by(weights, "renderer", 0)}, Place())
    kinds = weights.whole(("renderer",))
    hashes = []
    monkeypatch.setattr(base, "hashed", lambda folder: hashes.append(folder) or published.hashed(folder))
    before = flat(weights.read(kinds, ("renderer",)))
    assert not hashes  # the files are as they were: their bytes are not read for it
    (file,) = theirs.glob("*.safetensors")
    os.utime(file, ns=(0, 0))  # as a copy has it
    assert flat(weights.read(kinds, ("renderer",))).keys() == before.keys() and hashes == [theirs]
    # ---- Another model of these shapes -------------------------------------------------------------------------------
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(
        SignerError, match=r"trained beside other weights of renderer/transformer than .*; put"
    ) as error:
        weights.read(kinds, ("renderer",))
    assert "\n" not in str(error.value)
    with Checkpoints(place, beside=weights.beside("renderer")) as checkpoints:
        state = {"params": learned_by(weights, "renderer", 0)}
        with pytest.raises(SignerError, match="trained beside other weights"):
            checkpoints.restore(state, Place())
    data[-3] ^= 1
    file.write_bytes(bytes(data))
    weights.read(kinds, ("renderer",))


def test_what_holds_a_whole_part_belongs_to_no_other_weights(folders, tmp_path):
    weights = weights_of(folders, tmp_path, **{"train.renderer.trains": ("full",)})
    assert weights.beside("renderer") == {}
    both = tiny_wan.write_transformer(tmp_path / "a14b", "wan2.2-t2v-a14b")
    two = weights_of((both, folders[1]), tmp_path, "wan2.2-t2v-a14b", **{"train.renderer.trains": ("lora",)})
    assert sorted(two.beside("renderer")) == ["renderer/transformer/high", "renderer/transformer/low"]
