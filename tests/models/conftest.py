"""The smallest report decoders of every kind."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from emixer.config import Config, with_overrides
from emixer.config.model import EmixerModelConfig
from emixer.models.noise import RowNoise
from emixer.models.paired_model import END, PAD, START
from emixer.models.report_decoder import ReportDecoder

NUM_LABELS, NUM_WORDS = 3, 12
NOISE = RowNoise(seed=1, step=2, first_row=0, num_rows=32, device=torch.device("cpu"))

MakeDecoder = Callable[..., ReportDecoder]


@pytest.fixture
def make_decoder(tiny_config: Config) -> MakeDecoder:
    """make_decoder(**settings of model.report_decoder): in eval mode, with weights large enough that reports differ."""

    def make(num_words: int = NUM_WORDS, **settings: object) -> ReportDecoder:
        torch.manual_seed(4)
        model = with_overrides(
            tiny_config, {f"model.report_decoder.{name}": value for name, value in settings.items()}
        ).model
        assert isinstance(model, EmixerModelConfig)
        decoder = ReportDecoder(model.report_decoder, NUM_LABELS, num_words, model.max_sentences, model.max_words)
        with torch.no_grad():
            for name, parameter in decoder.writer.named_parameters():
                if parameter.dim() > 1:
                    parameter.mul_(5 if model.report_decoder.kind == "hierarchical" else 2)
                if name.startswith("read_places.1"):
                    parameter.mul_(5)
            decoder.writer.get_submodule("word_embedding").weight[PAD] = 0
        return decoder.eval()

    return make


ATTENTIVE = {"kind": "attentive", "width": 16, "heads": 2, "layers": 2}
KINDS_OF_DECODER = {
    "hierarchical": {},
    "hierarchical-topic": {"topic_in_every_step": True, "reads": "image-and-labels"},
    "attentive": ATTENTIVE,
    "attentive-labels": {**ATTENTIVE, "reads": "image-and-labels"},
}


@pytest.fixture(params=KINDS_OF_DECODER)
def decoder(request: pytest.FixtureRequest, make_decoder: MakeDecoder) -> ReportDecoder:
    """Each kind of decoder, with and without labels as input."""
    return make_decoder(**KINDS_OF_DECODER[request.param])


def images(num: int) -> Tensor:
    """Return images that differ in brightness and contrast."""
    noise = torch.rand(num, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rows = torch.arange(num)[:, None, None, None]
    return (noise * (1 + rows % 3) + rows % 5 - 2).clamp(-1, 1)


def labels(num: int) -> Tensor:
    """Return labels that differ between rows."""
    return ((torch.arange(num)[:, None] >> torch.arange(NUM_LABELS)) % 2).float()


def assert_layout(words_BSW: Tensor) -> None:
    """Check that non-empty sentences end in END and padding, and that a report's first sentences are not empty."""
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
