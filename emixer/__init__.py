"""EMIXER on Ray: synthetic paired chest X-rays and reports.

import emixer
pairs = emixer.load("runs/first").sample(labels=["Pneumothorax"], num=4, seed=0)
"""

from typing import TYPE_CHECKING

import cluster  # noqa: F401 - removes from the environment what would crash Ray
from emixer._version import __version__
from emixer.errors import EmixerError

if TYPE_CHECKING:
    from emixer.data.torch_pairs import ShardPairs, open_shards
    from emixer.generation import Pair, Pairs, Sampler, load

__all__ = ["EmixerError", "Pair", "Pairs", "Sampler", "ShardPairs", "__version__", "load", "open_shards"]


def __getattr__(name: str) -> object:
    # torch is imported on the first use of a model, not by `import emixer`
    if name in ("load", "Sampler", "Pair", "Pairs"):
        from emixer import generation

        return getattr(generation, name)
    if name in ("open_shards", "ShardPairs"):
        from emixer.data import torch_pairs

        return getattr(torch_pairs, name)
    raise AttributeError(f"module 'emixer' has no attribute {name!r}")
