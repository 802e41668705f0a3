"""SLUL alone on RWTH-PHOENIX-Weather 2014T: German weather text -> DGS glosses, evaluated on dev.

signer train --config configs/phoenix14t.py --workdir runs/phoenix14t --config.data.source=FOLDER
"""

from signer_jax.configuration import shipped


def get_config():
    c = shipped("default")
    c.stages = ("slul",)
    c.data.corpus = "phoenix14t"
    c.data.max_source = 40
    c.data.max_target = 24
    c.tokenizer.vocab_size = 2000
    c.slul.d_ff = 384
    c.slul.dropout = 0.2
    c.slul.length_penalty = 1.0
    c.train.slul.steps = 4000
    c.train.slul.batch = 32
    c.train.slul.optimizer, c.train.slul.learning_rate = "adamw", 1.5e-3
    c.train.slul.warmup = 200
    # `signer back-translate`, of the size in Camgöz et al. 2020 (3 layers, 512 units, 8 heads); nobody has trained it.
    c.back_translation.max_frames = 480  # 19 seconds at 25 frames a second
    c.back_translation.d_model, c.back_translation.d_kv, c.back_translation.d_ff = 512, 64, 2048
    c.back_translation.heads = 8
    c.back_translation.encoder_layers = c.back_translation.decoder_layers = 3
    c.evaluate.sentences = 519
    return c
