"""What the demo plays.

Three edge sites that differ, and one array job over real files. Plain values, nothing runs here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hub.api import names
from hub.cli.demo import sequence_stats
from hub.cli.demo.fasta import FILES

JOB = "sequence-stats"
ATTEMPTS = 2

# Two of the three have the model that the job asks for; one of those is busy with work that is not ours.
SITES: list[dict[str, Any]] = [
    {
        "name": "harbour",
        "runtime": "process",
        "labels": {"region": "north"},
        "prices": {"gpuHour": {"A100": "2.10"}, "cpuHour": "0.04"},
        "nodes": [{"count": 2, "cpu": 8, "memory": "32Gi", "gpu": {"model": "A100", "count": 2, "memory": "40Gi"}}],
    },
    {
        "name": "foundry",
        "runtime": "process",
        "labels": {"region": "south"},
        "prices": {"gpuHour": {"A100": "1.35"}, "cpuHour": "0.03"},
        "nodes": [{"count": 1, "cpu": 16, "memory": "64Gi", "gpu": {"model": "A100", "count": 4, "memory": "80Gi"}}],
        "busy": [{"cpu": 6, "memory": "20Gi", "gpus": 2}],
    },
    {
        "name": "orchard",
        "runtime": "process",
        "labels": {"region": "west"},
        "prices": {"gpuHour": {"L4": "0.45"}, "cpuHour": "0.02"},
        "nodes": [{"count": 3, "cpu": 4, "memory": "16Gi", "gpu": {"model": "L4", "count": 1, "memory": "24Gi"}}],
    },
]


def fleet_file() -> dict[str, Any]:
    return {"apiVersion": names.API_VERSION, "kind": "Fleet", "sites": SITES}


def job(samples: Path) -> dict[str, Any]:
    """One task a file. The program is ordinary Python that reads its task's index from the environment."""
    container = {
        "name": "main",
        "image": "host",
        "command": [sys.executable, "-I", "-S", str(Path(sequence_stats.__file__).resolve()), str(samples)],
        "resources": {"requests": {"cpu": "1", "memory": "128Mi"}},
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FleetJob",
        "metadata": {"name": JOB},
        "spec": {
            "tasks": FILES,
            "gpu": {"count": 1, "models": ["A100"]},
            "retry": {"limitPerTask": ATTEMPTS, "elsewhere": True},
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }
