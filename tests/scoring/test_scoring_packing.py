"""Fragmentation and the price of scarce models, by hand; and what is typical of what was asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hub.api import names
from hub.fleet.changes import CapacitySeen, Charge, ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.scoring.contract import check
from hub.scoring.interface import ScoreRequest
from hub.scoring.mix import MOST, MixCounter, ShapeMix, Typical, typical_of
from hub.scoring.packing import Fragmentation, Scarcity


def shape(cpu: int = 1000, gpus: int = 0, share: int = 0, *models: str) -> TaskShape:
    requests = [("cpu", cpu)] + ([(names.GPU, gpus)] if gpus else [])
    return TaskShape(tuple(sorted(requests)), gpu_share=share, gpu_models=models)


def mix(*parts: tuple[TaskShape, float]) -> ShapeMix:
    return ShapeMix(tuple(Typical(shape, part) for shape, part in parts), 1)


def site(name: str, gpus: int, model: str = "A100", cpu: int = 8, count: int = 1) -> list[Any]:
    group: dict[str, Any] = {"name": "n", "count": count, "allocatable": {"cpu": str(cpu)}}
    if gpus:
        group["gpu"] = {"model": model, "count": gpus}
    return [
        ClusterSeen({"metadata": {"name": name}}),
        CapacitySeen({"metadata": {"name": name, "namespace": name}, "status": {"nodeGroups": [group]}}),
    ]


def fleet(*sites: list[Any]) -> Fleet:
    return Fleet.empty().apply(change for changes in sites for change in changes)


def says(scorer: Any, of: Fleet, want: TaskShape) -> list[float]:
    return scorer.score(of, ScoreRequest(want, 1, 0.0)).tolist()  # type: ignore[no-any-return]


def points(worse: float) -> int:
    return int(100 / (1 + math.exp(worse / 1000)))


def test_what_leaves_pieces_is_worse_than_what_leaves_none() -> None:
    typical = mix((shape(1000, 2), 1.0))
    three = fleet(site("pair", 2), site("single", 1), site("odd", 3))
    # Half of a pair is of no use to pairs: 1000 more. A single one was of no use before: 1000 fewer. Of three free, one
    # taken leaves the pair: the free ones that pairs can use are 3000 before and 2000 after.
    found = dict(zip(three.names, says(Fragmentation(typical), three, shape(1000, 1)), strict=True))
    assert found == {"pair": points(1000), "single": points(-1000), "odd": points(0)}


def test_gpus_without_cpu_beside_them_are_fragments() -> None:
    typical = mix((shape(2000, 1), 1.0))
    two = fleet(site("rich", 2, cpu=16), site("tight", 2, cpu=4))
    # A CPU task that leaves 3 CPUs leaves one GPU task less room, but GPUs are usable one by one: none or all.
    assert says(Fragmentation(typical), two, shape(1000)) == [50, 50]
    assert says(Fragmentation(typical), two, shape(3000)) == [50, points(2000)]


def test_without_room_or_report_or_mix_nothing_is_known() -> None:
    full = fleet(site("full", 1), [ClusterSeen({"metadata": {"name": "silent"}})]).apply(
        [Charge("k", "full", shape(1000, 1), 1)]
    )
    assert np.isnan(says(Fragmentation(mix((shape(), 1.0))), full, shape(1000, 1))).all()
    assert np.isnan(says(Fragmentation(ShapeMix()), full, shape(1000, 1))).all()
    silent = says(Scarcity(ShapeMix()), full, shape(1000, 1))
    assert silent[0] == 100
    assert math.isnan(silent[1])


def test_models_that_others_need_cost_those_who_need_none() -> None:
    two = fleet(site("many", 8, "T4"), site("rare", 2, "H100"))
    typical = mix((shape(1000, 1, 0, "H100"), 0.4), (shape(1000, 1), 0.6))
    # 40 % of the demand is for 20 % of the GPUs: twice what there is.
    assert says(Scarcity(typical), two, shape(1000, 1)) == [100, 80]
    assert says(Scarcity(typical), two, shape(1000, 1, 0, "H100")) == [100, 100]
    assert says(Scarcity(typical), two, shape(1000)) == [100, 100]
    # Of several models each gets its part of the demand by how much there is of it.
    either = mix((shape(1000, 1, 0, "H100", "T4"), 1.0))
    assert says(Scarcity(either), two, shape(1000, 1)) == [90, 90]


def test_the_whole_fleet_can_be_asked_what_is_of_no_use() -> None:
    typical = mix((shape(1000, 2), 0.5), (shape(1000, 1), 0.5))
    assert Fragmentation(typical).fragments(fleet(site("pair", 2), site("single", 1), site("plain", 0))) == 500


@pytest.mark.parametrize("scorer", [Fragmentation, Scarcity])
def test_they_keep_the_contract(scorer: Any) -> None:
    typical = mix((shape(1000, 2), 0.5), (shape(1000, 0, 300, "H100"), 0.3), (shape(500, 1, 0, "A100", "T4"), 0.2))
    assert [finding for finding in check(lambda: scorer(typical), budget=10.0) if finding.problem] == []


def test_typical_is_what_covers_most_and_only_gpus_count() -> None:
    counts = {shape(1000, 1): 90.0, shape(1000): 900.0, shape(1000, 2): 9.0, shape(1000, 4): 1.0}
    assert [(t.shape.gpus, round(t.part, 3)) for t in typical_of(counts)] == [(1, 0.909), (2, 0.091)]
    assert len(typical_of({shape(1000 + n, 1): 1.0 for n in range(500)})) == MOST
    assert typical_of({}) == ()
    images = TaskShape((("cpu", 1000), (names.GPU, 1)), images=("a",))
    assert len(typical_of({images: 1.0, shape(1000, 1): 1.0})) == 1


def test_the_mix_moves_in_steps_and_forgets() -> None:
    counter = MixCounter(half_life=100.0)
    assert counter.mix().typical == ()
    counter.add([(shape(1000, 1), 100)])
    first = counter.mix()
    assert [t.shape.gpus for t in first.typical] == [1]
    counter.add([(shape(1000, 8), 5)])
    assert counter.mix() is first
    counter.add([(shape(1000, 8), 5000)])
    assert [t.shape.gpus for t in counter.mix().typical] == [8]
    assert counter.mix() == counter.mix()
    for _ in range(100):
        counter.add([(shape(1000, 2), 1000)])
    assert [t.shape.gpus for t in counter.mix().typical] == [2]
