"""What two calls at a time win on a CPU: filming a clip and encoding training windows, beside the same one by one.

    python tests/benchmarks/beside.py runs/demo

Of a finished run with a renderer. Printed: seconds on the clock and of CPU, the least of a few runs in turn.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUNS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    workdir = parser.parse_args().workdir

    from signer_jax.allocator import tune

    tune()  # as the `signer` program does
    from signer_jax import beside as module
    from signer_jax import model as models
    from signer_jax.pipeline import Signer
    from signer_jax.renderer import vae_chunks
    from signer_jax.stations import render
    from signer_jax.training import input_pipeline, latents

    signer = Signer.load(workdir)
    c, studio = signer.settings, signer.studio
    records = signer.corpus.motions("train")
    pose = max((records[i].pose for i in range(8)), key=len)
    windows = input_pipeline.motion_windows(c, workdir, signer.corpus, None, signer.model, experts=False)

    def film() -> None:
        render.render(pose, render.style(studio), None, None, studio)

    def encode() -> None:
        with tempfile.TemporaryDirectory() as folder:
            latents.prepare(
                Path(folder) / "latents", signer.corpus, windows, signer.model.vae, signer.params["vae"],
                window=c.renderer.window, stride=2 * c.renderer.stride, references=c.renderer.references,
                batch=vae_chunks.rows_at_once(c.renderer.window, *c.data.size),
                constants=models.latent_constants(signer.model, c),
            )  # fmt: skip

    ways: dict[str, Any] = {"two at a time": module.beside, "one by one": map}
    for what, work in ((f"a clip of {len(pose)} frames", film), ("half of the training latents", encode)):
        times = {name: [] for name in ways}
        for _ in range(RUNS):
            for name, way in ways.items():
                render.beside = latents.beside = way
                times[name].append(timed(work))
        for name, taken in times.items():
            wall, cpu = (min(each) for each in zip(*taken, strict=True))
            print(f"{what}, {name}: {wall:.1f} s on the clock, {cpu:.1f} s of CPU", flush=True)


def timed(work: Callable[[], None]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
