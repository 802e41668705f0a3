"""The shipped configs of published Wan models, end to end on tiny folders of their classes: imported, trained, the
folder deleted, resumed, signed with, exported, and read back as what signs.
"""

import json
import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from renderer import tiny_wan
from wan_runs import I2V, VARIANTS, Weights, claimed, config_of

from signer_jax import configuration, export, storage
from signer_jax import model as models
from signer_jax.cli.import_ import CONFIGS
from signer_jax.cli.main import main
from signer_jax.dense import is_adapters
from signer_jax.interop import importing, lora, names, pipelines, state_dict, t5, wan
from signer_jax.interop.kept import local
from signer_jax.pipeline import Signer
from signer_jax.renderer.vae import VideoVAE
from signer_jax.renderer.variants import VARIANTS as ALL
from signer_jax.renderer.variants import find, overlap_fault
from signer_jax.stations.render import render, style
from signer_jax.training import partitioning, run
from signer_jax.training import trained as trained_parts
from signer_jax.training.checkpoints import read_params
from signer_jax.training.lora import added
from signer_jax.training.text_states import TextStates
from signer_jax.training.there import latest_step
from signer_jax.validation import read

STEPS = 3
WHOLE = "wan_t2v_1_3b"  # with SLUL and SLP-MoE before the renderer, and killed on the way; the others have it alone
# The modes of each config are its own, beside two others for the smallest; more of them are in test_wan_modes.
CASES = [(config, ()) for config in VARIANTS] + [(WHOLE, ("lora",)), (WHOLE, ("full",))]
# With UMT5, and CLIP where the variant has it: text alone, a picture that is the first frame, one in front.
ENCODED = [(WHOLE, ()), (I2V, ()), ("wan_animate_14b", ())]


class Killed(Exception):
    pass


def settings_of(name: str, folder: Path, trains: tuple[str, ...]):
    c = config_of(name, folder, trains, exact=False)
    assert (c.dtype, c.renderer.solver) == ("bfloat16", "unipc")
    c.keep_checkpoints = STEPS
    c.train.renderer.steps, c.train.renderer.warmup = STEPS, 1
    if name != WHOLE or trains:
        c.stages, c.remat = ("renderer",), False  # compiles in half the time
    return read(c)


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Weights:
    return Weights(tmp_path_factory.mktemp("wan"))


