"""`emixer study`: a reader study, from drawing its pairs to reading its scores."""

import click

from emixer.cli.base import setting, stage_command
from emixer.cli.group import CONTEXT, CommandGroup


@stage_command(
    "make", stage="emixer.stages.study.make", requires=("study.folder", "study.dataset", "data.shards")
)  # fmt: skip
@setting("--study", "study.folder")
@setting("--dataset", "study.dataset")
@setting("--shards", "data.shards")
@setting("--split", "study.split")
@setting("--pairs", "study.pairs")
@setting("--repeats", "study.repeats")
@setting("--readers", "study.readers")
@setting("--labels", "study.labels")
@setting("--seed", "study.seed")
@setting("--title", "study.title")
def make() -> None:
    """Draw real and generated pairs for readers who do not know which is which.

    Pairs are balanced by label, none is drawn twice, some come twice to each reader, and each reader has an order of
    their own. Images become gray PNG of one size in pixels and bytes; real reports are set as generated ones are. The
    folder holds the blinded items, an empty database of scores, a link for each reader and, for your eyes alone, the
    key. It is written whole or not at all.

    \b
      emixer study make --dataset data/synthetic --shards data/shards --study studies/first
    Four readers, two labels and pairs without a finding:
      emixer study make --dataset data/synthetic --shards data/shards --study studies/second --readers 4 \\
          --pairs 30 --labels "Pleural Effusion,Cardiomegaly,No Finding"
    """


@stage_command("serve", stage="emixer.stages.study.serve", requires=("study.folder",))
@setting("--study", "study.folder")
@setting("--host", "study.host")
@setting("--port", "study.port")
@setting("--url", "study.url")
def serve() -> None:
    """Serve the readers' page. Needs the extra `web`.

    Each reader opens the link that links.csv in the study's folder gives them. Scores survive a killed server, closed
    pages and lost connections. The page is for this machine alone unless --host says otherwise; for readers elsewhere,
    put a proxy with HTTPS in front and give its address as --url (docs/study.md).

    \b
      emixer study serve --study studies/first
      emixer study serve --study studies/first --url https://study.example.org/reading/
    """


@stage_command("report", stage="emixer.stages.study.report", requires=("study.folder",))
@setting("--study", "study.folder")
@setting("--key", "study.key")
@setting("--out", "study.out")
@setting("--resamples", "study.resamples")
def report() -> None:
    """Tell what the readers said: scores, agreement, guesses, comments.

    Mean and standard deviation of real and of synthetic pairs beside the paper's figure 2, their difference, weighted
    kappa between and within readers, the share of right guesses, by label too, with 95 % intervals; as Markdown, CSV,
    LaTeX and a plot. May be given while readers are under way: it says what is missing.

    \b
      emixer study report --study studies/first
    """


@click.group("study", cls=CommandGroup, context_settings=CONTEXT)
def command() -> None:
    """Let readers score real and generated pairs, without knowing which is which: the paper's figure 2."""


for _command in (make, serve, report):
    command.add_command(_command)
