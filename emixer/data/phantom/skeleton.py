"""Bones of a frontal image as thicknesses of compact bone [cm]: ribs, spine, clavicles, scapulae, humeri.

Ribs are not drawn one by one: a smooth field numbers every pixel with a fractional rib, and a profile of a hollow tube
is read off at the distance from the nearest whole number. H, W: rows and columns [px]; h, w: the coarse grid.
"""

import numpy as np
from scipy import ndimage

from emixer.data.phantom.anatomy import RIB_LEVELS_CM, Anatomy
from emixer.data.phantom.canvas import Canvas, Plane, smooth_noise, smoothstep
from emixer.data.phantom.chest import Chest
from emixer.data.phantom.findings import Fracture

_MARROW = 0.80
"""Inner over outer diameter of a rib's marrow space."""


def bones(chest: Chest, rng: np.random.Generator) -> Plane:
    """All bones of the image (H, W)."""
    wobble = smooth_noise(rng, chest.canvas, 6.0) * np.float32(0.16)
    plane = _ribs(chest, wobble, front=False) + _ribs(chest, wobble, front=True)
    plane += _spine(chest, rng)
    plane += _clavicles(chest)
    plane += _shoulders(chest)
    return np.asarray(plane * np.float32(chest.anatomy.bone), dtype=np.float32)


def tube_profile(offset: Plane) -> Plane:
    """Chord through the wall of a hollow tube of radius 1, at `offset` radii from its axis; 0 outside."""
    squared = offset * offset
    outer = np.sqrt(np.maximum(1 - squared, 0))
    inner = np.sqrt(np.maximum(_MARROW**2 - squared, 0))
    return np.asarray(outer - 0.80 * inner, dtype=np.float32)


def _ribs(chest: Chest, wobble: Plane, *, front: bool) -> Plane:
    canvas, anatomy = chest.canvas, chest.anatomy
    x, y = canvas.x_coarse, canvas.y_coarse
    across = np.abs(x) / anatomy.cage(y)
    arc = np.sqrt(np.clip(1 - np.minimum(across, 1.0) ** 2, 0.0, 1))
    size = anatomy.cage(y) / anatomy.half_width
    fall = anatomy.rib_drop * size * (1 - arc) ** 0.85 - 0.5 * np.sin(np.clip(across, 0, 0.5) * 2 * np.pi)
    if front:
        fall = anatomy.rib_drop * size + 5.6 * arc**1.1 * np.minimum(size, 1) + 0.25 * wobble
    number = _rib_number(anatomy, y - fall + wobble)
    spacing = 24.0 / anatomy.lung_height / _slope_length(canvas, number)
    gap: Plane | float = 0.0
    if not front:
        number, gap = _broken(chest, number, across)
    number_fine = canvas.enlarge(number)
    half = anatomy.rib_thickness * (1.05 if front else 1.0)
    offset = (number_fine - np.rint(number_fine)) * canvas.enlarge(np.clip(spacing, 0.9, 3.0)) / np.float32(half)
    visible = smoothstep((1.012 - across) / 0.02 + 0.5) * _shown(number, across, front)
    # where a rib runs toward the viewer, at the side, the rays pass through more of it
    visible = visible * (1 + 1.1 * np.minimum(across, 1) ** 10) * (0.24 if front else 0.46)
    return np.asarray(tube_profile(offset) * canvas.enlarge(visible * (1 - gap)), dtype=np.float32)


def _rib_number(anatomy: Anatomy, y: Plane) -> Plane:
    levels = RIB_LEVELS_CM * np.float32(anatomy.lung_height / 24.0)
    return np.interp(y, levels, np.arange(len(levels))).astype(np.float32)


def _slope_length(canvas: Canvas, number: Plane) -> Plane:
    """|gradient| of the rib number per cm, so that distances are measured across a rib and not upright."""
    step = np.float32(canvas.factor / canvas.pixels_per_cm)
    down, right = np.gradient(number, step)
    return np.asarray(np.maximum(np.hypot(down, right), 0.2), dtype=np.float32)


def _broken(chest: Chest, number: Plane, across: Plane) -> tuple[Plane, Plane]:
    """Rib numbers with a step at each fracture, and how much of the rib is missing there (both h, w)."""
    fracture = chest.findings.fracture
    gap = np.zeros_like(number)
    if fracture is None:
        return number, gap
    at_side = np.sign(chest.canvas.x_coarse) == fracture.side.sign
    hit = at_side & _within(number, fracture)
    beyond = smoothstep((across - fracture.across) / 0.025 + 0.5)
    fade = 1 - smoothstep((across - fracture.across - 0.12) / 0.15)
    step = np.where(hit, beyond * fade * (0.16 + 0.16 * fracture.severity), 0)
    width = 0.018 + 0.03 * fracture.severity
    gap = np.where(hit, np.exp(-(((across - fracture.across) / width) ** 2)), 0)
    return (number - step).astype(np.float32), gap.astype(np.float32)


def _within(number: Plane, fracture: Fracture) -> Plane:
    return np.asarray((number > fracture.rib - 0.5) & (number < fracture.rib + fracture.count - 0.5))


