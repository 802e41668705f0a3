"""Sampling with Wan 2.1 1.3B, bfloat16, 480x832x81, beside diffusers with torch.compile and flash attention.

    python tests/benchmarks/accelerator_sampling.py                 on one accelerator that both sides can use
    python tests/benchmarks/accelerator_sampling.py --tiny          the same on any CPU in about a minute: does it run?

Both sides read the same random weights from one folder and take the same noise, text states, noise levels and UniPC
steps with guidance, and what they make is compared: a time is worth nothing where the result is another one. The
weights are scaled so that the result hangs on text, guidance, noise level and layers (`telling`), and how far it moves
without each of these is printed beside: what the two sides may be apart is below all of them. Each side runs in a
process of its own, one after the other, which has the device alone; the first run, which compiles, is told apart.
diffusers is taken as its pipeline calls it, once for the text and once without, and as one batch of both; the
ratio is to the faster one. Printed: seconds a video (latents), milliseconds a step, the autoencoder's decoding, the
device's peak memory, the share of the device's peak that the products at the executed shapes make (MFU), and the
ratios theirs / ours (above 1: ours is faster). Needs the [parity] extra, and a torch for the accelerator.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

TEXT_ROWS, SHIFT, GUIDANCE = 512, 3.0, 5.0
FULL: dict[str, Any] = {
    "transformer": {
        "num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30, "text_dim": 4096,
        "in_channels": 16, "out_channels": 16, "freq_dim": 256,
    },
    "vae": {}, "frames": 81, "height": 480, "width": 832, "dtype": "bfloat16", "steps": 10, "runs": 3,
}  # fmt: skip
TINY: dict[str, Any] = {
    "transformer": {
        "num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 32, "num_layers": 2, "text_dim": 16,
        "in_channels": 16, "out_channels": 16, "freq_dim": 32,
    },
    "vae": {"base_dim": 3, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1},
    "frames": 9, "height": 64, "width": 96, "dtype": "float32", "steps": 3, "runs": 2,
}  # fmt: skip
# How far the two results may be apart, as a share of their size: rounding, and nothing else; and at most this part of
# what the least of the faults makes that `faults` tries.
APART, PART = {"float32": 1e-3, "bfloat16": 0.1}, 1 / 3
CALLS = ("two calls", "one batch")  # of torch's model, for guidance
SIDES = ("theirs", "ours")  # theirs first: it writes the weights


def inputs(size: dict) -> dict[str, np.ndarray]:
    """Noise and text states, channels last."""
    rng, text = np.random.default_rng(0), size["transformer"]["text_dim"]
    grid = (1 + (size["frames"] - 1) // 4, size["height"] // 8, size["width"] // 8)
    said = np.zeros((2, TEXT_ROWS, text), np.float32)
    said[0, :40], said[1, :1] = rng.standard_normal((40, text)), rng.standard_normal((1, text))  # a prompt, and none
    return {"noise": rng.standard_normal((1, *grid, 16), np.float32), "text": said}


def timed(run: Callable[[], Any], runs: int) -> tuple[float, list[float], Any]:
    """Seconds of the first run and of the others, and what the last one made; `run` waits for its result."""
    taken, made = [], None
    for _ in range(1 + runs):
        start = time.perf_counter()
        made = run()
        taken.append(time.perf_counter() - start)
    return taken[0], taken[1:], made


def telling(module: Any) -> None:
    """Scales a transformer's random weights: as diffusers draws them, its velocity hardly hangs on its inputs."""
    import torch

    factors = {
        "condition_embedder.time_proj.weight": 6, "condition_embedder.text_embedder.linear_1.weight": 10,
        "attn2.norm_k.weight": 3, "attn2.to_out.0.weight": 3, "proj_out.weight": 4,
    }  # fmt: skip
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("scale_shift_table"):
                parameter.normal_(0.0, 0.5)
            for ending, factor in factors.items():
                if name.endswith(ending):
                    parameter.mul_(factor)


