"""Whether the host may look at numbers that a model has just computed."""

from torch import Tensor


def free_to_read(tensor: Tensor) -> bool:
    """Return whether the host can read the values of `tensor` without waiting for a device.

    Where it can, on CPUs, lengths of reports are looked at, and steps that none needs are left out. Elsewhere reading
    stops the host until the device has done all that is queued, so the same is computed over fixed sizes.
    """
    return tensor.device.type == "cpu"