def trained(settings, workdir: Path, monkeypatch, *, until: int | None = None):
    """Trains the run; with `until` it is killed before that step."""
    put, steps = partitioning.put_batch, []

    def counted(*arguments):
        steps.append(None)
        if until is not None and len(steps) > until:
            raise Killed
        return put(*arguments)

    monkeypatch.setattr(partitioning, "put_batch", counted)
    with run.claimed(settings, workdir):
        params = run.train(settings, workdir)[1]
    return params, len(steps)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "trains"), CASES, ids=lambda value: "-".join(value) if isinstance(value, tuple) else value
)
def test_from_published_weights_to_ones_own(tiny_run, tmp_path, weights, monkeypatch, capsys, name, trains):
    variant, folder, workdir = VARIANTS[name], tmp_path / "weights", tmp_path / "run"
    encoded = (name, trains) in ENCODED
    source = weights.of(variant, encoders=encoded)
    assert main(["import", "wan", str(source), "--out", str(folder)]) == 0
    before = wan.load_experts(folder, find(variant).experts)[1]
    settings = settings_of(name, folder, trains)
    assert settings.renderer.variant == variant
    assert bool(settings.renderer.text_encoder) == encoded
    assert bool(settings.renderer.image_encoder) == (encoded and find(variant).clip_dim is not None)
    claimed(tiny_run, workdir, settings, weights)

    # ---- Trained, killed, the folder gone, resumed: the very parameters of the run that was not killed ---------------
    checkpoints, whole = workdir / "checkpoints" / "renderer", (name, trains) == CASES[0]
    if whole:
        with pytest.raises(Killed), monkeypatch.context() as patch:
            trained(settings, workdir, patch, until=2)
    else:  # as a kill after the first step leaves it
        uninterrupted = flatten_dict(jax.device_get(trained(settings, workdir, monkeypatch)[0]["renderer"]), sep="/")
        monkeypatch.undo()
        for step in range(2, STEPS + 1):
            shutil.rmtree(checkpoints / str(step))
    assert f"{workdir / 'published'}: keeps the published weights" in capsys.readouterr().err
    shutil.rmtree(folder)
    first = latest_step(checkpoints)
    assert 0 < first < STEPS
    with monkeypatch.context() as patch:
        params, steps = trained(settings, workdir, patch)
    assert steps == STEPS - first and latest_step(checkpoints) == STEPS
    if not whole:
        for path, value in flatten_dict(jax.device_get(params["renderer"]), sep="/").items():
            np.testing.assert_array_equal(value, uninterrupted[path], err_msg=path)
    weights.keep(workdir)

    # ---- What was trained ------------------------------------------------------------------------------------------
    modes = settings.train.renderer.trains
    learned = flatten_dict(read_params(workdir / "checkpoints" / "renderer"), sep="/")
    assert any(path.endswith("lora_a") for path in learned) == ("lora" in modes)
    assert any("renderer/control/" in path for path in learned) == bool({"branch", "full"} & set(modes))
    now = flatten_dict(jax.device_get(params["renderer"]["transformer"]), sep="/")
    published = flatten_dict(jax.device_get(before), sep="/")
    moved = [path for path, value in published.items() if not np.array_equal(value.astype(now[path].dtype), now[path])]
    assert bool(moved) == ("full" in modes)
    assert any(map(is_adapters, now)) == ("lora" in modes)  # beside kernels in bfloat16, in which they would be lost
    assert {str(value.dtype) for path, value in now.items() if path.endswith("/wi/kernel")} == {"bfloat16"}
    exact = as_trained(published, learned, settings)

    # ---- Signed with -----------------------------------------------------------------------------------------------
    signer = Signer.load(workdir)
    loaded = flatten_dict(jax.device_get(signer.params["renderer"]["transformer"]), sep="/")
    for path, value in now.items():
        np.testing.assert_array_equal(loaded[path], value)
    if whole:
        video = tmp_path / "sign.mp4"
        assert main(["sign", "the house is old", "--workdir", str(workdir), "--out", str(video)]) == 0
        assert video.stat().st_size > 1000
        with monkeypatch.context() as patch:
            asked, of = [], signer.texts.of
            patch.setattr(signer.texts, "of", lambda texts: asked.extend(texts) or of(texts))
            assert signer.sign("the house is old").look == ""  # T2V is shown no picture
        assert asked == ["the house is old"]
    pose = signer.corpus.motions("train")[0].pose.slice(0, 5)
    if encoded:
        check_encoders(signer, pose)
    else:
        shown = render(pose, style(signer.studio), None, None, signer.studio).video
        assert shown.shape == (5, 32, 32, 3) and shown.std() > 0

    # ---- Exported --------------------------------------------------------------------------------------------------
    out = tmp_path / "exported"
    assert main(["export", "wan", str(workdir), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    _, params = wan.load_experts(out, find(variant).experts)
    for path, value in flatten_dict(params, sep="/").items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, exact[path], err_msg=path)
    exported = flatten_dict(params, sep="/")
    np.testing.assert_array_equal(
        wan.load_vae(out / "vae")[1]["quant_conv"]["kernel"],
        jax.device_get(signer.params["vae"])["quant_conv"]["kernel"],
    )
    index = json.loads((out / "model_index.json").read_text())
    assert f"diffusers.{index['_class_name']}.from_pretrained(" in said and ("text_encoder=None" in said) != encoded
    assert index.get("boundary_ratio") == find(variant).boundary
    scheduler = json.loads((out / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["flow_shift"] == settings.renderer.shift == find(variant).shift_at((32, 32))
    whole = flatten_dict(jax.device_get(signer.params["renderer"]), sep="/")
    beside = {path for path in whole if not is_adapters(path)} - {f"transformer/{path}" for path in exported}
    assert (out / "signer_jax.safetensors").exists() == ("diffusers has no place for " in said) == bool(beside)
    assert ("the control branch" in said) == any(path.startswith("control/") for path in beside)
    assert ("SLUL's features" in said) == any("semantics" in path for path in beside) == ("slul" in settings.stages)
    rest = flatten_dict(pipelines.read_rest(out), sep="/") if beside else {}
    assert set(rest) == beside
    for path, value in rest.items():  # in float32, as it was trained
        np.testing.assert_array_equal(value.astype(whole[path].dtype), whole[path])
        np.testing.assert_array_equal(value, learned.get(f"renderer/{path}", value))
    again = tmp_path / "again"  # and in once more: a published model like any other, with its encoders
    assert main(["import", "wan", str(out), "--out", str(again)]) == 0
    assert variant in importing.variants_of(importing.look_at_wan(again))
    for path, value in flatten_dict(wan.load_experts(again, find(variant).experts)[1], sep="/").items():
        np.testing.assert_array_equal(value, exported[path], err_msg=path)
    for part in ("vae", *(part for part in ("text_encoder", "image_encoder") if (source / part).is_dir())):
        published, copied = (state_dict.read_tensors(folder / part) for folder in (source, again))
        assert published.keys() == copied.keys()
        for tensor, value in copied.items():
            np.testing.assert_array_equal(value[...], published[tensor][...], err_msg=tensor)
    adapters = tmp_path / "lora"
    if "lora" not in modes:
        assert main(["export", "lora", str(workdir), "--out", str(adapters)]) == 2
        assert "no stage of this run trained adapters" in capsys.readouterr().err and not adapters.exists()
        return
    assert main(["export", "lora", str(workdir), "--out", str(adapters)]) == 0
    said = capsys.readouterr().out
    assert "read back whole" in said and ("beside the adapters the run trained" in said) == ("branch" in modes)
    check_adapters(adapters, settings, workdir, exported)


def as_trained(published: dict, learned: dict, settings) -> dict:
    """The video transformer in float32, of the published weights and of what a checkpoint holds, adapters merged."""
    inside = {path.removeprefix("renderer/transformer/"): value for path, value in learned.items()}
    exact = published | {path: value for path, value in inside.items() if not is_adapters(path)}
    scale = settings.lora.alpha / settings.lora.rank
    for path in (path for path in inside if path.endswith("/lora_a")):
        layer = path.removesuffix("/lora_a")
        kernel, a, b = published[f"{layer}/kernel"], inside[path], inside[f"{layer}/lora_b"]
        exact[f"{layer}/kernel"] = np.asarray(added(kernel, a, b, scale))  # by hand in training/test_lora.py
    return exact


def check_encoders(signer: Signer, pose) -> None:
    """Each training text has its states; another text is another video, and so is a picture that CLIP is not shown."""
    studio, videos = signer.studio, [i for i, (_, video, _) in enumerate(signer.corpus.listed("train")) if video]
    motions = signer.corpus.motions("train")
    known = TextStates.open(signer.workdir / "text_states")
    assert known.places.keys() == {"", *(motions[i].text for i in videos)}
    look = style(studio)
    states = signer.texts.of(["the house is old", "rain in the north"])
    shown, other = (render(pose, look, None, None, studio, one).video for one in states)
    assert shown.shape == (5, 32, 32, 3) and shown.std() > 0 and (shown != other).any()
    assert (look.clip is not None) == (signer.model.renderer.variant.clip_dim is not None)
    if look.clip is not None:
        np.testing.assert_allclose(look.clip, signer.looks.tokens(look.picture), atol=1e-5)
        blind = render(pose, replace(look, clip=0 * look.clip), None, None, studio, states[0]).video
        assert (blind != shown).any()


def check_adapters(folder: Path, settings, workdir: Path, whole: dict) -> None:
    """The published weights with what the files hold are the `whole` that is exported."""
    experts = find(settings.renderer.variant).experts
    init = local(settings, workdir).renderer.init
    for i, path in enumerate(wan.folders_of(init, experts)):
        inside = folder / wan.PIPELINE[i] if experts else folder
        module, params = wan.load_transformer(path)
        prefix = f"{experts[i]}/" if experts else ""
        expected = {key.removeprefix(prefix): value for key, value in whole.items() if key.startswith(prefix)}
        for file in (inside / lora.DIFFUSERS_FILE, inside / "peft" / lora.PEFT_FILE):
            adapters = flatten_dict(lora.load(file, module, params), sep="/")
            assert adapters
            for key in (key for key in adapters if key.endswith("/lora_a")):
                place = key.removesuffix("/lora_a")
                kernel = flatten_dict(params, sep="/")[f"{place}/kernel"] + adapters[key] @ adapters[f"{place}/lora_b"]
                np.testing.assert_allclose(kernel, expected[f"{place}/kernel"], atol=1e-6)


@pytest.mark.parametrize("name", [*CONFIGS.values(), "wan"])
def test_slul_s_features_can_act_in_every_config(name):
    """Their gates are 0 at the start, and both these and the projection are no published weights: all of them train."""
    c = configuration.shipped(name)
    module = tiny_wan.module_of(c.renderer.variant).clone(semantics_dim=8)
    given = {"semantics": np.zeros((1, 3, 8), np.float32)}
    if module.image_dim:
        given["image"] = np.zeros((1, 3, module.image_dim), np.float32)
    if module.face:
        given["pose"] = np.zeros((1, 1, 2, 2, tiny_wan.Z), np.float32)
    latents, text = np.zeros((1, 2, 2, 2, module.in_channels), np.float32), np.zeros((1, 3, tiny_wan.TEXT), np.float32)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), latents, np.zeros(1, np.float32), text, **given))
    params = {"renderer": {"transformer": shapes["params"], "control": {"out": np.zeros(3)}}}
    new = {path for path in flatten_dict(params, sep="/") if "semantics" in path}
    assert any(path.endswith("semantics_gate") for path in new) and "renderer/transformer/semantics/kernel" in new
    assert new <= trained_parts.chosen(params, ("renderer",), tuple(c.train.renderer.trains), name)


