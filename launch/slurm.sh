#!/usr/bin/env bash
# sbatch --nodes=N launch/slurm.sh CONFIG WORKDIR [--config.key=value …]: one process a GPU.
# Nodes with G GPUs: sbatch --nodes=N --ntasks-per-node=G --gpus-per-node=G …
# launch/slurm.sh --dry-run CONFIG WORKDIR …: what it would run.
# sbatch --signal=TERM@900 …: so many seconds before the time limit it is told to save (300).
# SIGNER_RESTARTS: how often a job is queued again (100).
#SBATCH --job-name=signer
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --mem=0
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@300
set -eu -o pipefail
dry=
if [ "${1-}" = --dry-run ]; then
  dry=1
  shift
fi
if [ $# -lt 2 ]; then
  echo "usage: sbatch --nodes=N launch/slurm.sh [--dry-run] CONFIG WORKDIR [--config.key=value …]" >&2
  exit 2
fi
config=$1 workdir=$2
shift 2
# Since 22.05 srun no longer takes what sbatch was asked for, and a task would have one CPU.
if [ -n "${SLURM_CPUS_PER_TASK-}" ]; then export SRUN_CPUS_PER_TASK="${SRUN_CPUS_PER_TASK:-$SLURM_CPUS_PER_TASK}"; fi
# jax reads SLURM's own variables.
export SIGNER_COORDINATOR=auto
# A job that is queued again keeps its number, and takes over what an earlier start of it held in a bucket; no other job
# does, nor a second run in one salloc, which has the first one's count.
if [ -n "${SLURM_JOB_ID-}" ]; then
  export SIGNER_RUN="slurm-${SLURM_CLUSTER_NAME:-cluster}-$SLURM_JOB_ID@${SLURM_RESTART_COUNT:-0}"
fi
# srun gives the highest exit code of all tasks, those that it killed for the failed one's sake too: a task whose input
# is bad (2) leaves a note, and so does one that fails by itself or misses another one (69; not with 75, by no signal). A task's shell waits for its process, which saves when TERM comes.
# Where programs that are compiled are kept for the next start.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$workdir/compiled}"
# The notes lie in WORKDIR, which all nodes may write; of a run in a bucket in the folder that the job runs in.
notes=$workdir
case $workdir in gs://*) notes=$PWD ;; esac
export SIGNER_REFUSED="$notes/.signer-refused-${SLURM_JOB_ID:-0}"
# shellcheck disable=SC2016 # the task's own
task='trap : TERM; code=0; python -m signer_jax train "$@" || code=$?
if [ "$code" -eq 2 ]; then : >"$SIGNER_REFUSED"; fi
if [ "$code" -ne 0 ] && [ "$code" -ne 75 ] && [ "$code" -le 128 ]; then : >"$SIGNER_REFUSED.failed"; fi
exit "$code"'
command=(srun --kill-on-bad-exit=1 bash -c "$task" signer --config "$config" --workdir "$workdir" "$@")
if [ -n "$dry" ]; then
  echo "export SIGNER_COORDINATOR=auto SIGNER_REFUSED=$(printf '%q' "$SIGNER_REFUSED")"
  if [ -n "${SLURM_JOB_ID-}" ]; then echo "export SIGNER_RUN=$(printf '%q' "$SIGNER_RUN")"; fi
  echo "export JAX_COMPILATION_CACHE_DIR=$(printf '%q' "$JAX_COMPILATION_CACHE_DIR")"
  printf '%q ' "${command[@]}"
  echo
  exit
fi
trap : TERM # of a job that is preempted: its tasks have it too, and are waited for
# The steps that are saved, which have numbers for names; in a bucket what a save writes last, as the run itself sees it.
# shellcheck disable=SC2010
saved() {
  case $workdir in
    gs://*) python -c 'import sys; from signer_jax.mirror import store; print(*store().glob(sys.argv[1]), sep="\n")' \
      "$workdir/checkpoints/*/*/commit_success.txt" ;;
    *) ls -d "$workdir"/checkpoints/*/* ;;
  esac 2>/dev/null | grep -E '/[0-9]+(/commit_success.txt)?$' || true
}
if ! { mkdir -p "$notes" && [ -w "$notes" ]; }; then
  echo "launch: $notes: cannot be written from $(hostname); give a WORKDIR (for a run in a bucket an sbatch --chdir) that the nodes may write" >&2
  exit 2
fi
rm -f "$SIGNER_REFUSED" "$SIGNER_REFUSED.failed" # of a start that was cut off
before=$(saved) status=0
"${command[@]}" || status=$?
if [ -e "$SIGNER_REFUSED" ]; then
  rm -f "$SIGNER_REFUSED" "$SIGNER_REFUSED".*
  exit 2
fi
# Twice in a row failed by itself, and no new step saved: it would be so again.
if [ -e "$SIGNER_REFUSED.failed" ] && [ "$(saved)" = "$before" ]; then
  rm -f "$SIGNER_REFUSED.failed"
  if [ -e "$SIGNER_REFUSED.idle" ]; then
    rm -f "$SIGNER_REFUSED.idle"
    echo "launch: the second start in a row ended with $status and saved no new step; the job is not queued again" >&2
    exit "$status"
  fi
  : >"$SIGNER_REFUSED.idle"
else
  rm -f "$SIGNER_REFUSED".*
fi
# Preempted, out of time (TERM comes 300 s before, or as --signal says) or failed: queued again, it resumes from its last checkpoint. Not where
# somebody stopped it: `scancel` sends the same TERM, and --no-requeue is an answer too.
job=
if [ "$status" -ne 0 ]; then job=$(scontrol show job "$SLURM_JOB_ID" || true); fi
if [[ $job =~ JobState=CANCELLED|Requeue=0 ]]; then
  echo "launch: the job was cancelled or may not be queued again; it ends, the same line resumes" >&2
elif [ "$status" -ne 0 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "${SIGNER_RESTARTS:-100}" ]; then
  echo "launch: the run ended with $status; the job is queued again" >&2
  scontrol requeue "$SLURM_JOB_ID" || true
fi
exit "$status"
