"""Raw collections -> one image table: which files, whose, in which split, with which labels. Opens no image."""

from dataclasses import replace

from emixer.config.ingest import (
    BraxSource,
    ChexpertSource,
    ImageFolderSource,
    MimicCxrSource,
    NihCxr14Source,
    OpenISource,
    PadChestSource,
    RsnaPneumoniaSource,
    Source,
    VindrCxrSource,
)
from emixer.data.phantom.collection import RECORD
from emixer.data.sources.brax import read_brax
from emixer.data.sources.chexpert import read_chexpert
from emixer.data.sources.collection import Collection, LeftOut, require_usable_names
from emixer.data.sources.image_folder import read_image_folder
from emixer.data.sources.mimic_cxr import read_mimic_cxr
from emixer.data.sources.nih_cxr14 import read_nih_cxr14
from emixer.data.sources.open_i import read_open_i
from emixer.data.sources.padchest import read_padchest
from emixer.data.sources.rsna_pneumonia import read_rsna_pneumonia
from emixer.data.sources.vindr_cxr import read_vindr_cxr

__all__ = ["Collection", "LeftOut", "read_collection"]


def read_collection(source: Source) -> Collection:
    """Reads and checks the tables of a collection. Raises SourceError naming file, column and row."""
    collection = _read(source)
    require_usable_names(collection.label_names)
    if (source.root / RECORD).exists():
        # whoever reads a table or a card must not take drawn images for images of patients
        return replace(collection, source="phantom")
    return collection


def _read(source: Source) -> Collection:
    match source:
        case MimicCxrSource():
            return read_mimic_cxr(source)
        case OpenISource():
            return read_open_i(source)
        case NihCxr14Source():
            return read_nih_cxr14(source)
        case ChexpertSource():
            return read_chexpert(source)
        case PadChestSource():
            return read_padchest(source)
        case VindrCxrSource():
            return read_vindr_cxr(source)
        case RsnaPneumoniaSource():
            return read_rsna_pneumonia(source)
        case BraxSource():
            return read_brax(source)
        case ImageFolderSource():
            return read_image_folder(source)
