"""Tiny random models in the layouts of the published variants, saved as diffusers saves them."""

import json
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from safetensors.numpy import load_file, save_file

from signer_jax import configuration
from signer_jax import model as models
from signer_jax.interop import clip, names, state_dict, t5
from signer_jax.interop.wan import save_transformer, save_vae
from signer_jax.renderer.image_encoder import ImageEncoder
from signer_jax.renderer.vae import VideoVAE
from signer_jax.renderer.variants import FaceBranch, find
from signer_jax.renderer.video_transformer import VideoTransformer
from signer_jax.slul.t5 import T5
from signer_jax.storage import MANIFEST

Z, RATIO, TEXT, CLIP = 4, 4, 16, 20
FACE = FaceBranch(
    channels=(6, 8, 10), style_dim=10, motion_dim=4, motion_blocks=5, motion_out=14, hidden=12, heads=2, every=2,
    batch=4,
)  # fmt: skip


def random(tree, seed: int):
    """Values in place of a tree of shapes: no zeros and ones, which hide mistakes."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        return ((path[-1].key == "scale") + 0.2 * rng.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, tree)


def module_of(name: str) -> VideoTransformer:
    variant = find(name)
    return VideoTransformer(
        in_channels=variant.channels(Z, RATIO), out_channels=Z, dim=24, heads=2, ffn_dim=32, layers=2, text_dim=TEXT,
        freq_dim=32, patch=(1, 2, 2), image_dim=CLIP if variant.clip_dim else None, eps=1e-6,
        face=FACE if variant.face else None,
    )  # fmt: skip


def parameters(module: VideoTransformer, seed: int):
    options = {}
    if module.image_dim:
        options["image"] = np.zeros((1, 3, module.image_dim), np.float32)
    if module.face:
        options["pose"] = np.zeros((1, 1, 2, 2, Z), np.float32)
    latents, text = np.zeros((1, 2, 2, 2, module.in_channels), np.float32), np.zeros((1, 3, TEXT), np.float32)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), latents, np.zeros(1, np.float32), text, **options))
    return random(shapes["params"], seed)


def write_transformer(folder: Path, name: str) -> str:
    """A variant's weights; of two experts, a pipeline's folder with both."""
    module, experts = module_of(name), find(name).experts
    for i, part in enumerate(("transformer", "transformer_2")[: max(1, len(experts))]):
        save_transformer(folder / part, module, parameters(module, seed=i))
    return str(folder)


# diffusers' names of a transformer's layers -> those that Wan's own code has, in the order in which they are replaced.
ORIGINAL = (
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
    ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
    ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
    ("ffn.net.0.proj", "ffn.0"), ("ffn.net.2", "ffn.2"), (".norm2.", ".norm3."), ("attn1.", "self_attn."),
    ("attn2.", "cross_attn."), ("to_out.0", "o"), ("to_", ""), ("add_k_proj", "k_img"), ("add_v_proj", "v_img"),
    ("norm_added_k", "norm_k_img"), ("proj_out", "head.head"),
)  # fmt: skip
# And of Animate's face, in `WanAnimateModel`.
FACES = (
    ("motion_encoder.motion_synthesis_weight", "motion_encoder.dec.direction.weight"),
    ("motion_encoder.motion_network.", "motion_encoder.enc.fc."),
    ("motion_encoder.conv_in.weight", "motion_encoder.enc.net_app.convs.0.0.weight"),
    ("motion_encoder.conv_in.act_fn.bias", "motion_encoder.enc.net_app.convs.0.1.bias"),
    ("conv1.weight", "conv1.0.weight"), ("conv1.act_fn.bias", "conv1.1.bias"), ("conv2.act_fn.bias", "conv2.2.bias"),
    ("conv_skip.weight", "skip.1.weight"), ("conv1_local.", "conv1_local.conv."),
    ("face_encoder.conv2.", "face_encoder.conv2.conv."), ("face_encoder.conv3.", "face_encoder.conv3.conv."),
    ("face_adapter.", "face_adapter.fuser_blocks."), ("norm_q", "q_norm"), ("norm_k", "k_norm"), ("to_out", "linear2"),
    ("to_q", "linear1_q"),
)  # fmt: skip


def _faces_in_original_form(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keys and values of an adapter are one tensor there, a bias has four axes, and the blur is stored."""
    found: dict[str, np.ndarray] = {}
    blocks = sum(name.startswith("motion_encoder.res_blocks.") for name in tensors) // 5
    for name, value in tensors.items():
        if name.endswith(("to_v.weight", "to_v.bias")):
            continue
        if name.endswith(("to_k.weight", "to_k.bias")):
            value = np.concatenate([value, tensors[name.replace("to_k", "to_v")]])
            name = name.replace("to_k", "linear1_kv")
        if name.endswith("act_fn.bias"):
            value = value.reshape(1, -1, 1, 1)
        for theirs, own in FACES:
            name = name.replace(theirs, own)
        name = name.replace("motion_encoder.conv_out", f"motion_encoder.enc.net_app.convs.{blocks + 1}")
        for i in range(blocks):
            block, own = f"motion_encoder.res_blocks.{i}.", f"motion_encoder.enc.net_app.convs.{i + 1}."
            if name.startswith(block):
                name = name.replace(block, own).replace("conv2.weight", "conv2.1.weight")
                found |= dict.fromkeys((f"{own}conv2.0.kernel", f"{own}skip.0.kernel"), np.ones((4, 4), np.float32))
        found[name] = np.ascontiguousarray(value)
    return found


