"""`emixer encoder`."""

from emixer.cli.base import setting, stage_command


@stage_command("encoder", stage="emixer.stages.encoder", requires=("data.shards", "encoder.run"))
@setting("--shards", "data.shards")
@setting("--run", "encoder.run")
@setting("--images", "encoder.images")
@setting("--batch-size", "encoder.batch_size")
@setting("--num-workers", "encoder.num_workers")
@setting("--precision", "encoder.precision")
@setting("--uncertain", "encoder.uncertain")
def command() -> None:
    """Train a chest encoder on labelled shards; run the same command again to resume.

    A DenseNet (121 by default) learns to predict the shards' labels from images. Training ends by writing
    encoder.safetensors to the run folder. That one file has three uses: image encoder of the report decoder, features
    for FID, and label classifier for evaluation. Train it on one collection and the generator on another, as the
    paper does.

    \b
    On ChestX-ray14, 8 GPUs:
      emixer ingest nih-cxr14 --root /data/nih-cxr14 --out nih-shards --side-px 128
      emixer encoder --shards nih-shards --run runs/encoder --num-workers 8 --precision bf16
    Then a generator that uses it:
      emixer train --config paper --shards mimic-shards --run runs/paper \\
          --set model.report_decoder.encoder.weights=runs/encoder/encoder.safetensors \\
          --set model.report_decoder.encoder.weights_from=emixer \\
          --set validation.encoder.weights=runs/encoder/encoder.safetensors
    """
