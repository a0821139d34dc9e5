"""Nodes of small racks and NVLink domains are told apart, though nearly every node has a value of its own."""

from __future__ import annotations

import pytest
from test_agent_kubernetes import node

from agent.nodegroups import node_facts, node_groups
from hub.api import names


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        (names.RACK, True),
        (names.GPU_CLIQUE, True),
        ("cloud.provider.com/topology-block", True),
        ("network.topology.nvidia.com/accelerator", True),
        ("example.com/serial", False),
    ],
)
def test_labels_of_domains_are_kept_however_small_they_are(key: str, kept: bool) -> None:
    nodes = [node_facts(node(f"n{at}", labels={key: f"v{at // 2}"})) for at in range(8)]
    groups = node_groups(nodes, {})
    assert (sorted(group["labels"].get(key, "") for group in groups) == ["v0", "v1", "v2", "v3"]) == kept
    assert sum(group["count"] for group in groups) == 8
