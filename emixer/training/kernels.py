"""Which kernels torch takes in a process that trains."""

import torch


def use_fast_kernels() -> None:
    """Take the fastest ones from now on: convolutions by timing, since shapes repeat; products of float32 in TF32."""
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_cudnn_sdp(False)  # cuDNN plans attention anew for each length of a report
