import math

import pytest
import torch

from emixer.losses.adversarial import Hinge, Logistic, adversarial_loss

LOGITS = torch.tensor([0.0, 2.0, -3.0])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_logistic_by_hand() -> None:
    loss = Logistic()
    real = [-math.log(sigmoid(x)) for x in (0, 2, -3)]
    fake = [-math.log(1 - sigmoid(x)) for x in (0, 2, -3)]
    assert loss.real(LOGITS).tolist() == pytest.approx(real, rel=1e-5)
    assert loss.fake(LOGITS).tolist() == pytest.approx(fake, rel=1e-5)
    assert loss.generator(LOGITS).tolist() == pytest.approx(real, rel=1e-5)


def test_hinge_by_hand() -> None:
    loss = Hinge()
    assert loss.real(LOGITS).tolist() == [1, 0, 4]
    assert loss.fake(LOGITS).tolist() == [1, 3, 0]
    assert loss.generator(LOGITS).tolist() == [0, -2, 3]


def test_losing_generator_still_has_a_gradient() -> None:
    logit = torch.tensor([-20.0], requires_grad=True)
    Logistic().generator(logit).sum().backward()
    assert logit.grad is not None
    assert logit.grad.item() == pytest.approx(-1)


def test_config_names_the_loss() -> None:
    assert isinstance(adversarial_loss("logistic"), Logistic)
    assert isinstance(adversarial_loss("hinge"), Hinge)
