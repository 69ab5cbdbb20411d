"""What disease does to the lungs and the pleura: air that is lost, tissue and fluid that is added, both in cm.

Each finding is drawn by one function that changes the `Lung` in place. H, W: rows and columns [px]; h, w: coarse grid.
"""

from dataclasses import dataclass

import numpy as np

from emixer.data.phantom.canvas import Canvas, Plane, ellipse_chord, smooth_noise, smoothstep
from emixer.data.phantom.chest import Chest
from emixer.data.phantom.findings import (
    Atelectasis,
    Edema,
    Effusion,
    Lesion,
    Opacity,
    PleuralChange,
    Pneumothorax,
    Side,
)
from emixer.data.phantom.vessels import hilum, lung_tree


@dataclass
class Lung:
    """Thicknesses in front of each pixel (H, W)."""

    air: Plane
    """Aerated lung [cm]."""
    extra: Plane
    """Vessels, lines and masses on top of it [cm of water]."""


def diseased_lung(chest: Chest, vessels: Plane, rng: np.random.Generator) -> Lung:
    """The lungs of `chest` with all its findings drawn in. vessels: from `vessel_thickness`."""
    findings = chest.findings
    lung = Lung(chest.air.copy(), _hila(chest) + vessels)
    shown = smoothstep(chest.full_air / np.float32(3.0)) * np.clip(1.2 - chest.mediastinum / np.float32(9.0), 0, 1)
    lung.extra *= shown
    if findings.edema:
        _edema(chest, lung, findings.edema, rng)
    for patch in findings.opacities:
        _patch(chest, lung, patch, rng, softness=1.5, grain=0.08)
    for patch in findings.pneumonias:
        _patch(chest, lung, patch, rng, softness=1.2, grain=0.16)
    for patch in findings.consolidations:
        _consolidation(chest, lung, patch, rng)
    for collapse in findings.atelectases:
        _atelectasis(chest, lung, collapse, rng)
    for lesion in findings.lesions:
        _lesion(chest, lung, lesion, rng)
    if findings.pleural_change:
        _pleural_change(chest, lung, findings.pleural_change, rng)
    if findings.pneumothorax:
        _pneumothorax(chest, lung, findings.pneumothorax)
    for effusion in findings.effusions:
        _effusion(chest, lung, effusion)
    return lung


def fluid_share(chest: Chest, effusion: Effusion) -> Plane:
    """0..1: how much of the air at each place of the coarse grid (h, w) the effusion has replaced."""
    x, y = chest.canvas.x_coarse, chest.canvas.y_coarse
    outward = np.clip((np.abs(x) / np.float32(chest.anatomy.half_width) - 0.25) / 0.75, 0, 1.1)
    surface = chest.angle_y(effusion.side) - effusion.height_cm * (0.42 + 0.58 * outward**2.2)
    share = smoothstep((y - surface) / 1.5 + 0.35) * (np.sign(x) == effusion.side.sign)
    return np.asarray(share, dtype=np.float32)


def pleural_line_depth(chest: Chest, pneumothorax: Pneumothorax) -> Plane:
    """cm from the pleural line inward (positive inside the collapsed lung), on the coarse grid (h, w)."""
    x, y = chest.canvas.x_coarse, chest.canvas.y_coarse
    inward = chest.anatomy.lung_wall(y) - np.abs(x)
    width = pneumothorax.width_cm * np.clip(1.15 - y / np.float32(chest.anatomy.lung_height), 0.1, 1.1)
    from_apex = (y - 0.6 * pneumothorax.width_cm) * 0.9
    inside = inward - width
    depth = inside + from_apex - np.hypot(inside, from_apex)  # the lesser of the two, with the corner rounded
    return np.where(np.sign(x) == pneumothorax.side.sign, depth, 9.0).astype(np.float32)


def patch_share(chest: Chest, patch: Opacity, rng: np.random.Generator, softness: float) -> Plane:
    """0..1 on the coarse grid (h, w): a ragged blob in one lung."""
    canvas = chest.canvas
    x0, y0 = chest.place(patch.side, patch.across, patch.down)
    tilt = float(rng.uniform(-0.6, 0.6))
    dx, dy = canvas.x_coarse - np.float32(x0), canvas.y_coarse - np.float32(y0)
    along = (dx * np.cos(tilt) + dy * np.sin(tilt)) / (1.15 * patch.radius_cm)
    across = (dy * np.cos(tilt) - dx * np.sin(tilt)) / (0.9 * patch.radius_cm)
    ragged = 0.14 * smooth_noise(rng, canvas, 2.4) + 0.06 * smooth_noise(rng, canvas, 1.0)
    share = smoothstep((1.0 - np.hypot(along, across) + ragged) / softness + 0.3)
    return np.asarray(share * (np.sign(canvas.x_coarse) == patch.side.sign), dtype=np.float32)


