"""SLUL from T5 v1.1 base (250 million parameters) on RWTH-PHOENIX-Weather 2014T, for a v5e:4x4.

signer plan --config pod_slul_t5_base --topology v5e:4x4
signer import t5 t5-v1_1-base --out weights/t5
signer train --config pod_slul_t5_base --workdir runs/t5 --config.data.source=FOLDER --config.slul.init=weights/t5 \\
    --config.tokenizer.path=weights/t5/spiece.model --config.tokenizer.mask="<extra_id_0>"
"""

from ml_collections import config_dict

from signer_jax.configuration import shipped


def get_config():
    c = shipped("phoenix14t")
    c.data.max_source, c.data.max_target, c.data.max_glosses = 128, 64, 32
    c.tokenizer.vocab_size = 32128
    c.slul.init = config_dict.placeholder(str)
    # The sizes of the weights, which replace these.
    c.slul.d_model, c.slul.d_kv, c.slul.d_ff, c.slul.heads = 768, 64, 2048, 12
    c.slul.encoder_layers, c.slul.decoder_layers = 12, 12
    c.slul.dropout = 0.1
    c.train.slul.batch = 512
    c.train.slul.optimizer, c.train.slul.learning_rate, c.train.slul.warmup = "adamw", 1e-4, 200
    c.dtype = "bfloat16"
    c.mesh.data, c.mesh.fsdp = 1, -1
    return c
