"""Check that SLURM can be queried from here, and what it offers."""

import os
import shutil

from cluster.errors import ClusterError
from cluster.login import site
from emixer.doctor.finding import Finding, ok, problem, warning

_ASKED = ("sbatch", "squeue", "scancel", "sinfo", "scontrol")


def look() -> list[Finding]:
    """Check SLURM's commands and partitions; one finding if there is no SLURM."""
    missing = [name for name in _ASKED if shutil.which(name) is None]
    if len(missing) == len(_ASKED):
        return [ok("SLURM", "not found; only needed for `python -m jobs` and `python -m cluster` on login nodes")]
    if missing:
        return [problem("SLURM", f"{', '.join(missing)} not found", "Load the site's SLURM module, or fix PATH.")]
    if job := os.environ.get("SLURM_JOB_ID"):
        return [ok("SLURM", f"inside job {job}: Ray uses its allocation")]
    try:
        groups = site.look()
    except ClusterError as error:
        return [problem("SLURM", "does not answer", error.message)]
    if not groups:
        return [warning("SLURM", "no partition is up", "Ask the site's administrators: `sinfo` shows why.")]
    shown = dict.fromkeys(f"{group.partition} ({group.gpus} GPUs a node)" if group.gpus else group.partition
                          for group in groups)  # fmt: skip
    return [ok("SLURM", f"partitions {', '.join(shown)}; `python -m cluster init` writes a config for them")]
