"""The folder of a dataset when a process is killed between two steps."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from emixer.errors import RunFolderError
from emixer.files import sha256_of, write_json
from emixer.generation.dataset_files import DATA_FOLDER, Layout
from emixer.generation.dataset_folder import DatasetFolder
from emixer.generation.generation_plan import GenerationPlan
from emixer.generation.manifest import MANIFEST_NAME, read_finished_manifest

LAYOUT = Layout(3, rows_per_file=1, rows_per_group=1)


@pytest.fixture
def finished(tmp_path: Path) -> DatasetFolder:
    """A finished dataset of three files, as far as its manifest tells."""
    listed = []
    (tmp_path / DATA_FOLDER).mkdir()
    for name, _ in LAYOUT.files:
        (tmp_path / DATA_FOLDER / name).write_text(name)
        listed.append({"name": f"{DATA_FOLDER}/{name}", "sha256": sha256_of(tmp_path / DATA_FOLDER / name)})
    manifest: dict[str, Any] = {"manifest_version": 1, "complete": True, "settings": {}, "files": listed}
    write_json(tmp_path / MANIFEST_NAME, manifest)
    return DatasetFolder(tmp_path, cast(GenerationPlan, SimpleNamespace(layout=LAYOUT, settings={})))


def test_dataset_that_lost_a_damaged_file_is_not_finished_any_more(
    finished: DatasetFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_finished_manifest(finished.path)
    whole, *damaged = sorted(finished.data.iterdir())
    for path in damaged:
        path.write_text("other bytes")
    unlink = Path.unlink

    def killed_after(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        if path.parent == finished.data:
            raise KeyboardInterrupt

    with monkeypatch.context() as until_killed:
        until_killed.setattr(Path, "unlink", killed_after)
        with pytest.raises(KeyboardInterrupt):
            finished.drop_damaged()
    assert len(list(finished.data.iterdir())) == 2
    with pytest.raises(RunFolderError, match="Run the same `emixer generate` command again to finish it"):
        read_finished_manifest(finished.path)
    finished.drop_damaged()
    assert list(finished.data.iterdir()) == [whole], "the list of files, by which damage is seen, is kept"
    assert json.loads((finished.path / MANIFEST_NAME).read_text()) == before | {"complete": False}


def test_dataset_one_of_whose_files_is_made_again_is_not_finished(finished: DatasetFolder) -> None:
    (finished.data / LAYOUT.files[1][0]).unlink()  # as messages advise
    finished.begin()
    with pytest.raises(RunFolderError, match="is not a finished dataset"):
        read_finished_manifest(finished.path)
