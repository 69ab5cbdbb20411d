#!/usr/bin/env bash
# Pillow turns a TIFF by its orientation tag as it loads it, and no other format.
#
# Expected: as for JPEG and PNG, pixels come as they are stored and the tag (274) says what is left to do, before as after loading.
# Seen: with pillow 13.0.0 a TIFF of orientation 2 (mirrored) opens with that tag, and comes out of load() mirrored already, with the
# tag gone. A PNG with the same tag keeps both. Code that reads the tag when it opens a file, and applies it after decoding, mirrors
# a TIFF twice, which is not at all.
# Why it matters here: left and right of a chest radiograph, e.g. of an image folder whose digitised films are TIFFs.
# 2026-11-30, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pillow==13.0.0' 'numpy==2.4.1'
cat >"$folder/look.py" <<'PYTHON'
import io

import numpy as np
import PIL
from PIL import Image

ORIENTATION, MIRRORED = 274, 2


def opened(kind: str) -> tuple[int, list[list[int]], int]:
    """The tag before loading, the pixels, the tag afterwards."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = MIRRORED
    Image.fromarray(np.array([[10, 20]], np.uint8)).save(buffer, kind, exif=exif)
    image = Image.open(io.BytesIO(buffer.getvalue()))
    before = image.getexif().get(ORIENTATION, 1)
    image.load()
    return before, np.asarray(image).tolist(), image.getexif().get(ORIENTATION, 1)


print(f"pillow {PIL.__version__}: pixels [[10, 20]] stored with orientation {MIRRORED}")
for kind in ("PNG", "TIFF"):
    print(f"{kind}: tag when opened %s, pixels %s, tag when loaded %s" % opened(kind))
raise SystemExit((opened("PNG"), opened("TIFF")) != ((2, [[10, 20]], 2), (2, [[20, 10]], 1)))
PYTHON
"$folder/venv/bin/python" "$folder/look.py"
