"""Which findings a study has: label prevalences and correlations like those of MIMIC-CXR, and the numbers behind each.

Labels come from a Gaussian copula: four latent traits (acuity, congestion, infection, trauma) with loadings for each
label, and a threshold that gives the label its prevalence. Lengths in cm.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from emixer.data.labels import Label
from emixer.data.phantom.findings import (
    Atelectasis,
    Device,
    Edema,
    Effusion,
    Findings,
    Fracture,
    Lesion,
    Opacity,
    PleuralChange,
    Pneumothorax,
    Side,
    WideMediastinum,
)

PREVALENCE: dict[Label, float] = {
    Label.ATELECTASIS: 0.20,
    Label.CARDIOMEGALY: 0.20,
    Label.CONSOLIDATION: 0.05,
    Label.EDEMA: 0.12,
    Label.ENLARGED_CARDIOMEDIASTINUM: 0.03,
    Label.FRACTURE: 0.025,
    Label.LUNG_LESION: 0.035,
    Label.LUNG_OPACITY: 0.20,
    Label.PLEURAL_EFFUSION: 0.24,
    Label.PLEURAL_OTHER: 0.02,
    Label.PNEUMONIA: 0.07,
    Label.PNEUMOTHORAX: 0.05,
    Label.SUPPORT_DEVICES: 0.29,
}
"""Share of studies with the finding beyond doubt. Hedged findings come on top; No Finding is what remains."""

_ACUITY, _CONGESTION, _INFECTION, _TRAUMA = range(4)
_LOADINGS: dict[Label, dict[int, float]] = {
    Label.ATELECTASIS: {_ACUITY: 0.60, _CONGESTION: 0.25},
    Label.CARDIOMEGALY: {_CONGESTION: 0.65, _ACUITY: 0.25},
    Label.CONSOLIDATION: {_INFECTION: 0.65, _ACUITY: 0.30},
    Label.EDEMA: {_CONGESTION: 0.75, _ACUITY: 0.40},
    Label.ENLARGED_CARDIOMEDIASTINUM: {_CONGESTION: 0.35, _TRAUMA: 0.25},
    Label.FRACTURE: {_TRAUMA: 0.60},
    Label.LUNG_LESION: {_INFECTION: 0.10},
    Label.LUNG_OPACITY: {_INFECTION: 0.55, _ACUITY: 0.45},
    Label.PLEURAL_EFFUSION: {_CONGESTION: 0.55, _ACUITY: 0.50},
    Label.PLEURAL_OTHER: {_ACUITY: 0.15},
    Label.PNEUMONIA: {_INFECTION: 0.70},
    Label.PNEUMOTHORAX: {_TRAUMA: 0.45, _ACUITY: 0.35},
    Label.SUPPORT_DEVICES: {_ACUITY: 0.75, _CONGESTION: 0.15},
}

_LINE_TIPS = ("the mid SVC", "the lower SVC", "the cavoatrial junction", "the upper SVC")


@dataclass(frozen=True)
class Traits:
    """What a patient tends to have in all visits: one number for each latent trait, unit variance."""

    values: tuple[float, float, float, float]


def sample_traits(rng: np.random.Generator) -> Traits:
    """Of one patient."""
    a, b, c, d = (float(v) for v in rng.standard_normal(4))
    return Traits((a, b, c, d))


def sample_labels(traits: Traits, rng: np.random.Generator) -> frozenset[Label]:
    """The findings of one visit: 60 % of each trait's variance stays with the patient."""
    stay, change = 0.6**0.5, 0.4**0.5
    latent = [stay * v + change * float(rng.standard_normal()) for v in traits.values]
    chosen = set()
    for label, prevalence in PREVALENCE.items():
        loadings = _LOADINGS[label]
        common = sum(weight * latent[trait] for trait, weight in loadings.items())
        rest = max(1 - sum(weight**2 for weight in loadings.values()), 0.0) ** 0.5
        if common + rest * float(rng.standard_normal()) > NormalDist().inv_cdf(1 - prevalence):
            chosen.add(label)
    return frozenset(chosen)


