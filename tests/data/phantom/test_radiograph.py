"""What is drawn where: each label against the same anatomy without it."""

from dataclasses import replace

import numpy as np
import pytest

from emixer.data.labels import Label
from emixer.data.phantom.anatomy import Anatomy
from emixer.data.phantom.canvas import Canvas, Frame, Plane
from emixer.data.phantom.chest import Chest
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
from emixer.data.phantom.lateral import render_lateral
from emixer.data.phantom.opacities import diseased_lung
from emixer.data.phantom.radiograph import Exposure, ImageKey, Radiograph, render_frontal
from emixer.data.phantom.randomness import Stream, generator
from emixer.data.phantom.sampling import sample_findings
from emixer.data.phantom.study import Settings, make_study
from emixer.data.phantom.vessels import vessel_thickness

ROWS, COLUMNS = 256, 210
SCALE = ROWS / 40.0
FRAME = Frame(ROWS, COLUMNS, SCALE, -COLUMNS / SCALE / 2, -6.0)
ANATOMY = Anatomy()
HEALTHY = Findings(heart_ratio=0.44)
KEY = ImageKey(seed=3, study=5, image=0)
PACEMAKER = Device("pacemaker", Side.LEFT, "the right ventricle")
COLLAPSE = Pneumothorax(Side.LEFT, 4.0, 0.7)
PATCH = Opacity(Side.RIGHT, across=0.5, down=0.5, radius_cm=3.5, density=0.6, severity=0.6)


def image(findings: Findings, heart_ratio: float | None = None) -> Radiograph:
    return render_frontal(ANATOMY, findings, heart_ratio or findings.heart_ratio, FRAME, Exposure(marker=None), KEY)


def strands(findings: Findings) -> Plane:
    """Thickness of vessels and lines in the lungs [cm]."""
    chest = Chest(Canvas(FRAME), ANATOMY, findings, findings.heart_ratio)
    vessels = vessel_thickness(chest, KEY.generator(Stream.VESSELS))
    return diseased_lung(chest, vessels, KEY.generator(Stream.OPACITIES)).extra


def box(x: tuple[float, float], y: tuple[float, float]) -> np.ndarray:
    """Pixels whose centre lies in a box given in cm."""
    canvas = Canvas(FRAME)
    return (canvas.x >= x[0]) & (canvas.x <= x[1]) & (canvas.y >= y[0]) & (canvas.y <= y[1])


def mean_change(plane: Plane) -> float:
    return float(np.abs(plane).mean())


# label, what is drawn, the box where a radiologist looks [cm], +1 brighter there, 0 brighter in parts, darker in others
CASES = {
    Label.ATELECTASIS: (
        {"atelectases": (Atelectasis(Side.LEFT, 2, 6.0, 1.5, 0.6),)}, (3, 12), (14, 23), 1),
    Label.CARDIOMEGALY: ({"heart_ratio": 0.62, "cardiomegaly": True}, (5, 12), (12, 22), 1),
    Label.CONSOLIDATION: ({"consolidations": (replace(PATCH, density=0.75),)}, (-12, -4), (6, 15), 1),
    Label.EDEMA: ({"edema": Edema(0.7)}, (-10, 10), (5, 19), 1),
    Label.ENLARGED_CARDIOMEDIASTINUM: ({"wide_mediastinum": WideMediastinum(2.0, 0.8)}, (-6.5, 6.5), (2, 12), 1),
    Label.FRACTURE: ({"fracture": Fracture(Side.LEFT, 5, 3, 0.7, 0.8)}, (6, 14), (6, 20), 0),
    Label.LUNG_LESION: ({"lesions": (Lesion(Side.LEFT, 0.5, 0.5, 3.0, 0.6, False),)}, (5, 11), (7, 15), 1),
    Label.LUNG_OPACITY: ({"opacities": (replace(PATCH, side=Side.LEFT, down=0.3),)}, (3, 12), (2, 12), 1),
    Label.PLEURAL_EFFUSION: ({"effusions": (Effusion(Side.RIGHT, 6.0, 0.5),)}, (-14, -4), (16, 26), 1),
    Label.PLEURAL_OTHER: ({"pleural_change": PleuralChange("lateral", Side.LEFT, 1.2, 0.6)}, (9, 15), (4, 24), 1),
    Label.PNEUMONIA: ({"pneumonias": (replace(PATCH, down=0.8),)}, (-12, -2), (11, 21), 1),
    Label.PNEUMOTHORAX: ({"pneumothorax": Pneumothorax(Side.RIGHT, 3.5, 0.6)}, (-14, -3), (0, 21), 0),
    Label.SUPPORT_DEVICES: ({"devices": (PACEMAKER,)}, (-5, 13), (1, 23), 1),
}  # fmt: skip


def test_every_label_has_a_case_here() -> None:
    assert set(CASES) == set(Label) - {Label.NO_FINDING}


@pytest.mark.parametrize("label", CASES, ids=str)
def test_a_label_changes_the_image_where_a_radiologist_would_look(label: Label) -> None:
    changes, x, y, direction = CASES[label]
    findings = replace(HEALTHY, **changes)
    assert findings.present() - {Label.NO_FINDING} == {label}
    difference = image(findings).astype(float) - image(HEALTHY)
    inside = box(x, y)
    assert mean_change(difference[inside]) > 4 * mean_change(difference[~inside])
    assert mean_change(difference[inside]) > 1.0
    brighter, darker = (difference[inside] > 10).mean(), (difference[inside] < -10).mean()
    assert brighter > 0.02
    assert darker < brighter / 2 if direction else darker > 0.02


