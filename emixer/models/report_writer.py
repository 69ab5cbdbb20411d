"""Interface of report writers: places of a feature map, and labels if it reads them -> a report. The report decoder F
is a chest encoder followed by a writer; the baselines feed a writer with other features.

Shapes: B images, P places of the feature map, V features, S sentences, W words of a sentence, N rows, E embedding,
K vocabulary.
Source: EMIXER §3.2.2. Departures: docs/deviations.md#report-decoder, docs/deviations.md#words.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from emixer.config.model import GumbelConfig
from emixer.models.conditioning import LabelEmbedding
from emixer.models.noise import NoiseSource
from emixer.models.paired_model import PAD, UNKNOWN, Batch, RowWeights
from emixer.models.words import ReportReader, embedded


@dataclass(frozen=True)
class RelaxedReport:
    """Free-running words through which gradients pass."""

    words_BSW: Tensor
    """int64 token ids, PAD after END and after the last sentence."""
    embedded_BSWE: tuple[Tensor, ...]
    """The same words in each of the requested embedding tables."""

    @property
    def valid(self) -> Tensor:
        """bool (B, S, W): where there is a word."""
        return self.words_BSW != PAD


@dataclass(frozen=True)
class ReportNats:
    """Sums of -log p of real reports, float32 scalars [nats]."""

    words: Tensor
    """For all words, END included, each given those before it."""
    num_words: Tensor
    stops: Tensor
    """For the ends of reports."""


@dataclass(frozen=True)
class WriterInput:
    """The input from which reports are written."""

    places_BPV: Tensor
    """The places of a feature map, float32."""
    labels_BY: Tensor | None = None
    """0 or 1, for writers that read labels; after the labels, the columns of conditions."""
    labelled_B: Tensor | None = None
    """bool: which rows' labels are known; None: all."""

    def __len__(self) -> int:
        return len(self.places_BPV)

    def embedded_labels(self, embedding: LabelEmbedding) -> Tensor:
        """Embed the labels and conditions that are known, (B, E)."""
        assert self.labels_BY is not None, "whoever reads labels is given them"
        embedded_BE: Tensor = embedding(self.labels_BY, self.labelled_B)
        return embedded_BE


class ReportWriter(nn.Module, ABC):
    """Network that writes a report from a condition."""

    @abstractmethod
    def nats(self, condition: WriterInput, batch: Batch) -> ReportNats:
        """Return -log p of the batch's reports under teacher forcing; rows without a report are left out."""

    @abstractmethod
    def stop_weight(self, weights: RowWeights) -> Tensor:
        """Return the factor of `ReportNats.stops` in the mean, as `weights.word` is that of `words`."""

    @abstractmethod
    def write(self, condition: WriterInput, noise: NoiseSource, temperature: float, unknown: bool = False) -> Tensor:
        """Sample free-running token ids (B, S, W) in the layout of `Batch.words_BSW`, without gradient. Temperature 0
        takes the likeliest.

        `unknown` allows the token UNK, which readers should never see but which critics see in real reports.
        """

    @abstractmethod
    def write_relaxed(
        self, condition: WriterInput, noise: NoiseSource, gumbel: GumbelConfig, tables_KE: Sequence[Tensor]
    ) -> RelaxedReport:
        """Sample free-running words by Gumbel-softmax, embedded in each of `tables_KE`.

        The tables have a gradient also under `torch.no_grad`.

        The words are drawn first, without gradient; then one pass over all of them gives the distributions that
        gradients pass through. A gradient reaches what a word depends on, but not the relaxation of the words before.
        """


def written_for(
    writer: ReportWriter,
    condition: WriterInput,
    noise: NoiseSource,
    gumbel: GumbelConfig,
    readers: Sequence[ReportReader],
) -> RelaxedReport:
    """Sample free-running words as each of `readers` reads them: relaxed, or, where no gradient is to reach the writer
    (`torch.no_grad`), drawn. The readers' own tables have a gradient in both cases: critics train them."""
    if gumbel.straight_through and not torch.is_grad_enabled():
        # then a straight-through word is a plain draw: one number per word, not one per token
        words_BSW = writer.write(condition, noise, temperature=1.0, unknown=True)
        with torch.enable_grad():
            return RelaxedReport(words_BSW, tuple(reader.embed(words_BSW) for reader in readers))
    return writer.write_relaxed(condition, noise, gumbel, [reader.embedding.weight for reader in readers])


def has_words(num_words: int, unknown: bool) -> bool:
    """Return whether a vocabulary of that size has a word to write. One of a collection without reports has none but
    UNKNOWN: its reports are empty."""
    return unknown or num_words > UNKNOWN + 1


def chosen(logits_NK: Tensor, uniform_N: Tensor, temperature: float) -> Tensor:
    """Return token ids (N,): the likeliest, or drawn by inverse transform of one uniform number per word."""
    if temperature == 0:
        return logits_NK.argmax(dim=1)
    cumulative_NK = functional.softmax(logits_NK / temperature, dim=1).cumsum(dim=1)
    threshold_N1 = uniform_N[:, None] * cumulative_NK[:, -1:]
    return torch.searchsorted(cumulative_NK, threshold_N1, right=True).squeeze(1).clamp_(max=logits_NK.shape[1] - 1)


def relaxed_words(
    logits_NK: Tensor, gumbel_NK: Tensor, word_N: Tensor, table_KE: Tensor, gumbel: GumbelConfig
) -> Tensor:
    """Return embeddings (N, E) of words chosen by noise, with the gradient of their Gumbel-softmax distributions."""
    probability_NK = functional.softmax((logits_NK + gumbel_NK) / gumbel.temperature, dim=1)
    return embedded(probability_NK, word_N, table_KE, gumbel.straight_through)