def _hila(chest: Chest) -> Plane:
    """Roots of the lungs: vessels and nodes too close together to be told apart."""
    plane = np.zeros(chest.canvas.shape, dtype=np.float32)
    for side in Side:
        x, y = hilum(chest, side)
        for dx, dy, rx, ry, depth in ((0.9, 0.2, 1.5, 2.3, 1.5), (1.5, 2.6, 0.85, 2.6, 1.1)):
            where, chord = ellipse_chord(chest.canvas, (x + side.sign * dx, y + dy), (rx, ry), -side.sign * 0.28)
            plane[where] += chord * chord * np.float32(depth)
    return plane


def _replace_air(chest: Chest, lung: Lung, share: Plane) -> None:
    """Turns a share (h, w) of the air into tissue."""
    lung.air *= 1 - np.clip(chest.canvas.enlarge(share), 0, 1)


def _patch(chest: Chest, lung: Lung, patch: Opacity, rng: np.random.Generator, softness: float, grain: float) -> None:
    share = patch_share(chest, patch, rng, softness)
    mottled = 1 + grain * smooth_noise(rng, chest.canvas, 0.8)
    _replace_air(chest, lung, patch.density * share * np.clip(mottled, 0.2, 1.5))


def _consolidation(chest: Chest, lung: Lung, patch: Opacity, rng: np.random.Generator) -> None:
    share = patch_share(chest, patch, rng, softness=1.0)
    _, y0 = chest.place(patch.side, patch.across, patch.down)
    if patch.down < 0.6:  # upper and middle lobe end at a fissure
        edge = y0 + 0.75 * patch.radius_cm
        share = share * smoothstep((edge - chest.canvas.y_coarse) / 0.5 + 0.5)
    _replace_air(chest, lung, patch.density * share)
    bronchi = lung_tree(chest, patch.side, rng)
    wide = (bronchi.diameter_cm > 0.14) & (bronchi.diameter_cm < 0.6)
    volume = 0.5 * bronchi.diameter_cm[wide] ** 1.5 * bronchi.length_cm[wide]
    branches = np.zeros(chest.canvas.shape, dtype=np.float32)
    chest.canvas.add_lines(branches, bronchi.x_cm[wide], bronchi.y_cm[wide], volume, 0.10)
    lung.extra -= np.float32(patch.density) * branches * chest.canvas.enlarge(share)


def _edema(chest: Chest, lung: Lung, edema: Edema, rng: np.random.Generator) -> None:
    canvas = chest.canvas
    haze = np.zeros(canvas.coarse_shape, dtype=np.float32)
    for side in Side:
        x, y = hilum(chest, side)
        reach = np.hypot((canvas.x_coarse - x - side.sign * 2.2) / 4.6, (canvas.y_coarse - y - 2.0) / 6.8)
        haze += np.exp(-(reach**2)).astype(np.float32)
    mottled = 1 + 0.22 * smooth_noise(rng, canvas, 1.2)
    _replace_air(
        chest, lung, (0.20 + 0.42 * edema.severity) * np.minimum(haze, 1) * mottled + 0.06 + 0.06 * edema.severity
    )
    _septal_lines(chest, lung, edema, rng)


def _septal_lines(chest: Chest, lung: Lung, edema: Edema, rng: np.random.Generator) -> None:
    """Kerley B lines: short, level, at the lateral bases."""
    num = 8 + int(14 * edema.severity)
    y = rng.uniform(0.55, 0.95, num) * chest.dome_y(Side.RIGHT)
    side = rng.choice([-1.0, 1.0], num)
    wall = chest.anatomy.lung_wall(y.astype(np.float32)) - 0.1
    t = np.linspace(0, 1, 24)[None, :]
    length = rng.uniform(0.9, 2.0, num)[:, None]
    x_path = side[:, None] * (wall[:, None] - t * length)
    y_path = y[:, None] + t * rng.normal(0, 0.12, num)[:, None]
    volume = np.broadcast_to(0.030 * length / 24, x_path.shape)
    flat = [np.asarray(v, dtype=np.float32).ravel() for v in (x_path, y_path, volume)]
    chest.canvas.add_lines(lung.extra, flat[0], flat[1], flat[2], 0.045)


def _atelectasis(chest: Chest, lung: Lung, collapse: Atelectasis, rng: np.random.Generator) -> None:
    canvas, side = chest.canvas, collapse.side
    dome = chest.dome_y(side)
    for band in range(collapse.bands):
        x0, _ = chest.place(side, float(rng.uniform(0.30, 0.45)), 0.9)
        y0 = dome - 0.5 - 1.4 * band - float(rng.uniform(0.0, 0.8))
        t = np.linspace(-0.5, 0.5, 90)
        slope = float(rng.normal(0.12, 0.15))
        x = x0 + side.sign * (t + 0.3) * collapse.length_cm
        y = y0 + t * collapse.length_cm * slope - 0.8 * t * t * float(rng.uniform(-1, 1))
        taper = np.sqrt(np.maximum(1 - (2 * t) ** 2, 0.02))
        thick = 0.55 + 0.75 * collapse.severity
        volume = thick * 0.9 * collapse.length_cm / 90 * taper
        canvas.add_lines(lung.extra, x.astype(np.float32), y.astype(np.float32), volume.astype(np.float32), 0.14)
    above = chest.diaphragm_y(canvas.x_coarse) - canvas.y_coarse
    haze = np.exp(-np.maximum(above, 0) / (1.4 + 1.6 * collapse.severity)) * (np.sign(canvas.x_coarse) == side.sign)
    _replace_air(chest, lung, (0.16 + 0.42 * collapse.severity) * haze.astype(np.float32))


