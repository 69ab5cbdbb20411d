#!/usr/bin/env bash
# pydicom refuses to apply a window beside an empty VOI LUT Function.
#
# Expected: VOI LUT Function (0028,1056) is of type 3 (DICOM PS3.3 C.11.2), and an element of type 3 without a value means the same
# as one that is not there (PS3.5 7.4.5): the window is linear. Devices and anonymisers blank elements in this way.
# Seen: with pydicom 3.0.2 `apply_windowing` takes the empty text for a function of that name and raises ValueError ("Unsupported
# (0028,1056) VOI LUT Function value ''"). Without the element the same image is mapped.
# Why it matters here: every image of a collection that was blanked so would be taken for damaged.
# 2026-11-30, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pydicom==3.0.2' 'numpy==2.4.1'
cat >"$folder/look.py" <<'PYTHON'
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing

VALUES = np.array([0, 1000, 2000, 4095], np.uint16)


def mapped(**elements: str) -> str:
    image = Dataset()
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsStored, image.BitsAllocated, image.PixelRepresentation = 12, 16, 0
    image.WindowCenter, image.WindowWidth = 1000, 2001
    for name, value in elements.items():
        setattr(image, name, value)
    try:
        return f"mapped to {apply_windowing(VALUES, image).round().tolist()}"
    except ValueError as error:
        return f"ValueError: {error}"


without, empty = mapped(), mapped(VOILUTFunction="")
print(f"pydicom {pydicom.__version__}: values {VALUES.tolist()}, window of 2001 at 1000")
print(f"without the element: {without}")
print(f"with an empty one:   {empty}")
raise SystemExit(not (without.startswith("mapped") and empty.startswith("ValueError: Unsupported (0028,1056)")))
PYTHON
"$folder/venv/bin/python" "$folder/look.py"
