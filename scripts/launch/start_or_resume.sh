#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What every process of a launch starts: goes on with the run in OUT if there is one, else begins it.
#
#   start_or_resume.sh VERB OUT CONFIG [key=value ...]     VERB: unlearn or finetune
#
# Python is $PYTHON, else the checkout's .venv, else python3. All processes choose alike: the run folder
# is made only after every one of them has joined, so after every one of them has looked for it.
set -euo pipefail

if [ $# -lt 3 ]; then
  echo "start_or_resume.sh VERB OUT CONFIG [key=value ...]" >&2
  exit 2
fi
verb=$1 out=${2%/}
shift 2

python=${PYTHON:-$(dirname "${BASH_SOURCE[0]}")/../../.venv/bin/python}
[ -n "${PYTHON:-}" ] || [ -x "$python" ] || python=python3

begun() {
  case $out in
    *://*) "$python" -c 'import sys, fsspec
fs, path = fsspec.url_to_fs(sys.argv[1])
print("yes" if fs.exists(path) else "no")' "$out/config.yaml" ;;
    *) if [ -e "$out/config.yaml" ]; then echo yes; else echo no; fi ;;
  esac
}

# An assignment of its own, so that a store that cannot be asked ends the script.
answer=$(begun)
# exec: signals reach the run itself, which saves and ends at SIGTERM.
if [ "$answer" = yes ]; then
  exec "$python" -m unilogit_jax "$verb" --resume "$out"
fi
exec "$python" -m unilogit_jax "$verb" --out "$out" "$@"
