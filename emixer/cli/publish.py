"""`emixer publish`."""

from emixer.cli.base import setting, stage_command


@stage_command("publish", stage="emixer.stages.publish", requires=("publish.run", "publish.out", "publish.license"))
@setting("--run", "publish.run")
@setting("--checkpoint", "publish.checkpoint")
@setting("--out", "publish.out")
@setting("--license", "publish.license")
@setting("--license-name", "publish.license_name")
@setting("--shards", "data.shards")
@setting("--min-patients", "publish.min_patients")
@setting("--min-token-count", "publish.min_token_count")
@setting("--min-token-patients", "publish.min_token_patients")
@setting("--push", "publish.push")
@setting("--private", "publish.private")
def command() -> None:
    """Write a trained model as a folder that others can load: weights, config, vocabulary, model card.

    The folder holds what drawing pairs needs and nothing else of the run: no training image or report, no metrics by
    label, no paths, no optimizer. Rare combinations of labels, sex, age and view are left out, and rare words refused.
    The network is used only with --push, which needs the extra `hub` and a token (`hf auth login`).

    Weights learned from patients' data fall under the terms of these data. Read README.md in the folder, and complete
    it, before you share it.

    \b
      emixer publish --run runs/first --out published --license cc-by-nc-4.0
      emixer publish --run runs/first --out published --license cc-by-nc-4.0 --push my-lab/emixer-chest
    Whoever has it:
      python -c "import emixer; print(emixer.from_pretrained('my-lab/emixer-chest').sample(num=4))"
    """
