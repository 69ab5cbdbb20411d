"""RadGraph F1 (package `radgraph`): whether two reports name the same observations and anatomy in the same relations.

Needs `emixer[radgraph]` and a model on disk: nothing is downloaded.

Shapes: N reports.
Source: Jain et al. 2021, RadGraph; Delbrouck et al. 2022, whose "partial" reward is what the literature calls RadGraph
F1: entities match by words and label, and by whether they are part of any relation.
"""

import contextlib
import io
import json
import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emixer.errors import CheckpointError, ConfigError
from emixer.extras import to_install

MODEL = "radgraph-xl"
_UNLOADABLE = (
    OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError, pickle.UnpicklingError
)  # fmt: skip
_FILES = ("config.json", "weights.th", "vocabulary")


def check_radgraph(folder: Path) -> None:
    """Raise CheckpointError if something that `Radgraph` needs is missing or would be looked up on the network."""
    model = folder / MODEL
    missing = [name for name in _FILES if not (model / name).exists()]
    if missing:
        raise CheckpointError(
            f"{model} has no {', '.join(missing)}. Unpack {MODEL}.tar.gz of radgraph's authors there."
        )
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        parts = config["dataset_reader"]["token_indexers"], config["model"]["embedder"]["token_embedders"]
        names = {part["bert"]["model_name"] for part in parts}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{model / 'config.json'} is not that of {MODEL} ({type(error).__name__}). Unpack {MODEL}.tar.gz again."
        ) from error
    for name in names:
        if not Path(name).is_dir():
            raise CheckpointError(
                f"{model / 'config.json'} names the BERT {name}, which is not a folder here; nothing is downloaded "
                "automatically. Download it, and set both `model_name` entries of that file to its folder."
            )


class Radgraph:
    """A RadGraph model that annotates reports."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """folder: holds `radgraph-xl`, the unpacked archive of that name, with both `model_name` entries of its
        config.json set to the folder of the underlying BERT.

        Raises CheckpointError when something is missing or does not fit, ConfigError without radgraph.
        """
        check_radgraph(folder)
        self._annotated: dict[str, Mapping[str, Any]] = {}
        # it prints, and changes warning filters
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                from radgraph import RadGraph
                from radgraph.rewards import compute_reward
            except ImportError as error:
                raise ConfigError(
                    f"evaluate.radgraph needs the package radgraph. Run {to_install('radgraph')}, or unset "
                    "evaluate.radgraph."
                ) from error
            try:
                self._model = RadGraph(
                    model_type=MODEL,
                    model_cache_dir=str(folder),
                    cuda=-1 if device.type == "cpu" else device.index or 0,
                )
            except _UNLOADABLE as error:
                raise CheckpointError(
                    f"{folder / MODEL} cannot be loaded ({type(error).__name__}). It must fit the installed radgraph, "
                    "and the BERT named in its config.json must be on this machine."
                ) from error
        self._reward = compute_reward

    def f1(self, reports: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
        """F1 (N,) of each report against its reference; 0 where either is empty."""
        self._annotate([text for text in (*reports, *references) if text.strip()])
        scores = [
            self._reward(self._annotated[report], self._annotated[reference], "partial")
            if report.strip() and reference.strip() else 0.0
            for report, reference in zip(reports, references, strict=True)
        ]  # fmt: skip
        return np.array(scores, np.float64)

    def _annotate(self, reports: Sequence[str]) -> None:
        """Annotate each distinct text once: reports repeat, and references are shared."""
        new = [text for text in dict.fromkeys(reports) if text not in self._annotated]
        if new:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = self._model(new)
            self._annotated |= {text: found[str(n)] for n, text in enumerate(new)}
