"""A training step of Wan 2.1 T2V 1.3B on one accelerator, beside the same step in torch with diffusers' model.

    python tests/benchmarks/accelerator_training.py                        480x832x81, one GPU or TPU chip
    python tests/benchmarks/accelerator_training.py --sides ours compiled kept --remat attention dots_no_batch
    python tests/benchmarks/accelerator_training.py --tiny                 of a size that a CPU does

The transformer alone, on random latents and text states: flow matching, bfloat16 products of float32 parameters
(float32's, of the tiny size), blocks computed again in the backward pass, the gradient's norm clipped, AdamW. "ours" is
the train loop's own step, a row for each of `--remat` (`config.remat`); "torch" is autocast, gradient checkpointing,
scaled_dot_product_attention and fused AdamW; "compiled" the same through torch.compile; "kept" is compiled, prefers
cuDNN's attention, and does without checkpointing: nothing is computed again, if the memory is enough. One side after
the other, each in a process of its own, so that its memory is its own. Printed for each: seconds until the first step
is over (compilation in it), the median step of those after the first two, model TFLOP/s (three forward passes; nothing
that is computed twice counts), MFU against the maker's bfloat16 peak where the device is known, and the peak of memory.
All sides begin with the same random weights. Before the steps that are timed, ours and the first of torch's give loss
and gradients at the same noise and times, and these are compared: a time is worth nothing where the step is another.
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

import numpy as np

SIDES = ("ours", "torch", "compiled", "kept")
REMATS = ("none", "dots", "dots_no_batch", "attention", "offload", "full")
RATE = 1e-5
ANSWER = "answer:"
# How far the two losses, and the norms of these tensors' gradients, may be apart, as a share of torch's.
APART = {"float32": 1e-4, "bfloat16": 0.03}
COMPARED = (
    "patch_embedding.weight", "condition_embedder.text_embedder.linear_1.weight", "condition_embedder.time_proj.weight",
    "blocks.0.attn1.to_q.weight", "blocks.0.attn2.to_k.weight", "blocks.{last}.ffn.net.2.weight", "proj_out.weight",
)  # fmt: skip


def sizes(tiny: bool) -> dict[str, Any]:
    """Of the model, in diffusers' names, and of the batch."""
    if tiny:
        model = {"num_attention_heads": 2, "attention_head_dim": 32, "ffn_dim": 128, "num_layers": 2, "text_dim": 64}
        return {"model": model, "latents": (5, 8, 8), "rows": 16, "dtype": "float32"}
    model = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30, "text_dim": 4096}
    return {"model": model, "latents": (21, 60, 104), "rows": 512, "dtype": "bfloat16"}


def compared(tiny: bool) -> list[str]:
    return [name.format(last=sizes(tiny)["model"]["num_layers"] - 1) for name in COMPARED]


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
        freq_dim=256, patch=(1, 2, 2), image_dim=None, eps=1e-6, dtype=jnp.dtype(sizes(tiny)["dtype"]), **changes,
    )  # fmt: skip


def loss_at(module: Any, params: Any, batch: Any, at: Any, noise: Any) -> Any:
    """Flow matching: the velocity from clean latents to noise, at a level an example."""
    import jax.numpy as jnp

    clean, share = batch["latents"], at[:, None, None, None, None]
    found = module.apply({"params": params}, (1 - share) * clean + share * noise, 1000 * at, batch["text"])
    return jnp.square(found - (noise - clean)).mean()


def objective_of(module: Any) -> Callable:
    import jax

    def objective(params: Any, batch: Any, rng: jax.Array) -> tuple[jax.Array, dict]:
        of_times, of_noise = jax.random.split(rng)
        clean = batch["latents"]
        at = jax.random.uniform(of_times, (len(clean),))
        return loss_at(module, params["transformer"], batch, at, jax.random.normal(of_noise, clean.shape)), {}

    return objective


def batch_of(tiny: bool, rows: int) -> dict[str, Any]:
    of, rng = sizes(tiny), np.random.default_rng(0)
    return {
        "latents": rng.standard_normal((rows, *of["latents"], 16), np.float32),
        "text": rng.standard_normal((rows, of["rows"], of["model"]["text_dim"]), np.float32),
    }


def parameters(module: Any, batch: dict[str, Any]) -> Any:
    import jax

    first = {name: x[:1] for name, x in batch.items()}
    return module.init(jax.random.key(0), first["latents"], jax.numpy.zeros(1), first["text"])["params"]


def drawn(module: Any, batch: dict[str, Any]) -> Any:
    """Random weights on which all inputs tell, the same for every side; numpy."""
    import jax

    rng = np.random.default_rng(1)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        values = rng.standard_normal(leaf.shape, np.float32)
        if path[-1].key == "kernel":
            return values / np.float32(np.sqrt(leaf.shape[-2]))
        return 1 + 0.1 * values if path[-1].key == "scale" else 0.3 * values

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(lambda: parameters(module, batch)))


