"""Comparison of images by pixels that finds copies even if they are shifted by a few pixels, mirrored, noisy or in
another gray window.

Gray values are replaced by their ranks within the image, so that any window that keeps their order has no effect.
Images are resized to 64 x 64 px. A coarse descriptor of 8 x 8 means finds candidates for each query, also mirrored and
shifted; the candidates are then aligned with it and correlated.

Sums over cells and boxes are products of matrices: exact, since ranks are whole numbers.

Shapes: N images, P pairs, D = 64 numbers of a descriptor, V variants of a query, H, W, S = 64 sides [px], M means,
T = 27 places of a template.
Source: ours; correlation of pixels as Akbar et al. 2023 use it to find memorized images.
"""

from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from emixer.models.fixed_kernels import fixed_kernels

SIDE_PX = 64
COARSE_PX = 8
_STEP_PX = 3
"""Step of the shifts under which candidates are searched; smaller shifts are found when they are aligned."""
_FINE_PX = 2
_STEPS = (-_STEP_PX, 0, _STEP_PX)
_SHIFTS = tuple(product(_STEPS, repeat=2))
_MARGIN_PX = _STEP_PX + _FINE_PX
"""Border of the reference that is ignored, so that the compared area lies inside both images."""
_TEMPLATE = (SIDE_PX - 2 * _MARGIN_PX) // 2
"""Rows and columns that are compared."""
_ALIGNMENTS = 2 * _FINE_PX + 1
"""Alignments in each direction."""
_SMOOTH_PX, _BAND_PX = 1, 9
"""Radii of box means. Their difference keeps structures of a few pixels and removes noise and slow shading."""
_LEVELS = 256
_CELL_PX = SIDE_PX // COARSE_PX


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
    return _descriptors(_means(ranked_NSS.float(), _cells(0), _CELL_PX))


def variants(ranked_NSS: Tensor) -> Tensor:
    """Descriptors (V, N, D) of queries, plain and mirrored, under each shift."""
    shifted_M = torch.cat([_cells(shift) for shift in _STEPS])
    steps = (len(_STEPS), COARSE_PX)
    plain = _means(ranked_NSS.float(), shifted_M, _CELL_PX).unflatten(2, steps).unflatten(1, steps)
    mirrored = plain.flip(3, 4)  # to mirror an image and move it right is to move it left and mirror it
    means = torch.stack([plain, mirrored]).permute(0, 2, 4, 1, 3, 5)
    return _descriptors(means.flatten(0, 2))


def structures(ranked_NSS: Tensor) -> Tensor:
    """Band-passed images, float32 (N, S, S): the queries of `correlation`."""
    return _band(ranked_NSS, torch.arange(SIDE_PX))


def templates(ranked_NSS: Tensor) -> Tensor:
    """Band-passed inner parts, float32 (N, T, T) of mean 0 and length 1: the references of `correlation`.

    Only every other pixel is kept, since neighbours are redundant after smoothing.
    """
    part_NM = _band(ranked_NSS, torch.arange(_MARGIN_PX, SIDE_PX - _MARGIN_PX, 2)).flatten(1)
    template_NM = functional.normalize(part_NM - part_NM.mean(1, keepdim=True))
    return template_NM.view(-1, _TEMPLATE, _TEMPLATE)


def correlation(query_PSS: Tensor, template_PTT: Tensor, variant_P: Tensor) -> Tensor:
    """Highest correlation (P,) of structures within _FINE_PX pixels of the variant's alignment.

    query: of `structures`; template: of `templates`. 1 for copies, about 0 for unrelated noise.
    """
    mirrored_P = variant_P >= len(_SHIFTS)
    query_PSS = torch.where(mirrored_P[:, None, None], query_PSS.flip(2), query_PSS)
    field_PSS = _around(query_PSS, variant_P % len(_SHIFTS), 2 * (_TEMPLATE + _FINE_PX))
    with fixed_kernels(field_PSS.device, "ieee", deterministic=True):  # TF32 would blur what tells a copy
        products = functional.conv2d(field_PSS[None], template_PTT[:, None], dilation=2, groups=len(template_PTT))
    highest_P: Tensor = (products[0, :, :_ALIGNMENTS, :_ALIGNMENTS] / _lengths(field_PSS)).amax((1, 2))
    return highest_P.clamp(-1, 1)


def _lengths(field_PSS: Tensor) -> Tensor:
    """Length (P, M, M) of what each alignment lays under the template, less its mean."""
    sums_MS = torch.zeros(_ALIGNMENTS, field_PSS.shape[1], device=field_PSS.device)
    for place in range(_ALIGNMENTS):
        sums_MS[place, place : place + 2 * _TEMPLATE : 2] = 1
    sum_PMM, square_PMM = (sums_MS @ values @ sums_MS.T for values in (field_PSS, field_PSS.square()))
    return (square_PMM - sum_PMM.square() / _TEMPLATE**2).clamp_min(0).sqrt().clamp_min(1e-6)


def _around(query_PSS: Tensor, shift_P: Tensor, num: int) -> Tensor:
    """Part (P, num, num) of each query that its shift moves to the centre."""
    shifts = torch.tensor(_SHIFTS, device=query_PSS.device)[shift_P]
    place = torch.arange(num, device=query_PSS.device) + _MARGIN_PX - _FINE_PX
    rows = (place[None] + shifts[:, :1])[:, :, None]
    columns = (place[None] + shifts[:, 1:])[:, None, :]
    pairs = torch.arange(len(query_PSS), device=query_PSS.device)[:, None, None]
    return query_PSS[pairs, rows, columns]


def _descriptors(means: Tensor) -> Tensor:
    """Of means of 8 x 8 cells, the last two dimensions."""
    means = means.flatten(-2)
    return functional.normalize(means - means.mean(-1, keepdim=True), dim=-1)


def _band(ranked_NSS: Tensor, place_M: Tensor) -> Tensor:
    """Means of small boxes around these rows and columns, minus those of large ones: (N, M, M)."""
    image_NSS = ranked_NSS.float()
    smooth_NMM, broad_NMM = (_means(image_NSS, place_M - radius, 2 * radius + 1) for radius in (_SMOOTH_PX, _BAND_PX))
    return smooth_NMM - broad_NMM


def _cells(shift_px: int) -> Tensor:
    """First place of each cell of a shifted image."""
    return torch.arange(0, SIDE_PX, _CELL_PX) + shift_px


def _means(image_NSS: Tensor, first_M: Tensor, side_px: int) -> Tensor:
    """Means (N, M, M) of squares that begin at these rows and columns. Beyond its border an image goes on as there."""
    place_MK = (first_M[:, None] + torch.arange(side_px)).clamp(0, SIDE_PX - 1)
    count_MS = functional.one_hot(place_MK, SIDE_PX).sum(1).to(image_NSS)
    sum_NMM: Tensor = count_MS @ image_NSS @ count_MS.T
    return sum_NMM / side_px**2
