"""Soft tissue of a frontal film: trunk, lungs, heart and great vessels, diaphragm, as thicknesses in cm.

`Chest` is what every other part draws into or asks for places. H, W: rows and columns [px]; h, w: the coarse grid.
"""

import numpy as np

from emixer.data.phantom.anatomy import Anatomy
from emixer.data.phantom.canvas import Canvas, Plane, ellipse_chord, smoothstep
from emixer.data.phantom.findings import Findings, Side

_LUNG_DEPTH_SHARE = 0.74
_HEART_DEPTH_CM = 10.5


class Chest:
    """The outlines and thicknesses of one patient on one film."""

    def __init__(self, canvas: Canvas, anatomy: Anatomy, findings: Findings, heart_ratio: float) -> None:
        self.canvas, self.anatomy, self.findings = canvas, anatomy, findings
        self.heart_ratio = heart_ratio
        """Cardiothoracic ratio as drawn on this film."""
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
        wall = float(self.anatomy.lung_wall(np.float32(y)))
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

    def visible_lung(self) -> Plane:
        """0..1: where aerated lung shows (H, W): inside the pleura, above the dome, outside the mediastinum."""
        inside = self.canvas.edge(self.wall_distance) * self.canvas.edge(self.diaphragm_distance)
        return np.asarray(inside * (1 - np.clip(self.mediastinum / 5, 0, 1)), dtype=np.float32)

    def _across(self) -> Plane:
        x, y = self.canvas.x_coarse, self.canvas.y_coarse
        wall = np.maximum(self.anatomy.lung_wall(y), 0.5)
        return np.abs(x) / wall

    def _wall_distance(self) -> Plane:
        x, y = np.abs(self.canvas.x_coarse), self.canvas.y_coarse
        lateral = self.anatomy.lung_wall(y) - x
        medial = x - self.anatomy.lung_medial(y) + 0.02
        return self.canvas.enlarge(np.minimum(np.minimum(lateral, medial + 1.0), y + 0.2))

    def _full_air(self) -> Plane:
        canvas, anatomy = self.canvas, self.anatomy
        y = canvas.y_coarse
        depth = (anatomy.thickness * _LUNG_DEPTH_SHARE) * (0.42 + 0.58 * smoothstep(y / (0.55 * anatomy.lung_height)))
        chord = np.sqrt(np.clip(self.wall_distance / np.float32(0.62 * anatomy.half_width), 0, 1))
        above = canvas.edge(self.diaphragm_distance)
        # behind the dome the lung reaches further down: its shadow fades through the upper abdomen
        sulcus = 0.24 * np.exp(np.minimum(self.diaphragm_distance, 0) / np.float32(1.8))
        share = above + (1 - above) * sulcus
        thinner = 0.62 + 0.38 * smoothstep(self.diaphragm_distance / np.float32(7.0))
        return np.asarray(canvas.enlarge(depth) * chord * share * thinner, dtype=np.float32)

    def _mediastinum(self) -> Plane:
        """Thickness [cm] of heart, great vessels and mediastinal fat (H, W)."""
        plane = np.zeros(self.canvas.shape, dtype=np.float32)
        for center, radii, angle, depth in [*self._heart_parts(), *self._vessel_parts()]:
            where, chord = ellipse_chord(self.canvas, center, radii, angle)
            plane[where] = np.maximum(plane[where], chord * np.float32(depth))
        return np.maximum(plane, self._column())

    def _heart_parts(self) -> list[tuple[tuple[float, float], tuple[float, float], float, float]]:
        """Ellipsoids (center, radii, angle, depth) whose outermost points stand at `heart_edges`."""
        right, left = self.heart_edges()
        size = (right + left) / 12.0
        bottom = self.anatomy.lung_height - 2.6
        middle = bottom - 4.9 * size**0.7
        tilt = 0.62 + 0.08 * float(self.anatomy.bulge[2])
        long, short = 6.6 * size, 4.9 * size
        reach = float(np.hypot(long * np.cos(tilt), short * np.sin(tilt)))
        ventricle = ((left - reach, middle + 0.5 * size), (long, short), tilt, _HEART_DEPTH_CM * size)
        atrium_width = min(4.0 * size, 0.95 * right)
        atrium = ((-right + atrium_width, middle - 0.2), (atrium_width, 5.1 * size), -0.05, 8.0 * size)
        base = ((0.25 * left, middle - 3.2 * size), (3.1 * size, 4.2 * size), 0.5, 9.0 * size)
        return [ventricle, atrium, base]

    def _vessel_parts(self) -> list[tuple[tuple[float, float], tuple[float, float], float, float]]:
        wide = self._extra_width()
        knob = self.anatomy.knob * (1 + 0.25 * wide)
        scale = self.anatomy.lung_height / 24.0
        arch = ((2.0 + 0.55 * wide, 7.6 * scale), (knob, knob * 1.05), 0.0, 7.5)
        trunk = ((1.3 + 0.35 * wide, 11.4 * scale), (2.5, 2.9), 0.3, 7.5)
        ascending = ((-0.7 - 0.5 * wide, 10.0 * scale), (2.4 + 0.2 * wide, 5.0), 0.06, 7.0)
        return [arch, trunk, ascending]

    def _extra_width(self) -> float:
        wide = self.findings.wide_mediastinum
        return wide.extra_cm if wide else 0.0

    def _column(self) -> Plane:
        """Spine, vessels to the neck and the descending aorta: the upright bar behind everything."""
        x, y = self.canvas.x_coarse, self.canvas.y_coarse
        wide = self._extra_width() * np.exp(-(((y - 6.5) / 5.5) ** 2))
        flare = 1.3 * np.exp(-(((y + 2.0) / 3.5) ** 2))
        half = 2.35 + flare + 0.9 * wide + 0.12 * np.sin(y * 0.8 + self.anatomy.bulge[3])
        offset = x - self.midline(y) * 0.6
        distance = self.canvas.enlarge(half - np.abs(offset))
        return np.asarray(12.0 * np.sqrt(np.clip(distance / 1.9, 0, 1)), dtype=np.float32)


