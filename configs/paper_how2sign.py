"""The paper's chain on How2Sign: SLUL from T5 base, SLP-MoE on WLASL's signs, the renderer on How2Sign's clips.

signer prepare how2sign --source HOW2SIGN --out sets/how2sign --size 256x256 --glosses rules
signer prepare wlasl --source WLASL --out sets/wlasl --size 256x256 --poses dwpose --pose-weights DIR
signer import t5 T5_BASE --out weights/t5
signer train --config configs/paper_how2sign.py --workdir runs/how2sign \\
    --config.data.source=sets/how2sign,sets/wlasl --config.slul.init=weights/t5 \\
    --config.tokenizer.path=weights/t5/spiece.model --config.tokenizer.mask="<extra_id_0>"

How2Sign has no glosses: SLUL learns those that `--glosses` made, which are no annotation, and its figures say so.
Neither are glosses timed in its sentences, so that the poses that SLP-MoE learns of are WLASL's signs.
"""

from signer_jax.configuration import shipped


def get_config():
    c = shipped("how2sign_clips", "256")
    c.stages = ("slul", "pose", "vae", "images", "renderer")
    c.data.corpus = "prepared"
    c.data.fps = 24.0
    c.data.max_source, c.data.max_target, c.data.max_glosses = 128, 96, 40
    # SLUL: T5 base, whose published weights' sizes replace these; SAGM, KL and the contrastive loss as in 2.2.
    c.tokenizer.vocab_size = 32128
    c.slul.d_model, c.slul.d_kv, c.slul.d_ff, c.slul.heads = 768, 64, 2048, 12
    c.slul.encoder_layers, c.slul.decoder_layers = 12, 12
    c.slul.dropout = 0.1
    c.train.slul.batch = 64
    c.train.slul.optimizer, c.train.slul.learning_rate = "adamw", 1e-4
    c.train.slul.warmup = 1000
    # 2.3: one gate a sentence on Pool(H), the blend of all candidates refined, the second difference.
    c.pose.gating = "sentence"
    c.pose.pool_hidden = 0
    c.pose.follow = "soft"
    c.pose.smooth_order = 2
    c.pose.stabiliser_reach = 0.1  # shoulder widths; on real signing it costs nothing (docs/performance.md)
    c.loss.smooth = 0.3  # of real signing at 24 frames a second: the default's smooths away what hands do
    # `signer back-translate`, of the size in Camgöz et al. 2020 (3 layers, 512 units, 8 heads); nobody has trained it.
    c.back_translation.max_frames = 720  # 30 seconds
    c.back_translation.d_model, c.back_translation.d_kv, c.back_translation.d_ff = 512, 64, 2048
    c.back_translation.heads = 8
    c.back_translation.encoder_layers = c.back_translation.decoder_layers = 3
    c.evaluate.sentences, c.evaluate.poses = 1741, 200
    c.evaluate.videos = 200
    return c
