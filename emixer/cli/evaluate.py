"""`emixer evaluate`."""

from emixer.cli.base import setting, stage_command


@stage_command("evaluate", stage="emixer.stages.evaluate", requires=("evaluate.dataset", "data.shards"))
@setting("--dataset", "evaluate.dataset")
@setting("--shards", "data.shards")
@setting("--split", "evaluate.split")
@setting("--images", "evaluate.images")
@setting("--by", "evaluate.by")
@setting("--inception", "evaluate.inception")
@setting("--rad-dino", "evaluate.rad_dino")
@setting("--chexbert", "evaluate.chexbert")
@setting("--radgraph", "evaluate.radgraph")
@setting("--out", "evaluate.out")
@setting("--use-gpu", "evaluate.use_gpu")
def command() -> None:
    """Compare a generated dataset with held-out real images and reports.

    Images: Fréchet and kernel distance, precision, recall, density and coverage, for each network whose weights are
    given and for each label. Pairs: do images show their labels, and do reports say what the images show? Reports:
    which findings they state, how close they are to real ones with the same labels, how varied they are, how much is
    copied. Every figure is reported next to that of the same number of real images, with the network, the resize and
    the number of images.

    \b
      emixer evaluate --dataset data/synthetic --shards data/shards
    By sex and by age group, if the model was conditioned on them:
      emixer evaluate --dataset data/synthetic --shards data/shards --by sex,age
    With a trained chest encoder, and the Inception network of the literature:
      emixer evaluate --dataset data/synthetic --shards data/shards --inception pt_inception-2015-12-05.pth \\
          --set evaluate.encoder.weights=runs/encoder/encoder.safetensors
    """
