"""From a trained model to pairs: in Python (`load`, `Sampler`), or as a dataset on disk (`dataset`)."""

from emixer.generation.sampler import Pairs, Sampler, load

__all__ = ["Pairs", "Sampler", "load"]
