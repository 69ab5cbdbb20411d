from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from emixer.models.layers import DownBlock, SelfAttention, UpBlock


def conditionally_normalized(layer: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
    """Return conditional batch norm, written out."""
    mean, var = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), keepdim=True, unbiased=False)
    gain, bias = layer.gain_and_bias(condition).chunk(2, dim=1)
    return (x - mean) / (var + 1e-5).sqrt() * (1 + gain[:, :, None, None]) + bias[:, :, None, None]


def test_up_block_applies_the_rows_of_table_7_in_order() -> None:
    torch.manual_seed(0)
    block = UpBlock(6, 4, condition=5, spectral_norm=True)
    x, condition = torch.randn(3, 6, 4, 4), torch.randn(3, 5)
    h = functional.relu(conditionally_normalized(block.norm1, x, condition))
    h = block.conv1(functional.interpolate(h, scale_factor=2.0))
    h = functional.relu(conditionally_normalized(block.norm2, h, condition))
    expected = block.conv2(h) + block.shortcut(functional.interpolate(x, scale_factor=2.0))
    torch.testing.assert_close(block(x, condition), expected, rtol=1e-4, atol=1e-5)
    assert block(x, condition).shape == (3, 4, 8, 8)
    assert (block.conv1.kernel_size, block.conv2.kernel_size, block.shortcut.kernel_size) == ((3, 3), (3, 3), (1, 1))


def test_down_block_applies_the_rows_of_table_8_in_order() -> None:
    torch.manual_seed(0)
    block = DownBlock(4, 6, spectral_norm=True)
    x = torch.randn(3, 4, 8, 8)
    h = block.conv2(functional.relu(block.conv1(functional.relu(x))))
    expected = functional.avg_pool2d(h, 2) + functional.avg_pool2d(block.shortcut(x), 2)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)
    assert block(x).shape == (3, 6, 4, 4)


@pytest.mark.parametrize("num_images", [1, 8])
def test_folded_upsampling_changes_neither_images_nor_gradients(num_images: int) -> None:
    torch.manual_seed(0)
    block = UpBlock(6, 4, condition=5, spectral_norm=False).double().train()
    x, condition = torch.randn(num_images, 6, 16, 16).double(), torch.randn(num_images, 5).double()

    def written_out() -> Tensor:
        h = block.conv1(functional.interpolate(functional.relu(block.norm1(x, condition)), scale_factor=2.0))
        h = block.conv2(functional.relu(block.norm2(h, condition)))
        return h + block.shortcut(functional.interpolate(x, scale_factor=2.0))

    assert_same_outputs_and_gradients(lambda: block(x, condition), written_out, [x, *block.parameters()])


@pytest.mark.parametrize("num_images", [1, 8])
def test_folded_pooling_changes_neither_features_nor_gradients(num_images: int) -> None:
    torch.manual_seed(0)
    block = DownBlock(4, 6, spectral_norm=False).double()
    x = torch.randn(num_images, 4, 32, 32).double()

    def written_out() -> Tensor:
        h = block.conv2(functional.relu(block.conv1(functional.relu(x))))
        return functional.avg_pool2d(h + block.shortcut(x), 2)

    assert_same_outputs_and_gradients(lambda: block(x), written_out, [x, *block.parameters()])


def assert_same_outputs_and_gradients(
    first: Callable[[], Tensor], second: Callable[[], Tensor], inputs: list[Tensor]
) -> None:
    for tensor in inputs:
        tensor.requires_grad_()
    results = [
        (output := network(), *torch.autograd.grad(output.square().sum(), inputs)) for network in (first, second)
    ]
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


def test_residual_path_of_a_pixel_reading_block_sees_dark_pixels() -> None:
    torch.manual_seed(0)
    dark = -torch.rand(1, 1, 8, 8)
    block = DownBlock(1, 4, spectral_norm=True, reads_pixels=True)
    nn.init.zeros_(block.shortcut.parametrizations.weight.original)
    with torch.no_grad():
        block.shortcut.parametrizations.weight.original.fill_(1e-9)
    difference = block(dark) - block(dark * 0.5)
    assert difference.abs().max() > 0.05


def test_self_attention_starts_as_the_identity() -> None:
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(SelfAttention(16, spectral_norm=True)(x), x)


def test_self_attention_matches_softmax_written_out_by_position() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(16, spectral_norm=True)
    with torch.no_grad():
        layer.gain.fill_(0.7)
    x = torch.randn(2, 16, 4, 4)
    query = layer.query(x)
    key, value = functional.max_pool2d(layer.key(x), 2), functional.max_pool2d(layer.value(x), 2)
    read = torch.zeros(2, 8, 4, 4)
    for image in range(2):
        for i in range(4):
            for j in range(4):
                weight = (query[image, :, i, j, None, None] * key[image]).sum(0).flatten().softmax(0)
                read[image, :, i, j] = (value[image].flatten(1) * weight).sum(1)
    torch.testing.assert_close(layer(x), x + 0.7 * layer.out(read), rtol=1e-4, atol=1e-5)
