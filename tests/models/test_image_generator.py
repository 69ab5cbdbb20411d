import pytest
import torch

from emixer.config.model import ImageGeneratorConfig
from emixer.models.image_generator import ImageGenerator
from emixer.models.layers import SelfAttention, UpBlock

TINY = ImageGeneratorConfig(channels=4, noise_chunk=3, label_embedding=6)


@pytest.mark.parametrize(("side_px", "blocks", "channels"), [(32, 3, 3), (64, 4, 1), (128, 5, 3), (256, 6, 1)])
def test_image_has_the_configured_shape_and_each_block_a_noise_chunk(side_px: int, blocks: int, channels: int) -> None:
    generator = ImageGenerator(TINY, num_labels=14, side_px=side_px, image_channels=channels)
    assert len(generator.blocks) == blocks
    assert generator.noise_size == 3 * (blocks + 1)
    image = generator(torch.randn(1, generator.noise_size), torch.zeros(1, 14))
    assert image.shape == (1, channels, side_px, side_px)
    assert image.abs().max() <= 1


def test_papers_noise_of_120_dimensions_fits_128_px() -> None:
    config = ImageGeneratorConfig(channels=4)
    assert ImageGenerator(config, num_labels=14, side_px=128, image_channels=1).noise_size == 120


def test_widths_halve_towards_the_image_from_at_most_sixteen_times_the_last() -> None:
    generator = ImageGenerator(TINY, num_labels=14, side_px=256, image_channels=1)
    widths = [(block.conv1.in_channels, block.conv1.out_channels) for block in generator.blocks]
    assert widths == [(64, 64), (64, 64), (64, 32), (32, 16), (16, 8), (8, 4)]


def test_attention_comes_right_before_the_last_block() -> None:
    generator = ImageGenerator(TINY, num_labels=14, side_px=64, image_channels=1)
    order: list[str] = []
    for module in generator.modules():
        if isinstance(module, (UpBlock, SelfAttention)):
            module.register_forward_hook(lambda module, *_: order.append(type(module).__name__))
    generator(torch.randn(2, generator.noise_size), torch.zeros(2, 14))
    assert order == ["UpBlock", "UpBlock", "UpBlock", "SelfAttention", "UpBlock"]


def test_every_noise_chunk_and_label_affects_the_image() -> None:
    torch.manual_seed(0)
    generator = ImageGenerator(TINY, num_labels=14, side_px=32, image_channels=1)
    z, y = torch.randn(4, 12, requires_grad=True), torch.zeros(4, 14, requires_grad=True)
    generator(z, y).square().sum().backward()
    assert (z.grad.abs().amax(dim=0) > 0).all()
    assert (y.grad.abs().amax(dim=0) > 0).all()


def test_images_are_float32_under_bfloat16_autocast() -> None:
    generator = ImageGenerator(TINY, num_labels=14, side_px=32, image_channels=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image = generator(torch.randn(2, 12), torch.zeros(2, 14))
    assert image.dtype == torch.float32


def test_spectral_norm_can_be_disabled() -> None:
    config = TINY.model_copy(update={"spectral_norm": False})
    names = ImageGenerator(config, num_labels=14, side_px=32, image_channels=1).state_dict()
    assert not any("parametrizations" in name for name in names)
