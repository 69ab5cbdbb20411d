"""Soft tissue of a frontal image: trunk, lungs, heart and great vessels, diaphragm, as thicknesses in cm.

`Chest` is what every other part draws into or asks for places. H, W: rows and columns [px]; h, w: the coarse grid.
"""

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator

from emixer.data.phantom.anatomy import Anatomy
from emixer.data.phantom.canvas import Canvas, Plane, ellipse_chord, smoothstep
from emixer.data.phantom.findings import Findings, Side

_LUNG_DEPTH_SHARE = 0.78

Knots = Sequence[tuple[float, float]]

_APEX: Knots = ((0.18, 0.66), (0.40, 0.83), (0.62, 0.95), (0.82, 1.0), (0.93, 0.96), (1.05, 0.80), (1.25, 0.45))
_ATRIUM: Knots = ((0.18, 0.90), (0.38, 0.98), (0.55, 1.0), (0.75, 0.97), (1.0, 0.84), (1.25, 0.6))
"""Left and right border of the heart: height 0 base to 1 lower end, share of its reach to that side."""


class Chest:
    """The outlines and thicknesses of one patient on one image."""

    def __init__(self, canvas: Canvas, anatomy: Anatomy, findings: Findings, heart_ratio: float) -> None:
        self.canvas, self.anatomy, self.findings = canvas, anatomy, findings
        self.heart_ratio = heart_ratio
        """Cardiothoracic ratio as drawn on this image."""
        self.across = self._across()
        self.wall_distance = self._wall_distance()
        self.diaphragm_distance = canvas.enlarge(self.diaphragm_y(canvas.x_coarse) - canvas.y_coarse)
        """cm above the dome (H, W); negative below."""
        self.mediastinum = self._mediastinum()
        self.full_air = self._full_air()
        """Thickness of lung in front of each pixel [cm] before the mediastinum is taken out (H, W)."""
        self.air = np.maximum(self.full_air - self.mediastinum, 0)

    def midline(self, y: Plane) -> Plane:
        """x of the spine at height y."""
        bend = self.anatomy.scoliosis * np.sin(y / np.float32(9.0) + np.float32(self.anatomy.bulge[0]))
        return np.asarray(bend, dtype=np.float32)

    def place(self, side: Side, across: float, down: float) -> tuple[float, float]:
        """The point (x, y) in cm at a relative position in one lung."""
        dome = self.dome_y(side)
        y = 1.0 + down * (dome - 1.0)
        wall = float(self.anatomy.lung_wall(np.asarray(y)))
        inner = 2.6 + 1.5 * down
        return side.sign * (inner + across * (wall - inner)), y

    def dome_y(self, side: Side) -> float:
        """y of the highest point of one half of the diaphragm."""
        anatomy = self.anatomy
        raised = sum(a.volume_loss_cm for a in self.findings.atelectases if a.side is side)
        lower = 0.0 if side is Side.RIGHT else anatomy.dome_difference
        return anatomy.lung_height - 4.2 + lower + 0.3 * float(anatomy.bulge[1]) - raised

    def angle_y(self, side: Side) -> float:
        """y of the costophrenic angle."""
        return self.dome_y(side) + 4.0

    def diaphragm_y(self, x: Plane) -> Plane:
        """y of the visible edge of the diaphragm at x."""
        width = self.anatomy.half_width
        t = np.abs(x) / width
        lateral = np.maximum(t - 0.42, 0) / 0.58
        medial = np.maximum(0.42 - t, 0) / 0.42
        curve = 4.0 * lateral**2.3 + 1.3 * medial**2
        left_share = smoothstep((x + 1.5) / 3.0)
        top = self.dome_y(Side.RIGHT) * (1 - left_share) + self.dome_y(Side.LEFT) * left_share
        return np.asarray(top + curve, dtype=np.float32)

    def heart_edges(self) -> tuple[float, float]:
        """Distance of the right and of the left heart border from the midline [cm]."""
        width = self.heart_ratio * self.thorax_width()
        return width * self.anatomy.right_share, width * (1 - self.anatomy.right_share)

    def thorax_width(self) -> float:
        """Largest inner width of the thorax [cm] above the diaphragm."""
        y = np.linspace(0, self.anatomy.lung_height, 200, dtype=np.float32)
        return 2 * float(self.anatomy.lung_wall(y).max())

    def _across(self) -> Plane:
        x, y = self.canvas.x_coarse, self.canvas.y_coarse
        wall = np.maximum(self.anatomy.lung_wall(y), 0.5)
        return np.abs(x) / wall

    def _wall_distance(self) -> Plane:
        x, y = np.abs(self.canvas.x_coarse), self.canvas.y_coarse
        lateral = self.anatomy.lung_wall(y) - x
        medial = x - self.anatomy.lung_medial(y) + 3.0 * np.clip(y / np.float32(3.0), 0.0, 1)
        return self.canvas.enlarge(np.minimum(np.minimum(lateral, medial), (0.45 + 0.11 * np.maximum(y, 0)) * y))

    def _full_air(self) -> Plane:
        canvas, anatomy = self.canvas, self.anatomy
        y = canvas.y_coarse
        depth = (anatomy.thickness * _LUNG_DEPTH_SHARE) * (0.50 + 0.50 * smoothstep(y / (0.5 * anatomy.lung_height)))
        chord = np.sqrt(np.clip(self.wall_distance / np.float32(0.36 * anatomy.half_width), 0, 1))
        above = canvas.edge(self.diaphragm_distance)
        # behind the dome the lung reaches further down: its shadow fades through the upper abdomen
        sulcus = 0.24 * np.exp(np.minimum(self.diaphragm_distance, 0) / np.float32(1.8))
        share = above + (1 - above) * sulcus
        thinner = 0.80 + 0.20 * smoothstep(self.diaphragm_distance / np.float32(7.0))
        return np.asarray(canvas.enlarge(depth) * chord * share * thinner, dtype=np.float32)

    def _mediastinum(self) -> Plane:
        """Thickness [cm] of heart, great vessels and mediastinal fat (H, W)."""
        y = self.canvas.y_coarse
        x = self.canvas.x_coarse - 0.6 * self.midline(y) * smoothstep((6 - y) / 6)
        levels, right, left = self._silhouette()
        inside = np.minimum(np.interp(y, levels, left) - x, x + np.interp(y, levels, right))
        lower = smoothstep((y / self._scale() - 10.5) / 4)
        radius = 2.0 + 2.4 * lower
        depth = 9.5 - 0.3 * lower + 4.0 * smoothstep((2.5 - y) / 5)
        share = self.canvas.enlarge((np.clip(inside / radius, -0.2, 1.0)).astype(np.float32))
        share = np.clip(share, 0, 1)
        chord = np.sqrt(share * (2 - share)) * self.canvas.enlarge(depth.astype(np.float32))
        return np.asarray(chord + 0.5 * self._column(), dtype=np.float32)

    def _scale(self) -> float:
        return self.anatomy.lung_height / 24.0

    def _silhouette(self) -> tuple[Plane, Plane, Plane]:
        """Heights, and the distances of the right and the left border of the cardiac shadow from the midline there."""
        right, left = self.heart_edges()
        wide = self._extra_width()
        knob = 2.0 + self.anatomy.knob + wide
        upper = 2.45 + 0.10 * float(self.anatomy.bulge[3])
        right_vessels = [
            (-6.0, upper + 2.0), (-1.0, upper + 0.9 + 0.35 * wide), (2.5, upper + 0.15 + 0.7 * wide),
            (6.0, upper + 0.45 + wide), (9.0, 2.85 + 0.7 * wide), (11.5, 0.5 * right + 1.1 + 0.3 * wide),
        ]  # fmt: skip
        left_vessels = [
            (-6.0, upper + 2.2), (-1.0, upper + 1.0 + 0.4 * wide), (2.5, upper + 0.2 + 0.8 * wide),
            (5.2, upper + 0.35 + wide), (6.6, knob - 0.3), (7.7, knob), (8.8, knob - 0.3 - 0.1 * wide),
            (9.7, 3.25 + 0.6 * wide), (10.9, 3.55 + 0.3 * wide), (12.0, 3.0 + 0.14 * left + 0.1 * wide),
        ]  # fmt: skip
        levels = np.linspace(-9, 34, 400, dtype=np.float32)
        borders = (self._border(levels, right_vessels, _ATRIUM, right), self._border(levels, left_vessels, _APEX, left))
        return levels, *borders

    def _border(self, levels: Plane, vessels: Knots, heart: Knots, reach_cm: float) -> Plane:
        """A border through (height, distance) knots of the vessels, then of the heart, whose outermost is `reach_cm`.

        Monotone between knots, so that nothing stands out further than they do.
        """
        scale = self._scale()
        start = 12.0 * scale
        height = self.heart_bottom_y() - start
        knots = [(y * scale, x) for y, x in vessels] + [(start + height * t, reach_cm * share) for t, share in heart]
        heights, distances = zip(*knots, strict=True)
        inner = np.clip(levels, heights[0], heights[-1])
        return np.asarray(PchipInterpolator(heights, distances)(inner), dtype=np.float32)

    def heart_bottom_y(self) -> float:
        """y of the lower end of the heart, sunk into the diaphragm."""
        return self.anatomy.lung_height - 2.2

    def _extra_width(self) -> float:
        wide = self.findings.wide_mediastinum
        return wide.extra_cm if wide else 0.0

    def _column(self) -> Plane:
        """Spine with its muscles and the descending aorta: the upright bar behind everything."""
        x, y = self.canvas.x_coarse, self.canvas.y_coarse
        offset = x - self.midline(y)
        distance = self.canvas.enlarge((2.0 + 0.012 * np.maximum(y, 0) - np.abs(offset)).astype(np.float32))
        aorta = self.canvas.enlarge((2.9 - 0.03 * y - offset).astype(np.float32))
        after = self.canvas.enlarge(smoothstep((y - 7.5) / 3.0))
        bar = 7.5 * np.sqrt(np.clip(distance / 1.6, 0, 1)) + 1.3 * after * self.canvas.edge(
            np.minimum(aorta, distance + 1.0)
        )
        return np.asarray(bar, dtype=np.float32)


