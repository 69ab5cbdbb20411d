"""An image's pixel grid in centimetres, and the few ways in which structures are drawn on it.

Coordinates: x to the right of the image (the patient's left) from the midline, y downward from the lung apices, both in
cm of the patient. Outlines are computed on a coarse grid and enlarged, because they are smooth; edges are then cut at
full resolution. H, W: rows and columns [px]; h, w: those of the coarse grid.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Plane = NDArray[np.floating[Any]]

_COARSE_ROWS = 128


@dataclass(frozen=True)
class Frame:
    """How an image lies on the patient: its size, and which centimetre each pixel sees."""

    rows: int
    columns: int
    pixels_per_cm: float
    left_cm: float
    """x of the image's left edge."""
    top_cm: float
    """y of the image's upper edge."""
    rotation_rad: float = 0.0
    """Turn of the patient in the image's plane, counter-clockwise, about the image's centre."""


class Canvas:
    """The grids of one image. `x`, `y` (H, W) and `x_coarse`, `y_coarse` (h, w) are in cm."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.shape = (frame.rows, frame.columns)
        self.pixels_per_cm = frame.pixels_per_cm
        self.factor = max(1, round(frame.rows / _COARSE_ROWS))
        self.coarse_shape = (-(-frame.rows // self.factor), -(-frame.columns // self.factor))
        self.x_coarse, self.y_coarse = self._grid(self.coarse_shape, self.factor)

    @cached_property
    def x(self) -> Plane:
        return self._grid(self.shape, 1)[0]

    @cached_property
    def y(self) -> Plane:
        return self._grid(self.shape, 1)[1]

    def _grid(self, shape: tuple[int, int], factor: int) -> tuple[Plane, Plane]:
        frame, scale = self.frame, self.pixels_per_cm
        columns = (np.arange(shape[1]) + 0.5) * factor / scale - frame.columns / scale / 2
        rows = (np.arange(shape[0]) + 0.5) * factor / scale - frame.rows / scale / 2
        cosine, sine = np.cos(frame.rotation_rad), np.sin(frame.rotation_rad)
        x_of_column = (cosine * columns + (frame.left_cm + frame.columns / scale / 2)).astype(np.float32)
        y_of_row = (cosine * rows + (frame.top_cm + frame.rows / scale / 2)).astype(np.float32)
        x = x_of_column[None, :] + (sine * rows).astype(np.float32)[:, None]
        y = y_of_row[:, None] - (sine * columns).astype(np.float32)[None, :]
        return x, y

    def to_pixels(self, x_cm: NDArray[np.floating], y_cm: NDArray[np.floating]) -> tuple[Plane, Plane]:
        """Column and row (both continuous, pixel centres at .5) of points given in cm."""
        frame, scale = self.frame, self.pixels_per_cm
        cosine, sine = np.cos(frame.rotation_rad), np.sin(frame.rotation_rad)
        dx = np.asarray(x_cm) - (frame.left_cm + frame.columns / scale / 2)
        dy = np.asarray(y_cm) - (frame.top_cm + frame.rows / scale / 2)
        column = (cosine * dx - sine * dy) * scale + frame.columns / 2
        row = (sine * dx + cosine * dy) * scale + frame.rows / 2
        return column.astype(np.float32), row.astype(np.float32)

    def enlarge(self, coarse: Plane) -> Plane:
        """A coarse field (h, w) at full resolution (H, W), bicubic."""
        if self.factor == 1:
            return coarse
        # columns first: the second, larger pass then writes whole rows
        wide = _enlarge(coarse, self.factor, axis=1)[:, : self.shape[1]]
        return _enlarge(wide, self.factor, axis=0)[: self.shape[0]]

    def shrink(self, plane: Plane) -> Plane:
        """The mean of each factor x factor block: (H, W) -> (h, w)."""
        if self.factor == 1:
            return plane
        factor = self.factor
        padding = [(0, c * factor - n) for c, n in zip(self.coarse_shape, self.shape, strict=True)]
        padded = np.pad(plane, padding, mode="edge") if any(after for _, after in padding) else plane
        rows = np.add.reduce([padded[k::factor] for k in range(factor)])
        return np.asarray(np.add.reduce([rows[:, k::factor] for k in range(factor)]) / np.float32(factor**2))

    def blur(self, plane: Plane, sigma_cm: float) -> Plane:
        """A wide Gaussian blur, computed on the coarse grid."""
        small = ndimage.gaussian_filter(self.shrink(plane), sigma_cm * self.pixels_per_cm / self.factor, truncate=3.0)
        return self.enlarge(small)

    def window(self, x_cm: float, y_cm: float, half_width_cm: float, half_height_cm: float) -> tuple[slice, slice]:
        """The pixels that a box around a point can reach, whatever the rotation; possibly empty."""
        column, row = self.to_pixels(np.asarray(x_cm), np.asarray(y_cm))
        turn = abs(np.sin(self.frame.rotation_rad))
        reach_x = (half_width_cm + turn * half_height_cm) * self.pixels_per_cm + 2
        reach_y = (half_height_cm + turn * half_width_cm) * self.pixels_per_cm + 2
        rows = slice(max(0, int(row - reach_y)), max(0, min(self.shape[0], int(row + reach_y) + 1)))
        columns = slice(max(0, int(column - reach_x)), max(0, min(self.shape[1], int(column + reach_x) + 1)))
        return rows, columns

    def edge(self, distance_cm: Plane, softness_cm: float = 0.0) -> Plane:
        """1 inside (distance > 0), 0 outside, rising over one pixel or `softness_cm`, whichever is wider."""
        width = max(softness_cm, 1.0 / self.pixels_per_cm)
        return smoothstep(distance_cm / width + 0.5)

    def add_lines(self, plane: Plane, x_cm: Plane, y_cm: Plane, volume_cm3: Plane, sigma_cm: float) -> None:
        """Adds the thickness [cm] of round strands through the given points to a plane (H, W).

        x_cm, y_cm, volume_cm3: (N,) sample points, each with the volume that it stands for: cross-section times length.
        sigma_cm: how wide the strand is spread. Only the box around the points is touched.
        """
        column, row = self.to_pixels(x_cm, y_cm)
        sigma_px = sigma_cm * self.pixels_per_cm
        reach = 3 * sigma_px + 2
        box = tuple(
            slice(max(0, int(at.min() - reach)), max(0, min(size, int(at.max() + reach) + 1)))
            for at, size in ((row, self.shape[0]), (column, self.shape[1]))
        ) if column.size else (slice(0), slice(0))  # fmt: skip
        height, width = (side.stop - side.start for side in box)
        if min(height, width) < 2:
            return
        step = max(1, int(sigma_px / 1.5))  # wide strands lose nothing on a smaller grid
        small = _splat(
            (column - box[1].start) / step,
            (row - box[0].start) / step,
            volume_cm3,
            (-(-height // step), -(-width // step)),
        )
        small *= np.float32((self.pixels_per_cm / step) ** 2)
        sigma = float(np.sqrt(max((sigma_px / step) ** 2 - 0.2, 0.2)))
        small = ndimage.gaussian_filter(small, sigma, truncate=2.5)
        if step > 1:
            small = _enlarge(_enlarge(small, step, axis=1), step, axis=0)[:height, :width]
        plane[box] += small


def ellipse_chord(
    canvas: Canvas, center_cm: tuple[float, float], radii_cm: tuple[float, float], angle_rad: float = 0.0
) -> tuple[tuple[slice, slice], Plane]:
    """Window and relative chord (0..1) of an ellipsoid: 1 in the middle, 0 at the outline."""
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    half_width = float(np.hypot(radii_cm[0] * cosine, radii_cm[1] * sine))
    half_height = float(np.hypot(radii_cm[0] * sine, radii_cm[1] * cosine))
    where = canvas.window(*center_cm, half_width, half_height)
    dx, dy = canvas.x[where] - np.float32(center_cm[0]), canvas.y[where] - np.float32(center_cm[1])
    along = (dx * np.float32(cosine) + dy * np.float32(sine)) / np.float32(radii_cm[0])
    across = (dy * np.float32(cosine) - dx * np.float32(sine)) / np.float32(radii_cm[1])
    return where, np.sqrt(np.maximum(1 - along * along - across * across, 0))


def smoothstep(t: Plane) -> Plane:
    """0 for t <= 0, 1 for t >= 1, smooth between."""
    t = np.clip(t, 0, 1)
    curve = np.asarray(t * -2)
    curve += 3
    curve *= t
    curve *= t
    return curve


def smooth_noise(rng: np.random.Generator, canvas: Canvas, scale_cm: float) -> Plane:
    """Gaussian noise (h, w) of unit variance that varies over about `scale_cm`."""
    height, width = canvas.coarse_shape
    cell_px = max(scale_cm * canvas.pixels_per_cm / canvas.factor, 1.0)
    small = rng.standard_normal((int(height / cell_px) + 4, int(width / cell_px) + 4), dtype=np.float32)
    shape = (int(small.shape[1] * cell_px) + 1, int(small.shape[0] * cell_px) + 1)
    large = np.asarray(Image.fromarray(small).resize(shape, Image.Resampling.BICUBIC))
    margin = int(cell_px)
    return large[margin : margin + height, margin : margin + width] * np.float32(1.35)


def _enlarge(plane: Plane, factor: int, axis: int) -> Plane:
    """`factor` times as many samples along one axis by cubic convolution, the ends repeated.

    Written out because Pillow hands float images back in 64 kB pieces, which costs more than the arithmetic.
    """
    length = plane.shape[axis]
    before, after = (plane[:1], plane[-1:]) if axis == 0 else (plane[:, :1], plane[:, -1:])
    padded = np.concatenate([before, before, plane, after, after], axis=axis)
    taps = [padded[k : k + length] if axis == 0 else padded[:, k : k + length] for k in range(5)]
    shape = (length * factor, plane.shape[1]) if axis == 0 else (plane.shape[0], length * factor)
    large = np.empty(shape, dtype=np.float32)
    total, product = np.empty(plane.shape, dtype=np.float32), np.empty(plane.shape, dtype=np.float32)
    for phase in range(factor):
        place = (phase + 0.5) / factor - 0.5
        first, t = (0, place + 1) if place < 0 else (1, place)
        weights = (-0.5 * t + t * t - 0.5 * t**3, 1 - 2.5 * t * t + 1.5 * t**3,
                   0.5 * t + 2 * t * t - 1.5 * t**3, -0.5 * t * t + 0.5 * t**3)  # fmt: skip
        np.multiply(taps[first], np.float32(weights[0]), out=total, casting="same_kind")
        for k in (1, 2, 3):
            total += np.multiply(taps[first + k], np.float32(weights[k]), out=product, casting="same_kind")
        large[(slice(phase, None, factor),) if axis == 0 else (slice(None), slice(phase, None, factor))] = total
    return large


def _splat(column: Plane, row: Plane, weight: Plane, shape: tuple[int, int]) -> Plane:
    """Adds each point's weight to its four nearest pixels, bilinearly."""
    column, row = column - 0.5, row - 0.5
    inside = (column >= 0) & (row >= 0) & (column < shape[1] - 1) & (row < shape[0] - 1)
    column, row, weight = column[inside], row[inside], weight[inside]
    left, top = column.astype(np.int64), row.astype(np.int64)
    right_share, lower_share = column - left, row - top
    index = top * shape[1] + left
    plane = np.zeros(shape[0] * shape[1], dtype=np.float64)
    for offset, share in (
        (0, (1 - right_share) * (1 - lower_share)),
        (1, right_share * (1 - lower_share)),
        (shape[1], (1 - right_share) * lower_share),
        (shape[1] + 1, right_share * lower_share),
    ):
        plane += np.bincount(index + offset, weights=weight * share, minlength=plane.size)
    return plane.reshape(shape).astype(np.float32)
