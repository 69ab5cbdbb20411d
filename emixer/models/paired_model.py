"""What the trainer, the generator and the evaluation know of a model: nothing but this.

EMIXER and each baseline is a `PairedModel` (networks, sampling) plus an `Objective` (two losses). The trainer never
asks which one it holds.

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
"""Token ids that every vocabulary begins with: <PAD> <START> <END> <UNK>."""


@dataclass(frozen=True)
class Batch:
    """Real rows on the device."""

    image_BCHW: Tensor
    """float32 in [-1, 1]."""
    labels_BY: Tensor
    """float32, 1 present, 0 absent or unknown; behind the labels, the columns of the model's conditions."""
    labelled_B: Tensor
    """bool: whether the row's labels are known; their projection term is left out where not."""
    words_BSW: Tensor
    """int64 token ids; every sentence ends in END and is padded with PAD; missing sentences are all PAD. No START."""
    has_report_B: Tensor
    """bool: whether the row has a report; text terms are left out where not."""
    num_report_words: int | None = None
    """At least the words of the longest report, END included, where the host knows: saves what lies behind on a GPU."""
    hidden_BSW: Tensor | None = None
    """bool: the words that F does not see when it learns the words after them; None: it sees all."""

    @property
    def words_read(self) -> Tensor:
        """`words_BSW` as F reads them, (B, S, W): UNKNOWN in the place of a word that is hidden."""
        if self.hidden_BSW is None:
            return self.words_BSW
        return self.words_BSW.masked_fill(self.hidden_BSW, UNKNOWN)

    def rows(self, first: int, num: int) -> "Batch":
        """A view of rows [first, first + num)."""
        part = slice(first, first + num)
        return replace(
            self, image_BCHW=self.image_BCHW[part], labels_BY=self.labels_BY[part], labelled_B=self.labelled_B[part],
            words_BSW=self.words_BSW[part], has_report_B=self.has_report_B[part],
            hidden_BSW=None if self.hidden_BSW is None else self.hidden_BSW[part],
        )  # fmt: skip

    def with_hidden_words(self, share: float, noise: NoiseSource) -> "Batch":
        """The batch with that share of the words, drawn by `noise`, hidden from F. Ends of sentences stay."""
        if share == 0:
            return self
        drawn_BSW = noise.uniform("hidden words", *self.words_BSW.shape[1:]) < share
        return replace(self, hidden_BSW=drawn_BSW & (self.words_BSW > UNKNOWN))

    def with_labelled_reports(self) -> "Batch":
        """The batch with the reports of labelled rows only."""
        return replace(self, has_report_B=self.has_report_B & self.labelled_B)

    def __len__(self) -> int:
        return self.image_BCHW.shape[0]


@dataclass(frozen=True)
class RowWeights:
    """What a sum over this micro-batch's rows is multiplied with, so that the gradients, summed over micro-batches and
    workers, are those of the mean over the *global* batch. Device scalars (no host sync).

    With one worker and no accumulation: row = 1 / B, labelled_row = 1 / #labelled, report = 1 / #with report,
    word = 1 / #target words (END included), stop = 1 / #stop decisions that have a target: one a sentence of a report,
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
        """With `word` and `stop` for sums over rows that have both a report and labels."""
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
    """What the data decides about a model; stored in every checkpoint beside the model's config."""

    label_names: tuple[str, ...]
    tokens: tuple[str, ...]
    """The vocabulary, in id order; begins with <PAD> <START> <END> <UNK>."""
    label_vectors: tuple[tuple[int, ...], ...]
    """Distinct vectors of the train split, labels and behind them the columns of the conditions ..."""
    label_counts: tuple[int, ...]
    """... and how many images carry each: the prior that training and generation draw from."""
    conditions: Conditions = NO_CONDITIONS
    """What else the model is given, and which values of it the train split has."""

    @property
    def num_labels(self) -> int:
        """The first columns of a vector."""
        return len(self.label_names)

    @property
    def num_conditions(self) -> int:
        """The columns behind them."""
        return self.conditions.num_columns

    @property
    def condition_sizes(self) -> tuple[int, ...]:
        """Columns of each condition."""
        return tuple(map(len, self.conditions.values))

    def described(self, vector_Y: Sequence[float]) -> list[str]:
        """Names of the labels that are present, then what is known of the conditions."""
        values = [value for values in self.conditions.values for value in values]
        return [name for name, y in zip((*self.label_names, *values), vector_Y, strict=True) if y]

    def most_frequent_conditions(self) -> dict[str, str]:
        """The value of each condition that most images of the train split have."""
        columns_KC = torch.tensor(self.label_vectors)[:, self.num_labels :]
        images_C = torch.tensor(self.label_counts) @ columns_KC
        named = zip(self.conditions.spans.items(), self.conditions.values, strict=True)
        return {name: values[int(images_C[span].argmax())] for (name, span), values in named}

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The spec that `to_json` wrote, read from a checkpoint's JSON."""
        return cls(
            label_names=tuple(fields["label_names"]),
            tokens=tuple(fields["tokens"]),
            label_vectors=tuple(tuple(vector) for vector in fields["label_vectors"]),
            label_counts=tuple(fields["label_counts"]),
            conditions=Conditions.from_json(fields.get("conditions")),
        )


