"""Pulmonary vessels: two trees that grow from the hila, drawn as strands of blood.

All branches of one generation are made at once. G: branches of a generation, P: points along a branch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emixer.data.phantom.canvas import Plane
from emixer.data.phantom.chest import Chest
from emixer.data.phantom.findings import Side

Values = NDArray[np.floating[Any]]

_POINTS = 9
_GENERATIONS = 6
_WIDTH_CLASSES_CM = ((0.0, 0.13, 0.045), (0.13, 0.36, 0.10), (0.36, 9.0, 0.24))
"""Branch diameter from, to, and the spread with which that class is drawn."""


@dataclass(frozen=True)
class Strands:
    """Sampled points of branches: place, diameter and length represented, each (N,)."""

    x_cm: Values
    y_cm: Values
    diameter_cm: Values
    length_cm: Values


def vessel_thickness(chest: Chest, rng: np.random.Generator) -> Plane:
    """Thickness of blood in the lung vessels [cm] (H, W), where lung surrounds them."""
    trees = [lung_tree(chest, side, rng) for side in (Side.RIGHT, Side.LEFT)]
    joined = Strands(*(np.concatenate([getattr(t, name) for t in trees]) for name in Strands.__dataclass_fields__))
    plane = np.zeros(chest.canvas.shape, dtype=np.float32)
    for low, high, sigma_cm in _WIDTH_CLASSES_CM:
        chosen = (joined.diameter_cm >= low) & (joined.diameter_cm < high)
        area = joined.diameter_cm[chosen] ** 2 * joined.length_cm[chosen] * np.float32(1.25)  # blood, wall and sheath
        chest.canvas.add_lines(plane, joined.x_cm[chosen], joined.y_cm[chosen], area, sigma_cm)
    return plane


def hilum(chest: Chest, side: Side) -> tuple[float, float]:
    """Where the vessels of one lung leave the mediastinum (x, y) in cm; the left hilum stands higher."""
    scale = chest.anatomy.lung_height / 24.0
    return (-2.9, 11.6 * scale) if side is Side.RIGHT else (2.9, 10.6 * scale)


def lung_tree(chest: Chest, side: Side, rng: np.random.Generator) -> Strands:
    """The tree of one lung, in cm."""
    x0, y0 = hilum(chest, side)
    size = chest.anatomy.half_width / 13.4
    angles: Values = np.linspace(-1.35, 1.40, 11) + rng.normal(0, 0.10, 11)
    num = len(angles)
    x: Values = np.full(num, x0, dtype=np.float64) + side.sign * rng.uniform(-0.3, 0.6, num)
    y: Values = y0 + np.sin(angles) * 1.4 + rng.normal(0, 0.4, num)
    length = size * (2.6 + 1.1 * np.abs(np.sin(angles))) * rng.uniform(0.85, 1.15, num)
    # gravity fills the lower lobes; congestion evens that out
    edema = chest.findings.edema.severity if chest.findings.edema else 0.0
    width = np.where(angles > 0, 0.78, 0.58 + 0.22 * edema) * rng.uniform(0.85, 1.2, num) * (1 + 0.10 * edema)
    pieces: list[Strands] = []
    for _ in range(_GENERATIONS):
        x, y, angles, strand = _grow(side, x, y, angles, length, width, rng)
        pieces.append(strand)
        x, y, length, width = np.repeat(np.stack([x, y, length, width]), 2, axis=1)
        spread = np.tile([-1.0, 1.0], len(angles)) * rng.uniform(0.12, 0.62, 2 * len(angles))
        angles = np.clip(np.repeat(angles, 2) + spread, -1.75, 1.75)
        length = length * rng.uniform(0.62, 0.95, len(angles))
        width = width * rng.uniform(0.58, 0.80, len(angles))
    return Strands(*(np.concatenate([getattr(p, n) for p in pieces]) for n in Strands.__dataclass_fields__))


def _grow(
    side: Side, x: Values, y: Values, angles: Values, length: Values, width: Values, rng: np.random.Generator
) -> tuple[Values, Values, Values, Strands]:
    """Extends each branch along a gentle curve: new ends, new directions, and the strand between (G x P points)."""
    bend = rng.normal(0, 0.28, len(x))
    share = np.linspace(0, 1, _POINTS)[None, :]
    direction = angles[:, None] + bend[:, None] * share
    step = length[:, None] / (_POINTS - 1)
    forward = np.concatenate([np.zeros((len(x), 1)), np.cumsum(np.cos(direction) * step, axis=1)[:, :-1]], axis=1)
    downward = np.concatenate([np.zeros((len(x), 1)), np.cumsum(np.sin(direction) * step, axis=1)[:, :-1]], axis=1)
    path_x, path_y = x[:, None] + side.sign * forward, y[:, None] + downward
    taper = width[:, None] * (1 - 0.25 * share)
    strand = Strands(
        *(v.astype(np.float32).ravel() for v in (path_x, path_y, taper, np.broadcast_to(step, path_x.shape)))
    )
    return path_x[:, -1], path_y[:, -1], direction[:, -1], strand