def ours(size: dict, folder: Path) -> dict:
    import jax
    import jax.numpy as jnp

    from signer_jax import chips
    from signer_jax.interop import wan
    from signer_jax.interop.names import held_as
    from signer_jax.renderer import sampler, vae_chunks
    from signer_jax.renderer.schedule import NoiseSchedule, timestep
    from signer_jax.training import flops

    dtype, given = np.dtype(jnp.dtype(size["dtype"])), inputs(size)
    described = wan.describe_transformer(folder / "transformer")
    module, params = described.load(kind=lambda path, stored: held_as(f"transformer/{path}", dtype))
    module = module.clone(dtype=jnp.dtype(size["dtype"]))
    device = jax.devices()[0]
    params, text = jax.device_put((params, given["text"]), device)
    noise, levels = jax.device_put(given["noise"], device), NoiseSchedule(SHIFT, size["steps"], 0.0).levels()

    def sample(params, noise, text, *, guidance=GUIDANCE, module=module, level=None):
        def velocity(x, sigma, text):
            told = timestep(sigma) if level is None else jnp.full_like(timestep(sigma), level)
            return module.apply({"params": params}, x, told, text).astype(jnp.float32)

        return sampler.sample(
            velocity, noise, levels, guidance=guidance, condition=text[:1], null_condition=text[1:], solver="unipc"
        )

    def faults(params, noise, text, made) -> dict[str, float]:
        """How far the latents are from those of a sampler with each of these faults, as a share of their size."""
        half = {**params, "layers": jax.tree.map(lambda leaf: leaf[: module.layers // 2], params["layers"])}
        few = module.clone(layers=module.layers // 2)
        wrong = {
            "no guidance": jax.jit(partial(sample, guidance=1.0))(params, noise, text),
            "the text ignored": jax.jit(sample)(params, noise, 0 * text),
            "half of the layers": jax.jit(partial(sample, module=few))(half, noise, text),
            "one noise level told": jax.jit(partial(sample, level=500.0))(params, noise, text),
        }
        return {name: float(jnp.linalg.norm(x - made) / jnp.linalg.norm(made)) for name, x in wrong.items()}

    solve = jax.jit(sample)
    first, taken, latents = timed(lambda: jax.block_until_ready(solve(params, noise, text)), size["runs"])
    needed, known = flops.forward(sample, params, noise, text), chips.peak(device.device_kind)
    np.save(folder / "ours.npy", np.asarray(latents))
    memory = (device.memory_stats() or {}).get("peak_bytes_in_use", 0)
    moved = faults(params, noise, text, latents)
    for leaf in jax.tree.leaves(params):
        leaf.delete()

    vae, weights = wan.load_vae(folder / "vae")
    weights = jax.device_put(weights, device)
    film = jax.jit(lambda params, latents: vae_chunks.decode(vae, params, latents))
    decode_first, decode, _ = timed(lambda: jax.block_until_ready(film(weights, latents)), size["runs"])
    return {
        "device": device.device_kind, "first": first, "sample": min(taken), "decode_first": decode_first,
        "decode": min(decode), "memory": memory, "tflops": needed / min(taken) / 1e12,
        "mfu": needed / min(taken) / known if known else None, "faults": moved,
    }  # fmt: skip


def theirs(size: dict, folder: Path, *, compiler: str, kernel: str, calls: list[str]) -> dict:
    from contextlib import nullcontext

    import diffusers
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    cuda = torch.cuda.is_available()
    device, dtype = "cuda" if cuda else "cpu", getattr(torch, size["dtype"])
    torch.manual_seed(0)
    drawn = diffusers.WanTransformer3DModel(**size["transformer"])
    telling(drawn)
    drawn.save_pretrained(folder / "transformer")
    del drawn
    vae = diffusers.AutoencoderKLWan(**size["vae"])
    vae.save_pretrained(folder / "vae")
    # So, what it keeps in float32 stays in it.
    module = diffusers.WanTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=dtype)
    module, vae = module.to(device).eval(), vae.to(device).eval()
    compiled = torch.compile(module, backend=compiler) if compiler else module
    given = inputs(size)
    noise = torch.from_numpy(given["noise"]).permute(0, 4, 1, 2, 3).contiguous().to(device)
    text = torch.from_numpy(given["text"]).to(device, dtype)

    def sample(*, batched: bool) -> torch.Tensor:
        scheduler = diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT, final_sigmas_type="zero"
        )
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, size["steps"] + 1)[:-1], device=device)
        x = noise
        for t, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
            # The scheduler's times are whole numbers; the model is told the level itself, as ours is.
            step, rows = (1000 * sigma).to(device).expand(2 if batched else 1), x.to(dtype)
            if batched:
                said, none = compiled(torch.cat([rows, rows]), step, text, return_dict=False)[0].float().chunk(2)
            else:
                said, none = (
                    compiled(rows, step, one, return_dict=False)[0].float() for one in (text[:1], text[1:])
                )  # fmt: skip
            x = scheduler.step(none + GUIDANCE * (said - none), t, x, return_dict=False)[0]
        if cuda:
            torch.cuda.synchronize()
        return x

    def film(latents: torch.Tensor) -> torch.Tensor:
        frames = vae.decode(latents, return_dict=False)[0]
        if cuda:
            torch.cuda.synchronize()
        return frames

    found: dict[str, Any] = {"device": torch.cuda.get_device_name() if cuda else "cpu"}
    with torch.no_grad(), sdpa_kernel(getattr(SDPBackend, f"{kernel.upper()}_ATTENTION")) if cuda else nullcontext():
        for name in calls:
            batched = name == CALLS[1]
            first, taken, latents = timed(lambda batched=batched: sample(batched=batched), size["runs"])
            found |= {f"first, {name}": first, f"sample, {name}": min(taken)}
        found["memory"] = torch.cuda.max_memory_allocated() if cuda else 0
    with torch.no_grad():  # the autoencoder's heads are too wide for flash attention
        decode_first, decode, _ = timed(lambda: film(latents.float()), size["runs"])
    np.save(folder / "theirs.npy", latents.float().permute(0, 2, 3, 4, 1).cpu().numpy())
    best = min(calls, key=lambda name: found[f"sample, {name}"])
    return found | {
        "best": best, "first": found[f"first, {best}"], "sample": found[f"sample, {best}"],
        "decode_first": decode_first, "decode": min(decode),
    }  # fmt: skip


