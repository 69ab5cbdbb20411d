"""`factors.parquet`: one row an image with everything that is true of it. The tables are views of the same rows."""

from typing import Any

import numpy as np
import pyarrow as pa

from emixer.data.labels import CHEXPERT, Label
from emixer.data.phantom.damage import Damage
from emixer.data.phantom.findings import Opacity, Side
from emixer.data.phantom.study import ImagePlan, Study

_PLACED = pa.list_(
    pa.struct(
        [
            ("kind", pa.string()),
            ("side", pa.string()),
            ("across", pa.float32()),
            ("down", pa.float32()),
            ("diameter_cm", pa.float32()),
            ("density", pa.float32()),
        ]
    )
)
_DEVICE = pa.list_(pa.struct([("kind", pa.string()), ("side", pa.string()), ("tip", pa.string())]))


def column_name(label: str) -> str:
    """`Pleural Effusion` -> `pleural_effusion`, as the factor columns are named."""
    return label.lower().replace(" ", "_")


_IDENTITY = (
    "dicom_id",
    "study_id",
    "subject_id",
    "split",
    "projection",
    "view",
    "duplicate_of",
    "damage",
    "report_layout",
)
_TIMES = ("study_date", "study_time")
_PEOPLE = (("sex", pa.string()), ("age_years", pa.int64()))
_COUNTS = ("study_index", "rows", "columns")
_LENGTHS = (
    "cardiothoracic_ratio", "effusion_left_cm", "effusion_right_cm", "pneumothorax_cm", "atelectasis_left_loss_cm",
    "atelectasis_right_loss_cm", "mediastinum_extra_cm", "pleural_thickness_cm", "half_width_cm", "lung_height_cm",
    "fat_cm", "pixels_per_cm", "left_cm", "top_cm", "rotation_deg",
)  # fmt: skip
_WORDS = ("pneumothorax_side", "fracture_side", "pleural_kind", "pleural_side")

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in (*_IDENTITY, *_TIMES)),
        *((name, pa.int64()) for name in _COUNTS),
        *_PEOPLE,
        ("portable", pa.bool_()),
        *((f"true_{column_name(name)}", pa.bool_()) for name in CHEXPERT),
        *((f"stated_{column_name(name)}", pa.int8()) for name in CHEXPERT),
        *((f"severity_{column_name(name)}", pa.float32()) for name in CHEXPERT),
        *((name, pa.float32()) for name in _LENGTHS),
        *((name, pa.string()) for name in _WORDS),
        ("fracture_rib", pa.int64()),
        ("fracture_count", pa.int64()),
        ("opacities", _PLACED),
        ("devices", _DEVICE),
    ]
)
"""Columns of factors.parquet; what they mean stands in docs/phantom.md."""


def factor_row(study: Study, image: ImagePlan, damage: Damage | None) -> dict[str, Any]:
    """One image's row under SCHEMA."""
    return {**_identity(study, image, damage), **_labels(study), **_measures(study, image), **_lists(study)}


def _identity(study: Study, image: ImagePlan, damage: Damage | None) -> dict[str, Any]:
    identity = study.identity
    return {
        "dicom_id": image.dicom_id,
        "study_id": identity.study_id,
        "subject_id": identity.subject_id,
        "split": identity.split,
        "projection": image.projection,
        "view": image.view,
        "duplicate_of": image.duplicate_of or None,
        "damage": str(damage) if damage else None,
        "report_layout": study.report.layout,
        "study_date": identity.study_date,
        "study_time": identity.study_time,
        "study_index": identity.index,
        "rows": image.frame.rows,
        "columns": image.frame.columns,
        "sex": image.anatomy.sex,
        "age_years": image.anatomy.age_years,
        "portable": image.exposure.portable,
    }


def _labels(study: Study) -> dict[str, Any]:
    present = study.findings.present()
    row: dict[str, Any] = {}
    for name, stated in zip(CHEXPERT, study.report.row(), strict=True):
        column = column_name(name)
        row[f"true_{column}"] = Label(name) in present
        row[f"stated_{column}"] = stated
        row[f"severity_{column}"] = study.findings.severity(Label(name))
    return row


def _measures(study: Study, image: ImagePlan) -> dict[str, Any]:
    findings, anatomy, frame = study.findings, image.anatomy, image.frame
    fluid = {side: sum(e.height_cm for e in findings.effusions if e.side is side) for side in Side}
    loss = {side: sum(a.volume_loss_cm for a in findings.atelectases if a.side is side) for side in Side}
    air, fracture, pleura = findings.pneumothorax, findings.fracture, findings.pleural_change
    return {
        "cardiothoracic_ratio": image.heart_ratio,
        "effusion_left_cm": fluid[Side.LEFT],
        "effusion_right_cm": fluid[Side.RIGHT],
        "pneumothorax_cm": air.width_cm if air else 0.0,
        "pneumothorax_side": str(air.side) if air else None,
        "atelectasis_left_loss_cm": loss[Side.LEFT],
        "atelectasis_right_loss_cm": loss[Side.RIGHT],
        "mediastinum_extra_cm": findings.wide_mediastinum.extra_cm if findings.wide_mediastinum else 0.0,
        "pleural_thickness_cm": pleura.thickness_cm if pleura else 0.0,
        "pleural_kind": pleura.kind if pleura else None,
        "pleural_side": str(pleura.side) if pleura else None,
        "fracture_side": str(fracture.side) if fracture else None,
        "fracture_rib": fracture.rib if fracture else None,
        "fracture_count": fracture.count if fracture else None,
        "half_width_cm": anatomy.half_width,
        "lung_height_cm": anatomy.lung_height,
        "fat_cm": anatomy.fat,
        "pixels_per_cm": frame.pixels_per_cm,
        "left_cm": frame.left_cm,
        "top_cm": frame.top_cm,
        "rotation_deg": float(np.degrees(frame.rotation_rad)),
    }


def _lists(study: Study) -> dict[str, Any]:
    findings = study.findings
    patches: list[tuple[str, Opacity]] = [
        *(("consolidation", o) for o in findings.consolidations),
        *(("pneumonia", o) for o in findings.pneumonias),
        *(("opacity", o) for o in findings.opacities),
    ]
    placed = [
        {"kind": kind, "side": str(o.side), "across": o.across, "down": o.down, "diameter_cm": 2 * o.radius_cm,
         "density": o.density}
        for kind, o in patches
    ]  # fmt: skip
    placed += [
        {"kind": "lesion", "side": str(o.side), "across": o.across, "down": o.down, "diameter_cm": o.diameter_cm,
         "density": None}
        for o in findings.lesions
    ]  # fmt: skip
    devices = [{"kind": d.kind, "side": str(d.side), "tip": d.tip} for d in findings.devices]
    return {"opacities": placed, "devices": devices}
