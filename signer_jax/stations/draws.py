"""The first station with glosses that are drawn, in place of the likeliest ones."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from signer_jax.slul.sampling import sample
from signer_jax.stations.understand import Linker, answered, in_batches, read_text, read_texts, rows_of
from signer_jax.stations.understood import Understood

_AT_ONCE = 4  # draws, always so many, so that none depends on how many are asked for


def understand_by_draws(
    texts: Sequence[str], languages: Sequence[str], linker: Linker, draws: int, *,
    temperature: float, top_k: int, top_p: float, seed: int, batch: int = 64,
) -> list[Understood]:  # fmt: skip
    """`understand`, so many times, each with glosses drawn anew as `sampling.sample` draws them; every sentence is read
    and encoded once.

    What surrounds the model stays: only its own language's glosses are said, repetitions and made-up names are left
    out. None is doubted: what is unlikely is what is drawn. Draw k depends on the seed and on k, not on how many there
    are, and no two sentences share their draws.
    """
    parts = read_texts(texts, languages, linker, read_text)
    source, number = rows_of(parts, linker)
    key = jax.random.key(seed)

    def drawn(chunk: int, source: Any, number: Any, H: Any) -> tuple[np.ndarray]:
        here = jax.random.fold_in(key, chunk)
        found = [
            sample(
                linker.t5, linker.params, source, jax.random.fold_in(here, k), samples=_AT_ONCE,
                max_length=linker.max_target, temperature=temperature, top_k=top_k, top_p=top_p, H=H,
                rules=linker.device_rules, language=number,
            )[0]
            for k in range(-(-draws // _AT_ONCE))
        ]  # fmt: skip
        return (np.concatenate(found, axis=1)[:, :draws],)

    H, (ids,) = in_batches(source, number, linker, drawn, batch)
    sure = np.zeros(ids.shape[-1], np.float32)
    every = [
        tuple(answered(part, ids[b, k], sure, number[b], linker) for b, part in enumerate(parts)) for k in range(draws)
    ]
    return [Understood(H, source != 0, done, linker.max_target) for done in every]