def trunk_thickness(canvas: Canvas, anatomy: Anatomy) -> Plane:
    """Thickness of the whole patient [cm] (H, W), air of the lungs not yet taken out; 0 beside the body."""
    x, y = np.abs(canvas.x_coarse), canvas.y_coarse
    wall = anatomy.cage(y) + anatomy.fat + 0.9
    waist = smoothstep((anatomy.scaled(y) - 4.0) / 6.0)
    flank = wall * waist + (1 - waist) * 40.0
    belly = 1 + 0.10 * smoothstep((y - anatomy.lung_height + 8) / 10)
    trunk = canvas.enlarge(anatomy.thickness * belly) * _rounded(canvas.enlarge(flank - x), 0.62 * anatomy.half_width)
    skin = canvas.enlarge(y - _shoulder_line(x, anatomy))
    body = np.minimum(trunk, (0.52 * anatomy.thickness) * _rounded(skin, 2.6) + 0.75 * np.maximum(skin, 0))
    neck = 0.52 * anatomy.thickness * _rounded(canvas.enlarge(5.6 + 0.12 * anatomy.fat - x + 0.0 * y), 4.6)
    body = np.maximum(body, np.where(skin < 6, neck, 0))
    body = np.maximum(body, _arms(canvas, anatomy, x, y))
    return np.asarray(body + _breasts(canvas, anatomy), dtype=np.float32)


def _shoulder_line(x: Plane, anatomy: Anatomy) -> Plane:
    knots_x = [0, 4.5, 5.8, 7.5, 10.5, 15.0, 18.0, 20.0, 23.0]
    knots_y = np.array([-14, -13, -8.5, -5.2, -3.6, -2.6, -1.6, 0.2, 6.0]) - 0.25 * anatomy.fat + anatomy.shoulder_y
    return np.interp(x, knots_x, knots_y).astype(np.float32)


def _rounded(distance: Plane, radius_cm: float) -> Plane:
    """Relative thickness of a rounded slab at a distance from its edge: 0 outside, 1 from `radius_cm` inward."""
    t = np.clip(distance / np.float32(radius_cm), 0, 1)
    return np.sqrt(t * (2 - t))


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
