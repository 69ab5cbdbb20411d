"""One subject's build, in centimetres: what all images of the subject share.

Source: ordinary proportions of an adult's frontal image at 180 cm focus distance; see docs/phantom.md.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emixer.data.phantom.canvas import Plane

RIB_LEVELS_CM = np.array([-1.2, 0.6, 2.5, 4.6, 6.8, 9.1, 11.5, 14.0, 16.6, 19.3, 22.1, 25.0, 27.8], dtype=np.float32)
"""y of the heads of ribs 0 (above the first) to 12 at the spine, for a lung of 24 cm."""


@dataclass(frozen=True)
class Anatomy:
    """Lengths in cm, ratios without unit."""

    half_width: float = 13.4
    """Inner half-width of the thorax at its widest."""
    lung_height: float = 24.0
    """From the apex to the right costophrenic angle in full inspiration."""
    fat: float = 1.6
    """Soft tissue outside the ribs."""
    breast: float = 0.0
    """Thickness of the breasts at their middle."""
    breast_drop: float = 0.0
    thickness: float = 21.0
    """Front to back of the trunk."""
    bone: float = 1.0
    """Mineral content of the skeleton relative to a healthy adult's."""
    rib_thickness: float = 0.55
    """Half the height of a rib."""
    rib_drop: float = 4.6
    """How far a posterior rib falls on its way to the side."""
    scoliosis: float = 0.0
    """Largest sideways shift of the spine."""
    shoulder_y: float = 0.0
    clavicle_slope: float = 0.13
    knob: float = 1.7
    """Radius of the aortic arch seen from the front."""
    right_share: float = 0.31
    """Share of the heart's width that lies right of the midline."""
    dome_difference: float = 1.2
    """How much higher the right half of the diaphragm stands."""
    stomach_gas: float = 1.0
    """Size of the stomach bubble."""
    scapula: float = 0.5
    """How far the shoulder blades overlap the lungs."""
    bulge: NDArray[np.float32] = field(default_factory=lambda: np.zeros(6, dtype=np.float32))
    """Individual deviations of outlines, about unit variance."""

    @property
    def sex(self) -> str:
        """F or M: whether there are breasts. Nothing else of a body differs by sex here."""
        return "F" if self.breast > 0 else "M"

    @property
    def age_years(self) -> int:
        """What is drawn tells it: with age bones lose mineral and the aortic arch grows wide."""
        older = 0.7 * (1.0 - self.bone) / 0.18 + 0.7 * (self.knob - 1.7) / 0.25
        return int(np.clip(58 + 18 * older, 18, 95))

    def scaled(self, y: Plane) -> Plane:
        """y in a lung of 24 cm."""
        return np.asarray(y * np.float32(24.0 / self.lung_height))

    def cage(self, y: Plane) -> Plane:
        """Half-width of the rib cage at height y: wide and smooth, defined far beyond the lungs."""
        down = np.clip((self.scaled(y) / 24.0 + 0.09) / 0.8, 0, 1)
        grow = 1 - (1 - down) ** 2.3
        below = np.maximum(self.scaled(y) / 24.0 - 0.85, 0)
        return np.asarray(self.half_width * (0.34 + 0.66 * grow) * (1 - 0.25 * below * below), dtype=np.float32)

    def lung_wall(self, y: Plane) -> Plane:
        """Distance of the lateral pleura from the midline at height y; shrinking fast above the apex."""
        down = self.scaled(y) / 24.0
        dome = np.clip(down / 0.17, 0, 1)
        tip = np.maximum(1 - (1 - dome) ** 2, 0) ** 0.8
        grow = 1 - (1 - np.clip(down / 0.75, 0, 1)) ** 2.2
        wall = 0.36 + 0.25 * tip + 0.39 * grow - 0.03 * np.clip(down - 0.8, 0, 1)
        return np.where(down > 0, self.half_width * wall, 0.36 * self.half_width + 2.0 * y).astype(np.float32)

    def lung_medial(self, y: Plane) -> Plane:
        """Where the medial border of the apex stands; the mediastinum takes over further down."""
        dome = np.clip(self.scaled(y) / 24.0 / 0.17, 0, 1)
        tip = np.maximum(1 - (1 - dome) ** 2, 0) ** 0.8
        return np.asarray(self.half_width * (0.36 - 0.36 * tip), dtype=np.float32)


def sample_anatomy(rng: np.random.Generator) -> Anatomy:
    """A plausible adult."""
    size = float(np.clip(rng.normal(1.0, 0.06), 0.86, 1.14))
    weight = float(rng.beta(2.0, 3.0))
    breast = float(rng.uniform(1.2, 3.6) * (0.6 + 0.6 * weight)) if rng.random() < 0.47 else 0.0
    return Anatomy(
        half_width=13.4 * size * float(rng.normal(1.0, 0.035)),
        lung_height=24.0 * size * float(np.clip(rng.normal(1.0, 0.06), 0.85, 1.15)),
        fat=1.0 + 3.2 * weight,
        breast=breast,
        breast_drop=float(rng.uniform(-1.0, 2.5)),
        thickness=18.5 * size + 6.0 * weight,
        bone=float(np.clip(rng.normal(1.0, 0.18), 0.55, 1.4)),
        rib_thickness=0.52 * size * float(rng.normal(1.0, 0.08)),
        rib_drop=float(rng.uniform(3.4, 5.8)),
        scoliosis=float(rng.normal(0.0, 0.45)),
        shoulder_y=float(rng.normal(0.0, 0.9)),
        clavicle_slope=float(rng.normal(0.13, 0.07)),
        knob=float(np.clip(rng.normal(1.7, 0.25), 1.2, 2.5)),
        right_share=float(np.clip(rng.normal(0.31, 0.03), 0.24, 0.38)),
        dome_difference=float(np.clip(rng.normal(1.2, 0.6), -0.4, 2.6)),
        stomach_gas=float(np.clip(rng.normal(0.9, 0.5), 0.0, 2.0)),
        scapula=float(rng.beta(2, 2)),
        bulge=rng.standard_normal(6, dtype=np.float32),
    )
