"""From a trained model to pairs: in Python (`load`, `Sampler`), or as a dataset on disk (`dataset`)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emixer.generation.pairs import Pair, Pairs
    from emixer.generation.sampler import Sampler, load

__all__ = ["Pair", "Pairs", "Sampler", "load"]


def __getattr__(name: str) -> object:
    # Ray starts a process for each encoder, and encoders need no torch
    if name in __all__:
        from emixer.generation import pairs, sampler

        return getattr(pairs if name in ("Pair", "Pairs") else sampler, name)
    raise AttributeError(f"module 'emixer.generation' has no attribute {name!r}")
