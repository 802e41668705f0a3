#!/usr/bin/env bash
# launch/local.sh CONFIG WORKDIR [PROCESSES] [--config.key=value …]: one or several processes on this machine.
set -eu -o pipefail
if [ $# -lt 2 ]; then
  echo "usage: launch/local.sh CONFIG WORKDIR [PROCESSES] [--config.key=value …]" >&2
  exit 2
fi
config=$1 workdir=$2
shift 2
processes=1
if [ $# -gt 0 ] && [[ $1 =~ ^[0-9]+$ ]]; then
  processes=$1
  shift
fi
if [ "$processes" -eq 1 ]; then
  exec python -m signer_jax train --config "$config" --workdir "$workdir" "$@"
fi

port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
pids=()
# KILL, since jax takes TERM for a notice of preemption; checkpoints are whole at any moment.
trap 'kill -KILL "${pids[@]}" 2>/dev/null || true' INT TERM
for ((i = 0; i < processes; i++)); do
  SIGNER_COORDINATOR=127.0.0.1:$port SIGNER_PROCESSES=$processes SIGNER_PROCESS=$i \
    python -m signer_jax train --config "$config" --workdir "$workdir" "$@" &
  pids+=($!)
done
# Whoever fails first takes the others along: they would wait for it.
status=0
for _ in "${pids[@]}"; do
  wait -n || { status=$?; kill -KILL "${pids[@]}" 2>/dev/null || true; break; }
done
wait || true
exit "$status"
