"""A training step and a forward pass of T5, the video transformer and the autoencoder, beside the torch originals.

"small" is T5 small (60 million parameters): its "train" is a whole step, cross entropy of 16 × (64 → 32 tokens), its
gradient and AdamW. "beams" is its beam search, 4 beams over 64 sentences of 64 tokens, 32 tokens long, beside
`generate`, and the same tokens (`tests/parity/test_parity_decoding.py`). "long" is the video transformer with 54
million parameters on 4,096 tokens. "decode" is the autoencoder's decoder alone, latent frame by latent frame on both
sides, as in sampling: forward only.

    python tests/benchmarks/models.py                    every model, float32, the sizes below
    python tests/benchmarks/models.py --only t5 vae

Both sides load the same random weights and run the same arrays, each in a process of its own, so that its peak memory
is its own. The runs alternate, ours and theirs, and only one side computes at a time, so that a machine that others
load as well slows both. "train" is the forward and the backward pass to all parameters. Printed: the median and the
fastest of many runs in milliseconds on the clock, the least CPU time of both cores, which other programs disturb
less, the peak resident memory in MiB, and the ratios theirs / ours (above 1: ours is faster or smaller). Needs the
[parity] extra.
"""

import argparse
import functools
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SECONDS = 10.0  # measured for each figure, both sides together, after the first runs
ANSWER = "answer:"
FEWEST = 3  # runs of each side, however long they take
T5_SIZE = {
    "vocab_size": 1800, "d_model": 256, "d_kv": 32, "d_ff": 512, "num_layers": 4, "num_heads": 8,
    "feed_forward_proj": "gated-gelu",
}  # fmt: skip
T5_BATCH, T5_SOURCE, T5_TARGET = 16, 48, 24
SMALL_SIZE = {
    "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
    "decoder_start_token_id": 0,
}  # fmt: skip
SMALL_BATCH, SMALL_SOURCE, SMALL_TARGET = 16, 64, 32
SENTENCES, BEAMS = 64, 4
WAN_SIZE = {
    "patch_size": (1, 2, 2), "num_attention_heads": 4, "attention_head_dim": 64, "in_channels": 16,
    "out_channels": 16, "text_dim": 256, "freq_dim": 256, "ffn_dim": 1024, "num_layers": 4,
}  # fmt: skip
WAN_LATENTS, WAN_TEXT = (2, 5, 16, 16), 32  # batch, frames, height, width
LONG_SIZE = {**WAN_SIZE, "num_attention_heads": 8, "ffn_dim": 2048, "num_layers": 12}  # 54 million parameters
LONG_LATENTS, LONG_TEXT = (1, 4, 64, 64), 512  # 4,096 tokens
VAE_SIZE = {
    "base_dim": 32, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
}  # fmt: skip
VAE_VIDEO = (1, 9, 128, 128)
VAE_LATENTS = (1, 9, 16, 16)  # decoded alone, one latent frame at a time on both sides: 33 frames of 128²
MODELS = ("t5", "small", "beams", "transformer", "long", "vae", "decode")


def save_originals(folder: Path) -> None:
    """Random weights in the originals' own files, which both sides read."""
    import diffusers
    import torch
    import transformers

    torch.manual_seed(0)
    for name, size in (("t5", T5_SIZE), ("small", SMALL_SIZE)):
        transformers.T5ForConditionalGeneration(transformers.T5Config(**size)).save_pretrained(folder / name)
    diffusers.WanTransformer3DModel(**WAN_SIZE).save_pretrained(folder / "transformer")
    diffusers.WanTransformer3DModel(**LONG_SIZE).save_pretrained(folder / "long")
    diffusers.AutoencoderKLWan(**VAE_SIZE).save_pretrained(folder / "vae")


