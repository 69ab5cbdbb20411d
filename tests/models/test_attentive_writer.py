"""The writer with its key-value cache, against torch's own transformer, which rereads everything at each word."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn

from emixer.config.model import GumbelConfig
from emixer.models.attentive_writer import AttentiveWriter
from emixer.models.noise import RowNoise
from emixer.models.paired_model import END, PAD, START, UNKNOWN, Batch
from emixer.models.report_decoder import ReportDecoder
from emixer.models.report_writer import WriterInput
from tests.models.conftest import KINDS_OF_DECODER, NOISE, NUM_WORDS, MakeDecoder, images, labels


@pytest.fixture(params=[name for name in KINDS_OF_DECODER if name.startswith("attentive")])
def decoder(request: pytest.FixtureRequest, make_decoder: MakeDecoder) -> ReportDecoder:
    """Attentive decoders with and without labels as input."""
    return make_decoder(**KINDS_OF_DECODER[request.param])


def writer_of(decoder: ReportDecoder) -> AttentiveWriter:
    writer = decoder.writer
    assert isinstance(writer, AttentiveWriter)
    return writer


@lru_cache(maxsize=1)  # it shares the weights, and takes longer to make than to run
def torch_transformer(writer: AttentiveWriter) -> nn.TransformerEncoder:
    """Return torch's layers with the same weights."""
    width, heads = writer.norm.weight.shape[0], writer.layers[0].heads
    layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
    stack = nn.TransformerEncoder(layer, len(writer.layers), norm=writer.norm, enable_nested_tensor=False)
    for theirs, ours in zip(stack.layers, writer.layers, strict=True):
        theirs.self_attn.in_proj_weight = ours.query_key_value.weight
        theirs.self_attn.in_proj_bias = ours.query_key_value.bias
        theirs.self_attn.out_proj = ours.attended
        theirs.linear1, theirs.linear2 = ours.feed_forward[0], ours.feed_forward[2]
        theirs.norm1, theirs.norm2 = ours.norm_attention, ours.norm_feed_forward
    return stack.eval()


@torch.no_grad()
def next_word_logits(writer: AttentiveWriter, condition: WriterInput, row: int, words: Sequence[int]) -> Tensor:
    """Return logits (K,) of the word after `words`, reading the whole sequence anew."""
    read = [writer.read_places(condition.places_BPV[row])]
    if writer.label_embedding is not None:
        assert condition.labels_BY is not None
        known = condition.labelled_B is None or bool(condition.labelled_B[row])
        embedded = writer.label_embedding(condition.labels_BY[row])
        read.append((embedded if known else torch.zeros_like(embedded))[None])
    prefix = sum(map(len, read))
    sequence = torch.cat([*read, writer.word_embedding(torch.tensor([START, *words]))])
    hidden = torch.triu(torch.ones(len(sequence), len(sequence)), 1).bool()
    hidden[:prefix, :prefix] = False  # the prefix attends to all of itself
    states = torch_transformer(writer)((sequence + writer.position_LD[: len(sequence)])[None], mask=hidden)
    logits: Tensor = writer.to_words(states[0, -1])
    return logits


def written_word_by_word(
    writer: AttentiveWriter, condition: WriterInput, noise: RowNoise, temperature: float
) -> Tensor:
    """Write one report after another, rereading the whole sequence for each word."""
    uniform = noise.uniform("words", writer.max_sentences * writer.max_words)
    reports = torch.full((len(condition), writer.max_sentences, writer.max_words), PAD)
    for row in range(len(condition)):
        words: list[int] = []
        sentence, place = 0, 0
        while sentence < writer.max_sentences:
            logits = next_word_logits(writer, condition, row, words)
            logits[[START, UNKNOWN]] = -torch.inf
            if place > 0 or sentence == 0:
                logits[PAD] = -torch.inf  # a report ends between sentences and has at least one
            if place == 0:
                logits[END] = -torch.inf
            if place == writer.max_words - 1:
                word = END
            elif temperature == 0:
                word = int(logits.argmax())
            else:
                cumulative = (logits / temperature).softmax(0).cumsum(0)
                word = int((cumulative <= uniform[row, len(words)] * cumulative[-1]).sum())
            if word == PAD:
                break
            reports[row, sentence, place] = word
            words.append(word)
            sentence, place = (sentence + 1, 0) if word == END else (sentence, place + 1)
    return reports


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_key_value_cache_equals_rereading_everything(decoder: ReportDecoder, temperature: float) -> None:
    writer, num = writer_of(decoder), 16  # so many that rows are dropped when most reports have ended
    with torch.no_grad():
        condition = decoder.condition(decoder.read(images(num)), labels(num))
    words = decoder.sample(images(num), labels(num), NOISE.rows(0, num), temperature)
    assert torch.equal(words, written_word_by_word(writer, condition, NOISE.rows(0, num), temperature))
    if temperature > 0:
        assert len({tuple(report.flatten().tolist()) for report in words}) > 1


