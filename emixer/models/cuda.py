"""Whether torch can use the GPU that Ray hands out: Ray counts GPUs without torch, so only the first use would tell."""

import socket

import torch

from emixer.errors import ConfigError


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
