"""`emixer doctor`."""

import json
from pathlib import Path

import click

from emixer.cli.group import CONTEXT


@click.command("doctor", context_settings=CONTEXT)
@click.option(
    "--folder", "folders", type=click.Path(path_type=Path), multiple=True, metavar="PATH",
    help="Folder for shards, runs or datasets; repeatable. Default: the current folder.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(folders: tuple[Path, ...], as_json: bool) -> None:
    """Check Python, packages, GPUs, folders, Ray and SLURM, and say how to fix what is wrong.

    Takes about ten seconds and leaves nothing behind. Exits with 1 if something that emixer needs does not work.
    """
    from emixer import doctor
    from emixer.doctor import finding

    found = []
    for one in doctor.examine(folders or (Path.cwd(),)):
        found.append(one)
        if not as_json:
            click.echo(finding.in_words(one))
    click.echo(json.dumps(finding.as_json(found), indent=2) if as_json else f"\n{finding.sum_in_words(found)}")
    if any(one.state is doctor.State.PROBLEM for one in found):
        raise SystemExit(1)
