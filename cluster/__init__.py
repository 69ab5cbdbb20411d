"""Ray clusters on SLURM. Imports nothing of emixer, jobs or torch.

Empty in this version: until it holds something, start Ray on the nodes by hand and give `--ray-address`.
"""
