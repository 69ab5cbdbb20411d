"""What runs on every node, head or worker: Ray in the share that SLURM gave, its state, its end."""
