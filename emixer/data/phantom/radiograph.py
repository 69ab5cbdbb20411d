"""One frontal image: thicknesses -> attenuation -> exposure -> 8-bit gray.

Source: Beer-Lambert attenuation at an effective energy of some 60 keV, a scatter fraction, quantum noise, and the
S-shaped display curve of digital radiography; see docs/phantom.md.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from emixer.data.phantom.anatomy import Anatomy
from emixer.data.phantom.canvas import Canvas, Frame, Plane, ellipse_chord, smooth_noise, smoothstep
from emixer.data.phantom.chest import Chest, trunk_thickness
from emixer.data.phantom.devices import draw_devices
from emixer.data.phantom.findings import Findings, Side
from emixer.data.phantom.opacities import diseased_lung
from emixer.data.phantom.randomness import Stream, generator
from emixer.data.phantom.skeleton import bones
from emixer.data.phantom.vessels import vessel_thickness

Radiograph = NDArray[np.uint8]

SOFT_PER_CM = 0.19
BONE_PER_CM = 0.56
_LUNG_DENSITY = 0.25
"""Density of aerated lung relative to water."""


@dataclass(frozen=True)
class Exposure:
    """How an image was taken and developed."""

    portable: bool = False
    """AP at the bedside: more scatter, more noise, larger heart, less inspiration."""
    brightness: float = 0.0
    contrast: float = 1.0
    noise: float = 1.0
    collimation_cm: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Width of the shuttered border: top, bottom, left, right."""
    marker: Side | None = Side.LEFT
    marker_y_cm: float = -4.0
    tilt_rad: float = 0.0
    """Turn of the side marker."""


@dataclass(frozen=True)
class ImageKey:
    """Which random streams an image draws from."""

    seed: int
    study: int
    image: int

    def generator(self, stream: Stream) -> np.random.Generator:
        return generator(self.seed, stream, self.study, self.image)


def render_frontal(
    anatomy: Anatomy, findings: Findings, heart_ratio: float, frame: Frame, exposure: Exposure, key: ImageKey
) -> Radiograph:
    """One PA or AP image, uint8 (rows, columns). heart_ratio: cardiothoracic ratio as it is to appear on this image."""
    canvas = Canvas(frame)
    chest = Chest(canvas, anatomy, findings, heart_ratio)
    attenuation = _attenuation(chest, key)
    return develop(canvas, attenuation, exposure, key)


def _attenuation(chest: Chest, key: ImageKey) -> Plane:
    """Line integral of attenuation (H, W), without unit."""
    canvas = chest.canvas
    vessels = vessel_thickness(chest, key.generator(Stream.VESSELS))
    texture = canvas.enlarge(smooth_noise(key.generator(Stream.TEXTURE), canvas, 0.3))
    lungs = diseased_lung(chest, vessels, key.generator(Stream.OPACITIES))
    lung = lungs.air * np.float32(1 - _LUNG_DENSITY) * (1 + np.float32(0.012) * texture)
    soft = trunk_thickness(canvas, chest.anatomy) - lung - _airways(chest) - _bowel_gas(chest, key) + lungs.extra
    plane = np.maximum(soft, 0) * np.float32(SOFT_PER_CM)
    plane += bones(chest, key.generator(Stream.SKELETON)) * np.float32(BONE_PER_CM)
    plane += draw_devices(chest, key.generator(Stream.DEVICES))
    return plane


def _airways(chest: Chest) -> Plane:
    """Air in trachea and main bronchi [cm] (H, W)."""
    canvas, scale = chest.canvas, chest.anatomy.lung_height / 24.0
    carina = 9.6 * scale
    plane = np.zeros(canvas.shape, dtype=np.float32)
    y = np.linspace(-9, carina, 60, dtype=np.float32)
    bow = 0.35 * np.exp(-(((y - 7.5) / 3.0) ** 2)) * -1.0
    canvas.add_lines(plane, chest.midline(y) * 0.7 + bow, y, np.full_like(y, 2.2 * (carina + 9) / 60), 0.42)
    for sign, dx, dy in ((-1, 3.4, 3.6), (1, 4.4, 2.9)):
        t = np.linspace(0, 1, 24, dtype=np.float32)
        volume = np.full_like(t, 0.95 * float(np.hypot(dx, dy)) / 24) * (1 - 0.5 * t)
        canvas.add_lines(plane, sign * t * dx, carina + t * dy, volume, 0.30)
    return plane