@pytest.mark.parametrize("side", Side)
def test_an_effusion_brightens_the_costophrenic_angle_of_its_own_side(side: Side) -> None:
    difference = image(replace(HEALTHY, effusions=(Effusion(side, 5.0, 0.4),))).astype(float) - image(HEALTHY)
    right, left = box((-13, -9), (18, 22.5)), box((9, 13), (18.5, 23.5))
    own, other = (left, right) if side is Side.LEFT else (right, left)
    assert difference[own].mean() > 15
    assert abs(difference[other].mean()) < 3


def test_a_larger_effusion_brightens_more_of_the_image() -> None:
    areas = []
    for height_cm in (3.0, 6.0, 10.0):
        wet = image(replace(HEALTHY, effusions=(Effusion(Side.LEFT, height_cm, 0.5),))).astype(int)
        areas.append(np.count_nonzero(wet - image(HEALTHY) > 25))
    assert areas[0] < areas[1] < areas[2]


def test_no_vessels_are_left_beyond_the_pleural_line() -> None:
    collapsed = image(replace(HEALTHY, pneumothorax=COLLAPSE)).astype(float)
    beyond = box((10.0, 11.2), (6, 10))
    assert collapsed[beyond].mean() < image(HEALTHY)[beyond].mean()
    assert strands(HEALTHY)[beyond].max() > 0.5
    assert strands(replace(HEALTHY, pneumothorax=COLLAPSE))[beyond].max() < 1e-3


@pytest.mark.parametrize("heart_ratio", [0.40, 0.48, 0.55, 0.66])
def test_the_cardiothoracic_ratio_measured_on_the_drawn_masks_is_the_factor(heart_ratio: float) -> None:
    chest = Chest(Canvas(FRAME), ANATOMY, replace(HEALTHY, heart_ratio=heart_ratio), heart_ratio)
    y, x = chest.canvas.y, chest.canvas.x
    heart_rows = (y > 13) & (y < chest.dome_y(Side.LEFT))
    heart = (chest.mediastinum > 0.01) & heart_rows
    thorax = (chest.wall_distance > 0) & (y > 2) & (y < chest.anatomy.lung_height)
    measured = np.ptp(x[heart]) / np.ptp(x[thorax])
    assert measured == pytest.approx(heart_ratio, abs=0.012)


def test_findings_survive_being_shrunk_to_64_pixels() -> None:
    def small(findings: Findings) -> np.ndarray:
        return image(findings)[:, :208].reshape(64, 4, 52, 4).mean(axis=(1, 3))

    for label in (Label.PLEURAL_EFFUSION, Label.CARDIOMEGALY, Label.CONSOLIDATION, Label.EDEMA, Label.PNEUMOTHORAX):
        changed = np.abs(small(replace(HEALTHY, **CASES[label][0])) - small(HEALTHY))
        assert changed.max() > 15, label


def test_drawn_lungs_are_darker_than_the_mediastinum_and_the_abdomen() -> None:
    healthy = image(HEALTHY).astype(float)
    lung = healthy[box((-10, -5), (6, 15))].mean()
    assert lung + 60 < healthy[box((-2, 2), (10, 18))].mean()
    assert lung + 60 < healthy[box((-9, -4), (26, 30))].mean()
    assert healthy[box((-16, -15.5), (-6, -5))].mean() < lung


def test_an_image_is_the_same_whenever_it_is_drawn() -> None:
    study = make_study(Settings(seed=1, height_px=96), 7)
    again = make_study(Settings(seed=1, height_px=96), 7)
    assert [f.dicom_id for f in study.images] == [f.dicom_id for f in again.images]
    for one, other in zip(study.images, again.images, strict=True):
        assert np.array_equal(study.render(one), again.render(other))


def test_a_lateral_image_shows_a_large_heart_larger() -> None:
    small, large = (
        render_lateral(ANATOMY, replace(HEALTHY, heart_ratio=ratio), FRAME, Exposure(marker=None), KEY).astype(float)
        for ratio in (0.42, 0.64)
    )
    assert (large - small)[box((-2, 8), (8, 20))].mean() > 5


@pytest.mark.parametrize("height_px", [64, 128, 700])
def test_images_of_any_height_can_be_drawn(height_px: int) -> None:
    study = make_study(Settings(seed=2, height_px=height_px), 0)
    for plan in study.images:
        pixels = study.render(plan)
        assert pixels.dtype == np.uint8
        assert pixels.shape == (plan.frame.rows, plan.frame.columns)
        assert plan.frame.rows <= height_px
        assert np.ptp(pixels) > 150


def test_sampled_findings_carry_the_labels_they_were_asked_for() -> None:
    for number, label in enumerate(set(Label) - {Label.NO_FINDING}):
        findings = sample_findings(frozenset({label}), generator(0, Stream.FINDINGS, number))
        assert findings.present() - {Label.NO_FINDING} == {label}
        assert 0 <= findings.severity(label) <= 1
