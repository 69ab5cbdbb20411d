import pytest
import torch
from torch.nn import functional

from emixer.config.model import CoganModelConfig, ImageDiscriminatorConfig
from emixer.models.coupled_critics import CoupledCritics
from emixer.models.image_discriminator import ImageDiscriminator


def make(side_px: int = 32, channels: int = 1) -> ImageDiscriminator:
    torch.manual_seed(0)
    return ImageDiscriminator(ImageDiscriminatorConfig(channels=4), 14, side_px, channels)


@pytest.mark.parametrize("side_px", [32, 64, 128, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_logit_and_four_rotation_logits_per_image(side_px: int, channels: int) -> None:
    critic = make(side_px, channels)
    features = critic.features(torch.rand(2, channels, side_px, side_px))
    assert critic.real_logit(features, torch.zeros(2, 14), torch.ones(2, dtype=torch.bool)).shape == (2,)
    assert critic.rotation_logits(features).shape == (2, 4)


def test_channels_double_in_each_block_up_to_sixteenfold() -> None:
    assert [block.conv1.out_channels for block in make(256).blocks] == [4, 8, 16, 32, 64, 64]


def test_features_are_rectified_and_summed_over_the_four_by_four_positions() -> None:
    critic = make()
    image = torch.rand(2, 1, 32, 32)
    expected = functional.relu(critic.blocks(image)).flatten(2).sum(2)
    torch.testing.assert_close(critic.features(image), expected)


def test_projection_adds_the_inner_product_with_the_embedded_labels() -> None:
    critic = make()
    features, labels = torch.rand(2, 16), torch.zeros(2, 14)
    labels[:, [2, 5]] = 1
    every_row = torch.ones(2, dtype=torch.bool)
    plain = critic.real_logit(features, torch.zeros(2, 14), every_row)
    columns = critic.projection.weight[:, 2] + critic.projection.weight[:, 5]
    torch.testing.assert_close(critic.real_logit(features, labels, every_row), plain + features @ columns)


def test_labels_of_unlabelled_rows_have_no_influence_and_no_gradient() -> None:
    critic = make()
    features, labelled = torch.rand(2, 16), torch.tensor([True, False])
    first = critic.real_logit(features, torch.zeros(2, 14), labelled)
    second = critic.real_logit(features, torch.ones(2, 14), labelled)
    assert first[1] == second[1]
    assert first[0] != second[0]
    second[1].backward()
    assert critic.projection.parametrizations.weight.original.grad.abs().max() == 0


def test_logits_are_float32_under_bfloat16_autocast() -> None:
    critic = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = critic.features(torch.rand(2, 1, 32, 32))
        logit = critic.real_logit(features, torch.zeros(2, 14), torch.ones(2, dtype=torch.bool))
        assert logit.dtype == critic.rotation_logits(features).dtype == features.dtype == torch.float32


def test_spectral_norm_can_be_left_out_of_every_layer_of_an_image_critic() -> None:
    bare = ImageDiscriminatorConfig(channels=4, spectral_norm=False)
    tied = CoupledCritics(CoganModelConfig(image_discriminator=bare, side_px=32), num_labels=3, num_words=12)
    of_reports = ("embed_report", "reader")
    for critic in (ImageDiscriminator(bare, 3, 32, 1), tied):
        names = [name for name, _ in critic.named_parameters() if not name.startswith(of_reports)]
        assert names
        assert not any("parametrizations" in name for name in names)
