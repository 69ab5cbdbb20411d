"""`emixer tune`."""

from emixer.cli.base import setting, stage_command


@stage_command("tune", stage="emixer.stages.tune", requires=("data.shards", "tune.study"))
@setting("--shards", "data.shards")
@setting("--study", "tune.study")
@setting("--resume", "tune.resume")
@setting("--space", "tune.space")
@setting("--num-samples", "tune.num_samples")
@setting("--budget-images", "tune.budget_images")
@setting("--metrics", "tune.metrics")
@setting("--sampler", "tune.sampler")
@setting("--pruner", "tune.pruner")
@setting("--max-concurrent", "tune.max_concurrent")
def command() -> None:
    """Search settings: learning rates and the self-supervision weight alpha, or any others.

    Each trial is an ordinary `emixer train` in STUDY/trials. The same command goes on with a search that was stopped or
    killed: no finished trial is run again, and those that were running go on from their checkpoints. With --resume it
    is an error if there is nothing to go on with.

    \b
    On this machine, around the demo's own values:
      emixer tune --config configs/demo.yaml --shards data/shards --study runs/search \\
          --set train.validate_every_images=1000
    Other settings; the first trial is the config's own values where they lie in the ranges:
      emixer tune ... --space "optim.beta1 float 0 0.9" --space "train.batch_size choice 32 64"
    Trade-offs between two aims:
      emixer tune ... --metrics fid,word_cross_entropy

    Writes best.yaml, which `emixer train --config` takes as it is, report.html and plots.
    """
