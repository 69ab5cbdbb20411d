"""The writer that writes all sentences in parallel, against a word-by-word version written here."""

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from emixer.config.model import GumbelConfig
from emixer.models.hierarchical_writer import STOP, HierarchicalWriter, sentences_kept, stop_cross_entropy
from emixer.models.noise import RowNoise
from emixer.models.paired_model import END, PAD, START, UNKNOWN, Batch
from emixer.models.report_decoder import ReportDecoder
from tests.models.conftest import KINDS_OF_DECODER, NOISE, MakeDecoder, images, labels


@pytest.fixture(params=[name for name in KINDS_OF_DECODER if name.startswith("hierarchical")])
def decoder(request: pytest.FixtureRequest, make_decoder: MakeDecoder) -> ReportDecoder:
    """The paper's decoder and its corrected form."""
    return make_decoder(**KINDS_OF_DECODER[request.param])


def writer_of(decoder: ReportDecoder) -> HierarchicalWriter:
    writer = decoder.writer
    assert isinstance(writer, HierarchicalWriter)
    return writer


@torch.no_grad()
def written_word_by_word(decoder: ReportDecoder, images: Tensor, noise: RowNoise, temperature: float) -> Tensor:
    """Write one image, one sentence and one word after another."""
    writer = writer_of(decoder)
    stop_uniform = noise.uniform("stop", writer.max_sentences)
    word_uniform = noise.uniform("words", writer.max_sentences, writer.max_words)
    reports = torch.full((len(images), writer.max_sentences, writer.max_words), PAD)
    for row, image in enumerate(images):
        stop_logits = []
        features = decoder.encoder(image[None])
        if writer.label_embedding is not None:
            features = features + writer.label_embedding(labels(len(images))[row : row + 1])
        sentence_state = None
        for sentence in range(writer.max_sentences):
            hidden, sentence_state = writer.sentence_lstm(features[:, None], sentence_state)
            topic = writer.topic(hidden)
            _, word_state = writer.word_lstm(topic)
            word = START
            for place in range(writer.max_words):
                read = writer.word_embedding(torch.tensor([[word]]))
                if writer.topic_in_every_step:
                    read = read + topic
                output, word_state = writer.word_lstm(read, word_state)
                logits = writer.to_words(output[0, 0])
                logits[[PAD, START, UNKNOWN]] = -torch.inf
                if place == 0:
                    logits[END] = -torch.inf
                if place == writer.max_words - 1:
                    word = END
                elif temperature == 0:
                    word = int(logits.argmax())
                else:
                    cumulative = (logits / temperature).softmax(0).cumsum(0)
                    word = int((cumulative <= word_uniform[row, sentence, place] * cumulative[-1]).sum())
                reports[row, sentence, place] = word
                if word == END:
                    break
            stop_logits.append(writer.stop(hidden)[0, 0])
            if temperature > 0 and stop_uniform[row, sentence] < stop_logits[-1].softmax(0)[STOP]:
                break
        if temperature == 0:
            reports[row, likeliest_length([logits.softmax(0)[STOP].item() for logits in stop_logits]) :] = PAD
    return reports


def likeliest_length(stop_probabilities: Sequence[float]) -> int:
    """Of a report that ends at sentence s with probability s unless it ended before; at the last in any case."""
    goes_on, lengths = 1.0, []
    for probability in (*stop_probabilities[:-1], 1.0):
        lengths.append(goes_on * probability)
        goes_on *= 1 - probability
    return 1 + lengths.index(max(lengths))


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_writing_in_parallel_equals_writing_word_by_word(decoder: ReportDecoder, temperature: float) -> None:
    parallel = decoder.sample(images(8), labels(8), NOISE.rows(0, 8), temperature)
    assert torch.equal(parallel, written_word_by_word(decoder, images(8), NOISE.rows(0, 8), temperature))
    assert len({tuple(report.flatten().tolist()) for report in parallel}) > 1


@pytest.mark.parametrize(("bias", "num_sentences"), [(100.0, 1), (-100.0, 4)])
def test_stop_head_sets_the_number_of_sentences(decoder: ReportDecoder, bias: float, num_sentences: int) -> None:
    with torch.no_grad():
        writer_of(decoder).stop.bias[STOP] += bias
    words = decoder.sample(images(8), labels(8), NOISE.rows(0, 8), temperature=1.0)
    assert ((words[:, :, 0] != PAD).sum(dim=1) == num_sentences).all()


def test_temperature_does_not_change_how_long_reports_are(decoder: ReportDecoder) -> None:
    """It is that of the words. Without one, a report has the likeliest number of sentences."""
    num = 2048
    hazards = torch.tensor([0.1, 0.3, 0.45, 1.0])  # lengths: 0.1, 0.27, 0.28, 0.35
    with torch.no_grad():
        writer_of(decoder).stop.weight.zero_()
        plan = writer_of(decoder).plan(decoder.condition(decoder.read(images(num)), labels(num)))
    plan = replace(plan, stop_logits_BS2=torch.stack([1 - hazards, hazards], dim=1).log().expand(num, 4, 2))

    def share_of_lengths(temperature: float) -> list[float]:
        kept_BS = sentences_kept(plan, NOISE.rows(0, num), temperature)
        return (kept_BS.sum(dim=1).bincount(minlength=5)[1:] / num).tolist()

    assert share_of_lengths(0.0) == [0, 0, 0, 1]
    assert share_of_lengths(0.3) == share_of_lengths(1.0) == pytest.approx([0.1, 0.27, 0.28, 0.35], abs=0.03)


