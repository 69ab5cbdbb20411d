"""GPUs among SLURM's generic resources, e.g. `gpu:a100:4(S:0-1),nvme:1`."""

import re


def gpus(gres: str) -> list[tuple[str | None, int]]:
    """Type, None where none is named, and number of the GPUs, in order.

    What consists of digits alone is a number, as for SLURM: types may begin with a digit, e.g. `2080ti` or `1g.10gb`.
    """
    found: list[tuple[str | None, int]] = []
    for name, *words in _resources(gres):
        if name == "gpu":
            number = int(words.pop()) if words and words[-1].isdigit() else 1
            found.append((words[0] if words else None, number))
    return found


def require_no_shard(gres: str) -> None:
    """Raises ValueError where shards of GPUs are requested: Ray would be told of no GPU, and compute on CPUs."""
    if any(name == "shard" for name, *_ in _resources(gres)):
        raise ValueError(
            f"gres={gres} requests shards of GPUs, which are not supported. Request a GPU, e.g. gpu:1, or a part of "
            "one by its MIG type, e.g. gpu:1g.10gb:1"
        )


def _resources(gres: str) -> list[list[str]]:
    """Name, and type or number, of each."""
    return [resource.strip().split(":") for resource in re.sub(r"\([^)]*\)", "", gres).split(",")]
