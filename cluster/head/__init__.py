"""What the head runs: `python -m cluster.head`, Ray's autoscaler with SLURM behind it, programs that were submitted."""
