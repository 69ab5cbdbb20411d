"""Keep a computation from what its caller has set in torch: autocast, TF32, the choice of kernels, the dtype."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from emixer.models.full_precision import full_precision

_LOCK = threading.RLock()  # the settings are the process's: who begins amid another's block would keep its settings


@contextmanager
def fixed_kernels(device: torch.device, precision: Literal["tf32", "ieee"], deterministic: bool) -> Iterator[None]:
    """Kernels chosen by shape and never by timing, float32 throughout, without autocast; one thread at a time.

    precision: of float32 products, and on CUDA of convolutions and recurrent layers too; those of a CPU are exact.
    """
    matmul = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn  # not all of their attributes are in torch's types
    mkldnn: Any = torch.backends.mkldnn
    name = "fp32_precision"  # the older switches raise once these have been set, even when they are only read
    wanted: list[tuple[Any, str, Any]] = [
        (cudnn, "enabled", True), (cudnn, "benchmark", False), (cudnn, "deterministic", deterministic),
        (cudnn.conv, name, precision), (cudnn.rnn, name, precision), (matmul, name, precision),
        (mkldnn.matmul, name, precision), (mkldnn.conv, name, "ieee"), (mkldnn.rnn, name, "ieee"),
    ]  # fmt: skip
    with _LOCK, full_precision(device):
        dtype, plans_attention = torch.get_default_dtype(), torch.backends.cuda.cudnn_sdp_enabled()
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in wanted]
        torch.set_default_dtype(torch.float32)
        torch.backends.cuda.enable_cudnn_sdp(False)  # cuDNN plans attention anew for each length
        _set(wanted)
        try:
            yield
        finally:
            _set(before)
            torch.backends.cuda.enable_cudnn_sdp(plans_attention)
            torch.set_default_dtype(dtype)


def _set(settings: list[tuple[Any, str, Any]]) -> None:
    for owner, name, value in settings:
        if getattr(owner, name) != value:  # what is inherited stays so
            setattr(owner, name, value)
