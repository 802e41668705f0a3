#!/usr/bin/env python3
"""launch/gke.py tpu|gpu NAME CONFIG WORKDIR --image I … [--dry-run] [--config.key=value …]: a run on GKE, as a JobSet.

Fills in `gke_tpu.yaml` or `gke_gpu.yaml` and gives it to kubectl; `--dry-run` prints it. Needs nothing but Python,
kubectl and a cluster that has the JobSet controller.
"""

import argparse
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from string import Template

PORT = 8482
# Chips that a node of a slice of several has; a slice with fewer is one node.
CHIPS = 4
# Of a config, what names a file or a folder.
PATHS = r"--config\.(data\.(source|encoded)|tokenizer\.path|.*\.init|renderer\..*_encoder|compiled)="
DNS = r"[a-z]([a-z0-9-]*[a-z0-9])?"  # of a name that becomes a part of host names


def main(arguments: list[str]) -> int:
    given, overrides = parse(arguments)
    try:
        text = jobset(given, overrides)
    except ValueError as error:
        print(f"launch: {error}", file=sys.stderr)
        return 2
    if given.dry_run:
        print(text, end="")
        return 0
    return subprocess.run(["kubectl", "apply", "-f", "-"], input=text, text=True).returncode


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="launch/gke.py",
        allow_abbrev=False,
        description="Trains on GKE.",
        epilog="--config.KEY=VALUE goes on to signer train.",
    )
    parser.add_argument("kind", choices=("tpu", "gpu"))
    parser.add_argument("name", help="of the JobSet: letters, digits and dashes, at most 40")
    parser.add_argument("config", help="a shipped config's name, or a file in the image or below --mount")
    parser.add_argument("workdir", help="a folder below --mount")
    parser.add_argument("--image", required=True, help="made with launch/Dockerfile.tpu or Dockerfile.gpu")
    parser.add_argument("--accelerator", required=True, help="the nodes' label: tpu-v6e-slice, nvidia-h100-80gb, …")
    parser.add_argument("--topology", help="of TPUs: 4x4, 4x4x4")
    parser.add_argument("--chips", type=int, help=f"of TPUs: chips a node has ({CHIPS})")
    parser.add_argument("--slices", type=int, help="of TPUs: how many slices of that topology (1)")
    parser.add_argument("--nodes", type=int, help="of GPUs: how many nodes (1)")
    parser.add_argument("--gpus", type=int, help="of GPUs: how many a node has (8)")
    volume = parser.add_mutually_exclusive_group(required=True)
    volume.add_argument(
        "--claim", help="a PersistentVolumeClaim that all nodes may write (ReadWriteMany), as Filestore's"
    )
    volume.add_argument("--bucket", help="a bucket, through Cloud Storage FUSE")
    parser.add_argument("--mount", default="/mnt/runs", help="where it lies in the pods (/mnt/runs)")
    parser.add_argument(
        "--service-account", default="default", help="of Kubernetes, which may use the bucket and gs:// (default)"
    )
    parser.add_argument("--spot", action="store_true", help="on spot nodes")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="a variable of each pod; as often as wanted"
    )
    parser.add_argument("--cpu", help="CPUs that a pod asks for (2 a device)")
    parser.add_argument("--memory", help="memory that a pod asks for (8Gi a device)")
    parser.add_argument(
        "--restarts", type=int, default=100, help="how often all pods are started again after a failure (100)"
    )
    parser.add_argument("--profile", type=int, metavar="STEPS", help="signer train's")
    parser.add_argument("--dry-run", action="store_true", help="print the JobSet, start nothing")
    given, rest = parser.parse_known_args(arguments)
    overrides = [one for one in rest if one.startswith("--config.")]
    if unknown := [one for one in rest if one not in overrides]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    own = {"tpu": {"topology": "", "chips": CHIPS, "slices": 1}, "gpu": {"nodes": 1, "gpus": 8}}
    for kind, defaults in own.items():
        for name, default in defaults.items():
            if kind != given.kind and getattr(given, name) is not None:
                parser.error(f"--{name} says nothing of {given.kind.upper()}s; leave it out, or start with {kind}")
            if getattr(given, name) is None:
                setattr(given, name, default)
    return given, overrides


