"""A training step of Wan 2.1 T2V 1.3B on one accelerator, beside the same step in torch with diffusers' model.

    python tests/benchmarks/accelerator_training.py                        480x832x81, one GPU or TPU chip
    python tests/benchmarks/accelerator_training.py --sides ours compiled kept --remat attention dots_no_batch
    python tests/benchmarks/accelerator_training.py --tiny                 of a size that a CPU does

The transformer alone, from random weights, on random latents and text states: flow matching, bfloat16 products of
float32 parameters, blocks computed again in the backward pass, the gradient's norm clipped, AdamW. "ours" is the train
loop's own step, a row for each of `--remat` (`config.remat`); "torch" is autocast, gradient checkpointing,
scaled_dot_product_attention and fused AdamW; "compiled" the same through torch.compile; "kept" is compiled, prefers
cuDNN's attention, and does without checkpointing: nothing is computed again, if the memory is enough. One side after
the other, each in a process of its own, so that its memory is its own. Printed for each: seconds until the first step
is over (compilation in it), the median step of those after the first two, model TFLOP/s (three forward passes; nothing
that is computed twice counts), MFU against the maker's bfloat16 peak where the device is known, and the peak of memory.
The torch sides need the [parity] extra, and torch for the device.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

SIDES = ("ours", "torch", "compiled", "kept")
REMATS = ("none", "dots", "dots_no_batch", "attention", "offload", "full")
RATE = 1e-5
ANSWER = "answer:"


def sizes(tiny: bool) -> dict[str, Any]:
    """Of the model, in diffusers' names, and of the batch."""
    if tiny:
        model = {"num_attention_heads": 2, "attention_head_dim": 32, "ffn_dim": 128, "num_layers": 2, "text_dim": 64}
        return {"model": model, "latents": (5, 8, 8), "rows": 16}
    model = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30, "text_dim": 4096}
    return {"model": model, "latents": (21, 60, 104), "rows": 512}


def timed(step: Callable[[], float], steps: int) -> dict[str, Any]:
    """`step` waits for its result, and gives the loss."""
    times, losses = [], []
    for _ in range(2 + steps):
        start = time.perf_counter()
        losses.append(step())
        times.append(time.perf_counter() - start)
    return {"first": times[0], "step": statistics.median(times[2:]), "losses": losses}


def transformer(tiny: bool, **changes: Any) -> Any:
    import jax.numpy as jnp

    from signer_jax.renderer.video_transformer import VideoTransformer

    of = sizes(tiny)["model"]
    return VideoTransformer(
        in_channels=16, out_channels=16, dim=of["num_attention_heads"] * of["attention_head_dim"],
        heads=of["num_attention_heads"], ffn_dim=of["ffn_dim"], layers=of["num_layers"], text_dim=of["text_dim"],
        freq_dim=256, patch=(1, 2, 2), image_dim=None, eps=1e-6, dtype=jnp.bfloat16, **changes,
    )  # fmt: skip


def objective_of(module: Any) -> Callable:
    """Flow matching: the velocity from clean latents to noise, at a level an example."""
    import jax
    import jax.numpy as jnp

    def objective(params: Any, batch: Any, rng: jax.Array) -> tuple[jax.Array, dict]:
        of_times, of_noise = jax.random.split(rng)
        clean = batch["latents"]
        at = jax.random.uniform(of_times, (len(clean),))
        noise, share = jax.random.normal(of_noise, clean.shape), at[:, None, None, None, None]
        found = module.apply(
            {"params": params["transformer"]}, (1 - share) * clean + share * noise, 1000 * at, batch["text"]
        )
        return jnp.square(found - (noise - clean)).mean(), {}

    return objective


def batch_of(tiny: bool, rows: int) -> dict[str, Any]:
    import numpy as np

    of, rng = sizes(tiny), np.random.default_rng(0)
    return {
        "latents": rng.standard_normal((rows, *of["latents"], 16), np.float32),
        "text": rng.standard_normal((rows, of["rows"], of["model"]["text_dim"]), np.float32),
    }


def parameters(module: Any, batch: dict[str, Any]) -> Any:
    import jax

    first = {name: x[:1] for name, x in batch.items()}
    return module.init(jax.random.key(0), first["latents"], jax.numpy.zeros(1), first["text"])["params"]


def needed(tiny: bool, rows: int) -> float:
    """FLOPs of a step that the model needs, counted on shapes."""
    import jax

    from signer_jax.renderer.attention import plain_attention
    from signer_jax.training import flops

    batch = batch_of(tiny, rows)
    module = transformer(tiny, attend=lambda q, k, v, **_: plain_attention(q, k, v))
    params = {"transformer": jax.eval_shape(lambda: parameters(module, batch))}
    loss = objective_of(module)
    return flops.training(lambda params, batch, rng: loss(params, batch, rng)[0], params, batch, jax.random.key(0))


def ours(tiny: bool, rows: int, steps: int, *, remat: str, traced: bool) -> dict[str, Any]:
    import jax

    from signer_jax import configuration
    from signer_jax.training import partitioning
    from signer_jax.training.loop import Program, Stage, starting
    from signer_jax.validation import read

    settings = read(configuration.load("default"))
    training = replace(settings.train.renderer, steps=1000, batch=rows, optimizer="adamw", learning_rate=RATE, warmup=1)
    module = transformer(tiny, remat=remat)
    stage = Stage(
        "renderer", objective_of(module), ("transformer",), training, settings.optimizers, settings.lora,
        settings.nonfinite_steps,
    )  # fmt: skip
    mesh = partitioning.make_mesh({"data": 1}, jax.devices()[:1])
    batch = batch_of(tiny, rows)
    program = Program(stage, {"transformer": jax.eval_shape(lambda: parameters(module, batch))}, mesh)
    start = starting(stage, program.tx, 0)
    state = jax.jit(lambda: start({"transformer": parameters(module, batch)}), out_shardings=program.shardings)()
    placed = partitioning.put_batch(batch, mesh)

    def once() -> float:
        nonlocal state
        state, metrics, _ = program.step(state, {}, placed, None)
        return float(jax.block_until_ready((state, metrics))[1]["loss"])

    found = timed(once, steps)
    if traced:
        kernels(once)
    device = jax.devices()[0]
    memory = (device.memory_stats() or {}).get("peak_bytes_in_use")
    return found | {"device": device.device_kind, "memory": memory or _resident()}