@pytest.mark.parametrize("hidden", [0.0, 0.5])
def test_nats_are_those_of_each_word_given_all_words_before_it(
    decoder: ReportDecoder, make_batch: Callable[[int], Batch], hidden: float
) -> None:
    batch, writer = make_batch(6).with_hidden_words(hidden, NOISE.rows(0, 6)), writer_of(decoder)
    with torch.no_grad():
        condition = decoder.condition(decoder.read(batch.image_BCHW), batch.labels_BY, batch.labelled_B)
        nats = writer.nats(condition, batch)
    words_nats = ends_nats = 0.0
    for row in batch.has_report_B.nonzero().flatten().tolist():
        words = [word for word in batch.words_BSW[row].flatten().tolist() if word != PAD]
        read = [word for word in batch.words_read[row].flatten().tolist() if word != PAD]
        for index, word in enumerate([*words, PAD]):
            logits = next_word_logits(writer, condition, row, read[:index])
            cost = -float(logits.log_softmax(0)[word])
            words_nats, ends_nats = (words_nats, ends_nats + cost) if word == PAD else (words_nats + cost, ends_nats)
    assert float(nats.words) == pytest.approx(words_nats, rel=1e-4)
    assert float(nats.stops) == pytest.approx(ends_nats, rel=1e-4)
    assert nats.num_words == (batch.words_BSW[batch.has_report_B] != PAD).sum()


def test_report_that_fills_all_places_is_read_to_its_last_word(decoder: ReportDecoder) -> None:
    """Words up to the last place of the last sentence, and the end after them, which free running never asks for."""
    writer = writer_of(decoder)
    words = torch.full((1, writer.max_sentences, writer.max_words), 5)
    words[:, :, -1] = END
    batch = Batch(images(1), labels(1), torch.ones(1).bool(), words, torch.ones(1).bool())
    with torch.no_grad():
        nats = writer.nats(decoder.condition(decoder.read(images(1)), labels(1)), batch)
        ended = next_word_logits(
            writer, decoder.condition(decoder.read(images(1)), labels(1)), 0, words.flatten().tolist()
        )
    assert nats.num_words == words.numel()
    assert nats.stops.item() == pytest.approx(-ended.log_softmax(0)[PAD].item(), rel=1e-4)


def test_later_sentence_depends_on_earlier_ones(decoder: ReportDecoder) -> None:
    """Unlike in the paper, whose sentences are written in parallel."""
    writer = writer_of(decoder)
    with torch.no_grad():
        condition = decoder.condition(decoder.read(images(1)), labels(1))
    after = [next_word_logits(writer, condition, 0, [word, END]) for word in (5, 6)]
    assert not torch.allclose(*after)


def test_gradient_of_a_word_reaches_the_image(decoder: ReportDecoder) -> None:
    """The gradient is that of the plain formula: softmax of perturbed logits times the table, with the earlier words
    fixed as drawn."""
    writer, gumbel = writer_of(decoder), GumbelConfig(straight_through=True, temperature=1.0)
    table = torch.randn(NUM_WORDS, 3, generator=torch.Generator().manual_seed(1))
    noise = NOISE.rows(0, 2)
    image = images(2).requires_grad_()
    report = decoder.writer.write_relaxed(decoder.condition(decoder.read(image), labels(2)), noise, gumbel, [table])
    report.embedded_BSWE[0][0, 0, 0].sum().backward()  # the first word of the first report
    assert image.grad is not None

    again = images(2).requires_grad_()
    condition = decoder.condition(decoder.read(again), labels(2))
    states = writer._states(condition, torch.zeros(2, 0, writer.norm.weight.shape[0]))
    logits = writer.to_words(states[0, 0])
    logits = logits.masked_fill(torch.isin(torch.arange(NUM_WORDS), torch.tensor([PAD, START, END])), -torch.inf)
    ((logits + noise.gumbel("gumbel/0", NUM_WORDS)[0]).softmax(0) @ table).sum().backward()
    torch.testing.assert_close(image.grad, again.grad)
