"""The decoder that writes all sentences at once, against one written here that goes word by word."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from emixer.config import Config
from emixer.config.model import EmixerModelConfig, GumbelConfig
from emixer.models.noise import RowNoise
from emixer.models.paired_model import END, PAD, START, UNKNOWN, Batch
from emixer.models.report_decoder import STOP, ReportDecoder

NUM_WORDS = 12
NOISE = RowNoise(seed=1, step=2, first_row=0, num_rows=32, device=torch.device("cpu"))


@pytest.fixture
def decoder(tiny_config: Config) -> ReportDecoder:
    """Weights large enough that reports differ between films."""
    torch.manual_seed(4)
    model = tiny_config.model
    assert isinstance(model, EmixerModelConfig)
    decoder = ReportDecoder(model.report_decoder, NUM_WORDS, model.max_sentences, model.max_words)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if not name.startswith("encoder") and "bias" not in name:
                parameter.mul_(5)
        decoder.word_embedding.weight[PAD] = 0
    return decoder.eval()


def films(num: int) -> Tensor:
    """Films whose brightness and contrast differ."""
    noise = torch.rand(num, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rows = torch.arange(num)[:, None, None, None]
    return (noise * (1 + rows % 3) + rows % 5 - 2).clamp(-1, 1)


@torch.no_grad()
def written_word_by_word(decoder: ReportDecoder, films: Tensor, noise: RowNoise, temperature: float) -> Tensor:
    """One film after another, one sentence after another, one word after another."""
    stop_uniform = noise.uniform("stop", decoder.max_sentences)
    word_uniform = noise.uniform("words", decoder.max_sentences, decoder.max_words)
    reports = torch.full((len(films), decoder.max_sentences, decoder.max_words), PAD)
    for row, film in enumerate(films):
        features = decoder.encoder(film[None])
        sentence_state = None
        for sentence in range(decoder.max_sentences):
            hidden, sentence_state = decoder.sentence_lstm(features[:, None], sentence_state)
            _, word_state = decoder.word_lstm(decoder.topic(hidden))
            word = START
            for place in range(decoder.max_words):
                read = decoder.word_embedding(torch.tensor([[word]]))
                output, word_state = decoder.word_lstm(read, word_state)
                logits = decoder.to_words(output[0, 0])
                logits[[PAD, START, UNKNOWN]] = -torch.inf
                if place == 0:
                    logits[END] = -torch.inf
                if place == decoder.max_words - 1:
                    word = END
                elif temperature == 0:
                    word = int(logits.argmax())
                else:
                    cumulative = (logits / temperature).softmax(0).cumsum(0)
                    word = int((cumulative <= word_uniform[row, sentence, place] * cumulative[-1]).sum())
                reports[row, sentence, place] = word
                if word == END:
                    break
            stop_logits = decoder.stop(hidden)[0, 0]
            if temperature == 0:
                if stop_logits.argmax() == STOP:
                    break
            elif stop_uniform[row, sentence] < (stop_logits / temperature).softmax(0)[STOP]:
                break
    return reports


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_writing_all_sentences_at_once_gives_what_word_by_word_gives(
    decoder: ReportDecoder, temperature: float
) -> None:
    parallel = decoder.sample(films(8), NOISE.rows(0, 8), temperature)
    assert torch.equal(parallel, written_word_by_word(decoder, films(8), NOISE.rows(0, 8), temperature))
    assert len({tuple(report.flatten().tolist()) for report in parallel}) > 1


def assert_layout(words_BSW: Tensor) -> None:
    """Sentences of at least one word end in END and padding; the first sentences of a report are not empty."""
    for report in words_BSW.tolist():
        lengths = [sum(word != PAD for word in sentence) for sentence in report]
        num_sentences = sum(length > 0 for length in lengths)
        assert num_sentences >= 1
        assert all(length >= 2 for length in lengths[:num_sentences])
        assert not any(lengths[num_sentences:])
        for sentence, length in zip(report[:num_sentences], lengths, strict=False):
            assert sentence[length - 1] == END
            assert not {PAD, START, END} & set(sentence[: length - 1])
            assert set(sentence[length:]) <= {PAD}


def test_reports_have_the_layout_of_a_batch_and_no_unknown_words(decoder: ReportDecoder) -> None:
    words = decoder.sample(films(32), NOISE, temperature=1.0)
    assert_layout(words)
    assert UNKNOWN not in words
    assert len({int((report[:, 0] != PAD).sum()) for report in words}) > 1


def test_unknown_words_are_written_for_the_critics_only(decoder: ReportDecoder) -> None:
    with torch.no_grad():
        decoder.to_words.bias[UNKNOWN] += 50
    assert UNKNOWN in decoder.sample(films(4), NOISE.rows(0, 4), temperature=1.0, unknown=True)
    assert UNKNOWN not in decoder.sample(films(4), NOISE.rows(0, 4), temperature=1.0)


@pytest.mark.parametrize(("bias", "num_sentences"), [(100.0, 1), (-100.0, 4)])
def test_the_stop_head_decides_how_many_sentences_there_are(
    decoder: ReportDecoder, bias: float, num_sentences: int
) -> None:
    with torch.no_grad():
        decoder.stop.bias[STOP] += bias
    words = decoder.sample(films(8), NOISE.rows(0, 8), temperature=1.0)
    assert ((words[:, :, 0] != PAD).sum(dim=1) == num_sentences).all()


def test_a_rows_report_does_not_depend_on_how_the_rows_are_split(decoder: ReportDecoder) -> None:
    whole = decoder.sample(films(32), NOISE, temperature=1.0)
    halves = [decoder.sample(films(32)[i : i + 16], NOISE.rows(i, 16), temperature=1.0) for i in (0, 16)]
    assert torch.equal(whole, torch.cat(halves))


def test_at_temperature_zero_noise_does_not_matter(decoder: ReportDecoder) -> None:
    other = RowNoise(seed=9, step=0, first_row=0, num_rows=8, device=torch.device("cpu"))
    assert torch.equal(decoder.sample(films(8), NOISE.rows(0, 8), 0), decoder.sample(films(8), other, 0))


def test_teacher_forced_logits_are_those_of_writing_the_same_words(decoder: ReportDecoder) -> None:
    image = films(8)
    words = decoder.sample(image, NOISE.rows(0, 8), temperature=0)
    plan = decoder.plan(decoder.encoder(image))
    logits = decoder.teacher_forced(plan.topics_BSE, words)
    logits[..., [PAD, START, UNKNOWN]] = -torch.inf
    logits[:, :, 0, END] = -torch.inf
    inner = words[:, :, :-1]  # the last place is END by force
    assert torch.equal(logits.argmax(dim=3)[:, :, :-1][inner != PAD], inner[inner != PAD])


def test_teacher_forcing_does_not_look_ahead(decoder: ReportDecoder, make_batch: Callable[[int], Batch]) -> None:
    batch = make_batch(6)
    changed = batch.words_BSW.clone()
    changed[:, :, 3:] = 7
    topics = decoder.plan(decoder.encoder(batch.image_BCHW)).topics_BSE
    first, second = (decoder.teacher_forced(topics, words) for words in (batch.words_BSW, changed))
    torch.testing.assert_close(first[:, :, :4], second[:, :, :4])
    assert not torch.allclose(first[:, :, 4:], second[:, :, 4:])


@pytest.mark.parametrize("straight_through", [True, False])
def test_relaxed_reports_have_the_same_layout_and_pass_gradients_to_the_film(
    decoder: ReportDecoder, straight_through: bool
) -> None:
    image = films(8).requires_grad_()
    tables = [torch.randn(NUM_WORDS, 3), torch.randn(NUM_WORDS, 5)]
    gumbel = GumbelConfig(straight_through=straight_through)
    report = decoder.relaxed(image, NOISE.rows(0, 8), gumbel, tables)
    assert_layout(report.words_BSW)
    assert [part.shape for part in report.embedded_BSWE] == [(8, 4, 6, 3), (8, 4, 6, 5)]
    for part, table in zip(report.embedded_BSWE, tables, strict=True):
        hard = torch.allclose(part[report.valid], table[report.words_BSW[report.valid]])
        assert hard == straight_through
    (report.embedded_BSWE[1] * report.valid[..., None]).sum().backward()
    assert (image.grad.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_relaxed_words_follow_the_distribution_that_sampling_follows(decoder: ReportDecoder) -> None:
    image = films(1).expand(512, -1, -1, -1)
    noise = RowNoise(seed=0, step=0, first_row=0, num_rows=512, device=torch.device("cpu"))
    with torch.no_grad():
        relaxed = decoder.relaxed(image, noise, GumbelConfig(), [torch.zeros(NUM_WORDS, 1)]).words_BSW
    sampled = decoder.sample(image, noise, temperature=1.0, unknown=True)
    share = [torch.bincount(words[:, 0, 0], minlength=NUM_WORDS) / 512 for words in (relaxed, sampled)]
    assert (share[0] - share[1]).abs().max() < 0.1


def test_films_are_read_with_running_statistics_when_reports_run_free(decoder: ReportDecoder) -> None:
    decoder.train()
    before = {name: tensor.clone() for name, tensor in decoder.encoder.state_dict().items()}
    decoder.sample(films(4), NOISE.rows(0, 4), temperature=1.0)
    decoder.relaxed(films(4), NOISE.rows(0, 4), GumbelConfig(), [torch.zeros(NUM_WORDS, 1)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.encoder.state_dict().items())
    assert decoder.encoder.training


def test_decoding_works_under_bfloat16_autocast(decoder: ReportDecoder) -> None:
    image = films(4).requires_grad_()
    decoder.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plan = decoder.plan(decoder.encoder(image))
        assert plan.stop_logits_BS2.dtype == torch.float32
        assert_layout(decoder.sample(image.detach(), NOISE.rows(0, 4), temperature=1.0))
        report = decoder.relaxed(image, NOISE.rows(0, 4), GumbelConfig(), [torch.randn(NUM_WORDS, 3)])
    report.embedded_BSWE[0].sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
