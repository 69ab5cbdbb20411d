"""Where autocast must not coarsen a result."""

from contextlib import AbstractContextManager, nullcontext

import torch


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """A block without autocast. Where there is none it costs nothing: `torch.autocast` itself takes longer than many of
    the operations it stands around."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