def test_teacher_forced_logits_match_free_running_on_the_same_words(decoder: ReportDecoder) -> None:
    writer = writer_of(decoder)
    condition = decoder.condition(decoder.read(images(8)), labels(8))
    words = writer.write(condition, NOISE.rows(0, 8), temperature=0).flatten(0, 1)
    logits = writer.word_logits(writer.plan(condition).topics_BSE.flatten(0, 1), words)
    logits[..., [PAD, START, UNKNOWN]] = -torch.inf
    logits[:, 0, END] = -torch.inf
    inner = words[:, :-1]  # the last place is forced to END
    assert torch.equal(logits.argmax(dim=2)[:, :-1][inner != PAD], inner[inner != PAD])


def test_teacher_forcing_does_not_look_ahead(decoder: ReportDecoder, make_batch: Callable[[int], Batch]) -> None:
    batch, writer = make_batch(6), writer_of(decoder)
    words = batch.words_BSW.flatten(0, 1)
    changed = words.clone()
    changed[:, 3:] = 7
    condition = decoder.condition(decoder.read(batch.image_BCHW), batch.labels_BY, batch.labelled_B)
    topics = writer.plan(condition).topics_BSE.flatten(0, 1)
    first, second = (writer.word_logits(topics, given) for given in (words, changed))
    torch.testing.assert_close(first[:, :4], second[:, :4])
    assert not torch.allclose(first[:, 4:], second[:, 4:])


@pytest.mark.parametrize("hidden", [0.0, 0.5])
def test_nats_are_the_sum_over_single_sentences(
    decoder: ReportDecoder, make_batch: Callable[[int], Batch], hidden: float
) -> None:
    """Grouping sentences by length changes nothing, even with hidden words."""
    batch, writer = make_batch(8).with_hidden_words(hidden, NOISE.rows(0, 8)), writer_of(decoder)
    condition = decoder.condition(decoder.read(batch.image_BCHW), batch.labels_BY, batch.labelled_B)
    topics = writer.plan(condition).topics_BSE
    expected = torch.zeros(())
    for row, sentence in (batch.words_BSW[:, :, 0] != PAD).nonzero().tolist():
        words, read = batch.words_BSW[row, sentence], batch.words_read[row, sentence]
        log_p = writer.word_logits(topics[row, sentence][None], read[None])[0].log_softmax(1)
        expected = expected - sum(log_p[place, word] for place, word in enumerate(words.tolist()) if word != PAD)
    torch.testing.assert_close(writer.nats(condition, batch).words, expected)


class CountedNoise:
    """Noise that counts how many of the Gumbel draws are in memory at once."""

    def __init__(self, noise: RowNoise) -> None:
        self.uniform, self._gumbel = noise.uniform, noise.gumbel
        self.drawn: list[weakref.ref[np.ndarray]] = []
        self.most = 0

    def gumbel(self, name: str, *shape: int) -> Tensor:
        draw = self._gumbel(name, *shape).numpy().copy()
        self.drawn.append(weakref.ref(draw))
        self.most = max(self.most, sum(reference() is not None for reference in self.drawn))
        return torch.from_numpy(draw)


def test_gumbel_noise_of_a_step_is_not_kept_beside_that_of_all(decoder: ReportDecoder) -> None:
    noise = CountedNoise(NOISE.rows(0, 8))
    decoder.writer.write_relaxed(
        decoder.condition(decoder.read(images(8)), labels(8)), noise, GumbelConfig(), [torch.randn(12, 5)]
    )
    assert len(noise.drawn) > 3
    assert noise.most <= 2, "the last one, and the one before it"


def test_stop_cross_entropy_by_hand() -> None:
    # two sentences: CONTINUE, STOP; one sentence: STOP; a row without a report has no target
    words = torch.tensor([[[5, 2], [4, 2], [0, 0]], [[4, 2], [0, 0], [0, 0]], [[4, 2], [4, 2], [4, 2]]])
    labelled, has_report = torch.ones(3).bool(), torch.tensor([True, True, False])
    batch = Batch(torch.zeros(3, 1, 1, 1), torch.zeros(3, 1), labelled, words, has_report)
    logits = torch.zeros(3, 3, 2)
    logits[0, 0] = torch.tensor([math.log(3), 0])  # p(CONTINUE) = 3/4
    logits[0, 1] = torch.tensor([math.log(3), 0])  # p(STOP) = 1/4
    logits[1, 1:] = 100  # logits after the last sentence do not count
    expected = math.log(4 / 3) + math.log(4) + math.log(2)
    assert stop_cross_entropy(logits, batch).item() == pytest.approx(expected, rel=1e-6)
