#!/usr/bin/env bash
# sbatch --array=0-31 launch/prepare_slurm.sh DATASET SOURCE OUT [--size=HxW …]: a dataset prepared by 32 workers.
# sbatch --array=0-7 --gpus-per-task=1 --mem=64G launch/prepare_slurm.sh encode CONFIG OUT [--config.key=value …]: what a
# config's run encodes, by 8 workers with a GPU each.
# launch/prepare_slurm.sh --dry-run …: what a task of it would run.
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
  echo "       sbatch --array=0-7 --gpus-per-task=1 --mem=64G launch/prepare_slurm.sh [--dry-run] encode CONFIG OUT […]" >&2
  exit 2
fi
if [ "$1" = encode ]; then
  words=(encode --config "$2" --out "$3")
else
  words=(prepare "$1" --source "$2" --out "$3")
fi
shift 3
worker=${SLURM_ARRAY_TASK_ID:-0} workers=${SIGNER_WORKERS:-${SLURM_ARRAY_TASK_COUNT:-1}}
if [ "$worker" -ge "$workers" ]; then
  echo "launch: task $worker of $workers; number the array from 0, or say by SIGNER_WORKERS how many there are" >&2
  exit 2
fi
command=(python -m signer_jax "${words[@]}" --shard "$worker/$workers" "$@")
if [ -n "$dry" ]; then
  printf '%q ' "${command[@]}"
  echo
  exit
fi
# A task that is preempted or killed is queued again (--requeue) and keeps the parts that are whole.
exec "${command[@]}"
