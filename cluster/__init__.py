"""A Ray cluster on SLURM that grows and shrinks by itself. Empty in this version; `jobs` makes one for each job."""
