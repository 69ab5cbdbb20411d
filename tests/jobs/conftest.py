"""Stand-ins for commands of SLURM."""

from ..cluster.conftest import command as command
