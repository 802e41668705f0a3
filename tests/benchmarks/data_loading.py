"""Examples a second into a training step, beside torch's DataLoader over the same files and the same decoding.

    python tests/benchmarks/data_loading.py [--seconds 10] [--runs 5] [--only texts poses waiting preparing …]
        [--decode-processes 2]

Two workers each: Grain's threads here (which leave films to `config.data.decode_processes` where that is given),
processes there, which read the same records with the same functions, whole
shuffled, in the same batches; the step is one small jitted program that reads all of a batch. Both go through the few
files that there are again and again in one epoch of EPOCH examples, longer than any measurement: torch's loader ends an
epoch with empty queues, while ours has no end. Each measurement is a process of its own, ours and theirs in turn, after
the first batches. Printed: the median of the examples a second with the lowest and the highest, and the ratio ours /
theirs (above 1: ours is faster); and of the processor time that an example takes, all processes and threads of a side
together, which other work on the machine changes less. "whole" are films of which both sides decode
every frame and keep some, as a plain dataset does; of "videos" both read those frames alone, by our function.

"waiting" is the train loop's own share: the demo's renderer on cached latents, of whose steps the time that it waits
for a batch and puts it onto the devices. On a CPU its step takes most of a second, so this says nothing of a device
whose step takes milliseconds. "preparing" and "resizing" are clips a second of processor time, of
`signer prepare folder` by one worker, as they are and with `--size 64x64`, beside a plain loop with the same readers.
It reads and normalises the pose and writes both. Of a clip that stays as it is it decodes every frame, as `prepare`
does to know that it can be, and makes no pictures of them; with a size it resizes and encodes them. Needs torch.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

WORKERS, BATCH, WARM = 2, 8, 5  # WARM: batches before the clock starts
CLIPS, SIZE, FPS = 24, 96, 16
LENGTH = 9  # frames of a video
EPOCH = 1_000_000  # examples: as a large corpus has, and more than a measurement reads
LOADED = ("texts", "poses", "latents", "videos", "whole")
PREPARED = ("preparing", "resizing")
ANSWER = "answer:"


# ---- The files -------------------------------------------------------------------------------------------------------


def make(folder: Path) -> None:
    """Sentences and performances of the built-in corpus as records, films of some as a prepared set, latents."""
    import numpy as np

    from signer_jax.cli.main import main as command
    from signer_jax.data import records, shards, video
    from signer_jax.data.builtin import corpus as builtin
    from signer_jax.pose.formats import pose_file

    look: dict[str, Any] = {"seed": 0, "size": (SIZE, SIZE), "fps": FPS}
    about = {"languages": dict(builtin.LANGUAGES), "size": [SIZE, SIZE]}
    texts = lambda: builtin.samples("train", sentences=2000, poses=200, videos=0, **look)  # noqa: E731
    records.write(folder / "corpus", {"train": texts}, about)
    (folder / "source").mkdir()
    rows = ["name,split,video,pose,text,gloss,language,signer"]
    for i, sample in enumerate(builtin.samples("train", sentences=CLIPS, poses=CLIPS, videos=CLIPS, **look)):
        assert sample.video is not None and sample.pose is not None
        (folder / "source" / f"{i}.mp4").write_bytes(video.encoded(sample.video, FPS))
        pose_file.write(folder / "source" / f"{i}.pose", sample.pose)
        rows.append(f"{i},train,{i}.mp4,{i}.pose,text {i},{' '.join(sample.glosses)},{sample.language},{sample.signer}")
    (folder / "source" / "samples.csv").write_text("\n".join(rows) + "\n")
    command(["prepare", "folder", "--source", str(folder / "source"), "--out", str(folder / "set")])
    rng = np.random.default_rng(0)
    with shards.new_shard(folder / "latents.arrayrecord", compressed=False) as write:  # as the stages cache them
        for i in range(500):  # a window of 33 frames at 256 x 256 pixels, as Wan 2.1's autoencoder has it
            window = rng.normal(size=(9, 32, 32, 16)).astype(np.float32)
            write(shards.pack({"motion": i, "start": 0, "latents": window}))


def examples(kind: str, folder: Path, processes: int = 0) -> tuple[range, Callable]:
    """What both sides read: the numbers of an epoch's examples, and (one of them, a generator) -> the example."""
    count, example = few(kind, folder, processes)
    return range(EPOCH), lambda number, rng: example(number % count, rng)


