"""How much of SLUL's batches is padding, with and without buckets of lengths, on text corpora as they are downloaded.

    python tests/benchmarks/padding.py FOLDER [--batch 32] [--vocab 4000] [--shares 0.5 0.8 0.95]

FOLDER holds `phoenix14t.train.tsv`, `csl-daily.train.tsv` or `aslg-pc12.train.tsv`. Without buckets all sentences are
as long as the longest; a bucket holds the texts and the glosses of these shares of the sentences, and what fits none
has the longest's length.
Printed: sentences, the longest's tokens, the buckets, and the share of the tokens of an epoch that is padding.
"""

import argparse
import importlib
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

FILES = {"phoenix14t": "phoenix14t", "csl_daily": "csl-daily", "aslg_pc12": "aslg-pc12"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, default in (("batch", 32), ("vocab", 4000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.8, 0.95])
    given = parser.parse_args()

    from signer_jax.data import lengths, streams
    from signer_jax.data.windows import token_counts
    from signer_jax.slul.tokenizer import Tokenizer

    for name, file in FILES.items():
        if not (given.folder / f"{file}.train.tsv").exists():
            continue
        items = importlib.import_module(f"signer_jax.data.datasets.{name}").items(given.folder, "train")
        texts = [SimpleNamespace(text=item.text, glosses=tuple(item.glosses), language=item.language)
                 for item in items if getattr(item, "glosses", None)]  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = Tokenizer.train(
                (one.text for one in texts), Path(folder) / "tokenizer.model", given.vocab,
                sorted({one.language for one in texts}), glosses=(one.glosses for one in texts),
            )  # fmt: skip
        counts = token_counts(texts, tokenizer)[:, :2]
        most = lengths.Bucket(*counts.max(axis=0).tolist())
        short = dict.fromkeys("x".join(map(str, np.quantile(counts, share, axis=0).astype(int)))
                              for share in given.shares)  # fmt: skip
        buckets = lengths.read(tuple(short), most, name)
        reading = streams.Reading(given.batch, 0, 0, 1)
        found = [
            lengths.padding(counts, kept, streams.alike(lengths.shortest(counts, kept), reading))
            for kept in (buckets[-1:], buckets)
        ]
        print(f"{name}: {len(counts)} sentences, the longest {most}, buckets {', '.join(map(str, buckets[:-1]))}: "
              f"{100 * found[0]:.1f} % padding without, {100 * found[1]:.1f} % with them", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
