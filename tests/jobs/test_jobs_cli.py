"""`python -m jobs` without SLURM: scripts verbatim, and what is refused before submission."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from emixer.cli.main import main as emixer
from emixer.config import load_config
from jobs.cli import _handed_on, main
from jobs.submit import Job
from tests.processes import wait_until

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    (tmp_path / "shards").mkdir()
    return tmp_path / "shards"


def training(tmp_path: Path, *settings: str) -> list[str]:
    asked = [part for setting in settings for part in ("--set", setting)]
    folder = f"slurm.folder={tmp_path / 'jobs'}"
    return ["train", "--shards", str(tmp_path / "shards"), "--run", str(tmp_path / "run"), "--set", folder, *asked]


def test_script_of_a_plain_job(tmp_path: Path, shards: Path) -> None:
    result = run(*training(tmp_path), "--dry-run")
    assert result.exit_code == 0, result.output
    jobs = tmp_path / "jobs"
    assert (
        result.output
        == f"""\
#!/bin/bash

# Parameters
#SBATCH --comment=emixer:train
#SBATCH --cpus-per-task=4
#SBATCH --job-name=emixer-train
#SBATCH --mem=16384M
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output={jobs}/%j/%j_0_log.out
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=1440
#SBATCH --wckey=submitit

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output {jobs}/%j/%j_%t_log.out --cpus-per-task=4 --kill-on-bad-exit=1 --export=ALL \
{sys.executable} -u -m submitit.core._submit {jobs}/%j
"""
    )


def test_script_of_a_job_with_every_setting(tmp_path: Path, shards: Path) -> None:
    result = run(
        *training(
            tmp_path, "slurm.partition=gpu", "slurm.account=chest", "slurm.qos=long", "slurm.nodes=2",
            "slurm.gpus_per_node=4", "slurm.cpus=32", "slurm.memory_gb=120.5", "slurm.time_min=600",
            "slurm.constraint='a100&nvlink'", "slurm.mail_user=me@site.org", "slurm.warn_s=300",
            "slurm.extra=[--exclusive, '--reservation=next week']", "slurm.setup=['module load cuda']",
            "train.num_workers=8",
        ),
        "--after", "17", "--after", "18", "--dry-run",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    jobs = tmp_path / "jobs"
    assert (
        result.output
        == f"""\
#!/bin/bash

# Parameters
#SBATCH --account=chest
#SBATCH --comment=emixer:train
#SBATCH --constraint='a100&nvlink'
#SBATCH --cpus-per-task=32
#SBATCH --dependency=afterok:17:18
#SBATCH --exclusive
#SBATCH --gpus-per-node=4
#SBATCH --job-name=emixer-train
#SBATCH --mail-type=END,FAIL
#SBATCH --mail-user=me@site.org
#SBATCH --mem=123392M
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output={jobs}/%j/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=long
#SBATCH --requeue
#SBATCH --reservation='next week'
#SBATCH --signal=USR2@300
#SBATCH --time=600
#SBATCH --wckey=submitit

