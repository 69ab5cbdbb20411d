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
    """Draw real and generated pairs for a blinded reader study.

    Pairs are balanced by label and drawn without replacement; each reader sees some of them twice, in an order of their
    own. Images become grayscale PNG of one size in pixels and bytes; real reports are formatted like generated ones.
    The folder holds the blinded items, an empty score database, a link for each reader and, for you only, the key. It
    is written atomically.

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

    Each reader opens their link from links.csv in the study folder. Scores survive a killed server, closed pages and
    lost connections. The page is served to this machine only, unless --host says otherwise; for readers elsewhere, put
    an HTTPS proxy in front and give its address as --url (docs/study.md).

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
    """Report the results: scores, agreement, guesses, comments.

    Mean and standard deviation for real and synthetic pairs, next to the paper's figure 2; their difference; weighted
    kappa between and within readers; the share of correct guesses; overall and by label, with 95 % confidence
    intervals. Written as Markdown, CSV, LaTeX and a plot. Can be run while readers are still scoring: it says what is
    missing.

    \b
      emixer study report --study studies/first
    """


@click.group("study", cls=CommandGroup, context_settings=CONTEXT)
def command() -> None:
    """Blinded reader study of real and generated pairs: the paper's figure 2."""


for _command in (make, serve, report):
    command.add_command(_command)
