"""Image generator: noise and labels -> one radiograph.

The noise is split into chunks, one for the stem and one for each residual block, so that each resolution has its own;
labels reach every block through conditional batch norm. The number of blocks follows from the side: 3 at 32 px, 4 at
64, 5 at 128 (where 6 chunks of 20 make the paper's 120 dimensions), 6 at 256.

Shapes: B images, Z noise, z one chunk of it, Y labels, E condition, F features, C channels, H = W side [px].
Source: EMIXER §3.2.1, §6.2.2, table 7. Departures: docs/deviations.md#image-generator.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from emixer.config.model import ImageGeneratorConfig
from emixer.models.batch_norm import BatchNorm2d
from emixer.models.layers import SelfAttention, UpBlock
from emixer.models.spectral_norm import spectrally_normalized

STEM_PX = 4
_WIDEST = 16
"""Maximum width of a block, in multiples of the last one's."""


def num_blocks(side_px: int) -> int:
    """Return the number of residual blocks between STEM_PX and `side_px`, a power of two."""
    return (side_px // STEM_PX).bit_length() - 1


def block_widths(channels: int, num: int) -> list[int]:
    """Return widths that double from block to block, narrowest first."""
    return [channels * min(2**i, _WIDEST) for i in range(num)]


class ImageGenerator(nn.Module):
    """G(z, y)."""

    def __init__(self, config: ImageGeneratorConfig, num_labels: int, side_px: int, image_channels: int) -> None:
        super().__init__()
        blocks = num_blocks(side_px)
        widths = block_widths(config.channels, blocks + 1)[::-1]
        condition = config.noise_chunk + config.label_embedding
        self.widths = widths
        """Channels after the stem and after each block."""
        self.noise_chunk = config.noise_chunk
        self.noise_size = config.noise_chunk * (blocks + 1)
        self.embed_labels = nn.Linear(num_labels, config.label_embedding)
        nn.init.normal_(self.embed_labels.weight, std=config.label_embedding**-0.5 * config.noise_chunk**0.5)
        self.stem = _linear(config.noise_chunk, widths[0] * STEM_PX**2, config.spectral_norm)
        self.chunk_layers = nn.ModuleList(
            _linear(config.noise_chunk, config.noise_chunk, config.spectral_norm) for _ in range(blocks)
        )
        self.blocks = nn.ModuleList(
            UpBlock(widths[i], widths[i + 1], condition, config.spectral_norm) for i in range(blocks)
        )
        self.attention = SelfAttention(widths[-2], config.spectral_norm) if config.attention else nn.Identity()
        self.last_norm = BatchNorm2d(widths[-1])
        last_conv = nn.Conv2d(widths[-1], image_channels, 3, padding=1)
        self.to_image = spectrally_normalized(last_conv, config.spectral_norm)

    def forward(self, z_BZ: Tensor, y_BY: Tensor) -> Tensor:
        """Return image_BCHW in [-1, 1], float32 under any autocast dtype."""
        return self.render(z_BZ, self.embed_labels(y_BY))

    def render(self, z_BZ: Tensor, condition_BE: Tensor) -> Tensor:
        """As `forward`, for a condition that is not, or not only, a label embedding."""
        return self.late(self.early(z_BZ, condition_BE, 0), z_BZ, condition_BE, 0)

    def early(self, z_BZ: Tensor, condition_BE: Tensor, num: int) -> Tensor:
        """Return features (B, F, H, W) after the stem and the first `num` blocks."""
        h_BCHW = self.stem(z_BZ[:, : self.noise_chunk]).unflatten(1, (-1, STEM_PX, STEM_PX))
        return self._through(range(num), h_BCHW, z_BZ, condition_BE)

    def late(self, h_BCHW: Tensor, z_BZ: Tensor, condition_BE: Tensor, num: int) -> Tensor:
        """Return image_BCHW from the output of `early` for the same `num`."""
        h_BCHW = self._through(range(num, len(self.blocks)), h_BCHW, z_BZ, condition_BE)
        image_BCHW: Tensor = self.to_image(functional.relu(self.last_norm(h_BCHW))).float().tanh()
        return image_BCHW

    def _through(self, blocks: range, h_BCHW: Tensor, z_BZ: Tensor, condition_BE: Tensor) -> Tensor:
        _, *chunks_Bz = z_BZ.split(self.noise_chunk, dim=1)
        for index in blocks:
            if index == len(self.blocks) - 1:
                h_BCHW = self.attention(h_BCHW)
            chunk_Bz = self.chunk_layers[index](chunks_Bz[index])
            h_BCHW = self.blocks[index](h_BCHW, torch.cat([chunk_Bz, condition_BE], dim=1))
        return h_BCHW


def _linear(size_in: int, size_out: int, spectral_norm: bool) -> nn.Linear:
    return spectrally_normalized(nn.Linear(size_in, size_out), spectral_norm)
