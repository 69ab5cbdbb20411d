#!/usr/bin/env bash
# torch-fidelity and radgraph install their own tests as a top-level package `tests`, over each other's.
#
# Expected: an installed package brings modules of its own name alone; `import tests` finds nothing, or one's own folder.
# Seen: the wheels of torch-fidelity 0.4.0 and of radgraph 0.1.18 hold files under tests/, which go to site-packages.
# `import tests` finds them wherever the working directory is not first on the path, as in the workers of Ray, SLURM
# launchers and `pytest --import-mode=importlib`; both bring tests/__init__.py, so that one replaces the other's.
# Why it matters here: functions of this repository's tests could not be unpickled in Ray's workers ("No module named
# 'tests.data'"), and Ray Data tried such a read again 573 times in ten minutes. `tests` is a regular package now.
# 2026-11-28, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps 'torch-fidelity==0.4.0' 'radgraph==0.1.18'
cat >"$folder/look.py" <<'PYTHON'
from importlib.metadata import distribution
from importlib.util import find_spec

counts = {}
for name in ("torch-fidelity", "radgraph"):
    found = distribution(name)
    counts[name] = sum(file.parts[0] == "tests" for file in found.files or ())
    print(f"{name} {found.version}: {counts[name]} files under the top-level folder tests")
spec = find_spec("tests")
print("import tests finds:", "nothing" if spec is None else "a package in site-packages")
raise SystemExit(not (all(counts.values()) and spec is not None and "site-packages" in str(spec.origin)))
PYTHON
cd "$folder" && "$folder/venv/bin/python" "$folder/look.py"
