"""What a site tells of hardware: of this machine what is so, of declared nodes what follows from what is taken."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_rig import Rig, job, shell, until

from agent.edge.cgroup import Cgroups
from agent.edge.hardware import GpuReading, memory_total, model_name, parse_smi, read_gpus, this_machine
from agent.edge.images import Images
from agent.edge.podplan import plan_pod
from hub.api import names

SMI = """\
0, GPU-aaa, NVIDIA A100-SXM4-40GB, 40960, 1024, 39936, 37, 45, 120.50, 00000000:07:00.0
1, GPU-bbb, NVIDIA A100-SXM4-40GB, 40960, 0, 40960, 0, 30, [N/A], 00000000:0F:00.0
2, GPU-ccc, Tesla T4, 15360, 0, 15360, 0, 30, 10.0, 00000000:10:00.0
garbage
"""


@pytest.fixture
def nvidia(tmp_path: Path) -> None:
    script = tmp_path / "tools" / "nvidia-smi"
    script.write_text(f"#!/bin/sh\ncat <<'X'\n{SMI}X\n")
    script.chmod(0o755)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Prometheus text, parsed strictly; every metric has help and type and stands together."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    current = ""
    seen: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split()[2]
            assert current not in seen
            seen.add(current)
        elif not line.startswith("# TYPE "):
            match = re.fullmatch(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{(.*)\} (\S+)", line)
            assert match, line
            assert match[1] == current
            labels = re.findall(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"', match[2])
            key = (match[1], frozenset(labels))
            assert key not in found, line
            found[key] = float(match[3])
    return found


def value(text: str, metric: str, **labels: str) -> float:
    """Of the only sample with these labels."""
    wanted = set(labels.items())
    hits = [number for (name, have), number in samples(text).items() if name == metric and wanted <= have]
    assert len(hits) == 1, (metric, labels, hits)
    return hits[0]


@pytest.mark.parametrize(
    ("product", "model"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla T4", "T4"),
        ("NVIDIA H100 PCIe", "H100"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA L4", "L4"),
        ("Thing", "Thing"),
    ],
)
def test_models_as_jobs_ask_for_them(product: str, model: str) -> None:
    assert model_name(product) == model


async def test_gpus_of_the_machine(nvidia: None) -> None:
    readings = await read_gpus()
    assert readings == parse_smi(SMI)
    assert [(gpu.index, gpu.utilization, gpu.power) for gpu in readings] == [(0, 37, 120.5), (1, 0, None), (2, 0, 10)]
    group = this_machine(readings, Path("/"))
    assert group.gpus is not None
    assert (group.gpus.model, group.gpus.count, group.gpus.memory) == ("A100", 2, 40 << 30)
    assert (group.cpu, group.memory) == (len(os.sched_getaffinity(0)) * 1000, memory_total())


async def test_without_gpus_there_are_none() -> None:
    assert await read_gpus() == []
    assert this_machine([], Path("/")).gpus is None


async def test_a_real_machine_s_metrics_are_real(rigs: Callable[..., Rig], nvidia: None) -> None:
    rig = rigs(nodes=None)
    site = await rig.start()
    assert site.capacity()["simulated"] is False
    assert names.SIMULATED not in site.labels
    gpu = {"resources": {"requests": {"cpu": "1"}, "limits": {names.GPU: "1"}}}
    await rig.submit(job("a", pod={"containers": [shell("echo $CUDA_VISIBLE_DEVICES; sleep 1", **gpu)]}))
    await until(lambda: rig.processes())
    text = site.metrics()
    assert "simulated" not in text
    assert value(text, "DCGM_FI_DEV_GPU_UTIL", UUID="GPU-aaa", gpu="0", pod="a-0", namespace="default") == 37
    assert value(text, "DCGM_FI_DEV_FB_USED", gpu="0") == 1024
    assert value(text, "DCGM_FI_DEV_FB_FREE", gpu="1") == 40960
    assert value(text, "DCGM_FI_DEV_POWER_USAGE", gpu="0") == 120.5
    assert ("DCGM_FI_DEV_POWER_USAGE", "1") not in {(n, dict(have).get("gpu")) for n, have in samples(text)}
    assert value(text, "node_memory_MemTotal_bytes") == pytest.approx(memory_total())
    assert 0 < value(text, "node_memory_MemAvailable_bytes") <= memory_total()
    assert value(text, "node_cpu_seconds_total", cpu="0", mode="idle") > 0
    assert value(text, "kube_node_status_allocatable", resource="nvidia_com_gpu", unit="integer") == 2
    assert value(text, "kube_pod_container_resource_requests", pod="a-0", resource="nvidia_com_gpu") == 1
    await rig.ended("a")
    assert await rig.log("a") == "0\n"


async def test_declared_hardware_tells_what_is_taken_of_it(rigs: Callable[..., Rig]) -> None:
    rig = rigs(busy=[{"gpus": 1, "cpu": 4, "memory": "4Gi"}])
    site = await rig.start()
    assert site.labels == {names.SIMULATED: "true"}
    before = site.metrics()
    assert value(before, "DCGM_FI_DEV_GPU_UTIL", hostname="edge-1-0", gpu="0") == 100
    assert value(before, "DCGM_FI_DEV_GPU_UTIL", hostname="edge-1-0", gpu="1") == 0
    assert value(before, "DCGM_FI_DEV_FB_USED", hostname="edge-1-0", gpu="0") == 40960
    half = {"resources": {"requests": {"cpu": "2", "memory": "2Gi"}, "limits": {names.GPU_MILLI: "500"}}}
    await rig.submit(job("a", pod={"containers": [shell("sleep 0.6", **half)]}))
    await until(lambda: rig.processes())
    text = site.metrics()
    assert all(("simulated", "true") in labels for _, labels in samples(text))
    assert value(text, "DCGM_FI_DEV_GPU_UTIL", hostname="edge-1-0", gpu="1", pod="a-0") == 50
    assert value(text, "DCGM_FI_DEV_FB_FREE", hostname="edge-1-0", gpu="1") == 20480
    assert value(text, "node_memory_MemAvailable_bytes", node="edge-1-0") == 10 << 30
    assert value(text, "node_memory_MemTotal_bytes", node="edge-1-0") == 16 << 30
    assert value(text, "kube_node_info", node="edge-1-1") == 1
    assert value(text, "kube_pod_status_phase", pod="a-0", phase="Running") == 1
    await rig.ended("a")
    text = site.metrics()
    busy, idle = (value(text, "node_cpu_seconds_total", node="edge-1-0", mode=m) for m in ("user", "idle"))
    assert 0.5 < busy / (busy + idle) <= 0.75
    assert value(text, "node_cpu_seconds_total", node="edge-1-1", mode="user") == 0


def test_limits_as_cgroup_files(tmp_path: Path) -> None:
    """Against a directory that looks like a delegated cgroup: what would be written where."""
    home = tmp_path / "cg" / "system.slice" / "agent.service"
    home.mkdir(parents=True)
    (home / "cgroup.controllers").write_text("cpuset cpu memory pids\n")
    mounts, own = tmp_path / "mounts", tmp_path / "own"
    mounts.write_text(f"proc /proc proc rw 0 0\ncgroup2 {tmp_path}/cg cgroup2 rw 0 0\n")
    own.write_text("0::/system.slice/agent.service\n")
    groups = Cgroups.detect("t0", mounts, own)
    assert groups is not None
    assert (home / "quarterdeck-agent" / "cgroup.procs").read_text() == str(os.getpid())
    assert (home / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    limits = {"limits": {"cpu": "1500m", "memory": "64Mi"}}
    container = {"name": "m", "command": ["x"], "resources": limits}
    plan = plan_pod({}, {"containers": [container]}, Images({}), simulated=False, default_restart="Never")
    path = Path(groups.create("u/0-0-0-0", plan.containers[0]))
    assert path.parent == home / "quarterdeck-t0"
    assert (path / "memory.max").read_text() == str(64 << 20)
    assert (path / "cpu.max").read_text() == "150000 100000"
    (path / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert groups.out_of_memory("u/0-0-0-0")
    groups.kill("u/0-0-0-0")
    assert (path / "cgroup.kill").read_text() == "1"


@pytest.mark.parametrize("controllers", ["", "pids hugetlb"])
def test_without_controllers_there_are_no_cgroups(tmp_path: Path, controllers: str) -> None:
    (tmp_path / "cgroup.controllers").write_text(controllers)
    (tmp_path / "mounts").write_text(f"cgroup2 {tmp_path} cgroup2 rw 0 0\n")
    (tmp_path / "own").write_text("1:name=systemd:/\n0::/\n")
    assert Cgroups.detect("t0", tmp_path / "mounts", tmp_path / "own") is None
    assert Cgroups.detect("t0", tmp_path / "none", tmp_path / "own") is None


def test_readings_are_values() -> None:
    assert parse_smi("0, u, T4, x, 0, 0, 0, 0, 0, b\n") == []
    assert parse_smi("3, u, NVIDIA L4, 24576, 1, 24575, 50, 40, 60, b\n") == [
        GpuReading(3, "u", "NVIDIA L4", 24576, 1, 24575, 50, 40, 60, "b")
    ]
