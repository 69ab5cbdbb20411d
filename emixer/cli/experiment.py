"""`emixer experiment`: one command for each table of the paper."""

import click

from emixer.cli.base import setting, stage_command
from emixer.cli.group import CONTEXT, CommandGroup
from emixer.config.experiment import TABLES_OF_OWN_GENERATORS

_TABLES = {
    "table1": ("Real + synthetic pairs: image classifiers and report generators.",
               "Trains a classifier and a report generator on R100k and on R100k + S50k to S600k of each method."),
    "table2": ("Real + synthetic pairs: joint classification of image and report.",
               "Trains a joint classifier on R100k and on R100k + S300k of each method."),
    "table3": ("Generators trained with 30, 50 and 100 % of the labels.",
               "Trains EMIXER with part of the labels, the others with all; measures FID and downstream models."),
    "table5": ("COVID-19: from scratch, pretrained on real, pretrained on real + synthetic.",
               "Trains a four-class classifier on --covid from three initialisations."),
    "table9": ("Classifiers trained on synthetic images alone, tested on real ones.",
               "Trains a classifier on R100k, and on S100k of CoGAN, JointGAN and EMIXER."),
    "table10": ("Real images replaced by synthetic ones, total size fixed.",
                "Trains a classifier on R100k, R90k + S10k, ... R20k + S80k of each method."),
    "gain": ("Not in the paper: what synthetic pairs add to few and to many real ones.",
             "For each R in --real, trains a classifier and a report generator on R real pairs alone and with 1, 3 and "
             "6 synthetic pairs per real one: mixed in, used for pretraining, selected by a judge, or balanced by "
             "finding; and, for comparison, with the same number of additional real pairs, as far as available."),
    "figures": ("Figures 8 to 12: real and synthetic samples side by side, by label.",
                "Draws pairs from EMIXER (or the first of --methods) beside real test images, and grids: PNG and PDF."),
}  # fmt: skip

_AS_MEASURED = """ \\
          --methods emixer --redraw true --seeds 0,1,2,3,4,5 \\
          --set experiment.downstream.images=10000 \\
          --set experiment.downstream.validate_every_images=1000"""
"""How the gains of docs/experiments.md were measured: fewer seeds, or the same real pairs for all, show nothing."""


def _table_command(name: str) -> click.Command:
    short, what = _TABLES[name]

    def function() -> None: ...

    covid, runs = (" --covid /data/covid", "") if name == "table5" else ("", " --runs cogan=runs/cogan")
    sizes, further = " Sizes are the paper's times --scale.", ""
    if name == "gain":
        sizes, further = "", _AS_MEASURED

    function.__doc__ = f"""{short}

    {what}{sizes} Generators and synthetic pairs that are missing from --out are trained and generated first. Finished
    cells are kept, so the same command resumes after an interruption. Models are selected on the validation split and
    tested on the test split, whose subjects are in no training set.

    \b
    A dry run, then the experiment:
      emixer experiment {name} --config paper --shards /data/shards{covid} --out results --dry-run
      emixer experiment {name} --config paper --shards /data/shards{covid} --out results
    With models that are already trained:
      emixer experiment {name} ... --runs emixer=runs/paper{runs}
    On two CPU cores, with the phantom:
      emixer experiment {name} --config demo --config experiment-demo \\
          --shards demo/shards{covid} --out demo/experiments{further}
    """
    size = ("--real", "experiment.real_pairs") if name == "gain" else ("--scale", "experiment.scale")
    flags = [("--shards", "data.shards"), ("--out", "experiment.out"), size, ("--seeds", "experiment.seeds"),
             ("--methods", "experiment.methods"), ("--runs", "experiment.runs")]  # fmt: skip
    if name != "figures":
        flags += [("--generators", "experiment.generators"), ("--redraw", "experiment.redraw")]
    if name in TABLES_OF_OWN_GENERATORS:
        flags += [("--generators-from", "experiment.generators_from")]
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
    """Reproduce a table of the paper, or measure what synthetic pairs add to your real data.

    Tables in one --out folder share generators, datasets and results. Each is written as Markdown, CSV, LaTeX and a
    plot, with mean ± sd over seeds and a 95 % confidence interval from resampling the test subjects.
    """


for _name in _TABLES:
    command.add_command(_table_command(_name), _name)
