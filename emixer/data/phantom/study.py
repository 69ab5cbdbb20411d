"""One study: patient, findings, report and images to be rendered. A pure function of (seed, settings, study index)."""

from dataclasses import dataclass, replace

import numpy as np

from emixer.data.labels import Label
from emixer.data.phantom.anatomy import Anatomy, sample_anatomy
from emixer.data.phantom.canvas import Frame
from emixer.data.phantom.findings import Findings, Side
from emixer.data.phantom.lateral import render_lateral
from emixer.data.phantom.radiograph import Exposure, ImageKey, Radiograph, render_frontal
from emixer.data.phantom.randomness import Stream, generator
from emixer.data.phantom.report import Report, write_report
from emixer.data.phantom.sampling import Traits, sample_findings, sample_labels, sample_traits
from emixer.data.phantom.subjects import StudyIdentity, dicom_id, identify
from emixer.data.phantom.wording import HEDGEABLE

_ASPECT = 2500 / 3050
_IMAGE_HEIGHT_CM = 42.7
_AP_HEART = 1.06
"""How much larger the heart appears when the rays come from the front."""
_HEDGED_BUT_DRAWN = 0.6
_VIEW_MISSING = 0.042
"""15,769 of the 377,110 rows of MIMIC-CXR's metadata have no ViewPosition."""


@dataclass(frozen=True)
class ImagePlan:
    """One image that is to be rendered."""

    number: int
    """Position in the study; the random streams of the image hang on it."""
    dicom_id: str
    projection: str
    """How it was taken: PA, AP or LATERAL."""
    view: str
    """ViewPosition in the metadata; empty where it was not recorded."""
    heart_ratio: float
    """Cardiothoracic ratio as it appears; that of the PA image for laterals."""
    anatomy: Anatomy
    frame: Frame
    exposure: Exposure
    duplicate_of: str = ""
    """dicom_id of the image in the same study that this one repeats byte for byte."""


@dataclass(frozen=True)
class Study:
    """Everything about one study but its pixels."""

    seed: int
    identity: StudyIdentity
    findings: Findings
    uncertain: frozenset[Label]
    report: Report
    images: tuple[ImagePlan, ...]

    def render(self, image: ImagePlan) -> Radiograph:
        """The pixels of one image, uint8 (rows, columns)."""
        key = ImageKey(self.seed, self.identity.index, image.number)
        if image.projection == "LATERAL":
            return render_lateral(image.anatomy, self.findings, image.frame, image.exposure, key)
        return render_frontal(image.anatomy, self.findings, image.heart_ratio, image.frame, image.exposure, key)


@dataclass(frozen=True)
class Settings:
    """What a study depends on besides its index."""

    seed: int
    height_px: int = 512
    duplicate_fraction: float = 0.0
    validate_fraction: float = 0.1
    test_fraction: float = 0.1


def make_study(settings: Settings, index: int) -> Study:
    """The study at `index`, the same for any number of studies."""
    seed = settings.seed
    identity = identify(seed, index, settings.validate_fraction, settings.test_fraction)
    subject_rng = generator(seed, Stream.SUBJECT, identity.subject)
    anatomy, traits = sample_anatomy(subject_rng), sample_traits(subject_rng)
    findings, uncertain = _truth(seed, index, traits)
    before = _truth(seed, index - 1, traits)[0] if identity.visit else None
    rng = generator(seed, Stream.IMAGE, index)
    images = _images(rng, settings, index, anatomy, findings)
    views = " and ".join(dict.fromkeys({"LATERAL": "lateral"}.get(f.projection, f.projection) for f in images))
    if images[0].exposure.portable:
        views = "portable AP"
    report = write_report(generator(seed, Stream.REPORT, index), findings, uncertain, before, views)
    return Study(seed, identity, findings, uncertain, report, images)


def _truth(seed: int, index: int, traits: Traits) -> tuple[Findings, frozenset[Label]]:
    """What is drawn, and which labels the report is to be unsure of."""
    rng = generator(seed, Stream.FINDINGS, index)
    labels = sample_labels(traits, rng)
    findings = sample_findings(labels, rng)
    candidates = [label for label, chance in HEDGEABLE.items() if rng.random() < chance and label not in labels]
    hedged = candidates[:2]  # a list: the order of a set differs from process to process, and with it what is drawn
    drawn = frozenset(label for label in hedged if rng.random() < _HEDGED_BUT_DRAWN)
    subtle = sample_findings(drawn, rng, subtle=True)
    return _merge(findings, subtle, drawn), frozenset(hedged)


