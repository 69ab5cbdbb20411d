"""The paper's report writer: sentence by sentence, word by word.

The sentence LSTM reads v at every step, so the topics and stop decisions of all sentences are known before the first
word, and the word LSTM writes all sentences of all images in parallel: W steps for a whole batch, where a loop over
sentences takes S times as many for each image. The price is that sentences do not see each other.

Shapes: B images, P places, V features, S sentences, N = B * S, M sentences of a group, W words of a sentence, E word
embedding = topic, H state, K vocabulary.
Source: EMIXER §3.2.2, §6.2.2; Krause et al. 2017 for what STOP means. Departures: docs/deviations.md#report-decoder.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from emixer.config.model import GumbelConfig, HierarchicalWriterConfig
from emixer.models.conditioning import LabelEmbedding
from emixer.models.host_reads import free_to_read
from emixer.models.noise import NoiseSource
from emixer.models.paired_model import END, PAD, START, UNKNOWN, Batch, RowWeights
from emixer.models.recurrent import Lstm
from emixer.models.report_writer import (
    RelaxedReport,
    ReportNats,
    ReportWriter,
    WriterInput,
    chosen,
    has_words,
    relaxed_words,
)

CONTINUE, STOP = 0, 1
"""Classes of the sentence LSTM's head. STOP means that this sentence is the last, so a report has at least one."""
_GROUPS = 4
"""Groups of a batch's sentences. Each costs the steps of its longest one; more groups leave an LSTM too few rows."""
_NO_TARGET = -100


@dataclass(frozen=True)
class ReportPlan:
    """The part of a report that is known before its words."""

    topics_BSE: Tensor
    stop_logits_BS2: Tensor


