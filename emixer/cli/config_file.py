"""The value of `--config`: a YAML file, or the name of a config that comes with emixer."""

import glob
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from emixer.cli.completion import UNFINISHED
from emixer.config.packaged import find_config, packaged_configs


class ConfigFile(click.Path):
    """Converts to the path of the file. Whether it can be read is for `load_config` to say."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(find_config(value) if isinstance(value, str) else value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name) for name in packaged_configs() if name.startswith(incomplete)]
        paths = sorted(glob.glob(f"{glob.escape(incomplete)}*"))  # noqa: PTH207 - keeps a ./ that was typed
        folders = [CompletionItem(f"{path}/", type=UNFINISHED) for path in paths if Path(path).is_dir()]
        return [*names, *folders, *(CompletionItem(path) for path in paths if path.endswith((".yaml", ".yml")))]


CONFIG_FILE = ConfigFile()
