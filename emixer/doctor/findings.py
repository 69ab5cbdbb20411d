"""All checks, in the order of their dependencies."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from emixer.doctor import accelerator, folders, machine, packages, ray_here, slurm_here
from emixer.doctor.finding import Finding


def examine(paths: Sequence[Path]) -> Iterator[Finding]:
    """Yield findings as they come, within about ten seconds. paths: folders for shards, runs and datasets."""
    checks: list[Callable[[], list[Finding]]] = [
        packages.look,
        machine.look,
        accelerator.look,
        lambda: [finding for path in paths for finding in folders.look(path)],
        ray_here.look,
        slurm_here.look,
    ]
    for check in checks:
        yield from check()
