"""What holds for every kind of report decoder: layout, noise, relaxation, what its encoder learns from."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from emixer.config.model import GumbelConfig
from emixer.data.vocabulary import SPECIAL_TOKENS, Vocabulary
from emixer.models.noise import RowNoise
from emixer.models.paired_model import PAD, UNKNOWN, Batch
from emixer.models.report_decoder import ReportDecoder
from emixer.models.report_writer import RelaxedReport
from tests.models.conftest import (
    ATTENTIVE,
    KINDS_OF_DECODER,
    NOISE,
    NUM_WORDS,
    MakeDecoder,
    assert_layout,
    images,
    labels,
)


def sampled(decoder: ReportDecoder, rows: slice, temperature: float, unknown: bool = False) -> torch.Tensor:
    first, num = rows.start, rows.stop - rows.start
    condition = decoder.condition(decoder.read(images(32)[rows]), labels(32)[rows])
    return decoder.writer.write(condition, NOISE.rows(first, num), temperature, unknown)


def test_reports_have_the_layout_of_a_batch_and_no_unknown_words(decoder: ReportDecoder) -> None:
    words = sampled(decoder, slice(0, 32), temperature=1.0)
    assert_layout(words)
    assert UNKNOWN not in words
    assert len({int((report[:, 0] != PAD).sum()) for report in words}) > 1


def test_unknown_words_are_written_only_for_the_discriminators(decoder: ReportDecoder) -> None:
    with torch.no_grad():
        decoder.writer.get_submodule("to_words").bias[UNKNOWN] += 50
    assert UNKNOWN in sampled(decoder, slice(0, 4), temperature=1.0, unknown=True)
    assert UNKNOWN not in sampled(decoder, slice(0, 4), temperature=1.0)


@pytest.mark.parametrize("kind", KINDS_OF_DECODER)
def test_reports_are_empty_where_the_collection_has_none(kind: str, make_decoder: MakeDecoder) -> None:
    decoder = make_decoder(num_words=UNKNOWN + 1, **KINDS_OF_DECODER[kind])
    for temperature in (0.0, 1.0):
        words = sampled(decoder, slice(0, 8), temperature)
        assert (words == PAD).all()
        assert Vocabulary(SPECIAL_TOKENS).decode(words.numpy()) == [""] * 8


def test_reports_do_not_depend_on_how_rows_are_split(decoder: ReportDecoder) -> None:
    whole = sampled(decoder, slice(0, 32), temperature=1.0)
    halves = [sampled(decoder, rows, temperature=1.0) for rows in (slice(0, 16), slice(16, 32))]
    assert torch.equal(whole, torch.cat(halves))


def test_noise_has_no_effect_at_temperature_zero(decoder: ReportDecoder) -> None:
    other = RowNoise(seed=9, step=0, first_row=0, num_rows=8, device=torch.device("cpu"))
    first, second = (decoder.sample(images(8), labels(8), noise, 0) for noise in (NOISE.rows(0, 8), other))
    assert torch.equal(first, second)


def test_cross_entropy_of_a_row_does_not_depend_on_other_rows(
    decoder: ReportDecoder, make_batch: Callable[[int], Batch]
) -> None:
    batch = make_batch(6)
    nats, num = decoder.word_cross_entropy(batch)
    alone = [decoder.word_cross_entropy(batch.rows(row, 1)) for row in range(6)]
    assert num == sum(n for _, n in alone) == (batch.words_BSW[batch.has_report_B] != PAD).sum()
    torch.testing.assert_close(nats, sum(value for value, _ in alone))
    assert alone[2] == (0, 0)


@pytest.mark.parametrize("straight_through", [True, False])
def test_relaxed_reports_have_the_same_layout_and_pass_gradients_to_the_image(
    decoder: ReportDecoder, straight_through: bool
) -> None:
    image = images(8).requires_grad_()
    tables = [torch.randn(NUM_WORDS, 3), torch.randn(NUM_WORDS, 5)]
    gumbel = GumbelConfig(straight_through=straight_through)
    report = decoder.writer.write_relaxed(
        decoder.condition(decoder.read(image), labels(8)), NOISE.rows(0, 8), gumbel, tables
    )
    assert_layout(report.words_BSW)
    assert [part.shape for part in report.embedded_BSWE] == [(8, 4, 6, 3), (8, 4, 6, 5)]
    for part, table in zip(report.embedded_BSWE, tables, strict=True):
        hard = torch.allclose(part[report.valid], table[report.words_BSW[report.valid]])
        assert hard == straight_through
    (report.embedded_BSWE[1] * report.valid[..., None]).sum().backward()
    assert image.grad is not None
    assert (image.grad.abs().amax(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("straight_through", [True, False])
def test_relaxed_reports_work_in_mixed_precision(decoder: ReportDecoder, straight_through: bool) -> None:
    image, table = images(8).requires_grad_(), torch.randn(NUM_WORDS, 3)
    gumbel = GumbelConfig(straight_through=straight_through)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        report = decoder.writer.write_relaxed(
            decoder.condition(decoder.read(image), labels(8)), NOISE.rows(0, 8), gumbel, [table]
        )
    assert_layout(report.words_BSW)
    (report.embedded_BSWE[0] * report.valid[..., None]).float().sum().backward()
    assert image.grad is not None
    assert (image.grad.abs().amax(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("straight_through", [True, False])
def test_relaxed_reports_do_not_depend_on_how_rows_are_split(decoder: ReportDecoder, straight_through: bool) -> None:
    table, gumbel = torch.randn(NUM_WORDS, 3), GumbelConfig(straight_through=straight_through)

    def relaxed(first: int, num: int) -> RelaxedReport:
        image, label = images(32)[first : first + num], labels(32)[first : first + num]
        return decoder.writer.write_relaxed(
            decoder.condition(decoder.read(image), label), NOISE.rows(first, num), gumbel, [table]
        )

    whole, parts = relaxed(0, 32), [relaxed(first, 8) for first in range(0, 32, 8)]
    assert torch.equal(whole.words_BSW, torch.cat([part.words_BSW for part in parts]))
    embedded = torch.cat([part.embedded_BSWE[0] for part in parts])
    torch.testing.assert_close(whole.embedded_BSWE[0][whole.valid], embedded[whole.valid])


def test_relaxed_words_follow_the_sampling_distribution(decoder: ReportDecoder) -> None:
    image, wanted = images(1).expand(512, -1, -1, -1), labels(8)[5:6].expand(512, -1)
    noise = RowNoise(seed=0, step=0, first_row=0, num_rows=512, device=torch.device("cpu"))
    with torch.no_grad():
        seen = decoder.read(image)
        relaxed = decoder.writer.write_relaxed(
            decoder.condition(seen, wanted), noise, GumbelConfig(), [torch.zeros(NUM_WORDS, 1)]
        ).words_BSW
    words = decoder.writer.write(decoder.condition(decoder.read(image), wanted), noise, temperature=1.0, unknown=True)
    share = [torch.bincount(w[:, 0, 0], minlength=NUM_WORDS) / 512 for w in (relaxed, words)]
    assert (share[0] - share[1]).abs().max() < 0.1


def test_free_running_reads_images_with_running_statistics(decoder: ReportDecoder) -> None:
    decoder.train()
    before = {name: tensor.clone() for name, tensor in decoder.encoder.state_dict().items()}
    decoder.sample(images(4), labels(4), NOISE.rows(0, 4), temperature=1.0)
    image = decoder.read(images(4))
    decoder.writer.write_relaxed(
        decoder.condition(image, labels(4)), NOISE.rows(0, 4), GumbelConfig(), [torch.zeros(NUM_WORDS, 1)]
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.encoder.state_dict().items())
    assert decoder.encoder.training


def test_encoder_learns_from_real_images_but_not_from_generated_ones(decoder: ReportDecoder) -> None:
    image = images(4).requires_grad_()
    decoder.train()
    decoder.labels_seen(decoder.read(image)).sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None for p in (*decoder.encoder.parameters(), *decoder.label_head.parameters()))
    decoder.label_logits(decoder.places(images(4))).sum().backward()
    last = decoder.encoder.get_parameter("features.conv0.weight").grad
    assert last is not None
    assert last.abs().sum() > 0


@pytest.mark.parametrize("kind", [{}, ATTENTIVE], ids=["hierarchical", "attentive"])
def test_labels_are_read_only_if_configured_and_only_of_labelled_rows(
    make_decoder: MakeDecoder, make_batch: Callable[[int], Batch], kind: dict[str, object]
) -> None:
    batch = make_batch(6)
    flipped = replace(batch, labels_BY=1 - batch.labels_BY)
    alone = make_decoder(**kind)
    assert alone.word_cross_entropy(batch) == alone.word_cross_entropy(flipped)
    reader = make_decoder(**kind, reads="image-and-labels")
    for row, same in {0: False, 1: True}.items():  # row 1 has no labels
        assert (
            reader.word_cross_entropy(batch.rows(row, 1)) == reader.word_cross_entropy(flipped.rows(row, 1))
        ) == same
    words = [reader.sample(images(8), labels_BY, NOISE.rows(0, 8), 1.0) for labels_BY in (labels(8), 1 - labels(8))]
    assert not torch.equal(*words)


def test_decoding_works_under_bfloat16_autocast(decoder: ReportDecoder) -> None:
    image = images(4).requires_grad_()
    decoder.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = decoder.read(image)
        assert decoder.labels_seen(seen).dtype == torch.float32
        assert_layout(decoder.sample(image.detach(), labels(4), NOISE.rows(0, 4), temperature=1.0))
        report = decoder.writer.write_relaxed(
            decoder.condition(seen, labels(4)), NOISE.rows(0, 4), GumbelConfig(), [torch.randn(NUM_WORDS, 3)]
        )
    report.embedded_BSWE[0].sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