def arrays(model: str) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    if model == "t5":
        ids = rng.integers(2, T5_SIZE["vocab_size"], (T5_BATCH, T5_SOURCE + T5_TARGET)).astype(np.int32)
        return ids[:, :T5_SOURCE], ids[:, T5_SOURCE:]
    if model in ("small", "beams"):
        rows = SENTENCES if model == "beams" else SMALL_BATCH
        ids = rng.integers(2, SMALL_SIZE["vocab_size"], (rows, SMALL_SOURCE + SMALL_TARGET)).astype(np.int32)
        return ids[:, :SMALL_SOURCE], ids[:, SMALL_SOURCE:]
    if model in ("transformer", "long"):
        shape, rows = (LONG_LATENTS, LONG_TEXT) if model == "long" else (WAN_LATENTS, WAN_TEXT)
        latents = rng.standard_normal((*shape, WAN_SIZE["in_channels"]), np.float32)
        return latents, rng.standard_normal((len(latents), rows, WAN_SIZE["text_dim"]), np.float32)
    if model == "decode":
        return (rng.standard_normal((*VAE_LATENTS, VAE_SIZE["z_dim"]), np.float32),)
    return (rng.uniform(-1, 1, (*VAE_VIDEO, 3)).astype(np.float32),)


def ours(model: str, folder: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    """(forward, train), each of which waits for its result."""
    from signer_jax.allocator import tune

    tune()  # as the `signer` program does

    import jax
    import jax.numpy as jnp

    from signer_jax.interop import t5, wan
    from signer_jax.renderer import vae_chunks
    from signer_jax.slul.linker import shift_right

    inputs = tuple(map(jnp.asarray, arrays(model)))
    if model in ("small", "beams"):
        return ours_small(folder / "small", *inputs)
    if model == "t5":
        module, params = t5.load(folder / "t5")

        def apply(params, source, target):
            return module.apply({"params": params}, source, shift_right(target))
    elif model in ("transformer", "long"):
        module, params = wan.load_transformer(folder / model)

        def apply(params, latents, text):
            return module.apply({"params": params}, latents, jnp.full(len(latents), 500.0), text)
    elif model == "decode":
        module, params = wan.load_vae(folder / "vae")

        def apply(params, latents):
            return vae_chunks.decode(module, params, latents)
    else:
        module, params = wan.load_vae(folder / "vae")

        def apply(params, video):
            mean, _ = module.apply({"params": params}, video, method="encode")
            return module.apply({"params": params}, mean, method="decode")

    params = jax.tree.map(jnp.asarray, params)
    forward = jax.jit(apply)
    train = jax.jit(jax.grad(lambda params, *x: jnp.square(apply(params, *x)).mean()))
    return (
        lambda: jax.block_until_ready(forward(params, *inputs)),
        lambda: jax.block_until_ready(train(params, *inputs)),
    )


def theirs(model: str, folder: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    import torch

    inputs = [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays(model)]
    if model in ("small", "beams"):
        return theirs_small(folder / "small", *(x.long() for x in inputs))
    if model == "t5":
        import transformers

        module = transformers.T5ForConditionalGeneration.from_pretrained(folder / "t5")
        source, target = (x.long() for x in inputs)
        start = torch.cat([torch.zeros_like(target[:, :1]), target[:, :-1]], 1)
        apply = lambda: module(input_ids=source, decoder_input_ids=start).logits  # noqa: E731
    elif model in ("transformer", "long"):
        import diffusers

        module = diffusers.WanTransformer3DModel.from_pretrained(folder / model)
        latents, text = inputs[0].permute(0, 4, 1, 2, 3).contiguous(), inputs[1]
        step = torch.full((len(latents),), 500.0)
        apply = lambda: module(latents, step, text).sample  # noqa: E731
    else:
        import diffusers

        module = diffusers.AutoencoderKLWan.from_pretrained(folder / "vae")
        video = inputs[0].permute(0, 4, 1, 2, 3).contiguous()
        if model == "decode":
            apply = lambda: module.decode(video).sample  # noqa: E731
        else:
            apply = lambda: module.decode(module.encode(video).latent_dist.mode()).sample  # noqa: E731
    module.eval()

    def forward() -> None:
        with torch.no_grad():
            apply()

    def train() -> None:
        module.zero_grad(set_to_none=True)
        apply().square().mean().backward()

    return forward, train


def ours_small(folder: Path, source, target) -> tuple[Callable[[], object], Callable[[], object]]:
    """(beam search, a whole training step)."""
    import jax
    import jax.numpy as jnp
    import optax

    from signer_jax.interop import t5
    from signer_jax.slul.linker import shift_right
    from signer_jax.slul.losses import cross_entropy
    from signer_jax.slul.standard_beams import standard_beam_search

    module, params = t5.load(folder)
    module = module.clone(scan_unroll=module.encoder_layers)
    params = jax.tree.map(jnp.asarray, params)
    adamw = optax.adamw(1e-4)

    def search() -> object:
        return jax.block_until_ready(standard_beam_search(
            module, params, source, beams=BEAMS, max_length=SMALL_TARGET, length_penalty=1.0
        ))  # fmt: skip

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, source, target):
        def loss(params):
            return cross_entropy(module.apply({"params": params}, source, shift_right(target)), target).mean()

        updates, state = adamw.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    trained: list = []

    def train() -> None:
        if not trained:
            trained.append((jax.tree.map(jnp.copy, params), adamw.init(params)))
        trained[0] = jax.block_until_ready(step(*trained[0], source, target))

    return search, train


def theirs_small(folder: Path, source, target) -> tuple[Callable[[], object], Callable[[], object]]:
    import torch
    import transformers

    module = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()  # no dropout on either side
    adamw = torch.optim.AdamW(module.parameters(), lr=1e-4, weight_decay=1e-4, eps=1e-8)

    def search() -> None:
        with torch.no_grad():
            module.generate(
                source, num_beams=BEAMS, max_new_tokens=SMALL_TARGET, do_sample=False, num_return_sequences=BEAMS
            )

    def train() -> None:
        adamw.zero_grad(set_to_none=True)
        module(input_ids=source, labels=target).loss.backward()
        adamw.step()

    return search, train


def worker(side: str, model: str, folder: Path) -> None:
    """One side of one model, in this process: reads what to run, a line each, and answers how it went."""
    forward, train = {"ours": ours, "theirs": theirs}[side](model, folder)
    for line in sys.stdin:
        if line.strip() == "peak":
            answer = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,)
        else:
            run = {"forward": forward, "train": train}[line.strip()]
            start = time.perf_counter(), time.process_time()
            run()
            answer = 1000 * (time.perf_counter() - start[0]), 1000 * (time.process_time() - start[1])
        print(ANSWER, *answer, flush=True)