def few(kind: str, folder: Path, processes: int) -> tuple[int, Callable]:
    """How many there are in the files, and (one of them, a generator) -> the example; `processes` decode films."""
    import numpy as np

    from signer_jax import storage
    from signer_jax.data import records, shards, streams
    from signer_jax.data.prepared import reading
    from signer_jax.data.windows import Limits, MotionWindows, tokens
    from signer_jax.pose import skeleton
    from signer_jax.slul.tokenizer import Tokenizer

    if kind == "latents":
        shard = shards.Shard(folder / "latents.arrayrecord", shards.unpack, storage.REMAKE)
        return len(shard), lambda i, rng: {"latents": (shard[i]["latents"] - np.float32(0.1)) / np.float32(1.1)}
    if kind in ("videos", "whole"):
        if not (folder / "run").exists():
            reading.write(folder / "run", str(folder / "set"), fps=FPS, size=(64, 64))
        films = reading.opened(folder / "run", processes).motions("train")

        def clip(i: int, rng: np.random.Generator) -> dict:
            start = lambda count: int(rng.integers(0, max(count - LENGTH, 0) + 1))  # noqa: E731
            if kind == "videos":  # as training reads them
                return {"video": streams.to_model_range(films.clip(i, LENGTH, start))}
            video = films.video(i)
            return {"video": streams.to_model_range(streams.take_frames(video, start(len(video)), LENGTH))}

        return len(films), clip
    corpus = records.Corpus(folder / "corpus")
    limits = Limits(22, 16, 15)
    if kind == "poses":
        windows = MotionWindows(corpus.motions("train"), skeleton.subset("signing_74"), 2, limits, cache=1)
        return len(windows.records), lambda i, rng: windows.window(i, int(rng.integers(0, 8)), 48)
    samples, path = corpus.texts("train"), folder / "tokenizer.model"
    if not path.exists():
        some = [samples[i] for i in range(len(samples))]
        Tokenizer.train((one.text for one in some), path, 1800, ["ase", "gsg"], glosses=(one.glosses for one in some))
    tokenizer = Tokenizer.load(path)
    return len(samples), lambda i, rng: tokens(samples[i], tokenizer, limits)


# ---- The two sides ---------------------------------------------------------------------------------------------------


def ours(kind: str, folder: Path, processes: int) -> Iterator[dict]:
    from signer_jax.data import streams

    source, transform = examples(kind, folder, processes)
    return streams.iterate(source, transform, streams.Reading(BATCH, 0, WORKERS, 8), kind)


class Examples:
    """What torch's workers read: opened in each, since what is open does not go to another process."""

    def __init__(self, kind: str, folder: Path):
        self.kind, self.folder, self.count = kind, folder, len(examples(kind, folder)[0])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        import numpy as np

        source, transform = opened(self.kind, self.folder)
        example = transform(source[index], np.random.default_rng((0, index)))
        return {name: np.asarray(x) for name, x in example.items()}


@cache
def opened(kind: str, folder: Path) -> tuple[range, Callable]:
    return examples(kind, folder)


def theirs(kind: str, folder: Path) -> Iterator[dict]:
    import torch

    loader = torch.utils.data.DataLoader(
        Examples(kind, folder), BATCH, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=True,
        multiprocessing_context="spawn",
    )  # fmt: skip
    while True:
        for batch in loader:
            yield {name: x.numpy() for name, x in batch.items()}


