"""What images are built from. They themselves are built where there is an engine: .github/workflows/nightly.yml."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
CONTAINERS = ROOT / "containers"


def build_wheel(source: Path, out: Path) -> set[str]:
    """The names of the files in the wheel of that source folder."""
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, out], cwd=source, capture_output=True, text=True, check=True)
    return set(zipfile.ZipFile(out / done.stdout.split()[-1]).namelist())


def test_what_dockerignore_lets_in_makes_the_whole_wheel_and_is_nothing_but_the_program(tmp_path: Path) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if line and not line.startswith("#")) == "*", "all is kept out, then some let in"
    let_in = [line.removeprefix("!") for line in lines if line.startswith("!")]
    listed = subprocess.run(["git", "ls-files", *let_in], cwd=ROOT, capture_output=True, text=True, check=True)
    names = listed.stdout.splitlines()
    assert {Path(name).suffix for name in names} <= {
        ".py", ".yaml", ".toml", ".lock", ".md", ".sh", ".jinja", ".js", ".css", ".html", ".typed", ""
    }  # fmt: skip
    for name in names:
        copy = tmp_path / "context" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert build_wheel(tmp_path / "context", tmp_path / "a") == build_wheel(ROOT, tmp_path / "b")


def test_both_images_have_one_base_and_one_way_to_install() -> None:
    docker, apptainer = (CONTAINERS / "Dockerfile").read_text(), (CONTAINERS / "emixer.def").read_text()
    bases = set(re.findall(r"^(?:FROM|From:) (\S+)", docker + apptainer, flags=re.MULTILINE))
    assert len(bases) == 1
    assert all("install.sh" in text and "emixer doctor" in text for text in (docker, apptainer))


def test_an_image_has_the_extras_that_need_no_other_system() -> None:
    (extras,) = re.findall(r"emixer\[(.+?)\]", (CONTAINERS / "install.sh").read_text())
    assert set(extras.split(",")) == {"dicom", "web", "hub"}
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE))
    assert {Requirement(text).name for extra in extras.split(",") for text in optional[extra]} <= locked


def test_an_apptainer_reads_and_writes_nothing_of_a_fixed_name_in_the_tmp_that_it_shares_with_other_users() -> None:
    (environment,) = re.findall(r"^%environment\n((?: .*\n)*)", (CONTAINERS / "emixer.def").read_text(), re.MULTILINE)
    assert "/tmp" not in environment


def test_an_image_for_an_unknown_accelerator_is_refused() -> None:
    done = subprocess.run(["sh", CONTAINERS / "install.sh", "tpu"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cpu or cuda, not 'tpu'" in done.stderr
