"""Chest encoder: a DenseNet whose features the report decoder reads.

At growth 32, blocks (6, 12, 24, 16), stem 64 this is DenseNet-121 with one input channel. Parameter names and shapes
are torchvision's (and so torchxrayvision's), so their state dicts load as they are. The report decoder uses it up to
transition 3; the encoder stage trains, and FID uses, the whole network with its classifier.

Shapes: B images, C channels, H = W side [px], V features after transition 3 (121: 512), P final features (121: 1024),
L labels of the classifier.
Source: EMIXER §3.2.2; Huang et al. 2017 (DenseNet). Departures: docs/deviations.md#chest-encoder.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from emixer.config.model import ChestEncoderConfig
from emixer.models.batch_norm import BatchNorm2d
from emixer.models.encoder_weights import INPUT_RANGE, load_encoder_weights

_BOTTLENECK = 4
"""Output channels of a dense layer's 1 x 1 convolution, in multiples of the growth rate."""


class ChestEncoder(nn.Module):
    """DenseNet for gray images. Without `num_labels` it ends at transition 3 and has no later layers.

    A frozen encoder keeps its weights and running statistics even in training mode; gradients still reach the image.
    """

    def __init__(self, config: ChestEncoderConfig, num_labels: int | None = None, load_weights: bool = True) -> None:
        super().__init__()
        self.input_px = config.input_px
        self.input_range = INPUT_RANGE[config.weights_from]
        self.frozen = config.frozen
        channels = config.stem_channels
        stages = _stem(config.stem_channels)
        for index, num_layers in enumerate(config.blocks, start=1):
            if index == len(config.blocks) and num_labels is None:
                break
            stages[f"denseblock{index}"] = _dense_block(channels, num_layers, config.growth)
            channels += num_layers * config.growth
            if index < len(config.blocks):
                stages[f"transition{index}"] = _transition(channels)
                channels //= 2
                self.feature_size = channels
        if num_labels is not None:
            stages["norm5"] = BatchNorm2d(channels)
            self.classifier = nn.Linear(channels, num_labels)
        self.features = nn.Sequential(stages)
        self.apply(_initialize)
        if load_weights and config.weights is not None:
            load_encoder_weights(self, config.weights, config.weights_from)
        if config.frozen:
            self.requires_grad_(False)
            self.eval()

    @property
    def num_places(self) -> int:
        """Places of transition 3's output: the stem halves a side twice, each transition once."""
        side = self.input_px
        for _ in range(2):
            side = (side + 1) // 2
        return (side // 8) ** 2

    def places(self, image_BCHW: Tensor) -> Tensor:
        """Return features (B, P, V), float32, of the places of transition 3's output. Images in [-1, 1], gray or with 3
        equal channels."""
        h_BCHW = self._prepared(image_BCHW)
        for name, stage in self.features.named_children():
            h_BCHW = stage(h_BCHW)
            if name == "transition3":
                break
        return h_BCHW.float().flatten(2).transpose(1, 2)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Return v_BV, float32: the mean over the places of transition 3's output."""
        return self.places(image_BCHW).mean(dim=1)

    def final_features(self, image_BCHW: Tensor) -> Tensor:
        """Return features_BP before the classifier, float32. Needs an encoder built with `num_labels`."""
        h_BCHW = functional.relu(self.features(self._prepared(image_BCHW)))
        return h_BCHW.float().mean(dim=(2, 3))

    def logits(self, final_features_BP: Tensor) -> Tensor:
        """Return label logits_BL from `final_features`."""
        logits_BL: Tensor = self.classifier(final_features_BP)
        return logits_BL.float()

    def train(self, mode: bool = True) -> "ChestEncoder":
        """As nn.Module.train, but a frozen encoder stays in eval mode."""
        super().train(mode and not self.frozen)
        return self

    def _prepared(self, image_BCHW: Tensor) -> Tensor:
        gray_B1HW = image_BCHW.mean(dim=1, keepdim=True)
        if gray_B1HW.shape[-1] != self.input_px:
            side = (self.input_px, self.input_px)
            gray_B1HW = functional.interpolate(gray_B1HW.float(), side, mode="bilinear", antialias=True)
        return gray_B1HW * self.input_range


class _DenseLayer(nn.Module):
    """BN, ReLU, 1 x 1, BN, ReLU, 3 x 3; its output is appended to its input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, _BOTTLENECK * growth, 1, bias=False)
        self.norm2 = BatchNorm2d(_BOTTLENECK * growth)
        self.conv2 = nn.Conv2d(_BOTTLENECK * growth, growth, 3, padding=1, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h = self.conv1(functional.relu(self.norm1(x_BCHW)))
        h = self.conv2(functional.relu(self.norm2(h)))
        return torch.cat([x_BCHW, h], dim=1)


def _stem(channels: int) -> "OrderedDict[str, nn.Module]":
    return OrderedDict(
        conv0=nn.Conv2d(1, channels, 7, stride=2, padding=3, bias=False),
        norm0=BatchNorm2d(channels),
        relu0=nn.ReLU(),
        pool0=nn.MaxPool2d(3, stride=2, padding=1),
    )


def _dense_block(channels: int, num_layers: int, growth: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict((f"denselayer{i + 1}", _DenseLayer(channels + i * growth, growth)) for i in range(num_layers))
    )


def _transition(channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            norm=BatchNorm2d(channels),
            relu=nn.ReLU(),
            conv=nn.Conv2d(channels, channels // 2, 1, bias=False),
            pool=nn.AvgPool2d(2),
        )
    )


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
