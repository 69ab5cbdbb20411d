#!/usr/bin/env bash
# safetensors writes files that only their owner may read, whatever the umask.
#
# Expected: a file with the permissions that the umask leaves, as `open`, `torch.save` and `numpy.save` make it.
# Seen: with safetensors 0.8.0 and umask 022, `save_file` of safetensors.numpy leaves mode 0600, and replaces a file that
# was there with mode 0644 by one of 0600. numpy.save leaves 0644.
# Why it matters here: models are trained by one person and sampled by colleagues from a folder that all of them may read.
# The JSON files of a checkpoint could be read there, and its tensors could not.
# 2026-11-30, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'safetensors==0.8.0' 'numpy==2.4.1'
cat >"$folder/look.py" <<'PYTHON'
import os
import stat
import sys
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save_file

os.umask(0o022)
fresh, present, by_numpy = (Path(sys.argv[1]) / name for name in ("fresh.safetensors", "present.safetensors", "by.npy"))
present.touch()
for path in (fresh, present):
    save_file({"a": np.zeros(2, np.float32)}, path)
np.save(by_numpy, np.zeros(2, np.float32))
modes = [stat.S_IMODE(path.stat().st_mode) for path in (fresh, present, by_numpy)]
print(f"safetensors {safetensors.__version__}, umask 022: a new file %04o, one that was there with 0644 %04o; numpy.save %04o"
      % tuple(modes))
raise SystemExit(modes != [0o600, 0o600, 0o644])
PYTHON
"$folder/venv/bin/python" "$folder/look.py" "$folder"