def worker(side: str, size: dict, folder: Path, **options: Any) -> None:
    found = ours(size, folder) if side == "ours" else theirs(size, folder, **options)
    (folder / f"{side}.json").write_text(json.dumps(found))


def printed(size: dict, found: dict[str, dict], apart: float, most: float) -> None:
    ours, theirs = found["ours"], found["theirs"]
    of = f"{size['height']}x{size['width']}x{size['frames']}, {size['dtype']}, {size['steps']} steps, guidance"
    print(f"{of}; ours on {ours['device']}, theirs on {theirs['device']}")
    print(f"{'':40}{'ours':>10}{'theirs':>10}{'ratio':>8}")
    rows = [
        (f"seconds a video (theirs: {theirs['best']})", ours["sample"], theirs["sample"]),
        *((f"  theirs, {name}", None, theirs[f"sample, {name}"]) for name in CALLS if f"sample, {name}" in theirs),
        ("milliseconds a step", *(1e3 * one["sample"] / size["steps"] for one in (ours, theirs))),
        ("seconds of decoding", ours["decode"], theirs["decode"]),
        ("seconds of the first video", ours["first"], theirs["first"]),
        ("peak GB while sampling", ours["memory"] / 1e9 or None, theirs["memory"] / 1e9 or None),
    ]
    for name, mine, other in rows:
        cells = [f"{'-':>10}" if value is None else f"{value:10.3f}" for value in (mine, other)]
        print(f"{name:40}{''.join(cells)}{other / mine if mine and other else float('nan'):8.2f}")
    share = "unknown: this device's peak is not in chips.py" if ours["mfu"] is None else f"{100 * ours['mfu']:.1f} %"
    print(f"ours: {ours['tflops']:.2f} TFLOP/s of products at the executed shapes, MFU {share}")
    print(f"the latents are {apart:.1e} of their size apart (at most {most:.1e})")
    print("with a fault: " + ", ".join(f"{name} {value:.1e}" for name, value in ours["faults"].items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small model in float32, without a compiler for torch")
    parser.add_argument("--steps", type=int, help="of the solver (10)")
    parser.add_argument("--runs", type=int, help="that are timed, after the first (3); the quickest counts")
    parser.add_argument("--compiler", help="torch.compile's backend; '' for none")
    parser.add_argument("--calls", nargs="+", choices=CALLS, default=list(CALLS), help="of torch's (both)")
    parser.add_argument("--kernel", choices=("flash", "cudnn"), default="flash", help="torch's attention (flash)")
    parser.add_argument("--worker", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = TINY if arguments.tiny else FULL
    size = size | {name: n for name, n in (("steps", arguments.steps), ("runs", arguments.runs)) if n}
    compiler = ("" if arguments.tiny else "inductor") if arguments.compiler is None else arguments.compiler
    if arguments.worker:
        options = {"compiler": compiler, "kernel": arguments.kernel, "calls": arguments.calls}
        worker(arguments.worker[0], size, Path(arguments.worker[1]), **options)
        return
    with tempfile.TemporaryDirectory() as name:
        for side in SIDES:
            command = [sys.executable, __file__, *sys.argv[1:], "--worker", side, name]
            subprocess.run(command, check=True, env={"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ})
        found = {side: json.loads((Path(name) / f"{side}.json").read_text()) for side in SIDES}
        mine, other = (np.load(Path(name) / f"{side}.npy") for side in ("ours", "theirs"))
    apart = float(np.linalg.norm(mine - other) / np.linalg.norm(other))
    most = min(APART[size["dtype"]], PART * min(found["ours"]["faults"].values()))
    printed(size, found, apart, most)
    if not apart <= most:
        raise SystemExit("the two sides made different latents: their times cannot be compared")


if __name__ == "__main__":
    main()