def trunk_thickness(canvas: Canvas, anatomy: Anatomy) -> Plane:
    """Thickness of the whole patient [cm] (H, W), air of the lungs not yet taken out; 0 beside the body."""
    x, y = np.abs(canvas.x_coarse), canvas.y_coarse
    axilla = smoothstep((y - 2.0 - anatomy.shoulder_y) / 10.5)
    flank = anatomy.cage(y) + anatomy.fat + 1.0 + 1.6 * np.exp(-(((y - 11) / 5) ** 2)) + 11.0 * (1 - axilla)
    belly = 1 + 0.10 * smoothstep((y - anatomy.lung_height + 8) / 10)
    trunk = canvas.enlarge(anatomy.thickness * belly) * _rounded(canvas.enlarge(flank - x), 0.62 * anatomy.half_width)
    skin = canvas.enlarge(y - _shoulder_line(x, anatomy))
    deeper = canvas.enlarge(0.75 * np.maximum(y + 3.5, 0))
    body = np.minimum(trunk, (0.52 * anatomy.thickness) * _rounded(skin, 2.6) + deeper)
    neck = 0.52 * anatomy.thickness * smoothstep(canvas.enlarge(_neck(y, anatomy) - x) / 5.5)
    body = np.maximum(body, np.where(skin < 6, neck, 0))
    body = np.maximum(body, _arms(canvas, anatomy, x, y))
    return np.asarray(body + _breasts(canvas, anatomy), dtype=np.float32)