def _lesion(chest: Chest, lung: Lung, lesion: Lesion, rng: np.random.Generator) -> None:
    x, y = chest.place(lesion.side, lesion.across, lesion.down)
    radius = lesion.diameter_cm / 2
    radii = (radius * float(rng.uniform(0.92, 1.08)), radius)
    where, chord = ellipse_chord(chest.canvas, (x, y), radii, float(rng.uniform(0, 3)))
    lung.extra[where] += chord * np.float32(min(lesion.diameter_cm, 3.0) * 0.9 + 0.5)
    if not lesion.spiculated:
        return
    num = 14
    angle = np.linspace(0, 2 * np.pi, num, endpoint=False)[:, None] + rng.normal(0, 0.15, num)[:, None]
    reach = radius * (0.8 + np.linspace(0, 1, 20)[None, :] * rng.uniform(0.3, 0.8, num)[:, None])
    x_path, y_path = x + reach * np.cos(angle), y + reach * np.sin(angle)
    volume = np.full(x_path.size, 0.005 * radius, dtype=np.float32)
    flat = [np.asarray(v, dtype=np.float32).ravel() for v in (x_path, y_path)]
    chest.canvas.add_lines(lung.extra, flat[0], flat[1], volume, 0.05)


def _pleural_change(chest: Chest, lung: Lung, change: PleuralChange, rng: np.random.Generator) -> None:
    canvas = chest.canvas
    x, y = canvas.x_coarse, canvas.y_coarse
    at_side = np.sign(x) == change.side.sign
    wavy = 1 + 0.3 * smooth_noise(rng, canvas, 1.5)
    inward = chest.anatomy.lung_wall(y) - np.abs(x)
    if change.kind == "apical":
        depth = change.thickness_cm * 1.7 * wavy - y
        share = smoothstep(depth / 0.5 + 0.5)
    elif change.kind == "lateral":
        height = y / np.float32(chest.anatomy.lung_height)
        stretch = smoothstep((height - 0.28) / 0.1) * smoothstep((0.92 - height) / 0.1)
        share = smoothstep((change.thickness_cm * wavy - inward) / 0.35 + 0.5) * stretch
    else:
        _plaques(chest, lung, change, rng)
        return
    _replace_air(chest, lung, (0.92 * share * at_side).astype(np.float32))
    lung.extra += canvas.enlarge((0.5 * share * at_side * (inward > 0)).astype(np.float32))


def _plaques(chest: Chest, lung: Lung, change: PleuralChange, rng: np.random.Generator) -> None:
    """Calcified: dense, sharply outlined, irregular; over the diaphragm and the lateral wall."""
    for _ in range(3 + int(4 * change.severity)):
        x, y = chest.place(change.side, float(rng.uniform(0.35, 0.95)), float(rng.uniform(0.4, 1.0)))
        radii = (float(rng.uniform(0.5, 1.1)) * (0.8 + change.severity), float(rng.uniform(0.25, 0.5)))
        where, chord = ellipse_chord(chest.canvas, (x, y), radii, float(rng.uniform(-0.9, 0.9)))
        lung.extra[where] += smoothstep(chord * 3) * np.float32(0.9 + change.thickness_cm * 0.6)


def _pneumothorax(chest: Chest, lung: Lung, pneumothorax: Pneumothorax) -> None:
    canvas: Canvas = chest.canvas
    depth = canvas.enlarge(pleural_line_depth(chest, pneumothorax))
    beyond = 1 - canvas.edge(depth)
    inside = smoothstep(chest.full_air / np.float32(2.0))
    lung.extra *= 1 - beyond
    lung.air *= 1 + beyond * np.float32(0.30)  # free air instead of lung tissue
    behind = (depth > 0) & (depth < 8.5)
    lung.air *= 1 - behind * np.float32(0.08 + 0.25 * pneumothorax.severity)
    line = np.exp(-np.square(depth / np.float32(max(0.06, 0.8 / canvas.pixels_per_cm))))
    lung.extra += line * inside * np.float32(0.75)


def _effusion(chest: Chest, lung: Lung, effusion: Effusion) -> None:
    share = chest.canvas.enlarge(fluid_share(chest, effusion))
    lung.air *= 1 - np.float32(0.96) * np.clip(share, 0, 1)
    lung.extra *= 1 - np.float32(0.8) * np.clip(share, 0, 1)
