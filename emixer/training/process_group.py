"""torch's process group for the workers of Ray Train, set up as Ray does it, with three differences.

If a worker has no CUDA device, a clear error comes before NCCL's own. And where Ray listens on the loopback only, so
does the group: the store through which its workers find each other has no password, and torch would let it listen on
every interface. And the group is never taken apart: it ends with its workers.
"""

import os
import socket
from datetime import timedelta
from typing import Any

import ray
import ray.util
from ray.train.torch import TorchConfig
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from emixer.models.cuda import require_cuda

_LOOPBACK = "127.0.0.1"
_COLLECTIVE_TIMEOUT_S = 3600  # the others wait while the first worker validates and writes

_hosted: list[TCPStore] = []
"""Kept in the process of the first worker for as long as it lives."""


def process_group(use_gpu: bool) -> TorchConfig:
    """Return the process group's config for `TorchTrainer`."""
    return _Config(backend="nccl" if use_gpu else "gloo", timeout_s=_COLLECTIVE_TIMEOUT_S)


class _Backend(TorchConfig().backend_cls):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        backend, timeout_s = backend_config.backend, backend_config.timeout_s
        if backend == "nccl":
            worker_group.execute(require_cuda, "use_gpu")
        if worker_group.execute_single(0, ray.util.get_node_ip_address) != _LOOPBACK:
            super().on_start(worker_group, backend_config)
            return
        num = len(worker_group)
        port = worker_group.execute_single(0, _host_store, num, timeout_s)
        ray.get([
            worker_group.execute_single_async(rank, _join, backend, rank, num, port, timeout_s) for rank in range(num)
        ])  # fmt: skip

    def on_shutdown(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Do nothing: Ray ends the workers' processes next.

        Without the group, training that still runs in them would go on as if each worker were the only one, sum no
        gradients, and save what comes of it.
        """


class _Config(TorchConfig):  # type: ignore[misc]
    @property
    def backend_cls(self) -> type:
        return _Backend


def _host_store(num_workers: int, timeout_s: int) -> int:
    """Start the store, on the first worker. Returns its port."""
    listening = socket.create_server((_LOOPBACK, 0))
    port: int = listening.getsockname()[1]
    _hosted[:] = [
        TCPStore(
            _LOOPBACK, port, num_workers, is_master=True, timeout=timedelta(seconds=timeout_s), wait_for_workers=False,
            master_listen_fd=listening.detach(),
        )
    ]  # fmt: skip
    return port


def _join(backend: str, rank: int, num_workers: int, port: int, timeout_s: int) -> None:
    """Join the group, on every worker."""
    # NCCL's own sockets, opened at the first collective, take any other interface unless told
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    timeout = timedelta(seconds=timeout_s)
    store = _hosted[0] if rank == 0 else TCPStore(_LOOPBACK, port, num_workers, timeout=timeout)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=num_workers, timeout=timeout)