def _bowel_gas(chest: Chest, key: ImageKey) -> Plane:
    """Stomach bubble under the left dome and some gas in the bowel [cm] (H, W)."""
    canvas, size = chest.canvas, chest.anatomy.stomach_gas
    plane = np.zeros(canvas.shape, dtype=np.float32)
    rng = key.generator(Stream.IMAGE)
    rng.random(8)
    if size < 0.35:
        return plane
    top = chest.dome_y(Side.LEFT)
    center = (5.6 + float(rng.normal(0, 0.8)), top + 1.1 + 1.1 * size)
    where, chord = ellipse_chord(canvas, center, (2.6 * size + 0.4, 1.3 * size + 0.3), float(rng.normal(0.1, 0.15)))
    level = smoothstep((center[1] + 0.35 * size - canvas.y[where]) / 0.15) if rng.random() < 0.5 else 1.0
    plane[where] += chord * np.float32(3.2) * level
    for _ in range(int(rng.integers(1, 6))):
        spot = (float(rng.uniform(2, 11)), top + float(rng.uniform(4, 9)))
        where, chord = ellipse_chord(canvas, spot, tuple(rng.uniform(0.5, 1.6, 2)), float(rng.uniform(0, 3)))
        plane[where] += chord * np.float32(rng.uniform(0.6, 2.0))
    return plane


def develop(canvas: Canvas, attenuation: Plane, exposure: Exposure, key: ImageKey) -> Radiograph:
    """Attenuation -> gray values: scatter, noise, local contrast, display curve, marker and shutters."""
    intensity = np.exp(-attenuation)
    fraction = np.float32(0.12 if exposure.portable else 0.05)
    intensity += fraction * canvas.blur(intensity, 4.0) + np.float32(0.0012)
    rng = key.generator(Stream.NOISE)
    grain = rng.standard_normal(canvas.shape, dtype=np.float32)
    grain = 0.6 * grain + 1.1 * ndimage.uniform_filter(grain, 2)
    level = np.float32(0.0026 * exposure.noise * (1.5 if exposure.portable else 1.0))
    density = -np.log(intensity) + level * grain / np.sqrt(intensity)
    density = density + np.float32(0.45) * (density - canvas.blur(density, 2.2))
    gray = _display(density, exposure)
    _draw_marker(canvas, gray, exposure)
    gray *= _shutters(canvas, exposure)
    return np.asarray(np.clip(gray * 255 + 0.5, 0, 255), dtype=np.uint8)


def _display(density: Plane, exposure: Exposure) -> Plane:
    """Optical density -> 0..1, dense tissue white: an S-shaped curve set by the lung and the mediastinum."""
    low, high = 0.9, 4.6
    t = (density - np.float32(low)) / np.float32(high - low)
    t = (t - 0.5) * np.float32(exposure.contrast) + np.float32(0.5 + exposure.brightness)
    return np.asarray(1 / (1 + np.exp(-(t - 0.42) * np.float32(4.6))), dtype=np.float32)


def _draw_marker(canvas: Canvas, gray: Plane, exposure: Exposure) -> None:
    """The lead letter L or R beside the shoulder of that side."""
    if exposure.marker is None:
        return
    strokes = _LETTERS[exposure.marker]
    size = 0.032 * canvas.shape[0]
    border = 0.07 * canvas.shape[1]
    column = border if exposure.marker is Side.RIGHT else canvas.shape[1] - border - 0.6 * size
    row = exposure.marker_y_cm * canvas.pixels_per_cm
    cosine, sine = np.cos(exposure.tilt_rad), np.sin(exposure.tilt_rad)
    letter = Image.new("L", (canvas.shape[1], canvas.shape[0]))
    pen = ImageDraw.Draw(letter)
    for stroke in strokes:
        points = [(column + size * (cosine * u - sine * v), row + size * (sine * u + cosine * v)) for u, v in stroke]
        pen.line(points, fill=255, width=max(1, round(0.16 * size)), joint="curve")
    np.maximum(gray, np.asarray(letter, dtype=np.float32) / 255 * np.float32(0.93), out=gray)


_LETTERS: dict[Side, tuple[tuple[tuple[float, float], ...], ...]] = {
    Side.LEFT: (((0.0, 0.0), (0.0, 1.0), (0.6, 1.0)),),
    Side.RIGHT: (
        ((0.0, 1.0), (0.0, 0.0), (0.42, 0.0), (0.58, 0.12), (0.58, 0.38), (0.42, 0.5), (0.0, 0.5)),
        ((0.3, 0.5), (0.6, 1.0)),
    ),
}


def _shutters(canvas: Canvas, exposure: Exposure) -> Plane:
    """1 inside the beam, dark where the shutters were closed, with a soft border (H, W)."""
    rows, columns = canvas.shape
    top, bottom, left, right = (width * canvas.pixels_per_cm for width in exposure.collimation_cm)
    soft = np.float32(0.12 * canvas.pixels_per_cm + 1)

    def beam(length: int, start: float, end: float) -> Plane:
        place = np.arange(length, dtype=np.float32) + 0.5
        opened = smoothstep((place - start) / soft + 1.0) if start > 0 else 1.0
        closed = smoothstep((length - end - place) / soft + 1.0) if end > 0 else 1.0
        return np.asarray(0.03 + 0.97 * opened * closed * np.ones(length), dtype=np.float32)

    return beam(rows, top, bottom)[:, None] * beam(columns, left, right)[None, :]
