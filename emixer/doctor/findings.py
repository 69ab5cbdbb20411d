"""All checks, in the order in which one thing needs another."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from emixer.doctor import accelerator, folders, machine, packages, ray_here, slurm_here
from emixer.doctor.finding import Finding


def examine(paths: Sequence[Path]) -> Iterator[Finding]:
    """Findings as they come, in ten seconds or so. paths: where shards, runs and datasets are to lie."""
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
