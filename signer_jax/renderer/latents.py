"""The training videos' latents on disk: how they are normalised, and each signer's bank of reference frames.

`<workdir>/latents` holds the training windows' latents (ArrayRecord), the per-channel statistics that normalise them,
and for each signer a bank of frames with their poses, of which one gives the style (`renderer.references`). It is
written by `training.latents`. `<workdir>/buckets/BUCKET` is the same of a bucket, written by `training.bucketed`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signer_jax import storage
from signer_jax.arrays import open_npy, read_npz
from signer_jax.errors import SignerError, piled
from signer_jax.json_files import LISTS, read_json
from signer_jax.renderer.references import ReferenceBank

KIND = "latent cache"
COPY = "\x1f"  # between a signer's name and the number of a changed copy, which has pictures of its own
# What reading JSON or an array that is not whole raises.
_BROKEN = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, MemoryError)
_LARGEST = 1e6
_AT_ONCE = 1 << 22  # numbers of the banks, 32 MB in float64
_SMALLEST_STD = 1e-4  # what is divided by it is still a plausible number
_MOST_CHANNELS = 1024  # of a latent: time and memory grow with the square of their number
_MOST_PARTS = 10**6
_FILES = ("statistics.json", "references.npz", "references.npy")


def plausible(array: np.ndarray) -> bool:
    """Whether it holds values, all finite and of a size that statistics can be made of."""
    return array.size > 0 and bool(-_LARGEST < array.min() <= array.max() < _LARGEST)  # false of a NaN


def noise_factor(latents: np.ndarray) -> np.ndarray:
    """F `[z, z]` float32, lower triangular: F F' is the covariance of the channels of latents `[m, ..., z]`.

    Rows are read some at a time: they may be mapped. Raises `ValueError` where there are fewer than two latents.
    """
    z = latents.shape[-1]
    count = latents.size // z
    if count < 2:
        raise ValueError("a covariance needs two latents")
    rows = max(1, _AT_ONCE * len(latents) // latents.size)

    def parts() -> Iterator[np.ndarray]:
        for i in range(0, len(latents), rows):
            yield np.asarray(latents[i : i + rows], np.float64).reshape(-1, z)

    mean = sum((part.sum(axis=0) for part in parts()), np.zeros(z)) / count
    products = sum(((part - mean).T @ (part - mean) for part in parts()), np.zeros((z, z)))
    return np.linalg.cholesky(products / (count - 1) + 1e-6 * np.eye(z)).astype(np.float32)


@dataclass(frozen=True)
class LatentStore:
    """What `<workdir>/latents` says, but for the windows themselves."""

    directory: Path
    encoder: str  # the fingerprint of the autoencoder's parameters
    mean: np.ndarray  # [z]
    std: np.ndarray  # [z]
    banks: dict[str, ReferenceBank]  # by signer
    noise_factor: np.ndarray  # [z, z] F: noise F ε has the covariance of the normalised latents' channels
    bucket: str = ""  # frames x height x width that its clips were put into
    dtype: str = "float32"  # that they were encoded in
    precision: str = ""  # of the products in that; "": not noted, of a folder of before
    parts: int = 1  # files of its windows (`data.shards.file_of`)

    @classmethod
    def open(cls, directory: Path) -> "LatentStore":
        """Raises `SignerError` where the folder is missing, is none of ours, or is damaged."""
        storage.check_folder(directory, KIND, storage.REMAKE, (*_FILES, "train.arrayrecord"))
        try:
            return cls._read(directory)
        except _BROKEN as error:
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise SignerError(f"{directory}: the {KIND} is damaged ({reason}); {storage.REMAKE}") from None

    @classmethod
    def _read(cls, directory: Path) -> "LatentStore":
        statistics = read_json(directory / "statistics.json", LISTS)
        bank, latents = read_npz(directory / "references.npz"), open_npy(directory / "references.npy")
        counts: dict[str, int] = statistics["references"]
        if not all(type(count) is int for count in counts.values()):
            raise ValueError("a number of references is no whole number")
        if any(map(piled, counts)):
            raise ValueError("a signer's name piles more than 30 marks on a letter")
        mean, std = (np.array(statistics[name], np.float64) for name in ("mean", "std"))
        if not (plausible(mean) and plausible(std)):
            raise ValueError("a mean or a deviation is no number")
        mean, std = mean.astype(np.float32), std.astype(np.float32)
        for name in ("pose", "confidence", "motion"):
            if len(bank[name]) != len(latents) or len(latents) != sum(counts.values()):
                raise ValueError(f"{name} has {len(bank[name])} rows, the latents {len(latents)}")
        if mean.ndim != 1 or len(mean) > _MOST_CHANNELS:
            raise ValueError(f"statistics {mean.shape} are not of 1 to {_MOST_CHANNELS} channels")
        if latents.ndim != 4 or not mean.shape == std.shape == latents.shape[-1:]:
            raise ValueError(f"statistics {mean.shape} do not fit latents {latents.shape}")
        for name, array in (("latents", latents), ("pose", bank["pose"]), ("confidence", bank["confidence"])):
            if array.dtype != np.float32 or not plausible(array):
                raise ValueError(f"{name} is {array.dtype}, beyond {_LARGEST:g} or no number")
        if bank["pose"].ndim != 3 or bank["confidence"].shape != bank["pose"].shape[:2] or bank["motion"].ndim != 1:
            raise ValueError(f"poses {bank['pose'].shape} do not fit confidences {bank['confidence'].shape}")
        if (std < _SMALLEST_STD).any() or bank["motion"].dtype.kind not in "iu" or min(counts.values(), default=0) < 1:
            raise ValueError(
                f"a deviation is below {_SMALLEST_STD:g}, a motion no number, or a signer without a reference"
            )
        banks, first = {}, 0
        for signer, count in counts.items():
            rows = slice(first, first + count)
            first += count
            banks[signer] = ReferenceBank(
                latents[rows], bank["pose"][rows], bank["confidence"][rows], bank["motion"][rows]
            )
        # A folder of before has no factor: it is made from the banks, as it is when they are written.
        stored = statistics.get("noise_factor")
        factor = noise_factor(latents) if stored is None else np.array(stored, np.float64)
        if factor.shape != (len(mean), len(mean)) or not plausible(factor):
            raise ValueError(f"noise_factor {factor.shape} does not fit latents {latents.shape}, or is no number")
        parts = statistics.get("parts", 1)
        if type(parts) is not int or not 1 <= parts <= _MOST_PARTS:
            raise ValueError(f"its windows are in {parts!r} files")
        of = {name: str(statistics[name]) for name in ("bucket", "dtype", "precision") if name in statistics}
        return cls(
            directory, str(statistics["encoder"]), mean, std, banks, factor.astype(np.float32), parts=parts, **of
        )

    @property
    def grid(self) -> tuple[int, int, int]:
        """Height, width and channels of a latent frame."""
        _, height, width, channels = next(iter(self.banks.values())).latents.shape
        return height, width, channels

    def normalise(self, latents):
        return (latents - self.mean) / self.std

    def denormalise(self, latents):
        return latents * self.std + self.mean
