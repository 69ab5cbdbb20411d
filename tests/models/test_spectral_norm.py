import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from emixer.models.spectral_norm import advance_power_iterations, spectrally_normalized


def layers() -> list[nn.Linear | nn.Conv2d]:
    torch.manual_seed(0)
    return [
        spectrally_normalized(nn.Linear(30, 20)),
        spectrally_normalized(nn.Conv2d(6, 10, 3)),
        spectrally_normalized(nn.Conv2d(12, 4, 1)),
    ]


def top_singular_value(weight: torch.Tensor) -> float:
    return float(torch.linalg.svdvals(weight.detach().flatten(1))[0])


@pytest.mark.parametrize("index", range(3))
def test_largest_singular_value_becomes_one_for_any_weight(index: int) -> None:
    layer = layers()[index]
    with torch.no_grad():
        layer.parametrizations.weight.original.normal_(std=7.0)
    assert abs(top_singular_value(layer.weight) - 1) > 0.1
    for _ in range(200):
        advance_power_iterations(layer)
    assert top_singular_value(layer.weight) == pytest.approx(1, abs=1e-3)


def test_fresh_layer_is_normalized_from_the_start() -> None:
    for layer in layers():
        assert top_singular_value(layer.weight) == pytest.approx(1, abs=0.1)


def test_reading_a_weight_changes_nothing_but_a_power_iteration_does() -> None:
    layer = layers()[0].train()
    before = layer.weight.detach().clone()
    assert torch.equal(layer.weight, before)
    advance_power_iterations(layer)
    assert not torch.equal(layer.weight, before)


def test_state_dict_restores_the_normalized_weight_exactly() -> None:
    torch.manual_seed(0)
    layer, other = layers()[1], spectrally_normalized(nn.Conv2d(6, 10, 3))
    advance_power_iterations(layer)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert torch.equal(layer.weight, other.weight)


def test_gradient_is_that_of_dividing_by_the_true_norm() -> None:
    layer = layers()[0]
    for _ in range(300):
        advance_power_iterations(layer)
    direction = torch.randn(20, 30)
    (layer.weight * direction).sum().backward()
    weight = layer.parametrizations.weight.original.detach().clone().requires_grad_()
    (weight / torch.linalg.matrix_norm(weight, 2) * direction).sum().backward()
    torch.testing.assert_close(layer.parametrizations.weight.original.grad, weight.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("layer", [nn.Conv2d(6, 10, 3), nn.Conv2d(6, 10, 1), nn.Conv2d(1, 4, 3), nn.Linear(9, 7)])
def test_iteration_weight_and_gradient_match_the_formula_in_any_memory_layout(
    layer: nn.Linear | nn.Conv2d, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = spectrally_normalized(copy.deepcopy(layer)).double()
    if isinstance(layer, nn.Conv2d):
        layer = layer.to(memory_format=layout)
    norm, original = layer.parametrizations.weight[0], layer.parametrizations.weight.original
    weight = original.detach().clone().requires_grad_()
    left = functional.normalize(weight.detach().flatten(1) @ norm.right_I, dim=0)
    right = functional.normalize(left @ weight.detach().flatten(1), dim=0)
    expected = weight / (left @ weight.flatten(1) @ right)
    advance_power_iterations(layer)
    torch.testing.assert_close((norm.left_O, norm.right_I, layer.weight), (left, right, expected))
    direction = torch.randn_like(expected)
    (layer.weight * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(original.grad, weight.grad)


def test_power_iteration_before_backward_does_not_change_the_gradient() -> None:
    layer = layers()[1]
    direction = torch.randn_like(layer.weight)
    original = layer.parametrizations.weight.original
    undisturbed = torch.autograd.grad((layer.weight * direction).sum(), original)
    loss = (layer.weight * direction).sum()
    advance_power_iterations(layer)
    torch.testing.assert_close(torch.autograd.grad(loss, original), undisturbed)


def test_norm_stays_float32_under_autocast() -> None:
    layer = layers()[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.weight.dtype == torch.float32
        under_autocast = layer.weight.detach().clone()
    assert torch.equal(under_autocast, layer.weight)


def test_layer_without_spectral_norm_keeps_its_plain_weight() -> None:
    layer = spectrally_normalized(nn.Linear(4, 3), enabled=False)
    assert set(layer.state_dict()) == {"weight", "bias"}
