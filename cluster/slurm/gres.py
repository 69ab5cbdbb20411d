"""GPUs among SLURM's generic resources, e.g. `gpu:a100:4(S:0-1),nvme:1`."""

import re


def gpus(gres: str) -> list[tuple[str | None, int]]:
    """Type, None where none is named, and number of the GPUs, in order.

    What consists of digits alone is a number, as for SLURM: types may begin with a digit, e.g. `2080ti` or `1g.10gb`.
    """
    found: list[tuple[str | None, int]] = []
    for resource in re.sub(r"\([^)]*\)", "", gres).split(","):
        name, *words = resource.strip().split(":")
        if name == "gpu":
            number = int(words.pop()) if words and words[-1].isdigit() else 1
            found.append((words[0] if words else None, number))
    return found
