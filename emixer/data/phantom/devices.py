"""Devices of a frontal image, as attenuation (no unit): tubes, lines, pacemakers, wires. Paths are in cm."""

from collections.abc import Callable

import numpy as np

from emixer.data.phantom.canvas import Plane, ellipse_chord, smoothstep
from emixer.data.phantom.chest import Chest
from emixer.data.phantom.findings import DEVICE_KINDS, Device, Side

Points = list[tuple[float, float]]

_TIP_LEVEL_CM = {
    "the upper SVC": 6.3,
    "the mid SVC": 8.2,
    "the lower SVC": 10.2,
    "the cavoatrial junction": 12.2,
}


def draw_devices(chest: Chest, rng: np.random.Generator) -> Plane:
    """All devices of the study (H, W)."""
    plane = np.zeros(chest.canvas.shape, dtype=np.float32)
    for device in chest.findings.devices:
        _DRAWERS[device.kind](chest, plane, device, rng)
    return plane


def _strand(chest: Chest, plane: Plane, points: Points, width_cm: float, strength: float) -> None:
    """A smooth strand through the points; strength: attenuation at its middle."""
    x, y = smooth_path(points)
    length = np.hypot(np.gradient(x), np.gradient(y))
    sigma = max(width_cm / 2.5, 0.55 / chest.canvas.pixels_per_cm)
    volume = (strength * sigma * 2.5 * length).astype(np.float32)
    chest.canvas.add_lines(plane, x.astype(np.float32), y.astype(np.float32), volume, sigma)


