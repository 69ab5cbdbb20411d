"""Building blocks of the image networks: residual up and down blocks, self-attention.

A block skips the work that pooling or doubling next to a convolution makes redundant: mean pooling after a 3 x 3
convolution, and nearest upsampling before one, are each one 4 x 4 convolution of stride 2, at 4/9 of the
multiplications and without a large intermediate image; a 1 x 1 shortcut works on the smaller side.

Shapes: B images, C channels, O output channels, H = W side [px], E condition, N positions.
Source: EMIXER §3.2.1, tables 7 and 8; Zhang et al. 2019 (SAGAN) for attention. Departures: docs/deviations.md#blocks.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from emixer.models.batch_norm import ConditionalBatchNorm2d
from emixer.models.full_precision import full_precision
from emixer.models.spectral_norm import spectrally_normalized

_ATTENTION_REDUCTION = 8
"""Queries and keys have an eighth of the channels, values half, as in SAGAN."""
_FEWEST_POSITIONS = 2048
"""Positions of a batch at the larger side. With fewer, computing the 4 x 4 kernel costs more than it saves."""


class UpBlock(nn.Module):
    """Table 7: condBN, ReLU, upsampling, 3 x 3, condBN, ReLU, 3 x 3, beside a 1 x 1 shortcut. Doubles the side."""

    def __init__(self, channels_in: int, channels_out: int, condition: int, spectral_norm: bool) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm2d(channels_in, condition)
        self.conv1 = spectrally_normalized(nn.Conv2d(channels_in, channels_out, 3, padding=1), spectral_norm)
        self.norm2 = ConditionalBatchNorm2d(channels_out, condition)
        self.conv2 = spectrally_normalized(nn.Conv2d(channels_out, channels_out, 3, padding=1), spectral_norm)
        self.shortcut = spectrally_normalized(nn.Conv2d(channels_in, channels_out, 1), spectral_norm)

    def forward(self, x_BCHW: Tensor, condition_BE: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels_out, 2H, 2W)."""
        h = _after_doubling(self.conv1, functional.relu(self.norm1(x_BCHW, condition_BE)))
        h = self.conv2(functional.relu(self.norm2(h, condition_BE)))
        # A 1 x 1 convolution before nearest upsampling equals one after it, at a quarter of the work
        up_BCHW: Tensor = h + _doubled(self.shortcut(x_BCHW))
        return up_BCHW


class DownBlock(nn.Module):
    """Table 8: ReLU, 3 x 3, ReLU, 3 x 3, mean pooling, beside a pooled 1 x 1 shortcut. Halves the side.

    The first block of a critic reads pixels, not activations: its first ReLU is omitted, since it would hide everything
    darker than middle gray from the residual path.
    """

    def __init__(self, channels_in: int, channels_out: int, spectral_norm: bool, reads_pixels: bool = False) -> None:
        super().__init__()
        self.conv1 = spectrally_normalized(nn.Conv2d(channels_in, channels_out, 3, padding=1), spectral_norm)
        self.conv2 = spectrally_normalized(nn.Conv2d(channels_out, channels_out, 3, padding=1), spectral_norm)
        self.shortcut = spectrally_normalized(nn.Conv2d(channels_in, channels_out, 1), spectral_norm)
        self.reads_pixels = reads_pixels

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels_out, H/2, W/2)."""
        h = x_BCHW if self.reads_pixels else functional.relu(x_BCHW)
        h = _before_pooling(self.conv2, functional.relu(self.conv1(h)))
        # Mean pooling commutes with a 1 x 1 convolution: pooling first is a quarter of the work
        down_BCHW: Tensor = h + self.shortcut(functional.avg_pool2d(x_BCHW, 2))
        return down_BCHW


class SelfAttention(nn.Module):
    """Self-attention over positions (1 x 1 queries, keys, values; softmax), added with a learned gain, initially 0.

    Keys and values are max-pooled 2 x 2 as in SAGAN's code, which quarters the cost.
    """

    def __init__(self, channels: int, spectral_norm: bool) -> None:
        super().__init__()
        query_channels = max(channels // _ATTENTION_REDUCTION, 1)
        self.query = spectrally_normalized(nn.Conv2d(channels, query_channels, 1, bias=False), spectral_norm)
        self.key = spectrally_normalized(nn.Conv2d(channels, query_channels, 1, bias=False), spectral_norm)
        self.value = spectrally_normalized(nn.Conv2d(channels, channels // 2, 1, bias=False), spectral_norm)
        self.out = spectrally_normalized(nn.Conv2d(channels // 2, channels, 1, bias=False), spectral_norm)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Same shape and dtype as the input."""
        query_BNC = _positions(self.query(x_BCHW))
        key_BNC = _positions(functional.max_pool2d(self.key(x_BCHW), 2))
        value_BNC = _positions(functional.max_pool2d(self.value(x_BCHW), 2))
        # SAGAN does not divide by the square root of the width: q and k are spectrally normalized already
        if query_BNC.is_cuda:
            one_head = (query_BNC[:, None], key_BNC[:, None], value_BNC[:, None])  # older torch fuses nothing without
            read_BNC = functional.scaled_dot_product_attention(*one_head, scale=1.0)[:, 0]
        else:  # the same sums: torch has no fused kernel there for values of another width, and guards each softmax
            read_BNC = torch.softmax(query_BNC @ key_BNC.transpose(1, 2), dim=-1) @ value_BNC
        read_BCHW: Tensor = self.out(read_BNC.transpose(1, 2).unflatten(2, x_BCHW.shape[2:]))
        return x_BCHW + self.gain.to(x_BCHW.dtype) * read_BCHW


def _positions(h_BCHW: Tensor) -> Tensor:
    return h_BCHW.flatten(2).transpose(1, 2)


def _doubled(h_BCHW: Tensor) -> Tensor:
    with full_precision(h_BCHW.device):  # autocast of a GPU would make float32 of copied values, and all that follows
        return functional.interpolate(h_BCHW, scale_factor=2.0, mode="nearest")


def _after_doubling(conv: nn.Conv2d, h_BCHW: Tensor) -> Tensor:
    """Apply nearest upsampling, then the 3 x 3 convolution: (B, C, H, W) -> (B, O, 2H, 2W)."""
    if 4 * h_BCHW[:, 0].numel() < _FEWEST_POSITIONS:
        doubled_BOHW: Tensor = conv(_doubled(h_BCHW))
        return doubled_BOHW
    kernel_OC44 = functional.avg_pool2d(conv.weight.flip(2, 3), 2, stride=1, padding=1, divisor_override=1)
    return functional.conv_transpose2d(h_BCHW, kernel_OC44.transpose(0, 1), conv.bias, stride=2, padding=1)


def _before_pooling(conv: nn.Conv2d, h_BCHW: Tensor) -> Tensor:
    """Apply the 3 x 3 convolution, then mean pooling: (B, C, H, W) -> (B, O, H/2, W/2)."""
    if h_BCHW[:, 0].numel() < _FEWEST_POSITIONS:
        return functional.avg_pool2d(conv(h_BCHW), 2)
    # Each pooled value is the mean of four 3 x 3 windows, shifted by one: so is the kernel
    kernel_OC44 = functional.avg_pool2d(conv.weight, 2, stride=1, padding=1)
    return functional.conv2d(h_BCHW, kernel_OC44, conv.bias, stride=2, padding=1)
