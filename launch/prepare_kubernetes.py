#!/usr/bin/env python3
"""launch/prepare_kubernetes.py NAME DATASET SOURCE OUT --workers N --image I … [--dry-run] [--size=HxW …]: a dataset
prepared by N workers, as an indexed Job.

Gives it to kubectl; `--dry-run` prints it. Needs nothing but Python, kubectl and a cluster (Kubernetes 1.29 or newer).
"""

import argparse
import json
import re
import subprocess
import sys
from typing import Any

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
        description="Prepares a dataset on a cluster.",
        epilog="Other flags, as --size=256x256, go on to signer prepare.",
    )
    parser.add_argument("name", help="of the Job: letters, digits and dashes, at most 40")
    parser.add_argument("dataset", help="as signer prepare names it")
    parser.add_argument("source", help="a folder below --mount")
    parser.add_argument("out", help="a folder below --mount")
    parser.add_argument("--workers", type=int, required=True, help="how many pods there are")
    parser.add_argument("--at-once", type=int, help="how many of them at a time (all)")
    parser.add_argument("--image", required=True, help="made with launch/Dockerfile.tpu or Dockerfile.gpu")
    parser.add_argument(
        "--claim", required=True, help="a PersistentVolumeClaim that all pods may write (ReadWriteMany)"
    )
    parser.add_argument("--mount", default="/mnt/data", help="where it lies in the pods (/mnt/data)")
    parser.add_argument("--restarts", type=int, default=20, help="how often each pod is started again (20)")
    parser.add_argument("--dry-run", action="store_true", help="print the Job, start nothing")
    given, rest = parser.parse_known_args(arguments)
    if unknown := [one for one in rest if not one.startswith("--") or one.startswith("--shard")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)} (a flag's value stands behind a =)")
    return given, rest


def job(given: argparse.Namespace, rest: list[str]) -> dict[str, Any]:
    """The Job. Raises `ValueError` for what cannot be one."""
    if not re.fullmatch(DNS, given.name) or len(given.name) > 40:
        raise ValueError(f"{given.name}: give a name of at most 40 small letters, digits and dashes, a letter first")
    mount = given.mount.rstrip("/")
    for path in (given.source, given.out):
        if not mount.startswith("/") or not f"{path}/".startswith(f"{mount}/"):
            raise ValueError(f"{path}: lies not below {given.mount or '/'} (--mount), and would go with its pod")
    at_once = given.workers if given.at_once is None else given.at_once
    if min(given.workers, at_once) < 1 or given.restarts < 0:
        raise ValueError("workers are at least 1, restarts at least 0")
    words = ["prepare", given.dataset, "--source", given.source, "--out", given.out, *rest]
    shard = ["--shard", f"$({INDEX})/{given.workers}"]  # which Kubernetes fills in
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    container = {
        "name": "signer", "image": given.image, "args": [*(word.replace("$(", "$$(") for word in words), *shard],
        "env": [{"name": INDEX, "valueFrom": {"fieldRef": {"fieldPath": index}}}],
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
        "volumeMounts": [{"name": "data", "mountPath": mount}],
    }  # fmt: skip
    # Bad input (2) is bad for all; of anything else a pod starts again, and keeps the parts that are whole.
    refused = {"action": "FailJob", "onExitCodes": {"containerName": "signer", "operator": "In", "values": [2]}}
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": given.name},
        "spec": {
            "completionMode": "Indexed", "completions": given.workers, "parallelism": at_once,
            "backoffLimitPerIndex": given.restarts, "podFailurePolicy": {"rules": [refused]},
            "template": {"spec": {
                "restartPolicy": "Never", "containers": [container],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": given.claim}}],
            }},
        },
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