def smooth_path(points: Points, num: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """A Catmull-Rom curve through the points, evenly sampled: x and y (num,)."""
    knots = np.array([points[0], *points, points[-1]], dtype=np.float64)
    t = np.linspace(0, len(points) - 1 - 1e-9, num)
    k, u = t.astype(int), (t % 1)[:, None]
    p0, p1, p2, p3 = (knots[k + j] for j in range(4))
    path = 0.5 * (2 * p1 + (p2 - p0) * u + (2 * p0 - 5 * p1 + 4 * p2 - p3) * u**2 + (3 * p1 - p0 - 3 * p2 + p3) * u**3)
    return path[:, 0], path[:, 1]


def _scale(chest: Chest) -> float:
    return chest.anatomy.lung_height / 24.0


def _to_superior_vena_cava(chest: Chest, device: Device, start: Points) -> Points:
    """A line's way to its tip; from the left it has to cross the midline first."""
    scale = _scale(chest)
    tip = _TIP_LEVEL_CM.get(device.tip, 9.0) * scale
    crossing = [(1.2, 4.6 * scale)] if device.side is Side.LEFT else []
    return [*start, *crossing, (-1.9, 5.6 * scale), (-2.3, (tip + 5.6 * scale) / 2 + 0.2), (-2.4, tip)]


def _endotracheal_tube(chest: Chest, plane: Plane, device: Device, rng: np.random.Generator) -> None:
    above = float(device.tip.split()[0])
    carina = 9.6 * _scale(chest)
    shift = float(chest.midline(np.asarray(0.0))) * 0.7
    for dx, width, strength in ((0.0, 0.85, 0.10), (0.36, 0.13, 0.55), (-0.36, 0.10, 0.22)):
        _strand(
            chest,
            plane,
            [(shift + dx + 0.5, -11.0), (shift + dx, -4.0), (shift + dx - 0.1, carina - above)],
            width,
            strength,
        )


def _central_line(chest: Chest, plane: Plane, device: Device, rng: np.random.Generator) -> None:
    s = device.side.sign
    start = [(s * 4.6, -9.0), (s * 3.9, -3.5), (s * 3.0, 1.2)]
    _strand(chest, plane, _to_superior_vena_cava(chest, device, start), 0.24, 0.50)


def _picc(chest: Chest, plane: Plane, device: Device, rng: np.random.Generator) -> None:
    s = device.side.sign
    start = [(s * 21.0, 11.0), (s * 17.5, 5.5), (s * 12.5, 2.6), (s * 7.0, 2.2), (s * 3.6, 3.4)]
    _strand(chest, plane, _to_superior_vena_cava(chest, device, start), 0.18, 0.45)


def _port(chest: Chest, plane: Plane, device: Device, rng: np.random.Generator) -> None:
    s = device.side.sign
    center = (s * 8.2, 5.8)
    where, chord = ellipse_chord(chest.canvas, center, (1.25, 1.35))
    plane[where] += smoothstep(chord * 3) * np.float32(0.75) + smoothstep((chord - 0.55) * 6) * np.float32(0.6)
    start = [(s * 8.0, 4.8), (s * 6.8, 1.4), (s * 4.2, 1.6)]
    _strand(chest, plane, _to_superior_vena_cava(chest, device, start), 0.24, 0.50)


def _pacemaker(chest: Chest, plane: Plane, device: Device, rng: np.random.Generator) -> None:
    s, scale = device.side.sign, _scale(chest)
    x0, y0 = s * 10.2, 5.4
    where = chest.canvas.window(x0, y0, 3.2, 3.2)
    dx, dy = (chest.canvas.x[where] - x0) / 2.35, (chest.canvas.y[where] - y0) / 2.1
    inside = (1 - (dx**4 + dy**4) ** 0.25) * 2.1
    plane[where] += chest.canvas.edge(inside) * np.float32(1.7) + chest.canvas.edge(inside - 0.35) * (
        dy > -0.2
    ) * np.float32(0.9)
    start = [(x0 - s * 0.8, y0 - 2.0), (x0 - s * 2.6, y0 - 2.6), (s * 4.4, 2.6)]
    crossing = [(1.4, 4.4 * scale)] if s > 0 else []
    trunk = [*start, *crossing, (-1.9, 6.0 * scale), (-2.4, 11.0 * scale)]
    bottom = chest.anatomy.lung_height - 4.2
    _strand(chest, plane, [*trunk, (-2.0, bottom - 2.5), (1.0, bottom - 0.4), (4.2, bottom - 0.7)], 0.20, 0.75)
    if "atrium" in device.tip:
        _strand(chest, plane, [*trunk, (-3.0, 14.2 * scale), (-2.2, 15.4 * scale), (-1.2, 13.6 * scale)], 0.20, 0.75)


def _nasogastric_tube(chest: Chest, plane: Plane, device: Device, rng: np.random.Generator) -> None:
    dome = chest.dome_y(Side.LEFT)
    points = [
        (0.6, -11.0),
        (0.4, -3.0),
        (0.3, 6.0),
        (0.6, 13.0),
        (1.6, dome - 1.5),
        (2.6, dome + 1.6),
        (5.0, dome + 3.6),
        (7.0, dome + 3.2),
    ]
    _strand(chest, plane, points, 0.20, 0.55)
    _strand(chest, plane, points, 0.45, 0.08)


def _chest_tube(chest: Chest, plane: Plane, device: Device, rng: np.random.Generator) -> None:
    s, wide = device.side.sign, chest.anatomy.half_width
    points = [(s * (wide + 5), 17.5), (s * (wide - 0.2), 14.5), (s * (wide - 2.5), 9.0), (s * 0.55 * wide, 3.6)]
    for width, strength in ((0.75, 0.16), (0.14, 0.60)):
        _strand(chest, plane, points, width, strength)


def _sternal_wires(chest: Chest, plane: Plane, device: Device, rng: np.random.Generator) -> None:
    scale = _scale(chest)
    for y in np.linspace(5.2, 16.5, 6) * scale:
        x = float(rng.normal(0.1, 0.12))
        tilt = float(rng.normal(0, 0.15))
        angle = np.linspace(0, 2 * np.pi, 14)
        loop = [(x + 1.0 * float(np.cos(a)), y + 0.55 * float(np.sin(a)) + tilt * float(np.cos(a))) for a in angle]
        _strand(chest, plane, loop, 0.12, 1.0)
        _strand(chest, plane, [(x, y + 0.5), (x + 0.25, y + 0.75), (x + 0.1, y + 1.0)], 0.16, 1.1)


def _valve(chest: Chest, plane: Plane, device: Device, rng: np.random.Generator) -> None:
    bottom = chest.anatomy.lung_height
    angle = np.linspace(0, 2 * np.pi, 16)
    ring = [
        (1.6 + 1.35 * float(np.cos(a)), bottom - 9.2 + 0.75 * float(np.sin(a)) + 0.5 * float(np.cos(a))) for a in angle
    ]
    _strand(chest, plane, ring, 0.22, 1.2)


def _ecg_leads(chest: Chest, plane: Plane, device: Device, rng: np.random.Generator) -> None:
    for x, y in ((-8.5, 3.5), (8.8, 3.0), (-9.5, 17.0), (9.5, 18.0)):
        x, y = x + float(rng.normal(0, 0.8)), y + float(rng.normal(0, 0.8))
        where, chord = ellipse_chord(chest.canvas, (x, y), (0.55, 0.55))
        plane[where] += smoothstep(chord * 2.5) * np.float32(0.9)
        where, chord = ellipse_chord(chest.canvas, (x, y), (1.5, 1.5))
        plane[where] += smoothstep(chord * 4) * np.float32(0.05)
        end = (x + float(rng.normal(0, 3.0)), 40.0) if y > 10 else (x * 1.4 + float(rng.normal(0, 2)), 24.0)
        middle = ((x + end[0]) / 2 + float(rng.normal(0, 1.5)), (y + end[1]) / 2)
        _strand(chest, plane, [(x, y), middle, end, (end[0], 46.0)], 0.10, 0.38)


_DRAWERS: dict[str, Callable[[Chest, Plane, Device, np.random.Generator], None]] = {
    "endotracheal tube": _endotracheal_tube,
    "central line": _central_line,
    "picc": _picc,
    "port": _port,
    "pacemaker": _pacemaker,
    "nasogastric tube": _nasogastric_tube,
    "chest tube": _chest_tube,
    "sternal wires": _sternal_wires,
    "valve": _valve,
    "ecg leads": _ecg_leads,
}
assert set(_DRAWERS) == set(DEVICE_KINDS)