# setup
module load cuda

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output {jobs}/%j/%j_%t_log.out --cpus-per-task=32 --kill-on-bad-exit=1 --export=ALL \
{sys.executable} -u -m submitit.core._submit {jobs}/%j
"""
    )


def test_folder_with_spaces_and_dollars_is_quoted(tmp_path: Path, shards: Path) -> None:
    result = run(*training(tmp_path, f"slurm.folder={tmp_path}/my $HOME"), "--dry-run")
    assert f"#SBATCH --output='{tmp_path}/my $HOME/%j/%j_0_log.out'" in result.output
    assert f"-m submitit.core._submit '{tmp_path}/my $HOME/%j'" in result.output


def test_wckey_of_the_site_takes_the_place_of_submitits(tmp_path: Path, shards: Path) -> None:
    shown = run(*training(tmp_path, "slurm.extra=[--wckey=chest]"), "--dry-run").output
    assert [line for line in shown.splitlines() if "--wckey" in line] == ["#SBATCH --wckey=chest"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["train.num_workers=8", "slurm.gpus_per_node=4"],
            r"train.num_workers=8 need one GPU each, but 1 node(s) x 4 GPU(s) give 4",
        ),
        (["train.use_gpu=true"], "the job requests no GPU"),
        (["train.num_workers=8"], "do not fit on 1 node(s) with 4 CPUs"),
        (["train.num_workers=3"], "cannot be split over 3 worker(s) x 1 micro-batch(es). Use a multiple of 3, e.g. "),
        (["slurm.gres='gpu:a100:2'", "slurm.gpus_per_node=2"], "both request GPUs"),
        (["slurm.gres='shard:2'"], "shards of GPUs, which are not supported. Request a GPU, e.g. gpu:1, or a part"),
        (["slurm.stages={train: {gres: 'shard:a100:2'}}"], "shards of GPUs, which are not supported"),
        (["slurm.gres='gpu:a100:2'", "train.num_workers=8", "slurm.cpus=32"], "1 node(s) x 2 GPU(s) give 2"),
        (["slurm.extra=[--signal=USR1@5]"], "--signal is set by this program"),
        (["slurm.extra=[--mem=1G]"], "--mem is set by this program"),
        (["slurm.extra=[--no-requeue]"], "--no-requeue is set by this program"),
        (["slurm.extra=[--wait]"], "--wait is set by this program"),
        (["slurm.extra=['--gres=gpu:2']"], "slurm.extra: --gres is set by this program"),
        (["slurm.extra=[--clusters=serial]"], "set SLURM_CLUSTERS in the environment instead"),
        (["slurm.folder='/shared/a%u'"], "contains a %"),
        (["slurm.stages={trian: {cpus: 1}}"], "stages.trian: there is no such stage"),
        (["slurm.stages={train: {cpu: 1}}"], "stages.train.cpu: not a setting that can be overridden per stage"),
        (["slurm.stages={train: {cpus: 0}}"], "greater than or equal to 1"),
        (["slurm.time_min=60", "slurm.warn_s=900"], "is too long for time_min=60"),
        (
            ["slurm.time_min=3", "slurm.warn_s=120"],
            "of 180 s, warn_s=120 s are after SLURM's signal, which may come 60 s early; 0 s are left",
        ),
        (["slurm.time_min=2", "slurm.warn_s=30"], "Set time_min to 3 or more"),
        (["slurm.extra=[-p gpu]"], "is not a long sbatch option"),
        (["slurm.local_disk=/a/folder/with/a/rather/long/name"], "would exceed Linux's limit of 107 characters"),
        (["slurm.partion=gpu"], "Did you mean slurm.partition?"),
        (["model.report_decoder.encoder.weights=/nowhere.pt"], "weights=/nowhere.pt does not exist"),
    ],
)
def test_invalid_settings_are_refused_before_submission(
    tmp_path: Path, shards: Path, settings: list[str], message: str
) -> None:
    result = run(*training(tmp_path, *settings), "--dry-run")
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "jobs").exists()


def test_wrong_image_size_is_found_on_the_login_node(tmp_path: Path) -> None:
    images, shards = str(tmp_path / "images"), str(tmp_path / "shards")
    for command in (
        ["phantom", "--studies", "60", "--out", images, "--set", "phantom.height_px=64"],
        ["ingest", "mimic-cxr", "--root", images, "--out", shards, "--side-px", "32", "--min-token-count", "1"],
    ):
        assert CliRunner().invoke(emixer, command).exit_code == 0
    result = run(*training(tmp_path), "--dry-run")
    assert result.exit_code == 2
    assert "model.side_px=128, but the images in" in result.output
    assert run(*training(tmp_path, "model.side_px=32"), "--dry-run").exit_code == 0


def test_inputs_made_by_another_job_need_not_exist_yet(tmp_path: Path) -> None:
    missing = run(*training(tmp_path), "--dry-run")
    assert missing.exit_code == 2
    assert "use --after with the job that will write it" in missing.output
    assert run(*training(tmp_path), "--after", "5", "--dry-run").exit_code == 0


def test_pipeline_passes_on_what_each_stage_makes(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    paths = [f"ingest.source={{kind: mimic-cxr, root: {tmp_path / 'images'}}}", f"ingest.out={tmp_path / 'shards'}",
             f"train.run={tmp_path / 'run'}", f"generate.out={tmp_path / 'made'}"]  # fmt: skip
    arguments = [part for setting in paths for part in ("--set", setting)]
    result = run("pipeline", *arguments, "--stages", "ingest,train,generate,evaluate", "--dry-run")
    assert result.exit_code == 0, result.output
    assert [line for line in result.output.splitlines() if "job-name" in line] == [
        "#SBATCH --job-name=emixer-ingest", "#SBATCH --job-name=emixer-train", "#SBATCH --job-name=emixer-generate",
        "#SBATCH --job-name=emixer-evaluate",
    ]  # fmt: skip
    assert [line for line in result.output.splitlines() if "dependency" in line] == [
        "#SBATCH --dependency='afterok:<job of ingest>'", "#SBATCH --dependency='afterok:<job of train>'",
        "#SBATCH --dependency='afterok:<job of generate>'",
    ]  # fmt: skip
    assert [line for line in result.output.splitlines() if " of 4: " in line] == [
        f"# 1 of 4: ingest, into {tmp_path / 'shards'}", f"# 2 of 4: train, into {tmp_path / 'run'}",
        f"# 3 of 4: generate, into {tmp_path / 'made'}", "# 4 of 4: evaluate",
    ]  # fmt: skip
    assert "# Nothing was submitted" in result.output.splitlines()[-1]
    for folder in ("shards", "run"):  # as made by an earlier pipeline
        (tmp_path / folder).mkdir()
    rest = run("pipeline", *arguments, "--stages", "generate,evaluate", "--dry-run")
    for made in ("data.shards is not set", "generate.run is not set", "evaluate.dataset is not set"):
        assert made not in rest.output
    typo = run("pipeline", *arguments, "--stages", "generate,evaluate", "--set", "generate.run=/typo", "--dry-run")
    assert typo.exit_code == 2
    assert "generate.run=/typo does not exist" in typo.output
    awaited = run("pipeline", *arguments, "--stages", "generate,evaluate", "--after", "7", "--dry-run")
    assert [line for line in awaited.output.splitlines() if "dependency" in line] == [
        "#SBATCH --dependency=afterok:7", "#SBATCH --dependency='afterok:<job of generate>'",
    ]  # fmt: skip
    to_come = ("--set", "generate.run=/to/come", "--stages", "generate,evaluate")
    assert run("pipeline", *arguments, *to_come, "--after", "7", "--dry-run").exit_code == 0, "job 7 may write it"
    wrong = run("pipeline", *arguments, "--stages", "train,ingest", "--dry-run")
    assert "is in the wrong order" in wrong.output
    unknown = run("pipeline", "--stages", "trian", "--dry-run").output
    assert "choose from ingest, encoder, train, generate, evaluate" in unknown


def test_pipeline_jobs_may_request_different_nodes_and_pass_on_the_encoder(tmp_path: Path, shards: Path) -> None:
    asked = ["slurm.gpus_per_node=4", "slurm.stages={encoder: {gpus_per_node: 1, partition: small}}"]
    paths = [f"data.shards={shards}", f"encoder.run={tmp_path / 'eyes'}", f"train.run={tmp_path / 'run'}"]
    arguments = [part for setting in [*asked, *paths] for part in ("--set", setting)]
    shown = run("pipeline", *arguments, "--stages", "encoder,train", "--dry-run")
    assert shown.exit_code == 0, shown.output
    encoder, train = shown.output.split("#!/bin/bash")[1:]
    assert "--gpus-per-node=1\n" in encoder
    assert "--partition=small\n" in encoder
    assert "--gpus-per-node=4\n" in train
    assert "--partition" not in train
    trained = _handed_on(load_config([], [*asked, *paths]), ["encoder", "train"])
    assert trained.validation.encoder is not None
    assert trained.validation.encoder.weights == tmp_path / "eyes" / "encoder.safetensors"


def test_experiments_and_evaluations_can_be_jobs(tmp_path: Path, shards: Path) -> None:
    common = ("--shards", str(shards), "--set", f"slurm.folder={tmp_path / 'jobs'}", "--dry-run")
    table = run("experiment", "table9", "--out", str(tmp_path / "tables"), *common)
    assert table.exit_code == 0, table.output
    assert "#SBATCH --job-name=emixer-experiment" in table.output
    small = run(
        "experiment", "table9", "--out", str(tmp_path / "tables"), "--set", "experiment.cpus_per_cell=8", *common
    )
    assert "experiment.cpus_per_cell=8 is more than a node has (slurm.cpus=4)" in small.output
    table5 = ("experiment", "table5", "--out", str(tmp_path / "tables"), *common)
    assert "experiment.covid is not set" in run(*table5).output
    assert "experiment.covid=/typo does not exist" in run(*table5, "--covid", "/typo").output
    given = run("experiment", "table9", "--out", str(tmp_path / "tables"), "--runs", "emixer=/typo", *common)
    assert "experiment.runs=/typo does not exist" in given.output
    paper = run("experiment", "table9", "--config", "paper", "--out", str(tmp_path / "tables"), *common)
    assert "densenet121-nih.pt does not exist" in paper.output
    none = run("evaluate", "--dataset", str(tmp_path / "made"), *common)
    assert f"evaluate.dataset={tmp_path / 'made'} does not exist" in none.output


def test_only_an_experiment_that_trains_needs_room_and_encoders_for_it(tmp_path: Path, shards: Path) -> None:
    """Table 3 needs three models of EMIXER."""

    def table3(*settings: str, runs: tuple[str, ...] = ("emixer", "emixer-30", "emixer-50")) -> Result:
        given = [part for name in runs for part in ("--runs", f"{name}={tmp_path}")]
        asked = [part for setting in settings for part in ("--set", setting)]
        where = ("--out", str(tmp_path / "tables"), "--shards", str(shards), "--set", f"slurm.folder={tmp_path}/jobs")
        return run("experiment", "table3", "--methods", "emixer", *where, *given, *asked, "--dry-run")

    large = ("train.num_workers=8", "slurm.gpus_per_node=1")
    assert table3(*large).exit_code == 0, table3(*large).output
    assert "train.num_workers=8 need one GPU each" in table3(*large, runs=("emixer", "emixer-50")).output
    assert "train.num_workers=8 need one GPU each" in table3(*large, "experiment.generators=3").output
    no_weights = "model.report_decoder.encoder.weights=/nowhere.pt"
    assert table3(no_weights).exit_code == 0
    assert "encoder.weights=/nowhere.pt does not exist" in table3(no_weights, runs=("emixer",)).output
    judged = table3("validation.encoder.weights=/nowhere.pt")
    assert judged.exit_code == 2
    assert "validation.encoder.weights=/nowhere.pt does not exist" in judged.output


def test_results_that_could_not_be_written_are_refused_before_the_queue(tmp_path: Path, shards: Path) -> None:
    """Also those that are kept beside the shards, which are often someone else's."""
    taken = tmp_path / "file"
    taken.touch()
    jobs = ("--set", f"slurm.folder={tmp_path / 'jobs'}", "--dry-run")
    trained = run("train", "--shards", str(shards), "--run", str(taken / "run"), *jobs)
    assert trained.exit_code == 2
    assert f"train.run: Cannot write {taken / 'run'}" in trained.output
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    for stage, what, key in (("evaluate", "features", "evaluate.features"), ("audit", "measured", "audit.measured")):
        arguments = (stage, "--dataset", str(dataset), "--shards", str(shards), *jobs)
        assert run(*arguments).exit_code == 0
        beside = shards.with_name(f"{shards.name}-{what}")
        beside.touch()
        refused = run(*arguments)
        beside.unlink()
        assert refused.exit_code == 2
        assert f"{key}: Cannot write {beside}" in refused.output
        assert f"Or set {key} to another folder." in refused.output


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        ("evaluate", "evaluate.encoder"), ("evaluate", "validation.encoder"), ("audit", "audit.encoder"),
        ("audit", "validation.encoder"), ("generate", "audit.encoder"), ("generate", "validation.encoder"),
    ],
)  # fmt: skip
def test_weights_of_encoders_that_measure_are_looked_for_before_the_queue(
    tmp_path: Path, shards: Path, stage: str, key: str
) -> None:
    (tmp_path / "made").mkdir()
    given = {
        "generate": ("--run", str(tmp_path / "made"), "--out", str(tmp_path / "out"), "--audit", str(shards)),
    }.get(stage, ("--dataset", str(tmp_path / "made"), "--shards", str(shards)))
    jobs = ("--set", f"slurm.folder={tmp_path / 'jobs'}", "--dry-run")
    weights = tmp_path / "encoder.safetensors"
    refused = run(stage, *given, "--set", f"{key}.weights={weights}", *jobs)
    assert refused.exit_code == 2
    assert f"{key}.weights={weights} does not exist" in refused.output
    weights.touch()
    assert run(stage, *given, "--set", f"{key}.weights={weights}", *jobs).exit_code == 0


