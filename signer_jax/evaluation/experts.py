"""How the gates choose among the experts, beside choices that read nothing and choices by plain readers of the text:
the signer, the form, the distance.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from signer_jax.evaluation.figures import differences, error_of, means
from signer_jax.metrics.experts import first_present, of_choice, of_random_choice
from signer_jax.pipeline import Signer

FORM = 0.95  # share of the followed expert's own distances that are within the noise of one form


@dataclass(frozen=True)
class Choice:
    """What there was to choose from in one sentence, and what the gates chose."""

    signer: str  # of the ground truth
    distances: Float[np.ndarray, "e1 r n"]  # of each expert and of the mean pose to each variant, the truth first
    weights: Float[np.ndarray, "n e"]  # the gates'
    mask: Bool[np.ndarray, "n e"]  # gloss n has a candidate k
    followed: Int[np.ndarray, " n"]  # the candidate that the truth follows, -1: none
    readers: Mapping[str, Sequence[int]] = field(default_factory=dict)  # the experts as other readers rank them

    @property
    def counted(self) -> Bool[np.ndarray, " n"]:
        """The glosses that have two candidates at least and a known `followed`."""
        return (self.mask.sum(axis=1) > 1) & (self.followed >= 0)


def expert_order(signer: Signer) -> list[int]:
    """The experts, the one that the training performances follow most often first."""
    count = Counter(name for _, _, name in signer.corpus.listed("train"))
    signers = dict(enumerate(signer.retrieval.signers))
    return sorted(range(signer.retrieval.experts), key=lambda k: -count[signers.get(k, "")])


def choice_figures(
    choices: Sequence[Choice], order: Sequence[int], signers: Sequence[str]
) -> tuple[dict[str, float], dict[str, str]]:
    """The figures of the gates' choice, and the facts that name the constant experts; nothing without a choice.

    `expert_accuracy`: how often the top expert is the signer whom the truth follows. `form_accuracy`: how often its
    candidate has the form that the truth has (`form_limit`), which several signers may share. `dtw_followed_*`: DTW of
    each gloss to the truth's own performance; `dtw_nearest_*`: to the nearest of all valid variants, which any expert
    comes close to. Beside each: a random expert (the mean over the candidates), training's most frequent one, the
    constant one (of all the best for this very figure on these very glosses: what gates that read nothing could reach
    at best), the choices of the `readers` (`nearest_text`, `word_counts`: what reading the text gives without these
    gates), the followed one (a ceiling) and the mean of the candidates. `…_error`: the standard error over sentences,
    since the gates choose once a sentence; `…_over_constant`, `…_over_word_counts`, …: the difference to that choice,
    with its own error. All of them over the glosses with a choice, so that every row counts the same glosses.
    """
    choices = [choice for choice in choices if choice.counted.any()]
    if not choices:
        return {}, {}
    limit = form_limit(choices)
    sentences = [expert_rows(choice, order, limit) for choice in choices]
    facts = {}
    for kind, constant, best in (
        ("expert_accuracy", "expert_accuracy_constant", np.argmax),
        ("form_accuracy", "form_accuracy_constant", np.argmax),
        ("dtw_followed", "dtw_followed_constant_expert", np.argmin),
        ("dtw_nearest", "dtw_nearest_constant_expert", np.argmin),
    ):
        always = [np.concatenate([rows[f"{kind}_always_{k}"] for rows in sentences]) for k in range(len(order))]
        k = int(best([np.nanmean(values) for values in always]))
        facts[constant] = dict(enumerate(signers)).get(k, f"expert {k}")
        for found in sentences:
            found[constant] = found[f"{kind}_always_{k}"]
    rows: dict[str, list[float]] = defaultdict(list)
    for choice, found in zip(choices, sentences, strict=True):
        for name, values in found.items():
            if "_always_" not in name:
                rows[name] += values
                rows[f"{name}/{choice.signer}"] += values
    figures = means(rows) | {"form_distance": limit, "glosses": float(len(rows["expert_accuracy"]))}
    return figures | errors(sentences, [*choices[0].readers]), facts


def choice_groups(choices: Sequence[Choice], order: Sequence[int]) -> dict[str, list[list[float]]]:
    """The values behind `choice_figures` but the constant experts', a list a sentence that counts."""
    choices = [choice for choice in choices if choice.counted.any()]
    limit = form_limit(choices) if choices else float("nan")
    sentences = [expert_rows(choice, order, limit) for choice in choices]
    names = [name for name in sentences[0] if "_always_" not in name] if sentences else []
    return {name: [rows[name] for rows in sentences] for name in names}


