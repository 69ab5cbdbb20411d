"""Stages as SLURM jobs. Imports without torch and Ray, so that it runs on a login node.

Empty in this version: until it holds something, call `emixer STAGE --config FILE` from a batch script.
"""