# Frames a second, the text's guidance.
PUBLISHED = {
    "wan2.1-t2v-1.3b": (16, 5.0), "wan2.1-t2v-14b": (16, 5.0), "wan2.1-i2v-14b": (16, 5.0),
    "wan2.1-fun-control-14b": (16, 6.0), "wan2.2-t2v-a14b": (16, 4.0), "wan2.2-i2v-a14b": (16, 3.5),
    "wan2.2-ti2v-5b": (24, 5.0), "wan2.2-fun-control-a14b": (16, 6.0), "wan2.2-fun-control-5b": (24, 6.0),
    "wan2.2-animate-14b": (30, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("variant", [name for name, record in ALL.items() if record.sizes])
def test_frame_rate_and_guidance_are_the_published_models_in_every_config(variant):
    configs = [configuration.shipped(name, variant) for name in ("wan", "wan_general")]
    if variant in CONFIGS:
        configs.append(configuration.shipped(CONFIGS[variant]))
    for c in configs:
        assert (c.data.fps, c.renderer.guidance_each.text) == PUBLISHED[variant]
        assert c.renderer.guidance_low_noise == (3.0 if variant == "wan2.2-t2v-a14b" else 0.0)


def test_who_is_never_without_a_picture():
    """TI2V and Fun-Control are published to make videos of a text, or of a control, alone too."""
    share = {name: configuration.shipped("wan", name).renderer.reference_dropout for name in PUBLISHED}
    assert {name for name in share if not share[name]} == {
        "wan2.1-i2v-14b", "wan2.2-i2v-a14b", "wan2.2-animate-14b"
    }  # fmt: skip
    assert configuration.shipped("wan_general", "wan2.2-animate-14b").renderer.references > 1


def test_a_run_exports_its_slul_and_says_what_it_has_not(tiny_run, tmp_path, capsys):
    out = tmp_path / "t5"
    assert main(["export", "t5", str(tiny_run), "--out", str(out)]) == 0
    assert "T5ForConditionalGeneration.from_pretrained(" in capsys.readouterr().out
    signer = Signer.load(tiny_run)
    jax.tree.map(np.testing.assert_array_equal, t5.load(out)[1], jax.device_get(signer.params["slul"]))
    assert (out / "spiece.model").read_bytes() == (tiny_run / "tokenizer.model").read_bytes()
    for kind, says in (("wan", "is this project's own"), ("lora", "no stage of this run trained adapters")):
        assert main(["export", kind, str(tiny_run), "--out", str(tmp_path / "x")]) == 2
        assert says in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / "x").exists()


def test_what_no_adapter_holds_is_counted_in_every_stage(tmp_path, monkeypatch):
    """Adapters that lie on what another stage trained in full are not the run without it."""
    c = configuration.load(Path(__file__).parent / "tiny.py")
    c.stages = ("slul", "renderer", "joint")
    c.train.joint.trains = ("lora",)
    a, b = np.ones((3, 2), np.float32), np.ones((2, 4), np.float32)
    layer = {"wi": {"lora_a": a, "lora_b": b}}
    held = {
        "slul": {"slul": {"wi": {"kernel": np.ones((3, 4), np.float32)}}},
        "renderer": {"renderer": {"control": {"out": np.ones(5, np.float32)}}},
        "joint": {"renderer": {"transformer": layer, "control": layer}, "slp_moe": layer},
    }
    steps = {stage: read(c).stage(stage).steps for stage in c.stages}
    monkeypatch.setattr(export, "latest_step", lambda folder: steps[folder.name])
    monkeypatch.setattr(export, "read_params", lambda folder: held[folder.name])
    monkeypatch.setattr(
        export, "read_sizes",
        lambda folder: {name: value.size for name, value in flatten_dict(held[folder.name], sep="/").items()},
    )  # fmt: skip
    trees, others = export._adapters(read(c), tmp_path)
    assert set(flatten_dict(trees, sep="/")) == {f"renderer/transformer/wi/lora_{side}" for side in "ab"}
    assert others == 5 + a.size + b.size  # the branch, and adapters that no other library has; SLUL has none here
    c.train.slul.trains, held["slul"]["slul"]["enc"] = ("lora", "wi"), layer
    trees, others = export._adapters(read(c), tmp_path)
    assert trees.keys() == {"renderer", "slul"} and others == 12 + 5 + a.size + b.size
    c.train.joint.trains = c.train.slul.trains = ("full",)
    assert export._adapters(read(c), tmp_path) == ({}, 0)


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    """All numbers of all models in a pipeline's folder."""
    return {
        f"{part.name}/{name}": tensor[...]
        for part in importing.look_at_wan(folder).parts for name, tensor in part.tensors.items()
    }  # fmt: skip


@pytest.mark.parametrize("variant", [name for name, record in ALL.items() if record.sizes])
def test_what_was_imported_goes_out_and_in_again(weights, tmp_path, capsys, variant):
    source = weights.of(variant, encoders=True)
    first, out, second = (tmp_path / name for name in ("first", "out", "second"))
    assert main(["import", "wan", str(source), "--out", str(first)]) == 0
    said = capsys.readouterr().out
    assert main(["export", "wan", str(first), "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["import", "wan", str(out), "--out", str(second)]) == 0
    assert capsys.readouterr().out.replace(str(second), str(first)) == said
    expected = tensors_of(source)
    for folder in (first, out, second):
        found = tensors_of(folder)
        assert found.keys() == expected.keys()
        for name, value in found.items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
        for file in (
            path for path in source.rglob("*") if path.suffix in (".json", ".model") and path.stem != "manifest"
        ):
            assert (folder / file.relative_to(source)).exists(), file


@pytest.mark.parametrize("variant", ["wan2.1-fun-control-14b", "wan2.2-i2v-a14b"])
def test_runs_of_variants_without_a_config_go_out_and_in_too(weights, tmp_path, capsys, monkeypatch, variant):
    source, workdir, out, again = weights.of(variant), *(tmp_path / name for name in ("run", "out", "again"))
    config = tiny_wan.config_of(variant, str(source), str(source / "vae"))
    config.renderer.control = "branch"
    model, params, settings = tiny_wan.built(config)
    changed = {**params, "renderer": jax.tree.map(lambda x: np.asarray(x) + 0.5, params["renderer"])}
    workdir.mkdir()
    (workdir / "config.json").write_text(json.dumps({"made_by": storage.MADE_BY, **asdict(settings)}))
    monkeypatch.setattr(export, "described", lambda _: SimpleNamespace(shapes=changed, settings=settings, model=model))

    flat = flatten_dict(changed, sep="/")
    monkeypatch.setattr(export, "_reader", lambda *_: lambda paths: {path: flat[path] for path in paths})
    assert main(["export", "wan", str(workdir), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    pipeline = pipelines.pipeline_class(find(variant))
    assert (f"diffusers.{pipeline}.from_pretrained(" if pipeline else "by their classes") in said
    assert (out / "model_index.json").exists() == bool(pipeline) and "the control branch" in said
    assert main(["import", "wan", str(out), "--out", str(again)]) == 0
    assert variant in importing.variants_of(importing.look_at_wan(again))
    read_again = flatten_dict(wan.load_experts(again, find(variant).experts)[1], sep="/")
    expected = flatten_dict(changed["renderer"]["transformer"], sep="/")
    assert read_again.keys() == expected.keys()
    for path, value in read_again.items():
        np.testing.assert_array_equal(value, expected[path], err_msg=path)


@pytest.mark.parametrize("scheduler", [{"_class_name": "FlowMatchEulerDiscreteScheduler", "flow_shift": 7.5}, None])
def test_an_imported_folder_without_an_index_gets_one_and_keeps_its_scheduler(weights, tmp_path, capsys, scheduler):
    source, imported, out = tmp_path / "source", tmp_path / "imported", tmp_path / "out"
    shutil.copytree(weights.of("wan2.1-t2v-1.3b"), source)
    (source / "model_index.json").unlink()
    file = Path("scheduler/scheduler_config.json")
    (source / file).write_text(json.dumps(scheduler)) if scheduler else shutil.rmtree(source / "scheduler")
    assert main(["import", "wan", str(source), "--out", str(imported)]) == 0
    assert main(["export", "wan", str(imported), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "diffusers.WanPipeline.from_pretrained(" in said
    assert ("no scheduler was there: it is written with the published flow_shift, 3" in said) == (scheduler is None)
    found, index = json.loads((out / file).read_text()), json.loads((out / "model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", found["_class_name"]]
    assert found == scheduler if scheduler else found["flow_shift"] == 3.0


def test_an_imported_folder_is_handed_on(weights, tmp_path, capsys):
    source = weights.of("wan2.2-ti2v-5b")
    imported, out = tmp_path / "imported", tmp_path / "out"
    assert main(["import", "wan", str(source), "--out", str(imported)]) == 0
    assert main(["export", "wan", str(imported), "--out", str(out), "--dtype", "bfloat16"]) == 0
    kinds = {path: tensor.kind for path, tensor in wan.describe_transformer(out / "transformer").tensors.items()}
    assert set(kinds.values()) == {"BF16", "F32"}  # norms and what makes times stay
    capsys.readouterr()
    for path, kind, says in (
        (imported, "lora", "weights that were imported have no adapters"),
        (source, "wan", "is neither a trained run nor a folder that signer import made"),
        (imported, "t5", "config.json"),
    ):
        assert main(["export", kind, str(path), "--out", str(tmp_path / "x")]) == 2
        assert says in capsys.readouterr().err and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "name", [*CONFIGS.values(), *(f"{config}:{variant}" for config in ("wan", "wan_general") for variant in PUBLISHED)]
)
def test_the_full_sizes_go_together(monkeypatch, name):
    """Control picture, tokens and clips of 480x832 fit each other; published modules stand in for the folders'."""
    settings = read(configuration.load(name, ["--config.renderer.init=folder", "--config.vae.init=folder"]))
    variant = find(settings.renderer.variant)
    assert settings.renderer.variant == (VARIANTS[name] if name in VARIANTS else name.partition(":")[2])
    z, folded = variant.latent_channels, variant.latent_channels == 48
    vae = VideoVAE(
        base_dim=96, decoder_base_dim=96, z_dim=z, dim_mult=(1, 2, 4, 4), num_res_blocks=2,
        temporal_downsample=(False, True, True), in_channels=12 if folded else 3, out_channels=12 if folded else 3,
        patch_size=2 if folded else None, is_residual=folded, latents_mean=(0.0,) * z, latents_std=(1.0,) * z,
    )  # fmt: skip
    found, experts = partial(names.Described, "folder", table=(), tensors={}, init=dict), variant.experts or ("",)
    monkeypatch.setattr(wan, "describe_vae", lambda _: found(module=vae))
    transformer = found(module=models.published_transformer(variant))
    monkeypatch.setattr(wan, "describe_experts", lambda *_: dict.fromkeys(experts, transformer))
    renderer = models.describe(settings, 100)[0].renderer
    assert settings.data.size == (480, 832) and settings.renderer.window == variant.frames
    # Longer videos: on from the last frame, or windows of which at least two frames' latents are shared.
    overlap = settings.renderer.overlap
    assert overlap == 1 if variant.continues else overlap >= 8 and not overlap_fault(overlap, variant.frames, 4)
    shown = not name.startswith("wan_general")
    assert (renderer.control is not None) == (shown and variant.pose == "branch")
    assert renderer.control_size == (480, 832) and vae.spatial_ratio == variant.spatial_ratio