def errors(sentences: Sequence[Mapping[str, Sequence[float]]], readers: Sequence[str]) -> dict[str, float]:
    """How sure the choice's figures are over sentences, and how far from those of the constant expert and of every
    reader of the text.
    """
    figures: dict[str, float] = {}
    for name, beside in (
        ("expert_accuracy", "expert_accuracy_{}"),
        ("form_accuracy", "form_accuracy_{}"),
        ("dtw_followed_top_expert", "dtw_followed_{}_expert"),
    ):
        own = [rows[name] for rows in sentences]
        figures |= error_of(name, own)
        for other in ("constant", *readers):
            others = [rows[beside.format(other)] for rows in sentences]
            figures |= differences(f"{name}_over_{other}", own, others)
    return figures


def form_limit(choices: Sequence[Choice]) -> float:
    """How far a candidate may be from the truth and still have its form.

    The followed expert is a further performance by the truth's own signer, so what parts the two is timing, place and
    noise, and a candidate that is no farther off than `FORM` of them are moves as the truth does. That asks for no
    knowledge of how a corpus was made. NaN where no truth shows its glosses.
    """
    own = np.concatenate([of_choice(one.distances[:-1, 0], one.followed)[one.counted] for one in choices])
    own = own[np.isfinite(own)]
    return float(np.quantile(own, FORM)) if len(own) else float("nan")


def expert_rows(choice: Choice, order: Sequence[int], limit: float) -> dict[str, list[float]]:
    """The experts' rows of one sentence, a value each gloss that counts.

    `order`: the experts by how often training follows them; `limit`: see `form_limit`. `…_always_K`: expert K, whatever
    the text says, and where it has no candidate the first of `order` that has one.
    """
    experts, mask, followed = choice.distances[:-1], choice.mask, choice.followed
    chosen = {
        "top_expert": np.where(choice.weights.max(axis=1) > 0, choice.weights.argmax(axis=1), -1),
        "majority_expert": first_present(order, mask), "followed_expert": followed,
    }  # fmt: skip
    always = {f"always_{k}": first_present([k, *(e for e in order if e != k)], mask) for k in sorted(order)}
    own = np.arange(len(experts))[:, None] == followed
    same = ((experts[:, 0] <= limit) | own).astype(float)  # [e, n]: it has the truth's form
    accuracies = {"": chosen["top_expert"], "_majority": chosen["majority_expert"]}
    read = {name: first_present(ranked, mask) for name, ranked in choice.readers.items()}
    accuracies |= {f"_{name}": picked for name, picked in (always | read).items()}
    chosen |= {f"{name}_expert": picked for name, picked in read.items()}
    rows: dict[str, np.ndarray] = {
        "expert_accuracy_chance": 1 / np.maximum(mask.sum(axis=1), 1),
        "form_accuracy_random": of_random_choice(same, mask),
    }
    for name, picked in accuracies.items():
        rows[f"expert_accuracy{name}"] = picked == followed
        rows[f"form_accuracy{name}"] = np.nan_to_num(of_choice(same, picked))
    for kind, values, mean in (
        ("dtw_followed", experts[:, 0], choice.distances[-1, 0]),
        ("dtw_nearest", np.fmin.reduce(experts, axis=1), np.fmin.reduce(choice.distances[-1], axis=0)),
    ):
        rows |= {f"{kind}_{name}": of_choice(values, picked) for name, picked in (chosen | always).items()}
        rows |= {f"{kind}_random_expert": of_random_choice(values, mask), f"{kind}_mean_pose": mean}
    return {name: [float(v) for v in values[choice.counted]] for name, values in rows.items()}