def drawn_beside(batch: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Times and noise of the step that is compared."""
    rng, shape = np.random.default_rng(2), batch["latents"].shape
    return rng.uniform(0.1, 0.9, shape[0]).astype(np.float32), rng.standard_normal(shape, np.float32)


def apart(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """How far each number is from theirs, as a share of it; infinity for one that is none."""
    found = {name: abs(ours[name] - value) / abs(value) if value else np.inf for name, value in theirs.items()}
    return {name: share if np.isfinite(share) else np.inf for name, share in found.items()}


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


def ours(tiny: bool, rows: int, steps: int, *, remat: str, traced: bool, compare: bool) -> dict[str, Any]:
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
    start, params = starting(stage, program.tx, 0), jax.device_put(drawn(module, batch), mesh.devices.item())
    first = our_first(module, tiny, params, batch) if compare else {}
    state = jax.jit(lambda params: start({"transformer": params}), out_shardings=program.shardings)(params)
    jax.block_until_ready(state)
    for leaf in jax.tree.leaves(params):
        leaf.delete()
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
    return found | {"device": device.device_kind, "memory": memory or _resident(), "compared": first}


def our_first(module: Any, tiny: bool, params: Any, batch: dict[str, Any]) -> dict[str, float]:
    """The loss, and the norms of some gradients by diffusers' names."""
    import jax

    from signer_jax.interop import wan

    at, noise = drawn_beside(batch)
    loss, gradients = jax.jit(jax.value_and_grad(lambda params: loss_at(module, params, batch, at, noise)))(params)
    named = wan.theirs(module, gradients)[1]
    return {"loss": float(loss)} | {name: float(np.linalg.norm(named[name].make())) for name in compared(tiny)}


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


def theirs(tiny: bool, rows: int, steps: int, *, compiled: bool, again: bool, compare: bool) -> dict[str, Any]:
    os.environ["JAX_PLATFORMS"] = "cpu"  # where the weights are drawn
    from contextlib import nullcontext

    import diffusers
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from signer_jax.interop import wan

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    fastest = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]
    attention = nullcontext() if again or device == "cpu" else sdpa_kernel(fastest, set_priority=True)
    torch.backends.cuda.matmul.allow_tf32 = True  # of what autocast leaves in float32
    with torch.device(device):
        module = diffusers.WanTransformer3DModel(
            patch_size=(1, 2, 2), in_channels=16, out_channels=16, freq_dim=256, **sizes(tiny)["model"]
        ).train()
    batch, shaped = batch_of(tiny, rows), transformer(tiny)
    at, noise = (torch.from_numpy(x).to(device) for x in drawn_beside(batch))
    for name, tensor in wan.theirs(shaped, drawn(shaped, batch))[1].items():
        module.get_parameter(name).data.copy_(torch.from_numpy(np.ascontiguousarray(tensor.make())))
    if again:
        module.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, betas=(0.9, 0.99), fused=device == "cuda")
    text, clean = (torch.from_numpy(batch[name]).to(device) for name in ("text", "latents"))
    clean, noise = (x.permute(0, 4, 1, 2, 3).contiguous() for x in (clean, noise))
    run = torch.compile(module) if compiled else module

    def backward(at: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        share = at[:, None, None, None, None]
        with torch.autocast(device, torch.bfloat16, enabled=sizes(tiny)["dtype"] == "bfloat16"):
            found = run((1 - share) * clean + share * noise, 1000 * at, text).sample
        loss = (found.float() - (noise - clean)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        return loss

    def once() -> float:
        loss = backward(torch.rand(rows, device=device), torch.randn_like(clean))
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        return loss.item()  # waits for the loss; the optimizer ends with the next step, or below

    def waited() -> float:
        loss = once()
        if device == "cuda":
            torch.cuda.synchronize()
        return loss

    first = {}
    with attention:
        if compare:
            first["loss"] = backward(at, noise).item()
            first |= {name: module.get_parameter(name).grad.norm().item() for name in compared(tiny)}
        found = timed(waited, steps)
    name = torch.cuda.get_device_name(0) if device == "cuda" else "cpu"
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else _resident()
    return found | {"device": name, "memory": memory, "compared": first}


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
    parser.add_argument("--compare", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        size, compare = (given.tiny, given.batch, given.steps), given.compare
        if given.worker == "ours":
            found = ours(*size, remat=given.remat[0], traced=given.kernels, compare=compare)
        else:
            found = theirs(
                *size, compiled=given.worker in ("compiled", "kept"), again=given.worker != "kept", compare=compare
            )
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
    both = "ours" in given.sides and len(set(given.sides)) > 1
    first: dict[str, dict[str, float]] = {}  # of ours and torch, what is compared
    for side, remat in rows:
        which = "ours" if side == "ours" else "torch"
        compare = ["--compare"] * (both and which not in first)
        found = measured(["--worker", side, *(["--remat", remat] if remat else []), *same, *compare], environment)
        if found and compare:
            first[which] = found["compared"]
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
    if len(first) == 2:
        failed |= not printed(first["ours"], first["torch"], APART[sizes(given.tiny)["dtype"]])
    sys.exit(failed)


def printed(ours: dict[str, float], theirs: dict[str, float], most: float) -> bool:
    """Prints what is compared, and says whether the two sides take the same step."""
    print(f"\nthe same weights, noise and times (at most {most:.1e} apart):\n")
    print("| | ours | torch | apart |\n|---|---|---|---|")
    found = apart(ours, theirs)
    for name, share in found.items():
        what = name if name == "loss" else f"gradient's norm, {name}"
        print(f"| {what} | {ours[name]:.6g} | {theirs[name]:.6g} | {share:.1e} |")
    if same := max(found.values()) <= most:
        return same
    print("the two sides take different steps: their times cannot be compared")
    return False


if __name__ == "__main__":
    main()
