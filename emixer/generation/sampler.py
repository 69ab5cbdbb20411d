"""A trained model that draws pairs: `emixer.load(run).sample(labels=["Pneumothorax"], num=4, seed=0)`.

Row i of a sample depends on (seed, i, labels and conditions of row i) alone. Rows are drawn in fixed blocks
[k * B, (k + 1) * B), B = `batch_size`, the last one padded, so that every kernel always sees the same shapes.

Shapes: N rows, B rows of a block, C channels, H = W side [px], L labels, Y labels and columns of conditions, S
sentences, W words of a sentence.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn.utils import parametrize

from emixer.checkpoint import SAMPLER, Checkpoint, find_checkpoint, newest_readable, read_checkpoint
from emixer.config.generation import GenerateConfig
from emixer.config.model import ModelConfig
from emixer.data.vocabulary import Vocabulary
from emixer.errors import CheckpointError, ConfigError
from emixer.files import sha256_of
from emixer.generation.plan import completed, fixed_plan, make_plan
from emixer.generation.plan_kinds import LabelPlan, Labels, ListedPlan
from emixer.models.build import build_model
from emixer.models.noise import RowNoise
from emixer.models.paired_model import ModelSpec, PairedModel
from emixer.run_folder import RunFolder

_SHOWN_ROWS = 3
_STEP = 0  # generation has no steps: rows are told apart by their number
_DEFAULT_BATCH = int(GenerateConfig.model_fields["batch_size"].default)
_DEFAULT_TEMPERATURE = float(GenerateConfig.model_fields["temperature"].default)

Which = Literal["best", "last"]


@dataclass(frozen=True)
class TrainedModel:
    """What a sampler needs of a checkpoint; picklable, so that samplers need not see the run folder."""

    config: ModelConfig
    spec: ModelSpec
    tensors: dict[str, Tensor]
    images: int
    """Real images trained on."""
    digest: str
    """SHA-256 of the weights' file."""
    path: Path
    source: dict[str, Any]
    """What the checkpoint says of its training data."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Token ids to text."""
        return Vocabulary(self.spec.tokens)


@dataclass(frozen=True)
class Pairs:
    """Generated images with their reports and labels."""

    images: NDArray[np.uint8]
    """(N, H, W), gray."""
    reports: list[str]
    labels: Labels
    """(N, L), 1 present."""
    label_names: tuple[str, ...]
    conditions: dict[str, NDArray[Any]] = field(default_factory=dict)
    """What else they were conditioned on, text (N) by name: sex, age (a group), view. None: not known."""

    def __len__(self) -> int:
        return len(self.reports)

    def __repr__(self) -> str:
        height, width = self.images.shape[1:]
        lines = [f"{len(self)} pair{'s' * (len(self) != 1)} of {height} x {width} px"]
        for index in range(min(len(self), _SHOWN_ROWS)):
            known = [values[index] for values in self.conditions.values() if values[index]]
            told = [*(self.labels_of(index) or ["no label"]), *known]
            lines.append(f"  {index}  {', '.join(told)}: {self.reports[index]}")
        return "\n".join([*lines, "  ..."] if len(self) > _SHOWN_ROWS else lines)

    def labels_of(self, index: int) -> list[str]:
        """Names of the labels of one row."""
        return [name for name, present in zip(self.label_names, self.labels[index], strict=True) if present]

    def to_pil(self, index: int) -> Image.Image:
        """One image as a gray PIL image."""
        return Image.fromarray(self.images[index])


