"""Report decoder: a film -> its report, sentence by sentence, word by word.

The chest encoder gives v; the writer behind it serves the baselines too, whose v comes from elsewhere. The sentence
LSTM reads v at every step, so the topics and stop decisions of all sentences
are known before the first word, and the word LSTM writes all sentences of all films side by side: W steps for a whole
batch, where a loop over sentences takes S times as many for each film.

Shapes: B films, V features, S sentences, N = B * S, W words of a sentence, E word embedding = topic, K vocabulary.
Source: EMIXER §3.2.2, §6.2.2; Krause et al. 2017 for what STOP means. Departures: docs/deviations.md#report-decoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from emixer.config.model import GumbelConfig, ReportDecoderConfig, ReportWriterConfig
from emixer.models.batch_norm import eval_mode
from emixer.models.chest_encoder import ChestEncoder
from emixer.models.noise import NoiseSource
from emixer.models.paired_model import END, PAD, START, UNKNOWN, Batch
from emixer.models.recurrent import Lstm, LstmState
from emixer.models.word_targets import word_cross_entropy
from emixer.models.words import embedded

CONTINUE, STOP = 0, 1
"""States of the sentence LSTM's head. STOP says that this sentence is the last, so a report has at least one."""


@dataclass(frozen=True)
class ReportPlan:
    """What is known of a report before its words."""

    topics_BSE: Tensor
    stop_logits_BS2: Tensor


@dataclass(frozen=True)
class RelaxedReport:
    """Free-running words that gradients can pass."""

    words_BSW: Tensor
    """int64 token ids, PAD after END and after the last sentence."""
    embedded_BSWE: tuple[Tensor, ...]
    """The same words in each of the tables that were asked for."""

    @property
    def valid(self) -> Tensor:
        """bool (B, S, W): where there is a word."""
        return self.words_BSW != PAD


class ReportWriter(nn.Module):
    """From features v_BV to a report."""

    forbidden_WK: Tensor

    def __init__(
        self, config: ReportWriterConfig, feature_size: int, num_words: int, max_sentences: int, max_words: int
    ) -> None:
        super().__init__()
        self.max_sentences, self.max_words = max_sentences, max_words
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

    def plan(self, features_BV: Tensor, num_sentences: int | None = None) -> ReportPlan:
        """Topics and stop logits (float32) of the first `num_sentences` sentences; None: of max_sentences."""
        repeated_BSV = features_BV[:, None].expand(-1, num_sentences or self.max_sentences, -1)
        states_BSH, _ = self.sentence_lstm(repeated_BSV)
        return ReportPlan(self.topic(states_BSH), self.stop(states_BSH).float())

    def teacher_forced(self, topics_BSE: Tensor, words_BSW: Tensor) -> Tensor:
        """Logits (B, S, W, K) of each word given the true words before it; undefined where `words_BSW` is PAD.

        The word LSTM reads topic, START, word 0, ...; what it says after START is word 0.
        """
        start_BS1 = torch.full_like(words_BSW[:, :, :1], START)
        read_BSWE = self.word_embedding(torch.cat([start_BS1, words_BSW[:, :, :-1]], dim=2))
        inputs_BSWE = torch.cat([topics_BSE[:, :, None].to(read_BSWE.dtype), read_BSWE], dim=2)
        states_NWH, _ = self.word_lstm(inputs_BSWE.flatten(0, 1))
        logits_BSWK: Tensor = self.to_words(states_NWH[:, 1:]).unflatten(0, words_BSW.shape[:2])
        return logits_BSWK

    @torch.no_grad()
    def write(self, features_BV: Tensor, noise: NoiseSource, temperature: float, unknown: bool = False) -> Tensor:
        """Free-running token ids (B, S, W) in the layout of `Batch.words_BSW`. Temperature 0 takes the likeliest.

        `unknown` allows the token UNK, which a reader should never see but which real reports show to the critics.
        """
        plan = self.plan(features_BV)
        alive_N = _sentences_kept(plan.stop_logits_BS2, noise, temperature).flatten()
        uniform_NW = noise.uniform("words", self.max_sentences, self.max_words).flatten(0, 1)
        words_NW = torch.full(uniform_NW.shape, PAD, device=uniform_NW.device)
        forbidden_WK = self.forbidden_WK if unknown else self.forbidden_WK | self._is_unknown()
        state, word_N = self._start(plan.topics_BSE)
        for step in range(self.max_words):
            logits_NK, state = self._next_logits(self.word_embedding(word_N), state, forbidden_WK[step])
            word_N = _chosen(logits_NK, uniform_NW[:, step], temperature).where(alive_N, PAD)
            words_NW[:, step] = word_N
            alive_N = alive_N & (word_N != END)
            if not alive_N.is_cuda and not alive_N.any():  # looking is free here; on a GPU it would wait for the queue
                break
        words_BSW: Tensor = words_NW.unflatten(0, (-1, self.max_sentences))
        return words_BSW

    def write_relaxed(
        self, features_BV: Tensor, noise: NoiseSource, gumbel: GumbelConfig, tables_KE: Sequence[Tensor]
    ) -> RelaxedReport:
        """Free-running words by Gumbel-softmax, embedded in each of `tables_KE` as they are made, so that the
        distributions over the vocabulary never stand side by side for all words."""
        plan = self.plan(features_BV)
        alive_N = _sentences_kept(plan.stop_logits_BS2.detach(), noise, temperature=1.0).flatten()
        table_KE = torch.cat(list(tables_KE), dim=1)
        state, word_N = self._start(plan.topics_BSE)
        read_NE = self.word_embedding(word_N)
        words, outputs = [], []
        for step in range(self.max_words):
            logits_NK, state = self._next_logits(read_NE, state, self.forbidden_WK[step])
            gumbel_NK = noise.gumbel(f"gumbel/{step}", self.max_sentences, logits_NK.shape[1]).flatten(0, 1)
            probability_NK = functional.softmax((logits_NK + gumbel_NK) / gumbel.temperature, dim=1)
            word_N = probability_NK.argmax(dim=1).where(alive_N, PAD)
            words.append(word_N)
            outputs.append(embedded(probability_NK, word_N, table_KE, gumbel.straight_through))
            read_NE = embedded(probability_NK, word_N, self.word_embedding.weight, gumbel.straight_through)
            alive_N = alive_N & (word_N != END)
        sizes = (-1, self.max_sentences)
        embedded_BSWE = torch.stack(outputs, dim=1).unflatten(0, sizes)
        parts = embedded_BSWE.split([table.shape[1] for table in tables_KE], dim=3)
        return RelaxedReport(torch.stack(words, dim=1).unflatten(0, sizes), tuple(parts))

    def _start(self, topics_BSE: Tensor) -> tuple[LstmState, Tensor]:
        topics_NE = topics_BSE.flatten(0, 1)
        _, state = self.word_lstm(topics_NE[:, None])
        return state, torch.full((len(topics_NE),), START, device=topics_NE.device)

    def _next_logits(self, read_NE: Tensor, state: LstmState, forbidden_K: Tensor) -> tuple[Tensor, LstmState]:
        states_N1H, state = self.word_lstm(read_NE[:, None], state)
        return self.to_words(states_N1H[:, 0]).float().masked_fill(forbidden_K, -torch.inf), state

    def _is_unknown(self) -> Tensor:
        return torch.arange(self.forbidden_WK.shape[1], device=self.forbidden_WK.device) == UNKNOWN


