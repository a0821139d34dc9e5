"""What the built-in scorers say of small fleets, and that plugins are found, or left out with the reason."""

from __future__ import annotations

import math
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest

from hub.api import names
from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen, ScoresSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.scoring.builtin import ColumnScorer, FreeShare, FreeSlots, Price, default_scorers
from hub.scoring.combine import rank
from hub.scoring.interface import ScoreRequest
from hub.scoring.plugins import discover

NAN = math.nan
GI = 1 << 30
GPU_TASK = TaskShape((("cpu", 4000), ("memory", 8 * GI), (names.GPU, 2)))
CPU_TASK = TaskShape((("cpu", 2000), ("memory", 4 * GI)))


def fleet_of(**sites: dict[str, Any] | None) -> Fleet:
    fleet = Fleet.empty().apply(ClusterSeen({"metadata": {"name": name}}) for name in sites)
    return fleet.apply(
        CapacitySeen({"metadata": {"name": name}, "status": status})
        for name, status in sites.items()
        if status is not None
    )


def site(count: int = 1, cpu: str = "8", gpus: int = 0, model: str = "A100", **status: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": "g", "count": count, "allocatable": {"cpu": cpu, "memory": "64Gi"}}
    if gpus:
        entry["gpu"] = {"model": model, "count": gpus}
    return {"nodeGroups": [entry], **status}


def says(scorer: Any, fleet: Fleet, shape: TaskShape, now: float = 0.0) -> list[float]:
    return [round(value, 6) for value in scorer.score(fleet, ScoreRequest(shape, 1, now)).tolist()]


def same(found: list[float], expected: list[float]) -> bool:
    return bool(np.allclose(found, expected, equal_nan=True))


def test_free_slots_are_of_the_shape() -> None:
    # b has more GPUs free in total, in pieces that no task can use.
    fleet = fleet_of(a=site(2, gpus=2), b=site(6, gpus=1), c=None)
    assert same(says(FreeSlots(), fleet, GPU_TASK), [2, 0, NAN])
    charged = fleet.apply([Charge("k", "a", GPU_TASK, 1)])
    assert same(says(FreeSlots(), charged, GPU_TASK), [1, 0, NAN])


def test_free_share_is_what_stays_of_the_scarcest() -> None:
    fleet = fleet_of(a=site(2, cpu="4", gpus=2), b=site(1, cpu="8"), c=None)
    assert same(says(FreeShare(), fleet, CPU_TASK), [0.75, 0.75, NAN])
    # GPUs: 2 of 4 stay; b has none at all.
    assert same(says(FreeShare(), fleet, GPU_TASK), [0.5, 0.0, NAN])
    charged = fleet.apply([Charge("k", "b", CPU_TASK, 2)])
    assert same(says(FreeShare(), charged, CPU_TASK), [0.75, 0.25, NAN])
    assert same(says(FreeShare(), fleet, TaskShape()), [1, 1, NAN])
    # Never below nothing.
    assert same(says(FreeShare(), fleet, TaskShape((("cpu", 99000),))), [0, 0, NAN])
    share = TaskShape((), gpu_share=500)
    assert same(says(FreeShare(), fleet, share), [3.5 / 4, 0.0, NAN])


FULL = {"gpuHour": {"A100": "2"}, "cpuHour": "0.1", "memoryGiBHour": "0.01"}


@pytest.mark.parametrize(
    ("status", "shape", "price"),
    [
        (site(gpus=2, prices=FULL), GPU_TASK, 2 * 2 + 4 * 0.1 + 8 * 0.01),
        (site(gpus=2, prices=FULL), CPU_TASK, 2 * 0.1 + 4 * 0.01),
        (site(gpus=2, prices=FULL), TaskShape((), gpu_share=250), 0.5),
        # Part of the GPU's price where not stated.
        (site(gpus=2, prices={"gpuHour": {"A100": "2"}}), GPU_TASK, 4),
        (site(gpus=2, prices={"gpuHour": {"A100": "2"}}), CPU_TASK, NAN),
        (site(gpus=2, prices={"cpuHour": "0.1"}), CPU_TASK, 0.2),
        (site(gpus=2, prices={"cpuHour": "0.1"}), TaskShape((("cpu", 1000),)), 0.1),
        (site(gpus=2, prices={"cpuHour": "0.1"}), GPU_TASK, NAN),
        (site(gpus=2, prices={"gpuHour": {"H100": "1"}}), GPU_TASK, NAN),
        (site(gpus=2, prices={"gpuHour": {"A100": "0"}}), GPU_TASK, 0),
        (site(gpus=2), CPU_TASK, NAN),
        (site(gpus=2, prices=FULL), TaskShape(GPU_TASK.requests, gpu_models=("H100",)), NAN),
        (None, CPU_TASK, NAN),
    ],
)
def test_price_of_a_task_hour(status: dict[str, Any] | None, shape: TaskShape, price: float) -> None:
    assert same(says(Price(), fleet_of(a=status), shape), [price])


def test_the_cheapest_model_that_will_do_counts() -> None:
    status = site(gpus=1, prices={"gpuHour": {"A100": "2", "T4": "0.5", "H100": "0.1"}})
    status["nodeGroups"].append({**status["nodeGroups"][0], "name": "t4", "gpu": {"model": "T4", "count": 1}})
    status["nodeGroups"].append(
        {**status["nodeGroups"][0], "name": "h", "count": 0, "gpu": {"model": "H100", "count": 1}}
    )
    fleet = fleet_of(a=status)
    one = (names.GPU, 1)
    assert says(Price(), fleet, TaskShape((one,))) == [0.5]
    assert says(Price(), fleet, TaskShape((one,), gpu_models=("A100",))) == [2.0]


def test_a_column_is_known_while_it_is_valid() -> None:
    fleet = fleet_of(a=site(), b=site()).apply([ScoresSeen("watts", {"a": 300.0}, 50.0)])
    assert same(says(ColumnScorer("watts"), fleet, CPU_TASK, 50.0), [300, NAN])
    assert same(says(ColumnScorer("watts"), fleet, CPU_TASK, 51.0), [NAN, NAN])
    assert same(says(ColumnScorer("power", "watts", lower_is_better=True), fleet, CPU_TASK), [300, NAN])


def test_defaults_prefer_room_then_price() -> None:
    fleet = fleet_of(
        cheap=site(4, gpus=2, prices={"gpuHour": {"A100": "1"}}),
        dear=site(4, gpus=2, prices={"gpuHour": {"A100": "3"}}),
        roomy=site(8, gpus=2, prices={"gpuHour": {"A100": "3"}}),
        unpriced=site(4, gpus=2),
    )
    # Half full: room for more tasks than the others, but a smaller part of it free.
    fleet = fleet.apply([Charge("k", "roomy", GPU_TASK, 2)])
    ranking = rank(fleet, ScoreRequest(GPU_TASK, 1, 0.0), default_scorers(), np.ones(4, np.bool_))
    assert ranking.ordered == ("cheap", "roomy", "dear", "unpriced")
    assert ranking.total.tolist() == [200, 100, 200, 99]
    assert not ranking.problems


class Plugin:
    name = "Plugin"
    weight = 2

    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return np.zeros(len(fleet.names))


INSTANCE = Plugin()


class Unnamed(Plugin):
    name = ""


class Heavy(Plugin):
    name = "Heavy"
    weight = math.inf


class Mute:
    name = "Mute"
    score = 3


def explodes() -> Plugin:
    raise OSError("no network")


def point(attribute: str, name: str = "p", module: str = __name__) -> EntryPoint:
    return EntryPoint(name, f"{module}:{attribute}", "quarterdeck.scorers")


@pytest.mark.parametrize("attribute", ["Plugin", "INSTANCE"])
def test_a_plugin_is_found(attribute: str) -> None:
    plugins = discover(found=[point(attribute)])
    assert [(entry.scorer.name, entry.weight) for entry in plugins.scorers] == [("Plugin", 2.0)]
    assert plugins.problems == {}


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (point("Plugin", module="no_such_module"), "ModuleNotFoundError"),
        (point("Missing"), "AttributeError"),
        (point("explodes"), "OSError: no network"),
        (point("Unnamed"), "needs a name"),
        (point("Heavy"), "weight inf is not a number"),
        (point("Mute"), "needs a method score"),
        (point("Plugin", name="zz"), "there is a scorer Plugin already"),
    ],
)
def test_a_bad_plugin_is_left_out(entry: EntryPoint, problem: str) -> None:
    plugins = discover(["FreeSlots"], [entry, point("INSTANCE", name="good")])
    assert [found.scorer.name for found in plugins.scorers] == ["Plugin"]
    assert problem in plugins.problems[entry.name]


def test_installed_plugins_are_asked_for() -> None:
    assert discover().problems == {}
