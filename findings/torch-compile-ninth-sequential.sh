#!/usr/bin/env bash
# Of more than eight nn.Sequential that are compiled one by one, only the first eight are.
#
# Expected: `network.compile()` compiles that network; its limit of recompilations is for one function that meets ever other
# inputs.
# Seen: with torch 2.15.0 twelve nn.Sequential of different lengths, each compiled by itself and called once with the same
# input, make eight graphs. All of them are one piece of code to Dynamo, which counts the ninth as a ninth recompilation of
# the first; it warns in its log once, and the other four run eagerly from then on.
# Why it matters here: critics and the DenseNet are chains of nn.Sequential; compiled stage by stage most would have run
# eagerly, and "compiled" would have been measured no faster. benchmarks/gpu_step.py raises the limit.
# 2026-11-28, Linux, Python 3.11. Needs a package index; installs into a temporary folder (torch: some gigabytes).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile 'torch==2.15.0' 'numpy==2.4.1'
cat >"$folder/look.py" <<'PYTHON'
import torch
from torch import nn

NUM = 12
graphs = 0


def count(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]):
    global graphs
    graphs += 1
    return graph.forward


def compiled() -> int:
    """Graphs that twelve chains make, each called once."""
    global graphs
    graphs = 0
    torch._dynamo.reset()
    for length in range(1, NUM + 1):
        chain = nn.Sequential(*(nn.ReLU() for _ in range(length)))
        chain.compile(backend=count)
        chain(torch.ones(2, 4))
    return graphs


before = compiled()
torch._dynamo.config.recompile_limit = 64
after = compiled()
print(f"torch {torch.__version__}: of {NUM} nn.Sequential {before} are compiled; with recompile_limit=64: {after}")
raise SystemExit(not (before == 8 and after == NUM))
PYTHON
"$folder/venv/bin/python" "$folder/look.py" 2>/dev/null