class HierarchicalWriter(ReportWriter):
    """Sentence LSTM -> stop decisions and topics -> word LSTM. Reads the mean over the places plus the label
    embedding."""

    forbidden_WK: Tensor

    def __init__(
        self, config: HierarchicalWriterConfig, feature_size: int, num_labels: int, num_words: int, max_sentences: int,
        max_words: int, num_conditions: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.max_sentences, self.max_words = max_sentences, max_words
        self.topic_in_every_step = config.topic_in_every_step
        self.label_embedding = (
            LabelEmbedding(num_labels, num_conditions, feature_size, bias=False) if num_labels else None
        )
        self.sentence_lstm = Lstm(feature_size, config.sentence_hidden)
        self.stop = nn.Linear(config.sentence_hidden, 2)
        self.topic = nn.Sequential(
            nn.Linear(config.sentence_hidden, config.word_embedding),
            nn.ReLU(),
            nn.Linear(config.word_embedding, config.word_embedding),
            nn.ReLU(),
            nn.Linear(config.word_embedding, config.word_embedding),
        )
        self.word_embedding = nn.Embedding(num_words, config.word_embedding, padding_idx=PAD)
        self.word_lstm = Lstm(config.word_embedding, config.word_hidden, config.word_layers)
        self.to_words = nn.Linear(config.word_hidden, num_words)
        self.register_buffer("forbidden_WK", _forbidden(max_words, num_words), persistent=False)

    def plan(self, condition: WriterInput, num_sentences: int | None = None) -> ReportPlan:
        """Return topics and stop logits (float32) of the first `num_sentences` sentences; None: of max_sentences."""
        v_BV = condition.places_BPV.mean(dim=1)
        if self.label_embedding is not None:
            v_BV = v_BV + condition.embedded_labels(self.label_embedding)
        repeated_BSV = v_BV[:, None].expand(-1, num_sentences or self.max_sentences, -1)
        states_BSH, _ = self.sentence_lstm(repeated_BSV)
        return ReportPlan(self.topic(states_BSH), self.stop(states_BSH).float())

    def word_logits(self, topics_NE: Tensor, words_NW: Tensor) -> Tensor:
        """Return logits (N, W, K) of each word given the true words before it; undefined where `words_NW` is PAD."""
        read_NWE = self.word_embedding(functional.pad(words_NW[:, :-1], (1, 0), value=START))
        return self._logits(topics_NE, read_NWE)

    def nats(self, condition: WriterInput, batch: Batch) -> ReportNats:
        """See `ReportWriter.nats`."""
        plan = self.plan(condition, batch.words_BSW.shape[1])
        words_NW = batch.words_BSW.masked_fill(~batch.has_report_B[:, None, None], PAD).flatten(0, 1)
        read_NW = batch.words_read.flatten(0, 1)
        total = torch.zeros((), device=words_NW.device)
        for group_M, width in _groups(words_NW):
            target_MW = words_NW[group_M, :width]
            logits_MWK = self.word_logits(plan.topics_BSE.flatten(0, 1)[group_M], read_NW[group_M, :width]).float()
            total = total + functional.cross_entropy(
                logits_MWK.flatten(0, 1), target_MW.flatten(), ignore_index=PAD, reduction="sum"
            )
        return ReportNats(total, (words_NW != PAD).sum(), stop_cross_entropy(plan.stop_logits_BS2, batch))

    def stop_weight(self, weights: RowWeights) -> Tensor:
        """Stops have a separate mean, over stop decisions instead of words."""
        return weights.stop

    @torch.no_grad()
    def write(self, condition: WriterInput, noise: NoiseSource, temperature: float, unknown: bool = False) -> Tensor:
        """See `ReportWriter.write`."""
        plan = self.plan(condition)
        uniform_NW = noise.uniform("words", self.max_sentences, self.max_words).flatten(0, 1)

        def choose(step: int, rows_M: Tensor, logits_MK: Tensor) -> tuple[Tensor, Tensor]:
            word_M = chosen(logits_MK, uniform_NW[rows_M, step], temperature)
            return word_M, self.word_embedding(word_M)

        words_NW = self._free_running(plan, sentences_kept(plan, noise, temperature), choose, unknown)
        words_BSW: Tensor = words_NW.unflatten(0, (-1, self.max_sentences))
        return words_BSW

    def write_relaxed(
        self, condition: WriterInput, noise: NoiseSource, gumbel: GumbelConfig, tables_KE: Sequence[Tensor]
    ) -> RelaxedReport:
        """See `ReportWriter.write_relaxed`."""
        plan = self.plan(condition)
        topics_NE = plan.topics_BSE.flatten(0, 1)
        with torch.enable_grad():
            table_KE = torch.cat(list(tables_KE), dim=1)
        # Written in place: with the paper's sizes it takes gigabytes, so a list of steps and their stack do not fit
        size_NWK = (len(topics_NE), self.max_words, len(self.word_embedding.weight))
        gumbel_NWK = torch.empty(size_NWK, device=topics_NE.device)
        soft_WNE = [self._start(plan)]

        def choose(step: int, rows_M: Tensor, logits_MK: Tensor) -> tuple[Tensor, Tensor]:
            drawn_NK = noise.gumbel(f"gumbel/{step}", self.max_sentences, logits_MK.shape[1]).flatten(0, 1)
            gumbel_NWK[:, step] = drawn_NK
            perturbed_MK = logits_MK + drawn_NK[rows_M]
            word_M = perturbed_MK.argmax(dim=1)
            if gumbel.straight_through:
                return word_M, self.word_embedding(word_M)
            read_ME = functional.softmax(perturbed_MK / gumbel.temperature, dim=1) @ self.word_embedding.weight
            soft_WNE.append(torch.zeros_like(soft_WNE[0]).index_copy_(0, rows_M, read_ME.float()))
            return word_M, read_ME

        with torch.no_grad():
            words_NW = self._free_running(plan, sentences_kept(plan, noise, temperature=1.0), choose, unknown=True)
        outputs_NWE = torch.zeros(*words_NW.shape, table_KE.shape[1], device=words_NW.device)
        for group_M, width in _groups(words_NW):
            word_MW = words_NW[group_M, :width]
            if gumbel.straight_through:
                logits_MWK = self.word_logits(topics_NE[group_M], word_MW)
            else:
                read_MWE = torch.stack([read_NE[group_M] for read_NE in soft_WNE[:width]], dim=1).detach()
                logits_MWK = self._logits(topics_NE[group_M], read_MWE)
            logits_MWK = logits_MWK.float().masked_fill(self.forbidden_WK[:width], -torch.inf)
            gumbel_NK = gumbel_NWK[group_M, :width].flatten(0, 1)
            with torch.enable_grad():
                relaxed_MWE = relaxed_words(
                    logits_MWK.flatten(0, 1), gumbel_NK, word_MW.flatten(), table_KE, gumbel
                ).unflatten(0, word_MW.shape)
                # soft words are half precision in autocast
                outputs_NWE[group_M, :width] = relaxed_MWE.to(outputs_NWE.dtype)
        with torch.enable_grad():
            outputs_BSWE = outputs_NWE.unflatten(0, (-1, self.max_sentences))
            parts = outputs_BSWE.split([table.shape[1] for table in tables_KE], dim=3)
        return RelaxedReport(words_NW.unflatten(0, (-1, self.max_sentences)), tuple(parts))

    def _logits(self, topics_NE: Tensor, read_NWE: Tensor) -> Tensor:
        """The word LSTM reads topic, START, word 0, ...; its output after START predicts word 0."""
        topic_N1E = topics_NE[:, None].to(read_NWE.dtype)
        if self.topic_in_every_step:
            read_NWE = read_NWE + topic_N1E
        states_NWH, _ = self.word_lstm(torch.cat([topic_N1E, read_NWE], dim=1))
        logits_NWK: Tensor = self.to_words(states_NWH[:, 1:])
        return logits_NWK

    def _free_running(
        self, plan: ReportPlan, alive_BS: Tensor, choose: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]],
        unknown: bool,
    ) -> Tensor:  # fmt: skip
        """Return words (N, W). choose(step, rows_M, logits_MK): returns words and the LSTM's next inputs of those rows.

        Sentences that have ended are dropped: few are as long as the longest. On a GPU, where finding them would force
        a sync, all of them run to the end."""
        topics_NE = plan.topics_BSE.flatten(0, 1)
        alive_M = alive_BS.flatten() & has_words(self.forbidden_WK.shape[1], unknown)
        forbidden_WK = self.forbidden_WK if unknown else self.forbidden_WK | self._is_unknown()
        words_NW = torch.full((len(topics_NE), self.max_words), PAD, device=topics_NE.device)
        rows_M = torch.arange(len(topics_NE), device=topics_NE.device)
        _, state = self.word_lstm(topics_NE[:, None])
        read_ME = self._start(plan)
        for step in range(self.max_words):
            if free_to_read(alive_M) and not alive_M.all():
                rows_M, read_ME = rows_M[alive_M], read_ME[alive_M]
                state = (state[0][:, alive_M], state[1][:, alive_M])
                alive_M = alive_M[alive_M]
                if not len(rows_M):
                    break
            if self.topic_in_every_step:
                read_ME = read_ME + topics_NE[rows_M]
            states_M1H, state = self.word_lstm(read_ME[:, None], state)
            logits_MK = self.to_words(states_M1H[:, 0]).float().masked_fill(forbidden_WK[step], -torch.inf)
            word_M, read_ME = choose(step, rows_M, logits_MK)
            words_NW[rows_M, step] = word_M.where(alive_M, PAD)
            alive_M = alive_M & (word_M != END)
        return words_NW

    def _start(self, plan: ReportPlan) -> Tensor:
        return self.word_embedding.weight[START].expand(plan.topics_BSE.shape[:2].numel(), -1)

    def _is_unknown(self) -> Tensor:
        return torch.arange(self.forbidden_WK.shape[1], device=self.forbidden_WK.device) == UNKNOWN


