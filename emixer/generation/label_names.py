"""Labels as users name them."""

import difflib
from collections.abc import Sequence

import numpy as np

from emixer.errors import ConfigError
from emixer.generation.plan_kinds import Labels


def label_vector(labels: Sequence[str], label_names: Sequence[str]) -> Labels:
    """uint8, 1 for each of `labels`. Raises ConfigError, with the nearest name, for one that does not exist."""
    for label in labels:
        if label not in label_names:
            raise ConfigError(f"The model has no label {label!r}.{did_you_mean(label, label_names)}")
    return np.array([name in labels for name in label_names], np.uint8)


def did_you_mean(name: str, valid: Sequence[str]) -> str:
    """The nearest names there are, as the end of a message; all of them where none is near."""
    lower = {candidate.lower(): candidate for candidate in valid}
    near = difflib.get_close_matches(name.lower(), list(lower), n=3, cutoff=0.5)
    if near:
        return f" Did you mean {' or '.join(lower[candidate] for candidate in near)}?"
    return f" It knows {', '.join(valid)}."
