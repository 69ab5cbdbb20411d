import json

import torch

from emixer.models.paired_model import LabelPrior, ModelSpec


def test_labels_are_drawn_as_often_as_films_carry_them(tiny_spec: ModelSpec) -> None:
    prior = LabelPrior(tiny_spec)  # 3 films without labels, 1 with A and C
    drawn = prior.draw(torch.tensor([0.0, 0.5, 0.7499, 0.75, 0.9999999]))
    assert drawn.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 1], [1, 0, 1]]
    assert drawn.dtype == torch.float32


def test_the_prior_is_not_part_of_a_checkpoint(tiny_spec: ModelSpec) -> None:
    assert LabelPrior(tiny_spec).state_dict() == {}


def test_a_spec_survives_json(tiny_spec: ModelSpec) -> None:
    assert ModelSpec.from_json(json.loads(json.dumps(tiny_spec.to_json()))) == tiny_spec