class Side:
    """A worker process and the pipes to it."""

    def __init__(self, side: str, model: str, folder: str) -> None:
        command = [sys.executable, __file__, "--worker", side, model, folder]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, what: str) -> tuple[float, ...]:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(what, file=self.process.stdin, flush=True)
        for line in self.process.stdout:  # a library may print lines of its own
            if line.startswith(ANSWER):
                return tuple(map(float, line.split()[1:]))
        raise SystemExit(f"a worker ended without an answer to {what!r}")

    def close(self) -> None:
        self.process.communicate()


def compare(model: str, folder: str) -> None:
    """Prints the rows of one model."""
    sides = (Side("ours", model, folder), Side("theirs", model, folder))
    parts = {"decode": ("forward",), "beams": ("forward",), "small": ("train",)}
    for what in parts.get(model, ("forward", "train")):
        times: tuple[list[tuple[float, ...]], list[tuple[float, ...]]] = ([], [])
        for _ in range(2):  # compilation, and caches
            for side in sides:
                side.ask(what)
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end or len(times[0]) < FEWEST:
            for side, list_ in zip(sides, times, strict=True):
                list_.append(side.ask(what))
        for name, which, of in (("median", 0, statistics.median), ("fastest", 0, min), ("least CPU", 1, min)):
            row(f"{model} {what} ms, {name}", *(of([run[which] for run in side]) for side in times))
    row(f"{model} peak MiB", *(side.ask("peak")[0] for side in sides))
    for side in sides:
        side.close()


def row(name: str, ours: float, theirs: float) -> None:
    print(f"{name:36}{ours:10.1f}{theirs:10.1f}{theirs / ours:8.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--worker", nargs=3, metavar=("SIDE", "MODEL", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        side, model, folder = arguments.worker
        worker(side, model, Path(folder))
        return
    with tempfile.TemporaryDirectory() as name:
        save_originals(Path(name))
        print(f"{'':36}{'ours':>10}{'theirs':>10}{'ratio':>8}")
        for model in arguments.only:
            compare(model, name)


if __name__ == "__main__":
    main()
