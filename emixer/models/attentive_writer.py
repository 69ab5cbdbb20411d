"""A report writer in which every word attends to the image and all previous words.

One causal transformer over one sequence: the places of the feature map and, if they are read, the labels, which attend
to each other; then START and the words of all sentences, each of which attends to all of these and to all words before
it. The token after a sentence's END is the next sentence's first word, or PAD: the report is over. Keys and values are
cached while sampling, so that a word costs one step. The paper's writer passes its image on once, as the first input of
a three-layer LSTM, and its sentences do not see each other; docs/experiments.md has the cost of that.

Shapes: B images, P places, V features, S sentences, W words of a sentence, T words of a report, L positions of the
sequence, M rows still being written, D width, A attention heads, K vocabulary.
Source: a departure from EMIXER §3.2.2, docs/deviations.md#report-decoder; Vaswani et al. 2017 (attention), Wang et al.
2022 (GIT: an image and its text as one sequence).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from emixer.config.model import AttentiveWriterConfig, GumbelConfig
from emixer.models.conditioning import LabelEmbedding
from emixer.models.host_reads import free_to_read
from emixer.models.noise import NoiseSource
from emixer.models.paired_model import END, PAD, START, UNKNOWN, Batch, RowWeights
from emixer.models.report_writer import (
    RelaxedReport,
    ReportNats,
    ReportWriter,
    WriterInput,
    chosen,
    has_words,
    relaxed_words,
)
from emixer.models.words import embedded, in_one_sequence

_FIRST, _BETWEEN, _INSIDE, _LAST = range(4)
"""Position of the next word: first of the report, first of a later sentence, inside a sentence, last that fits."""
_FEWEST_ROWS = 8
"""With fewer rows, a step costs no less."""
_LOOK_EVERY = 32
"""Words between two looks whether any report goes on, on a GPU: to wait costs less than the thousands of kernels that
the rest would launch for nobody."""
_POSITION_SCALE = 0.02


class _Cache:
    """Keys and values of one layer for the positions so far."""

    def __init__(self, num_positions: int) -> None:
        self.num_positions = num_positions
        self.length = 0

    def extended(self, key_BALD: Tensor, value_BALD: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values, and return all of them."""
        if self.length == 0:
            batch, heads, _, size = key_BALD.shape
            self.keys = key_BALD.new_empty(batch, heads, self.num_positions, size)
            self.values = torch.empty_like(self.keys)
        end = self.length + key_BALD.shape[2]
        self.keys[:, :, self.length : end] = key_BALD
        self.values[:, :, self.length : end] = value_BALD
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def keep(self, rows_M: Tensor) -> None:
        """Forget all rows but these."""
        kept = []
        for old_BALD in (self.keys, self.values):
            new_MALD = old_BALD.new_empty(len(rows_M), *old_BALD.shape[1:])
            new_MALD[:, :, : self.length] = old_BALD[rows_M, :, : self.length]
            kept.append(new_MALD)
        self.keys, self.values = kept


