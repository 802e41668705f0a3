"""The first station with glosses that are drawn, in place of the likeliest ones."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax

from signer_jax.slul.sampling import sample
from signer_jax.stations.understand import Linker, Understood, understand


def understand_by_draws(
    texts: Sequence[str], languages: Sequence[str], linker: Linker, draws: int, *,
    temperature: float, top_k: int, top_p: float, seed: int,
) -> list[Understood]:  # fmt: skip
    """`understand`, so many times, each with glosses drawn anew as `sampling.sample` draws them.

    What surrounds the model stays: only its own language's glosses are said, repetitions and made-up names are left
    out. Draw k depends on the seed and on k, not on how many there are.
    """

    def drawing(key: jax.Array) -> Linker:
        def search(t5: Any, params: Any, source: Any, *, beams: int, length_penalty: float, **given: Any) -> Any:
            return sample(
                t5, params, source, key, samples=1, temperature=temperature, top_k=top_k, top_p=top_p, **given
            )

        return replace(linker, search=search)

    keys = [jax.random.fold_in(jax.random.key(seed), k) for k in range(draws)]
    return [understand(texts, languages, drawing(key)) for key in keys]
