"""Label vocabularies. A label vector belongs to one of these name lists, which stands in the shards' metadata.

MIMIC-CXR, CheXpert and BRAX carry the 14 CheXpert observations, to which PadChest's labels are mapped; NIH ChestX-ray14
and the Indiana gold labels carry the 14 NIH findings; VinDr-CXR has 28 of its own.
Values in shards: 1 present, 0 absent, -1 uncertain, null not mentioned. An image without any labels has a null vector.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray


class Label(StrEnum):
    """The CheXpert observations by name, for code that means one of them (the phantom draws each)."""

    ATELECTASIS = "Atelectasis"
    CARDIOMEGALY = "Cardiomegaly"
    CONSOLIDATION = "Consolidation"
    EDEMA = "Edema"
    ENLARGED_CARDIOMEDIASTINUM = "Enlarged Cardiomediastinum"
    FRACTURE = "Fracture"
    LUNG_LESION = "Lung Lesion"
    LUNG_OPACITY = "Lung Opacity"
    NO_FINDING = "No Finding"
    PLEURAL_EFFUSION = "Pleural Effusion"
    PLEURAL_OTHER = "Pleural Other"
    PNEUMONIA = "Pneumonia"
    PNEUMOTHORAX = "Pneumothorax"
    SUPPORT_DEVICES = "Support Devices"


CHEXPERT = tuple(label.value for label in Label)
"""Columns of mimic-cxr-2.0.0-chexpert.csv.gz, in its order."""

NIH14: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""Findings of ChestX-ray14 (Wang et al. 2017), in its order."""


VINDR28: tuple[str, ...] = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Clavicle fracture",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Enlarged PA",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Lung cavity",
    "Lung cyst",
    "Mediastinal shift",
    "Nodule/Mass",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    "Rib fracture",
    "Other lesion",
    "COPD",
    "Lung tumor",
    "Pneumonia",
    "Tuberculosis",
    "Other disease",
    "No Finding",
)
"""The 22 local and 6 global labels of VinDr-CXR (Nguyen et al. 2022); its "No finding" under the usual name."""

RESERVED_NAMES = ("image", "report", "seed", "index", "redraws", "withheld_for", "sex", "age", "view", "count")
"""No label may be named so: generated datasets and label plans have columns of these names."""

_NOT_FINDINGS = (Label.NO_FINDING, Label.SUPPORT_DEVICES)


Uncertain = Literal["ignore", "zeros", "ones"]
Unmentioned = Literal["ignore", "zeros"]


@dataclass(frozen=True)
class LabelPolicy:
    """What a label that is uncertain (-1) or not mentioned (null) counts as."""

    uncertain: Uncertain
    unmentioned: Unmentioned

    def resolve(
        self, values_NY: NDArray[np.int8], mentioned_NY: NDArray[np.bool_], names: tuple[str, ...]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """present_NY and known_NY. values: 1, 0 or -1, undefined where not mentioned.

        Where unmentioned labels are ignored, "No Finding" still says something of them: where it is present, findings
        that are not mentioned are absent (support devices are none), and where a finding is present, it is absent.
        """
        uncertain_NY = mentioned_NY & (values_NY == -1)
        present_NY = mentioned_NY & (values_NY == 1)
        if self.uncertain == "ones":
            present_NY = present_NY | uncertain_NY
        known_NY = np.ones_like(mentioned_NY) if self.unmentioned == "zeros" else mentioned_NY.copy()
        if self.uncertain == "ignore":
            known_NY &= ~uncertain_NY
        if self.unmentioned == "ignore" and Label.NO_FINDING in names:
            no_finding = names.index(Label.NO_FINDING)
            findings_Y = np.array([name not in _NOT_FINDINGS for name in names])
            normal_N = mentioned_NY[:, no_finding] & (values_NY[:, no_finding] == 1)
            known_NY |= normal_N[:, None] & ~mentioned_NY & findings_Y
            known_NY[:, no_finding] |= (present_NY & findings_Y).any(1) & ~mentioned_NY[:, no_finding]
        return present_NY.astype(np.uint8), known_NY
