"""How many workers train together, and which of them this process is."""

import torch.distributed as dist


def world_size() -> int:
    """Return the number of workers; 1 outside torch.distributed."""
    return dist.get_world_size() if _is_shared() else 1


def rank() -> int:
    """Return the index of this worker; 0 outside torch.distributed."""
    return dist.get_rank() if _is_shared() else 0


def _is_shared() -> bool:
    return dist.is_available() and dist.is_initialized()