class ReportDecoder(ReportWriter):
    """F(image): a writer that reads films through its own chest encoder."""

    def __init__(
        self, config: ReportDecoderConfig, num_words: int, max_sentences: int, max_words: int, load_weights: bool = True
    ) -> None:
        encoder = ChestEncoder(config.encoder, load_weights=load_weights)
        super().__init__(config, encoder.feature_size, num_words, max_sentences, max_words)
        self.encoder = encoder

    def read(self, image_BCHW: Tensor) -> Tensor:
        """Features v_BV of films of any origin, by the running statistics of the encoder: those of real films, and of
        sampling."""
        with eval_mode(self.encoder):
            features_BV: Tensor = self.encoder(image_BCHW)
        return features_BV

    @torch.no_grad()
    def sample(self, image_BCHW: Tensor, noise: NoiseSource, temperature: float, unknown: bool = False) -> Tensor:
        """`write` for films."""
        return self.write(self.read(image_BCHW), noise, temperature, unknown)

    def relaxed(
        self, image_BCHW: Tensor, noise: NoiseSource, gumbel: GumbelConfig, tables_KE: Sequence[Tensor]
    ) -> RelaxedReport:
        """`write_relaxed` for films."""
        return self.write_relaxed(self.read(image_BCHW), noise, gumbel, tables_KE)

    @torch.no_grad()
    def word_cross_entropy(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum over target words of -log p(word | film, words before) [nats] and their number, in eval mode."""
        with eval_mode(self):
            plan = self.plan(self.encoder(batch.image_BCHW), batch.words_BSW.shape[1])
            return word_cross_entropy(self.teacher_forced(plan.topics_BSE, batch.words_BSW), batch)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """All but those of a frozen encoder."""
        frozen = {id(p) for p in self.encoder.parameters()} if self.encoder.frozen else set()
        return [p for p in self.parameters() if id(p) not in frozen]


def _forbidden(max_words: int, num_words: int) -> Tensor:
    """(W, K) bool: tokens that may not stand at each place. A sentence has a word, and ends where space ends."""
    forbidden_WK = torch.zeros(max_words, num_words, dtype=torch.bool)
    forbidden_WK[:, [PAD, START]] = True
    forbidden_WK[0, END] = True
    forbidden_WK[-1] = torch.arange(num_words) != END
    return forbidden_WK


def _sentences_kept(stop_logits_BS2: Tensor, noise: NoiseSource, temperature: float) -> Tensor:
    """(B, S) bool: sentences up to and including the first that stops."""
    uniform_BS = noise.uniform("stop", stop_logits_BS2.shape[1])
    logit_BS = stop_logits_BS2[:, :, STOP] - stop_logits_BS2[:, :, CONTINUE]
    stops_BS = logit_BS > 0 if temperature == 0 else uniform_BS < torch.sigmoid(logit_BS / temperature)
    return stops_BS.cumsum(dim=1) - stops_BS.long() == 0


def _chosen(logits_NK: Tensor, uniform_N: Tensor, temperature: float) -> Tensor:
    """Token ids (N,): the likeliest, or drawn by inverse transform of one uniform number a word."""
    if temperature == 0:
        return logits_NK.argmax(dim=1)
    cumulative_NK = functional.softmax(logits_NK / temperature, dim=1).cumsum(dim=1)
    threshold_N1 = uniform_N[:, None] * cumulative_NK[:, -1:]
    return torch.searchsorted(cumulative_NK, threshold_N1, right=True).squeeze(1).clamp_(max=logits_NK.shape[1] - 1)
