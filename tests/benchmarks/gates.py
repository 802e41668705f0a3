"""How well the gates read who signs a text, beside other readers of it, on a thousand fresh texts of each split.

    python tests/benchmarks/gates.py runs/demo

Of a finished run on the built-in corpus, whose generator draws the texts anew within the halves that dev and test are
drawn from: none of them is a training text, and no pose is needed. Beside the run's own gates, which read the whole
text: the best linear gates on the mean of SLUL's features, fitted to the training texts until they no longer move
(L-BFGS, cross entropy); naive Bayes and a logistic regression on the words, of the same training texts; training's most
frequent signer; and the likeliest signer by all cues, as the generator knows them, which nobody can surpass.

First in what share of the texts the highest is the signer's, then the expert accuracy as `signer evaluate` has it: of
the glosses that have a choice, on the true glosses, the run's own with the Pose Chosen Network's vote; ± its standard
error, over texts.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import jax
import jax.numpy as jnp
import numpy as np
import optax

from signer_jax.data.builtin.corpus import draw_signer, sentences
from signer_jax.data.builtin.signers import signer_of
from signer_jax.data.builtin.situation import likelihood
from signer_jax.evaluation.experts import expert_order
from signer_jax.evaluation.figures import standard_error
from signer_jax.evaluation.readers import by_word_counts, performed_texts
from signer_jax.metrics.experts import first_present
from signer_jax.pipeline import Signer
from signer_jax.slp_moe.gates import Gates, Pool
from signer_jax.stations.perform import find, weigh
from signer_jax.stations.understand import encode
from signer_jax.types import Sample
from signer_jax.writing import words_of

STEPS = 500
TEXTS, SEED = 1000, 777
DECAY = 1e-3  # of the logistic regression: without one it knows the training texts by heart
BATCH = 200


def fresh(split: str, signers: Sequence[str]) -> tuple[list[Sample], list[list[int]]]:
    """`TEXTS` texts of a split that the run has not seen, each with its drawn signer; and the likeliest one by its
    cues, the other signers behind.
    """
    found, likeliest = sentences(split, TEXTS, SEED), []
    samples = [
        Sample(
            f"{split}_{SEED}_{i}", one.text, one.language, one.glosses,
            draw_signer(one, Random(f"{split} {SEED} {i} signer")),
        )
        for i, one in enumerate(found)
    ]  # fmt: skip
    for one in found:
        young, formal = likelihood(one.leaning)
        first = signers.index(signer_of(young > 0.5, formal > 0.5).name)
        likeliest.append([first, *(k for k in range(len(signers)) if k != first)])
    return samples, likeliest


def logistic(train: Sequence[Sample], signers: Sequence[str], texts: Sequence[Sample]) -> np.ndarray:
    """The logits of a logistic regression on which words of its language a text has, `[texts, signers]`."""

    def keys(one: Sample) -> set[tuple[str, str]]:
        marks = {mark for mark in "?!." if mark in one.text}
        return {(one.language, key) for key in marks | {word.key for word in words_of(one.text)}}

    place = {key: i for i, key in enumerate(sorted(set().union(*map(keys, train))))}

    def features(samples: Sequence[Sample]) -> np.ndarray:
        rows = np.zeros((len(samples), len(place) + 1), np.float32)
        rows[:, -1] = 1
        for row, one in zip(rows, samples, strict=True):
            row[[place[key] for key in keys(one) if key in place]] = 1
        return rows

    truth = np.array([signers.index(one.signer) for one in train])
    return features(texts) @ np.asarray(fitted(features(train), truth, len(signers), decay=DECAY))


def fitted(features: np.ndarray, truth: np.ndarray, classes: int, decay: float = 0.0) -> jax.Array:
    """The matrix of the linear gates that the texts are likeliest under, `[d, classes]`."""

    def loss(weight: jax.Array) -> jax.Array:
        likely = optax.softmax_cross_entropy_with_integer_labels(features @ weight, truth).mean()
        return likely + decay * jnp.square(weight).sum()

    solver, gradient = optax.lbfgs(), optax.value_and_grad_from_state(loss)

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        weight, state = carry
        value, slope = gradient(weight, state=state)
        update, state = solver.update(slope, state, weight, value=value, grad=slope, value_fn=loss)
        return (optax.apply_updates(weight, update), state), None

    start = jnp.zeros((features.shape[1], classes))
    return jax.jit(lambda carry: jax.lax.scan(step, carry, None, STEPS)[0])((start, solver.init(start)))[0]


def scores(
    samples: Sequence[Sample], ranked: np.ndarray | None, weights: Sequence[np.ndarray], signer: Signer
) -> list[list[bool]]:
    """For each text and gloss with a choice whether the first that is there of the `ranked` experts `[texts, e]` (None:
    the highest of the `weights`) is its signer's own; a gloss that this one has no candidate for is left out.
    """
    right = []
    for i, one in enumerate(samples):
        slots = [signer.retrieval.slots(gloss, one.language) for gloss in one.glosses]
        exists = np.array([[entry is not None for entry in row] for row in slots])
        theirs = np.array([[entry is not None and entry.signer == one.signer for entry in row] for row in slots])
        followed = np.where(theirs.any(axis=1), theirs.argmax(axis=1), -1)
        picked = weights[i].argmax(axis=1) if ranked is None else first_present(ranked[i].tolist(), exists)
        counted = (exists.sum(axis=1) > 1) & (followed >= 0)
        right.append((picked == followed)[counted].tolist())
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    signer = Signer.load(parser.parse_args().workdir)
    signers, moe, linker = signer.retrieval.signers, signer.params["slp_moe"], signer.linker
    own = Pool(signer.settings.pose.pool_hidden)
    gates, token = Gates(len(signers)), {"params": moe.get("pool", {})}
    most, order = signer.settings.data.max_glosses, expert_order(signer)
    train = [one for one in performed_texts(signer.corpus).values() if one.signer in signers]
    every, likeliest = {"train": train}, {}
    for split in ("dev", "test"):
        samples, likeliest[split] = fresh(split, signers)
        every[split] = [replace(one, glosses=one.glosses[:most]) for one in samples]

    means: dict[str, np.ndarray] = {}
    logits: dict[str, np.ndarray] = {}
    weights: dict[str, list[np.ndarray]] = {}
    for split, samples in every.items():
        source = np.zeros((len(samples), linker.max_source), np.int32)
        for row, one in zip(source, samples, strict=True):
            ids = linker.tokenizer.encode_source(one.text, one.language)[: linker.max_source]
            row[: len(ids)] = ids
        parts = [(samples[i : i + BATCH], source[i : i + BATCH]) for i in range(0, len(samples), BATCH)]
        mean, logit, weights[split] = [], [], []
        for part, rows in parts:
            H, mask = encode(linker.t5, linker.params, rows), jnp.asarray(rows != 0)
            mean.append(np.asarray(Pool().apply({}, H, mask)))
            logit.append(np.asarray(gates.apply({"params": moe["gates"]}, own.apply(token, H, mask))))
            if split != "train":
                found = [find(one.glosses, one.language, signer.retrieval) for one in part]
                glosses = [one.glosses for one in part]
                for one, performed, each in zip(
                    part, found, weigh(glosses, found, H, mask, signer.performer), strict=True
                ):
                    row = np.zeros((len(one.glosses), signer.retrieval.experts))
                    row[[sign.gloss for sign in performed.signs]] = each  # a spelled one is not counted
                    weights[split].append(row)
        means[split], logits[split] = np.concatenate(mean), np.concatenate(logit)

    truth = {split: np.array([signers.index(one.signer) for one in samples]) for split, samples in every.items()}
    linear = np.asarray(fitted(means["train"], truth["train"], len(signers)))
    expert = {name: k for k, name in enumerate(signers)}
    print("share of the texts".ljust(34) + "".join(f"{split:>8}" for split in every) + "   glosses: dev, test")
    for name, ranks in (
        ("the run's gates", logits),
        ("the best linear gates on the mean", {split: means[split] @ linear for split in every}),
        ("naive Bayes on the words", {s: by_word_counts(one, train, expert, order) for s, one in every.items()}),
        ("logistic regression on the words", {s: logistic(train, signers, one) for s, one in every.items()}),
        ("training's most frequent signer", {split: [order] * len(one) for split, one in every.items()}),
        ("the likeliest signer by all cues", likeliest),
    ):
        shares, parts = [], []
        for split, samples in every.items():
            if split not in ranks:
                shares.append("       -")
                continue
            found = np.asarray(ranks[split])
            ranked = found if found.dtype.kind == "i" else np.argsort(-found, axis=1)
            shares.append(f"{np.mean(ranked[:, 0] == truth[split]):8.3f}")
            if split != "train":
                right = scores(samples, None if ranks is logits else ranked, weights[split], signer)
                parts.append(f"{np.mean(np.concatenate(right)):.3f} ± {standard_error(right):.3f}")
        print(f"{name:34}{''.join(shares)}   {', '.join(parts)}")


if __name__ == "__main__":
    main()
