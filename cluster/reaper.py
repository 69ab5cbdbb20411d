"""Clears up after whoever started it, should that process be killed: python -m cluster.reaper MARK [FOLDER]

Its standard input is a pipe from that process. When it ends, for whatever reason, what carries the mark is killed and
the folder removed. SLURM does this itself where it tracks processes by cgroups.
"""

import shutil
import signal
import sys

from cluster.ray_node import kill_marked

if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    kill_marked(sys.argv[1])
    for folder in sys.argv[2:]:
        shutil.rmtree(folder, ignore_errors=True)
