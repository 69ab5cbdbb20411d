"""Moving average of the sampling networks, used for samples and metrics, never for training.

Source: not in the paper; as in BigGAN and StyleGAN2, with a half-life in images and a ramp at the start.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

_RAMP = 0.1
"""Early on, the half-life is this fraction of the images trained on, so that first samples do not average noise."""


class MovingAverage:
    """Averaged copies of some submodules of a model."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], half_life_images: int) -> None:
        self.half_life_images = half_life_images
        self._source = {name: model.get_submodule(name) for name in names}
        self._average = {name: copy.deepcopy(module).requires_grad_(False) for name, module in self._source.items()}
        for average in self._average.values():
            for part in average.modules():
                if isinstance(part, nn.RNNBase):
                    part.flatten_parameters()  # a copy's weights lie apart, and cuDNN would gather them at each call
        self._pairs = {name: self._pairs_of(name) for name in names}

    @property
    def names(self) -> Sequence[str]:
        """Submodules that are averaged."""
        return tuple(self._pairs)

    @torch.no_grad()
    def update(self, new_images: int, trained_on: Mapping[str, int]) -> None:
        """Move the averages towards the model after a step over `new_images`.

        trained_on: images that each submodule has been trained on since it last rested, these included. One that is not
        named rests: its average would end as its last, unaveraged weights.
        """
        for name, images in trained_on.items():
            (averages, values), (copies, sources) = self._pairs[name]
            half_life = max(1.0, min(self.half_life_images, _RAMP * images))
            get_ema_multi_avg_fn(0.5 ** (new_images / half_life))(averages, values, 0)
            for copy_, value in zip(copies, sources, strict=True):
                copy_.copy_(value)

    @contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """Put the averaged networks into `model` for the duration of the block."""
        try:
            for name, average in self._average.items():
                model.set_submodule(name, average)
            yield
        finally:
            for name, source in self._source.items():
                model.set_submodule(name, source)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged tensors by their names in the model."""
        return {
            f"{name}.{key}": tensor
            for name, average in self._average.items()
            for key, tensor in average.state_dict().items()
        }

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of `state_dict`."""
        for name, average in self._average.items():
            prefix = f"{name}."
            average.load_state_dict({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})

    def _pairs_of(self, name: str) -> tuple[tuple[list[Tensor], list[Tensor]], tuple[list[Tensor], list[Tensor]]]:
        """Return (averages, values) to average, and (averages, values) to copy."""
        lerped: tuple[list[Tensor], list[Tensor]] = ([], [])
        copied: tuple[list[Tensor], list[Tensor]] = ([], [])
        source = self._source[name]
        averages = self._average[name].state_dict(keep_vars=True)
        trained = {key for key, parameter in source.named_parameters() if parameter.requires_grad}
        for key, value in source.state_dict(keep_vars=True).items():
            # Batch-norm statistics belong to the averaged weights; spectral norm's vectors are unit vectors that
            # an average would shorten, and a frozen weight has nothing to average.
            is_lerped = key in trained or key.endswith(("running_mean", "running_var"))
            target = lerped if is_lerped and value.is_floating_point() else copied
            target[0].append(averages[key].detach())
            target[1].append(value.detach())
        return lerped, copied
