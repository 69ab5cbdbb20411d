"""What a worker's job runs: `python -m cluster.worker`."""
