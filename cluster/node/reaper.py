"""Clears up after whoever started it, should that process be killed: python -m cluster.node.reaper MARK FOLDER [--keep]

Its standard input is a pipe from that process. When it ends, for whatever reason, what carries the mark or works in
Ray's folder is killed and, unless it is to be kept, the folder removed. SLURM does this itself where it tracks
processes by cgroups.
"""

import argparse
import shutil
import signal
import sys
from pathlib import Path

from cluster.node.ray_node import kill_marked

if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("mark")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    arguments = parser.parse_args()
    sys.stdin.buffer.read()
    kill_marked(arguments.mark, arguments.folder)
    if not arguments.keep:
        shutil.rmtree(arguments.folder, ignore_errors=True)
