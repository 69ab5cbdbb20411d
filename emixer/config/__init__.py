"""One validated, frozen config object for all stages."""

from emixer.config.config import Config, RayConfig
from emixer.config.load import load_config, to_yaml, validate, with_overrides
from emixer.config.settings import dotted_keys

__all__ = ["Config", "RayConfig", "dotted_keys", "load_config", "to_yaml", "validate", "with_overrides"]
