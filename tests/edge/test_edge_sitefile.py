"""What a site's entry may say, and how a mistake in it is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.edge.images import ContainerEngine, Images
from agent.edge.nodes import Need, Nodes
from agent.edge.sitefile import Busy, Gpus, SiteFile, parse_site, read_site_file
from hub.api.errors import InvalidObjectError, UsageError
from hub.cli.up.fleetfile import default_sites

NODE = {"cpu": 4, "memory": "8Gi"}
TAINTED = {**NODE, "taints": [{"key": "k", "effect": "No"}]}


def test_everything_a_site_may_say() -> None:
    site = parse_site(
        {
            "name": "lab",
            "runtime": "process",
            "labels": {"region": "north", "tier": 1},
            "prices": {"gpuHour": {"A100": "2.10"}, "cpuHour": 0.04, "memoryGiBHour": "0.005"},
            "nodes": [
                {
                    "name": "big",
                    "count": 2,
                    "cpu": "7500m",
                    "memory": "32Gi",
                    "gpu": {"model": "A100", "count": 2, "memory": "40Gi"},
                    "labels": {"disk": "nvme"},
                    "taints": [{"key": "gpu", "value": "only", "effect": "NoSchedule"}],
                    "resources": {"example.com/fpga": 3},
                },
                NODE,
            ],
            "busy": [{"cpu": 2, "memory": "4Gi", "gpus": 1, "node": "big"}, {"gpus": "500m", "count": 2}],
            "images": {"python:*": "host", "*": "registry/any"},
            "logs": {"maxSize": "1Mi"},
        }
    )
    assert (site.name, site.runtime, site.declared) == ("lab", "process", True)
    assert site.labels == {"region": "north", "tier": "1"}
    assert (site.prices.gpu_hour, site.prices.cpu_hour) == ({"A100": "2100m"}, "40m")
    big, small = site.groups
    assert (big.name, big.count, big.cpu, big.memory, big.gpus) == (
        "big", 2, 7500, 32 << 30, Gpus("A100", 2, 40 << 30)
    )  # fmt: skip
    assert (big.labels, big.taints[0].effect, big.resources) == (
        {"disk": "nvme"}, "NoSchedule", {"example.com/fpga": 3}
    )  # fmt: skip
    assert (small.name, small.count, small.gpus) == ("lab-2", 1, None)
    assert site.busy == (Busy(2000, 4 << 30, 1000, "big"), Busy(gpu_milli=500), Busy(gpu_milli=500))
    assert site.log_bytes == 1 << 20


def test_without_nodes_it_is_the_machine() -> None:
    site = parse_site(default_sites(1)[0])
    assert not site.declared
    assert site == SiteFile("local")
    assert all(parse_site(entry).declared for entry in default_sites(3))


def test_a_simulated_site_is_declared_whatever_it_has() -> None:
    site = parse_site({"name": "sim", "runtime": "simulated", "timeScale": 10000})
    assert site.declared
    assert site.time_scale == 10_000


@pytest.mark.parametrize(
    ("entry", "field", "says"),
    [
        ("lab", "site", "is not a map"),
        ({}, "name", "lower-case letters"),
        ({"name": "Lab"}, "name", "lower-case letters"),
        ({"name": "a", "nods": []}, "nods", "known are name, runtime"),
        ({"name": "a", "runtime": "docker"}, "runtime", "process or simulated"),
        ({"name": "a", "timeScale": 2}, "timeScale", "runtime simulated"),
        ({"name": "a", "runtime": "simulated", "timeScale": 0}, "timeScale", "above 0"),
        ({"name": "a", "labels": {"x": "a b"}}, "labels.x", "not a label's value"),
        ({"name": "a", "labels": {"-x": "a"}}, "labels", "not a label's key"),
        ({"name": "a", "prices": {"gpu": 1}}, "prices.gpu", "gpuHour"),
        ({"name": "a", "prices": {"cpuHour": "cheap"}}, "prices.cpuHour", "not a quantity"),
        ({"name": "a", "nodes": {}}, "nodes", "is not a list"),
        ({"name": "a", "nodes": [{"cpu": 4}]}, "nodes[0].memory", "required"),
        ({"name": "a", "nodes": [NODE, {**NODE, "cpu": -1}]}, "nodes[1].cpu", "from 0"),
        ({"name": "a", "nodes": [{**NODE, "cpu": True}]}, "nodes[0].cpu", "not a quantity"),
        ({"name": "a", "nodes": [{**NODE, "count": 1.5}]}, "nodes[0].count", "whole number from 0 to 100,000"),
        ({"name": "a", "nodes": [{**NODE, "gpu": {"count": 1}}]}, "nodes[0].gpu.model", "such as A100"),
        ({"name": "a", "nodes": [{**NODE, "gpu": {"model": "L4", "count": 0}}]}, "nodes[0].gpu.count", "1 to 256"),
        ({"name": "a", "nodes": [{**NODE, "gpu": {"model": "L4", "memroy": "1Gi"}}]}, "nodes[0].gpu.memroy", "memory"),
        ({"name": "a", "nodes": [{**NODE, "name": "x"}, {**NODE, "name": "x"}]}, "nodes[1].name", "twice"),
        ({"name": "a", "nodes": [TAINTED]}, "nodes[0].taints[0].effect", "NoSchedule"),
        ({"name": "a", "nodes": [{**NODE, "resources": {"cpu": 1}}]}, "nodes[0].resources.cpu", "field of its own"),
        ({"name": "a", "busy": [{}]}, "busy[0]", "cpu, memory or gpus"),
        ({"name": "a", "busy": [{"cpu": 1, "node": "x"}]}, "busy[0].node", "none is declared"),
        ({"name": "a", "busy": [{"gpus": 1.5}]}, "busy[0].gpus", "share is of one GPU"),
        ({"name": "a", "images": {"x": ""}}, "images.x", "write host"),
        ({"name": "a", "logs": {"maxSize": "1Ki"}}, "logs.maxSize", "64Ki at least"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_field(entry: Any, field: str, says: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        parse_site(entry)
    assert caught.value.field == field
    assert says in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_site_file(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("name: [")
    with pytest.raises(UsageError, match="is not YAML"):
        read_site_file(tmp_path / "bad.yaml")
    (tmp_path / "good.yaml").write_text("name: a\n")
    assert read_site_file(tmp_path / "good.yaml").name == "a"


def test_busy_without_room_is_named() -> None:
    site = parse_site({"name": "a", "nodes": [NODE], "busy": [{"cpu": 3}, {"cpu": 3}]})
    with pytest.raises(InvalidObjectError, match=r"busy\[1\]"):
        Nodes(site.groups).occupy(site.busy)


def test_two_nodes_of_one_name_are_named() -> None:
    site = parse_site({"name": "a", "nodes": [{**NODE, "name": "x", "count": 2}, {**NODE, "name": "x-1"}]})
    with pytest.raises(InvalidObjectError, match="two nodes would be called x-1"):
        Nodes(site.groups)


def test_busy_goes_where_it_fits_best() -> None:
    gpu = {**NODE, "gpu": {"model": "L4", "count": 2}}
    site = parse_site({"name": "a", "nodes": [gpu, {**NODE, "cpu": 3}], "busy": [{"cpu": 1}, {"gpus": 1, "cpu": 1}]})
    nodes = Nodes(site.groups)
    nodes.occupy(site.busy)
    assert [(node.name, node.cpu, node.foreign_cpu, node.gpus) for node in nodes] == [
        ("a-1", 3000, 1000, [0, 1000]),
        ("a-2", 2000, 1000, []),
    ]
    assert nodes.choose(Need(cpu=3000)) is not None


@pytest.mark.parametrize(
    ("image", "without", "with_engine"),
    [
        ("", "host", "host"),
        ("host", "host", "host"),
        ("python:3.12", "host", "host"),
        ("tools[1]", "host", "host"),
        ("tools1", None, "tools1"),
        ("mine:1", None, "registry/mine:2"),
        ("golang:1", None, "golang:1"),
    ],
)
def test_what_an_image_means(image: str, without: str | None, with_engine: str) -> None:
    mapping = {"python:*": "host", "tools[1]": "host", "mine:*": "registry/mine:2"}
    assert Images(mapping).resolve(image) == without
    assert Images(mapping, ContainerEngine("podman", "/usr/bin/podman")).resolve(image) == with_engine
    assert Images(mapping, anything=True).resolve(image) == "host"


def test_what_is_offered_is_what_can_run() -> None:
    mapping = {"python:*": "host", "mine:*": "registry/mine:2"}
    assert Images(mapping).offered() == ["host", "python:*"]
    assert Images(mapping, ContainerEngine("docker", "docker")).offered() == []
    assert Images({}, anything=True).offered() == []
