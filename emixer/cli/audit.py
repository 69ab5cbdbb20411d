"""`emixer audit`."""

from emixer.cli.base import setting, stage_command


@stage_command("audit", stage="emixer.stages.audit", requires=("audit.dataset", "data.shards"))
@setting("--dataset", "audit.dataset")
@setting("--shards", "data.shards")
@setting("--run", "audit.run")
@setting("--false-alarm", "audit.false_alarm")
@setting("--pairs", "audit.pairs")
@setting("--show-real", "audit.show_real")
@setting("--measured", "audit.measured")
@setting("--out", "audit.out")
@setting("--use-gpu", "audit.use_gpu")
def command() -> None:
    """Find out how much of its training data a generated dataset gives away.

    Images: are they nearer to training images than held-out ones are, by pixels (also mirrored, shifted, in another
    gray window) and by the features of an encoder? Reports: do they repeat what a single patient's reports say? Can
    one tell from the dataset who was trained on, or what sex and age they have? Names, dates and masks;
    near-duplicates. Held-out images and reports are the control of every figure. Writes audit.json, with a verdict and
    the rows to withhold, and a page.

    \b
      emixer audit --dataset data/synthetic --shards data/shards
    With the chest encoder's features, and the model's own discriminator as a witness:
      emixer audit --dataset data/synthetic --shards data/shards --run runs/first \\
          --set audit.encoder.weights=runs/encoder/encoder.safetensors
    """
