#!/usr/bin/env bash
# torch's FlopCounterMode counts no FLOPs at all for an nn.LSTM, and all of them for an nn.GRU.
#
# Expected: the counter sees the matrix products of both, forward and backward, or says that it does not.
# Seen: with torch 2.15.0 on a CPU an LSTM of 32 inputs and 64 units over 5 x 7 steps counts as 0 instead of 1,720,320, a
# GRU as 1,290,240, which is right. The LSTM is one operator of oneDNN there, for which the counter has no formula and says
# nothing; with torch.backends.mkldnn off its products are counted.
# Why it matters here: the report decoder and the critics of text are LSTMs. Their work would be missing from the share of the chip's peak that
# benchmarks/gpu_step.py states; it counts with the recurrent kernels off.
# 2026-11-28, Linux, Python 3.11. Needs a package index; installs into a temporary folder (torch: some gigabytes).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile 'torch==2.15.0' 'numpy==2.4.1'
cat >"$folder/look.py" <<'PYTHON'
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

BATCH, STEPS, INPUTS, UNITS = 5, 7, 32, 64


def counted(network: nn.Module) -> int:
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(BATCH, STEPS, INPUTS))
    return counter.get_total_flops()


def products(gates: int) -> int:
    """Two FLOPs for each weight and step."""
    return 2 * BATCH * STEPS * gates * UNITS * (INPUTS + UNITS)


lstm, gru = nn.LSTM(INPUTS, UNITS, batch_first=True), nn.GRU(INPUTS, UNITS, batch_first=True)
as_it_is, of_gru = counted(lstm), counted(gru)
with torch.backends.mkldnn.flags(enabled=False):
    without_onednn = counted(lstm)
print(f"torch {torch.__version__}: LSTM {as_it_is:,} of {products(4):,}, without oneDNN {without_onednn:,}")
print(f"GRU {of_gru:,} of {products(3):,}")
raise SystemExit(not ((as_it_is, without_onednn, of_gru) == (0, products(4), products(3))))
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/look.py"
