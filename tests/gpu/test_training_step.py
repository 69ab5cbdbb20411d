"""One iteration of the game: precisions, memory formats, optimizers and checkpoints on the device that trains."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch

from emixer.checkpoint import Checkpoint, save_checkpoint
from emixer.config import Config, with_overrides
from emixer.data.loader import HostBatch
from emixer.models.noise import RowNoise
from emixer.training.state import TrainState
from emixer.training.step import train_iteration

MakeState = Callable[..., TrainState]


def losses_of(state: TrainState, batches: list[HostBatch]) -> dict[str, float]:
    """Loss terms of the next iteration."""
    return {name: value.item() for name, value in train_iteration(state, iter(batches)).items()}


def test_bf16_losses_are_those_of_float32_within_its_eight_bits(
    fresh_state: MakeState, tiny_config: Config, tiny_batches: list[HostBatch]
) -> None:
    precise = losses_of(fresh_state(), tiny_batches)
    rounded = losses_of(fresh_state(with_overrides(tiny_config, {"train.precision": "bf16"})), tiny_batches)
    assert rounded.keys() == precise.keys()
    assert rounded != precise
    for name, value in precise.items():
        assert abs(rounded[name] - value) < 0.05 + 0.05 * abs(value), name


def test_losses_are_the_same_in_channels_last_and_in_contiguous_memory(
    fresh_state: MakeState, tiny_batches: list[HostBatch]
) -> None:
    channels_last, contiguous = fresh_state(), fresh_state()
    contiguous.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    kernels = [[p for p in s.model.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
               for s in (channels_last, contiguous)]  # fmt: skip
    assert not any(p.is_contiguous() for p in kernels[0])
    assert all(p.is_contiguous() for p in kernels[1])
    one, other = losses_of(channels_last, tiny_batches), losses_of(contiguous, tiny_batches)
    for name, value in one.items():
        assert abs(other[name] - value) < 1e-3 + 1e-3 * abs(value), name


def test_fused_adam_takes_the_steps_of_the_foreach_one(fresh_state: MakeState) -> None:
    state = fresh_state()
    fused = state.discriminator_optimizer
    parameters = [p for group in fused.param_groups for p in group["params"]]
    copies = [copy.deepcopy(p) for p in parameters]
    settings = {key: fused.param_groups[0][key] for key in ("lr", "betas", "eps")}
    foreach = torch.optim.Adam(copies, **settings, foreach=True, fused=False)
    assert fused.param_groups[0]["fused"]
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        for parameter, same in zip(parameters, copies, strict=True):
            gradient = torch.randn(parameter.shape, generator=generator).to(parameter.device)
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
            same.grad = torch.empty_like(same).copy_(gradient)
        fused.step()
        foreach.step()
    for parameter, same in zip(parameters, copies, strict=True):
        torch.testing.assert_close(parameter, same, rtol=1e-5, atol=1e-6)


def test_rows_get_the_same_noise_bit_for_bit_in_any_split(device: torch.device) -> None:
    whole = RowNoise(1, 2, 0, 50, device)
    for name in ("normal", "uniform", "gumbel"):
        drawn = getattr(whole, name)("z", 3)
        pieces = [getattr(whole.rows(first, num), name)("z", 3) for first, num in ((0, 7), (7, 26), (33, 17))]
        assert drawn.device.type == device.type
        assert torch.equal(drawn, torch.cat(pieces))


def test_a_checkpoint_goes_to_the_cpu_and_back_and_the_run_goes_on(
    fresh_state: MakeState, tiny_batches: list[HostBatch], tmp_path: Path
) -> None:
    trained = fresh_state()
    losses_of(trained, tiny_batches)
    first = saved(trained, tmp_path / "first")
    on_cpu = fresh_state(device=torch.device("cpu"))
    on_cpu.restore(first)
    back = fresh_state()
    back.restore(saved(on_cpu, tmp_path / "second"))
    for part, tensors in trained.parts().items():
        there, here = on_cpu.parts()[part], back.parts()[part]
        assert there.keys() == here.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor.cpu(), there[name]), name
            assert torch.equal(tensor, here[name]), name
    without, after = losses_of(trained, tiny_batches), losses_of(back, tiny_batches)
    for name, value in without.items():  # a GPU adds up in an order of its own
        assert abs(after[name] - value) < 1e-4 + 1e-3 * abs(value), name


def saved(state: TrainState, folder: Path) -> Checkpoint:
    """The state as a run saves it."""
    return save_checkpoint(folder, state.images, state.parts(), state.describe())
