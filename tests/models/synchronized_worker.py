"""One of two gloo workers: normalizes its half of the images and writes the results, gradients included.

Run by test_batch_norm.py as `python synchronized_worker.py RANK FOLDER`.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from emixer.models.batch_norm import ConditionalBatchNorm2d


def main(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    inputs = torch.load(folder / "inputs.pt", weights_only=True)
    layer = ConditionalBatchNorm2d(3, 2)
    layer.load_state_dict(inputs["layer"])
    rows = slice(0, 2) if rank == 0 else slice(2, 6)  # uneven on purpose
    x = inputs["x"][rows].requires_grad_()
    y = layer(x, inputs["condition"][rows])
    (y * inputs["direction"][rows]).sum().backward()
    weight_gradient = layer.gain_and_bias.weight.grad
    dist.all_reduce(weight_gradient)
    running = {name: value for name, value in layer.state_dict().items() if "running" in name}
    result = {"y": y.detach(), "x_gradient": x.grad, "weight_gradient": weight_gradient, **running}
    torch.save(result, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
