#!/usr/bin/env bash
# pydicom reads a VOI lookup table of more than 256 8-bit entries at wrong places.
#
# Expected: a table of 4,096 entries of 8 bits, as a 12-bit radiograph may carry it (DICOM PS3.3 C.11.2.1.1 gives the
# number of entries and their bits apart), maps the pixel value v to entry v.
# Seen: with pydicom 3.0.2 `apply_voi` finds the place in the type of the entries, uint8, so that from 256 on places begin
# again: with entry v = v // 16 the value 300 comes out as 300 % 256 // 16 = 2 instead of 18. Smaller values are right, and
# the same table with 16-bit entries is right throughout.
# Why it matters here: such images would come in with their bright parts folded into the dark ones, without an error.
# 2026-11-28, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pydicom==3.0.2' 'numpy==2.4.1'
cat >"$folder/look.py" <<'PYTHON'
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi

VALUES = np.array([100, 255, 300, 4095], np.uint16)


def mapped(bits: int) -> list[int]:
    item, image = Dataset(), Dataset()
    item.LUTDescriptor = [4096, 0, bits]
    item.LUTData = [place // 16 for place in range(4096)]
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "US"
    image.VOILUTSequence = [item]
    image.BitsStored, image.BitsAllocated, image.PixelRepresentation = 12, 16, 0
    return [int(value) for value in apply_voi(VALUES, image)]


print(f"pydicom {pydicom.__version__}: values {VALUES.tolist()}, entries v // 16")
print(f"8-bit entries:  {mapped(8)}")
print(f"16-bit entries: {mapped(16)}")
raise SystemExit(not (mapped(8) == [6, 15, 2, 15] and mapped(16) == [6, 15, 18, 255]))
PYTHON
"$folder/venv/bin/python" "$folder/look.py"
