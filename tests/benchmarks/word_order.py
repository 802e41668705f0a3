"""Whether a run reads the order of words: BLEU of dev's texts, and of the same with the words of each shuffled.

    python tests/benchmarks/word_order.py RUN [RUN …]

What reads a bag of words scores both alike. Beside it how many glosses it makes, over how many people made.
"""

import random
import sys

from signer_jax import Signer
from signer_jax.metrics.text import bleu
from signer_jax.stations.understand import understand_rows


def shuffled(text: str, rng: random.Random) -> str:
    words = text.split()
    rng.shuffle(words)
    return " ".join(words)


def main(run: str) -> None:
    signer, rng = Signer.load(run), random.Random(0)
    corpus = signer.corpus.texts("dev")
    samples = [corpus[i] for i in range(len(corpus))]
    references = [" ".join(sample.glosses) for sample in samples]
    texts = [sample.text for sample in samples]
    for name, read in (("as they are", texts), ("words shuffled", [shuffled(text, rng) for text in texts])):
        found = understand_rows(read, [sample.language for sample in samples], signer.linker).glosses
        score = bleu([" ".join(glosses) for glosses in found], references)
        length = sum(map(len, found)) / sum(len(sample.glosses) for sample in samples)
        print(f"{run}: {name}: BLEU-4 {score['bleu4']:.1f}, glosses {length:.2f} of people's ({score['signature']})")


if __name__ == "__main__":
    for one in sys.argv[1:]:
        main(one)