class PairedModel(nn.Module, ABC):
    """Networks that make an image and its report from labels. Imports neither Ray nor files."""

    spec: ModelSpec

    def begin_step(self) -> None:
        """Called once before the micro-batches of each discriminator or generator step, on every worker: for what moves
        once a step whatever the accumulation. Here: one power iteration of every spectrally normalized weight."""
        advance_power_iterations(self)

    @abstractmethod
    def generator_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters of the generating side by group: "image" and "report" (their rates may differ)."""

    @abstractmethod
    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Trainable parameters of all critics."""

    @abstractmethod
    def ema_modules(self) -> Sequence[str]:
        """Names of the submodules whose moving average samples are drawn from."""

    @abstractmethod
    def noise_shape(self) -> int:
        """Dimensions of the noise vector z."""

    @abstractmethod
    def sample(self, labels_BY: Tensor, noise: RowNoise, temperature: float) -> GeneratedPairs:
        """Draws one pair a row, in eval mode and without gradients. temperature 0 takes the likeliest word."""

    @abstractmethod
    def word_cross_entropy(self, batch: Batch, noise: RowNoise) -> tuple[Tensor, Tensor]:
        """Sum over target words of -log p [nats] and their number, teacher-forced, for validation."""


class Adaptive(Protocol):
    """A probability that follows the critics."""

    probability: Tensor

    @property
    def adapts(self) -> bool:
        """Whether it does."""
        ...

    def follow(self, real_sign: Tensor, num_images: int) -> None:
        """Moves after a critic step over `num_images` images whose real logits had that mean sign."""
        ...


class Objective(ABC):
    """The two-player game of one model. Losses are sums weighted by `RowWeights`; terms are detached, for logging."""

    has_critics: bool = True
    """Whether critics play. Without, each batch is a step of the generating side."""
    adaptive: Adaptive | None = None
    """What of the objective itself adapts, is saved, and is moved after each critic step: augmentation."""
    resting: tuple[str, ...] = ()
    """Submodules of the generating side that do not learn in this game; their moving averages rest with them."""

    @abstractmethod
    def discriminator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the critics on one micro-batch and its terms by name. No gradient reaches the generators."""

    @abstractmethod
    def generator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the generating side on one micro-batch and its terms by name. Critics' gradients are not wanted."""


@dataclass(frozen=True)
class Phases:
    """What is played when: each objective up to its share of the run, the last one to the end. Most models have one."""

    ends: tuple[float, ...]
    """Where each phase but the last ends, in (0, 1), ascending."""
    objectives: tuple[Objective, ...]

    @classmethod
    def single(cls, objective: Objective) -> Self:
        """One game from the beginning to the end."""
        return cls((), (objective,))

    def at(self, progress: float) -> Objective:
        """What is played after the share `progress` of the run."""
        return self.objectives[bisect_right(self.ends, progress)]

    def began(self, progress: float) -> float:
        """The share of the run at which the phase of `progress` began."""
        return (0.0, *self.ends)[bisect_right(self.ends, progress)]

    def is_last(self, progress: float) -> bool:
        """Whether what led up to `progress` was already of the last phase: before that a model is not finished, and
        cannot be the best one."""
        return bisect_left(self.ends, progress) == len(self.ends)


class LabelPrior(nn.Module):
    """The joint distribution of labels and conditions in the train split, ready to draw from. Follows `.to(device)`;
    saves nothing."""

    vectors_KY: Tensor
    cumulative_K: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        cumulative_K = torch.tensor(spec.label_counts, dtype=torch.float64).cumsum(0)
        self.register_buffer("cumulative_K", cumulative_K / cumulative_K[-1], persistent=False)
        self.register_buffer("vectors_KY", torch.tensor(spec.label_vectors, dtype=torch.float32), persistent=False)

    def draw(self, uniform_B: Tensor) -> Tensor:
        """Vectors (B, Y) float32 by inverse transform of `uniform_B` in [0, 1)."""
        index_B = torch.searchsorted(self.cumulative_K, uniform_B.double(), right=True)
        return self.vectors_KY[index_B.clamp_(max=len(self.vectors_KY) - 1)]