@pytest.mark.parametrize(
    ("stage", "section"),
    [
        ("generate", "generate"), ("generate", "audit"), ("evaluate", "evaluate"), ("audit", "audit"),
        ("experiment", "experiment"), ("experiment", "generate"),
    ],
)  # fmt: skip
def test_stage_that_is_to_use_a_gpu_must_request_one(tmp_path: Path, shards: Path, stage: str, section: str) -> None:
    """A section of another stage counts where the stage does that work too: screening, and generators of a table."""
    made = tmp_path / "made"
    made.mkdir()
    arguments = {
        "generate": ("generate", "--run", str(made), "--out", str(tmp_path / "out"), "--audit", str(shards)),
        "experiment": ("experiment", "table9", "--out", str(tmp_path / "tables"), "--shards", str(shards)),
    }.get(stage, (stage, "--dataset", str(made), "--shards", str(shards)))
    asked = ("--set", f"slurm.folder={tmp_path / 'jobs'}", "--set", f"{section}.use_gpu=true", "--dry-run")
    refused = run(*arguments, *asked)
    assert refused.exit_code == 2
    assert f"{section}.use_gpu=true, but the job requests no GPU. Set slurm.gpus_per_node or slurm.gres" in " ".join(
        refused.output.split()
    )
    for request in ("slurm.gpus_per_node=1", "slurm.gres='gpu:a100:1'", f"{section}.use_gpu=false"):
        result = run(*arguments, *asked, "--set", request)
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("stage", [["train"], ["generate"], ["ingest", "mimic-cxr"], ["experiment", "table1"]])
def test_examples_in_the_help_are_jobs_with_options_that_jobs_have(stage: list[str]) -> None:
    text = run(*stage, "--help").stdout
    assert f"    python -m jobs {' '.join(stage)} --" in text
    assert "    emixer " not in text
    assert "--ray-address" not in text


