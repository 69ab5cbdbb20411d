"""The value of `--config`: a YAML file, or the name of a config that comes with emixer."""

import glob
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from emixer.cli.completion import UNFINISHED
from emixer.config.packaged import find_config, packaged_configs


class ConfigFile(click.ParamType[Path]):
    """Converts to the path of the file. Whether it can be read is for `load_config` to say."""

    name = "config"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if isinstance(value, Path):
            return value
        path = find_config(value)
        if path.is_dir():
            self.fail(f"{value} is a folder; expected a YAML file, or one of {', '.join(packaged_configs())}.")
        return path

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name) for name in packaged_configs() if name.startswith(incomplete)]
        paths = sorted(glob.glob(f"{glob.escape(incomplete)}*"))  # noqa: PTH207 - keeps a ./ that was typed
        folders = [CompletionItem(f"{path}/", type=UNFINISHED) for path in paths if Path(path).is_dir()]
        return [*names, *folders, *(CompletionItem(path) for path in paths if path.endswith((".yaml", ".yml")))]


CONFIG_FILE = ConfigFile()
