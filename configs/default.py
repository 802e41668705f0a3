"""Every value of a run, with its meaning. The other configs are short diffs on this one.

signer train --config configs/default.py --workdir runs/default [--config.slul.d_model=256 ...]
"""

from ml_collections import ConfigDict, FieldReference


def get_config() -> ConfigDict:
    c = ConfigDict()
    c.seed = 0  # of the training: parameters, batches, noise
    c.stages = (
        "slul",
        "pose",
        "vae",
        "images",
        "renderer",
        "joint",
    )  # trained in this order; any subset that has its inputs

    # -- Data: a corpus is prepared once into ArrayRecord shards under <workdir>/data -------------------------------
    c.data = ConfigDict()
    c.data.corpus = "builtin"  # builtin | phoenix14t | how2sign_clips | openvid | prepared
    c.data.source = ""  # folder of a real corpus, of prepared ones several with commas; the built-in one needs none
    # Of several prepared sets how often each one's examples come, in the order of source: (3.0, 1.0) is three of the
    # first to one of the second, however large they are. () is every example once an epoch.
    c.data.weights = ()
    c.data.encoded = ""  # folder that `signer encode` made: latents and text states; empty encodes them in the run
    c.data.seed = 0  # of the built-in corpus; a study over training seeds keeps it, and with it the dev set
    # Video pixels: height and width, or one number for a square.
    c.data.size = FieldReference((64, 64), field_type=object)
    # Of openvid: "832x480", further heights x widths; a video is brought to the one that cuts off least of it.
    c.data.other_sizes = ()
    c.data.fps = 16.0  # frames a second of poses and videos; 0 keeps the corpus's own (the built-in one's is 16)
    # Of prepared sets: whose glosses are learned, of human, rules, slul, unknown; () all that there are, and a refusal
    # where programs' (rules, slul) would mix with others' in a language
    c.data.glosses_by = ()
    c.data.sentences = {"train": 20000, "dev": 120, "test": 120}  # built-in corpus: texts
    c.data.poses = {"train": 5000, "dev": 60, "test": 60}  # of these, how many are performed
    c.data.videos = {"train": 600, "dev": 24, "test": 8}  # of these, how many are rendered
    c.data.guests = 2  # videos in dev and test of a signer whom no training sample shows
    c.data.max_source = 22  # s: source tokens, end included
    c.data.max_target = 16  # g: gloss tokens, end included
    c.data.max_glosses = 15  # n: glosses a sentence
    # "12x8": source and gloss tokens of SLUL's batches, several lengths beside the two above, from short to long; ()
    # pads all batches to these
    c.data.text_buckets = ()
    c.data.crop = 0.25  # share of a clip's area that may be cut off in a bucket, and of openvid's at its size
    c.data.enlarge = 1.0  # how many times it may be enlarged there
    # Random changes of the examples of the stages vae (pictures) and pose (truth and candidates together), anew in
    # every epoch; 0 for none. Stages that read cached latents see none.
    c.data.augment = ConfigDict()
    c.data.augment.mirror = 0.0  # share of the examples whose left and right are swapped
    c.data.augment.not_mirrored = ()  # glosses: a sentence with one of these is left as it is
    c.data.augment.speed = 0.0  # up to 1 + speed times faster or slower
    c.data.augment.turn = 0.0  # degrees to either side, around the middle between the shoulders
    c.data.augment.grow = 0.0  # up to 1 + grow times larger or smaller
    c.data.augment.shift = 0.0  # shoulder widths, each way
    c.data.augment.colour = 0.0  # of pictures: brightness, contrast and saturation, 1 - colour to 1 + colour times
    c.data.augment.copies = 1  # of each of the renderer's windows that are encoded: one as it is, the others changed
    # A language of n texts is drawn in proportion to n ** (1 / it) where SLUL alone trains: at 1 as it occurs, the more
    # alike the higher.
    c.data.language_temperature = 1.0
    c.data.read_threads = 2  # Grain threads that prepare records beside the training step
    # Processes that decode a prepared set's videos for these threads, of which there should be as many; 0 leaves it to
    # the threads, which wait for each other between the frames of small videos.
    c.data.decode_processes = 0
    c.data.prefetch = 8  # batches kept ready

    # -- SLUL: text -> gloss (paper 2.2) ----------------------------------------------------------------------------
    c.tokenizer = ConfigDict()
    # A published SentencePiece model, or ByT5's tokenizer_config.json; empty trains one on the corpus
    c.tokenizer.path = ""
    c.tokenizer.mask = "<mask>"  # the piece that stands for a masked gloss token ("<extra_id_0>" for published T5)
    c.tokenizer.vocab_size = 1800
    # A gloss that occurs so often in training is one of these pieces, if it has a capital; 0 makes pieces of all
    c.tokenizer.whole_glosses = 0
    # BPE-dropout: share of the joins that are left out when SLUL's training reads a text, so that a word is read in
    # other pieces every time
    c.tokenizer.dropout = 0.0

    c.slul = ConfigDict()
    c.slul.init = ""  # a folder saved by transformers (T5 1.0, 1.1, UMT5); its sizes replace the ones below
    c.slul.d_model = 128
    c.slul.d_kv = 32
    c.slul.d_ff = 256
    c.slul.heads = 4
    c.slul.encoder_layers = 2
    c.slul.decoder_layers = 2
    c.slul.relative_buckets = 32
    c.slul.relative_max_distance = 128
    c.slul.activation = "gated-gelu"  # gated-gelu (T5 1.1) | relu (T5 1.0)
    c.slul.tie_embeddings = False
    c.slul.relative_bias_every_layer = False  # True for UMT5
    # Of fresh embeddings; 0: d_model ** -0.5, for Adam's steps. With 1, as published models began, words stay apart
    # through the first blocks, and the table wants a rate as much higher (config.train.slul.rates).
    c.slul.embedding_deviation = 0.0
    c.slul.dropout = 0.0
    c.slul.mask_rate = 0.3  # rho: share of gloss tokens that SAGM masks
    c.slul.temperature = 0.1  # tau of the contrastive loss
    c.slul.stop_anchor_gradient = True  # the unmasked posterior of L_KL is a fixed anchor
    c.slul.contrastive_cross = False  # whether glosses are encoded with cross attention for L_con
    # Of a text's tokens each loss is the "mean", or the "sum" as in the paper, where a long text counts more; a sum's
    # gradient is larger, and so must be the norm at which it is clipped (config.train.slul.clip)
    c.slul.over_tokens = "mean"
    c.slul.label_smoothing = 0.0  # of the cross entropies: probability of the target that all pieces share
    c.slul.z_loss = 0.0  # weight of log² Z beside them, as t5x has it (1e-4); 0 for none
    # What has ended keeps a place among the beams (shared), or stands apart and all beams run on, as in t5x and
    # transformers (standard).
    c.slul.search = "shared"
    c.slul.beams = 4
    c.slul.length_penalty = 0.6  # score = log p / length ** penalty
    # What becomes of a word that training lacks and that is no name: "left_out" of the text, or read in "pieces" where
    # the vocabulary has all its letters, a guess that is told. Published weights (init) are given such words always.
    c.slul.unknown = "left_out"

    # -- SLP-MoE and the stabiliser (paper 2.3) ---------------------------------------------------------------------
    c.pose = ConfigDict()
    c.pose.joints = "signing_74"  # subset of the canonical skeleton that the models see
    c.pose.dims = 2  # coordinates a joint: 2 or 3
    c.pose.experts = 4  # K: candidates a gloss
    c.pose.gating = "sentence"  # sentence (the paper) | gloss
    c.pose.follow = "chosen"  # what the stabiliser is trained on: chosen | soft (the paper's blend of all candidates)
    # Width of a layer over each token of H before the gates' query is their mean, for gating by sentence; 0: none
    c.pose.pool_hidden = 0
    c.pose.gate_hidden = 64  # Pose Chosen Network
    c.pose.window = 48  # frames a training window
    c.pose.smooth_order = 2  # 2: the paper's second difference; 3: the jerk proper
    c.pose.stabiliser_hidden = 128
    c.pose.stabiliser_layers = 2
    c.pose.stabiliser_kernel = 7
    # Shoulder widths over a joint's confidence that the stabiliser moves it at most; 0: as far as it likes
    c.pose.stabiliser_reach = 0.0
    c.pose.transition = 0.25  # seconds between two signs when no ground truth says it

    # -- Video autoencoder: AutoencoderKLWan at any size ------------------------------------------------------------
    c.vae = ConfigDict()
    c.vae.init = ""  # a folder saved by diffusers (AutoencoderKLWan); its sizes replace the ones below
    c.vae.base_dim = 26
    c.vae.z_dim = 12
    c.vae.dim_mult = (1,)  # one level: at 64 pixels folding 2x2 leaves 32x32 latents, which lose nothing of a hand
    c.vae.num_res_blocks = 0  # beside those of the middle; the decoder has one more a level
    c.vae.temporal_downsample = ()  # one entry a level but the last; published: (False, True, True)
    c.vae.patch_size = 2  # pixels folded into channels before the first convolution; 1 folds none
    c.vae.principal_start = True  # start from the principal components of the frames' patches (one level only)
    c.vae.window = 5  # frames a training window
    c.vae.buckets = ()  # "81x480x832": frames, height, width of batches, several sizes in turn; () is the window above
    c.vae.kl_weight = 1e-6
    c.vae.sharpness_weight = 0.0  # weight of the image-gradient term beside the L1 reconstruction

    # -- Renderer: WanTransformer3DModel between a convolutional stem and head ---------------------------------------
    c.renderer = ConfigDict()
    # own (this project's, of the sizes below), or what published model the renderer is laid out as: wan2.1-t2v-1.3b,
    # wan2.1-t2v-14b, wan2.1-i2v-14b, wan2.1-fun-control-14b, wan2.2-t2v-a14b, wan2.2-i2v-a14b, wan2.2-ti2v-5b,
    # wan2.2-fun-control-a14b, wan2.2-fun-control-5b, wan2.2-animate-14b (renderer/variants.py); those need
    # stem_features ()
    c.renderer.variant = "own"
    c.renderer.init = ""  # a folder saved by diffusers: a transformer, or a pipeline (two experts need one)
    # What a published model reads: its pipeline's folder, or its text_encoder/ with tokenizer/ beside it; "": zeros
    c.renderer.text_encoder = ""
    c.renderer.negative_prompt = ""  # what guidance leads away from, and training shows where it drops the text
    c.renderer.image_encoder = ""  # CLIP: the same pipeline's folder, or its image_encoder/; "": zeros
    c.renderer.dim = 128
    c.renderer.heads = 4
    c.renderer.ffn_dim = 256
    c.renderer.layers = 2
    c.renderer.freq_dim = 64
    c.renderer.patch = (
        1,
        1,
        1,
    )  # latent frames, rows and columns a token (of the stem's last level, where there is one)
    c.renderer.stem_features = (32, 64, 128)  # channels a level of the U around it; () leaves it alone, as published
    c.renderer.stem_blocks = 1  # a level
    c.renderer.head_blocks = 1
    c.renderer.window = 3  # video frames a training window and a segment at inference; 0: the variant's
    c.renderer.buckets = ()  # of its training, as vae.buckets; () is the window above at data.size, which signing has
    # Frames that neighbouring segments share and blend, a multiple of the VAE's ratio in time; of an image model, last
    # frames that a segment goes on from: 1, or Animate's 1 or 5; 0: the variant's
    c.renderer.overlap = 0
    c.renderer.stride = 3  # frames between the starts of two cached training windows
    c.renderer.references = 256  # latent frames kept a signer, of which one gives the style
    c.renderer.reference_dropout = 0.05  # share of examples trained without one, for signers with a single clip
    # How the pose reaches a transformer without a stem: variant (its own way: Animate's tokens, Fun-Control's channels,
    # the branch elsewhere) | branch (ControlNeXt) | none
    c.renderer.control = "variant"
    c.renderer.picture = "limbs"  # what the branch sees: limbs (a channel a limb group) | dwpose (in its colours)
    c.renderer.control_size = 128  # height of the control picture, pixels; its width is by the videos' aspect
    c.renderer.control_softness = 0.7  # edge of a rasterised limb, pixels of that picture
    c.renderer.control_channels = (64, 128, 256)  # ControlNeXt's stages, where there is no stem
    c.renderer.control_fold = 1  # pixels a side of the picture that are laid into channels before them
    c.renderer.shift = 0.5  # of the noise levels in training and sampling; 0: the variant's, for this data.size
    c.renderer.times = "shifted-uniform"  # of the training levels before the shift | logit-normal
    c.renderer.times_mean = 0.0  # of the normal number, for logit-normal
    c.renderer.times_std = 1.0
    c.renderer.noise_share = 0.4  # share of the training levels that are pure noise, where sampling begins
    c.renderer.velocity_floor = (
        0.4  # the velocity's error counts less below this level (0: nowhere; schedule.velocity_weight)
    )
    c.renderer.steps = 16  # of the solver; fewer blur hands that no training frame shows, and score higher on the rest
    c.renderer.solver = "euler"  # euler | unipc (order 2, as published Wan; 8 steps or more) | dpm++ (2M)
    # A factor of the noise from which a video is made. Below 1 a model that was trained for a short time leaves less of
    # it in the picture as speckle, and blurs more.
    c.renderer.temperature = 1.0
    c.renderer.shared_noise = True  # one noise tensor for all frames: static pixels do not flicker
    c.renderer.guidance = 1.0  # away from neither pose nor text; 1 turns classifier-free guidance off
    # Beside it a guidance for each condition that is dropped alone; all add up, and each that is not 1 takes a row more
    # of a step's one batch: v + Σ (g - 1) (v - v without it).
    c.renderer.guidance_each = {"text": 1.0, "semantics": 1.0, "pose": 1.0, "face": 1.0, "reference": 1.0}
    c.renderer.guidance_low_noise = 0.0  # guidance_each.text of the expert of low noise, of two; 0: the same
    c.renderer.condition_dropout = 0.0  # share of examples trained without pose and text; guidance needs some
    # Shares of examples trained without each of them alone; half without Animate's face, since signing has none.
    c.renderer.dropout_each = {"text": 0.0, "semantics": 0.0, "pose": 0.0, "face": 0.5, "reference": 0.0}
    c.renderer.hand_weight = 3.0  # loss weight where the hands are, 1 elsewhere
    c.renderer.face_weight = 1.0  # and where the face is with no hand before it; 1: as everything else
    # How its parameters lie in memory while it signs and is evaluated: float32 | bfloat16; "": published ones as
    # config.dtype computes, which changes no result, and others in float32. Of its text encoder "" is as its files are.
    c.renderer.dtype = ""
    # How tokens of different devices meet where mesh.context splits them: all_to_all (heads for tokens, and back; the
    # heads must divide), ring (keys go round), or automatic: the former where it can be. The numbers are the same.
    # Signing and evaluation share tokens on all devices of a process: all_to_all is there what automatic is.
    c.renderer.context_attention = "automatic"

    # -- The joint objective's weights (paper 2.3, end) -------------------------------------------------------------
    c.loss = ConfigDict()
    c.loss.sagm = 0.5
    c.loss.kl = 0.1
    c.loss.contrastive = 0.1
    c.loss.moe = 1.0
    c.loss.entropy = 0.01
    # Accelerations are small numbers: squared shoulder widths a frame^2. Of real signing at 24 frames a second .3 was
    # right (docs/performance.md): there 100 smooths away what the hands do.
    c.loss.smooth = 100.0
    c.loss.hand = 50.0  # squared shoulder widths too
    c.loss.velocity = 0.1
    c.loss.pose = 50.0  # all joints against the ground truth, beside the hands
    c.loss.diffusion = 1.0

    # -- Optimisation, by stage -------------------------------------------------------------------------------------
    c.train = ConfigDict()
    for stage, steps, batch, optimizer, rate in (
        ("slul", 20000, 32, "muon", 6e-3),
        ("pose", 3000, 16, "adamw", 2e-3),
        ("vae", 2000, 4, "adamw", 1e-4),
        ("images", 20000, 8, "muon", 2e-2),  # the renderer on single frames, before it sees motion
        ("renderer", 5000, 3, "muon", 5e-3),
        ("joint", 1000, 4, "adamw", 2e-5),
        ("back_translation", 3000, 32, "muon", 1e-2),  # no stage of a run: `signer back-translate`
        ("progressive", 3000, 32, "adamw", 1e-3),  # nor is this: a baseline of `signer reproduce`
    ):
        c.train[stage] = ConfigDict()
        c.train[stage].steps = steps
        c.train[stage].batch = batch  # over all devices
        c.train[stage].accumulate = 1  # parts that a batch is cut into, one after the other: memory for one part
        # full | branch (what stands beside the video transformer) | semantics (in it what reads SLUL) | lora,
        # or regular expressions over the parameters' paths; several add up, ("lora", "branch"). Checkpoints hold what
        # trains and nothing else.
        c.train[stage].trains = ("full",)
        c.train[stage].frozen_dtype = "float32"  # float32 | bfloat16: how what does not train lies in memory
        c.train[stage].optimizer = optimizer  # adamw | adafactor | muon
        c.train[stage].learning_rate = rate
        c.train[stage].rates = ()  # "PATTERN=FACTOR": the rate of what a path's first pattern matches; 1 elsewhere
        c.train[stage].schedule = "cosine"  # after a linear warm-up: cosine or linear to zero, or constant
        c.train[stage].warmup = max(1, steps // 20)
        c.train[stage].weight_decay = 0.01  # of kernels and adapters
        c.train[stage].clip = 1.0  # global norm
        c.train[stage].ema = 0.0  # decay of the weights' running mean, which is used instead of them; 0 keeps none
    # Steps between looks, of which one chooses what SLUL's stage gives, the running mean where it has one; 0: the last
    c.train.slul.select_every = 0
    c.train.slul.select_by = "bleu4"  # of greedy decoding on dev | last: the later the better
    c.train.slul.select_sentences = 500  # at most, spread over dev
    c.train.slul.patience = 0  # so many looks without a better one end the stage; 0: none do
    c.train.slul.average = 1  # the mean of the parameters of so many of the best looks is what the stage gives
    c.train.slul.r_drop = 0.0  # weight of R-Drop: each text is read twice, with dropouts of their own; 0: once
    c.lora = ConfigDict()  # of the stages that train "lora"
    c.lora.rank = 16
    c.lora.alpha = 16.0  # an adapter counts alpha / rank
    c.lora.targets = ("attention/(query|key|value|out)/kernel$", "/(wi|wi_0|wi_1|wo)/kernel$")  # of T5 and transformer
    c.optimizers = ConfigDict()  # their values, for all stages
    c.optimizers.adamw = {"b1": 0.9, "b2": 0.99, "eps": 1e-8}  # beside Muon too
    c.optimizers.adafactor = ConfigDict()
    c.optimizers.adafactor.momentum = 0.0  # 0 keeps none
    c.optimizers.adafactor.decay = 0.8  # step k's second moment weighs k ** -decay
    c.optimizers.adafactor.eps = 1e-30  # added to squared gradients
    c.optimizers.adafactor.clip = 1.0  # root mean square of an array's step, before the rate
    c.optimizers.adafactor.factored_from = 128  # matrices with a shorter side keep their whole second moment
    c.optimizers.muon = {"momentum": 0.95, "adam_rate": 0.1}  # share of the rate for AdamW on what is no matrix
    c.nonfinite_steps = 5  # steps in a row that were left out, their gradients not finite or spikes, before a run stops
    c.spike = 0.0  # a step is left out whose gradient's norm is more than so many times the running mean; 0 for none
    c.dtype = "float32"  # compute dtype; parameters and optimizer state are always float32
    # What the backward pass of a block has of its forward pass: none (all is kept) | dots (all products, also the
    # logits of attention that no kernel computes) | dots_no_batch (products with weights; false) | attention (that of
    # video tokens; all else is computed again; true) | offload (the same, in the host's memory) | full (all is
    # computed again). Models without video tokens compute all again from "attention" on, else nothing.
    c.remat = FieldReference("dots_no_batch", field_type=object)
    c.scan_unroll = 1  # layers a step of the scan over layers; 1 compiles fastest, more runs faster on a CPU
    # Whether the optimizer's state lies in the host's memory between steps, where devices reach it (TPU, GPU): it goes
    # over the host's link and back at every step. The numbers are the same.
    c.offload_optimizer = False
    c.compiled = ""  # a file of `signer plan --save`: its steps, compiled beforehand for these devices, are not again

    # -- Mesh: the table of layout.py says what is split along these axes; -1 takes what the others leave -----------
    c.mesh = ConfigDict()
    c.mesh.data = -1  # replicas
    c.mesh.fsdp = 1  # examples, and parameters with their optimizer's state
    c.mesh.context = 1  # a video's tokens in the renderer's transformer, and parameters
    c.mesh.tensor = 1  # heads and hidden units
    # Whether a parameter of 16 MiB or more that no axis of the mesh splits may lie whole on every device.
    c.allow_whole = False

    # -- Watching and saving ----------------------------------------------------------------------------------------
    c.log_every = 20  # steps; ten times a stage at least
    c.checkpoint_every = 200  # steps; the last step of a stage is always saved
    c.keep_checkpoints = 2  # a stage, the last ones: where one is damaged, the one before it is gone on from
    # Beside them the one before which the mean loss was lowest, since the one before that; of SLUL's stage, where it
    # chooses (select_every), what it would give stays anyway.
    c.keep_best = False
    c.samples_every = 0  # steps between a stage's samples in TensorBoard (glosses, poses, clips); 0: when a run is over
    c.evaluate = ConfigDict()
    c.evaluate.split = "dev"  # evaluated at the end of a run; empty for none
    c.evaluate.sentences = 120  # at most, a split
    c.evaluate.noise = 0.0  # share of words dropped, swapped or misspelt in further readings; 0: none
    c.evaluate.poses = 40
    c.evaluate.videos = 12  # clips, whole; at most as many of signers that training never filmed

    # -- Back translation: what judges runs, in a folder of its own (docs/evaluation.md) ------------------------------
    c.back_translation = ConfigDict()
    c.back_translation.joints = "signing_74"
    c.back_translation.max_frames = 160  # of a pose; longer ones are not trained on, and cut where they are judged
    c.back_translation.kernel = 5  # frames around each step of the encoder
    c.back_translation.stride = 2  # frames a step: twice as many steps as glosses or more
    c.back_translation.d_model = 64
    c.back_translation.d_kv = 16
    c.back_translation.d_ff = 128
    c.back_translation.heads = 4
    c.back_translation.encoder_layers = 2
    c.back_translation.decoder_layers = 2
    c.back_translation.dropout = 0.1
    c.back_translation.gloss_weight = 1.0  # of the glosses' CTC loss beside the text's cross entropy
    c.back_translation.beams = 4
    c.back_translation.length_penalty = 1.0

    # -- Progressive Transformer: a baseline of `signer reproduce`, in a folder of its own (docs/reproduction.md) ------
    c.progressive = ConfigDict()
    c.progressive.joints = "signing_74"
    c.progressive.max_frames = 160  # longer poses are not learned from, and none is made longer
    c.progressive.d_model = 64
    c.progressive.heads = 4
    c.progressive.d_ff = 128
    c.progressive.encoder_layers = 2
    c.progressive.decoder_layers = 2
    c.progressive.dropout = 0.0
    c.progressive.future = 5  # frames that each step says, of which the first is taken; theirs: 10
    c.progressive.noise = 0.05  # deviation of the noise on the frames that it is shown in training, shoulder widths
    return c
