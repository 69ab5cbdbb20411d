"""The stages of emixer as SLURM jobs: `python -m jobs`. Guide: docs/jobs.md."""
