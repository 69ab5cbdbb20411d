"""`emixer gallery`."""

from emixer.cli.base import setting, stage_command


@stage_command("gallery", stage="emixer.stages.gallery")
@setting("--run", "gallery.run")
@setting("--dataset", "gallery.dataset")
@setting("--out", "gallery.out")
@setting("--pairs", "gallery.pairs")
@setting("--real", "gallery.real")
@setting("--checkpoint", "gallery.checkpoint")
@setting("--seed", "gallery.seed")
@setting("--shards", "data.shards")
def command() -> None:
    """Make one HTML page of a run or a dataset.

    The page is a single file that asks nothing of the network: generated pairs beside real held-out ones with the same
    labels, a filter by label, sample grids over time, loss and validation curves, label faithfulness, and the facts of
    model and data. It holds no patient, study or image ids, but real images and reports unless --real false is given.

    \b
    Of a run, and of a dataset:
      emixer gallery --run runs/first
      emixer gallery --dataset data/synthetic --out synthetic.html
    Of a run whose page may leave the house:
      emixer gallery --run runs/first --real false
    """
