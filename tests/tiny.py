"""The full model classes at the smallest sizes, a few steps a stage: what the tests train."""

from signer_jax.configuration import shipped


def get_config():
    c = shipped("default")
    c.data.size = 32
    c.data.sentences = {"train": 60, "dev": 8, "test": 4}
    c.data.poses = {"train": 30, "dev": 4, "test": 2}
    c.data.videos = {"train": 8, "dev": 2, "test": 1}
    c.data.max_source = 40
    c.data.max_target = 32
    c.tokenizer.vocab_size = 400
    c.slul.d_model, c.slul.d_kv, c.slul.d_ff, c.slul.heads = 32, 8, 32, 4
    c.pose.window = 24
    c.pose.gate_hidden = c.pose.stabiliser_hidden = 16
    # Two levels with compression in time, unlike the default's one.
    c.vae.base_dim, c.vae.z_dim, c.vae.patch_size = 8, 4, 2
    c.vae.dim_mult, c.vae.temporal_downsample, c.vae.principal_start = (1, 2), (True,), False
    c.renderer.dim, c.renderer.heads, c.renderer.ffn_dim, c.renderer.layers = 32, 4, 32, 2
    c.renderer.stem_features, c.renderer.control_size = (16, 24), 32
    c.renderer.control_channels = (8, 8, 8)
    c.renderer.patch = (1, 2, 2)
    c.renderer.window = 9
    c.renderer.stride = 16
    c.renderer.steps = 2
    c.renderer.guidance, c.renderer.condition_dropout = 2.0, 0.1
    for stage in c.stages:
        c.train[stage].steps = 4
        c.train[stage].batch = 8
        c.train[stage].warmup = 1
    for stage in ("slul", "renderer", "back_translation"):  # `images` has Muon, which takes longest to compile
        c.train[stage].optimizer, c.train[stage].learning_rate = "adamw", 2e-3
    c.back_translation.d_model, c.back_translation.d_kv, c.back_translation.d_ff = 32, 8, 32
    c.back_translation.encoder_layers = c.back_translation.decoder_layers = 1
    c.train.back_translation.steps, c.train.back_translation.batch, c.train.back_translation.warmup = 4, 8, 1
    c.progressive.d_model, c.progressive.d_ff = 16, 16
    c.progressive.encoder_layers = c.progressive.decoder_layers = 1
    c.train.progressive.steps, c.train.progressive.batch, c.train.progressive.warmup = 4, 8, 1
    c.log_every = 2
    c.checkpoint_every = 2
    c.keep_checkpoints = 1  # what tests harm has none before it, unless they say so
    c.evaluate.sentences = c.evaluate.poses = c.evaluate.videos = 4
    return c
