"""EMIXER on Ray: synthetic paired chest X-rays and reports.

import emixer
pairs = emixer.load("runs/first").sample(labels=["Pneumothorax"], num=4, seed=0)
"""

from typing import TYPE_CHECKING

import cluster  # noqa: F401 - takes out of the environment what Ray would crash at
from emixer._version import __version__
from emixer.errors import EmixerError

if TYPE_CHECKING:
    from emixer.generation import Sampler, load

__all__ = ["EmixerError", "Sampler", "__version__", "load"]


def __getattr__(name: str) -> object:
    # torch is imported on the first use of a model, not by `import emixer`
    if name in ("load", "Sampler"):
        from emixer import generation

        return getattr(generation, name)
    raise AttributeError(f"module 'emixer' has no attribute {name!r}")
