"""`emixer doctor`: problems with this machine, its packages, folders and SLURM, and how to fix them.

Each module checks one thing and returns findings; none of them raises for what it finds.
"""

from emixer.doctor.finding import Finding, State
from emixer.doctor.findings import examine

__all__ = ["Finding", "State", "examine"]
