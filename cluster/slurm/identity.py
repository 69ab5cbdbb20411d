"""On which SLURM a cluster, or the jobs of a folder, run. The login nodes of several may see the same home, and none
knows the jobs of another: it would take them for gone, or for others of the same number."""

from pathlib import Path

from cluster import files, slurm
from cluster.errors import ClusterError

_NAME = "slurm"


def remember(home: Path) -> None:
    """From now on, until `forget`. Raises SlurmSilenceError."""
    files.write_private(home / _NAME, slurm.cluster_name())


def elsewhere(home: Path) -> tuple[str, str] | None:
    """The SLURM that was remembered, and the one that answers here, where they differ. Raises SlurmSilenceError."""
    try:
        remembered = (home / _NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    here = slurm.cluster_name()
    return (remembered, here) if here != remembered else None


def require_same(home: Path) -> None:
    """Raises ClusterError when the cluster was started on another SLURM than the one that answers here."""
    if (names := elsewhere(home)) is not None:
        started_on, here = names
        raise ClusterError(
            f"Cluster {home.name} was started on the SLURM cluster {started_on}, but this is {here}, which does not "
            f"know its jobs. Run this on a login node of {started_on}; for a cluster here, set another `name`."
        )


def forget(home: Path) -> None:
    """It is down: it may be started anywhere."""
    (home / _NAME).unlink(missing_ok=True)
