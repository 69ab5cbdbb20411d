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
    """Measure how much of its training data a generated dataset leaks.

    Images: are they closer to training images than held-out images are, by pixels (also mirrored, shifted, or with
    another gray window) and by encoder features? Reports: do they repeat text that only one patient's reports contain?
    Does the dataset allow membership inference, or disclose the sex or age of training patients? Also names, dates,
    de-identification masks and near-duplicates. Held-out images and reports are the control for every figure. Writes
    audit.json, with a verdict and the rows to withhold, and an HTML page.

    \b
    The demo's dataset (`--config demo`: it has too few held-out images for the default limit):
      emixer audit --config demo --dataset data/synthetic --shards data/shards
    With the chest encoder's features and the model's own discriminator:
      emixer audit --dataset data/synthetic --shards data/shards --run runs/first \\
          --set audit.encoder.weights=runs/encoder/encoder.safetensors
    """
