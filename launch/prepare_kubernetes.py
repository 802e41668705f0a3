#!/usr/bin/env python3
"""launch/prepare_kubernetes.py NAME DATASET SOURCE OUT --workers N --image I … [--dry-run] [--size=HxW …]: a dataset
prepared by N workers, as an indexed Job; and NAME encode CONFIG OUT … --accelerator A [--config.key=value …]: what a
config's run encodes, by N workers with an accelerator each.

Gives it to kubectl; `--dry-run` prints it. Needs nothing but Python, kubectl and a cluster (Kubernetes 1.29 or newer).
"""

import argparse
import json
import re
import subprocess
import sys
from typing import Any

# Values of a config that are paths.
PATHS = r"--config\.(data\.(source|encoded)|tokenizer\.path|.*\.init|renderer\..*_encoder)="
BUCKETS = "gs://|s3://"
DNS = r"[a-z]([a-z0-9-]*[a-z0-9])?"  # of a name that becomes a part of host names
INDEX = "SIGNER_WORKER"


def main(arguments: list[str]) -> int:
    given, rest = parse(arguments)
    try:
        text = json.dumps(job(given, rest), indent=2) + "\n"  # JSON is YAML: whatever a value holds, it is one value
    except ValueError as error:
        print(f"launch: {error}", file=sys.stderr)
        return 2
    if given.dry_run:
        print(text, end="")
        return 0
    return subprocess.run(["kubectl", "apply", "-f", "-"], input=text, text=True).returncode


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="launch/prepare_kubernetes.py",
        allow_abbrev=False,
        description="Prepares a dataset on a cluster, or encodes what a run would.",
        epilog="Other flags, as --size=256x256 or --config.data.source=/mnt/data/set, go on to signer.",
    )
    parser.add_argument("name", help="of the Job: letters, digits and dashes, at most 40")
    parser.add_argument("dataset", help="as signer prepare names it, or encode")
    parser.add_argument(
        "source",
        help="a folder below --mount, or gs://BUCKET/FOLDER, or s3://…; of encode a config, as signer train has it",
    )
    parser.add_argument("out", help="the same")
    parser.add_argument("--workers", type=int, required=True, help="how many pods there are")
    parser.add_argument("--at-once", type=int, help="how many of them at a time (all)")
    parser.add_argument("--image", required=True, help="made with launch/Dockerfile.tpu or Dockerfile.gpu")
    parser.add_argument(
        "--claim", required=True, help="a PersistentVolumeClaim that all pods may write (ReadWriteMany)"
    )
    parser.add_argument("--mount", default="/mnt/data", help="where it lies in the pods (/mnt/data)")
    parser.add_argument("--service-account", help="of Kubernetes, which may use the bucket")
    parser.add_argument("--secret", help="of Kubernetes, with AWS_ACCESS_KEY_ID and the like as its keys, for s3://")
    parser.add_argument("--restarts", type=int, default=20, help="how often each pod is started again (20)")
    parser.add_argument("--accelerator", help="of encode: GKE's name of a GPU or of a TPU slice of one node")
    parser.add_argument("--devices", type=int, default=1, help="of encode: GPUs or chips of a pod (1)")
    parser.add_argument("--topology", help="of encode on TPUs: the slice's, such as 2x2")
    parser.add_argument("--cpu", help="CPUs that a pod asks for (2; of encode 8)")
    parser.add_argument("--memory", help="memory that a pod has (4Gi; of encode 64Gi)")
    parser.add_argument("--dry-run", action="store_true", help="print the Job, start nothing")
    given, rest = parser.parse_known_args(arguments)
    if unknown := [one for one in rest if not one.startswith("--") or one.startswith("--shard")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)} (a flag's value stands behind a =)")
    return given, rest


def job(given: argparse.Namespace, rest: list[str]) -> dict[str, Any]:
    """The Job. Raises `ValueError` for what cannot be one."""
    if not re.fullmatch(DNS, given.name) or len(given.name) > 40:
        raise ValueError(f"{given.name}: give a name of at most 40 small letters, digits and dashes, a letter first")
    mount, encode = given.mount.rstrip("/"), given.dataset == "encode"
    for path in (given.out,) if encode else (given.source, given.out):
        if re.match(BUCKETS, path):
            continue
        if not mount.startswith("/") or not f"{path}/".startswith(f"{mount}/"):
            raise ValueError(f"{path}: lies not below {given.mount or '/'} (--mount), and would go with its pod")
    at_once = given.workers if given.at_once is None else given.at_once
    if min(given.workers, at_once) < 1 or given.restarts < 0:
        raise ValueError("workers are at least 1, restarts at least 0")
    if not encode and (given.accelerator or given.topology):
        raise ValueError(f"--accelerator: {given.dataset} is prepared without; it is for encode")
    for word in rest:
        several = word.partition("=")[2].split(",") if re.match(PATHS, word) else []
        if any(one and not re.match(rf"\s*(/|{BUCKETS})", one) for one in several):
            raise ValueError(f"{word}: lies in the image; give the full path below --mount, or gs://… or s3://…")
    words = ["prepare", given.dataset, "--source", given.source, "--out", given.out, *rest]
    if encode:
        words = ["encode", "--config", given.source, "--out", given.out, *rest]
    memory = given.memory or ("64Gi" if encode else "4Gi")
    shard = ["--shard", f"$({INDEX})/{given.workers}"]  # which Kubernetes fills in
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    container: dict[str, Any] = {
        "name": "signer", "image": given.image, "args": [*(word.replace("$(", "$$(") for word in words), *shard],
        "env": [{"name": INDEX, "valueFrom": {"fieldRef": {"fieldPath": index}}}],
        "resources": {
            "requests": {"cpu": given.cpu or ("8" if encode else "2"), "memory": memory}, "limits": {"memory": memory}
        },
        "volumeMounts": [{"name": "data", "mountPath": mount}],
    }  # fmt: skip
    pod: dict[str, Any] = {
        "restartPolicy": "Never", "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": given.claim}}],
    }  # fmt: skip
    if given.service_account:
        pod["serviceAccountName"] = given.service_account
    if given.secret:
        container["envFrom"] = [{"secretRef": {"name": given.secret}}]
    if given.accelerator:
        _accelerated(pod, given.accelerator, given.devices, given.topology)
    # Bad input (2) is bad for all; of anything else a pod starts again, and keeps the parts that are whole.
    refused = {"action": "FailJob", "onExitCodes": {"containerName": "signer", "operator": "In", "values": [2]}}
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": given.name},
        "spec": {
            "completionMode": "Indexed", "completions": given.workers, "parallelism": at_once,
            "backoffLimitPerIndex": given.restarts, "podFailurePolicy": {"rules": [refused]},
            "template": {"spec": pod},
        },
    }  # fmt: skip


def _accelerated(pod: dict[str, Any], accelerator: str, devices: int, topology: str | None) -> None:
    """Gives a pod a node's accelerators, as `gke.py` does. Raises `ValueError` where they cannot be so."""
    tpu = accelerator.startswith("tpu")
    if devices < 1 or tpu != bool(topology):
        raise ValueError(
            f"--accelerator {accelerator}: a TPU has a --topology, a GPU none, and --devices are at least 1"
        )
    resource, (container,) = "google.com/tpu" if tpu else "nvidia.com/gpu", pod["containers"]
    container["resources"]["limits"][resource] = devices
    selector = {"cloud.google.com/gke-tpu-accelerator": accelerator, "cloud.google.com/gke-tpu-topology": topology}
    pod["nodeSelector"] = selector if tpu else {"cloud.google.com/gke-accelerator": accelerator}
    pod["tolerations"] = [{"key": resource, "operator": "Exists", "effect": "NoSchedule"}]
    if not tpu:  # where GKE puts the node's driver
        container["env"].append({"name": "LD_LIBRARY_PATH", "value": "/usr/local/nvidia/lib64"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
