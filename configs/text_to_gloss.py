"""SLUL alone, from random values, on prepared texts with glosses: ASLG-PC12, CSL-Daily, or PHOENIX14T too in one model.

for corpus in aslg_pc12 csl_daily phoenix14t; do signer prepare $corpus --source FOLDER --out sets/$corpus; done
signer train --config text_to_gloss:aslg_pc12 --workdir runs/aslg_pc12 --config.data.source=sets/aslg_pc12
signer train --config text_to_gloss:csl_daily --workdir runs/csl_daily --config.data.source=sets/csl_daily
signer train --config text_to_gloss:all --workdir runs/three \\
    --config.data.source=sets/phoenix14t,sets/aslg_pc12,sets/csl_daily

PHOENIX14T alone is `configs/phoenix14t.py`, which these are diffs on. `docs/training.md` has the figures.
"""

from signer_jax.configuration import shipped
from signer_jax.errors import SignerError

# Of each: pieces; how often a gloss occurs that is one (0: none); the longest text and glosses; buckets; dev's texts.
_CORPORA = {
    "aslg_pc12": (10000, 2, (48, 40), ("20x17", "26x23", "32x28"), 4000),
    # Little more than the characters, which texts and glosses have in common.
    "csl_daily": (2420, 0, (52, 56), ("18x16", "24x22", "31x30"), 1077),
    "all": (16000, 2, (52, 56), ("18x14", "24x22", "30x30"), 5596),
}


def get_config(corpus="all"):
    if corpus not in _CORPORA:
        raise SignerError(f"--config text_to_gloss:{corpus}: give {', '.join(_CORPORA)} behind the colon")
    c = shipped("phoenix14t")
    pieces, occurs, longest, c.data.text_buckets, c.evaluate.sentences = _CORPORA[corpus]
    c.tokenizer.vocab_size, c.tokenizer.whole_glosses = pieces, occurs
    c.data.corpus = "prepared"
    c.data.max_source, c.data.max_target = longest
    c.slul.length_penalty = 1.0
    c.train.slul.select_every, c.train.slul.select_sentences = 330, 500
    if corpus == "all":
        c.data.language_temperature = 1e6  # as often as in a training of each
        c.slul.encoder_layers = c.slul.decoder_layers = 3
        c.train.slul.steps, c.train.slul.select_every, c.train.slul.select_sentences = 9900, 990, 1500
    return c
