"""A trained model that draws pairs: `emixer.load(run).sample(labels=["Pneumothorax"], num=4, seed=0)`.

Row i of a sample depends on (seed, i, labels and conditions of row i) alone. Rows are drawn in fixed blocks
[k * B, (k + 1) * B), B = `batch_size`, the last one padded, so that every kernel always sees the same shapes.

Shapes: N rows, B rows of a block, C channels, H = W side [px], L labels, Y labels and columns of conditions, S
sentences, W words of a sentence.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from emixer.checkpoint import Which
from emixer.config.base import absolute
from emixer.config.generation import GenerateConfig
from emixer.errors import ConfigError
from emixer.generation.label_names import label_vector
from emixer.generation.pairs import Pairs
from emixer.generation.plan import completed, fixed_plan, make_plan
from emixer.generation.plan_kinds import LabelPlan, Labels, ListedPlan
from emixer.generation.trained_model import TrainedModel, read_trained_model, sampling_model
from emixer.models.cuda import has_gpu
from emixer.models.fixed_kernels import fixed_kernels
from emixer.models.noise import BLOCK_ROWS, RepeatedNoise, RowNoise

REDRAWN_ROWS = BLOCK_ROWS
"""Rows that are drawn together when one of them is drawn again: as few as share a block of noise."""
_MAX_SEED = 2**63 - 1
"""As of `generate.seed`, which is a column of 64 bits."""
_STEP = 0  # generation has no steps: rows are told apart by their number
DEFAULT_BATCH = int(GenerateConfig.model_fields["batch_size"].default)
_MAX_BATCH = 1024
"""As of `generate.batch_size`."""
_DEFAULT_TEMPERATURE = float(GenerateConfig.model_fields["temperature"].default)

_Number = TypeVar("_Number", np.uint8, np.float32)


class Sampler:
    """A trained model on a device, ready to draw. Make one with `emixer.load`."""

    def __init__(
        self, trained: TrainedModel, device: torch.device | str | None = None, batch_size: int = DEFAULT_BATCH
    ) -> None:
        """device: None takes CUDA where there is a GPU for this process. batch_size: rows drawn together, which
        decides a row's last bits.

        Raises ConfigError for a batch size that `generate.batch_size` refuses too.
        """
        _check_batch(batch_size)
        self.trained = trained
        self.batch_size = batch_size
        self.device = torch.device(device or ("cuda" if has_gpu() else "cpu"))
        with self._same_kernels():
            self._model = sampling_model(trained).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _same_kernels(self) -> AbstractContextManager[None]:
        """Every sampler takes the same kernels and rounds alike, whatever its caller has set in torch."""
        return fixed_kernels(self.device, "tf32", deterministic=True)

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

        labels: names that every row has; or 0/1 of shape (num, L), one vector a row; or a DataFrame of these, whose
        columns are the model's labels in any order; or None for the joint distribution of the training images.
        temperature: of the words; 0 takes the likeliest. sex, age [years, or a group], view: of every row; None draws
        them as training images with the row's labels have them.

        Raises ConfigError for an unknown label or value, labels of another shape or with other columns, or a seed or
        temperature that there is not.
        """
        given = {"sex": sex, "age": age, "view": view}
        _check(seed, temperature)
        vectors_NY, rows = self._asked(labels, num, seed, given)
        return self._pairs(vectors_NY, np.arange(rows), self.draw(vectors_NY, 0, seed, temperature))

    def relabel(
        self, pairs: Pairs, labels: ArrayLike, seed: int = 0, temperature: float = _DEFAULT_TEMPERATURE
    ) -> Pairs:
        """The rows of `pairs` with other labels, 0/1 of shape (num, L), and the same noise and conditions: what changes
        comes from the labels. seed, temperature: of `pairs`, which may be a part of what was drawn. Raises ConfigError
        for other labels.
        """
        _check(seed, temperature)
        labels_NL = self._by_row(self._array_of(labels))
        if labels_NL.shape != pairs.labels.shape:
            raise ConfigError(f"labels has shape {labels_NL.shape}. The pairs have labels of {pairs.labels.shape}.")
        vectors_NY, rows_N = np.concatenate([labels_NL, self.columns_of(pairs)], axis=1), pairs.rows
        placed, images, words = [], [], []
        for first_row, here in _blocks_of(rows_N, self.batch_size):
            vectors_BY = np.repeat(vectors_NY[here[:1]], self.batch_size, axis=0)  # no row depends on its neighbours
            vectors_BY[rows_N[here] - first_row] = vectors_NY[here]
            images_BHW, words_BSW = self.draw(vectors_BY, first_row, seed, temperature)
            placed.append(here)
            images.append(images_BHW[rows_N[here] - first_row])
            words.append(words_BSW[rows_N[here] - first_row])
        order_N = np.argsort(np.concatenate(placed))
        return self._pairs(vectors_NY, rows_N, (np.concatenate(images)[order_N], np.concatenate(words)[order_N]))

    def interpolate(
        self,
        start: Sequence[str],
        end: Sequence[str],
        num: int = 5,
        seed: int = 0,
        temperature: float = _DEFAULT_TEMPERATURE,
        *,
        row: int = 0,
        sex: str | None = None,
        age: int | str | None = None,
        view: str | None = None,
    ) -> Pairs:
        """`num` pairs at even steps between two sets of labels, all with the noise and conditions of one row.

        The first is row `row` of `sample(start)`. Raises ConfigError as `sample` does, and for less than two steps.
        """
        if num < 2 or row < 0:
            raise ConfigError(f"num={num}, row={row}: an interpolation has at least 2 steps, and rows count from 0.")
        _check(seed, temperature)
        vectors_RY, _ = self._asked(list(start), row + 1, seed, {"sex": sex, "age": age, "view": view})
        ends_2L = np.stack([label_vector(list(labels), self.label_names) for labels in (start, end)])
        share_N1 = np.linspace(0, 1, num, dtype=np.float32)[:, None]
        labels_NL = (1 - share_N1) * ends_2L[0] + share_N1 * ends_2L[1]
        beside_NC = np.tile(vectors_RY[row, len(self.label_names) :], (num, 1))
        vectors_NY = self._whole_blocks(np.concatenate([labels_NL, beside_NC], axis=1, dtype=np.float32))
        return self._pairs(vectors_NY, np.full(num, row), self.draw(vectors_NY, 0, seed, temperature, held_row=row))

    def padded(self, num_rows: int) -> int:
        """The next multiple of the batch size."""
        return -(-num_rows // self.batch_size) * self.batch_size

    def draw(
        self,
        labels_NY: Labels | NDArray[np.float32],
        first_row: int,
        seed: int,
        temperature: float,
        held_row: int | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Images uint8 (N, H, W) and token ids int32 (N, S, W) of whole blocks.

        `first_row` and N are multiples of the batch size. held_row: the one row whose noise all have. Nothing is copied
        from the device before all is drawn.
        """
        size = self.batch_size
        assert first_row % size == 0, "blocks are aligned"
        assert len(labels_NY) % size == 0, "blocks are whole"
        with torch.inference_mode(), self._same_kernels():
            all_labels_NY = torch.from_numpy(labels_NY).to(self.device, torch.float32)
            images, words = [], []
            for start in range(0, len(labels_NY), size):
                noise = (
                    RowNoise(seed, _STEP, first_row + start, size, self.device)
                    if held_row is None
                    else RepeatedNoise(seed, _STEP, held_row, size, self.device)
                )
                pairs = self._model.sample(all_labels_NY[start : start + size], noise, temperature)
                images.append(_gray_bytes(pairs.image_BCHW))
                words.append(pairs.words_BSW.int())
            return torch.cat(images).cpu().numpy(), torch.cat(words).cpu().numpy()

    def draw_again(
        self, labels_BY: Labels, first_row: int, seed: int, temperature: float, number: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """As `draw` of one block of REDRAWN_ROWS rows, from other noise: the `number`-th further draw, from 1."""
        assert first_row % REDRAWN_ROWS == 0, "blocks are aligned"
        assert len(labels_BY) == REDRAWN_ROWS, "blocks are whole"
        assert number > 0, "the first draw is that of `draw`"
        with torch.inference_mode(), self._same_kernels():
            noise = RowNoise(seed, _STEP, first_row, REDRAWN_ROWS, self.device).named(f"redraw {number}")
            pairs = self._model.sample(torch.from_numpy(labels_BY).to(self.device, torch.float32), noise, temperature)
            return _gray_bytes(pairs.image_BCHW).cpu().numpy(), pairs.words_BSW.int().cpu().numpy()

    def _asked(
        self,
        labels: Sequence[str] | ArrayLike | None,
        num: int | None,
        seed: int,
        conditions: Mapping[str, str | int | None],
    ) -> tuple[Labels, int]:
        """Vectors of whole blocks, and how many of them are asked for. Raises ConfigError as `sample` says."""
        plan = self._plan(labels, {name: value for name, value in conditions.items() if value is not None}, seed)
        rows = num if num is not None else plan.num_rows or 1
        if rows < 1 or (plan.num_rows is not None and rows != plan.num_rows):
            raise ConfigError(f"num={rows} does not fit: expected {plan.num_rows or 'at least 1'}. Leave num out.")
        return plan.labels(0, self.padded(rows)), rows

    def _pairs(
        self,
        vectors_NY: Labels | NDArray[np.float32],
        rows_N: NDArray[np.int64],
        drawn: tuple[NDArray[np.uint8], NDArray[np.int32]],
    ) -> Pairs:
        """What was drawn for these vectors, without the padding behind it. rows: whose noise it has."""
        (images, words), num = drawn, len(rows_N)
        first_condition = len(self.label_names)
        told = self.trained.spec.conditions.values_in_rows(vectors_NY[:num, first_condition:].astype(np.uint8))
        reports = self.trained.vocabulary.decode(words[:num])
        return Pairs(images[:num], reports, vectors_NY[:num, :first_condition], self.label_names, told, rows_N)

    def columns_of(self, pairs: Pairs) -> Labels:
        """Columns of the conditions (N, C), 0 where one is not known."""
        return np.stack([
            self.trained.spec.conditions.vector({name: value for name, value in pair.conditions.items() if value})
            for pair in pairs
        ])  # fmt: skip

    def _whole_blocks(self, vectors_NY: NDArray[_Number]) -> NDArray[_Number]:
        """With the last row repeated up to a multiple of the batch size; no row depends on its neighbours."""
        missing = self.padded(len(vectors_NY)) - len(vectors_NY)
        return np.concatenate([vectors_NY, np.repeat(vectors_NY[-1:], missing, axis=0)])

    def _plan(self, labels: Sequence[str] | ArrayLike | None, conditions: dict[str, str | int], seed: int) -> LabelPlan:
        spec = self.trained.spec
        if labels is None:
            return make_plan("train", (), spec, seed, conditions)
        given = self._array_of([labels] if isinstance(labels, str) else labels)
        if given.ndim == 1 and all(isinstance(name, str) for name in given.tolist()):
            return fixed_plan(given.tolist(), spec, seed, conditions)
        labels_NL = self._by_row(given)
        num = len(labels_NL)
        vectors_NY = np.concatenate([labels_NL, np.tile(spec.conditions.vector(conditions), (num, 1))], axis=1)
        return completed(ListedPlan(vectors_NY, np.ones(num, np.int64), "given labels", num), spec, seed)

    def _array_of(self, labels: ArrayLike) -> NDArray[Any]:
        if hasattr(labels, "columns"):
            labels = self._in_order(labels)
        try:
            return np.asarray(labels)
        except ValueError as error:  # lists of several lengths
            raise self._wrong_labels("a list of lists of several lengths") from error

    def _in_order(self, table: Any) -> Any:
        """A DataFrame with its columns in the order of the labels. Raises ConfigError unless they are the labels."""
        given, wanted = Counter(map(str, table.columns)), Counter(self.label_names)
        if given != wanted:
            missing, others = (", ".join(names) or "none" for names in (wanted - given, given - wanted))
            raise ConfigError(
                f"labels has columns other than the model's labels (missing: {missing}; unknown or repeated: "
                f"{others}). Give one column for each of {', '.join(self.label_names)}, in any order."
            )
        return table[list(self.label_names)]

    def _by_row(self, given: NDArray[Any]) -> Labels:
        """A vector of labels for each row. Raises ConfigError for values other than 0 and 1, e.g. -1 for uncertain."""
        if given.ndim != 2 or given.shape[1] != len(self.label_names):
            raise self._wrong_labels(f"an array of shape {given.shape}")
        if given.dtype == object:  # pandas' NA can be compared with nothing
            import pandas as pd

            given = np.where(pd.isna(given), np.nan, given)
        num_wrong = int((~np.isin(given, (0, 1))).any(axis=1).sum())
        if num_wrong:
            raise ConfigError(
                f"labels has values other than 0 and 1 in {num_wrong:,} of {len(given):,} rows. If they are -1 "
                "(uncertain) or NaN (not mentioned), decide what these are, e.g. in pandas labels.fillna(0).clip(0, 1)."
            )
        if not len(given):
            raise ConfigError("labels has no rows, so there is nothing to draw. Give at least one, or leave it out.")
        return given.astype(np.uint8)

    def _wrong_labels(self, given: str) -> ConfigError:
        return ConfigError(
            f"labels is {given}. Expected a list of names, which every row has, or 0 and 1 of shape (num, "
            f"{len(self.label_names)}) in the order {', '.join(self.label_names)}."
        )


def load(
    path: Path | str,
    which: Which = "best",
    device: torch.device | str | None = None,
    batch_size: int = DEFAULT_BATCH,
) -> Sampler:
    """The sampler of a run folder (its `best` checkpoint, or the `last` where none was measured), of a checkpoint, or
    of a folder that `emixer publish` wrote.

    batch_size: that of a dataset whose rows are to be drawn again.
    Raises RunFolderError or CheckpointError when there is no checkpoint or it is damaged, ConfigError for another
    `which` or a batch size out of range.
    """
    return Sampler(read_trained_model(absolute(Path(path)), which), device, batch_size)


def _check(seed: int, temperature: float) -> None:
    """Raises ConfigError for what `emixer generate` refuses too."""
    if not 0 <= seed <= _MAX_SEED:
        raise ConfigError(f"seed={seed} is out of range. Use 0 to {_MAX_SEED}.")
    if not (temperature >= 0 and math.isfinite(temperature)):
        raise ConfigError(f"temperature={temperature} is out of range. Use 0 (the likeliest words) or more.")


def _check_batch(batch_size: int) -> None:
    """Raises ConfigError for what `emixer generate` refuses too."""
    if not 1 <= batch_size <= _MAX_BATCH:
        raise ConfigError(f"batch_size={batch_size} is out of range. Use 1 to {_MAX_BATCH}.")


def _blocks_of(rows_N: NDArray[np.int64], size: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """First row and members of the blocks that these rows are in; a row that comes again gets a block of its own."""
    seen: Counter[int] = Counter()
    members: dict[tuple[int, int], list[int]] = {}
    for place, row in enumerate(rows_N.tolist()):
        members.setdefault((row // size, seen[row]), []).append(place)
        seen[row] += 1
    for (block, _), places in members.items():
        yield block * size, np.array(places)


def _gray_bytes(image_BCHW: Tensor) -> Tensor:
    """[-1, 1] to uint8 (B, H, W), rounded to nearest; channels are equal in a radiograph and are averaged."""
    gray_BHW = image_BCHW.float().mean(dim=1)
    return gray_BHW.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