class Sampler:
    """A trained model on a device, ready to draw. Make one with `emixer.load`."""

    def __init__(
        self, trained: TrainedModel, device: torch.device | str | None = None, batch_size: int = _DEFAULT_BATCH
    ) -> None:
        """device: None takes CUDA where there is one. batch_size: rows drawn together; decides a row's last bits."""
        self.trained = trained
        self.batch_size = batch_size
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._model = _sampling_model(trained).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __repr__(self) -> str:
        config = self.trained.config
        return (
            f"Sampler({config.kind}, {config.side_px} px, {self.trained.images:,} images trained on, {self.device}; "
            f"labels: {', '.join(self.label_names)}"
            + "".join(f"; {name}: {', '.join(values)}" for name, values in self.conditions.items())
            + ")"
        )

    @property
    def label_names(self) -> tuple[str, ...]:
        """Labels the model is conditioned on, in the order of a label vector."""
        return self.trained.spec.label_names

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        """What else the model is conditioned on, by name, and the values it has seen."""
        known = self.trained.spec.conditions
        return dict(zip(known.names, known.values, strict=True))

    def sample(
        self,
        labels: Sequence[str] | ArrayLike | None = None,
        num: int | None = None,
        seed: int = 0,
        temperature: float = _DEFAULT_TEMPERATURE,
        *,
        sex: str | None = None,
        age: int | str | None = None,
        view: str | None = None,
    ) -> Pairs:
        """Draws `num` pairs; the first rows are the same whatever `num` is.

        labels: names that every row has; or 0/1 of shape (num, L), one vector a row; or None for the joint distribution
        of the training images. temperature: of the words; 0 takes the likeliest. sex, age [years, or a group], view: of
        every row; None draws them as training images with the row's labels have them.

        Raises ConfigError for an unknown label or value, labels of another shape, or a negative seed.
        """
        if seed < 0:
            raise ConfigError(f"seed={seed} is negative. Use 0 or more.")
        given: dict[str, str | int | None] = {"sex": sex, "age": age, "view": view}
        plan = self._plan(labels, {name: value for name, value in given.items() if value is not None}, seed)
        rows = num if num is not None else plan.num_rows or 1
        if rows < 1 or (plan.num_rows is not None and rows != plan.num_rows):
            raise ConfigError(f"num={rows} does not fit: expected {plan.num_rows or 'at least 1'}. Leave num out.")
        vectors_NY = plan.labels(0, self.padded(rows))
        images, words = self.draw(vectors_NY, 0, seed, temperature)
        reports = self.trained.vocabulary.decode(words[:rows])
        labels_NL, beside_NC = np.split(vectors_NY[:rows], [len(self.label_names)], axis=1)
        return Pairs(images[:rows], reports, labels_NL, self.label_names, self.trained.spec.conditions.told(beside_NC))

    def padded(self, num_rows: int) -> int:
        """The next multiple of the batch size."""
        return -(-num_rows // self.batch_size) * self.batch_size

    def draw(
        self, labels_NY: Labels, first_row: int, seed: int, temperature: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Images uint8 (N, H, W) and token ids int32 (N, S, W) of whole blocks.

        `first_row` and N are multiples of the batch size. Nothing is copied from the device before all is drawn.
        """
        size = self.batch_size
        assert first_row % size == 0, "blocks are aligned"
        assert len(labels_NY) % size == 0, "blocks are whole"
        with torch.inference_mode(), _same_kernels():
            all_labels_NY = torch.from_numpy(labels_NY).to(self.device, torch.float32)
            images, words = [], []
            for start in range(0, len(labels_NY), size):
                noise = RowNoise(seed, _STEP, first_row + start, size, self.device)
                pairs = self._model.sample(all_labels_NY[start : start + size], noise, temperature)
                images.append(_gray_bytes(pairs.image_BCHW))
                words.append(pairs.words_BSW.int())
            return torch.cat(images).cpu().numpy(), torch.cat(words).cpu().numpy()

    def _plan(self, labels: Sequence[str] | ArrayLike | None, conditions: dict[str, str | int], seed: int) -> LabelPlan:
        spec = self.trained.spec
        if labels is None:
            return make_plan("train", (), spec, seed, conditions)
        given = np.asarray([labels] if isinstance(labels, str) else labels)
        if given.dtype.kind in "UT" or given.size == 0:
            return fixed_plan([str(name) for name in given.ravel()], spec, seed, conditions)
        if given.ndim != 2 or given.shape[1] != len(spec.label_names) or not np.isin(given, (0, 1)).all():
            raise ConfigError(
                f"labels is an array of shape {given.shape}. Expected names, or 0 and 1 of shape (num, "
                f"{len(spec.label_names)}) in the order {', '.join(spec.label_names)}."
            )
        beside_NC = np.tile(spec.conditions.vector(conditions), (len(given), 1))
        vectors_NY = np.concatenate([given.astype(np.uint8), beside_NC], axis=1)
        return completed(ListedPlan(vectors_NY, np.ones(len(given), np.int64), "given labels", len(given)), spec, seed)


def load(
    path: Path | str,
    which: Which = "best",
    device: torch.device | str | None = None,
    batch_size: int = _DEFAULT_BATCH,
) -> Sampler:
    """The sampler of a run folder (its `best` checkpoint, or the `last` where none was measured) or of a checkpoint.

    batch_size: that of a dataset whose rows are to be drawn again.
    Raises RunFolderError or CheckpointError when there is no checkpoint or it is damaged.
    """
    return Sampler(read_trained_model(Path(path), which), device, batch_size)


def read_trained_model(path: Path, which: Which = "best") -> TrainedModel:
    """Reads what `load` reads, without building the networks."""
    checkpoint = _find(path, which)
    state = checkpoint.state
    try:
        config = TypeAdapter(ModelConfig).validate_python(state["model"])
        spec = ModelSpec.from_json(state["spec"])
    except (KeyError, TypeError, ValidationError) as error:
        raise CheckpointError(
            f"{checkpoint.path} does not describe its model ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}). Use a checkpoint written by `emixer train` of this version."
        ) from error
    return TrainedModel(
        config=config,
        spec=spec,
        tensors=checkpoint.tensors(SAMPLER),
        images=checkpoint.images,
        digest=sha256_of(checkpoint.path / f"{SAMPLER}.safetensors"),
        path=checkpoint.path,
        source=dict(state.get("source") or {}),
    )


def _find(path: Path, which: Which) -> Checkpoint:
    if (path / "checkpoint.json").exists():
        return read_checkpoint(path)
    folder = RunFolder.open(path, "train").checkpoints
    checkpoint = find_checkpoint(folder, which) or find_checkpoint(folder, "last") or newest_readable(folder)
    if checkpoint is None:
        raise CheckpointError(
            f"{path} has no checkpoint yet. Wait for training to write the first one, or resume training."
        )
    return checkpoint


def _sampling_model(trained: TrainedModel) -> PairedModel:
    model = build_model(trained.config, trained.spec, load_weights=False)
    names = set(model.ema_modules())
    for name in [name for name, _ in model.named_children() if name not in names]:
        delattr(model, name)  # the critics take as much memory as what draws the samples
    try:
        model.load_state_dict(trained.tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{trained.path} does not fit the model it names ({' '.join(str(error).split())[:200]}). "
            "It is damaged or of another version; use another checkpoint."
        ) from error
    _fold_parametrizations(model)
    return model.eval().requires_grad_(False)


def _fold_parametrizations(model: nn.Module) -> None:
    """Makes plain weights of computed ones (spectral norm): in sampling they never change, so once is enough."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            assert isinstance(module.parametrizations, nn.ModuleDict)
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name)


def _gray_bytes(image_BCHW: Tensor) -> Tensor:
    """[-1, 1] to uint8 (B, H, W), rounded to nearest; channels are equal in a radiograph and are averaged."""
    gray_BHW = image_BCHW.float().mean(dim=1)
    return gray_BHW.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


@contextmanager
def _same_kernels() -> Iterator[None]:
    """Kernels chosen by shape and never by timing, so that every sampler picks the same ones."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
