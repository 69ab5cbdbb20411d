"""Whether there is a GPU for this process: torch shows those of the node, Ray counts them without torch, and SLURM may
have given them to others."""

import socket
from typing import Literal

import torch

from cluster.slurm.allocation import withholds_gpus
from emixer.errors import ConfigError

Device = Literal["cpu", "cuda"]


def has_gpu() -> bool:
    """Whether torch sees a GPU that this process may take without being told to.

    In a SLURM job that asked for none, the driver still shows the GPUs of other jobs unless the site confines devices.
    """
    return not withholds_gpus() and torch.cuda.is_available()


def choose_device(use_gpu: bool | None, setting: str) -> Device:
    """Device of a stage that computes in this process. use_gpu: the value of `setting`; None takes a GPU where
    there is one for it.

    Raises ConfigError if a GPU is required and torch sees none.
    """
    if use_gpu and not torch.cuda.is_available():
        raise ConfigError(f"{setting}=true, but torch sees no GPU here. Unset it, or look at `emixer doctor`.")
    wanted = has_gpu() if use_gpu is None else use_gpu
    return "cuda" if wanted else "cpu"


def require_cuda(setting: str) -> None:
    """Raises ConfigError where torch sees no GPU. setting: what to set to false to do without, e.g. `train.use_gpu`."""
    if torch.cuda.is_available():
        return
    version = torch.__version__
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    raise ConfigError(
        f"Ray has a GPU for this worker on {socket.gethostname()}, but torch {version} ({built}) sees none there. "
        f"Check that nvidia-smi works on that node and its driver is new enough, or use CPUs with {setting}=false."
    )
