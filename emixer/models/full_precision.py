"""Exempt a computation from autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast. Where autocast is off it costs nothing: `torch.autocast` itself takes longer
    than many of the operations that it wraps."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