def _shown(number: Plane, across: Plane, front: bool) -> Plane:
    """0..1: the stretch of each rib that is bone and not cartilage, and the ribs that exist."""
    if front:
        medial = smoothstep((across - 0.42 - 0.012 * number) / 0.25)
        return np.asarray(medial * smoothstep(number * 2 - 1.0) * smoothstep((7.9 - number) * 1.5), dtype=np.float32)
    return np.asarray(smoothstep(number * 2 - 1.0) * smoothstep((across - 0.12) / 0.05), dtype=np.float32)


def _spine(chest: Chest, rng: np.random.Generator) -> Plane:
    """Vertebral bodies with discs, pedicles and spinous processes; a narrow strip, so full resolution is cheap."""
    canvas, anatomy = chest.canvas, chest.anatomy
    plane = np.zeros(canvas.shape, dtype=np.float32)
    where = canvas.window(0.0, 14.0, 4.2, 60.0)
    y = canvas.y[where]
    x = canvas.x[where] - chest.midline(y)
    scaled = anatomy.scaled(y)
    pitch = 2.05 + 0.028 * scaled
    phase = scaled / pitch + np.float32(rng.uniform(0, 1))
    within = np.abs(phase - np.floor(phase) - 0.5)
    half = 1.25 + 0.022 * np.clip(scaled + 8, 0, 40) + 0.22 * (within * 2) ** 4
    body = np.sqrt(np.clip((half - np.abs(x)) / 0.9, 0, 1))
    disc = smoothstep((within - 0.36) / 0.06)
    endplate = np.exp(-(((within - 0.36) / 0.035) ** 2))
    bone = body * (0.62 - 0.22 * disc + 0.07 * endplate)
    ring = np.hypot((np.abs(x) - 0.62 * half) / 0.34, (within - 0.16) * pitch / 0.42)
    bone += 0.12 * np.exp(-(((ring - 0.9) / 0.35) ** 2))
    process = np.exp(-((x / 0.28) ** 2)) * smoothstep((within - 0.22) / 0.1)
    bone += 0.15 * process
    transverse = np.clip(1 - np.abs(np.abs(x) - half - 0.5) / 1.0, 0, 1) * np.exp(-(((within - 0.1) / 0.10) ** 2))
    plane[where] = bone + 0.13 * transverse
    return plane


def _clavicles(chest: Chest) -> Plane:
    canvas, anatomy = chest.canvas, chest.anatomy
    plane = np.zeros(canvas.shape, dtype=np.float32)
    where = canvas.window(0.0, 1.5, 20.0, 6.0)
    x, y = canvas.x[where], canvas.y[where]
    distance = np.abs(x)
    t = np.clip((distance - 1.3) / 15.0, 0, 1)
    rise = 15.0 * anatomy.clavicle_slope * np.sign(x) * 0.06 * anatomy.bulge[4]
    axis = 3.3 + 0.5 * anatomy.shoulder_y - 15.0 * anatomy.clavicle_slope * t + 0.75 * np.sin(2 * np.pi * t) + rise * t
    half = 0.62 + 0.45 * np.exp(-(((t - 0.0) / 0.12) ** 2)) + 0.15 * t
    profile = tube_profile((y - axis) / half)
    ends = smoothstep((distance - 1.3) / 0.35) * smoothstep((16.0 - distance) / 0.5)
    plane[where] = profile * ends * np.float32(0.75)
    return plane


def _shoulders(chest: Chest) -> Plane:
    """Scapulae and humeri, drawn small: their edges are soft."""
    canvas, anatomy = chest.canvas, chest.anatomy
    x, y = np.abs(canvas.x_coarse), canvas.y_coarse - np.float32(anatomy.shoulder_y)
    medial = 14.2 - 2.2 * anatomy.scapula + 0.06 * (y - 4)
    lateral = 18.2 - 0.42 * np.maximum(y - 3, 0)
    blade = np.minimum(np.minimum(x - medial, lateral - x), np.minimum(y - 1.2 + 0.25 * (x - 14), 15.5 - y))
    step = np.float32(canvas.factor / canvas.pixels_per_cm)
    plane = 0.10 * smoothstep(blade / step + 0.5) + 0.18 * np.exp(-(((blade - 0.35) / 0.3) ** 2))
    spine_axis = 1.6 - 0.28 * (x - 13.0)
    ridge = smoothstep((x - medial) / 0.8) * smoothstep((20.0 - x) / 0.8)
    plane = plane + 0.30 * tube_profile((y - spine_axis) / 0.8) * ridge
    head = np.hypot(x - 19.6, y - 3.0)
    plane = plane + 0.55 * np.sqrt(np.clip((2.5 - head) / 2.5, 0, 1))
    shaft = np.abs(x - 20.6 - 0.12 * (y - 5)) / 1.25
    plane = plane + 0.9 * tube_profile(shaft) * smoothstep((y - 3.5) / 1.0)
    glenoid = np.exp(-(((np.hypot(x - 19.4, y - 3.2) - 3.0) / 0.3) ** 2)) * (x < 18.2)
    plane = plane + 0.4 * glenoid
    return canvas.enlarge(ndimage.gaussian_filter(plane.astype(np.float32), 0.5))
