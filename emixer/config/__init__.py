"""One validated, frozen config object for all stages."""

from emixer.config.config import Config, RayConfig
from emixer.config.load import load_config, to_yaml, validate, with_overrides

__all__ = ["Config", "RayConfig", "load_config", "to_yaml", "validate", "with_overrides"]
