#!/bin/sh
# Creates or updates ./.venv: Python 3.11 to 3.13, the pinned requirements.lock, and this project, editable.
#   sh scripts/environment.sh           everything: tests, checks and documentation too
#   sh scripts/environment.sh usable    what the commands need
# Uses uv if it is on PATH; otherwise pip installs uv into the new environment. Needs no root. Can be interrupted and
# rerun: installed packages stay, and the environment counts as finished only once the caller's stamp file is written.
set -eu
cd "$(dirname "$0")/.."

fail() {
    printf 'environment: %s\n' "$*" >&2
    exit 1
}

suits() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" || fail "PYTHON=$PYTHON is not a working Python of 3.11 to 3.13."
        command -v "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        if suits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python of 3.11 to 3.13 on PATH (python3 is $(python3 --version 2>/dev/null || echo absent)). \
Install one (Debian: apt install python3 python3-venv), or name one: make PYTHON=/path/to/python3.12"
}

make_venv() {
    python=$(find_python)
    if command -v uv >/dev/null 2>&1; then
        uv venv --quiet --clear --python "$python" .venv
        return
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python cannot make environments with pip, and uv is not on PATH. \
Install either: apt install python3-venv, or uv."
    "$python" -m venv --clear .venv
}

find_uv() {
    if command -v uv >/dev/null 2>&1; then
        echo uv
        return
    fi
    [ -x .venv/bin/uv ] || .venv/bin/python -m pip install --quiet uv >&2 ||
        fail "pip could not install uv. Check that this machine reaches a package index."
    echo .venv/bin/uv
}

suits .venv/bin/python || make_venv
uv=$(find_uv)
# Compile now: where PYTHONDONTWRITEBYTECODE is set, as in many containers, each of Ray's processes would otherwise
# spend about ten seconds compiling its imports.
if [ "${1:-}" = usable ]; then
    "$uv" pip install --compile-bytecode --python .venv/bin/python --constraint requirements.lock --editable '.[dicom,web,hub]'
else
    "$uv" pip install --compile-bytecode --python .venv/bin/python --no-deps --requirement requirements.lock
    "$uv" pip install --python .venv/bin/python --no-deps --editable .
fi
