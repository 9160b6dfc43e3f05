"""The files that a cluster and its watchers are made from: Ray's own schema accepts each that we
show, and the monitoring board shows every series that Regent gives and no other.
"""

from __future__ import annotations

import re

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from agents import metrics
from agents.cluster import ROOT

MONITORING = ROOT / "configs" / "monitoring"


def _premises() -> str:
    text = (ROOT / "docs" / "cluster.md").read_text()
    found = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    return found.group(1) if found else ""


@pytest.mark.parametrize(
    "text",
    [(ROOT / "ray_cluster.yaml").read_text(), _premises()],
    ids=["ray_cluster.yaml", "docs/cluster.md"],
)
def test_the_cluster_files_keep_rays_own_schema(text: str) -> None:
    config = prepare_config(yaml.safe_load(text))
    validate_config(config)
    assert config["head_node_type"] in config["available_node_types"]


def test_the_cluster_file_has_a_head_and_gpu_workers_and_the_ray_that_we_pin() -> None:
    config = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    gpus = {
        name: node["resources"].get("GPU", 0)
        for name, node in config["available_node_types"].items()
    }
    assert gpus[config["head_node_type"]] == 0
    assert [name for name, count in gpus.items() if count] == ["gpu_worker"]
    assert f":{ray.__version__}-py311" in config["docker"]["image"]


def test_the_board_shows_every_series_and_no_other() -> None:
    board = (MONITORING / "grafana" / "dashboards" / "regent.json").read_text()
    assert set(re.findall(r"ray_(regent_\w+)", board)) == set(metrics.SERIES)
    for file in MONITORING.rglob("*.yml"):
        assert yaml.safe_load(file.read_text())
