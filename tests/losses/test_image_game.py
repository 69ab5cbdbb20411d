"""The terms of real and generated images against values by hand, for a critic whose logit is linear in the image."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from emixer.config.training import LossConfig
from emixer.losses.augmentation import NUM_UNIFORMS
from emixer.losses.gradient_penalty import gradient_penalty
from emixer.losses.image_game import ImageGame
from emixer.models.noise import RowNoise
from emixer.models.paired_model import Batch
from emixer.training.step import row_weights

NUM, SIDE = 8, 32
NOISE = RowNoise(seed=0, step=0, first_row=0, num_rows=NUM, device=torch.device("cpu"))
MakeBatch = Callable[[int], Batch]


class LinearCritic:
    """Logit: slope times the mean of the image, plus a bias for each label that is present."""

    def __init__(self, slope: float) -> None:
        self.slope = torch.tensor(slope, requires_grad=True)

    def features(self, image_BCHW: Tensor) -> Tensor:
        return image_BCHW.mean(dim=(1, 2, 3))[:, None]

    def real_logit(self, features_BF: Tensor, labels_BY: Tensor, labelled_B: Tensor) -> Tensor:
        return self.slope * features_BF[:, 0] + 0.5 * labels_BY.sum(dim=1).where(labelled_B, 0.0)

    def rotation_logits(self, features_BF: Tensor) -> Tensor:
        return features_BF.expand(-1, 4)


def gray(*means: float) -> Tensor:
    return torch.tensor(means)[:, None, None, None].expand(-1, 1, SIDE, SIDE).contiguous()


def game(**settings: object) -> ImageGame:
    return ImageGame(LossConfig.model_validate({"alpha": 0.0, "beta": 0.0, **settings}))


@pytest.fixture
def real(make_batch: MakeBatch) -> Batch:
    """Images of mean 0.5; labels are known and absent."""
    batch = make_batch(NUM)
    batch.labels_BY.zero_()
    return Batch(**{**vars(batch), "image_BCHW": gray(*[0.5] * NUM), "labelled_B": torch.ones(NUM, dtype=torch.bool)})


FAKE = gray(*[-0.25] * NUM)
FAKE_LABELS = torch.tensor([[1.0, 0.0, 0.0]]).expand(NUM, -1)
# for a slope of 2: logits 1 for real images, -0.5 + 0.5 = 0 for generated ones


@pytest.mark.parametrize(
    ("settings", "critic", "generator"),
    [
        ({"adversarial": "logistic"}, math.log1p(math.exp(-1)) + math.log(2), math.log(2)),
        ({"adversarial": "hinge"}, 0 + 1, 0),
        ({"adversarial": "logistic", "relativistic": True}, math.log1p(math.exp(-1)), math.log1p(math.exp(1))),
        ({"adversarial": "hinge", "relativistic": True}, 0, 1),
    ],
)
def test_terms_of_each_loss(settings: dict[str, object], critic: float, generator: float, real: Batch) -> None:
    own, linear, weights = game(**settings), LinearCritic(2.0), row_weights(real)
    terms = own.critic_terms(linear, real, FAKE, FAKE_LABELS, NOISE, weights)
    assert {name: term.item() for name, term in terms.items()} == {"image": pytest.approx(critic)}
    terms = own.generator_terms(linear, real, FAKE, FAKE_LABELS, NOISE, weights)
    assert {name: term.item() for name, term in terms.items()} == {"image": pytest.approx(generator)}


def test_fakes_of_unlabelled_rows_are_judged_without_their_labels(real: Batch) -> None:
    own, linear = game(adversarial="hinge"), LinearCritic(2.0)
    half = replace(real, labelled_B=torch.arange(NUM) % 2 == 0)
    terms = own.critic_terms(linear, half, FAKE, FAKE_LABELS, NOISE, row_weights(half))
    assert terms["image"].item() == pytest.approx((1 + 0.5) / 2)  # of the logits 0, and -0.5 without the label
    terms = own.generator_terms(linear, half, FAKE, FAKE_LABELS, NOISE, row_weights(half))
    assert terms["image"].item() == pytest.approx((0 + 0.5) / 2)


@pytest.mark.parametrize(("relativistic", "sign"), [(False, -1), (True, 1)])
def test_adaptive_augmentation_follows_what_the_critic_is_trained_on(
    real: Batch, relativistic: bool, sign: float
) -> None:
    """A relativistic critic is trained on differences alone: an offset of all its logits means nothing."""

    class Offset(LinearCritic):
        def real_logit(self, features_BF: Tensor, labels_BY: Tensor, labelled_B: Tensor) -> Tensor:
            return super().real_logit(features_BF, labels_BY, labelled_B) - 5

    own = game(relativistic=relativistic, augment=("color",), augment_target=0.6)
    terms = own.critic_terms(Offset(2.0), real, FAKE, FAKE_LABELS, NOISE, row_weights(real))
    assert terms["real_sign"].item() == sign


def test_relativistic_generator_is_compared_with_real_images_as_the_critic_sees_them(real: Batch) -> None:
    own = game(adversarial="hinge", relativistic=True, augment=("color",))
    term = own.generator_terms(LinearCritic(2.0), real, FAKE, FAKE_LABELS, NOISE, row_weights(real))["image"]
    brightness_B = NOISE.uniform("augment/real", NUM_UNIFORMS)[:, 0]
    # mean gray 0.5 + brightness - 0.5, against logits of 0
    assert term.item() == pytest.approx(2 * brightness_B.mean().item(), rel=1e-5)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_gradient_penalty_of_a_linear_critic(share: float, real: Batch) -> None:
    critic = LinearCritic(2.0)
    own = game(gradient_penalty=1.0, penalty_share=share)
    term = own.critic_terms(critic, real, FAKE, FAKE_LABELS, NOISE, row_weights(real))["gradient_penalty"]
    # each of SIDE^2 pixels has the gradient slope / SIDE^2: half of its square, at a real and at a generated image
    assert term.item() == pytest.approx(2.0**2 / SIDE**2)
    (to_slope,) = torch.autograd.grad(term, critic.slope)
    assert to_slope.item() == pytest.approx(2 * 2.0 / SIDE**2)


def test_gradient_penalty_is_that_of_each_image_with_its_own_labels(real: Batch) -> None:
    class Steeper(LinearCritic):
        def real_logit(self, features_BF: Tensor, labels_BY: Tensor, labelled_B: Tensor) -> Tensor:
            return self.slope * features_BF[:, 0] * (1 + labels_BY.sum(dim=1).where(labelled_B, 0.0))

    half = replace(real, labelled_B=torch.arange(NUM) % 4 < 2)
    own = game(gradient_penalty=1.0, penalty_share=0.5)
    term = own.critic_terms(Steeper(2.0), half, FAKE, FAKE_LABELS, NOISE, row_weights(half))["gradient_penalty"]
    # slope 2 at real images; at generated ones 4 in rows 0 and 4, and 2 in 2 and 6, whose labels are not known
    assert term.item() == pytest.approx((2**2 + (4**2 + 2**2) / 2) / 2 / SIDE**2)


def test_gradient_penalty_against_differences_of_the_logit() -> None:
    class Quadratic(LinearCritic):
        def features(self, image_BCHW: Tensor) -> Tensor:
            return image_BCHW.square().sum(dim=(1, 2, 3))[:, None]

    image = torch.rand(2, 1, 3, 3, dtype=torch.float64)
    labels, labelled, critic = torch.zeros(2, 3), torch.ones(2, dtype=torch.bool), Quadratic(1.5)

    def logits(moved: Tensor) -> Tensor:
        return critic.real_logit(critic.features(moved), labels, labelled)

    step, squares = 1e-5, 0.0
    for place in range(9):
        moved = torch.zeros(9, dtype=torch.float64)
        moved[place] = step
        slope = (logits(image + moved.view(3, 3)) - logits(image - moved.view(3, 3))) / (2 * step)
        squares += slope.square().sum().item()
    assert gradient_penalty(critic, image, labels, labelled).item() == pytest.approx(squares / 2, rel=1e-6)
