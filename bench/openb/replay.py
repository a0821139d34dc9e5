"""`python -m bench.openb`: how much of a production GPU cluster can be allocated, arrival by arrival.

The trace's tasks arrive in random order until 130 % of the GPUs have been asked for, and never end: what is measured is
packing alone. Ten clusters (one a GPU model, the two largest models cut into parts) report node groups, and the hub's
own planner decides where each task goes, with the mix of shapes that it has seen so far. What has no room on arrival is
gone. Beside it: the published means of 10 runs on one flat cluster (Weng et al., USENIX ATC 2023). The data are not
ours to keep: name the folder.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.openb import data
from bench.report import Figure, print_figures
from hub.api import names
from hub.api.errors import QuarterdeckError
from hub.api.indexset import IndexSet
from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.planner.cycle import plan
from hub.planner.plan import Snapshot
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.quotas import Quotas
from hub.scoring.builtin import default_scorers
from hub.scoring.mix import MixCounter, ShapeMix, typical_of
from hub.scoring.packing import Fragmentation

MARKS: Final = (90, 95, 100, 130)
# Published: FGD and best fit on one flat cluster, GPU allocation % at the marks; None: not published.
PUBLISHED: Final[dict[str, tuple[tuple[float | None, ...], tuple[float | None, ...]]]] = {
    "default": ((89.98, 94.90, 95.23, 95.39), (89.99, 92.82, 92.86, 93.08)),
    "gpuspec10": ((85.83, 90.38, 94.66, 94.95), (84.98, 89.58, 93.10, 93.30)),
    "gpushare40": ((None, None, None, 94.15), (None, None, None, 91.69)),
    "multigpu20": ((None, None, None, 95.65), (None, None, None, 93.93)),
}
# (trace, mark) → what the project promises.
HOLD: Final = {("default", 100): 95.2, ("default", 130): 95.4, ("gpuspec10", 100): 95.0}


@dataclass(frozen=True, slots=True)
class Run:
    """GPU allocation % at each of `MARKS`; `fragmented`: % of all GPUs that typical tasks cannot use at the end."""

    allocation: tuple[float, ...]
    fragmented: float
    tasks: int
    refused: int
    seconds: float


def replay(folder: Path, trace: str, seed: int) -> Run:
    shapes = [_shape(row) for row in _rows(folder / f"openb_pod_list_{trace}.csv")]
    # One generator for the order and for what comes again once the trace is used up.
    chance = random.Random(seed)
    chance.shuffle(shapes)
    fleet, quotas = _fleet(folder), _open_queue()
    everything = float(fleet.allocatable(names.GPU).sum()) * 1000
    counter = MixCounter()
    scorers, mix = default_scorers(), ShapeMix()
    arrived = allocated = refused = number = 0
    marks: list[float] = []
    started = time.process_time()
    while len(marks) < len(MARKS):
        shape = shapes[number] if number < len(shapes) else chance.choice(shapes)
        number += 1
        arrived += shape.gpu_milli
        counter.add([(shape, 1)])
        if counter.mix() is not mix:
            mix = counter.mix()
            scorers = default_scorers(mix)
        decided = plan(Snapshot(float(number), fleet, quotas, {}, (_demand(number, shape),), scorers=scorers))
        if decided.admissions:
            cluster = decided.admissions[0].slices[0].cluster
            fleet = fleet.apply([Charge(f"task-{number}", cluster, shape, 1)])
            allocated += shape.gpu_milli
        else:
            refused += 1
        while len(marks) < len(MARKS) and arrived >= MARKS[len(marks)] / 100 * everything:
            marks.append(allocated / everything * 100)
    fragmented = Fragmentation(_whole_mix(shapes)).fragments(fleet) / everything * 100
    return Run(tuple(marks), fragmented, number, refused, time.process_time() - started)


def run() -> list[Figure]:
    """For `make bench`: one run of the default trace and of gpuspec10, where the data are; else nothing is measured."""
    folder = Path(os.environ.get("OPENB", "../shared/data/openb"))
    try:
        data.require(folder)
    except QuarterdeckError as error:
        return [Figure(f"not measured: {error}", 0.0, None, "")]
    found = []
    for trace in ("default", "gpuspec10"):
        done = replay(folder, trace, 1)
        for position, mark in enumerate(MARKS):
            published = PUBLISHED[trace][0][position]
            peer = None if published is None else ("FGD", published)
            hold = HOLD.get((trace, mark))
            found.append(
                Figure(f"{trace}: GPUs allocated, {mark} % arrived", done.allocation[position], hold, "%", True, peer)
            )
        found.append(Figure(f"{trace}: GPUs that typical tasks cannot use at the end", done.fragmented, None, "%"))
        found.append(Figure(f"{trace}: CPU a decision", done.seconds / done.tasks * 1000, None, "ms"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("traces", nargs="*", default=["default", "gpuspec10"])
    parser.add_argument("--openb", type=Path, default=Path("../shared/data/openb"), help="folder of the CSV files")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each trace, each in another order")
    options = parser.parse_args()
    try:
        data.require(options.openb)
    except QuarterdeckError as error:
        print(f"{error}\n  → {error.hint}" if error.hint else error, file=sys.stderr)
        sys.exit(2)
    held = True
    for trace in options.traces:
        if not (options.openb / f"openb_pod_list_{trace}.csv").is_file():
            print(f"the trace {trace} is not in {options.openb}", file=sys.stderr)
            sys.exit(2)
        held = _table(options.openb, trace, options.seeds) and held
    sys.exit(0 if held else 1)


def _table(folder: Path, trace: str, seeds: int) -> bool:
    runs = [replay(folder, trace, seed) for seed in range(1, seeds + 1)]
    fgd, best_fit = PUBLISHED.get(trace, ((None,) * len(MARKS), (None,) * len(MARKS)))
    figures = []
    for position, mark in enumerate(MARKS):
        mean = sum(done.allocation[position] for done in runs) / seeds
        worst = min(done.allocation[position] for done in runs)
        said = f"{mark} % arrived (worst {worst:.2f}; best fit {_text(best_fit[position])}, FGD {_text(fgd[position])})"
        figures.append(Figure(said, mean, HOLD.get((trace, mark)), "%", True))
    fragmented = sum(done.fragmented for done in runs) / seeds
    cpu = sum(done.seconds for done in runs) / sum(done.tasks for done in runs)
    figures.append(Figure("GPUs that typical tasks cannot use at the end", fragmented, None, "%"))
    figures.append(Figure("CPU a decision", cpu * 1000, None, "ms"))
    return print_figures(f"{trace}: GPU allocation, {seeds} run(s), 10 clusters", figures)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _fleet(folder: Path) -> Fleet:
    def changes() -> Iterator[ClusterSeen | CapacitySeen]:
        for site in data.sites(folder, 1.0):
            metadata = {"name": site["name"], "namespace": site["name"]}
            condition = {"type": "ManagedClusterConditionAvailable", "status": "True"}
            yield ClusterSeen(
                {"metadata": metadata, "spec": {"hubAcceptsClient": True}, "status": {"conditions": [condition]}}
            )
            groups = [
                {
                    "name": f"nodes-{position}",
                    "count": node["count"],
                    "gpu": node["gpu"],
                    "allocatable": {"cpu": node["cpu"], "memory": node["memory"]},
                }
                for position, node in enumerate(site["nodes"])
            ]
            yield CapacitySeen({"metadata": metadata, "status": {"nodeGroups": groups}})

    return Fleet.empty().apply(changes())


def _open_queue() -> Quotas:
    quota = [{"name": name, "nominalQuota": "1P"} for name in ("cpu", "memory", names.GPU, names.GPU_MILLI)]
    group = {
        "coveredResources": [entry["name"] for entry in quota],
        "flavors": [{"name": "default", "resources": quota}],
    }
    queue = {
        "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": {"name": "q"},
        "spec": {"namespaceSelector": {}, "resourceGroups": [group]},
    }  # fmt: skip
    local = {
        "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue",
        "metadata": {"name": "default", "namespace": "default"}, "spec": {"clusterQueue": "q"},
    }  # fmt: skip
    flavor = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor", "metadata": {"name": "default"}}
    return Quotas.parse([flavor, queue, local])


def _demand(number: int, shape: TaskShape) -> Demand:
    name = f"task-{number}"
    return Demand(
        key=f"default/{name}", uid=name, namespace="default", queue="default", priority=0, created=float(number),
        shape=shape, slots=1, groups=(TaskGroup(IndexSet.parse("0"), 1),),
    )  # fmt: skip


def _shape(row: dict[str, str]) -> TaskShape:
    gpus, milli = int(row["num_gpu"]), int(row["gpu_milli"])
    requests = {"cpu": int(row["cpu_milli"]), "memory": int(row["memory_mib"]) << 20}
    share = milli if gpus and milli < 1000 else 0
    if gpus and not share:
        requests[names.GPU] = gpus
    return TaskShape(
        requests=tuple(sorted((name, amount) for name, amount in requests.items() if amount)),
        gpu_share=share,
        # Not in every trace of the set.
        gpu_models=tuple(sorted(filter(None, (row.get("gpu_spec") or "").split("|")))),
    )


def _whole_mix(shapes: list[TaskShape]) -> ShapeMix:
    counts: dict[TaskShape, float] = {}
    for shape in shapes:
        counts[shape] = counts.get(shape, 0.0) + 1.0
    return ShapeMix(typical_of(counts), 1)


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
