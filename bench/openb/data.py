"""The public GPU trace (alibaba cluster-trace-gpu-v2023, "openb") as a fleet and as jobs.

Reads a folder the user names; the data is not ours to keep.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.api import names
from hub.api.errors import UsageError

NODES = "openb_node_list_gpu_node.csv"
PODS = "openb_pod_list_default.csv"
# Models with so many nodes that they become several sites; with the other five models that makes ten.
_SPLIT = {"G2": 3, "T4": 2}
_LONGEST = 2 * 86400.0


@dataclass(frozen=True, slots=True)
class TraceJob:
    name: str
    arrival: float
    duration: float
    cpu_milli: int
    memory_mib: int
    gpus: int
    gpu_milli: int
    models: tuple[str, ...]
    qos: str

    @property
    def demand_milli(self) -> int:
        """Thousandths of a GPU that this job holds while it runs."""
        return self.gpus * 1000 if self.gpu_milli >= 1000 else self.gpu_milli


def require(folder: Path) -> None:
    """Raises `UsageError` when the trace is not there."""
    missing = [name for name in (NODES, PODS) if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            f"the trace is not in {folder}: {', '.join(missing)} missing",
            hint="Get the CSV files of cluster-trace-gpu-v2023 and name their folder: make trace OPENB=DIR",
        )


def sites(folder: Path, time_scale: float) -> list[dict[str, Any]]:
    """Ten site entries of a fleet file: one a GPU model, the two largest models cut into parts of equal size."""
    by_model: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in _rows(folder / NODES):
        by_model[row["model"]].append(row)
    entries = []
    for model in sorted(by_model):
        parts = _SPLIT.get(model, 1)
        for part in range(parts):
            name = model.lower() + (f"-{part + 1}" if parts > 1 else "")
            shapes: dict[tuple[str, str, str], int] = defaultdict(int)
            for row in by_model[model][part::parts]:
                shapes[row["cpu_milli"], row["memory_mib"], row["gpu"]] += 1
            nodes = [
                {
                    "count": count,
                    "cpu": f"{cpu}m",
                    "memory": f"{memory}Mi",
                    "gpu": {"model": model, "count": int(gpus), "memory": "16Gi"},
                }
                for (cpu, memory, gpus), count in sorted(shapes.items())
            ]
            entries.append({"name": name, "runtime": "simulated", "timeScale": time_scale, "nodes": nodes})
    return entries


def jobs(folder: Path, skip: int, count: int) -> list[TraceJob]:
    """GPU jobs in order of arrival; each lasts as long as it lasted, two days at most."""
    found = [row for row in _rows(folder / PODS) if int(row["num_gpu"]) > 0]
    found.sort(key=lambda row: (float(row["creation_time"]), row["name"]))
    return [
        TraceJob(
            name=row["name"],
            arrival=float(row["creation_time"]),
            duration=min(float(row["deletion_time"]) - float(row["scheduled_time"] or row["creation_time"]), _LONGEST),
            cpu_milli=int(row["cpu_milli"]),
            memory_mib=int(row["memory_mib"]),
            gpus=int(row["num_gpu"]),
            gpu_milli=int(row["gpu_milli"]),
            models=tuple(filter(None, row["gpu_spec"].split("|"))),
            qos=row["qos"] or "BE",
        )
        for row in found[skip : skip + count]
    ]


def fleet_job(job: TraceJob, queue: str) -> dict[str, Any]:
    """The FleetJob of one trace job, for sites whose runtime is `simulated`."""
    gpu: dict[str, Any] = {"count": job.gpus} if job.gpu_milli >= 1000 else {"share": f"{job.gpu_milli}m"}
    if job.models:
        gpu["models"] = list(job.models)
    container = {
        "name": "main",
        "image": "trace",
        "resources": {"requests": {"cpu": f"{job.cpu_milli}m", "memory": f"{job.memory_mib}Mi"}},
    }
    annotations = {names.SIMULATED_DURATION: f"{job.duration:.0f}s", names.SIMULATED_EXIT_CODE: "0"}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FleetJob",
        "metadata": {"name": job.name, "namespace": "default"},
        "spec": {
            "queueName": queue,
            "gpu": gpu,
            "template": {
                "metadata": {"annotations": annotations},
                "spec": {"restartPolicy": "Never", "containers": [container]},
            },
        },
    }


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
