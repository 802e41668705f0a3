#!/usr/bin/env bash
# launch/local.sh [--dry-run] CONFIG WORKDIR [PROCESSES] [--config.key=value …]: one or several processes on this machine.
# SIGNER_RESTARTS: how often a run that was stopped or killed is started again (3).
set -eu -o pipefail
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "launch: bash $BASH_VERSION is too old; put 4.4 or newer first on PATH (on a Mac: brew install bash)" >&2
  exit 2
fi
dry=
if [ "${1-}" = --dry-run ]; then
  dry=1
  shift
fi
if [ $# -lt 2 ]; then
  echo "usage: launch/local.sh [--dry-run] CONFIG WORKDIR [PROCESSES] [--config.key=value …]" >&2
  exit 2
fi
config=$1 workdir=$2
shift 2
processes=1
if [ $# -gt 0 ] && [[ $1 =~ ^[1-9][0-9]*$ ]]; then
  processes=$1
  shift
fi
command=(python -m signer_jax train --config "$config" --workdir "$workdir" "$@")

free_port() { python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# The variables of process $1: which one it is.
variables() {
  if [ "$processes" -gt 1 ]; then
    echo "SIGNER_COORDINATOR=127.0.0.1:$port SIGNER_PROCESSES=$processes SIGNER_PROCESS=$1"
  fi
}

if [ -n "$dry" ]; then
  [ "$processes" -eq 1 ] || port=$(free_port)
  for ((i = 0; i < processes; i++)); do
    echo "$(variables "$i")${port:+ }$(printf '%q ' "${command[@]}")"
  done
  exit
fi

# TERM goes on to the processes, which save and exit with 75. Of several that are interrupted one may wait for another,
# so these are killed: checkpoints are whole at any moment.
pids=() asked='' interrupted=''
send() { kill -"$1" ${pids[@]+"${pids[@]}"} 2>/dev/null || true; }
pass_on() {
  if [ -z "$interrupted" ]; then send TERM; elif [ "$processes" -eq 1 ]; then send INT; else send KILL; fi
}
trap 'asked=1; pass_on' TERM HUP
trap 'asked=1 interrupted=1; pass_on' INT

# Starts all processes and waits for them; `status` is that of the first that fails, which takes the others along: they
# would wait for it. They are looked at twice a second: `wait -n` misses one that has ended before it begins to wait.
train() {
  local i code pid running
  pids=() status=0
  [ "$processes" -eq 1 ] || port=$(free_port)
  set -m # else they would ignore INT
  for ((i = 0; i < processes; i++)); do
    # shellcheck disable=SC2046 # one word a variable
    env $(variables "$i") "${command[@]}" &
    pids+=($!)
  done
  set +m
  [ -z "$asked" ] || pass_on # a signal that came before they were known
  local left=("${pids[@]}")
  while [ "${#left[@]}" -gt 0 ]; do
    running=()
    for pid in "${left[@]}"; do
      if kill -0 "$pid" 2>/dev/null; then
        running+=("$pid")
        continue
      fi
      code=0
      wait "$pid" || code=$?
      if [ "$code" -ne 0 ] && [ "$status" -eq 0 ]; then
        status=$code
        [ -n "$asked" ] || send KILL
      fi
    done
    left=(${running[@]+"${running[@]}"})
    [ "${#left[@]}" -eq 0 ] || sleep .5 || true # which Ctrl-C ends too
  done
}

for ((again = ${SIGNER_RESTARTS:-3}; ; again--)); do
  train
  [ -z "$interrupted" ] || exit 130
  # 75: it has saved and wants to go on; 69: one of its processes is gone or hung; above 128: a signal ended it. Whatever
  # else fails would fail once more.
  if [ -n "$asked" ] || [ "$again" -le 0 ] || { [[ ! $status =~ ^(69|75)$ ]] && [ "$status" -le 128 ]; } || [ "$status" -eq 130 ]; then
    exit "$status"
  fi
  echo "launch: the run ended with $status and starts again from its last checkpoint" >&2
done
