"""A lateral image: the same patient from the side, much simpler than the frontal one.

Both lungs overlap between sternum and spine; the heart lies in front and below. Only findings that change the picture
as a whole are drawn: heart size, effusion, edema, and patches by their height; no devices, no pneumothorax.
Coordinates: x from the back (left of the image) to the front, in cm from the middle of the trunk; y as on frontal
images.
"""

import numpy as np

from emixer.data.phantom.anatomy import Anatomy
from emixer.data.phantom.canvas import Canvas, Frame, Plane, ellipse_chord, smooth_noise, smoothstep
from emixer.data.phantom.findings import Findings
from emixer.data.phantom.radiograph import BONE_PER_CM, SOFT_PER_CM, Exposure, ImageKey, Radiograph, develop
from emixer.data.phantom.randomness import Stream

_WIDTH_OF_TRUNK = 30.0
"""Thickness that the rays have to cross from side to side [cm]."""


def render_lateral(anatomy: Anatomy, findings: Findings, frame: Frame, exposure: Exposure, key: ImageKey) -> Radiograph:
    """One left lateral image, uint8 (rows, columns)."""
    canvas = Canvas(frame)
    depth = 0.60 * anatomy.thickness
    y = canvas.y_coarse
    back = -depth + 3.4 * np.minimum(np.abs(y - 12.0) / 15.0, 1.4) ** 2
    front = depth - 7.5 * np.minimum(np.maximum(17.0 - y, 0) / 18.0, 1.2) ** 1.6
    lung = _lung(canvas, anatomy, findings, back + 0.3, front - 0.8)
    body = _body(canvas, anatomy, back, front)
    soft = body - 0.72 * lung + _heart(canvas, anatomy, findings) * np.minimum(lung / 8, 1)
    vessels = canvas.enlarge(smooth_noise(key.generator(Stream.VESSELS), canvas, 0.7))
    soft += np.minimum(lung / 10, 1) * (0.22 * vessels + _hilum(canvas, anatomy)) - _trachea(canvas)
    attenuation = np.maximum(soft, 0) * np.float32(SOFT_PER_CM * 0.92)
    attenuation += _bones(canvas, anatomy, back, front) * np.float32(BONE_PER_CM)
    return develop(canvas, attenuation.astype(np.float32), exposure, key)


def _lung(canvas: Canvas, anatomy: Anatomy, findings: Findings, back: Plane, front: Plane) -> Plane:
    """Air of both lungs [cm] (H, W)."""
    x, y = canvas.x_coarse, canvas.y_coarse
    bottom = anatomy.lung_height + 1.0
    along = np.clip((x - back) / np.maximum(front - back, 1), 0, 1)
    dome = bottom + 0.8 - 7.2 * np.clip(1.25 * along, 0, 1) ** 0.7 + 2.6 * np.maximum(along - 0.6, 0)
    fluid = max((e.height_cm for e in findings.effusions), default=0.0)
    level = bottom - 0.9 * fluid * (1 - 0.5 * along)
    distance = np.minimum(np.minimum(x - back, front - x), (y - 0.3 - 0.09 * (x + 2.5) ** 2) * 0.7)
    wall = np.clip(canvas.enlarge(distance) / 3.2, 0, 1)
    above = canvas.edge(canvas.enlarge(dome - y)) * canvas.edge(canvas.enlarge(level - y), 0.8)
    air = 20.0 * (0.45 + 0.55 * smoothstep(y / 9)) * (1 - _disease(canvas, anatomy, findings))
    return np.asarray(canvas.enlarge(air.astype(np.float32)) * np.sqrt(wall * (2 - wall)) * above, dtype=np.float32)


def _disease(canvas: Canvas, anatomy: Anatomy, findings: Findings) -> Plane:
    """Share of the air lost to patches, lesions and edema (h, w)."""
    x, y = canvas.x_coarse, canvas.y_coarse
    lost = np.full(canvas.coarse_shape, 0.25 * findings.edema.severity if findings.edema else 0.0)
    for patch in (*findings.consolidations, *findings.pneumonias, *findings.opacities):
        center = 1.5 + patch.down * (anatomy.lung_height - 5.0)
        shift = 4.0 * (0.5 - patch.across)
        distance = np.hypot(x - shift + 3.0 * (patch.down - 0.4), y - center) / patch.radius_cm
        lost = np.maximum(lost, 0.55 * patch.density * smoothstep((1.2 - distance) / 0.6))
    return lost.astype(np.float32)