def test_array_has_a_job_and_a_folder_for_every_combination(tmp_path: Path, shards: Path) -> None:
    result = run(*training(tmp_path), "--array", "seed=0,1", "--array", "loss.alpha=0.5,1e-1", "--at-once", "3",
                 "--dry-run")  # fmt: skip
    assert result.exit_code == 0, result.output
    jobs, base = tmp_path / "jobs", tmp_path / "run"
    assert (
        result.output
        == f"""\
# seed=0,alpha=0.5: {base}/seed=0,alpha=0.5
# seed=0,alpha=0.1: {base}/seed=0,alpha=0.1
# seed=1,alpha=0.5: {base}/seed=1,alpha=0.5
# seed=1,alpha=0.1: {base}/seed=1,alpha=0.1
#!/bin/bash

# Parameters
#SBATCH --array=0-3%3
#SBATCH --comment=emixer:train
#SBATCH --cpus-per-task=4
#SBATCH --job-name=emixer-train
#SBATCH --mem=16384M
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output={jobs}/%A_%a/%A_%a_0_log.out
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=1440
#SBATCH --wckey=submitit

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output {jobs}/%A_%a/%A_%a_%t_log.out --cpus-per-task=4 --kill-on-bad-exit=1 --export=ALL \
{sys.executable} -u -m submitit.core._submit {jobs}/%j
"""
    )


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (["sed=1,2"], "there is no setting sed. Did you mean seed?"),
        (["seed"], "has no values. Write KEY=V1,V2"),
        (["seed="], "has no values"),
        (["seed=1,[2"], "is not a valid YAML value"),
        (["seed=1,2", "seed=3"], "names seed twice"),
        (["seed=1,1"], "two jobs would write to 'seed=1'"),
        (["seed=1,-2"], "seed: must be greater than or equal to 0"),
        (["train.run=a,b"], "each job gets its own subfolder"),
        (["slurm.cpus=2,4"], "all jobs of an array share the `slurm` settings"),
        ([f"seed={','.join(map(str, range(1001)))}"], "gives 1,001 jobs; the limit is 1,000"),
    ],
)
def test_invalid_array_is_refused(tmp_path: Path, shards: Path, axes: list[str], message: str) -> None:
    result = run(*training(tmp_path), *(part for axis in axes for part in ("--array", axis)), "--dry-run")
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_array_labels_are_distinct_for_lists_paths_and_keys_with_equal_endings(tmp_path: Path, shards: Path) -> None:
    """Keys with equal endings keep their full names; a path is named by its last part; brackets keep a list whole."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    result = run(*training(tmp_path), "--array", f"data.shards={tmp_path / 'a'},{tmp_path / 'b'}/",
                 "--array", "generate.labels=[Edema, Fracture],[]", "--array", "generate.seed=3", "--array", "seed=4",
                 "--dry-run")  # fmt: skip
    assert result.exit_code == 0, result.output
    labels = [line.split(": ")[0][2:] for line in result.output.splitlines() if line.startswith("# shards")]
    assert labels[0] == "shards=a,labels=Edema-Fracture,generate.seed=3,seed=4"
    assert len(set(labels)) == 4


def test_missing_slurm_error_names_the_local_executor(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = run(*training(tmp_path))
    assert result.exit_code == 2
    assert "--executor local" in result.output


def test_dry_run_imports_neither_torch_nor_ray(tmp_path: Path, shards: Path) -> None:
    program = (
        "import sys; from jobs.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(sorted({'torch', 'ray', 'pyarrow', 'pandas'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *training(tmp_path), "--dry-run"], capture_output=True, text=True, cwd=ROOT,
        check=True,
    )  # fmt: skip
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_local_executor_runs_the_stage_in_its_own_process(tmp_path: Path, shards: Path) -> None:
    """The stage's error about these empty shards comes back the same way as from a node."""
    command = [sys.executable, "-m", "jobs", *training(tmp_path), "--executor", "local"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    job = shown.split("job ")[1].split()[0]
    folder = str(tmp_path / "jobs")
    wait_until(lambda: "failed" in run("status", "--folder", folder).output, 180)
    status = run("status", "--folder", folder).output
    assert f"{tmp_path / 'shards'} holds no shards (no manifest.json)" in status
    assert job in status
    assert "Error: " in run("logs", job, "--folder", folder).output


def test_local_job_is_cancelled_and_a_second_job_on_its_folder_is_refused(tmp_path: Path, tiny_shards: Path) -> None:
    (tmp_path / "shards").symlink_to(tiny_shards)
    command = [sys.executable, "-m", "jobs", *training(tmp_path, "model.side_px=32", "train.batch_size=16",
               "train.log_every_images=32"), "--executor", "local"]  # fmt: skip
    job = (
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split("job ")[1].split()[0]
    )
    folder = str(tmp_path / "jobs")
    assert "running" in run("status", "--folder", folder).output
    assert Job.load(tmp_path / "jobs" / job).host == socket.gethostname()
    again = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert again.returncode == 2
    assert f"Job {job} (running) already writes to" in again.stderr
    later = subprocess.run([*command, "--after", "5"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert later.returncode == 2
    many = subprocess.run([*command, "--array", "seed=1,2"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert many.returncode == 2
    assert "run the commands one after the other" in many.stderr
    assert run("cancel", job, "--folder", folder).output.startswith(f"Cancelled job {job}")
    for _ in range(100):
        if "running" not in run("status", "--folder", folder).output:
            break
        time.sleep(0.2)
    assert "gone" in run("status", "--folder", folder).output
    assert "nothing to cancel here" in run("cancel", job, "--folder", folder).output


def test_local_job_of_another_machine_is_neither_gone_nor_joined_by_a_second_one(tmp_path: Path, shards: Path) -> None:
    """Login nodes share a home folder: the process of a job is on one of them."""
    folder = tmp_path / "jobs" / "7"
    folder.mkdir(parents=True)
    Job("7", "train", "local", str(folder), str(tmp_path / "run"), (), time.time(), host="login2").save()
    where = ("--folder", str(tmp_path / "jobs"))
    assert "unknown" in run("status", *where).output
    assert "on login2: run status there" in run("status", *where).output
    assert "runs on another machine: nothing to cancel here" in run("cancel", "7", *where).output
    refused = run(*training(tmp_path), "--executor", "local")
    assert refused.exit_code == 2
    said = " ".join(refused.output.split())
    assert f"Job 7 on login2 may still be writing to {tmp_path / 'run'}." in said
    assert f"delete {folder}" in said


@pytest.mark.parametrize(
    ("visible", "request_of_job", "given"),
    [
        (None, "slurm.gpus_per_node=2", "0,1"), ("3,5", "slurm.gpus_per_node=1", "3"),
        ("3,5", "slurm.gres='gpu:a100:2'", "3,5"), ("GPU-8932f937, GPU-1a2b", "slurm.gpus_per_node=1", "GPU-8932f937"),
        ("3", "slurm.gpus_per_node=0", ""),
    ],
)  # fmt: skip
def test_local_job_sees_as_many_of_the_users_gpus_as_it_requests(
    tmp_path: Path, shards: Path, visible: str | None, request_of_job: str, given: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    command = [sys.executable, "-m", "jobs", *training(tmp_path, request_of_job), "--executor", "local"]
    submitted = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    job = submitted.stdout.split("job ")[1].split()[0]  # a local job's id is that of its process
    of_job = Path("/proc", job, "environ").read_text().split("\0")
    run("cancel", job, "--folder", str(tmp_path / "jobs"))
    assert f"CUDA_VISIBLE_DEVICES={given}" in of_job


@pytest.mark.parametrize("visible", ["3", "3,-1,5", ""])
def test_local_job_that_requests_more_gpus_than_are_visible_is_refused(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    refused = run(*training(tmp_path, "slurm.gpus_per_node=2"), "--executor", "local")
    assert refused.exit_code == 2
    shown = f"requests 2 GPU(s), but CUDA_VISIBLE_DEVICES={visible} shows {1 if visible else 0}. Change it, or lower"
    assert shown in " ".join(refused.output.split())


def test_unknown_job_is_answered_with_where_to_look(tmp_path: Path) -> None:
    result = run("logs", "12", "--folder", str(tmp_path))
    assert result.exit_code == 2
    assert "`python -m jobs status` lists them" in result.output
    shown = run("status", "--folder", str(tmp_path)).output
    assert shown == f"No jobs.\nLooked in {tmp_path}; give another folder with --config or --folder.\n"


def test_jobs_are_found_by_the_config_they_were_submitted_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # the recorded ends of the jobs are enough
    (tmp_path / "site.yaml").write_text(f"slurm:\n  folder: {tmp_path / 'kept'}\n")
    for number in range(25):
        folder = tmp_path / "kept" / str(number)
        folder.mkdir(parents=True)
        Job(str(number), "ingest", "slurm", str(folder), None, (), 1000.0 + number).save()
        (tmp_path / "kept" / "cluster" / str(number)).mkdir(parents=True)
        state = {"state": "finished", "summary": f"the end of {number}"}
        (tmp_path / "kept" / "cluster" / str(number) / "state.json").write_text(json.dumps(state))
    shown = run("status", "--config", str(tmp_path / "site.yaml")).output
    assert "the end of 24" in shown
    assert "the end of 4" not in shown
    assert "(5 older finished jobs not shown: --all)" in shown
    assert f"Logs: e.g. {tmp_path}/kept/24/24_0_log.out" in shown
    assert "the end of 4" in run("status", "--all", "--config", str(tmp_path / "site.yaml")).output
    assert "has printed nothing yet" in run("logs", "3", "--config", str(tmp_path / "site.yaml")).output


def test_state_of_an_unfinished_job_is_unknown_without_squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "7").mkdir()
    Job("7", "ingest", "slurm", str(tmp_path / "7"), None, (), 1000.0).save()
    monkeypatch.setenv("PATH", "/nowhere")
    assert "no squeue on this machine" in run("status", "--folder", str(tmp_path)).output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["tune.space=[loss.alfa float 0 1]"], "there is no setting loss.alfa"),
        (["tune.space=[loss.alpha float 1 0]"], "is inverted"),
        (
            ["tune.space=[train.batch_size choice 256 257]", "train.num_workers=2", "tune.pruner=none"],
            "batch_size=257 cannot be split",
        ),
        (["train.validate_every_images=1_000_000"], "nothing can be stopped early"),
        (["tune.sampler=gp", "train.validate_every_images=1_000"], "tune.sampler=gp ignores trials"),
        (["tune.storage=postgresql://me:s3cret@host/db"], "would hold the password of tune.storage"),
        (["tune.storage=postgresql://me@host/db?password=s3cret"], "would hold the password of tune.storage"),
    ],
)
def test_search_that_could_not_start_is_not_submitted(
    tmp_path: Path, shards: Path, settings: list[str], message: str
) -> None:
    asked = [part for setting in settings for part in ("--set", setting)]
    where = ["--shards", str(shards), "--study", str(tmp_path / "study"), "--set", f"slurm.folder={tmp_path / 'jobs'}"]
    result = run("tune", *where, *asked, "--dry-run")
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    sound = run("tune", *where, "--set", "train.validate_every_images=100_000", "--dry-run")
    assert sound.exit_code == 0, sound.output


def test_only_the_draw_of_a_reader_study_can_be_a_job(tmp_path: Path, shards: Path) -> None:
    folder = ["--set", f"slurm.folder={tmp_path / 'jobs'}"]
    make = [
        "study",
        "make",
        "--shards",
        str(shards),
        "--dataset",
        str(tmp_path / "pairs"),
        "--study",
        str(tmp_path / "s"),
    ]
    missing = run(*make, *folder, "--dry-run")
    assert "study.dataset=" in missing.output
    assert "does not exist. Correct it, or use --after with the job" in missing.output
    (tmp_path / "pairs").mkdir()
    result = run(*make, *folder, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "#SBATCH --job-name=emixer-study" in result.output
    assert "There is no command 'serve'" in run("study", "serve").output


def test_interrupted_pipeline_takes_back_what_it_has_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[str] = []

    def submit_or_interrupt(stage: str, *rest: object) -> list[Job]:
        if stage == "generate":
            raise KeyboardInterrupt
        return [Job(str(len(stage)), stage, "slurm", str(tmp_path / "jobs" / stage), None, (), 1000.0)]

    monkeypatch.setattr("jobs.cli._submit", submit_or_interrupt)
    monkeypatch.setattr("jobs.cli.cancel", lambda jobs: cancelled.extend(job.job_id for job in jobs))
    root, pairs = tmp_path / "raw", tmp_path / "pairs"
    root.mkdir()
    settings = [f"ingest.source={{kind: mimic-cxr, root: {root}}}", f"ingest.out={tmp_path / 'shards'}",
                f"train.run={tmp_path / 'run'}", f"generate.out={pairs}", "generate.num=10",
                f"slurm.folder={tmp_path / 'jobs'}"]  # fmt: skip
    result = run("pipeline", *(part for setting in settings for part in ("--set", setting)))
    assert result.exit_code == 130, result.output
    assert cancelled == ["6", "5"]
    said = " ".join(result.output.split())
    assert "Interrupted at generate. Earlier stages were cancelled: 6, 5." in said
    assert "`squeue --me --all --name=emixer-generate`" in said
    assert said.endswith("Then run the same command again.")
