"""PadChest's labels (Bustos et al. 2020, in English as its table has them) -> the 14 CheXpert observations.

A label that stands here for no observation is counted as unmapped. The choice is this project's, from PadChest's own
tree (empyema and hemothorax are pleural effusions, an air bronchogram is a consolidation, fissures are of the pleura)
and from what CheXpert's labeler counts as a mention (heart failure and congestion are edema, healed fractures are
fractures; valves, stents, plates and screws are devices). Where the two differ, the tree counts: granulomas and
metastases are lesions. Signs that only suggest a disease (blunt angles, Kerley lines) stand for none.
"""

from emixer.data.labels import Label

PADCHEST_LABELS: dict[Label, tuple[str, ...]] = {
    Label.ATELECTASIS: (
        "atelectasis", "atelectasis basal", "laminar atelectasis", "lobar atelectasis", "round atelectasis",
        "segmental atelectasis", "total atelectasis",
    ),
    Label.CARDIOMEGALY: ("cardiomegaly",),
    Label.CONSOLIDATION: ("air bronchogram", "consolidation"),
    Label.EDEMA: ("heart insufficiency", "hilar congestion", "pulmonary edema"),
    Label.ENLARGED_CARDIOMEDIASTINUM: ("mediastinal enlargement", "superior mediastinal enlargement"),
    Label.FRACTURE: (
        "callus rib fracture", "clavicle fracture", "fracture", "humeral fracture", "rib fracture",
        "vertebral anterior compression", "vertebral compression", "vertebral fracture",
    ),
    Label.LUNG_LESION: (
        "abscess", "calcified granuloma", "cavitation", "granuloma", "lung metastasis", "mass", "multiple nodules",
        "nodule", "pulmonary mass",
    ),
    Label.LUNG_OPACITY: (
        "air bronchogram", "alveolar pattern", "ground glass pattern", "increased density", "infiltrates",
        "interstitial pattern",
        "miliary opacities", "reticular interstitial pattern", "reticulonodular interstitial pattern",
    ),
    Label.NO_FINDING: ("normal",),
    Label.PLEURAL_EFFUSION: (
        "empyema", "hemothorax", "hydropneumothorax", "loculated fissural effusion", "loculated pleural effusion",
        "pleural effusion",
    ),
    Label.PLEURAL_OTHER: (
        "apical pleural thickening", "calcified pleural plaques", "calcified pleural thickening", "fissure thickening",
        "major fissure thickening", "minor fissure thickening", "pleural plaques", "pleural thickening",
    ),
    Label.PNEUMONIA: ("atypical pneumonia", "pneumonia"),
    Label.PNEUMOTHORAX: ("hydropneumothorax", "pneumothorax"),
    Label.SUPPORT_DEVICES: (
        "aortic endoprosthesis", "artificial aortic heart valve", "artificial heart valve",
        "artificial mitral heart valve", "catheter", "central venous catheter",
        "central venous catheter via jugular vein", "central venous catheter via subclavian vein",
        "central venous catheter via umbilical vein", "chest drain tube", "dai", "double j stent",
        "dual chamber device", "electrical device", "endotracheal tube", "gastrostomy tube", "nephrostomy tube",
        "humeral prosthesis", "nsg tube", "osteosynthesis material",
        "pacemaker", "reservoir central venous catheter", "single chamber device", "tracheostomy tube",
        "ventriculoperitoneal drain tube",
    ),
}  # fmt: skip
"""Observation -> the labels that stand for it, in lower case."""

SAYS_NOTHING = frozenset({"unchanged", "suboptimal study"})
"""Labels of the study, not of what it shows: an image with no other one counts as without labels."""
EXCLUDED = "exclude"
"""Marks images that the collection's makers would leave out."""
