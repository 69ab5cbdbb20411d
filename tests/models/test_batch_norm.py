import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from emixer.models.batch_norm import BatchNorm2d, ConditionalBatchNorm2d, eval_mode

WORKER = Path(__file__).with_name("synchronized_worker.py")


def test_conditional_batch_norm_by_hand() -> None:
    layer = ConditionalBatchNorm2d(1, 1)
    with torch.no_grad():
        layer.gain_and_bias.weight.copy_(torch.tensor([[0.5], [2.0]]))
    x = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(2, 1, 1, 2)  # mean 4, variance 5
    y = layer(x, torch.tensor([[1.0], [-1.0]]))
    # gain 1 + 0.5 and bias 2 for the first image, 1 - 0.5 and -2 for the second
    scale = 5**-0.5
    expected = [-3 * scale * 1.5 + 2, -1 * scale * 1.5 + 2, 1 * scale * 0.5 - 2, 3 * scale * 0.5 - 2]
    assert y.flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_running_statistics_follow_the_images_and_are_used_in_eval_mode() -> None:
    layer = ConditionalBatchNorm2d(1, 1)
    layer(torch.tensor([1.0, 3.0, 5.0, 7.0]).view(2, 1, 1, 2), torch.zeros(2, 1))
    assert layer.norm.running_mean.item() == pytest.approx(0.4)  # 0.9 * 0 + 0.1 * 4
    assert layer.norm.running_var.item() == pytest.approx(0.9 + 0.1 * 20 / 3)  # the unbiased variance
    with eval_mode(layer):
        y = layer(torch.full((1, 1, 1, 1), 2.4), torch.zeros(1, 1))
    assert y.item() == pytest.approx(2 / (0.9 + 2 / 3) ** 0.5, rel=1e-4)
    assert layer.training


def test_plain_batch_norm_matches_torch_and_loads_its_state_dict() -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm2d(4), nn.BatchNorm2d(4)
    nn.init.normal_(theirs.weight)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 4, 5, 5)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)


@pytest.mark.parametrize(("mean", "tolerance"), [(2.0, 1e-4), (3000.0, 1e-2)], ids=["near 0", "far from 0"])
def test_two_workers_match_one_worker_with_the_whole_batch(mean: float, tolerance: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = ConditionalBatchNorm2d(3, 2)
    layer.norm.running_mean.fill_(mean - 1)
    x = (torch.randn(6, 3, 4, 4) * torch.arange(1, 7)[:, None, None, None] + mean).requires_grad_()
    condition, direction = torch.randn(6, 2), torch.randn(6, 3, 4, 4)
    inputs = {"layer": layer.state_dict(), "x": x.detach(), "condition": condition, "direction": direction}
    torch.save(inputs, tmp_path / "inputs.pt")
    workers = [subprocess.Popen([sys.executable, str(WORKER), str(rank), str(tmp_path)]) for rank in range(2)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]

    y = layer(x, condition)
    (y * direction).sum().backward()
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    close = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(torch.cat([first["y"], second["y"]]), y.detach(), **close)
    torch.testing.assert_close(torch.cat([first["x_gradient"], second["x_gradient"]]), x.grad, **close)
    torch.testing.assert_close(first["weight_gradient"], layer.gain_and_bias.weight.grad, **close)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(first[f"norm.{name}"], getattr(layer.norm, name), **close)
        assert torch.equal(first[f"norm.{name}"], second[f"norm.{name}"])


def test_training_pass_does_not_change_the_gradient_of_an_earlier_eval_pass() -> None:
    # F reads generated images in eval mode and real ones in training mode before one backward pass
    layer = BatchNorm2d(3)
    images, others = torch.randn(4, 3, 5, 5, requires_grad=True), 10 + 5 * torch.randn(4, 3, 5, 5)
    layer.eval()
    (expected,) = torch.autograd.grad(layer(images).square().sum(), images)
    out = layer(images)
    layer.train()
    layer(others)
    (actual,) = torch.autograd.grad(out.square().sum(), images)
    torch.testing.assert_close(actual, expected)
