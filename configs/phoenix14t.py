"""SLUL alone on RWTH-PHOENIX-Weather 2014T: German weather text -> DGS glosses, evaluated on dev.

signer train --config configs/phoenix14t.py --workdir runs/phoenix14t --config.data.source=FOLDER

By cross entropy alone: the losses of masked glosses are `--config.loss.sagm=0.5 --config.loss.kl=0.1` and so on.
"""

from signer_jax.configuration import shipped


def get_config():
    c = shipped("default")
    c.stages = ("slul",)
    c.data.corpus = "phoenix14t"
    c.data.max_source = 40
    c.data.max_target = 24
    c.data.text_buckets = ("16x9", "22x12", "30x16")
    # Nearly every word of training is a piece, every gloss is one, and a rare compound is read in pieces.
    c.tokenizer.vocab_size = 4000
    c.tokenizer.whole_glosses = 1
    c.slul.unknown = "pieces"
    c.slul.d_model, c.slul.d_kv, c.slul.d_ff = 256, 64, 512
    c.slul.dropout = 0.3
    c.slul.label_smoothing = 0.1
    c.slul.embedding_deviation = 1.0
    c.slul.length_penalty = 1.4
    c.loss.sagm = c.loss.kl = c.loss.contrastive = 0.0
    c.train.slul.steps = 3300  # 30 times every text
    c.train.slul.batch = 64
    c.train.slul.optimizer, c.train.slul.learning_rate = "adamw", 1e-3
    c.train.slul.warmup = 300
    c.train.slul.rates = ("attention/query/kernel$=0.125", "token_embedding=16", "relative_bias=32")
    c.train.slul.select_every, c.train.slul.select_sentences, c.train.slul.average = 300, 519, 3
    # `signer back-translate`, of the size in Camgöz et al. 2020 (3 layers, 512 units, 8 heads); nobody has trained it.
    c.back_translation.max_frames = 480  # 19 seconds at 25 frames a second
    c.back_translation.d_model, c.back_translation.d_kv, c.back_translation.d_ff = 512, 64, 2048
    c.back_translation.heads = 8
    c.back_translation.encoder_layers = c.back_translation.decoder_layers = 3
    c.evaluate.sentences, c.evaluate.noise = 519, 0.2
    return c
