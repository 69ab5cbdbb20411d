"""The interface through which training, generation and evaluation use a model; they know nothing else of it.

EMIXER and each baseline is a `PairedModel` (networks, sampling) plus an `Objective` (two losses). The trainer does not
distinguish between them.

Shapes: B batch, C channels, H = W side [px], Y labels and columns of conditions, S sentences, W words of a sentence.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from emixer.data.conditions import NO_CONDITIONS, Conditions
from emixer.models.noise import NoiseSource, RowNoise
from emixer.models.spectral_norm import advance_power_iterations

PAD, START, END, UNKNOWN = 0, 1, 2, 3
"""Token ids with which every vocabulary begins: <PAD> <START> <END> <UNK>."""


@dataclass(frozen=True)
class Batch:
    """Real rows on the device."""

    image_BCHW: Tensor
    """float32 in [-1, 1]."""
    labels_BY: Tensor
    """float32, 1 present, 0 absent or unknown; after the labels, the columns of the model's conditions."""
    labelled_B: Tensor
    """bool: whether the row's labels are known; if not, their projection term is left out."""
    words_BSW: Tensor
    """int64 token ids; every sentence ends in END and is padded with PAD; missing sentences are all PAD. No START."""
    has_report_B: Tensor
    """bool: whether the row has a report; if not, text terms are left out."""
    num_report_words: int | None = None
    """Upper bound on the words of a report, END included, if the host knows one: saves work on padding on a GPU."""
    hidden_BSW: Tensor | None = None
    """bool: the words hidden from F while it learns the words after them; None: it sees all."""

    @property
    def words_read(self) -> Tensor:
        """`words_BSW` as F reads them, (B, S, W): UNKNOWN in place of a hidden word."""
        if self.hidden_BSW is None:
            return self.words_BSW
        return self.words_BSW.masked_fill(self.hidden_BSW, UNKNOWN)

    def rows(self, first: int, num: int) -> "Batch":
        """Return a view of rows [first, first + num)."""
        part = slice(first, first + num)
        return replace(
            self, image_BCHW=self.image_BCHW[part], labels_BY=self.labels_BY[part], labelled_B=self.labelled_B[part],
            words_BSW=self.words_BSW[part], has_report_B=self.has_report_B[part],
            hidden_BSW=None if self.hidden_BSW is None else self.hidden_BSW[part],
        )  # fmt: skip

    def with_hidden_words(self, share: float, noise: NoiseSource) -> "Batch":
        """Return the batch with that share of the words, drawn by `noise`, hidden from F. Ends of sentences stay."""
        if share == 0:
            return self
        drawn_BSW = noise.uniform("hidden words", *self.words_BSW.shape[1:]) < share
        return replace(self, hidden_BSW=drawn_BSW & (self.words_BSW > UNKNOWN))

    def with_labelled_reports(self) -> "Batch":
        """Return the batch with the reports of labelled rows only."""
        return replace(self, has_report_B=self.has_report_B & self.labelled_B)

    def __len__(self) -> int:
        return self.image_BCHW.shape[0]


@dataclass(frozen=True)
class RowWeights:
    """Factors for sums over this micro-batch's rows, so that the gradients, summed over micro-batches and workers, are
    those of the mean over the *global* batch. Device scalars (no host sync).

    With one worker and no accumulation: row = 1 / B, labelled_row = 1 / #labelled, report = 1 / #with report,
    word = 1 / #target words (END included), stop = 1 / #stop decisions with a target: one per sentence of a report,
    CONTINUE before another sentence, STOP at the last. labelled_word and labelled_stop: the same over rows with labels.
    """

    row: Tensor
    labelled_row: Tensor
    report: Tensor
    word: Tensor
    stop: Tensor
    labelled_word: Tensor
    labelled_stop: Tensor

    def of_labelled(self) -> "RowWeights":
        """Return weights with `word` and `stop` for sums over rows that have both a report and labels."""
        return replace(self, word=self.labelled_word, stop=self.labelled_stop)


@dataclass(frozen=True)
class GeneratedPairs:
    """Sampled images and reports."""

    image_BCHW: Tensor
    """float32 in [-1, 1]."""
    words_BSW: Tensor
    """int64 token ids in the layout of `Batch.words_BSW`."""


@dataclass(frozen=True)
class ModelSpec:
    """What the data determines about a model; stored in every checkpoint beside the model's config."""

    label_names: tuple[str, ...]
    tokens: tuple[str, ...]
    """The vocabulary, in id order; begins with <PAD> <START> <END> <UNK>."""
    label_vectors: tuple[tuple[int, ...], ...]
    """Distinct vectors of the train split, labels and then the columns of the conditions ..."""
    label_counts: tuple[int, ...]
    """... and how many images have each: the prior from which training and generation draw."""
    conditions: Conditions = NO_CONDITIONS
    """What else the model is conditioned on, and which values the train split has."""

    @property
    def num_labels(self) -> int:
        """Number of labels, the first columns of a vector."""
        return len(self.label_names)

    @property
    def num_conditions(self) -> int:
        """Number of condition columns, which come after the labels."""
        return self.conditions.num_columns

    @property
    def condition_sizes(self) -> tuple[int, ...]:
        """Columns of each condition."""
        return tuple(map(len, self.conditions.values))

    def described(self, vector_Y: Sequence[float]) -> list[str]:
        """Return the names of the labels that are present, then the known conditions."""
        values = [value for values in self.conditions.values for value in values]
        return [name for name, y in zip((*self.label_names, *values), vector_Y, strict=True) if y]

    def most_frequent_conditions(self) -> dict[str, str]:
        """Return the most frequent value of each condition in the train split."""
        columns_KC = torch.tensor(self.label_vectors)[:, self.num_labels :]
        images_C = torch.tensor(self.label_counts) @ columns_KC
        named = zip(self.conditions.column_slices.items(), self.conditions.values, strict=True)
        return {name: values[int(images_C[span].argmax())] for (name, span), values in named}

    def to_json(self) -> dict[str, Any]:
        """Return fields that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Read the spec that `to_json` wrote from a checkpoint's JSON."""
        return cls(
            label_names=tuple(fields["label_names"]),
            tokens=tuple(fields["tokens"]),
            label_vectors=tuple(tuple(vector) for vector in fields["label_vectors"]),
            label_counts=tuple(fields["label_counts"]),
            conditions=Conditions.from_json(fields.get("conditions")),
        )


