#!/usr/bin/env bash
# launch/tpu_vm.sh NAME CONFIG WORKDIR --zone Z --accelerator-type T --runtime-version V [options] [--config.key=value …]
#
# Trains on a TPU slice that is asked for as a queued resource: makes it where it is not there, installs this checkout on
# all of its workers, and starts the same command on each. A slice that is preempted is asked for anew, and the run
# resumes. WORKDIR lies in a bucket (gs://BUCKET/RUN), or on a file system that all workers share; --setup mounts it. Any bash from 3.2 on runs this.
#   --slices N (1: so many slices of that type, joined by the data centre's network: one run)
#   --project P    --spot    --setup COMMAND (on each worker, before every start)    --restarts N (100)
#   --profile STEPS (signer train's)    --env NAME=VALUE (of each process; as often as wanted)
#   --delete (the slice, when the run is done)    --dry-run (prints the commands, runs none)
set -eu -o pipefail
usage() {
  echo "usage: launch/tpu_vm.sh NAME CONFIG WORKDIR --zone Z --accelerator-type T --runtime-version V [--slices N]" >&2
  echo "       [--project P] [--spot] [--setup COMMAND] [--restarts N] [--profile STEPS] [--env NAME=VALUE] [--delete] [--dry-run] [--config.key=value …]" >&2
  exit 2
}
refuse() {
  echo "launch: $1" >&2
  exit 2
}
words=() goes_on=() spot=() place=() zone='' accelerator='' runtime='' setup=: restarts=100 slices=1 delete='' dry='' asked_for=''
while [ $# -gt 0 ]; do
  if [[ $1 == --*=* && $1 != --config.* && $1 != --profile=* ]]; then
    set -- "${1%%=*}" "${1#*=}" "${@:2}"
  fi
  case $1 in
    --config.* | --profile=*) goes_on+=("$1") ;; # train's own
    --spot) spot=(--spot) ;;
    --delete) delete=1 ;;
    --dry-run) dry=1 ;;
    --zone | --project | --accelerator-type | --runtime-version | --setup | --restarts | --slices | --profile | --env)
      [ $# -gt 1 ] || usage
      case $1 in
        --zone) zone=$2 ;;
        --project) place+=("--project=$2") ;;
        --accelerator-type) accelerator=$2 ;;
        --runtime-version) runtime=$2 ;;
        --setup) setup=$2 ;;
        --restarts) restarts=$2 ;;
        --slices) slices=$2 ;;
        --env)
          [[ $2 =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || refuse "--env $2: give NAME=VALUE"
          printf -v asked_for '%s %s=%q' "$asked_for" "${2%%=*}" "${2#*=}"
          ;;
        --profile) goes_on+=("--profile=$2") ;;
      esac
      shift
      ;;
    -*) refuse "$1: no such option; launch/README.md has them" ;;
    *) words+=("$1") ;;
  esac
  shift
