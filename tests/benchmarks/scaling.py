"""The tables of docs/scaling.md: every pod config planned for its pod, a row each; and GPUs.

python tests/benchmarks/scaling.py [gpus | PLAN.json …]

Without files each row is compiled (libtpu; minutes of one core each, several gigabytes). `gpus` prints those of GPUs,
by arithmetic: a quarter of a minute each. With files, which `signer plan --json` wrote, their rows are printed.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PODS = [
    ("pod_slul_t5_base", "v5e:4x4", "slul"),
    ("pod_joint_wan_1_3b", "v6e:4x4", "joint"),
    ("pod_ti2v_5b", "v6e:8x8", "renderer"),
    ("pod_wan_14b", "v5p:4x4x4", "renderer"),
    ("pod_wan_14b:720p", "v5p:4x4x4", "renderer"),
]
GPUS = [
    ("pod_wan_14b", "h100:64", "renderer"),
    ("pod_wan_14b:720p", "h200:64", "renderer"),
    ("wan_a14b", "h200:8", "renderer"),
]
HEADER = (
    "stage, topology", "mesh, batch", "trained / all, billions", "GiB a chip", "compiled / model FLOPs",
    "collectives, GB", "products / memory / links, s", "MFU at most", "compiled in, s",
)  # fmt: skip


def planned(config: str, topology: str, stage: str) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plan.json"
        command = [sys.executable, "-m", "signer_jax", "plan", "--config", config, "--topology", topology]
        run = subprocess.run([*command, "--stage", stage, "--json", str(file)], cwd=ROOT, stdout=sys.stderr)
        if run.returncode not in (0, 1):  # a negative one: it was killed
            sys.exit(run.returncode)
        return json.loads(file.read_text())


def row(one: dict) -> tuple[str, ...]:
    mesh = " × ".join(f"{name} {size}" for name, size in one["mesh"].items() if size > 1)
    fits = "" if one["fits"] else "**does not fit** "
    memory = f"{fits}{one['total_bytes'] / 2**30:.1f} of {one['limit_bytes'] / 2**30:.1f}"
    estimate = one["estimate"]
    times = (
        " / ".join(f"{estimate[f'{part}_seconds']:.3g}" for part in ("products", "memory", "links"))
        if estimate
        else "–"
    )
    return (
        f"{one['stage']}, {one['topology']}", f"{mesh}, {one['batch']}",
        f"{one['trained_parameters'] / 1e9:.2f} / {one['parameters'] / 1e9:.2f}", memory,
        f"{one['ratio']:.2f}" if one["ratio"] else "–",
        f"{sum(one['collective_bytes'].values()) / 1e9:.1f}" if one["ratio"] else "–", times,
        f"{estimate['mfu_most']:.0%}" if estimate else "–", f"{one['compile_seconds']:.0f}",
    )  # fmt: skip


if __name__ == "__main__":
    gpus = sys.argv[1:] == ["gpus"]
    given = [] if gpus else [json.loads(Path(file).read_text()) for file in sys.argv[1:]]
    print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    for plans in given or (planned(*pod) for pod in (GPUS if gpus else PODS)):
        for one in plans:
            print("| " + " | ".join(row(one)) + " |", flush=True)
