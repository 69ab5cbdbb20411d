"""A Ray cluster on SLURM that grows and shrinks by itself: `python -m cluster`. Guide: docs/cluster.md.

Independent of everything else here: it runs any Ray program.
"""

from cluster.node import fair_share

fair_share.mend()  # before any of our programs imports Ray