class _Layer(nn.Module):
    """Attention, then a feed-forward network, each with pre-normalization and a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h_BLD: Tensor, visible_LL: Tensor | None = None, cache: _Cache | None = None) -> Tensor:
        """visible_LL: bool, which positions (columns) each position (row) attends to; None: all, cache included."""
        projected_BLD = self.query_key_value(self.norm_attention(h_BLD))
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in projected_BLD.chunk(3, dim=2)
        )
        if cache is not None:
            key, value = cache.extended(key, value)
        attended_BALD = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible_LL)
        h_BLD = h_BLD + self.attended(attended_BALD.transpose(1, 2).flatten(2))
        result_BLD: Tensor = h_BLD + self.feed_forward(self.norm_feed_forward(h_BLD))
        return result_BLD


class AttentiveWriter(ReportWriter):
    """Places of a feature map and the words so far -> the next word."""

    forbidden_4K: Tensor

    def __init__(
        self, config: AttentiveWriterConfig, feature_size: int, num_places: int, num_labels: int, num_words: int,
        max_sentences: int, max_words: int, num_conditions: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.max_sentences, self.max_words = max_sentences, max_words
        self.max_length = max_sentences * max_words
        self.num_read = num_places + bool(num_labels)
        """Positions before START."""
        self.label_embedding = LabelEmbedding(num_labels, num_conditions, config.width) if num_labels else None
        self.read_places = nn.Sequential(nn.LayerNorm(feature_size), nn.Linear(feature_size, config.width))
        self.word_embedding = nn.Embedding(num_words, config.width, padding_idx=PAD)
        positions = self.num_read + 1 + self.max_length
        self.position_LD = nn.Parameter(torch.randn(positions, config.width) * _POSITION_SCALE)
        self.layers = nn.ModuleList(_Layer(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.to_words = nn.Linear(config.width, num_words)
        self.register_buffer("forbidden_4K", _forbidden(num_words), persistent=False)

    def nats(self, condition: WriterInput, batch: Batch) -> ReportNats:
        """See `ReportWriter.nats`."""
        words_BSW = batch.words_BSW.masked_fill(~batch.has_report_B[:, None, None], PAD)
        words_BT, slot_BT = in_one_sequence(words_BSW, batch.num_report_words)
        read_BT = batch.words_read.flatten(1).gather(1, slot_BT).where(words_BT != PAD, PAD)
        states_BTD = self._states(condition, self.word_embedding(read_BT))
        target_BT = functional.pad(words_BT, (0, 1), value=PAD)
        is_word_BT = target_BT != PAD
        has_ended_BT = ~is_word_BT & functional.pad(is_word_BT[:, :-1], (1, 0))  # PAD right after the last END
        if free_to_read(target_BT):  # saves the logits of positions that no report has
            used_BT = is_word_BT | has_ended_BT
            states_BTD, target_BT = states_BTD[used_BT], target_BT[used_BT]
            is_word_BT, has_ended_BT = is_word_BT[used_BT], has_ended_BT[used_BT]
        logits = self.to_words(states_BTD).float()
        nats = functional.cross_entropy(logits.flatten(0, -2), target_BT.flatten(), reduction="none")
        nats_of_words = nats.where(is_word_BT.flatten(), 0.0).sum()
        return ReportNats(nats_of_words, is_word_BT.sum(), nats.where(has_ended_BT.flatten(), 0.0).sum())

    def stop_weight(self, weights: RowWeights) -> Tensor:
        """The end of a report is one more token of its sequence: with another weight, reports would be too short."""
        return weights.word

    @torch.no_grad()
    def write(self, condition: WriterInput, noise: NoiseSource, temperature: float, unknown: bool = False) -> Tensor:
        """See `ReportWriter.write`."""
        uniform_BT = noise.uniform("words", self.max_length)

        def choose(step: int, rows_M: Tensor, logits_MK: Tensor) -> tuple[Tensor, Tensor]:
            word_M = chosen(logits_MK, uniform_BT[rows_M, step], temperature)
            return word_M, self.word_embedding(word_M)

        return self._free_running(condition, choose, unknown)

    def write_relaxed(
        self, condition: WriterInput, noise: NoiseSource, gumbel: GumbelConfig, tables_KE: Sequence[Tensor]
    ) -> RelaxedReport:
        """See `ReportWriter.write_relaxed`."""
        noises, reads = [], []
        table_KD = self.word_embedding.weight

        def choose(step: int, rows_M: Tensor, logits_MK: Tensor) -> tuple[Tensor, Tensor]:
            noises.append(noise.gumbel(f"gumbel/{step}", logits_MK.shape[1]))
            perturbed_MK = logits_MK + noises[-1][rows_M]
            word_M = perturbed_MK.argmax(dim=1)
            if gumbel.straight_through:
                return word_M, self.word_embedding(word_M)
            read_MD = embedded(functional.softmax(perturbed_MK / gumbel.temperature, dim=1), word_M, table_KD, False)
            reads.append(read_MD.new_zeros(len(noises[-1]), read_MD.shape[1]).index_copy_(0, rows_M, read_MD))
            return word_M, read_MD

        with torch.no_grad():
            words_BSW = self._free_running(condition, choose, unknown=True)
        words_BT, slot_BT = in_one_sequence(words_BSW, None if free_to_read(words_BSW) else len(noises))
        length = words_BT.shape[1]
        read_BTD = self.word_embedding(words_BT) if gumbel.straight_through else torch.stack(reads[:length], dim=1)
        logits_BTK = self.to_words(self._states(condition, read_BTD)[:, :-1]).float()
        logits_BTK = logits_BTK.masked_fill(self.forbidden_4K[self._standing(slot_BT)], -torch.inf)
        gumbel_NK = torch.stack(noises[:length], dim=1).flatten(0, 1)
        with torch.enable_grad():
            table_KE = torch.cat(list(tables_KE), dim=1)
            relaxed_BTE = relaxed_words(
                logits_BTK.flatten(0, 1), gumbel_NK, words_BT.flatten(), table_KE, gumbel
            ).unflatten(0, words_BT.shape)  # fmt: skip
            outputs = torch.zeros(len(words_BT), self.max_length, table_KE.shape[1], device=words_BT.device)
            # past a report's last word, slots are those without a word: their values are not valid
            outputs = outputs.scatter(1, slot_BT[:, :, None].expand_as(relaxed_BTE), relaxed_BTE.to(outputs.dtype))
            parts = outputs.unflatten(1, words_BSW.shape[1:]).split([table.shape[1] for table in tables_KE], dim=3)
        return RelaxedReport(words_BSW, tuple(parts))

    def _read(self, condition: WriterInput) -> Tensor:
        """Return the inputs before START, (B, L, D)."""
        read_BLD: Tensor = self.read_places(condition.places_BPV)
        if self.label_embedding is None:
            return read_BLD
        return torch.cat([read_BLD, condition.embedded_labels(self.label_embedding)[:, None].to(read_BLD.dtype)], dim=1)

    def _states(self, condition: WriterInput, read_BTD: Tensor) -> Tensor:
        """Return states (B, T + 1, D) after START and after each of the T words read: the input of `to_words`."""
        start_D = self.word_embedding.weight[START]
        h_BLD = torch.cat([self._read(condition), start_D.expand(len(read_BTD), 1, -1), read_BTD], dim=1)
        num_positions = h_BLD.shape[1]
        h_BLD = h_BLD + self.position_LD[:num_positions]
        position_L = torch.arange(num_positions, device=h_BLD.device)
        visible_LL = position_L[None] <= position_L.clamp(min=self.num_read - 1)[:, None]
        for layer in self.layers:
            h_BLD = layer(h_BLD, visible_LL)
        states_BTD: Tensor = self.norm(h_BLD[:, self.num_read :])
        return states_BTD

    def _free_running(
        self, condition: WriterInput, choose: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]], unknown: bool
    ) -> Tensor:
        """Return words (B, S, W). choose(step, rows_M, logits_MK): returns the words and next inputs of those rows.

        Reports that have ended are dropped once they are half of the rows: few are as long as the longest. Sizes are
        only halved, so that a row is computed by the same kernels whoever its neighbours are. On a GPU, where counting
        them makes the host wait, all run until, looked up now and then, none is alive."""
        caches = [_Cache(len(self.position_LD)) for _ in self.layers]
        self._step(self._read(condition), 0, caches)
        num, size, device = len(condition), self.max_length, condition.places_BPV.device
        # one extra slot, for what is written after the end of a report
        words_BT = torch.full((num, size + 1), PAD, device=device)
        rows_M = torch.arange(num, device=device)
        slot_M = torch.zeros(num, dtype=torch.int64, device=device)
        alive_M = torch.full((num,), has_words(self.forbidden_4K.shape[1], unknown), device=device)
        forbidden_4K = self.forbidden_4K.clone()
        forbidden_4K[:, UNKNOWN] |= not unknown
        standing_T = self._standing(torch.arange(size + 1, device=device))
        read_MD = self.word_embedding.weight[START].expand(num, -1)
        for step in range(size):
            state_MD = self._step(read_MD[:, None], self.num_read + step, caches)[:, 0]
            logits_MK = self.to_words(self.norm(state_MD)).float()
            logits_MK = logits_MK.masked_fill(forbidden_4K[standing_T[slot_M]], -torch.inf)
            word_M, read_MD = choose(step, rows_M, logits_MK)
            word_M = word_M.where(alive_M, PAD)
            words_BT[rows_M, slot_M] = word_M
            next_sentence_M = (slot_M // self.max_words + 1) * self.max_words
            slot_M = torch.where(word_M == END, next_sentence_M, slot_M + (word_M != PAD))
            alive_M = (word_M != PAD) & (slot_M < size)
            slot_M = slot_M.where(alive_M, size)
            if not free_to_read(alive_M):
                if (step + 1) % _LOOK_EVERY == 0 and not alive_M.any():
                    break
                continue
            num_alive, num_rows = int(alive_M.sum()), len(rows_M)
            if not num_alive:
                break
            while num_rows // 2 >= max(num_alive, _FEWEST_ROWS):
                num_rows //= 2
            if num_rows < len(rows_M):
                kept_M = alive_M.long().argsort(descending=True, stable=True)[:num_rows]
                rows_M, slot_M, alive_M, read_MD = (of_M[kept_M] for of_M in (rows_M, slot_M, alive_M, read_MD))
                for cache in caches:
                    cache.keep(kept_M)
        words_BSW: Tensor = words_BT[:, :size].unflatten(1, (self.max_sentences, self.max_words))
        return words_BSW

    def _step(self, h_BLD: Tensor, first: int, caches: Sequence[_Cache]) -> Tensor:
        """Return states of the positions from `first` on, which attend to each other and to all before them."""
        h_BLD = h_BLD + self.position_LD[first : first + h_BLD.shape[1]]
        for layer, cache in zip(self.layers, caches, strict=True):
            h_BLD = layer(h_BLD, cache=cache)
        return h_BLD

    def _standing(self, slot_B: Tensor) -> Tensor:
        """Return the row of `forbidden_4K` for the word at each slot."""
        place_B = slot_B % self.max_words
        standing_B = torch.where(place_B == 0, _BETWEEN, _INSIDE)
        standing_B = torch.where(slot_B == 0, _FIRST, standing_B)
        return torch.where(place_B == self.max_words - 1, _LAST, standing_B)


def _forbidden(num_words: int) -> Tensor:
    """Return (4, K) bool: tokens forbidden at each position. A report has a sentence, a sentence has a word and ends
    where its space ends, and a report ends only between sentences."""
    forbidden_4K = torch.zeros(4, num_words, dtype=torch.bool)
    forbidden_4K[:, START] = True
    forbidden_4K[[_FIRST, _INSIDE], PAD] = True
    forbidden_4K[[_FIRST, _BETWEEN], END] = True
    forbidden_4K[_LAST] = torch.arange(num_words) != END
    return forbidden_4K
