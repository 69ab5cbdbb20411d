import json

import pytest
import torch

from emixer.models.noise import RowNoise
from emixer.models.paired_model import END, PAD, UNKNOWN, Batch, LabelPrior, ModelSpec


def test_labels_are_drawn_at_their_frequency_in_the_images(tiny_spec: ModelSpec) -> None:
    prior = LabelPrior(tiny_spec)  # 3 images without labels, 1 with A and C
    drawn = prior.draw(torch.tensor([0.0, 0.5, 0.7499, 0.75, 0.9999999]))
    assert drawn.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 1], [1, 0, 1]]
    assert drawn.dtype == torch.float32


def test_label_prior_is_not_part_of_a_checkpoint(tiny_spec: ModelSpec) -> None:
    assert LabelPrior(tiny_spec).state_dict() == {}


def test_hidden_words_are_the_requested_share_and_never_an_end_or_padding() -> None:
    words = torch.randint(4, 50, (64, 5, 20))
    words[:, :, -1], words[:, 4] = END, PAD
    batch = Batch(torch.zeros(64, 1), torch.zeros(64, 3), torch.ones(64).bool(), words, torch.ones(64).bool())
    noise = RowNoise(seed=1, step=2, first_row=0, num_rows=64, device=torch.device("cpu"))
    read = batch.with_hidden_words(0.3, noise).words_read
    hidden = read != words
    assert hidden.float().mean().item() * words.numel() / (words > UNKNOWN).sum().item() == pytest.approx(0.3, abs=0.02)
    assert (read[hidden] == UNKNOWN).all()
    assert (words[hidden] > UNKNOWN).all()
    assert torch.equal(batch.with_hidden_words(0.3, noise).rows(16, 16).words_read, read[16:32])
    assert torch.equal(batch.with_hidden_words(0.0, noise).words_read, words)


def test_spec_survives_json(tiny_spec: ModelSpec) -> None:
    assert ModelSpec.from_json(json.loads(json.dumps(tiny_spec.to_json()))) == tiny_spec
