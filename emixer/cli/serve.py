"""`emixer serve`."""

from emixer.cli.base import setting, stage_command


@stage_command("serve", stage="emixer.stages.serve", requires=("serve.run",))
@setting("--run", "serve.run")
@setting("--checkpoint", "serve.checkpoint")
@setting("--host", "serve.host")
@setting("--port", "serve.port")
@setting("--url", "serve.url")
@setting("--draws-per-minute", "serve.draws_per_minute")
@setting("--batch-size", "serve.batch_size")
@setting("--cpus", "serve.cpus")
@setting("--use-gpu", "serve.use_gpu")
def command() -> None:
    """Serve a page on which a trained model draws pairs. Needs the extra `web`.

    Choose labels, seed and temperature and see up to 16 pairs; swap one label or go from one set of labels to another
    with the noise held; download what is shown as PNG or Parquet. Pairs are those that `emixer generate` writes for the
    same seed and labels. Open the printed link: the token at its end keeps others out. The page is served to this
    machine only, unless --host says otherwise; for others, put an HTTPS proxy in front and give its address as --url
    (docs/serve.md).

    \b
      emixer serve --run runs/first
    On a cluster node, reached from your own machine through an SSH tunnel:
      emixer serve --run runs/first --port 8766
      ssh -L 8766:localhost:8766 NODE
    """
