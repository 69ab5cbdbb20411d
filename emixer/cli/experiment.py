"""`emixer experiment`: one command for each table of the paper."""

import click

from emixer.cli.base import setting, stage_command
from emixer.cli.group import CONTEXT, CommandGroup

_TABLES = {
    "table1": ("Real + synthetic pairs: classifying images, writing reports.",
               "Trains a classifier and a report generator on R100k and on R100k + S50k to S600k of each method."),
    "table2": ("Real + synthetic pairs: classifying image and report together.",
               "Trains a joint classifier on R100k and on R100k + S300k of each method."),
    "table3": ("Generators trained with 30, 50 and 100 % of the labels.",
               "Trains EMIXER with part of the labels, and the others with all; measures FID and downstream models."),
    "table5": ("COVID-19: from scratch, pretrained on real, pretrained on real + synthetic.",
               "Trains a classifier of four classes on --covid, from three starts."),
    "table9": ("Classifiers trained on synthetic images alone, tested on real ones.",
               "Trains a classifier on R100k, and on S100k of CoGAN, JointGAN and EMIXER."),
    "table10": ("Synthetic images in place of real ones, at one size.",
                "Trains a classifier on R100k, R90k + S10k, ... R20k + S80k of each method."),
    "gain": ("Not in the paper: what synthetic pairs add to few and to many real ones.",
             "Trains a classifier and a report generator on R real pairs alone, and with 1, 3 and 6 synthetic ones for "
             "each, for R of --real: mixed in, learned from first, chosen by a judge, balanced by finding; and on as "
             "many more real pairs, as far as there are."),
    "figures": ("Figures 8 to 12: real samples beside synthetic ones, by their labels.",
                "Draws pairs of EMIXER (or the first of --methods) beside real test images, and grids, as PNG and PDF."),
}  # fmt: skip


def _table_command(name: str) -> click.Command:
    short, what = _TABLES[name]

    def function() -> None: ...

    sizes = "" if name == "gain" else " Sizes are the paper's times --scale."

    function.__doc__ = f"""{short}

    {what}{sizes} Generators are trained and their pairs generated where --out does not hold them yet; every finished
    cell is kept, so the same command goes on after an interruption. Models are chosen on the validation split and
    tested on the test split, whose subjects nothing was trained on.

    \b
    What would be done, and then all of it:
      emixer experiment {name} --config configs/paper.yaml --shards /data/shards --out results --dry-run
      emixer experiment {name} --config configs/paper.yaml --shards /data/shards --out results
    With models that are trained already:
      emixer experiment {name} ... --runs emixer=runs/paper --runs cogan=runs/cogan
    On two cores, with the phantom:
      emixer experiment {name} --config configs/demo.yaml --config configs/experiment-demo.yaml \\
          --shards demo/shards --out demo/experiments
    """
    size = ("--real", "experiment.real_pairs") if name == "gain" else ("--scale", "experiment.scale")
    flags = [("--shards", "data.shards"), ("--out", "experiment.out"), size, ("--seeds", "experiment.seeds"),
             ("--methods", "experiment.methods"), ("--runs", "experiment.runs")]  # fmt: skip
    flags += [("--covid", "experiment.covid")] if name == "table5" else []
    made = function
    for flag, key in reversed(flags):
        made = setting(flag, key)(made)
    return stage_command(
        name, stage="emixer.stages.experiment", preset={"experiment.table": name},
        requires=("data.shards", "experiment.out"),
    )(made)  # fmt: skip


@click.group(name="experiment", cls=CommandGroup, context_settings=CONTEXT)
def command() -> None:
    """Fill a table of the paper, or find out what synthetic pairs add to yours.

    Tables of one --out folder share generators, datasets and results. Each is written there as Markdown, CSV, LaTeX and
    a plot, as mean ± sd over seeds with a 95 % interval by resampling the test subjects.
    """


for _name in _TABLES:
    command.add_command(_table_command(_name), _name)