def in_original_form(folder: Path, **values) -> Path:
    """A transformer's folder of diffusers, turned into Wan's own names and config; `values` go into this one too."""
    file = folder / "diffusion_pytorch_model.safetensors"
    given = load_file(file)
    face = {name: given.pop(name) for name in list(given) if name.startswith(("face_", "motion_encoder."))}
    tensors = _faces_in_original_form(face)
    for name, value in given.items():
        for theirs, own in ORIGINAL:
            name = name.replace(theirs, own)
        table = "modulation" if name.startswith("blocks.") else "head.modulation"
        tensors[name.replace("scale_shift_table", table)] = value
    config = json.loads((folder / "config.json").read_text())
    heads = config["num_attention_heads"]
    own = {
        "_class_name": "WanAnimateModel" if face else "WanModel", "_diffusers_version": "0.30.0",
        "dim": heads * config["attention_head_dim"],
        "num_heads": heads, "in_dim": config["in_channels"], "out_dim": config["out_channels"], "text_len": 512,
        "model_type": "i2v" if config.get("image_dim") else "t2v",
        **{key: config[key] for key in ("eps", "ffn_dim", "freq_dim", "num_layers", "text_dim")},
    }  # fmt: skip
    save_file(tensors, file)
    (folder / "config.json").write_text(json.dumps(own | values))
    (folder / MANIFEST).unlink(missing_ok=True)
    return folder


def write_vae(folder: Path) -> str:
    """An autoencoder with Wan's compression in time, and constants of its own: latents are a quarter of the pixels."""
    vae = VideoVAE(
        base_dim=6, decoder_base_dim=6, z_dim=Z, dim_mult=(1, 1, 1), num_res_blocks=1,
        temporal_downsample=(True, True), in_channels=3, out_channels=3, patch_size=None, is_residual=False,
        latents_mean=(0.1, -0.2, 0.3, 0.0), latents_std=(1.5, 0.5, 2.0, 1.0),
    )  # fmt: skip
    video = np.zeros((1, 5, 16, 16, 3), np.float32)
    shapes = jax.eval_shape(lambda: vae.init(jax.random.key(0), video))["params"]
    save_vae(folder, vae, random(shapes, 9))
    return str(folder)


def config_of(name: str, transformer: str, vae: str, *, slul: bool = False) -> ConfigDict:
    """A run's config on these folders: clips of 5 frames, 16 pixels."""
    from conftest import TINY

    c = configuration.load(TINY)
    c.stages = ("slul", "renderer") if slul else ("renderer",)
    c.data.size, c.vae.init = 16, vae
    c.renderer.variant, c.renderer.init, c.renderer.stem_features = name, transformer, ()
    c.renderer.window, c.renderer.control_size, c.renderer.shift = 5, 16, 0.0
    return c


def built(config):
    """The model and all its parameters."""
    from signer_jax.validation import read

    settings = read(config)
    model, published = models.build(settings, 50)
    return model, models.init(model, settings, published, seed=0), settings


# ---- The encoders of a pipeline --------------------------------------------------------------------------------------


def write_text_encoder(folder: Path, *, width: int = TEXT, seed: int = 5) -> str:
    """A pipeline's `text_encoder/` (UMT5) and `tokenizer/`, whose pieces are letters."""
    module = T5(
        61, width, 4, 10, 2, 2, 2, 12, 20, "gated-gelu", tie_embeddings=True, relative_bias_every_layer=True, dropout=0
    )
    ids = np.ones((1, 3), np.int32)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), ids, method=T5.encode))["params"]
    t5.save_encoder(folder / "text_encoder", module, random(shapes, seed))
    pieces = [["<pad>", 0], ["</s>", 0], ["<unk>", 0], ["\u2581", -2], *([c, -3] for c in "abcdefghijklmnopqrstuvwxyz")]
    fast = {
        "added_tokens": [{"id": i, "content": text} for i, text in ((0, "<pad>"), (1, "</s>"))],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": ""},
        "pre_tokenizer": {"type": "Metaspace"},
        "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces, "byte_fallback": False},
    }
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps(fast))
    return str(folder)


def write_image_encoder(folder: Path, *, width: int = CLIP, seed: int = 6) -> str:
    """A pipeline's `image_encoder/`: CLIP's tower on pictures of 8 pixels, four patches."""
    module = ImageEncoder(width, 2, 10, 2, 8, 4, "gelu", 1e-5)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32)))["params"]
    config = {
        "model_type": "clip_vision_model", "hidden_size": width, "intermediate_size": 10, "num_hidden_layers": 3,
        "num_attention_heads": 2, "image_size": 8, "patch_size": 4, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
    }  # fmt: skip
    tensors = names.to_theirs(clip.table_of(module), random(shapes, seed))
    last = {name.replace("layers.1.", "layers.2."): array for name, array in tensors.items() if "layers.1." in name}
    state_dict.write(folder / "image_encoder", config, tensors | last)
    return str(folder)