def sample_findings(labels: frozenset[Label], rng: np.random.Generator, *, subtle: bool = False) -> Findings:
    """Sides, places and sizes for a set of labels. subtle: the small end of each range, for hedged findings."""
    cardiomegaly = Label.CARDIOMEGALY in labels
    wide = _severity(rng, subtle)
    pneumothorax = _pneumothorax(rng, subtle) if Label.PNEUMOTHORAX in labels else None
    return Findings(
        heart_ratio=_heart_ratio(rng, cardiomegaly, subtle),
        cardiomegaly=cardiomegaly,
        effusions=_effusions(rng, subtle) if Label.PLEURAL_EFFUSION in labels else (),
        pneumothorax=pneumothorax,
        consolidations=_opacities(rng, subtle, (3.2, 5.6), (0.50, 0.80), 1) if Label.CONSOLIDATION in labels else (),
        pneumonias=_opacities(rng, subtle, (2.4, 4.4), (0.34, 0.62), 2) if Label.PNEUMONIA in labels else (),
        opacities=_opacities(rng, subtle, (2.4, 4.8), (0.24, 0.42), 2) if Label.LUNG_OPACITY in labels else (),
        lesions=_lesions(rng, subtle) if Label.LUNG_LESION in labels else (),
        atelectases=_atelectases(rng, subtle) if Label.ATELECTASIS in labels else (),
        edema=Edema(_severity(rng, subtle)) if Label.EDEMA in labels else None,
        wide_mediastinum=WideMediastinum(0.9 + 1.5 * wide, wide)
        if Label.ENLARGED_CARDIOMEDIASTINUM in labels
        else None,
        fracture=_fracture(rng, subtle) if Label.FRACTURE in labels else None,
        pleural_change=_pleural_change(rng, subtle) if Label.PLEURAL_OTHER in labels else None,
        devices=_devices(rng, pneumothorax) if Label.SUPPORT_DEVICES in labels else (),
    )


def _severity(rng: np.random.Generator, subtle: bool) -> float:
    return round(float(rng.uniform(0.0, 0.25) if subtle else rng.beta(1.6, 1.9)), 4)


def _side(rng: np.random.Generator, left: float = 0.5) -> Side:
    return Side.LEFT if rng.random() < left else Side.RIGHT


def _heart_ratio(rng: np.random.Generator, cardiomegaly: bool, subtle: bool) -> float:
    if cardiomegaly:
        return round(0.525 + (0.03 if subtle else 0.155) * float(rng.beta(1.4, 2.2)), 4)
    return round(float(np.clip(rng.normal(0.445, 0.024), 0.37, 0.485)), 4)


def _effusions(rng: np.random.Generator, subtle: bool) -> tuple[Effusion, ...]:
    first = _side(rng)
    sides = (Side.RIGHT, Side.LEFT) if rng.random() < 0.4 else (first,)
    severities = [_severity(rng, subtle) for _ in sides]
    return tuple(Effusion(s, round(2.0 + 10.0 * v**1.2, 3), v) for s, v in zip(sides, severities, strict=True))


def _pneumothorax(rng: np.random.Generator, subtle: bool) -> Pneumothorax:
    severity = _severity(rng, subtle)
    return Pneumothorax(_side(rng), round(1.0 + 5.0 * severity, 3), severity)


def _opacities(
    rng: np.random.Generator, subtle: bool, radius: tuple[float, float], density: tuple[float, float], most: int
) -> tuple[Opacity, ...]:
    found = []
    used: set[tuple[Side, int]] = set()
    for _ in range(int(rng.integers(1, most + 1))):
        side = _side(rng)
        zone = int(rng.choice(3, p=[0.2, 0.28, 0.52]))
        if (side, zone) in used:
            continue
        used.add((side, zone))
        severity = _severity(rng, subtle)
        found.append(
            Opacity(
                side=side,
                across=round(float(rng.uniform(0.3, 0.7)), 4),
                down=round((0.22, 0.52, 0.84)[zone] + float(rng.uniform(-0.06, 0.06)), 4),
                radius_cm=round(radius[0] + (radius[1] - radius[0]) * severity, 3),
                density=round(density[0] + (density[1] - density[0]) * severity, 3),
                severity=severity,
            )
        )
    return tuple(found)


