#!/usr/bin/env bash
# Makes a virtual environment and installs this package into it: install.sh VENV TARGET
# e.g. install.sh .venv '.[test]'. Uses uv where it is on the PATH, else venv and pip.
set -eu
venv=$1
target=$2
python=${PYTHON:-python3}

"$python" - <<'PY' || { echo "unilogit_jax needs Python 3.11 or newer; set PYTHON=/path/to/it" >&2; exit 2; }
import sys
sys.exit(sys.version_info < (3, 11))
PY

if command -v uv >/dev/null 2>&1; then
    # uv does not read pip's settings: hand on those that say where packages come from.
    setting() { "$python" -m pip config get "global.$1" 2>/dev/null | tr '\n' ' ' || true; }
    export UV_FIND_LINKS="${UV_FIND_LINKS:-${PIP_FIND_LINKS:-$(setting find-links)}}"
    export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-$(setting index-url)}}"
    [ -n "${UV_DEFAULT_INDEX// /}" ] || unset UV_DEFAULT_INDEX
    [ -n "${UV_FIND_LINKS// /}" ] || unset UV_FIND_LINKS
    export SSL_CERT_FILE="${SSL_CERT_FILE:-${PIP_CERT:-}}"
    [ -n "$SSL_CERT_FILE" ] || unset SSL_CERT_FILE
    [ -x "$venv/bin/python" ] || uv venv --quiet --python "$python" "$venv"
    uv pip install --quiet --python "$venv/bin/python" -e "$target"
else
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "$target"
fi
