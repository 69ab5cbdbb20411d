"""Environments of other projects' packages, apart from ours: pinned in benchmarks/requirements/. Nothing to run.

They are not dependencies of this project, and some exclude each other.
"""

import os
import subprocess
import sys
from pathlib import Path

_REQUIREMENTS = Path(__file__).parent / "requirements"


def environment(name: str, folder: Path) -> Path:
    """The Python of an environment with what requirements/NAME.txt pins; made in `folder` unless it is there."""
    home = folder / name
    python, finished = home / "bin" / "python", home / ".finished"
    pinned = (_REQUIREMENTS / f"{name}.txt").read_text()
    if not finished.exists() or finished.read_text() != pinned:
        print(f"makes an environment for {name} in {home}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        uv = [str(Path(sys.executable).with_name("uv"))]
        if not Path(uv[0]).exists():
            uv = ["uv"]
        requirements = str(_REQUIREMENTS / f"{name}.txt")
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), "-r", requirements], check=True)
        finished.write_text(pinned)
    return python


def run_in(python: Path, script: str, *arguments: str) -> str:
    """What a script of this folder prints in another environment. Raises CalledProcessError with its errors shown."""
    command = [str(python), str(Path(__file__).with_name(script)), *arguments]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | one_thread)
    return done.stdout
