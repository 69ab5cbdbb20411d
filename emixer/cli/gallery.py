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
    """Write one self-contained HTML page for a run or a dataset.

    The page is a single file that loads nothing from the network: generated pairs next to real held-out pairs with the
    same labels, a label filter, sample grids over time, loss and validation curves, label faithfulness, and details of
    model and data. It has no patient, study or image ids, but does show real images and reports unless --real false is
    given.

    \b
    For a run, and for a dataset:
      emixer gallery --run runs/first
      emixer gallery --dataset data/synthetic --out synthetic.html
    Without real images and reports, so that the page can be shared:
      emixer gallery --run runs/first --real false
    """