def kernels(step: Callable[[], float]) -> None:
    """Prints the kernels of a step on a GPU by their time together."""
    import tempfile
    from collections import Counter
    from pathlib import Path

    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            step()
        for path in Path(folder).rglob("*.xplane.pb"):
            for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
                for line in (line for line in plane.lines if "GPU" in plane.name and "Stream" in line.name):
                    taken: Counter[str] = Counter()
                    for event in line.events:
                        taken[event.name] += event.duration_ns
                    print(f"{plane.name} {line.name}: {sum(taken.values()) / 1e6:.1f} ms", file=sys.stderr)
                    for name, ns in taken.most_common(30):
                        print(f"{ns / 1e6:10.2f} ms  {name[:100]}", file=sys.stderr)


def theirs(tiny: bool, rows: int, steps: int, *, compiled: bool, again: bool) -> dict[str, Any]:
    from contextlib import nullcontext

    import diffusers
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    fastest = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]
    attention = nullcontext() if again or device == "cpu" else sdpa_kernel(fastest, set_priority=True)
    torch.backends.cuda.matmul.allow_tf32 = True  # of what autocast leaves in float32
    with torch.device(device):
        module = diffusers.WanTransformer3DModel(
            patch_size=(1, 2, 2), in_channels=16, out_channels=16, freq_dim=256, **sizes(tiny)["model"]
        ).train()
    if again:
        module.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, betas=(0.9, 0.99), fused=device == "cuda")
    batch = {name: torch.from_numpy(x).to(device) for name, x in batch_of(tiny, rows).items()}
    clean = batch["latents"].permute(0, 4, 1, 2, 3).contiguous()
    run = torch.compile(module) if compiled else module

    def once() -> float:
        at = torch.rand(rows, device=device)
        noise, share = torch.randn_like(clean), at[:, None, None, None, None]
        with torch.autocast(device, torch.bfloat16):
            found = run((1 - share) * clean + share * noise, 1000 * at, batch["text"]).sample
        loss = (found.float() - (noise - clean)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        return loss.item()  # waits for the loss; the optimizer ends with the next step, or below

    def waited() -> float:
        loss = once()
        if device == "cuda":
            torch.cuda.synchronize()
        return loss

    with attention:
        found = timed(waited, steps)
    name = torch.cuda.get_device_name(0) if device == "cuda" else "cpu"
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else _resident()
    return found | {"device": name, "memory": memory}


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(options: list[str], environment: dict[str, str]) -> dict[str, Any] | None:
    """What a side's own process says; None where it failed, which it told itself."""
    run = subprocess.run([sys.executable, __file__, *options], env=environment, stdout=subprocess.PIPE, text=True)
    said = [line for line in run.stdout.splitlines() if line.startswith(ANSWER)]
    return json.loads(said[-1].removeprefix(ANSWER)) if run.returncode == 0 and said else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES[:2])
    parser.add_argument("--remat", nargs="+", default=["attention"], choices=REMATS, help="of ours, a row each")
    parser.add_argument("--batch", type=int, default=1, help="clips a step (1)")
    parser.add_argument("--steps", type=int, default=10, help="steps that are measured, after two (10)")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--kernels", action="store_true", help="of a step of ours too, by time (on a GPU)")
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        size = given.tiny, given.batch, given.steps
        if given.worker == "ours":
            found = ours(*size, remat=given.remat[0], traced=given.kernels)
        else:
            found = theirs(*size, compiled=given.worker in ("compiled", "kept"), again=given.worker != "kept")
        print(ANSWER, json.dumps(found), flush=True)
        return
    environment = dict(os.environ)
    os.environ["JAX_PLATFORMS"] = "cpu"  # this process only counts; the accelerator is its children's
    from signer_jax.chips import peak

    flops = needed(given.tiny, given.batch)
    print(f"model TFLOP a step: {flops / 1e12:.4g}\n")
    print("| side | device | first step, s | step, s | model TFLOP/s | MFU | peak memory, GiB | loss, first and last |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    failed = False
    same = ["--batch", str(given.batch), "--steps", str(given.steps)]
    same += ["--tiny"] * given.tiny + ["--kernels"] * given.kernels
    rows = [(side, remat) for side in given.sides for remat in (given.remat if side == "ours" else [""])]
    for side, remat in rows:
        found = measured(["--worker", side, *(["--remat", remat] if remat else []), *same], environment)
        name = f"{side}, {remat}" if remat else side
        failed |= found is None
        if found is None:
            print(f"| {name} | failed: see above |||||||", flush=True)
            continue
        rate, most = flops / found["step"], peak(found["device"])
        print(
            f"| {name} | {found['device']} | {found['first']:.1f} | {found['step']:.4g} | {rate / 1e12:.4g} | "
            f"{f'{rate / most:.1%}' if most else '–'} | {found['memory'] / 2**30:.2f} | "
            f"{found['losses'][0]:.3f}, {found['losses'][-1]:.3f} |",
            flush=True,
        )
    sys.exit(failed)


if __name__ == "__main__":
    main()
