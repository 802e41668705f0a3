"""Miniature checkpoints of t5x, written by the libraries that it writes with."""

from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from flax import serialization
from flax.traverse_util import flatten_dict, unflatten_dict

from signer_jax.slul.t5 import T5

NORMS = {"self_attention_norm": {"encoder": "pre_attention_layer_norm", "decoder": "pre_self_attention_layer_norm"},
         "cross_attention_norm": {"decoder": "pre_cross_attention_layer_norm"},
         "mlp_norm": {"encoder": "pre_mlp_layer_norm", "decoder": "pre_mlp_layer_norm"}}  # fmt: skip
ATTENTION = {("encoder", "self_attention"): "attention", ("decoder", "self_attention"): "self_attention",
             ("decoder", "cross_attention"): "encoder_decoder_attention"}  # fmt: skip


def target_of(module: T5, params: dict, *, scanned: bool, heads_apart: bool) -> dict:
    """t5x's tree of these parameters, written down from its networks."""
    flat: dict[str, np.ndarray] = {}
    for path, value in flatten_dict(params, sep="/").items():
        side, _, rest = path.partition("/")
        if path == "token_embedding/embedding":
            flat["token_embedder/embedding"] = value
        elif path == "lm_head/kernel":
            flat["decoder/logits_dense/kernel"] = value
        elif rest == "final_norm/scale":
            flat[f"{side}/{side}_norm/scale"] = value
        elif rest == "relative_bias/embedding":
            flat[f"{side}/relpos_bias/rel_embedding"] = value.T
        else:
            _, group, *leaf = rest.split("/")
            layers = list(value)
            if group == "relative_bias":
                name, layers = "relpos_bias/rel_embedding", [layer.T for layer in layers]
            elif group in NORMS:
                name = f"{NORMS[group][side]}/scale"
            else:
                name = "/".join((ATTENTION.get((side, group), group), *leaf))
                if heads_apart and group != "mlp":
                    apart = (module.heads, module.d_kv)
                    out = leaf[0] == "out"
                    layers = [layer.reshape((*apart, -1) if out else (-1, *apart)) for layer in layers]
            if scanned:
                flat[f"{side}/{side}/{name}"] = np.stack(layers, 1)
            else:
                flat |= {f"{side}/layers_{i}/{name}": layer for i, layer in enumerate(layers)}
    return unflatten_dict(flat, sep="/")


def tree_of(target: dict) -> dict:
    slots = jax.tree.map(lambda leaf: {"m": np.zeros(1, np.float32), "v": np.full(leaf.shape[:1], np.nan)}, target)
    return {"target": target, "state": {"step": np.array(7, np.int32), "param_states": slots}}


def write_zarr(folder: Path, name: str, value: np.ndarray) -> dict:
    """An array in a folder beside the msgpack, in several chunks, and the spec that t5x keeps of it."""
    spec = {"driver": "zarr", "dtype": str(value.dtype), "kvstore": {"driver": "file", "path": name},
            "metadata": {"compressor": {"id": "gzip"}, "shape": list(value.shape), "chunks": [
                max(1, -(-size // 2)) for size in value.shape]}}  # fmt: skip
    absolute = {**spec, "kvstore": {"driver": "file", "path": str(folder / name)}}
    tensorstore.open(absolute, create=True, open=True).result().write(value).result()
    # On a bucket t5x writes the spec with the bucket's driver, and the path beside it.
    moved = {k: v for k, v in spec.items() if k != "kvstore"}
    return moved | {"kvstore": {"driver": "gcs", "bucket": "t5x-dummy-bucket"}, "path": name}


def write(folder: Path, tree: dict, layout: str) -> Path:
    """Layouts: msgpack | zarr | orbax | orbax zarr3 | orbax folders."""
    if layout.startswith("orbax"):
        handler = ocp.PyTreeCheckpointHandler(use_ocdbt=layout != "orbax folders", use_zarr3=layout == "orbax zarr3")
        with ocp.Checkpointer(handler) as checkpointer:
            checkpointer.save(folder / "state", tree)
        return folder
    folder.mkdir(exist_ok=True)
    flat = flatten_dict(tree, sep="/")
    if layout == "zarr":  # small ones stay in the msgpack, as of unpartitioned axes
        flat = {
            name: write_zarr(folder, name.replace("/", "."), value) if value.ndim > 1 else value
            for name, value in flat.items()
        }
    tree = unflatten_dict(flat, sep="/")
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize({"version": 3, "optimizer": tree}))
    return folder
