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
pids=() asked=''
end() { kill -KILL "${pids[@]}" 2>/dev/null || true; }
# The first TERM is passed on: all save after the same step and end with 75. Another one, or INT, ends them at once;
# checkpoints are whole at any moment.
stop() {
  if [ "$asked" ]; then end; else kill -TERM "${pids[@]}" 2>/dev/null || true; fi
  asked=1
}
trap 'end; exit 130' INT
trap stop TERM
for ((i = 0; i < processes; i++)); do
  SIGNER_COORDINATOR=127.0.0.1:$port SIGNER_PROCESSES=$processes SIGNER_PROCESS=$i \
    python -m signer_jax train --config "$config" --workdir "$workdir" "$@" &
  pids+=($!)
done
# Whoever fails first takes the others along: they would wait for it.
status=0 left=$processes
while [ "$left" -gt 0 ]; do
  code=0
  wait -n || code=$?
  if [ "$asked" ] && [ "$code" -eq 143 ]; then continue; fi # the signal itself, or a process that did not listen yet
  if [ "$code" -eq 127 ]; then status=143; break; fi # there were only such
  left=$((left - 1))
  if [ "$code" -ne 0 ]; then status=$code; end; break; fi
done
wait || true
exit "$status"