def _body(canvas: Canvas, anatomy: Anatomy, back: Plane, front: Plane) -> Plane:
    x, y = canvas.x_coarse, canvas.y_coarse
    skin_back = back - 1.6 - 0.4 * anatomy.fat
    bust = 0.9 * anatomy.breast * np.exp(-(((y - 15.5 - anatomy.breast_drop) / 4.0) ** 2))
    skin_front = front + 0.8 + 0.5 * anatomy.fat + bust + 1.6 * smoothstep((y - anatomy.lung_height + 6) / 8)
    distance = canvas.enlarge(np.minimum(x - skin_back, skin_front - x))
    t = np.clip(distance / 5.0, 0, 1)
    width = _WIDTH_OF_TRUNK * (0.62 + 0.38 * smoothstep((y + 4) / 12))
    body = canvas.enlarge(width.astype(np.float32)) * np.sqrt(t * (2 - t))
    shoulder = canvas.enlarge((9.0 * smoothstep((3.0 - y - 0.2 * x) / 7.0)).astype(np.float32))
    return np.asarray(body + shoulder * np.sqrt(t), dtype=np.float32)


def _heart(canvas: Canvas, anatomy: Anatomy, findings: Findings) -> Plane:
    """Heart and aortic arch [cm] (H, W)."""
    size = findings.heart_ratio / 0.45
    plane = np.zeros(canvas.shape, dtype=np.float32)
    bottom = anatomy.lung_height - 2.5
    parts = (
        ((4.6, bottom - 3.6 * size), (5.8 * size, 6.6 * size), 0.7, 6.0),
        ((3.0, bottom - 7.0), (4.6, 7.0), 0.45, 4.0),
        ((1.6, 9.0), (3.6, 4.2), 0.3, 1.4),
    )
    for center, radii, angle, depth in parts:
        where, chord = ellipse_chord(canvas, center, radii, angle)
        plane[where] = np.maximum(plane[where], chord * np.float32(depth))
    return plane


def _hilum(canvas: Canvas, anatomy: Anatomy) -> Plane:
    plane = np.zeros(canvas.shape, dtype=np.float32)
    where, chord = ellipse_chord(canvas, (0.3, 11.2 * anatomy.lung_height / 24), (2.0, 2.3))
    plane[where] += chord * chord * 2.6
    return plane


def _trachea(canvas: Canvas) -> Plane:
    plane = np.zeros(canvas.shape, dtype=np.float32)
    y = np.linspace(-9, 10.5, 80, dtype=np.float32)
    canvas.add_lines(plane, 1.2 - 0.11 * y, y, np.full_like(y, 2.4 * 19.5 / 80), 0.45)
    return plane


def _bones(canvas: Canvas, anatomy: Anatomy, back: Plane, front: Plane) -> Plane:
    """Spine, sternum and ribs seen along their length [cm of bone] (H, W)."""
    x, y = canvas.x_coarse, canvas.y_coarse
    column = np.abs(x - back - 2.6) / 1.7
    scaled = anatomy.scaled(y)
    within = np.abs((scaled / 2.6) % 1 - 0.5)
    body = canvas.enlarge(np.sqrt(np.clip(1 - column**2, 0, 1)).astype(np.float32))
    discs = canvas.enlarge(smoothstep((within - 0.36) / 0.08))
    plane = body * (1.5 - 0.9 * discs) * canvas.enlarge(1 - 0.45 * smoothstep((y - 8) / 14))
    plane += (
        0.7
        * canvas.enlarge(np.exp(-(((x - front + 0.2) / 0.45) ** 2)).astype(np.float32))
        * canvas.enlarge(smoothstep((y - 4) / 2))
    )
    slope = y - 0.42 * (x - back) - 1.5 * np.sin((x - back) / 9)
    for phase, strength in ((0.0, 0.12), (0.42, 0.09)):
        offset = canvas.enlarge(np.abs((slope / 2.9 + phase) % 1 - 0.5).astype(np.float32))
        inside = canvas.enlarge(
            smoothstep(np.minimum(x - back, front - x) / 1.0) * smoothstep((y + 1) / 2) * smoothstep((24 - y) / 4)
        )
        plane += strength * smoothstep((0.22 - offset) / 0.06) * inside
    return np.asarray(plane * anatomy.bone, dtype=np.float32)
