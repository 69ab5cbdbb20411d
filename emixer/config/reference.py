"""docs/configuration.md, made from the fields: `make docs` writes it, a test compares it.

python -m emixer.config.reference > docs/configuration.md
"""

from pathlib import Path
from typing import Any

from emixer.config.base import Section
from emixer.config.settings import Setting, all_settings
from emixer.markdown import table_row

_INTRODUCTION = """\
# Configuration

<!-- Written by `make docs` from emixer/config/; edit the fields or emixer/config/reference.py, not this page. -->

All stages share one config: a tree of settings, validated once and then immutable. It is merged in this order; later
entries win:

1. the defaults below, which are the paper's wherever it gives a number;
2. `--config FILE`: YAML with any subset of keys, or a shipped config by name, e.g. `demo`; repeatable, later files win;
3. `--set section.key=value`, repeatable; the value is YAML;
4. the flags of a command. Each is a short name for one key, shown in brackets by `emixer STAGE --help`.

```
emixer train --config demo --set optim.lr_generator=1e-4 --shards data/shards --run runs/first
```

`--print-config` prints the resolved tree as YAML, which `--config` reads back to the same settings. `--dry-run` checks
everything the stage needs and says what it would do, how much, and where. A run folder keeps the resolved tree as
`config.yaml`; a run resumes only with the settings it was started with, and the error names the keys that differ.
Hyperparameter search uses the same dotted keys. Environment variables are never settings, apart from RAY_ADDRESS
(`ray.address`).

## Validation rules

- Unknown keys are rejected, with the nearest valid one as a hint. So are duplicate keys in a file.
- Nothing is coerced: `true` is not 1, `"64"` is not 64, 64.0 is not 64, and no number may be infinite or NaN.
  `train.images: 1e6` is a float in YAML and is rejected; the error says what to write: 1000000, or 1_000_000.
- `1e-4` is a number here. Plain YAML 1.1 parsers read it as text; if other tools read your files, write `1.0e-4`.
- Only `true` and `false` are booleans: `no`, `off` and `yes` are text. So are `010`, `1:30` and `2020-01-01`.
- A section that is empty or has only comments changes nothing. Any other null means what the table says after
  *Default*; `--set KEY=null` returns to it.
- `ingest.source`, `model` and its `report_decoder` have a `kind` with its own keys. Choosing another kind drops the
  previous kind's keys, wherever they came from; keys set together with the new kind, in the same file or by `--set`,
  stay. For `model` and `report_decoder`, keys that both kinds have stay too: `--set model.kind=cogan` turns any config
  into a CoGAN of the same size.
- Relative paths are relative to the working directory, not to the YAML file, and `~` is your home. The resolved config
  has absolute paths, since Ray workers run in other folders.

## All settings

A missing bound means no limit. Units follow the key's suffix: `_px` pixels, `_mb` MiB, `_images` images, `_bytes`
bytes.
"""


def reference() -> str:
    """The whole page as Markdown."""
    sections: dict[tuple[str, type[Section]], list[Setting]] = {}
    for setting in all_settings():
        sections.setdefault((setting.key.rpartition(".")[0], setting.section), []).append(setting)
    return _INTRODUCTION + "".join(_section(path, section, found) for (path, section), found in sections.items())


def _section(path: str, section: type[Section], settings: list[Setting]) -> str:
    """A section shared by several kinds is shown once."""
    title = f"`{path}`" if path else "Top level"
    about = " ".join((section.__doc__ or "").split())
    rows = "".join(_row(setting) for setting in _once(settings))
    kinds, owners = (
        [f"`{tag}`" for tag in dict.fromkeys(tags) if tag]
        for tags in ((setting.kind for setting in settings), (setting.within for setting in settings))
    )
    named = f", kind {', '.join(kinds)}" if kinds else ""
    named += f" of {', '.join(owners)}" if owners else ""
    return (
        f"\n### {title}{named}\n\n{_literal(about)}\n\n"
        f"| key | type and range | default | meaning |\n| --- | --- | --- | --- |\n{rows}"
    )


def _once(settings: list[Setting]) -> list[Setting]:
    """The first of each key."""
    first: dict[str, Setting] = {}
    for setting in settings:
        first.setdefault(setting.key, setting)
    return list(first.values())


def _row(setting: Setting) -> str:
    kind = ", ".join(filter(None, [setting.type_name, setting.bounds])) + (" or null" if setting.optional else "")
    default = "(required)" if setting.required else f"`{_yaml(setting.default)}`"
    cells = [f"`{setting.key.rpartition('.')[2]}`", kind, default, setting.description]
    return table_row(map(_literal, cells)) + "\n"


def _literal(text: str) -> str:
    """Escapes what Markdown would read as markup, outside of `code`."""
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]
    return "`".join(parts)


def _yaml(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int():
            return f"{value:_}" if value >= 10_000 else str(value)
        case tuple():
            return f"[{', '.join(map(_yaml, value))}]"
        case Path():
            return value.as_posix()
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    print(reference(), end="")
