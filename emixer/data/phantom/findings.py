"""What a study truly shows: one value object for each kind of finding, with the numbers it is drawn from.

Lengths are centimetres of the patient; `severity` runs from 0 (just visible) to 1 (extreme). Positions in a lung are
given as (across, down), both 0..1: from the mediastinum to the chest wall, and from the apex to the diaphragm.
"""

from dataclasses import dataclass, fields
from enum import StrEnum

from emixer.data.labels import Label


class Side(StrEnum):
    """The patient's side. Images show the patient's left on the right of the picture."""

    LEFT = "left"
    RIGHT = "right"

    @property
    def sign(self) -> int:
        """Sign of x on the image."""
        return 1 if self is Side.LEFT else -1

    @property
    def other(self) -> "Side":
        return Side.RIGHT if self is Side.LEFT else Side.LEFT


@dataclass(frozen=True)
class Effusion:
    """Fluid in the pleural space: a meniscus that climbs at the chest wall."""

    side: Side
    height_cm: float
    """Height of the fluid at the wall, above the costophrenic angle."""
    severity: float


@dataclass(frozen=True)
class Pneumothorax:
    """Air in the pleural space: a thin white line, nothing but black beyond it."""

    side: Side
    width_cm: float
    """Distance of the pleural line from the chest wall at the apex."""
    severity: float


@dataclass(frozen=True)
class Opacity:
    """A patch of denser lung: consolidation, pneumonia or unspecific haze."""

    side: Side
    across: float
    down: float
    radius_cm: float
    density: float
    """Share of the air that is replaced in its middle."""
    severity: float


@dataclass(frozen=True)
class Lesion:
    """A nodule or mass."""

    side: Side
    across: float
    down: float
    diameter_cm: float
    severity: float
    spiculated: bool


@dataclass(frozen=True)
class Atelectasis:
    """Plate-like bands at a base, with loss of volume: the diaphragm rises."""

    side: Side
    bands: int
    length_cm: float
    volume_loss_cm: float
    """How much the diaphragm is raised."""
    severity: float


@dataclass(frozen=True)
class Edema:
    """Congestion: perihilar haze, thick upper-lobe vessels, Kerley lines."""

    severity: float


@dataclass(frozen=True)
class WideMediastinum:
    """Widening of the upper mediastinum."""

    extra_cm: float
    severity: float


@dataclass(frozen=True)
class Fracture:
    """Displaced ribs: a step and a gap in neighbouring ribs."""

    side: Side
    rib: int
    count: int
    across: float
    severity: float


@dataclass(frozen=True)
class PleuralChange:
    """Thickening at the apex (cap), along the wall, or calcified plaques."""

    kind: str
    """`apical`, `lateral` or `plaques`."""
    side: Side
    thickness_cm: float
    severity: float


@dataclass(frozen=True)
class Device:
    """Something that was put into or onto the patient."""

    kind: str
    """One of DEVICE_KINDS."""
    side: Side
    tip: str
    """Where its tip lies, as the report words it; empty where there is none."""


DEVICE_KINDS = (
    "endotracheal tube",
    "central line",
    "picc",
    "port",
    "pacemaker",
    "nasogastric tube",
    "chest tube",
    "sternal wires",
    "valve",
    "ecg leads",
)


@dataclass(frozen=True)
class Findings:
    """All that is drawn in one study. Empty tuples and None: not there."""

    heart_ratio: float
    """Cardiothoracic ratio on a PA image."""
    cardiomegaly: bool = False
    effusions: tuple[Effusion, ...] = ()
    pneumothorax: Pneumothorax | None = None
    consolidations: tuple[Opacity, ...] = ()
    pneumonias: tuple[Opacity, ...] = ()
    opacities: tuple[Opacity, ...] = ()
    lesions: tuple[Lesion, ...] = ()
    atelectases: tuple[Atelectasis, ...] = ()
    edema: Edema | None = None
    wide_mediastinum: WideMediastinum | None = None
    fracture: Fracture | None = None
    pleural_change: PleuralChange | None = None
    devices: tuple[Device, ...] = ()

    def present(self) -> frozenset[Label]:
        """The labels that hold for the picture, No Finding included where nothing but devices is there."""
        labels = {label for name, label in _LABEL_OF_FIELD.items() if getattr(self, name)}
        if not labels - {Label.SUPPORT_DEVICES}:
            labels.add(Label.NO_FINDING)
        return frozenset(labels)

    def severity(self, label: Label) -> float:
        """0..1 of one label: the worst of its findings, 0 where it is absent."""
        if label is Label.CARDIOMEGALY:
            return min(max((self.heart_ratio - 0.5) / 0.2, 0.0), 1.0) if self.cardiomegaly else 0.0
        name = next((n for n, found in _LABEL_OF_FIELD.items() if found is label), None)
        value = getattr(self, name) if name else None
        if label is Label.SUPPORT_DEVICES:
            return min(len(self.devices) / 4, 1.0)
        items = value if isinstance(value, tuple) else (value,) if value else ()
        return max((float(item.severity) for item in items), default=0.0)


_LABEL_OF_FIELD: dict[str, Label] = {
    "cardiomegaly": Label.CARDIOMEGALY,
    "effusions": Label.PLEURAL_EFFUSION,
    "pneumothorax": Label.PNEUMOTHORAX,
    "consolidations": Label.CONSOLIDATION,
    "pneumonias": Label.PNEUMONIA,
    "opacities": Label.LUNG_OPACITY,
    "lesions": Label.LUNG_LESION,
    "atelectases": Label.ATELECTASIS,
    "edema": Label.EDEMA,
    "wide_mediastinum": Label.ENLARGED_CARDIOMEDIASTINUM,
    "fracture": Label.FRACTURE,
    "pleural_change": Label.PLEURAL_OTHER,
    "devices": Label.SUPPORT_DEVICES,
}
assert set(_LABEL_OF_FIELD) == {f.name for f in fields(Findings)} - {"heart_ratio"}
