"""`emixer completion`, and what a shell offers after TAB: values of settings, keys of --set.

Commands and options are completed by click. Its script for bash puts a blank after every word; ours leaves it out where
the word is only the beginning of what has to be typed, such as the key of KEY=VALUE.
"""

from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import BashComplete, CompletionItem, ShellComplete, ZshComplete

from emixer.cli.group import CONTEXT
from emixer.config.settings import Setting, all_settings

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

UNFINISHED = "unfinished"
"""Type of an item after which there is no blank."""

_PROGRAM, _VARIABLE = "emixer", "_EMIXER_COMPLETE"
_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' type value item
    for item in $(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete "$1"); do
        IFS=',' read -r type value <<< "$item"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            unfinished) compopt -o nospace; COMPREPLY+=("$value") ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""
_ZSH = ZshComplete.source_template.replace(
    "        elif [[ \"$type\" == \"dir\" ]]; then",
    "        elif [[ \"$type\" == \"unfinished\" ]]; then\n"
    "            compadd -U -S '' -- \"$key\"\n"
    "        elif [[ \"$type\" == \"dir\" ]]; then",
)  # fmt: skip


class _Bash(BashComplete):
    source_template = _BASH

    def source(self) -> str:  # click's own looks for a bash of at least 4.4, which the shell that asks need not be
        return self.source_template % self.source_vars()


class _Zsh(ZshComplete):
    source_template = _ZSH


_SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh}


@click.command("completion", context_settings=CONTEXT)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
def command(shell: str) -> None:
    """Print the script that lets a shell complete commands, options, paths and the keys of --set.

    \b
    In ~/.bashrc, with bash 4.4 or newer:
      eval "$(emixer completion bash)"
    In ~/.zshrc, below compinit:
      eval "$(emixer completion zsh)"
    """
    root = click.get_current_context().find_root().command
    click.echo(_SHELLS[shell](root, {}, _PROGRAM, _VARIABLE).source(), nl=False)


def complete_setting(setting: Setting) -> Complete:
    """Completes the values that the setting may have, or paths."""
    values = ["true", "false"] if setting.annotation is bool else [str(choice) for choice in setting.choices]

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if setting.annotation is Path:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(value) for value in values if value.startswith(incomplete)]

    return complete


def complete_override(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes the key of KEY=VALUE, one section at a time, since there are hundreds of keys."""
    depth = incomplete.count(".") + 1
    found: dict[str, CompletionItem] = {}
    for setting in all_settings():
        if setting.key.startswith(incomplete):
            names = setting.key.split(".")
            end = "=" if len(names) == depth else "."
            text = ".".join(names[:depth]) + end
            found.setdefault(text, CompletionItem(text, type=UNFINISHED))
    return list(found.values())
