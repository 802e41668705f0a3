"""What a folder of weights is that is not in Hugging Face's form, by the names in it, and which conversion reads it."""

import os
import re
from itertools import islice
from pathlib import Path

_MOST = 10_000  # names that are looked at
_T5X = "a t5x checkpoint: signer import t5 reads one of a T5, given its folder checkpoint_NUMBER"
# Wan's own form has its transformers in safetensors, which are read, and the rest in these.
ORIGINAL = (
    "a pickle of Wan's own form, which may run any program and is not read; the folder that ends in -Diffusers has the "
    "same as safetensors (vae, text_encoder, image_encoder), or convert it with diffusers' "
    "scripts/convert_wan_to_diffusers.py"
)
PICKLES = r"Wan.+\.pth|models_.+\.pth"
_AGAIN = "in Python, from_pretrained(FOLDER{}) and save_pretrained(NEW) of its class in transformers{}"
# A pattern that one of the names must match, what the folder is then and what to do with it; the first that fits.
_KINDS = (
    (r"target\..+|checkpoint_\d+|.+\.gin|train_ds.*\.ckpt.*", _T5X),
    (
        r"_CHECKPOINT_METADATA|_METADATA|manifest\.ocdbt|ocdbt\.process_\d+|array_metadatas",
        "an Orbax checkpoint: signer import t5 reads one of t5x's; restore others in the project that wrote them and "
        "save them from there with save_pretrained (a run of signer_jax resumes from its own by itself)",
    ),
    (
        r"\.zarray|\.zgroup|\.zattrs|\.zmetadata|zarr\.json|.+\.zarr",
        "an array in zarr's form, such as t5x and Orbax write, not a model; give the folder that holds them all",
    ),
    (
        r".*\.ckpt(-\d+)?\.(index|meta|data-.*)|saved_model\.pb",
        "a TensorFlow checkpoint, which is not read; transformers 4 converts T5's: python -m transformers.models.t5."
        "convert_t5_original_tf_checkpoint_to_pytorch --tf_checkpoint_path FOLDER --config_file config.json "
        "--pytorch_dump_path NEW",
    ),
    (r".+\.msgpack", f"Flax's msgpack, which is not read; {_AGAIN.format(', from_flax=True', ' 4')} write safetensors"),
    (r".+\.h5", f"TensorFlow's h5, which is not read; {_AGAIN.format(', from_tf=True', ' 4')} write safetensors"),
    (PICKLES, ORIGINAL),
    (
        r".+\.(bin|pth|pt|ckpt|pkl)",
        f"PyTorch's pickle, which may run any program and is not read; {_AGAIN.format('', ' or diffusers')} write "
        "safetensors",
    ),
    (r".+\.gguf", "llama.cpp's gguf, which is not read; take the model in Hugging Face's form that it was made of"),
    (r"checkpoint", _T5X),  # a file of msgpack by itself, as t5x's small checkpoints are
)


def recognise(path: str | Path) -> str:
    """What a file or folder of weights is and what to do with it, "" where it is nothing that is known."""
    path = Path(path)
    try:
        names = sorted(entry.name for entry in islice(os.scandir(path), _MOST)) if path.is_dir() else [path.name]
    except OSError:
        return ""
    return next((what for kind, what in _KINDS if any(re.fullmatch(kind, name) for name in names)), "")
