"""How often a run's doubt of its own glosses is right, by where the line is drawn.

    python tests/benchmarks/doubt.py runs/demo

On 1,000 sentences of the built-in corpus's dev split as they are, and on half of them with one word taken out (as an
unknown word is), of a run that was trained on that corpus. "told": doubt is told of so many sentences; "precision": so
many of these are wrong; "recall": it is told of so many of the wrong ones. "named": so many glosses are named as
unsure, of which so many are not among the true glosses. Beside it: the words that were read and whose gloss is not
there (`Sentence.unsaid`), which are told whatever the line, and how many sentences were answered by a word's gloss in
place of the model's (`Sentence.instead`). Last: of how many words that bring a gloss that gloss is not in the answer to
a prompt for the word.
"""

import sys
from random import Random

import numpy as np

from signer_jax.data.builtin.corpus import sentences
from signer_jax.evaluation.glosses import told_figures
from signer_jax.pipeline import Signer
from signer_jax.stations import understand as station
from signer_jax.stations import understood as telling
from signer_jax.writing import words_of

PROMPTS = {
    "ase": ("how do you sign '{}'?", "what is the sign for '{}'?", "{}"), "gsg": ("wie gebärdet man '{}'?", "{}"),
}  # fmt: skip
LINES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def without_a_word(text: str, rng: Random) -> str:
    gone = rng.choice(words_of(text))
    return " ".join((text[: gone.start] + text[gone.end :]).split())


def three(told: list[bool], wrong: list[bool]) -> list[float]:
    """How often it is told, precision and recall."""
    figures = told_figures("told", "", told, wrong)
    return [figures.get(name, np.nan) for name in ("told", "_precision", "_recall")]


def table(title: str, texts: list[str], languages: list[str], truth: list[tuple[str, ...]], signer: Signer) -> None:
    understood = station.understand(texts, languages, signer.linker)
    wrong = [glosses != true for glosses, true in zip(understood.glosses, truth, strict=True)]
    rows = [[understood.sentences[b] for b in understood.rows(i)] for i in range(len(texts))]
    print(f"{title}: {len(texts)} sentences, {np.mean(wrong):.3f} wrong")
    print("below   told  precision  recall  named  not in the truth")
    for line in LINES:
        telling.DOUBT = line
        told, precision, recall = three([any(part.doubted for part in row) for row in rows], wrong)
        named = [gloss not in true for row, true in zip(rows, truth, strict=True) for s in row for gloss, _ in s.unsure]
        print(
            f"{line:5.2f}  {told:5.3f}  {precision:9.3f}  {recall:6.3f}  {len(named):5d}  "
            f"{np.mean(named) if named else np.nan:.3f}"
        )
    every = [[p for s in row for p in (*(p for _, p in s.probabilities), s.end)] for row in rows]
    for line in LINES:  # what was told before: the mean over all tokens
        means = [bool(ps) and float(np.exp(np.mean(np.log(ps)))) < line for ps in every]
        print(f"mean of all glosses below {line:.2f}: {' '.join(f'{n:.3f}' for n in three(means, wrong))}")
    lost = three([any(part.unsaid for part in row) for row in rows], wrong)
    print(f"a word that was read lacks its gloss: {' '.join(f'{n:.3f}' for n in lost)}")
    instead = [wrong[i] for i, row in enumerate(rows) if any(part.instead for part in row)]
    print(f"answered by a word's gloss: {len(instead)}, of which wrong: {sum(instead)}")


def asked(signer: Signer) -> None:
    for language, prompts in PROMPTS.items():
        meaning = signer.linker.taught_of(language).meanings
        words = [word for word, gloss in meaning.items() if not gloss.startswith("#")]
        for prompt in prompts if words else ():
            texts = [prompt.format(word) for word in words]
            answers = station.understand(texts, [language] * len(texts), signer.linker).glosses
            lost = sum(meaning[word] not in answer for word, answer in zip(words, answers, strict=True))
            print(f"{prompt.format('…')}: {len(words)} words, the gloss of {lost} is lost")


def main(workdir: str) -> None:
    signer, rng = Signer.load(workdir), Random(1)
    found = sentences("dev", 1000, 7)
    languages, truth = [one.language for one in found], [tuple(one.glosses) for one in found]
    table("as they are", [one.text for one in found], languages, truth, signer)
    less = [i for i, one in enumerate(found[:500]) if len(words_of(one.text)) > 2]
    table(
        "without a word", [without_a_word(found[i].text, rng) for i in less], [languages[i] for i in less],
        [truth[i] for i in less], signer,
    )  # fmt: skip
    telling.DOUBT = 0.5
    asked(signer)


if __name__ == "__main__":
    main(*sys.argv[1:])
