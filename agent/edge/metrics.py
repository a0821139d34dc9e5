"""A site's metrics under the names that dcgm-exporter, kube-state-metrics and node-exporter use.

Values of the real machine are real. Of declared hardware they follow from what is allocated on it (by us and by what
the file calls busy) and carry ``simulated="true"``: a utilisation is what is taken, a CPU counter runs as if what is
taken were used. Nothing is guessed beyond that: what a declared GPU cannot have (a temperature) is not there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from agent.edge.hardware import GpuReading, alike, memory_available, memory_total
from agent.edge.nodes import WHOLE, Node, Nodes
from agent.edge.sitefile import SiteFile
from agent.edge.task import Task
from hub.api import names

_MIB: Final = 1 << 20
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MODES: Final = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


class RunsTasks(Protocol):
    namespace: str

    def tasks(self) -> Iterable[Task]: ...


@dataclass(slots=True)
class _Families:
    """Samples by metric, in the order in which the metrics came."""

    lines: dict[str, list[str]] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, kind: str, text: str, labels: Mapping[str, str], value: float) -> None:
        if name not in self.heads:
            self.heads[name] = f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
            self.lines[name] = []
        inside = ",".join(f'{key}="{_escaped(member)}"' for key, member in labels.items())
        number = int(value) if value == int(value) else round(value, 6)
        self.lines[name].append(f"{name}{{{inside}}} {number}\n")

    def text(self) -> str:
        return "".join(head + "".join(self.lines[name]) for name, head in self.heads.items())


class SiteMetrics:
    """`clock` is monotonic seconds: the counters of declared CPUs run by it."""

    def __init__(
        self,
        site: SiteFile,
        nodes: Nodes,
        owners: Callable[[], Iterable[RunsTasks]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site = site
        self._nodes = nodes
        self._owners = owners
        self._clock = clock
        self._last = clock()
        # Seconds of one CPU of each declared node, on average over them: in use, and idle.
        self._busy: dict[str, float] = {}
        self._idle: dict[str, float] = {}

    def text(self, gpus: list[GpuReading]) -> str:
        families = _Families()
        mark = {"simulated": "true"} if self._site.declared else {}
        tasks = [(owner.namespace, task) for owner in self._owners() for task in owner.tasks()]
        holders = {(task.place.node, gpu): (ns, task) for ns, task in tasks for gpu in task.place.gpus}
        for node in self._nodes:
            self._node(families, node, mark)
            if self._site.declared:
                self._declared_gpus(families, node, mark, holders)
        for reading in gpus:
            _real_gpu(families, reading, self._nodes, holders, alike(gpus))
        for namespace, task in tasks:
            _task(families, namespace, task, mark)
        if self._site.declared:
            self._declared_machine(families, mark)
        else:
            _real_machine(families)
        return families.text()

    def _node(self, families: _Families, node: Node, mark: Mapping[str, str]) -> None:
        group = node.group
        about = {"node": node.name, **mark}
        families.add(
            "kube_node_info", "gauge", "A node of the site.",
            {**about, "container_runtime_version": f"quarterdeck://{self._site.runtime}", "os_image": "linux"}, 1,
        )  # fmt: skip
        amounts: list[tuple[str, str, float]] = [
            ("cpu", "core", group.cpu / 1000),
            ("memory", "byte", float(group.memory)),
            *((_sanitised(name), "integer", float(amount)) for name, amount in group.resources.items()),
        ]
        if group.gpus is not None:
            amounts.append((_sanitised(names.GPU), "integer", float(group.gpus.count)))
        for what in ("capacity", "allocatable"):
            for resource, unit, amount in amounts:
                families.add(
                    f"kube_node_status_{what}", "gauge", f"The {what} of a node.",
                    {"node": node.name, "resource": resource, "unit": unit, **mark}, amount,
                )  # fmt: skip
        families.add(
            "kube_node_status_condition", "gauge", "The condition of a node.",
            {**about, "condition": "Ready", "status": "true"}, 1,
        )  # fmt: skip
        families.add("kube_node_spec_unschedulable", "gauge", "Whether a node takes no new tasks.", about, 0)
        for taint in group.taints:
            families.add(
                "kube_node_spec_taint", "gauge", "A taint of a node.",
                {**about, "key": taint.key, "value": taint.value, "effect": taint.effect}, 1,
            )  # fmt: skip
        if group.gpus is not None:
            families.add(
                "kube_node_labels", "gauge", "Labels of a node, as Prometheus labels.",
                {**about, "label_nvidia_com_gpu_product": group.gpus.model}, 1,
            )  # fmt: skip

    def _declared_gpus(
        self,
        families: _Families,
        node: Node,
        mark: Mapping[str, str],
        holders: Mapping[tuple[str, int], tuple[str, Task]],
    ) -> None:
        if node.group.gpus is None:
            return
        memory = node.group.gpus.memory / _MIB
        for number, free in enumerate(node.gpus):
            taken = min(1.0, max(0.0, 1 - free / WHOLE))
            labels = _gpu_labels(number, f"GPU-{node.name}-{number}", node.group.gpus.model, node.name)
            labels |= _pod_labels(holders.get((node.name, number))) | dict(mark)
            families.add("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).", labels, 100 * taken)
            if memory:
                families.add("DCGM_FI_DEV_FB_USED", "gauge", _FB_USED, labels, memory * taken)
                families.add("DCGM_FI_DEV_FB_FREE", "gauge", _FB_FREE, labels, memory * (1 - taken))

    def _declared_machine(self, families: _Families, mark: Mapping[str, str]) -> None:
        now = self._clock()
        passed, self._last = now - self._last, now
        for node in self._nodes:
            share = min(1.0, max(0.0, 1 - node.cpu / node.group.cpu)) if node.group.cpu else 0.0
            busy = self._busy[node.name] = self._busy.get(node.name, 0.0) + passed * share
            idle = self._idle[node.name] = self._idle.get(node.name, 0.0) + passed * (1 - share)
            about = {"node": node.name, **mark}
            for mode, seconds in (("idle", idle), ("user", busy)):
                families.add(
                    "node_cpu_seconds_total", "counter", _CPU_HELP, {"cpu": "all", "mode": mode, **about}, seconds
                )  # fmt: skip
            total = float(node.group.memory)
            families.add("node_memory_MemTotal_bytes", "gauge", "Memory in all.", about, total)
            available = min(total, max(0.0, float(node.memory)))
            families.add("node_memory_MemAvailable_bytes", "gauge", "Memory that is not taken.", about, available)


_FB_USED: Final = "Framebuffer memory used (in MiB)."
_FB_FREE: Final = "Framebuffer memory free (in MiB)."
_CPU_HELP: Final = "Seconds the CPUs spent in each mode."


def _real_gpu(
    families: _Families,
    gpu: GpuReading,
    nodes: Nodes,
    holders: Mapping[tuple[str, int], tuple[str, Task]],
    usable: list[GpuReading],
) -> None:
    node = next(iter(nodes)).name if len(nodes) else ""
    labels = _gpu_labels(gpu.index, gpu.uuid, gpu.name, node) | {"pci_bus_id": gpu.bus}
    if gpu in usable:
        labels |= _pod_labels(holders.get((node, usable.index(gpu))))
    families.add("DCGM_FI_DEV_FB_USED", "gauge", _FB_USED, labels, gpu.memory_used)
    families.add("DCGM_FI_DEV_FB_FREE", "gauge", _FB_FREE, labels, gpu.memory_free)
    for name, text, value in (
        ("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", gpu.utilization),
        ("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", gpu.temperature),
        ("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", gpu.power),
    ):
        if value is not None:
            families.add(name, "gauge", text, labels, value)


def _task(families: _Families, namespace: str, task: Task, mark: Mapping[str, str]) -> None:
    about = {"namespace": namespace, "pod": task.facts.name}
    families.add(
        "kube_pod_status_phase", "gauge", "The phase of a task.",
        {**about, "phase": "Running" if task.live else "Pending", **mark}, 1,
    )  # fmt: skip
    for container in task.plan.containers:
        for kind, amounts in (("requests", container.requests), ("limits", container.limits)):
            for name, quantity in sorted(amounts.items()):
                unit = {"cpu": "core", "memory": "byte"}.get(name, "integer")
                families.add(
                    f"kube_pod_container_resource_{kind}", "gauge", f"What a container {kind}.",
                    {**about, "container": container.name, "node": task.place.node,
                     "resource": _sanitised(name), "unit": unit, **mark},
                    quantity.nano / 1e9,
                )  # fmt: skip


def _real_machine(families: _Families) -> None:
    for cpu, ticks in _cpu_times():
        for mode, spent in zip(_MODES, ticks, strict=False):
            labels = {"cpu": cpu, "mode": mode}
            families.add("node_cpu_seconds_total", "counter", _CPU_HELP, labels, spent / _TICKS)
    families.add("node_memory_MemTotal_bytes", "gauge", "Memory in all.", {}, float(memory_total()))
    families.add("node_memory_MemAvailable_bytes", "gauge", "Memory that can be had.", {}, float(memory_available()))
    for minutes, load in zip((1, 5, 15), os.getloadavg(), strict=True):
        families.add(f"node_load{minutes}", "gauge", f"Load over {minutes} min.", {}, load)


def _cpu_times(path: Path = Path("/proc/stat")) -> Iterator[tuple[str, list[int]]]:
    for line in path.read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu":
            yield name[3:], [int(tick) for tick in ticks]


def _gpu_labels(number: int, uuid: str, model: str, node: str) -> dict[str, str]:
    return {"gpu": str(number), "UUID": uuid, "device": f"nvidia{number}", "modelName": model, "hostname": node}


def _pod_labels(holder: tuple[str, Task] | None) -> dict[str, str]:
    if holder is None:
        return {}
    namespace, task = holder
    return {"namespace": namespace, "pod": task.facts.name, "container": task.plan.containers[0].name}


def _sanitised(resource: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in resource)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