def _neck(y: Plane, anatomy: Anatomy) -> Plane:
    """Half-width of the neck, which widens into the trapezius muscles."""
    below = np.maximum(y - anatomy.shoulder_y + 8.5, 0)
    return np.asarray(5.4 + 0.12 * anatomy.fat + 0.10 * below**1.7, dtype=np.float32)


def _shoulder_line(x: Plane, anatomy: Anatomy) -> Plane:
    knots_x = [0, 4.0, 5.5, 7.0, 9.0, 12.0, 15.0, 18.0, 20.0, 23.0]
    knots_y = (
        np.array([-15, -12, -9.0, -6.6, -4.9, -3.6, -2.7, -1.6, 0.2, 6.0]) - 0.25 * anatomy.fat + anatomy.shoulder_y
    )
    return np.interp(x, knots_x, knots_y).astype(np.float32)


def _rounded(distance: Plane, radius_cm: float) -> Plane:
    """Relative thickness of a rounded slab at a distance from its edge: 0 outside, 1 from `radius_cm` inward."""
    t = np.clip(distance / np.float32(radius_cm), 0, 1)
    return np.asarray(np.sqrt(t * (2 - t)))


def _arms(canvas: Canvas, anatomy: Anatomy, x: Plane, y: Plane) -> Plane:
    """Upper arms hanging beside the trunk, with the axilla open below."""
    radius = 4.4 + 0.5 * anatomy.fat
    axis = anatomy.half_width + anatomy.fat + radius + 0.4 + 0.16 * np.maximum(y - 5, 0)
    arm = canvas.enlarge(np.minimum(radius - np.abs(x - axis), (y - 1.5 - anatomy.shoulder_y) * 1.0))
    return np.asarray(1.75 * radius * _rounded(arm, radius), dtype=np.float32)


def _breasts(canvas: Canvas, anatomy: Anatomy) -> Plane:
    plane = np.zeros(canvas.shape, dtype=np.float32)
    if anatomy.breast <= 0:
        return plane
    y_middle = 15.5 + anatomy.breast_drop
    for sign in (-1, 1):
        center = (sign * (0.58 * anatomy.half_width + 0.3 * anatomy.fat), y_middle)
        where, chord = ellipse_chord(canvas, center, (5.4 + anatomy.fat * 0.4, 5.6 + anatomy.breast * 0.5), sign * 0.25)
        lower = np.clip((canvas.y[where] - y_middle) / 5.0 * 0.5 + 0.55, 0, 1)
        plane[where] += np.float32(anatomy.breast) * chord * lower
    return plane
