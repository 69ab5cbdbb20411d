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
    """Hyperparameter search: learning rates and the self-supervision weight alpha, or any other settings.

    Each trial is an ordinary `emixer train` in STUDY/trials. The same command resumes a search that was stopped or
    killed: finished trials are not repeated, interrupted ones continue from their checkpoints. With --resume it is an
    error if there is nothing to resume.

    \b
    Around the demo's values:
      emixer tune --config demo --shards data/shards --study runs/search
    Other settings; the first trial uses the config's own values if they lie in the ranges:
      emixer tune ... --space "optim.beta1 float 0 0.9" --space "train.batch_size choice 32 64"
    Trade-offs between two objectives:
      emixer tune ... --metrics label_auc,report_f1

    Writes best.yaml for `emixer train --config`, report.html and plots.
    """