def processor_time() -> float:
    """Seconds of this process and those that it started."""
    import psutil

    own = psutil.Process()
    times = [one.cpu_times() for one in (own, *own.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def loading(side: str, kind: str, folder: Path, seconds: float, processes: int) -> tuple[float, float]:
    """Examples a second into a step, and the microseconds of processor time that each takes."""
    batches = ours(kind, folder, processes) if side == "ours" else theirs(kind, folder)
    batch = next(batches)
    import jax
    import jax.numpy as jnp

    from signer_jax.training import partitioning

    mesh = partitioning.make_mesh({"data": 1}, jax.devices()[:1])
    step = jax.jit(lambda batch: sum(jnp.square(x.astype(jnp.float32)).mean() for x in batch.values()))
    for _ in range(WARM):
        jax.block_until_ready(step(partitioning.put_batch(batch, mesh)))
        batch = next(batches)
    count, start, before = 0, time.perf_counter(), processor_time()
    while time.perf_counter() - start < seconds:
        made = step(partitioning.put_batch(next(batches), mesh))
        count += BATCH
    jax.block_until_ready(made)
    return count / (time.perf_counter() - start), 1e6 * (processor_time() - before) / count


# ---- The train loop's waiting ----------------------------------------------------------------------------------------


def waiting(folder: Path, steps: int = 30) -> None:
    """Of steps as the train loop takes them, one dispatched before the next batch is waited for."""
    import jax

    from signer_jax import configuration
    from signer_jax import model as models
    from signer_jax.training import input_pipeline, run
    from signer_jax.training.loop import Program, cut, starting
    from signer_jax.training.partitioning import put_batch
    from signer_jax.validation import read

    overrides = ["--config.data.guests=0"]
    for kind, count in {"sentences": 400, "poses": 24, "videos": 6}.items():
        overrides += [
            f"--config.data.{kind}.train={count}",
            f"--config.data.{kind}.dev=0",
            f"--config.data.{kind}.test=0",
        ]
    settings = read(configuration.load("demo", overrides))
    workdir = folder / "demo"
    with run.claimed(settings, workdir):
        mesh = run.mesh_of(settings)
        corpus = run.prepare_corpus(settings.data, 0, workdir / "data")
        tokenizer = input_pipeline.open_tokenizer(settings, workdir, corpus)
        assert tokenizer is not None
        model, published = models.build(settings, tokenizer.vocab_size)
        params = models.init(model, settings, published, 0)
        stage = run.stage_of("renderer", model, settings, tokenizer.mask_id)
        batches = input_pipeline.stage_batches("renderer", settings, workdir, corpus, tokenizer, model, params, 0, mesh)
        program = Program(stage, params, mesh)
        moving, frozen = cut(stage, params, 0)
        state = jax.jit(starting(stage, program.tx, 0))(moving)
        state, before, _ = program.step(state, frozen, put_batch(next(batches), mesh), None)
        jax.block_until_ready(before)
        waited, start = 0.0, time.perf_counter()
        for _ in range(steps):
            asked = time.perf_counter()
            batch = put_batch(next(batches), mesh)
            waited += time.perf_counter() - asked
            state, metrics, _ = program.step(state, frozen, batch, None)
            jax.block_until_ready(before)  # as the loop reads the answer of the step before
            before = metrics
        jax.block_until_ready(before)
        taken = time.perf_counter() - start
    print(f"waiting: {1000 * waited / steps:.2f} of {1000 * taken / steps:.0f} ms a step, {100 * waited / taken:.2f} %")


# ---- Preparation -----------------------------------------------------------------------------------------------------


def preparing(side: str, folder: Path, resized: bool) -> float:
    """Clips a second of processor time, all threads together, of a second pass: the first one imports what it needs."""
    prepared(side, folder, resized)
    return prepared(side, folder, resized)


def prepared(side: str, folder: Path, resized: bool) -> float:
    """As `preparing`, of one pass."""
    import numpy as np

    from signer_jax.cli.main import main as command
    from signer_jax.data import framing, video
    from signer_jax.pose import skeleton
    from signer_jax.pose.formats import pose_file

    with tempfile.TemporaryDirectory(dir=folder) as out:
        start = time.process_time()
        if side == "ours":
            more = ["--size", "64x64"] if resized else []
            command(["prepare", "folder", "--source", str(folder / "source"), "--out", f"{out}/set", *more])
        else:
            for i in range(CLIPS):
                file = folder / "source" / f"{i}.mp4"
                if resized:  # these poses lie in no pixels, so that ours takes the middle, too
                    data = video.encoded(framing.middle(video.frames(file), (64, 64)), video.frame_rate(file))
                else:
                    video.decodable(file)
                    data = file.read_bytes()
                pose, _, _ = skeleton.normalise(pose_file.read(file.with_suffix(".pose")))
                (Path(out) / f"{i}.mp4").write_bytes(data)
                np.savez(Path(out) / f"{i}.npz", coordinates=pose.coordinates, confidence=pose.confidence)
        return CLIPS / (time.process_time() - start)


# ---- The command -----------------------------------------------------------------------------------------------------


def measured(kind: str, side: str, folder: Path, seconds: float, processes: int) -> list[float]:
    """In a process of its own: what `loading` gives, or `preparing`."""
    command = [sys.executable, __file__, "--one", kind, side, str(folder), "--seconds", str(seconds)]
    command += ["--decode-processes", str(processes)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith(ANSWER))
    return [float(value) for value in line.removeprefix(ANSWER).split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[*LOADED, "waiting", *PREPARED])
    parser.add_argument("--decode-processes", type=int, default=0, help="of ours, beside its two threads")
    parser.add_argument("--one", nargs=3, metavar=("KIND", "SIDE", "FOLDER"), help="measure in this process")
    given = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if given.one:
        kind, side, folder = given.one[0], given.one[1], Path(given.one[2])
        if kind == "make":
            make(folder)
            return
        resized = kind == "resizing"
        if kind in PREPARED:
            print(ANSWER, preparing(side, folder, resized))
        else:
            print(ANSWER, *loading(side, kind, folder, given.seconds, given.decode_processes))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, __file__, "--one", "make", "", name], check=True, stdout=subprocess.DEVNULL)
        for kind in given.only:
            if kind == "waiting":
                waiting(folder)
                continue
            found: dict[str, list[list[float]]] = {"ours": [], "theirs": []}
            for _ in range(given.runs):
                for side, values in found.items():
                    values.append(measured(kind, side, folder, given.seconds, given.decode_processes))
            (us, *our_time), (them, *their_time) = (
                [statistics.median(column) for column in zip(*values, strict=True)] for values in found.values()
            )
            what = "examples a second" if kind in LOADED else "clips a second of processor time"
            spread = [f"{min(one)[0]:.1f} to {max(one)[0]:.1f}" for one in found.values()]
            print(f"{kind}: {us:.1f} and {them:.1f} {what}, ratio {us / them:.2f}", flush=True)
            print(f"{kind}: from {spread[0]}, and {spread[1]}, in {given.runs} runs", flush=True)
            if our_time:
                took = f"{our_time[0]:.0f} and {their_time[0]:.0f} µs of processor time an example"
                print(f"{kind}: {took}, ratio {their_time[0] / our_time[0]:.2f}", flush=True)
        print(f"load at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
