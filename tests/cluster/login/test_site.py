"""A first config from the output of sinfo."""

import pytest
import yaml

from cluster.config import ClusterConfig
from cluster.errors import ClusterError
from cluster.login.site import first_config, groups

SHOWN = """\
long|up|infinite|64|515000|(null)|20|intel,avx512
gpu|up|2-00:00:00|48|250000|gpu:a100:4(S:0-1)|6|a100
gpu|up|2-00:00:00|40|190000|gpu:v100:8|3|v100
debug|up|30:00|4+|8000+|(null)|2|(null)
old|inact|1-00:00:00|8|32000|(null)|9|(null)
Head|up|1:00:00|4|8000|gpu:1|1|(null)
"""


def test_each_kind_of_node_in_an_available_partition_becomes_a_type() -> None:
    config = ClusterConfig.model_validate(yaml.safe_load(first_config(groups(SHOWN, {"debug"}))))
    types = config.node_types
    assert list(types) == ["debug", "head-nodes", "gpu-v100", "gpu-a100", "long"]
    a100 = types["gpu-a100"]
    assert (a100.partition, a100.gpus, a100.gres, a100.cpus, a100.max) == ("gpu", 4, "gpu:a100:4", 48, 4)
    assert a100.memory_gb == 231.9, "95 % of 250,000 MB"
    assert a100.time_min == 1440, "two days are more than is asked for at once"
    assert types["long"].time_min == 1440
    assert (types["debug"].time_min, types["debug"].cpus, types["debug"].max) == (30, 4, 2)
    assert types["head-nodes"].gpus == 1
    assert config.head.partition == "debug", "the default partition, where it has no GPUs"


def test_colliding_names_are_made_distinct() -> None:
    shown = "a.b|up|infinite|8|16000|(null)|1|(null)\na_b|up|infinite|8|16000|(null)|1|(null)\n"
    assert list(yaml.safe_load(first_config(groups(shown, set())))["node_types"]) == ["a-b", "a-b-2"]


def test_racks_are_merged_gpu_models_are_split_and_short_partitions_skipped() -> None:
    shown = (
        "long|up|infinite|64|515000|(null)|20|rack1\nlong|up|infinite|64|515000|(null)|12|rack2\n"
        "gpu|up|infinite|48|250000|gpu:a100:2(S:0),gpu:2080ti:1|3|(null)\nquick|up|3:00|8|16000|(null)|1|(null)\n"
    )
    types = ClusterConfig.model_validate(yaml.safe_load(first_config(groups(shown, set())))).node_types
    assert {name: (node_type.gres, node_type.gpus) for name, node_type in types.items()} == {
        "gpu-a100": ("gpu:a100:2", 2), "gpu-2080ti": ("gpu:2080ti:1", 1), "long": (None, 0),
    }  # fmt: skip
    assert "32 node(s) of 64 CPUs, 503 GB; features: rack1 or rack2" in first_config(groups(shown, set()))
    with pytest.raises(ClusterError, match="no available partition with a time limit of at least 5 minutes"):
        first_config(groups("quick|up|3:00|8|16000|(null)|1|(null)\n", set()))
