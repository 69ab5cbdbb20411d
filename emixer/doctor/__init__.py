"""`emixer doctor`: what of this machine, its packages, its folders and its SLURM would get in the way, and what to do.

Each module looks at one thing and returns findings; none of them raises for what it finds.
"""

from emixer.doctor.finding import Finding, State
from emixer.doctor.findings import examine

__all__ = ["Finding", "State", "examine"]
