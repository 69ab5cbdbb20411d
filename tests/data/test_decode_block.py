"""Storage that goes away while images are read: nothing is quarantined for it."""

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from emixer.data import decode_block
from emixer.data.decode_block import BlockDecoder
from emixer.data.plan import Workspace, write_aligned
from emixer.data.sources.collection import image_table
from emixer.errors import SourceError

SIDE_PX, NUM = 32, 12
NAMES = [f"p{number % 3}/image-{number}" for number in range(NUM)]


def decoder(root: Path) -> BlockDecoder:
    """Of one planned block; images and reports lie in folders of three patients."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX), dtype=np.uint8)
    for name in NAMES:
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "reports" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / "images" / f"{name}.png")
        (root / "reports" / f"{name}.txt").write_text("FINDINGS: Clear lungs.")
    ids = pa.array(NAMES)
    images = image_table(
        1, dicom_id=ids, study_id=ids, subject_id=ids, split=pa.array(["train"] * NUM),
        image_path=pa.array([f"{name}.png" for name in NAMES]), report_path=pa.array([f"{name}.txt" for name in NAMES]),
        labels=pa.nulls(NUM, pa.list_(pa.int8(), 1)),
    )  # fmt: skip
    workspace = Workspace(root / "out")
    workspace.blocks.mkdir(parents=True)
    write_aligned(workspace.plan_table, images, (0, NUM))
    return BlockDecoder(workspace, root / "images", root / "reports", SIDE_PX, "crop", "drop", has_reports=True)


def failure(decoder: BlockDecoder) -> str:
    """The message of a block that is not decoded, of which nothing may have been written."""
    with pytest.raises(SourceError) as raised:
        decoder.decode(0)
    assert not list(decoder.workspace.blocks.iterdir())
    message = str(raised.value)
    assert "\n" not in message
    assert "image-" not in message, "names of files may be those of patients"
    assert "run the same command again" in message
    return message


@pytest.mark.parametrize("suffix", [".png", ".txt"])
@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ESTALE, "is not available (Stale file handle)"),
        (errno.ENOTCONN, "mounted on every machine"),
        (errno.ETIMEDOUT, "mounted on every machine"),
        (errno.EHOSTDOWN, "mounted on every machine"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "ulimit -n"),
        (errno.ENOMEM, "Free memory"),
    ],
)
def test_file_that_cannot_be_read_for_now_is_not_quarantined(
    number: int, advice: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block, read = decoder(tmp_path), decode_block.read_regular

    def read_regular(path: Path) -> bytes:
        if path.name == f"image-7{suffix}":
            raise OSError(number, os.strerror(number), str(path))
        return read(path)

    monkeypatch.setattr(decode_block, "read_regular", read_regular)
    assert advice.replace("mounted on every machine", "mounted on every machine") in failure(block)
    monkeypatch.undo()
    assert block.decode(0) == NUM


@pytest.mark.parametrize("kind", ["images", "reports"])
@pytest.mark.parametrize("leaves", ["no folder", "an empty mount point", "empty mount points of all folders"])
def test_storage_that_is_gone_with_all_files_is_not_quarantined(kind: str, leaves: str, tmp_path: Path) -> None:
    block = decoder(tmp_path)
    root, away = tmp_path / kind, tmp_path / "away"
    root.rename(away)
    if leaves != "no folder":
        root.mkdir()
    if leaves.endswith("all folders"):
        for folder in away.iterdir():
            (root / folder.name).mkdir()
    assert f"{root} is not available" in failure(block)


def test_block_none_of_whose_images_was_downloaded_is_quarantined(tmp_path: Path) -> None:
    block = decoder(tmp_path)
    for name in NAMES:
        path = tmp_path / "images" / f"{name}.png"
        path.rename(path.with_name(f"another-{path.name}"))
    assert block.decode(0) == NUM
    reasons = pq.read_table(block.workspace.block(0))["image_reason"].to_pylist()
    assert reasons == ["file is missing"] * NUM
