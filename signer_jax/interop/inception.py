"""The weights of the Inception that FID is defined by, from the file that pytorch-fid publishes, as safetensors."""

import hashlib
from pathlib import Path

from signer_jax import outside
from signer_jax.errors import SignerError
from signer_jax.interop import state_dict
from signer_jax.metrics import inception
from signer_jax.metrics.frechet import Features

_CLASSIFIER, _CLASSES = "fc.weight", 1008
_MADE = (
    "make one of pytorch-fid's pt_inception-2015-12-05-6726825d.pth with "
    "safetensors.torch.save_file(torch.load(PTH), FILE)"
)


def features(path: str | Path) -> tuple[Features, str]:
    """FID's features by a safetensors file of published names, and the file's SHA-256.

    torchvision's ImageNet weights have the same names and shapes and give other figures: the classifier tells them
    apart, which has 1008 rows in the graph of 2015 and 1000 there. Raises `SignerError` for these and other files, and
    where a weight is missing, has another shape or is not finite.
    """
    file = outside.plain_file(path, f"--inception takes a .safetensors file; {_MADE}")
    if file.suffix != ".safetensors":
        raise SignerError(f"--inception {file}: is no .safetensors file; {_MADE}")
    weights = state_dict.read_file(file)
    for name, shape in inception.shapes():
        if name not in weights:
            raise SignerError(f"--inception {file}: lacks {name}; {_MADE}")
        if weights[name].shape != shape:
            raise SignerError(
                f"--inception {file}: {name} is {list(weights[name].shape)}, Inception v3 has {list(shape)}; {_MADE}"
            )
    classes = weights[_CLASSIFIER].shape[0] if _CLASSIFIER in weights and weights[_CLASSIFIER].ndim else 0
    auxiliary = any(name.startswith("AuxLogits.") for name in weights)
    if classes != _CLASSES or auxiliary:
        kind = "AuxLogits" if auxiliary else f"{_CLASSIFIER} of {classes} rows" if classes else f"no {_CLASSIFIER}"
        raise SignerError(
            f"--inception {file}: has {kind}, FID's graph {_CLASSES} rows and no AuxLogits, so that its figures would "
            f"be no FID (torchvision's weights are others of the same names); {_MADE}"
        )
    with outside.reading(file, "give the file as it was made"), file.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    return inception.features(weights), digest
