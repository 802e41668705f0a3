"""T5, mT5, UMT5 and ByT5 checkpoints of transformers, whole or the encoder alone: read and written by one name table.
Whole ones of t5x (`t5x.py`) are read too.

What transformers 5 (`configuration_{t5,mt5,umt5}.py`, `modeling_*.py`, seen in 5.24) makes of a folder:

- It forces `tie_word_embeddings` to true for every family, and writes it so; a checkpoint that holds both tensors is
  untied at load. So the file decides whether the head is a tensor of its own, never the config.
- Whether states are scaled by d_model**-0.5 before the vocabulary projection depends on the family (`model_type`). T5
  (1.0, 1.1, ByT5) and UMT5: the config's `scale_decoder_outputs`; where it has none, as in published checkpoints,
  unless `tie_word_embeddings` is false there. mT5: never, whatever its config says.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from signer_jax.errors import SignerError
from signer_jax.interop import model_config, names, state_dict, t5x, wan_original
from signer_jax.interop.names import TRANSPOSED, Row
from signer_jax.slul.t5 import EPSILON, T5

_SHARED = "shared.weight"
_HEAD = "lm_head.weight"
_ENCODER_TABLE = "encoder.embed_tokens.weight"
# Copies of the shared table, and a bias that old checkpoints carry and nothing reads.
_IGNORED = ("embed_tokens.weight", "EncDecAttention.relative_attention_bias.weight")
_PROJECTIONS = {"query": "q", "key": "k", "value": "v", "out": "o"}
_FIELDS = {
    "vocab_size": "vocab_size",
    "d_model": "d_model",
    "d_kv": "d_kv",
    "d_ff": "d_ff",
    "heads": "num_heads",
    "encoder_layers": "num_layers",
    "decoder_layers": "num_decoder_layers",
    "relative_buckets": "relative_attention_num_buckets",
    "relative_max_distance": "relative_attention_max_distance",
    "activation": "feed_forward_proj",
    "dropout": "dropout_rate",
}
_MODEL_TYPE = {"model_type": model_config.text("t5", "mt5", "umt5")}
_LAYERS, _WIDTH = 1_000, 1 << 20
_CONFIG = {
    "vocab_size": model_config.whole(10_000_000),
    "d_model": model_config.whole(_WIDTH),
    "d_kv": model_config.whole(_WIDTH),
    "d_ff": model_config.whole(_WIDTH),
    "num_heads": model_config.whole(4096),
    "num_layers": model_config.whole(_LAYERS),
    "num_decoder_layers": model_config.whole(_LAYERS, optional=True),
    "relative_attention_num_buckets": model_config.whole(4096, least=4, optional=True),
    "relative_attention_max_distance": model_config.whole(1_000_000, least=4, optional=True),
    "feed_forward_proj": model_config.Kind(str, choices=("relu", "gated-gelu"), optional=True),
    "dropout_rate": model_config.number(0, 0.99, optional=True),
    "layer_norm_epsilon": model_config.number(EPSILON, EPSILON, optional=True),
    "tie_word_embeddings": model_config.flag(),
    "scale_decoder_outputs": model_config.flag(),
    "architectures": model_config.Kind(str, items=(0, 8), optional=True),
}


def table_of(t5: T5, sides: tuple[str, ...] = ("encoder", "decoder")) -> list[Row]:
    rows = [Row("token_embedding/embedding", _SHARED)]
    if "decoder" in sides and not t5.tie_embeddings:
        rows.append(Row("lm_head/kernel", _HEAD, TRANSPOSED))
    for side in sides:
        sublayers = ["self_attention", "mlp"] if side == "encoder" else ["self_attention", "cross_attention", "mlp"]
        rows.append(Row(f"{side}/final_norm/scale", f"{side}.final_layer_norm.weight"))
        bias = "layer.0.SelfAttention.relative_attention_bias.weight"
        if t5.relative_bias_every_layer:
            rows.append(Row(f"{side}/layers/relative_bias/embedding", f"{side}.block.{{}}.{bias}"))
        else:
            rows.append(Row(f"{side}/relative_bias/embedding", f"{side}.block.0.{bias}"))
        for index, sublayer in enumerate(sublayers):
            ours, theirs = f"{side}/layers/{sublayer}", f"{side}.block.{{}}.layer.{index}"
            rows.append(Row(f"{ours}_norm/scale", f"{theirs}.layer_norm.weight"))
            if sublayer == "mlp":
                for weight in ("wi_0", "wi_1", "wo") if t5.activation == "gated-gelu" else ("wi", "wo"):
                    rows.append(Row(f"{ours}/{weight}/kernel", f"{theirs}.DenseReluDense.{weight}.weight", TRANSPOSED))
            else:
                kind = "SelfAttention" if sublayer == "self_attention" else "EncDecAttention"
                for name, letter in _PROJECTIONS.items():
                    rows.append(Row(f"{ours}/{name}/kernel", f"{theirs}.{kind}.{letter}.weight", TRANSPOSED))
    return rows


def load(path: str | Path, *, dtype: jnp.dtype = jnp.float32, place: names.Place | None = None) -> tuple[T5, dict]:
    """The module and its float32 parameters from a folder that T5/MT5/UMT5ForConditionalGeneration or t5x saved.

    They are on the host, or where `place` has them. `dtype` is the module's compute dtype. Raises `SignerError` where
    the folder holds another model, an encoder alone, or lacks tensors.
    """
    return describe(path, dtype=dtype).load(place)


def describe(path: str | Path, *, dtype: jnp.dtype = jnp.float32) -> names.Described:
    """The model of a folder, before its tensors are read but for a head that may be the table once more; raises as
    `load` does.
    """
    if t5x.holds(path):
        return t5x.describe(path, dtype=dtype)
    kind, config = _read_config(path)
    if any(name.endswith("EncoderModel") for name in config.get("architectures", ())):
        raise _no_decoder(path)
    tensors = state_dict.read_tensors(path)
    sides = {name.partition(".")[0] for name in tensors}
    if "encoder" in sides and "decoder" not in sides:
        raise _no_decoder(path)
    # transformers takes any of the tied tensors for the table where the file lacks the first.
    shared = _take_table(path, tensors, (_SHARED, _ENCODER_TABLE, _HEAD))
    if _HEAD in tensors and state_dict.equal(tensors[_HEAD], shared):
        del tensors[_HEAD]
    module = _module(path, kind, config, tied=_HEAD not in tensors).clone(dtype=dtype)
    ids = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    init = names.shapes_of(module, ids, ids)
    return names.Described(path, module, table_of(module), tensors, init, _IGNORED)


def load_encoder(
    path: str | Path, *, width: int | None = None, dtype: jnp.dtype = jnp.float32, place: names.Place | None = None,
    kind: names.Kind | None = None,
) -> tuple[T5, dict]:  # fmt: skip
    """The module and the parameters of its encoder alone, float32 or as `kind` says: of a folder that
    T5/MT5/UMT5EncoderModel saved (a diffusers pipeline's `text_encoder/`), or of a whole model, whose decoder is left
    out.

    Use it with `T5.encode`, or `renderer.text_encoder.states`; the module has no decoder to call. `width` is the
    states' width that whoever reads them takes. Raises `SignerError` where the folder holds another model, one of
    another width (before its tensors are read), or lacks tensors.
    """
    return describe_encoder(path, width=width, dtype=dtype).load(place, kind)


def describe_encoder(path: str | Path, *, width: int | None = None, dtype: jnp.dtype = jnp.float32) -> names.Described:
    """The encoder of a folder, before its tensors are read; raises as `load_encoder` does."""
    if width is not None:
        check_width(path, width)
    kind, config = _read_config(path)
    tensors = state_dict.read_tensors(path)
    _take_table(path, tensors, (_SHARED, _ENCODER_TABLE))
    for name in [name for name in tensors if name == _HEAD or name.startswith("decoder.")]:
        del tensors[name]
    module = _module(path, kind, config, tied=True).clone(dtype=dtype)
    ids = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    init = names.shapes_of(module, ids, method=T5.encode)
    return names.Described(path, module, table_of(module, ("encoder",)), tensors, init, _IGNORED)


def check_width(path: str | Path, width: int) -> None:
    """Raises `SignerError` unless the folder's config is of a model whose states have this width; reads no tensor."""
    _, config = _read_config(path)
    if config["d_model"] != width:
        raise SignerError(
            f"{Path(path) / 'config.json'}: d_model is {config['d_model']}, so its states have that width; the video "
            f"transformer takes text of width {width}; give the text_encoder of the same pipeline"
        )


def save(path: str | Path, module: T5, params: dict) -> None:
    """Writes `config.json` and `model.safetensors` that transformers loads with the same logits.

    It is a UMT5 where every layer has a relative bias of its own, else a T5: mT5 and ByT5 are T5 1.1 in other sizes,
    and T5's config is the one that says whether logits are scaled.
    """
    state_dict.write(path, *theirs(module, params))


def theirs(module: T5, params: dict) -> tuple[dict, dict[str, names.Theirs]]:
    """The config and the tensors of `save`."""
    return _config_of_whole(module), names.theirs_of(table_of(module), params)


def in_transformers_form(described: names.Described) -> tuple[dict, dict[str, Any]]:
    """The config and the tensors of a folder by transformers' names and in its form; of one of its own as they are."""
    if not t5x.holds(described.path):
        return state_dict.read_config(described.path), dict(state_dict.read_tensors(described.path))
    return _config_of_whole(described.module), dict(t5x.in_form_of(described, table_of(described.module)))


def save_encoder(path: str | Path, module: T5, params: dict) -> None:
    """Writes the encoder's part of `params` so that transformers' UMT5EncoderModel or T5EncoderModel loads it."""
    config = _config(module, "UMT5EncoderModel" if module.relative_bias_every_layer else "T5EncoderModel")
    state_dict.write(path, config, names.theirs_of(table_of(module, ("encoder",)), params))


def _read_config(path: str | Path) -> tuple[str, dict]:
    """The family (`model_type`), and the values of `_CONFIG`'s keys."""
    config = state_dict.read_config(path)
    wan_original.check_not(path, config)
    kind = model_config.check(path, config, _MODEL_TYPE, "a T5 model")["model_type"]
    return kind, model_config.check(path, config, _CONFIG, "a T5 model")


def _take_table(
    path: str | Path, tensors: dict[str, state_dict.FileTensor], names: tuple[str, ...]
) -> state_dict.FileTensor:
    """The token table, put in its own name's place from the first of `names` that is there."""
    table = next((tensors[name] for name in names if name in tensors), None)
    if table is None:
        raise SignerError(f"{path}: has no tensor {_SHARED!r}; is it the right model class?")
    tensors[_SHARED] = table
    return table


def _no_decoder(path: str | Path) -> SignerError:
    return SignerError(
        f"{path}: holds the encoder of a T5 alone, and glosses are written by a decoder; give the folder of a whole "
        "model, such as T5ForConditionalGeneration saves"
    )


def _config_of_whole(module: T5) -> dict:
    umt5 = module.relative_bias_every_layer
    return _config(module, "UMT5ForConditionalGeneration" if umt5 else "T5ForConditionalGeneration")


def _config(module: T5, architecture: str) -> dict:
    scaled = module.tie_embeddings if module.scale_logits is None else module.scale_logits
    return {
        **{theirs: getattr(module, ours) for ours, theirs in _FIELDS.items()},
        "architectures": [architecture],
        "model_type": "umt5" if module.relative_bias_every_layer else "t5",
        "is_encoder_decoder": True,
        "layer_norm_epsilon": EPSILON,
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": module.tie_embeddings,
        "scale_decoder_outputs": scaled,
    }


def _module(path: str | Path, kind: str, config: dict, *, tied: bool) -> T5:
    # What transformers assumes where a config is silent (configuration_t5.py, configuration_mt5.py).
    silent = {
        "num_decoder_layers": config["num_layers"],
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "dropout_rate": 0.1,
        "feed_forward_proj": "relu" if kind == "t5" else "gated-gelu",
    }
    config = {**silent, **config}
    buckets, distance = config["relative_attention_num_buckets"], config["relative_attention_max_distance"]
    if distance <= buckets // 2:
        raise SignerError(
            f"{Path(path) / 'config.json'}: relative_attention_max_distance {distance} leaves nothing for half of the "
            f"{buckets} relative_attention_num_buckets; download it again"
        )
    scaled = kind != "mt5" and config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))
    return T5(
        **{ours: config[theirs] for ours, theirs in _FIELDS.items()},
        tie_embeddings=tied,
        relative_bias_every_layer=kind == "umt5",
        scale_logits=bool(scaled),
    )
