"""`emixer`: the list of commands. Each lives in a module of its own that is imported only when it is called."""

import importlib

import click
from click.shell_completion import CompletionItem

from emixer._version import __version__
from emixer.cli.group import CONTEXT, CommandGroup

_COMMANDS = {
    "doctor": ("emixer.cli.doctor", "Check this machine, and say how to fix what is wrong."),
    "demo": ("emixer.cli.demo", "Run the whole pipeline on procedural images: minutes, without data or GPU."),
    "phantom": (
        "emixer.cli.phantom",
        "Write a procedural collection in the layout of MIMIC-CXR-JPG or of another one.",
    ),
    "ingest": ("emixer.cli.ingest", "Convert a raw collection to shards: Parquet, manifest, vocabulary."),
    "encoder": ("emixer.cli.encoder", "Train the chest encoder: features for reports and FID, label classifier."),
    "train": ("emixer.cli.train", "Train a model on shards with Ray Train; resumes automatically."),
    "tune": ("emixer.cli.tune", "Search learning rates, alpha or other settings of training with Ray Tune and Optuna."),
    "generate": ("emixer.cli.generate", "Write a synthetic paired dataset from a trained run."),
    "evaluate": ("emixer.cli.evaluate", "Compare a generated dataset with held-out real images and reports."),
    "audit": ("emixer.cli.audit", "Measure how much of its training data a generated dataset leaks."),
    "experiment": ("emixer.cli.experiment", "Reproduce a table of the paper: what synthetic pairs are worth."),
    "study": ("emixer.cli.study", "Blinded reader study of real and generated pairs: the paper's figure 2."),
    "publish": ("emixer.cli.publish", "Write a trained model as a folder to share; upload it to the Hub if asked."),
    "serve": ("emixer.cli.serve", "Serve a web page that draws pairs from a trained model for chosen labels."),
    "gallery": ("emixer.cli.gallery", "Write one HTML page for a run or a dataset."),
    "completion": ("emixer.cli.completion", "Print the script for completion in bash or zsh."),
}


class _LazyGroup(CommandGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        # click's own would import every command for its help
        return [CompletionItem(name, help=text) for name, (_, text) in _COMMANDS.items() if name.startswith(incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands, in workflow order"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="emixer")
def main() -> None:
    """Synthetic paired chest X-rays and reports: train EMIXER on your images, generate datasets.

    \b
    A first run, from nothing to a dataset:
      emixer phantom  --config demo --out data/phantom
      emixer ingest mimic-cxr --config demo --root data/phantom --out data/shards
      emixer train    --config demo --shards data/shards --run runs/first
      emixer generate --run runs/first --num 1000 --out data/synthetic
      emixer gallery  --run runs/first

    Every stage resumes after an interruption and takes --config FILE, --set KEY=VALUE, --print-config, --dry-run
    and --json. See `emixer COMMAND --help` for details.
    """
