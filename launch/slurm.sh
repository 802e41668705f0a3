#!/usr/bin/env bash
# sbatch --nodes=N launch/slurm.sh CONFIG WORKDIR [--config.key=value …]: one process a GPU.
# Nodes with G GPUs: sbatch --nodes=N --ntasks-per-node=G --gpus-per-node=G …
#SBATCH --job-name=signer
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --requeue
#SBATCH --open-mode=append
set -eu -o pipefail
if [ $# -lt 2 ]; then
  echo "usage: sbatch --nodes=N launch/slurm.sh CONFIG WORKDIR [--config.key=value …]" >&2
  exit 2
fi
config=$1 workdir=$2
shift 2
# jax reads SLURM's own variables; a preempted job is queued again and resumes from its last checkpoint.
export SIGNER_COORDINATOR=auto
exec srun --kill-on-bad-exit=1 python -m signer_jax train --config "$config" --workdir "$workdir" "$@"
