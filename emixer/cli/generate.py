"""`emixer generate`."""

from emixer.cli.base import setting, stage_command


@stage_command("generate", stage="emixer.stages.generate", requires=("generate.run", "generate.out"))
@setting("--run", "generate.run")
@setting("--num", "generate.num")
@setting("--seed", "generate.seed")
@setting("--out", "generate.out")
@setting("--labels", "generate.labels")
@setting("--plan", "generate.plan")
@setting("--sex", "generate.sex")
@setting("--age", "generate.age")
@setting("--view", "generate.view")
@setting("--balance-by", "generate.balance_by")
@setting("--audit", "generate.audit")
@setting("--redraws", "generate.redraws")
@setting("--checkpoint", "generate.checkpoint")
@setting("--image-format", "generate.image_format")
@setting("--temperature", "generate.temperature")
@setting("--batch-size", "generate.batch_size")
@setting("--num-samplers", "generate.num_samplers")
@setting("--use-gpu", "generate.use_gpu")
def command() -> None:
    """Write a synthetic paired dataset from a trained run.

    Images, reports and labels are written as Parquet that the `datasets` library and the Hugging Face hub can open,
    with a dataset card, a contact sheet and a manifest. Row i depends only on the seed, on i, and on its labels and
    conditions, not on the number of samplers or rows. After an interruption, run the same command again: finished
    files are kept and the rest is generated.

    \b
    A thousand pairs with the label distribution of the training images:
      emixer generate --run runs/first --num 1000 --out data/synthetic
    Pneumothorax in every image, or rows listed in a CSV file:
      emixer generate --run runs/first --num 500 --labels Pneumothorax --out data/pneumothorax
      emixer generate --run runs/first --plan plan.csv --out data/planned
    Alternating women and men, with a model trained with model.conditions=[sex, age, view]:
      emixer generate --run runs/first --num 500 --labels Edema --view PA --balance-by sex --out data/edema
    For sharing: pairs that the audit would flag are withheld and redrawn:
      emixer generate --config demo --run runs/first --num 1000 --audit data/shards --out data/audited
    600,000 pairs, on all GPUs there are:
      emixer generate --run runs/paper --num 600_000 --seed 1 --ray-address auto --out /data/synthetic
    """