def _merge(findings: Findings, subtle: Findings, labels: frozenset[Label]) -> Findings:
    """`findings` with the fields of `labels` taken from `subtle`."""
    fields = {
        Label.ATELECTASIS: ("atelectases",),
        Label.CARDIOMEGALY: ("cardiomegaly", "heart_ratio"),
        Label.CONSOLIDATION: ("consolidations",),
        Label.EDEMA: ("edema",),
        Label.ENLARGED_CARDIOMEDIASTINUM: ("wide_mediastinum",),
        Label.LUNG_LESION: ("lesions",),
        Label.PLEURAL_EFFUSION: ("effusions",),
        Label.PLEURAL_OTHER: ("pleural_change",),
        Label.PNEUMONIA: ("pneumonias",),
        Label.PNEUMOTHORAX: ("pneumothorax",),
    }
    names = [name for label in labels for name in fields[label]]
    return replace(findings, **{name: getattr(subtle, name) for name in names})


def _images(
    rng: np.random.Generator, settings: Settings, index: int, anatomy: Anatomy, findings: Findings
) -> tuple[ImagePlan, ...]:
    acute = bool(findings.devices) or findings.edema is not None or len(findings.present()) > 3
    portable = bool(rng.random() < (0.82 if acute else 0.28))
    projections = ["AP"] if portable else ["PA"]
    if rng.random() < (0.12 if portable else 0.80):
        projections.append("LATERAL")
    if rng.random() < 0.07:
        projections.append(projections[0])
    images = [_image(rng, settings, index, k, p, portable, anatomy, findings) for k, p in enumerate(projections)]
    repeated = [
        replace(f, dicom_id=dicom_id(settings.seed, index, 100 + f.number), duplicate_of=f.dicom_id)
        for f in images
        if rng.random() < settings.duplicate_fraction
    ]
    return (*images, *repeated)


def _image(
    rng: np.random.Generator, settings: Settings, index: int, number: int, projection: str, portable: bool,
    anatomy: Anatomy, findings: Findings,
) -> ImagePlan:  # fmt: skip
    inspiration = float(rng.normal(0.90, 0.05) if portable else rng.normal(1.0, 0.025))
    anatomy = replace(anatomy, lung_height=anatomy.lung_height * min(max(inspiration, 0.76), 1.06))
    ratio = findings.heart_ratio * (_AP_HEART if projection == "AP" else 1.0)
    return ImagePlan(
        number=number,
        dicom_id=dicom_id(settings.seed, index, number),
        projection=projection,
        view="" if rng.random() < _VIEW_MISSING else projection,
        heart_ratio=round(ratio, 4),
        anatomy=anatomy,
        frame=_frame(rng, settings.height_px, projection, portable, anatomy),
        exposure=_exposure(rng, portable),
    )


def _frame(rng: np.random.Generator, height_px: int, projection: str, portable: bool, anatomy: Anatomy) -> Frame:
    landscape = bool(rng.random() < (0.16 if portable else 0.06)) and projection != "LATERAL"
    rows = round(height_px * float(rng.uniform(0.94, 1.0)))
    columns = round(rows * _ASPECT * float(rng.uniform(0.95, 1.06)))
    height_cm = _IMAGE_HEIGHT_CM * float(rng.uniform(0.82, 0.98))
    if landscape:
        rows, columns = round(rows * _ASPECT), rows
        height_cm *= _ASPECT
    height_cm /= 1.05 if portable else 1.0
    scale = rows / height_cm
    top = -5.6 + float(rng.normal(0, 0.9)) - 0.25 * (height_cm - anatomy.lung_height - 13)
    left = -columns / scale / 2 + float(rng.normal(0, 0.8 if portable else 0.4))
    turn = float(np.clip(rng.normal(0, 0.035 if portable else 0.014), -0.12, 0.12))
    return Frame(rows, columns, scale, left, max(top, -9.0), turn)


def _exposure(rng: np.random.Generator, portable: bool) -> Exposure:
    shutters = np.where(rng.random(4) < 0.3, rng.uniform(0.2, 1.6, 4), 0.0)
    return Exposure(
        portable=portable,
        brightness=float(rng.normal(0.0, 0.05)),
        contrast=float(np.clip(rng.normal(0.9 if portable else 1.0, 0.09), 0.65, 1.25)),
        noise=float(rng.uniform(0.6, 1.6)),
        collimation_cm=(float(shutters[0]), float(shutters[1]), float(shutters[2]), float(shutters[3])),
        marker=(Side.LEFT if rng.random() < 0.6 else Side.RIGHT) if rng.random() < 0.92 else None,
        marker_y_cm=float(rng.uniform(1.2, 6.0)),
        tilt_rad=float(rng.normal(0, 0.12)),
    )
