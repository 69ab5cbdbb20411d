"""Metadata of an encoder file: architecture, labels, training data, test AUC.

Stored in the safetensors header, so that one file is all there is to copy. Needs no torch.
"""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import safetensors

from emixer.config.model import ChestEncoderConfig
from emixer.errors import ConfigError

WEIGHTS_NAME = "encoder.safetensors"
"""Name of the encoder stage's file, in its run folder."""
_KEY = "emixer_encoder"
_ARCHITECTURE = ("growth", "blocks", "stem_channels", "input_px")


@dataclass(frozen=True)
class EncoderFacts:
    """The header of `encoder.safetensors`."""

    growth: int
    blocks: tuple[int, int, int, int]
    stem_channels: int
    input_px: int
    label_names: tuple[str, ...]
    """Labels of the classifier's outputs, in order."""
    collection: str
    """Digest of the subjects it was trained, validated and tested on."""
    sources: tuple[str, ...]
    """Names of their collections, e.g. `open-i`."""
    images: int
    """Images seen in training."""
    test_auc: Mapping[str, float]
    """AUC of each measurable label on test images of the same collection."""

    @classmethod
    def of(cls, network: ChestEncoderConfig, **facts: Any) -> Self:
        """Create the facts of an encoder with that architecture."""
        return cls(**{name: getattr(network, name) for name in _ARCHITECTURE}, **facts)

    def to_metadata(self) -> dict[str, str]:
        """Return metadata that `read_encoder_facts` reads back."""
        fields = asdict(self)
        fields["test_auc"] = {name: auc for name, auc in self.test_auc.items() if math.isfinite(auc)}
        return {_KEY: json.dumps(fields)}

    def differences(self, network: ChestEncoderConfig) -> dict[str, tuple[Any, Any]]:
        """Return the settings that do not fit the file: name -> (in the file, in the config)."""
        both = {name: (getattr(self, name), getattr(network, name)) for name in _ARCHITECTURE}
        both["weights_from"] = ("emixer", network.weights_from)
        return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def read_encoder_facts(path: Path) -> EncoderFacts | None:
    """Return the header of a file written by our encoder stage; None for any other file, readable or not."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
        if text is None:
            return None
        fields = json.loads(text)
        lists = {name: tuple(fields[name]) for name in ("blocks", "label_names", "sources")}
        return EncoderFacts(**fields | lists)
    except (OSError, ValueError, TypeError, KeyError, safetensors.SafetensorError):
        return None


def checked_facts(key: str, encoder: ChestEncoderConfig) -> EncoderFacts | None:
    """Return the header of the encoder's file; None for a file that is not of our encoder stage.

    key: section of the encoder's settings. Raises ConfigError if the file is missing, or other settings than its own
    are given.
    """
    if encoder.weights is None or not encoder.weights.exists():
        raise ConfigError(f"{key}.weights={encoder.weights} does not exist. Give a weights file, or omit {key}.")
    facts = read_encoder_facts(encoder.weights)
    differing = {} if facts is None else facts.differences(encoder)
    if differing:
        held = ", ".join(f"{name} {there}" for name, (there, _) in differing.items())
        here = ", ".join(f"{name} {here}" for name, (_, here) in differing.items())
        raise ConfigError(
            f"{encoder.weights} is an encoder with {held}; the config has {here}. Set "
            + " ".join(f"{key}.{name}={_written(there)}" for name, (there, _) in differing.items())
            + ", or give a matching file."
        )
    return facts


def require_judge(facts: EncoderFacts | None, key: str, labels: Collection[str], what: str) -> None:
    """Raise ConfigError if the encoder that `key` names cannot judge images by any of `labels`.

    what: predicate, in words, of a label that is one of them.
    """
    if facts is None:
        raise ConfigError(
            f"validation.judge=encoder needs {key}, a file written by `emixer encoder`, which names its labels. Give "
            "one, or use validation.judge=probe."
        )
    if not set(facts.label_names) & set(labels):
        raise ConfigError(
            f"The judge in {key} has the labels {', '.join(facts.label_names)}; none of them {what} "
            f"({', '.join(labels)}). Give a judge trained on these labels, or use validation.judge=probe, which is "
            "fitted to them."
        )


def _written(value: object) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
