"""Comparison of images by pixels that finds copies even if they are shifted by a few pixels, mirrored, noisy or in
another gray window.

Gray values are replaced by their ranks within the image, so that any window that keeps their order has no effect.
Images are resized to 64 x 64 px. A coarse descriptor of 8 x 8 means finds candidates for each query, also mirrored and
shifted; the candidates are then aligned with it and correlated.

Shapes: N images, P pairs, D = 64 numbers of a descriptor, V variants of a query, H, W, S = 64 sides [px].
Source: ours; correlation of pixels as Akbar et al. 2023 use it to find memorized images.
"""

from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

SIDE_PX = 64
COARSE_PX = 8
_STEP_PX = 3
"""Step of the shifts under which candidates are searched; smaller shifts are found when they are aligned."""
_FINE_PX = 2
_SHIFTS = tuple(product((-_STEP_PX, 0, _STEP_PX), repeat=2))
NUM_VARIANTS = 2 * len(_SHIFTS)
_MARGIN_PX = _STEP_PX + _FINE_PX
"""Border of the reference that is ignored, so that the compared area lies inside both images."""
_SMOOTH_PX, _BAND_PX = 1, 9
"""Radii of box means. Their difference keeps structures of a few pixels and removes noise and slow shading."""
_LEVELS = 256


def ranked(image_NHW: Tensor) -> Tensor:
    """uint8 (N, S, S): each gray value's rank within its image, 0 to 255. image: uint8 of any size."""
    values_NP = image_NHW.flatten(1).long()
    ones_NP = torch.ones((), device=image_NHW.device).expand(values_NP.shape)
    counts_NL = torch.zeros(len(image_NHW), _LEVELS, device=image_NHW.device).scatter_add_(1, values_NP, ones_NP)
    middle_NL = (counts_NL.cumsum(1) - counts_NL / 2) / values_NP.shape[1]
    rank_NHW = middle_NL.gather(1, values_NP).view(image_NHW.shape)
    resized = functional.interpolate(
        rank_NHW[:, None], (SIDE_PX, SIDE_PX), mode="bilinear", antialias=True, align_corners=False
    )
    return resized[:, 0].mul(_LEVELS - 1).round_().to(torch.uint8)


def coarse(ranked_NSS: Tensor) -> Tensor:
    """Descriptors (N, D) float32 of length 1; their inner product is a correlation. All 0 for a uniform image."""
    return _coarse(ranked_NSS.float())


def variants(ranked_NSS: Tensor) -> Tensor:
    """Descriptors (V, N, D) of queries, plain and mirrored, under each shift."""
    plain = ranked_NSS.float()
    found = []
    for turned in (plain, plain.flip(2)):
        padded = functional.pad(turned[:, None], (_STEP_PX,) * 4, mode="replicate")[:, 0]
        for down, right in _SHIFTS:
            top, left = _STEP_PX + down, _STEP_PX + right
            found.append(_coarse(padded[:, top : top + SIDE_PX, left : left + SIDE_PX]))
    return torch.stack(found)


def structures(ranked_NSS: Tensor) -> Tensor:
    """Band-passed images, float32 (N, S, S), that `correlation` compares."""
    image_NSS = ranked_NSS.float()
    return _box_mean(image_NSS, _SMOOTH_PX) - _box_mean(image_NSS, _BAND_PX)


def correlation(query_PSS: Tensor, reference_PSS: Tensor, variant_P: Tensor) -> Tensor:
    """Highest correlation (P,) of structures within _FINE_PX pixels of the variant's alignment.

    query, reference: of `structures`. 1 for copies, about 0 for unrelated noise. Only every other pixel is read, since
    neighbours are redundant after smoothing.
    """
    mirrored_P = variant_P >= len(_SHIFTS)
    query_PSS = torch.where(mirrored_P[:, None, None], query_PSS.flip(2), query_PSS)
    inner = slice(_MARGIN_PX, SIDE_PX - _MARGIN_PX, 2)
    reference = reference_PSS[:, inner, inner].flatten(1)
    reference = functional.normalize(reference - reference.mean(1, keepdim=True))
    num = SIDE_PX - 2 * _MARGIN_PX
    field_PTT = _around(query_PSS, variant_P % len(_SHIFTS), num + 2 * _FINE_PX)
    highest_P = torch.full((len(field_PTT),), -1.0, device=field_PTT.device)
    for down, right in product(range(2 * _FINE_PX + 1), repeat=2):
        window = field_PTT[:, down : down + num : 2, right : right + num : 2].flatten(1)
        length_P = window.var(1, correction=0).mul_(window.shape[1]).sqrt_().clamp_min_(1e-6)
        highest_P = torch.maximum(highest_P, (window * reference).sum(1) / length_P)
    return highest_P.clamp_(max=1)


def _around(query_PSS: Tensor, shift_P: Tensor, num: int) -> Tensor:
    """Part (P, num, num) of each query that its shift moves to the centre."""
    shifts = torch.tensor(_SHIFTS, device=query_PSS.device)[shift_P]
    place = torch.arange(num, device=query_PSS.device) + _MARGIN_PX - _FINE_PX
    rows = (place[None] + shifts[:, :1])[:, :, None]
    columns = (place[None] + shifts[:, 1:])[:, None, :]
    pairs = torch.arange(len(query_PSS), device=query_PSS.device)[:, None, None]
    return query_PSS[pairs, rows, columns]


def _coarse(image_NSS: Tensor) -> Tensor:
    means_ND = functional.adaptive_avg_pool2d(image_NSS[:, None], COARSE_PX).flatten(1)
    return functional.normalize(means_ND - means_ND.mean(1, keepdim=True))


def _box_mean(image_NSS: Tensor, radius_px: int) -> Tensor:
    """Mean of each pixel's neighbourhood, by cumulative sums, at the same cost for any radius."""
    width = 2 * radius_px + 1
    for dim in (1, 2):
        padding = (0, 0, radius_px + 1, radius_px) if dim == 1 else (radius_px + 1, radius_px)
        sums = functional.pad(image_NSS, padding, mode="replicate").cumsum(dim)
        size = image_NSS.shape[dim]
        image_NSS = (sums.narrow(dim, width, size) - sums.narrow(dim, 0, size)) / width
    return image_NSS
