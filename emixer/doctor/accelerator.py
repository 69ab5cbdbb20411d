"""Check of the device that torch computes on."""

from pathlib import Path

import torch
from torch import distributed

from cluster.slurm.allocation import withholds_gpus
from emixer.doctor.finding import Finding, ok, problem, warning

_DRIVER = Path("/dev/nvidiactl")
_GIB = 2**30


def look() -> list[Finding]:
    """Check the GPUs that torch can use, bf16 support and NCCL."""
    if withholds_gpus():
        return [ok("GPU", "none: SLURM gave this job none; request them with --gpus or --gres")]
    if not torch.cuda.is_available():
        built = f"torch was built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is a CPU-only build"
        if not _DRIVER.exists():
            return [ok("GPU", f"none; {built}")]
        return [
            warning(
                "GPU", f"there is an NVIDIA driver, but torch finds no GPU; {built}",
                "Install torch for the CUDA version shown by `nvidia-smi`; in a job, request a GPU "
                "(CUDA_VISIBLE_DEVICES lists those allocated).",
            )
        ]  # fmt: skip
    findings = [_gpu(index) for index in range(torch.cuda.device_count())]
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        findings.append(
            warning("precision", "no bf16 on this GPU", "Train with --precision fp16, which scales losses.")
        )
    if not distributed.is_nccl_available():
        findings.append(
            problem("NCCL", "missing in this torch", "Install torch from its CUDA wheels: several GPUs need NCCL.")
        )
    return findings


def _gpu(index: int) -> Finding:
    properties = torch.cuda.get_device_properties(index)
    try:
        value = float((torch.ones(64, 64, device=f"cuda:{index}") @ torch.ones(64, 64, device=f"cuda:{index}")).sum())
    except RuntimeError as error:
        return problem(
            f"GPU {index}", f"{properties.name} does not compute ({str(error).splitlines()[0]})",
            "Another process may hold it in exclusive mode, or this torch has no kernels for it: see `nvidia-smi`.",
        )  # fmt: skip
    assert value == 64**3, "a product of ones"
    free, total = torch.cuda.mem_get_info(index)
    return ok(f"GPU {index}", f"{properties.name}, {free / _GIB:.0f} of {total / _GIB:.0f} GiB free")
