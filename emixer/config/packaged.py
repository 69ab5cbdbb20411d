"""The configs that come with emixer, by name: `--config demo` works wherever emixer is installed.

They are the files of configs/ at the root of the repository. The wheel holds them as emixer/configs.
"""

from pathlib import Path

_SUFFIX = ".yaml"


def packaged_configs() -> dict[str, Path]:
    """Name, e.g. `demo` or `baselines/cogan`, to file, sorted by name."""
    folder = _folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob(f"*{_SUFFIX}"))}


def find_config(given: str) -> Path:
    """The file of a packaged config if `given` is its name, otherwise the path `given`.

    ./demo is a file of the user's own.
    """
    return packaged_configs().get(given, Path(given))


def packaged_name(missing: Path) -> str | None:
    """The packaged config that is meant by a path such as configs/demo.yaml where there is no such file."""
    written = missing.with_suffix("").as_posix()
    return next((name for name in packaged_configs() if f"/{written}".endswith(f"/{name}")), None)


def _folder() -> Path:
    package = Path(__file__).parents[1]
    in_the_wheel, in_the_repository = package / "configs", package.parent / "configs"
    return in_the_wheel if in_the_wheel.is_dir() else in_the_repository
