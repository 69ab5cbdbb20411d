"""EMIXER on Ray: synthetic paired chest X-rays and reports.

import emixer
pairs = emixer.load("runs/first").sample(labels=["Pneumothorax"], num=4, seed=0)

Every stage of the command line is a function of a config too: emixer.train(emixer.load_config("demo")).
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import cluster  # removes from the environment what would crash Ray
from emixer._version import __version__
from emixer.errors import EmixerError

_found = Path(str(cluster.__file__)).resolve()
if _found.parent != Path(__file__).resolve().parent.with_name("cluster"):
    raise ImportError(
        f"{_found} was imported as `cluster`, and so hides a package of emixer of that name. Rename that file, restart "
        "Python and import emixer again."
    )

if TYPE_CHECKING:
    from emixer.config import Config, load_config
    from emixer.data.shard_stream import ShardStream
    from emixer.data.torch_pairs import ShardPairs, open_shards
    from emixer.generation import Pair, Pairs, Sampler, load
    from emixer.hub.pretrained import from_pretrained
    from emixer.hub.repository import push_to_hub
    from emixer.stages.audit import run as audit_dataset
    from emixer.stages.encoder import run as train_encoder
    from emixer.stages.evaluate import run as evaluate
    from emixer.stages.experiment import run as run_experiment
    from emixer.stages.gallery import run as write_gallery
    from emixer.stages.generate import run as generate
    from emixer.stages.ingest import run as ingest
    from emixer.stages.phantom import run as draw_phantom
    from emixer.stages.publish import run as publish
    from emixer.stages.serve import run as serve
    from emixer.stages.study.make import run as make_study
    from emixer.stages.study.report import run as report_study
    from emixer.stages.study.serve import run as serve_study
    from emixer.stages.train import run as train
    from emixer.stages.tune import run as tune

__all__ = [
    "Config", "EmixerError", "Pair", "Pairs", "Sampler", "ShardPairs", "ShardStream", "__version__", "audit_dataset",
    "draw_phantom", "evaluate", "from_pretrained", "generate", "ingest", "load", "load_config", "make_study",
    "open_shards", "publish", "push_to_hub", "report_study", "run_experiment", "serve", "serve_study", "train",
    "train_encoder", "tune", "write_gallery",
]  # fmt: skip

# torch, Ray and pydantic are imported on the first use of what needs them, not by `import emixer`
_MODULES = {
    "Config": "emixer.config",
    "load_config": "emixer.config",
    "ShardPairs": "emixer.data.torch_pairs",
    "ShardStream": "emixer.data.shard_stream",
    "open_shards": "emixer.data.torch_pairs",
    "Pair": "emixer.generation",
    "Pairs": "emixer.generation",
    "Sampler": "emixer.generation",
    "load": "emixer.generation",
    "from_pretrained": "emixer.hub.pretrained",
    "push_to_hub": "emixer.hub.repository",
}
# Not all have the names of their commands: `emixer.audit` and `emixer.gallery` are packages
_STAGES = {
    "draw_phantom": "phantom",
    "ingest": "ingest",
    "train_encoder": "encoder",
    "train": "train",
    "tune": "tune",
    "generate": "generate",
    "evaluate": "evaluate",
    "audit_dataset": "audit",
    "run_experiment": "experiment",
    "make_study": "study.make",
    "serve_study": "study.serve",
    "report_study": "study.report",
    "publish": "publish",
    "serve": "serve",
    "write_gallery": "gallery",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if name in _STAGES:
        return import_module(f"emixer.stages.{_STAGES[name]}").run
    raise AttributeError(f"module 'emixer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
