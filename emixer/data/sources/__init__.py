"""Raw collections -> one film table: which files, whose, in which split, with which labels. Opens no film."""

from emixer.config.ingest import ImageFolderSource, MimicCxrSource, OpenISource, Source
from emixer.data.sources.collection import Collection, LeftOut
from emixer.data.sources.image_folder import read_image_folder
from emixer.data.sources.mimic_cxr import read_mimic_cxr
from emixer.data.sources.open_i import read_open_i

__all__ = ["Collection", "LeftOut", "read_collection"]


def read_collection(source: Source) -> Collection:
    """Reads and checks the tables of a collection. Raises SourceError naming file, column and row."""
    match source:
        case MimicCxrSource():
            return read_mimic_cxr(source)
        case OpenISource():
            return read_open_i(source)
        case ImageFolderSource():
            return read_image_folder(source)
