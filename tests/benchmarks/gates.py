"""How much of who signs a text is in the mean of SLUL's features: the best linear gates on it, beside the run's own.

    python tests/benchmarks/gates.py runs/demo

Of a finished run on the built-in corpus. The linear gates are fitted to the training texts until they no longer move
(L-BFGS, cross entropy); the run's are asked for the whole text, without the Pose Chosen Network's scores. Printed: in
what share of the texts of each split the highest gate is the signer's.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

STEPS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    workdir = parser.parse_args().workdir

    from signer_jax.evaluation.readers import by_word_counts
    from signer_jax.pipeline import Signer
    from signer_jax.slp_moe.gates import Gates, Pool
    from signer_jax.stations.understand import encode

    signer = Signer.load(workdir)
    linker, signers, moe = signer.linker, signer.retrieval.signers, signer.params["slp_moe"]
    own = Pool(signer.settings.pose.pool_hidden)
    texts, means, ours, truth = {}, {}, {}, {}
    for split in ("train", "dev", "test"):
        records = signer.corpus.motions(split)
        every = (records[k] for k in range(len(records)))
        texts[split] = [one for one in every if one.text and one.pose is not None and one.signer in signers]
        source = np.zeros((len(texts[split]), linker.max_source), np.int32)
        for row, one in zip(source, texts[split], strict=True):
            ids = linker.tokenizer.encode_source(one.text, one.language)[: linker.max_source]
            row[: len(ids)] = ids
        H, mask = encode(linker.t5, linker.params, source), jnp.asarray(source != 0)
        means[split] = Pool().apply({}, H, mask)
        query = own.apply({"params": moe.get("pool", {})}, H, mask)
        ours[split] = Gates(len(signers)).apply({"params": moe["gates"]}, query)
        truth[split] = jnp.asarray([signers.index(one.signer) for one in texts[split]])

    linear = _fitted(means["train"], truth["train"], len(signers))
    bank, order = texts["train"], list(range(len(signers)))
    expert = {name: k for k, name in enumerate(signers)}
    print(f"{'':24}" + "".join(f"{split:>8}" for split in texts))
    for name, chosen in (
        ("linear on the mean of H", {split: (means[split] @ linear).argmax(axis=-1) for split in texts}),
        ("the run's gates", {split: ours[split].argmax(axis=-1) for split in texts}),
        (
            "naive Bayes on words",
            {
                split: np.array([ranked[0] for ranked in by_word_counts(texts[split], bank, expert, order)])
                for split in texts
            },
        ),
    ):
        print(f"{name:24}" + "".join(f"{np.mean(chosen[split] == truth[split]):8.3f}" for split in texts))


def _fitted(features: jax.Array, truth: jax.Array, classes: int) -> jax.Array:
    """The matrix of the linear gates that the texts are likeliest under, `[d, classes]`."""

    def loss(weight: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(features @ weight, truth).mean()

    solver, gradient = optax.lbfgs(), optax.value_and_grad_from_state(loss)

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        weight, state = carry
        value, slope = gradient(weight, state=state)
        update, state = solver.update(slope, state, weight, value=value, grad=slope, value_fn=loss)
        return (optax.apply_updates(weight, update), state), None

    start = jnp.zeros((features.shape[1], classes))
    return jax.jit(lambda carry: jax.lax.scan(step, carry, None, STEPS)[0])((start, solver.init(start)))[0]


if __name__ == "__main__":
    main()
