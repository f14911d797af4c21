#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs, runs, stops on every worker of a Cloud TPU slice, by gcloud's ssh; see docs/launching.md.
set -euo pipefail

usage() {
  cat <<'TEXT'
tpu_pod.sh [options] ACTION TPU ZONE ...

  install TPU ZONE                             this checkout, on every worker
  run     TPU ZONE OUT CONFIG [key=value ...]  begins the run in OUT, or goes on with it
  stop    TPU ZONE                             the run saves and ends
  fetch   TPU ZONE OUT [FOLDER]                report.html and summary.json, into FOLDER (default: .)
  each    TPU ZONE COMMAND                     a command of yours, on every worker

OUT is on storage that all workers share: an absolute path of a mounted volume, or a gs:// URL.
CONFIG is a packaged name, a path on the workers, or a file here, which is copied to them.

  --dry-run       prints the commands, calls nothing
  --project P     of Google Cloud
  --verb finetune run this instead of unlearn
  --flag FLAG     one more flag for gcloud's ssh and scp, such as --internal-ip; may be repeated
  -h, --help
TEXT
}

wrong() {
  echo "tpu_pod.sh: $1" >&2
  exit 2
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$(dirname "$here")")
# shellcheck source=scripts/launch/_quote.sh
. "$here/_quote.sh"

do_or_show() {
  if [ "$dry" = yes ]; then quote "$@"; else "$@"; fi
}

on_every_worker() {
  do_or_show gcloud compute tpus tpu-vm ssh "$tpu" "${flags[@]}" --worker=all --command="$1"
}

to_every_worker() {
  do_or_show gcloud compute tpus tpu-vm scp "$1" "$tpu:$2" "${flags[@]}" --worker=all
}

install() {
  local archive=$root/build/unilogit_jax.tar.gz
  do_or_show mkdir -p "$root/build"
  do_or_show tar --exclude=__pycache__ -czf "$archive" -C "$root" \
    pyproject.toml README.md LICENSE unilogit_jax configs scripts
  to_every_worker "$archive" unilogit_jax.tar.gz
  # uv brings a Python of its own: that of a TPU image may be too old.
  # shellcheck disable=SC2016  # expanded on the workers
  on_every_worker 'set -e; export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
mkdir -p unilogit_jax && cd unilogit_jax
rm -rf unilogit_jax configs scripts && tar -xzf ../unilogit_jax.tar.gz
uv python install --quiet 3.12
PYTHON=$(uv python find 3.12) scripts/install.sh .venv ".[tpu,gcs]"'
}

run() {
  [ $# -ge 2 ] || wrong "run TPU ZONE OUT CONFIG [key=value ...]"
  local out=$1 config=$2 start
  shift 2
  shared "$out"
  if [ -f "$config" ]; then
    to_every_worker "$config" unilogit_jax.yaml
    config=unilogit_jax.yaml
  fi
  start=$(quote unilogit_jax/scripts/launch/start_or_resume.sh "$verb" "$out" "$config" "$@")
  # nohup: the run outlives this connection, which only follows its log.
  on_every_worker "if [ -e unilogit_jax.pid ] && kill -0 \"\$(cat unilogit_jax.pid)\" 2>/dev/null; then
  echo 'a run is going on here already: stop it first' >&2; exit 2
fi
: >unilogit_jax.log
nohup $start >>unilogit_jax.log 2>&1 </dev/null &
echo \$! >unilogit_jax.pid
tail -n +1 -f --pid=\$! unilogit_jax.log
wait \$!"
}

stop() {
  # shellcheck disable=SC2016  # expanded on the workers
  on_every_worker 'kill -TERM "$(cat unilogit_jax.pid)"'
}

fetch() {
  [ $# -ge 1 ] && [ $# -le 2 ] || wrong "fetch TPU ZONE OUT [FOLDER]"
  local out=${1%/} folder=${2:-.}
  shared "$out"
  do_or_show mkdir -p "$folder"
  case $out in
    gs://*) do_or_show gcloud storage cp "$out/report.html" "$out/summary.json" "$folder/" ;;
    *) do_or_show gcloud compute tpus tpu-vm scp "$tpu:$out/report.html" "$tpu:$out/summary.json" \
      "$folder/" "${flags[@]}" --worker=0 ;;
  esac
}

shared() {
  case $1 in
    /* | *://*) ;;
    *) wrong "OUT is '$1'; it has to be a folder that all workers share: /mounted/path or gs://..." ;;
  esac
}

dry=no verb=unlearn project="" extra=()
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry=yes ;;
    --project | --verb | --flag)
      [ $# -ge 2 ] || wrong "$1 wants a value"
      case $1 in
        --project) project=$2 ;;
        --verb) verb=$2 ;;
        --flag) extra+=("$2") ;;
      esac
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    -*) wrong "unknown option '$1'; see --help (options come before the action)" ;;
    *) break ;;
  esac
  shift
done

[ $# -ge 3 ] || wrong "wants an action, a TPU and its zone; see --help"
action=$1 tpu=$2
flags=(--zone="$3" ${project:+--project="$project"} ${extra[@]+"${extra[@]}"})
shift 3
case $action in
  install | run | stop | fetch) "$action" "$@" ;;
  each)
    [ $# -eq 1 ] || wrong "each TPU ZONE COMMAND: quote the command, it is one word"
    on_every_worker "$1"
    ;;
  *) wrong "unknown action '$action': install, run, stop, fetch or each" ;;
esac