def jobset(given: argparse.Namespace, overrides: list[str]) -> str:
    """The JobSet. Raises `ValueError` for what cannot be one."""
    if not re.fullmatch(DNS, given.name) or len(given.name) > 40:
        raise ValueError(f"{given.name}: give a name of at most 40 small letters, digits and dashes, a letter first")
    mount = given.mount.rstrip("/")
    if not mount.startswith("/") or not f"{given.workdir}/".startswith(f"{mount}/"):
        raise ValueError(f"{given.workdir}: lies not below {given.mount or '/'} (--mount), and would go with its pod")
    for word in overrides:
        if re.match(PATHS, word) and not re.match(r"[^=]*=(/|gs://|$)", word):
            raise ValueError(f"{word}: lies in the image; give the full path below --mount, or gs://…")
    nodes, devices = _tpus(given) if given.kind == "tpu" else (given.nodes, given.gpus)
    slices = given.slices if given.kind == "tpu" else 1
    if min(nodes, devices, slices) < 1 or given.restarts < 0:
        raise ValueError("nodes, devices and slices are at least 1, restarts at least 0")
    if slices > 1 and nodes == 1:
        raise ValueError(f"--slices {slices}: GKE joins slices of several nodes; {given.topology} is one")
    command = ["train", "--config", given.config, "--workdir", given.workdir, *overrides]
    if given.profile is not None:
        command.append(f"--profile={given.profile}")
    if given.claim:
        volume, annotations = {"persistentVolumeClaim": {"claimName": given.claim}}, {}
    else:
        options = "implicit-dirs,uid=1000,gid=1000,rename-dir-limit=100000"
        attributes = {"bucketName": given.bucket, "mountOptions": options}
        volume = {"csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes}}
        annotations = {"gke-gcsfuse/volumes": "true"}
    (source, where), *_ = volume.items()
    template = (Path(__file__).parent / f"gke_{given.kind}.yaml").read_text(encoding="utf-8")
    environment = _variables(given.env, template)
    values = {
        "name": given.name, "image": given.image, "args": command, "mount": mount, "annotations": annotations,
        "accelerator": given.accelerator, "topology": given.topology, "nodes": nodes, "devices": devices,
        "restarts": given.restarts, "processes": str(nodes), "slices": slices,
        "account": given.service_account,
        "cpu": given.cpu or str(2 * devices), "memory": given.memory or f"{8 * devices}Gi",
        "compiled": environment.pop("JAX_COMPILATION_CACHE_DIR", f"{given.workdir.rstrip('/')}/compiled"),
        "coordinator": f"{given.name}-workers-0-0.{given.name}:{PORT}",
    }  # fmt: skip
    # JSON is YAML: whatever a value holds, it is one value.
    filled = {name: json.dumps(value) for name, value in values.items()}
    filled["volume"] = f"{source}: {json.dumps(where)}"
    spot = "cloud.google.com/gke-spot"
    tolerated = {"key": spot, "operator": "Exists", "effect": "NoSchedule"}
    filled["spot"] = f'\n{" " * 16}{spot}: "true"' if given.spot else ""
    filled["tolerated"] = f"\n{' ' * 16}- {json.dumps(tolerated)}" if given.spot else ""
    items = (json.dumps({"name": name, "value": value}) for name, value in environment.items())
    filled["environment"] = "".join(f"\n{' ' * 20}- {item}" for item in items)
    return Template(template).substitute(filled)


def _variables(given: list[str], template: str) -> dict[str, str]:
    """Of `--env`, by name."""
    own = set(re.findall(r"- name: ([A-Z_]+)$", template, re.MULTILINE)) - {"JAX_COMPILATION_CACHE_DIR"}
    found = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise ValueError(f"--env {word}: give NAME=VALUE")
        if name in own:
            raise ValueError(f"--env {word}: the JobSet sets {name} itself; leave it out")
        found[name] = value
    return found


def _tpus(given: argparse.Namespace) -> tuple[int, int]:
    """Nodes of the slice, and the chips of each."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", given.topology):
        raise ValueError(
            f"--topology {given.topology or '(none)'}: give the slice's shape in chips, such as 4x4 or 4x4x4"
        )
    chips = math.prod(map(int, given.topology.split("x")))
    each = min(chips, given.chips)
    if each < 1 or chips % each:
        raise ValueError(
            f"--topology {given.topology}: {chips} chips do not divide among nodes of {given.chips} (--chips)"
        )
    return chips // each, each


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