def _lesions(rng: np.random.Generator, subtle: bool) -> tuple[Lesion, ...]:
    found = []
    for _ in range(1 if rng.random() < 0.75 else int(rng.integers(2, 5))):
        severity = _severity(rng, subtle)
        side, across, down = _side(rng), float(rng.uniform(0.25, 0.8)), float(rng.uniform(0.15, 0.85))
        diameter = round(0.8 + 4.6 * severity**1.5, 1)
        found.append(Lesion(side, round(across, 4), round(down, 4), diameter, severity, bool(rng.random() < 0.3)))
    return tuple(found)


def _atelectases(rng: np.random.Generator, subtle: bool) -> tuple[Atelectasis, ...]:
    sides = (Side.RIGHT, Side.LEFT) if rng.random() < 0.35 else (_side(rng, 0.6),)
    found = []
    for side in sides:
        severity = _severity(rng, subtle)
        bands = int(rng.integers(1, 3)) + int(severity > 0.5)
        found.append(Atelectasis(side, bands, round(3.5 + 4.5 * severity, 3), round(2.6 * severity, 3), severity))
    return tuple(found)


def _fracture(rng: np.random.Generator, subtle: bool) -> Fracture:
    severity, count = _severity(rng, subtle), int(rng.integers(1, 4))
    return Fracture(_side(rng), int(rng.integers(4, 9)), count, round(float(rng.uniform(0.5, 0.86)), 4), severity)


def _pleural_change(rng: np.random.Generator, subtle: bool) -> PleuralChange:
    severity = _severity(rng, subtle)
    kind = str(rng.choice(["apical", "lateral", "plaques"], p=[0.4, 0.35, 0.25]))
    return PleuralChange(kind, _side(rng), round(0.5 + 1.3 * severity, 3), severity)


def _devices(rng: np.random.Generator, pneumothorax: Pneumothorax | None) -> tuple[Device, ...]:
    """Sets of devices as they occur together: intensive care, after heart surgery, pacemaker, single lines."""
    right = Side.RIGHT
    line = Device("central line", _side(rng, 0.25), str(rng.choice(_LINE_TIPS)))
    leads = (Device("ecg leads", right, ""),) if rng.random() < 0.4 else ()
    setting = rng.choice(5, p=[0.28, 0.20, 0.20, 0.24, 0.08])
    if setting == 0:
        tube = Device("endotracheal tube", right, f"{int(rng.integers(3, 7))} cm above the carina")
        stomach = (Device("nasogastric tube", Side.LEFT, "the stomach"),) if rng.random() < 0.8 else ()
        found = (tube, *stomach, *((line,) if rng.random() < 0.7 else ()), *leads)
    elif setting == 1:
        valve = (Device("valve", Side.LEFT, ""),) if rng.random() < 0.35 else ()
        found = (Device("sternal wires", right, ""), *valve, *((line,) if rng.random() < 0.3 else ()))
    elif setting == 2:
        tip = str(rng.choice(["the right ventricle", "the right atrium and right ventricle"]))
        found = (Device("pacemaker", _side(rng, 0.85), tip),)
    elif setting == 3:
        kind = str(rng.choice(["central line", "picc", "port"]))
        found = (Device(kind, line.side, line.tip), *leads)
    else:
        found = (Device("nasogastric tube", Side.LEFT, "the stomach"), *leads)
    if pneumothorax and rng.random() < 0.5:
        found = (*found, Device("chest tube", pneumothorax.side, ""))
    return found