done
[ ${#words[@]} -eq 3 ] && [ -n "$zone" ] && [ -n "$accelerator" ] && [ -n "$runtime" ] || usage
name=${words[0]} config=${words[1]} workdir=${words[2]}
[[ $restarts =~ ^[0-9]+$ ]] || refuse "--restarts $restarts: give a whole number"
[[ $slices =~ ^[1-9][0-9]*$ ]] || refuse "--slices $slices: give how many slices, 1 or more"
case $workdir in
  /* | gs://*) ;;
  *) refuse "$workdir: give WORKDIR as a full path on the file system that the workers share, or as gs://BUCKET/RUN" ;;
esac
for word in ${goes_on[@]+"${goes_on[@]}"}; do
  case $word in
    --config.*=/* | --config.*=gs://* | --config.*=) ;;
    --config.data.source=* | --config.data.encoded=* | --config.tokenizer.path=* | --config.*.init=* | --config.renderer.*_encoder=* | --config.compiled=*)
      refuse "$word: lies below ~/signer on a worker; give the full path on the file system that the workers share, or gs://…"
      ;;
  esac
done
place+=("--zone=$zone")
root=$(cd "$(dirname "$0")/.." && pwd)
queued=(gcloud compute tpus queued-resources)
vm=(gcloud compute tpus tpu-vm)
# A queued resource of several nodes names them NAME-0, NAME-1, …; what says to each which it is (MEGASCALE_*) its machines
# have as metadata, where jax and libtpu read it.
nodes=("$name") asks=("--node-id=$name")
if [ "$slices" -gt 1 ]; then
  nodes=() asks=("--node-count=$slices" "--node-prefix=$name")
  for ((i = 0; i < slices; i++)); do nodes+=("$name-$i"); done
fi

run() { # a command, or in a dry run its words
  if [ -n "$dry" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}
# The resource's state; NONE where there is none, UNKNOWN where gcloud cannot say (no network, an expired login).
state() {
  if "${queued[@]}" describe "$name" "${place[@]}" '--format=value(state.state)' 2>"$packed/error"; then return; fi
  if grep -q NOT_FOUND "$packed/error"; then
    echo NONE
  else
    cat "$packed/error" >&2
    echo UNKNOWN
  fi
}
# FUNCTION NODE WORD … for each slice, all at once; the first status that is not 0.
on_slices() {
  local node job code=0 jobs=()
  for node in "${nodes[@]}"; do
    if [ -n "$dry" ]; then
      "$1" "$node" "${@:2}"
    else
      "$1" "$node" "${@:2}" &
      jobs+=($!)
    fi
  done
  for job in ${jobs[@]+"${jobs[@]}"}; do
    wait "$job" || code=$((code ? code : $?))
  done
  return "$code"
}
# A slice that is gone is noticed after three minutes.
# shellcheck disable=SC2329 # `on_slices` calls it
ask() { run "${vm[@]}" ssh "$1" "${place[@]}" --worker=all --ssh-flag=-oServerAliveInterval=60 --command "$2"; }
on_workers() { on_slices ask "$1"; }

remove() {
  run "${queued[@]}" delete "$name" "${place[@]}" --force --quiet
}

create() {
  run "${queued[@]}" create "$name" "${asks[@]}" "--accelerator-type=$accelerator" "--runtime-version=$runtime" \
    ${spot[@]+"${spot[@]}"} "${place[@]}"
}

# Returns when the slice is there. One that was preempted or failed is deleted first: a queued resource is used once.
# What failed five times in a row (its type, its version, the quota, the login) is not asked for again.
ready() {
  if [ -n "$dry" ]; then
    echo "# until ACTIVE; where it is SUSPENDED or FAILED it is deleted and created again:"
    run "${queued[@]}" describe "$name" "${place[@]}" '--format=value(state.state)'
    return
  fi
  local now before='' failed=0
  while true; do
    now=$(state)
    [ "$now" = "$before" ] || echo "launch: the queued resource $name is $now" >&2
    before=$now
    [ "$now" = UNKNOWN ] || answered=1
    case $now in
      ACTIVE) return ;;
      NONE)
        anew=1
        create || failed=$((failed + 1))
        ;;
      SUSPENDED) remove || true ;;
      FAILED)
        failed=$((failed + 1))
        "${queued[@]}" describe "$name" "${place[@]}" '--format=yaml(state)' >&2 || true # why
        remove || true
        ;;
      UNKNOWN) [ -n "$answered" ] || failed=$((failed + 1)) ;; # later: the run goes on, and the network may come back
    esac
    if [ "$failed" -ge 5 ]; then
      echo "launch: there is no slice after $failed tries, for the reason above" >&2
      exit 1
    fi
    sleep "${SIGNER_POLL:-30}"
  done
}
answered='' anew=''
packed=$(mktemp -d)
trap 'rm -rf "$packed"' EXIT

# What a worker runs. The images' own Python is older than ours: uv brings one.
sent=$config
if [ -e "$root/configs/${config%%:*}.py" ] && [ "$config" = "${config%%/*}" ]; then
  : # a shipped one, by its name
elif [ -e "${config%%:*}" ]; then
  sent=own_$(basename "$config") # lies beside the package there
else
  refuse "$config: is neither a shipped config's name nor a file here; a file of your own goes along"
fi
install='mkdir -p signer && tar -xzf signer.tar.gz -C signer && cd signer && python3 -m pip install -q --user uv && '
install+='python3 -m uv venv -q --allow-existing --python 3.12 venv && python3 -m uv pip install -q --python venv ".[tpu,gcs]"'
printf -v train '%q ' venv/bin/python -m signer_jax train --config "$sent" --workdir "$workdir" ${goes_on[@]+"${goes_on[@]}"}
# One that is left of a start whose connection was lost saves and ends first; what does not is killed. The last lines say
# how it ended and whether it saved: of several workers ssh gives the code of one.
printf -v folder '%q' "$workdir"
# There is no repository on a worker. That around an unpacked archive is somebody else's.
commit=${SIGNER_COMMIT-}
if git -C "$root" ls-files --error-unmatch launch/tpu_vm.sh >"$packed/git" 2>&1; then
  commit=$(git -C "$root" describe --always --dirty --abbrev=40 '--exclude=*' || true)
fi
# What this launch alone knows: a slice that is asked for anew has other host names, and takes over what the one before held.
launched=$name-$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
printf -v tuned ' SIGNER_RUN=%q' "$launched"
# What has one meaning here and there (README, "Overlap"); others --env names.
if [ -n "$commit" ]; then printf -v tuned '%s SIGNER_COMMIT=%q' "$tuned" "$commit"; fi
for variable in LIBTPU_INIT_ARGS SIGNER_WAIT SIGNER_STUCK; do
  if [ -n "${!variable-}" ]; then printf -v tuned '%s %s=%q' "$tuned" "$variable" "${!variable}"; fi
done
tuned+=$asked_for
start="cd signer || exit
left() { grep -qs signer_jax \"/proc/\$(cat pid 2>/dev/null)/cmdline\"; }
if left; then
  kill -TERM \"\$(cat pid)\"
  for ((i = 0; i < ${SIGNER_GRACE:-600}; i++)); do if left; then sleep 1; else break; fi; done
  if left; then kill -KILL \"\$(cat pid)\"; sleep 5; fi
fi
saved() {
  case $folder in
    gs://*) gcloud storage ls $folder/checkpoints/*/*/commit_success.txt ;;
    *) ls -d $folder/checkpoints/*/* ;;
  esac 2>/dev/null | grep -E '/[0-9]+(/commit_success.txt)?\$'
}
before=\$(saved)
export SIGNER_COORDINATOR=auto JAX_COMPILATION_CACHE_DIR=$folder/compiled$tuned
${train}& echo \$! >pid; code=0; wait \$! || code=\$?
if [ \"\$(saved)\" != \"\$before\" ]; then echo signer-saved; fi
echo \"signer-ended-with \$code\"; exit \$code"
stop="kill -TERM \$(cat signer/pid)"

pack() {
  local own=()
  if [ "$sent" != "$config" ]; then
    cp "${config%%:*}" "$packed/${sent%%:*}"
    own=(-C "$packed" "${sent%%:*}")
  fi
  run tar -czf "$packed/signer.tar.gz" --exclude=__pycache__ -C "$root" pyproject.toml setup.py README.md LICENSE configs \
    signer_jax ${own[@]+"${own[@]}"}
}
# shellcheck disable=SC2329 # `on_slices` calls it
copy() { run "${vm[@]}" scp "$packed/signer.tar.gz" "$1:signer.tar.gz" "${place[@]}" --worker=all; }
send() { on_slices copy; }

asked='' woken=''
# Starts the run and follows it to its end, whatever signals come; its status.
follow() {
  local code=0
  (on_workers "$start" | tee "$packed/said") &
  while true; do
    woken='' code=0
    wait $! || code=$?
    [ -n "$woken" ] || return "$code"
  done
}

[ -z "$dry" ] || create
ready
anew='' idle=0
for ((tries = 0; ; tries++)); do
  status=0 limit=2
  rm -f "$packed/said"
  # shellcheck disable=SC2015 # one status of all
  pack && send && on_workers "$install" && on_workers "$setup" || status=$?
  if [ "$status" -eq 0 ]; then
    trap 'asked=1 woken=1; on_workers "$stop" || true' INT TERM
    follow || status=$?
    trap - INT TERM
  else
    limit=5 # a worker that is new may not be reached at once
  fi
  if [ -n "$dry$asked" ] || [ "$status" -eq 0 ]; then
    break
  fi
  if grep -qs 'signer-ended-with 2$' "$packed/said"; then
    status=2 # bad input, which would be as bad again
    break
  fi
  # Starts in a row that failed by themselves, or missed a worker (69; no 75, no signal, no lost connection), and saved no new
  # step.
  if grep -qs 'signer-saved$' "$packed/said"; then
    idle=0
  elif [ "$limit" -eq 5 ] || sed -n 's/.*signer-ended-with //p' "$packed/said" | grep -qvE '^(0|75|129|1[3-9].|2..)$'; then
    idle=$((idle + 1))
  fi
  if [ "$idle" -ge "$limit" ]; then
    echo "launch: $idle starts in a row failed and saved no new step; the last one ended with $status" >&2
    break
  fi
  [ "$tries" -lt "$restarts" ] || break
  echo "launch: the run ended with $status; it starts again from its last checkpoint" >&2
  sleep "${SIGNER_POLL:-30}"
  ready
  [ -z "$anew" ] || idle=0 # another slice
  anew=''
done
if [ -n "$delete" ] && [ "$status" -eq 0 ]; then
  remove
elif [ -z "$dry" ]; then
  echo "launch: the slice stays, and costs, until: ${queued[*]} delete $name ${place[*]} --force" >&2
fi
exit "$status"
