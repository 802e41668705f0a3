#!/usr/bin/env bash
# sbatch --array=0-31 launch/prepare_slurm.sh DATASET SOURCE OUT [--size=HxW …]: a dataset prepared by 32 workers.
# launch/prepare_slurm.sh --dry-run DATASET SOURCE OUT …: what a task of it would run.
# Some of them again: SIGNER_WORKERS=32 sbatch --array=3,17 launch/prepare_slurm.sh … (32 as at first).
#SBATCH --job-name=signer-prepare
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --requeue
#SBATCH --open-mode=append
set -eu -o pipefail
dry=
if [ "${1-}" = --dry-run ]; then
  dry=1
  shift
fi
if [ $# -lt 3 ]; then
  echo "usage: sbatch --array=0-31 launch/prepare_slurm.sh [--dry-run] DATASET SOURCE OUT [--size=HxW …]" >&2
  exit 2
fi
dataset=$1 source=$2 out=$3
shift 3
worker=${SLURM_ARRAY_TASK_ID:-0} workers=${SIGNER_WORKERS:-${SLURM_ARRAY_TASK_COUNT:-1}}
if [ "$worker" -ge "$workers" ]; then
  echo "launch: task $worker of $workers; number the array from 0, or say by SIGNER_WORKERS how many there are" >&2
  exit 2
fi
command=(python -m signer_jax prepare "$dataset" --source "$source" --out "$out" --shard "$worker/$workers" "$@")
if [ -n "$dry" ]; then
  printf '%q ' "${command[@]}"
  echo
  exit
fi
# A task that is preempted or killed is queued again (--requeue) and keeps the parts that are whole.
exec "${command[@]}"
