"""What a training worker needs besides the loop: sample grids from the gallery, metrics from the evaluation.

Runs inside the workers; the sibling packages (training, evaluation, gallery) meet only here.
"""

from pathlib import Path

import torch
from torch import Tensor

from emixer.config import Config
from emixer.data.collection import describe_training_data
from emixer.data.loader import WindowReader
from emixer.data.shards import ShardSet
from emixer.data.vocabulary import Vocabulary
from emixer.evaluation.validation import Validator
from emixer.gallery.sample_grid import draw_pairs
from emixer.models.paired_model import GeneratedPairs, ModelSpec, PairedModel
from emixer.models.workers import rank
from emixer.run_folder import RunFolder
from emixer.stages.model_spec import model_spec
from emixer.stages.validation_pass import prepare_validator, validated
from emixer.training.game import GamePlan, game_plan
from emixer.training.reporter import RunReporter
from emixer.training.state import TrainState


def make_plan(config: Config, shards: ShardSet, reader: WindowReader, run: Path) -> GamePlan:
    """Return everything a worker needs, picklable."""
    return game_plan(config, model_spec(shards, reader), reader, run, make_reporter, describe_training_data(shards))


def make_reporter(plan: GamePlan, state: TrainState) -> RunReporter:
    """Return the reporter of one worker. The first prepares its validation now: what is wrong with it, a missing file
    on this node say, must not come up at the first pass, behind which lies everything trained until then."""
    measure = _ValidationPass(plan, state.spec, state.device)
    if rank() == 0:
        measure.prepare()
    return RunReporter(RunFolder(plan.run), state, plan.reader.order, draw_samples, measure)


def draw_samples(folder: RunFolder, state: TrainState, pairs: GeneratedPairs, labels_BY: Tensor) -> None:
    """Write samples/images-<images>.png: generated images, their labels and reports."""
    spec = state.spec
    names = [spec.described(row) for row in labels_BY.tolist()]
    reports = Vocabulary(spec.tokens).decode(pairs.words_BSW.cpu().numpy())
    path = folder.samples / f"images-{state.images:012d}.png"
    draw_pairs(to_gray(pairs.image_BCHW), names, reports, path, f"Generated after {state.images:,} images")


def to_gray(image_BCHW: Tensor):  # type: ignore[no-untyped-def]
    """Convert images in [-1, 1] to uint8 (N, H, W); equal channels become one."""
    return image_BCHW.mean(dim=1).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


class _ValidationPass:
    """Measurement of a model on the validation split."""

    def __init__(self, plan: GamePlan, spec: ModelSpec, device: torch.device) -> None:
        self._plan, self._spec, self._device = plan, spec, device
        self._validator: Validator | None = None

    def prepare(self) -> Validator:
        """Read and measure the real images, once."""
        if self._validator is None:
            self._validator = prepare_validator(self._plan.config, self._spec, self._plan.reader, self._device)
        return self._validator

    def __call__(self, model: PairedModel) -> dict[str, float]:
        return validated(self.prepare(), model, self._plan.config)
