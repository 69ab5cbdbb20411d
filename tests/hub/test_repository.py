"""Upload to and download from a Hub that speaks huggingface_hub's protocol on this machine."""

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import emixer
from emixer.cli.main import main
from emixer.errors import CheckpointError, ConfigError, HubError
from emixer.generation.published_model import PUBLISHED_FILES
from emixer.stages.publish import PublishResult
from tests.hub.hub_server import Hub, Repository

NAME = "my-lab/emixer-chest"
Publish = Callable[..., PublishResult]


def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on nobody listens where the Hub is."""
    from huggingface_hub import constants

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}")


def test_a_model_that_was_pushed_by_the_command_is_loaded_by_its_name(
    hub: Hub, trained_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "published"
    command = [sys.executable, "-m", "emixer", "publish", "--run", trained_run, "--out", out, "--license", "mit"]
    pushed = subprocess.run(
        [*command, "--min-token-count", "1", "--min-token-patients", "1", "--push", NAME],
        capture_output=True,
        text=True,
        check=False,
    )
    assert pushed.returncode == 0, pushed.stderr
    assert f"Uploaded: {hub.address}/{NAME}" in pushed.stdout
    repository = hub.repositories[NAME]
    assert repository.private
    assert len(repository.commits) == 1
    files = repository.commits[repository.head]
    assert files == {name: (out / name).read_bytes() for name in PUBLISHED_FILES}  # the card with the name in it
    assert f'emixer.from_pretrained("{NAME}")'.encode() in files["README.md"]

    drawn = emixer.from_pretrained(NAME, device="cpu").sample(["Edema"], num=4, seed=1)
    expected = emixer.load(trained_run, device="cpu").sample(["Edema"], num=4, seed=1)
    np.testing.assert_array_equal(drawn.images, expected.images)
    assert drawn.reports == expected.reports


def test_only_the_four_files_are_sent_and_a_new_version_is_a_commit(hub: Hub, publish: Publish) -> None:
    folder = publish().folder
    (folder / "notes-on-patients.txt").write_text("never")
    emixer.push_to_hub(folder, NAME, private=False)
    (folder / "README.md").write_text((folder / "README.md").read_text() + "\nContact: the lab.\n")
    with pytest.raises(HubError, match=r"there already, and public\. Nothing was sent"):
        emixer.push_to_hub(folder, NAME)
    assert len(hub.repositories[NAME].commits) == 1
    emixer.push_to_hub(folder, NAME, private=False)
    repository = hub.repositories[NAME]
    first, second = repository.commits.values()
    assert not repository.private
    assert set(first) == set(second) == set(PUBLISHED_FILES)
    assert second["README.md"].endswith(b"Contact: the lab.\n")
    sha = next(iter(repository.commits))
    assert emixer.from_pretrained(NAME, revision=sha, device="cpu").label_names[0] == "Atelectasis"


@pytest.mark.parametrize(("name", "message"), [("model.safetensors", "is damaged"), ("README.md", "has no README.md")])
def test_a_damaged_folder_is_not_sent(hub: Hub, publish: Publish, name: str, message: str) -> None:
    folder = publish().folder
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=message):
        emixer.push_to_hub(folder, NAME)
    assert hub.repositories == {}


def test_a_folder_never_touches_the_network(hub: Hub, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was connected")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(emixer.from_pretrained(published, device="cpu").sample(num=2)) == 2
    assert hub.requests == []


def test_what_was_downloaded_is_there_when_the_hub_is_not(
    hub: Hub, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    emixer.push_to_hub(publish().folder, NAME)
    before = emixer.from_pretrained(NAME, device="cpu").sample(["Edema"], num=2)
    unreachable(monkeypatch)
    after = emixer.from_pretrained(NAME, device="cpu").sample(["Edema"], num=2)
    np.testing.assert_array_equal(after.images, before.images)


def test_without_a_token_nothing_is_written_or_sent(
    hub: Hub, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"There is no token .*hf auth login") as told:
        publish(push=NAME)
    assert "kept" not in str(told.value)
    assert not (tmp_path / "published").exists()
    assert hub.requests == []


def test_a_token_that_may_not_write_is_told(hub: Hub, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_somebody_else")
    with pytest.raises(HubError, match=r"refused my-lab/emixer-chest \(HTTP status 403\).*write access"):
        emixer.push_to_hub(publish().folder, NAME)


def test_a_repository_or_a_revision_that_is_not_there_is_told(hub: Hub, publish: Publish) -> None:
    with pytest.raises(HubError, match="The Hub has no repository my-lab/other"):
        emixer.from_pretrained("my-lab/other")
    emixer.push_to_hub(publish().folder, NAME)
    with pytest.raises(HubError, match="has no revision v9"):
        emixer.from_pretrained(NAME, revision="v9")


def test_a_repository_of_something_else_is_told(hub: Hub) -> None:
    hub.repositories["my-lab/bert"] = Repository(False, {"a" * 40: {"config.json": b'{"model_type": "bert"}'}})
    with pytest.raises(CheckpointError, match="is not a published model"):
        emixer.from_pretrained("my-lab/bert")


def test_a_hub_that_cannot_be_reached_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable(monkeypatch)
    with pytest.raises(HubError, match="cannot be reached, and my-lab/emixer-chest was not downloaded"):
        emixer.from_pretrained(NAME)


def test_names_that_cannot_be_and_revisions_of_folders_are_refused(published: Path) -> None:
    with pytest.raises(ConfigError, match="is not the name of a repository"):
        emixer.push_to_hub(published, "just-a-name")
    with pytest.raises(ConfigError, match="Only repositories have revisions"):
        emixer.from_pretrained(published, revision="main")


def test_without_the_extra_the_command_says_how_to_install_it(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not installed
    arguments = ["--run", str(trained_run), "--out", str(tmp_path / "out"), "--license", "mit", "--push", NAME]
    done = CliRunner().invoke(main, ["publish", *arguments])
    assert done.exit_code == 2
    assert "Run `pip install '.[hub]'` in a clone of emixer." in done.stderr
