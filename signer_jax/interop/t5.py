"""T5, mT5 and UMT5 checkpoints of transformers: read and written through one name table.

Facts about transformers 5 that matter here: it forces `tie_word_embeddings` to True in every config and unties at load
when the file holds both tensors; whether logits are scaled by d_model**-0.5 is `scale_decoder_outputs` for T5 (set from
the config's original `tie_word_embeddings`), and always so for UMT5 and mT5.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from signer_jax.errors import SignerError
from signer_jax.interop import model_config, names, state_dict
from signer_jax.interop.names import TRANSPOSED, Row
from signer_jax.slul.t5 import EPSILON, T5

_SHARED = "shared.weight"
_HEAD = "lm_head.weight"
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
}


def _table(t5: T5) -> list[Row]:
    rows = [Row("token_embedding/embedding", _SHARED)]
    if not t5.tie_embeddings:
        rows.append(Row("lm_head/kernel", _HEAD, TRANSPOSED))
    for side in ("encoder", "decoder"):
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


def load(path: str | Path, *, dtype: jnp.dtype = jnp.float32) -> tuple[T5, dict]:
    """The module and its parameters (float32 numpy) from a folder that T5/MT5/UMT5ForConditionalGeneration saved.

    `dtype` is the module's compute dtype. Raises `SignerError` where the folder holds another model, or lacks tensors.
    """
    config = state_dict.read_config(path)
    kind = model_config.check(path, config, _MODEL_TYPE, "a T5 model")["model_type"]
    config = model_config.check(path, config, _CONFIG, "a T5 model")
    tensors = state_dict.read_tensors(path)
    # transformers takes any of the tied tensors for the table where the file lacks the first.
    copies = (_SHARED, "encoder.embed_tokens.weight", _HEAD)
    shared = next((tensors[name] for name in copies if name in tensors), None)
    if shared is None:
        raise SignerError(f"{path}: has no tensor {_SHARED!r}; is it the right model class?")
    tensors[_SHARED] = shared
    if _HEAD in tensors and np.array_equal(tensors[_HEAD], shared):
        del tensors[_HEAD]
    module = _module(path, config, tied=_HEAD not in tensors, every_layer=kind == "umt5").clone(dtype=dtype)
    ids = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    init = functools.partial(jax.eval_shape, module.init, jax.random.key(0), ids, ids)
    params = names.to_ours(path, _table(module), tensors, init, optional=_IGNORED)
    return module, params


def save(path: str | Path, module: T5, params: dict) -> None:
    """Writes `config.json` and `model.safetensors` that transformers loads (UMT5 where every layer has its own bias).

    transformers 5 scales the logits of every UMT5, so one without `scale_logits` comes back equal here, not there.
    """
    umt5 = module.relative_bias_every_layer
    scaled = module.tie_embeddings if module.scale_logits is None else module.scale_logits
    config = {
        **{theirs: getattr(module, ours) for ours, theirs in _FIELDS.items()},
        "architectures": ["UMT5ForConditionalGeneration" if umt5 else "T5ForConditionalGeneration"],
        "model_type": "umt5" if umt5 else "t5",
        "is_encoder_decoder": True,
        "layer_norm_epsilon": EPSILON,
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": module.tie_embeddings,
        "scale_decoder_outputs": scaled,
    }
    state_dict.write(path, config, names.to_theirs(_table(module), params))


def _module(path: str | Path, config: dict, *, tied: bool, every_layer: bool) -> T5:
    # What transformers assumes where a config is silent (configuration_t5.py).
    silent = {
        "num_decoder_layers": config["num_layers"],
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "dropout_rate": 0.1,
        "feed_forward_proj": "gated-gelu" if every_layer else "relu",
    }
    config = {**silent, **config}
    buckets, distance = config["relative_attention_num_buckets"], config["relative_attention_max_distance"]
    if distance <= buckets // 2:
        raise SignerError(
            f"{Path(path) / 'config.json'}: relative_attention_max_distance {distance} leaves nothing for half of the "
            f"{buckets} relative_attention_num_buckets; download it again"
        )
    scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))
    return T5(
        **{ours: config[theirs] for ours, theirs in _FIELDS.items()},
        tie_embeddings=tied,
        relative_bias_every_layer=every_layer,
        scale_logits=bool(scaled),
    )