def stop_cross_entropy(stop_logits_BS2: Tensor, batch: Batch) -> Tensor:
    """Return the sum, over the sentences of the batch's reports, of -log p [nats] of CONTINUE, or STOP at the last."""
    has_sentence_BS = (batch.words_BSW[:, :, 0] != PAD) & batch.has_report_B[:, None]
    has_next_BS = functional.pad(has_sentence_BS[:, 1:], (0, 1))
    target_BS = torch.where(has_sentence_BS, torch.where(has_next_BS, CONTINUE, STOP), _NO_TARGET)
    return functional.cross_entropy(
        stop_logits_BS2.flatten(0, 1), target_BS.flatten(), ignore_index=_NO_TARGET, reduction="sum"
    )


def _groups(words_NW: Tensor) -> Iterator[tuple[Tensor | slice, int]]:
    """Group sentences that have a word by length; yield their rows, and the words of the longest. Reading all of them
    in parallel would spend most of the time on padding. On a GPU, where the lengths would force a sync: one group, as a
    slice, which copies nothing.

    Without any word, one sentence of padding: every parameter then gets a gradient, of 0, as on other workers, which
    wait to add theirs."""
    if not free_to_read(words_NW):
        yield slice(None), words_NW.shape[1]
        return
    length_N = (words_NW != PAD).sum(dim=1)
    longest_last_N = length_N.argsort(stable=True)
    order_M = longest_last_N[min(int((length_N == 0).sum()), len(length_N) - 1) :]
    for group_M in order_M.tensor_split(_GROUPS):
        if len(group_M):
            yield group_M, max(1, int(length_N[group_M[-1]]))


def _forbidden(max_words: int, num_words: int) -> Tensor:
    """Return (W, K) bool: tokens forbidden at each position. A sentence has a word, and ends where its space ends."""
    forbidden_WK = torch.zeros(max_words, num_words, dtype=torch.bool)
    forbidden_WK[:, [PAD, START]] = True
    forbidden_WK[0, END] = True
    forbidden_WK[-1] = torch.arange(num_words) != END
    return forbidden_WK


def sentences_kept(plan: ReportPlan, noise: NoiseSource, temperature: float) -> Tensor:
    """Return (B, S) bool: sentences up to and including the last. temperature 0: of the likeliest number of sentences.

    Above 0 it applies to words only: a sharper choice at every sentence between going on, which is the likelier one at
    most of them, and stopping would make reports longer than those that were learned.
    """
    stop_logits_BS2 = plan.stop_logits_BS2.detach().float()
    logit_BS = stop_logits_BS2[:, :, STOP] - stop_logits_BS2[:, :, CONTINUE]
    num_sentences = logit_BS.shape[1]
    if temperature == 0:
        goes_on_BS = functional.logsigmoid(-logit_BS)
        stops_BS = functional.logsigmoid(logit_BS)
        stops_BS[:, -1] = 0.0  # there are no more
        last_B = (stops_BS + goes_on_BS.cumsum(dim=1) - goes_on_BS).argmax(dim=1)
        return torch.arange(num_sentences, device=last_B.device) <= last_B[:, None]
    stops_BS = noise.uniform("stop", num_sentences) < torch.sigmoid(logit_BS)
    return stops_BS.cumsum(dim=1) - stops_BS.long() == 0
