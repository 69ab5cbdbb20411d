"""What bash offers after TAB, asked of a real bash with the script that `emixer completion bash` prints."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from emixer.cli.main import main

ASK = """
source ./script
COMP_WORDS=({words}) COMP_CWORD={last} COMPREPLY=()
compopt() {{ echo "option $2"; }}  # outside of a real completion there is nothing to set it for
_emixer_completion emixer
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("completion")
    script = CliRunner().invoke(main, ["completion", "bash"])
    assert script.exit_code == 0
    (made / "script").write_text(script.stdout)
    (made / "site.yaml").touch()
    (made / "shards").mkdir()
    return made


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["emixer", "tra"], ["train"]),
        (["emixer", "train", "--prec"], ["--precision"]),
        (["emixer", "train", "--precision", ""], ["fp32", "bf16", "fp16"]),
        (["emixer", "train", "--shards", ""], ["option default", ""]),
        (["emixer", "train", "--config", "s"], ["option nospace", "shards/", "site.yaml"]),
        (["emixer", "train", "--set", "train.im"], ["option nospace", "train.images="]),
    ],
)
def test_bash_completes(folder: Path, words: list[str], expected: list[str]) -> None:
    asked = ASK.format(words=" ".join(map(shlex.quote, words)), last=len(words) - 1)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", asked], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.removesuffix("\n").split("\n") == expected


def test_the_script_for_zsh_knows_words_that_are_not_finished() -> None:
    script = CliRunner().invoke(main, ["completion", "zsh"]).stdout
    assert script.startswith("#compdef emixer")
    assert script.count('"$type" == "unfinished"') == 1


def test_completing_a_command_waits_for_neither_torch_nor_the_config() -> None:
    code = (
        "import sys; from emixer.cli.main import main\n"
        "try: main(prog_name='emixer')\n"
        "except SystemExit: print(sorted({n.partition('.')[0] for n in sys.modules} & {'torch', 'ray', 'pydantic'}))"
    )
    asked = {"_EMIXER_COMPLETE": "bash_complete", "COMP_WORDS": "emixer t", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert done.stdout.splitlines() == ["plain,train", "plain,tune", "[]"]
