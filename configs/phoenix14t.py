"""SLUL alone on RWTH-PHOENIX-Weather 2014T: German weather text -> DGS glosses, evaluated on dev.

    signer train --config configs/phoenix14t.py --workdir runs/phoenix14t --config.data.source=FOLDER
"""

from configs.default import get_config as default


def get_config():
    c = default()
    c.stages = ("slul",)
    c.data.corpus = "phoenix14t"
    c.data.max_source = 64
    c.data.max_target = 64
    c.tokenizer.vocab_size = 3000
    c.slul.d_model = 192
    c.slul.d_kv = 48
    c.slul.d_ff = 512
    c.slul.encoder_layers = 3
    c.slul.decoder_layers = 3
    c.slul.dropout = 0.3
    c.train.slul.steps = 3000
    c.train.slul.batch = 64
    c.train.slul.learning_rate = 1.5e-3
    c.train.slul.warmup = 200
    c.evaluate.sentences = 519
    return c
