"""Differentiable augmentation against values worked out by hand."""

import pytest
import torch
from torch import Tensor

from emixer.config.training import Augmentation
from emixer.losses.augmentation import NUM_UNIFORMS, Augmenter, augmented
from emixer.models.noise import RowNoise

SIDE = 16


def images(num: int = 2) -> Tensor:
    return torch.linspace(-0.5, 0.5, num * SIDE * SIDE).view(num, 1, SIDE, SIDE)


def numbers(**changed: float) -> Tensor:
    places = ["brightness", "contrast", "down", "right", "cut_down", "cut_right"]
    assert len(places) == NUM_UNIFORMS
    uniform_BU = torch.full((2, NUM_UNIFORMS), 0.5)
    for name, value in changed.items():
        uniform_BU[1, places.index(name)] = value  # the first image stays as it is
    return uniform_BU


def test_images_are_returned_as_they_are_without_augmentation() -> None:
    image = images()
    assert augmented(image, numbers(), ()) is image


@pytest.mark.parametrize("kind", ["color", "translation"])
def test_uniform_of_one_half_changes_nothing(kind: Augmentation) -> None:
    torch.testing.assert_close(augmented(images(), numbers(), (kind,)), images())


def test_brightness_is_added_and_contrast_stretches_about_the_mean() -> None:
    image = images()
    brighter = augmented(image, numbers(brightness=0.75), ("color",))
    torch.testing.assert_close(brighter[1], image[1] + 0.25)
    flatter = augmented(image, numbers(contrast=0.0), ("color",))
    torch.testing.assert_close(flatter[1], image[1].mean() + (image[1] - image[1].mean()) / 2)
    torch.testing.assert_close(flatter[0], image[0])
    colour = torch.cat([image, image + 0.4], dim=1)  # the mean is that of all channels, which keep their difference
    flatter = augmented(colour, numbers(contrast=0.0), ("color",))
    torch.testing.assert_close(flatter[1], colour[1].mean() + (colour[1] - colour[1].mean()) / 2)


def test_images_move_by_whole_pixels_and_black_fills_in() -> None:
    image = images()
    moved = augmented(image, numbers(down=0.99, right=0.0), ("translation",))  # by 16 / 8 = 2 down, 2 left
    assert torch.equal(moved[0], image[0])
    assert torch.equal(moved[1, 0, 2:, :-2], image[1, 0, :-2, 2:])
    assert (moved[1, 0, :2] == -1).all()
    assert (moved[1, 0, :, -2:] == -1).all()


def test_every_shift_is_as_likely_as_its_opposite() -> None:
    shifts = [
        (augmented(images(), numbers(down=u), ("translation",))[1, 0, :, 0] == -1).sum().item()
        for u in torch.arange(0.05, 1, 0.1).tolist()
    ]
    assert shifts == [2, 2, 1, 1, 0, 0, 1, 1, 2, 2]


def test_cutout_is_a_gray_square_of_half_the_side_that_may_cross_the_edge() -> None:
    image = images()
    inside = augmented(image, numbers(), ("cutout",))
    assert (inside[0, 0, 4:12, 4:12] == 0).all()
    assert torch.equal(inside[0, 0, :4], image[0, 0, :4])
    at_edge = augmented(image, numbers(cut_down=0.0, cut_right=0.75), ("cutout",))
    assert (at_edge[1, 0, :4, 8:] == 0).all()
    assert torch.equal(at_edge[1, 0, 4:], image[1, 0, 4:])
    assert torch.equal(at_edge[1, 0, :, :8], image[1, 0, :, :8])


def test_gradients_pass_only_where_the_image_is_visible() -> None:
    image = images().requires_grad_()
    augmented(image, numbers(down=0.99), ("translation", "cutout")).sum().backward()
    assert image.grad is not None
    assert (image.grad[1, 0, -2:] == 0).all()  # moved out of the image
    assert (image.grad[0, 0, 4:12, 4:12] == 0).all()  # under the square
    assert (image.grad[0, 0, :4] == 1).all()


def test_adaptive_probability_follows_the_discriminators_certainty() -> None:
    augment = Augmenter(("translation",), target=0.6, images=1000)
    assert augment.probability == 0
    augment.follow(torch.tensor(0.9), 100)
    augment.follow(torch.tensor(0.7), 100)
    assert augment.probability.item() == pytest.approx(0.2)
    augment.follow(torch.tensor(0.1), 50)
    assert augment.probability.item() == pytest.approx(0.15)
    for _ in range(30):
        augment.follow(torch.tensor(1.0), 100)
    assert augment.probability == 1
    for _ in range(30):
        augment.follow(torch.tensor(-1.0), 100)
    assert augment.probability == 0


def test_share_of_augmented_images_follows_the_probability() -> None:
    images = torch.rand(600, 1, 16, 16)
    noise = RowNoise(0, 0, 0, 600, torch.device("cpu"))
    augment = Augmenter(("color",), target=0.6)
    assert torch.equal(augment(images, noise, "real"), images), "it begins without"
    augment.probability = torch.tensor(0.3)
    seen = augment(images, noise, "real")
    changed = (seen != images).flatten(1).any(1)
    assert 130 < changed.sum() < 230
    of_fakes = (augment(images, noise, "fake") != images).flatten(1).any(1)
    assert (of_fakes & changed).sum() < 90, "a row's real and generated image are chosen independently: 9 % are both"
    always = Augmenter(("color",))(images, noise, "real")
    assert torch.equal(seen[changed], always[changed])
    assert Augmenter(())(images, noise, "real") is images