class PairedModel(nn.Module, ABC):
    """Networks that generate an image and its report from labels. Imports neither Ray nor files."""

    spec: ModelSpec

    def begin_step(self) -> None:
        """Called once before the micro-batches of each discriminator or generator step, on every worker, for updates
        once per step whatever the accumulation. Here: one power iteration of every spectrally normalized weight."""
        advance_power_iterations(self)

    @abstractmethod
    def generator_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters of the generators by group: "image" and "report" (their learning rates may differ)."""

    @abstractmethod
    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Trainable parameters of all critics."""

    @abstractmethod
    def ema_modules(self) -> Sequence[str]:
        """Names of the submodules from whose moving average samples are drawn."""

    @abstractmethod
    def sample(self, labels_BY: Tensor, noise: RowNoise, temperature: float) -> GeneratedPairs:
        """Draw one pair per row, in eval mode and without gradients. temperature 0 takes the likeliest word."""

    @abstractmethod
    def word_cross_entropy(self, batch: Batch, noise: RowNoise) -> tuple[Tensor, Tensor]:
        """Return the sum over target words of -log p [nats] and their number, teacher-forced, for validation."""


class Adaptive(Protocol):
    """A probability that adapts to the critics."""

    probability: Tensor

    @property
    def adapts(self) -> bool:
        """Whether it adapts."""
        ...

    def follow(self, real_sign: Tensor, num_images: int) -> None:
        """Update the probability after a critic step on `num_images` images whose real logits had that mean sign."""
        ...


class Objective(ABC):
    """The two-player game of one model. Losses are sums weighted by `RowWeights`; terms are detached, for logging."""

    has_critics: bool = True
    """Whether there are critics. Without, each batch is a generator step."""
    adaptive: Adaptive | None = None
    """The part of the objective that adapts, is saved, and is updated after each critic step: augmentation."""
    resting: tuple[str, ...] = ()
    """Submodules of the generators that are not trained in this game; nor are their moving averages updated."""

    @abstractmethod
    def discriminator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the critics' loss on one micro-batch and its terms by name. No gradient reaches the generators."""

    @abstractmethod
    def generator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the generators' loss on one micro-batch and its terms by name. Critics' gradients are not needed."""


@dataclass(frozen=True)
class Phases:
    """Sequence of objectives: each up to its share of the run, the last one to the end. Most models have one."""

    ends: tuple[float, ...]
    """End of each phase but the last, in (0, 1), ascending."""
    objectives: tuple[Objective, ...]

    @classmethod
    def single(cls, objective: Objective) -> Self:
        """Use one objective from beginning to end."""
        return cls((), (objective,))

    def at(self, progress: float) -> Objective:
        """Return the objective after the share `progress` of the run."""
        return self.objectives[bisect_right(self.ends, progress)]

    def trained_since(self, progress: float, names: Sequence[str]) -> dict[str, float]:
        """Return, of the submodules of the generators that train at `progress`, the share of the run at which their
        training began: that of the first phase since which they have not rested."""
        begins = (0.0, *self.ends)
        past = list(zip(begins, self.objectives, strict=True))[bisect_right(self.ends, progress) :: -1]
        since: dict[str, float] = {}
        for name in names:
            for began, objective in past:
                if name in objective.resting:
                    break
                since[name] = began
        return since

    def selects_by(self, metric: str) -> str:
        """Return the validation metric that selects the best model where `metric` is asked for: if the images rest in
        the last phase, their distance no longer changes, and only words tell models apart."""
        return "word_cross_entropy" if "image_generator" in self.objectives[-1].resting else metric

    def is_last(self, progress: float) -> bool:
        """Return whether training just before `progress` was already in the last phase: before that, a model is
        unfinished and cannot be the best one."""
        return bisect_left(self.ends, progress) == len(self.ends)


class LabelPrior(nn.Module):
    """The joint distribution of labels and conditions in the train split, to draw from. Follows `.to(device)`; saves
    nothing."""

    vectors_KY: Tensor
    cumulative_K: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        cumulative_K = torch.tensor(spec.label_counts, dtype=torch.float64).cumsum(0)
        self.register_buffer("cumulative_K", cumulative_K / cumulative_K[-1], persistent=False)
        self.register_buffer("vectors_KY", torch.tensor(spec.label_vectors, dtype=torch.float32), persistent=False)

    def draw(self, uniform_B: Tensor) -> Tensor:
        """Draw vectors (B, Y) float32 by inverse transform of `uniform_B` in [0, 1)."""
        index_B = torch.searchsorted(self.cumulative_K, uniform_B.double(), right=True)
        return self.vectors_KY[index_B.clamp_(max=len(self.vectors_KY) - 1)]
