"""What is restored of a checkpoint is a copy of it."""

from pathlib import Path

import pytest
import torch

from emixer.checkpoint import OPTIMIZER, save_checkpoint
from emixer.training.state import load_moments, moments_of


def adam() -> torch.optim.Adam:
    parameter = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    optimizer = torch.optim.Adam([parameter], fused=True)
    parameter.square().sum().backward()
    optimizer.step()
    return optimizer


def test_restored_moments_keep_no_file_of_the_checkpoint_mapped(tmp_path: Path) -> None:
    """NFS deletes no folder of which a file is mapped."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux tells what is mapped")
    saved = adam()
    checkpoint = save_checkpoint(tmp_path, 1, {OPTIMIZER: moments_of(saved, "generator")}, {})
    restored = adam()
    load_moments(restored, checkpoint.tensors(OPTIMIZER), "generator")
    assert str(checkpoint.path) not in maps.read_text()
    before, after = (moments_of(optimizer, "generator") for optimizer in (saved, restored))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
