"""`emixer train`."""

from emixer.cli.base import setting, stage_command


@stage_command("train", stage="emixer.stages.train", requires=("data.shards", "train.run"))
@setting("--shards", "data.shards")
@setting("--run", "train.run")
@setting("--images", "train.images")
@setting("--batch-size", "train.batch_size")
@setting("--num-workers", "train.num_workers")
@setting("--precision", "train.precision")
def command() -> None:
    """Train a model on shards; run the same command again to resume.

    Writes a run folder: config.yaml, metrics.jsonl, TensorBoard events, sample grids of pairs, and checkpoints (the
    best by validation.metric, the last and the one before it are kept).

    \b
    In minutes on two CPU cores, with the phantom's shards:
      emixer train --config demo --shards data/shards --run runs/demo
    With 8 GPUs:
      emixer train --config paper --shards /data/shards --run runs/paper \\
          --ray-address auto --num-workers 8 --precision bf16
    With another learning rate:
      emixer train --config demo --set optim.lr_generator=1e-4 --shards ... --run ...
    """
