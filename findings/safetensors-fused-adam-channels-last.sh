#!/usr/bin/env bash
# An Adam(fused=True) of a channels-last network goes on wrongly from moments that were saved with safetensors.
#
# Expected: an optimizer whose state went through a file takes the same next step as one whose state did not.
# Seen: with safetensors 0.8.0, whose files keep shapes and no strides, and torch 2.15.0 the moments of a channels-last
# kernel come back contiguous. load_state_dict leaves them so, and the fused step walks parameter and moments in the order
# of memory: each weight moves by another weight's moment. There is no error; without fused=True the step is right.
# Why it matters here: a run that was resumed would have had other losses than one that was not. Moments get the strides of
# their parameters here when they are loaded.
# 2026-11-28, Linux, Python 3.11. Needs a package index; installs into a temporary folder (torch: some gigabytes).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile 'torch==2.15.0' 'safetensors==0.8.0' 'numpy==2.4.1'
cat >"$folder/look.py" <<'PYTHON'
import safetensors
import safetensors.torch
import torch


def through_a_file(optimizer: torch.optim.Optimizer) -> None:
    saved = optimizer.state_dict()
    flat = {f"{i}.{name}": value.contiguous() for i, values in saved["state"].items() for name, value in values.items()}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in safetensors.torch.load(safetensors.torch.save(flat)).items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})


def weights(fused: bool, with_file: bool) -> torch.Tensor:
    """After three steps, the state saved and loaded before the last, or not."""
    torch.manual_seed(0)
    kernel = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 8, 8)
    optimizer = torch.optim.Adam(kernel.parameters(), lr=0.1, fused=fused)
    for step in range(3):
        if with_file and step == 2:
            through_a_file(optimizer)
        optimizer.zero_grad()
        kernel(images).square().mean().backward()
        optimizer.step()
    return kernel.weight.detach()


off = {fused: (weights(fused, True) - weights(fused, False)).abs().max().item() for fused in (False, True)}
print(f"safetensors {safetensors.__version__}, torch {torch.__version__}, learning rate 0.1: largest difference of a")
print(f"weight after one step with loaded moments: {off[True]:.3f} fused, {off[False]:.6f} not fused")
raise SystemExit(not (off[True] > 0.05 and off[False] < 1e-6))
PYTHON
"$folder/venv/bin/python" "$folder/look.py"
