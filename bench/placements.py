"""Many Placements at once: what one change of a cluster costs with a thousand of them, and ten thousand from scratch.

By the hub's own keeper, without an API: what is written is not written anywhere. CPU time; every figure is the best of
several rounds, because neighbours on the machine only ever make a round slower.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.report import Figure
from hub.api import names
from hub.controllers.placements import PlacementKeeper
from hub.controllers.world import World
from hub.fleet.changes import ScoresSeen
from hub.placement.classes import PlacementClass
from hub.placement.request import parse_request

_NOW = 1_700_000_000.0
_ROUNDS = 7


def run() -> list[Figure]:
    return [
        Figure("one cluster changes: 1,000 placements of 50 rules × 1,000 clusters", _change(1_000, 50), 50.0, "ms"),
        Figure(
            "one cluster changes: 1,000 placements of 1,000 rules × 1,000 clusters", _change(1_000, 1_000), None, "ms"
        ),
        Figure("10,000 placements of 100 rules × 10,000 clusters, decided from scratch", _decisions(100), 100.0, "ms"),
        Figure("the same by a hub that starts, with their sheets", _scratch(100, False), None, "ms"),
        Figure("1,000 of them, each seeing what the others chose (Balance)", _scratch(100, True, 1_000), None, "ms"),
    ]


def _change(count: int, rules: int) -> float:
    """Every rule has Balance and Steady, as it is without a word, and a score; the cluster leaves and comes back."""
    keeper, world, source = _keeper(1_000)
    for number in range(count):
        keeper.placement_seen(_placement(number, number % rules, 10))
    for _ in range(3):
        keeper.look()
    best = float("inf")
    changed = cluster("cluster-00037", source)
    for turn in range(2 * _ROUNDS):
        labels = changed["metadata"]["labels"] | {"env": "gone" if turn % 2 else "prod", "region": "region-4"}
        changed = {**changed, "metadata": {**changed["metadata"], "labels": labels}, "spec": {"hubAcceptsClient": True}}
        world.cluster_seen(changed)
        decided = keeper.decided
        took = _cpu(keeper.look)
        assert keeper.decided - decided >= count // 2, "the change concerns most of them"
        best = min(best, took)
    return best * 1e3


def _scratch(rules: int, balance: bool, count: int = 10_000) -> float:
    """With all that the hub keeps of them; the objects are read, no fleet column was ever computed."""
    best = float("inf")
    for _ in range(3):
        keeper, _world, _source = _keeper(10_000)
        keeper.look()
        for number in range(count):
            keeper.placement_seen(_placement(number, number % rules, 10, balance=balance))
        best = min(best, _cpu(keeper.look))
    return best * 1e3


def _decisions(rules: int) -> float:
    """Deciding only."""
    requests = [parse_request(_placement(number, number % rules, 10, balance=False)) for number in range(10_000)]
    best = float("inf")
    for _ in range(3):
        _, world, _ = _keeper(10_000)
        tally = np.zeros(10_000, np.int64)

        def decide(world: World = world, tally: NDArray[np.int64] = tally) -> None:
            classes: dict[int, PlacementClass] = {}
            for number, request in enumerate(requests):
                view = classes.get(number % rules)
                if view is None:
                    view = PlacementClass(world.fleet, world.sets, request.rule, _NOW, tally)
                    classes[number % rules] = view
                view.decide((), stability=request.stability)

        best = min(best, _cpu(decide))
    return best * 1e3


def _cpu(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


class _Silent:
    """Stands where decisions are written and told."""

    def settle(self, entry: Any) -> None: ...

    def stop(self) -> None: ...


def _keeper(count: int) -> tuple[PlacementKeeper, World, random.Random]:
    world, source = World(), random.Random(count)
    values = {}
    for number in range(count):
        name = f"cluster-{number:05}"
        world.cluster_seen(cluster(name, source))
        values[name] = float(source.randint(-100, 100))
    world.note(ScoresSeen("AddOn/gpu/free", values, _NOW + 3600))
    world.set_changed("fleet", {"metadata": {"name": "fleet"}})
    world.binding_changed(
        "bench/fleet", {"metadata": {"name": "fleet", "namespace": "bench"}, "spec": {"clusterSet": "fleet"}}
    )
    world.refresh()
    silent: Any = _Silent()
    keeper = PlacementKeeper(
        world,
        silent,
        silent,
        now=lambda: _NOW,
        leads=lambda: True,
        on_decided=lambda namespace, name, clusters: None,
        observe=lambda seconds: None,
        writer=silent,
    )
    return keeper, world, source


def _placement(number: int, rule: int, wanted: int, *, balance: bool = True) -> dict[str, Any]:
    addon = {"type": "AddOn", "addOn": {"resourceName": "gpu", "scoreName": "free"}}
    configurations: list[dict[str, Any]] = [
        {"scoreCoordinate": addon, "weight": 1 + rule % 3},
        {"scoreCoordinate": {"builtIn": "ResourceAllocatableCPU"}},
    ]
    if not balance:
        configurations.append({"scoreCoordinate": {"builtIn": "Balance"}, "weight": 0})
    region = {"key": "region", "operator": "NotIn", "values": [f"region-{rule % 7}", f"other-{rule}"]}
    return {
        "metadata": {
            "name": f"placement-{number:05}",
            "namespace": "bench",
            "uid": str(number),
            "resourceVersion": str(number + 1),
            "generation": 1,
        },
        "spec": {
            "numberOfClusters": wanted,
            "scoreRateLimit": "0s",
            "predicates": [
                {
                    "requiredClusterSelector": {
                        "labelSelector": {"matchLabels": {"env": "prod"}, "matchExpressions": [region]}
                    }
                }
            ],
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "prioritizerPolicy": {"configurations": configurations},
        },
    }


def cluster(name: str, source: random.Random) -> dict[str, Any]:
    cpu = source.randint(20, 400)
    taints = [{"key": "gpu", "effect": "NoSelect"}] if source.random() < 0.3 else []
    return {
        "metadata": {
            "name": name,
            "labels": {
                names.CLUSTER_SET: "fleet",
                "env": source.choice(("prod", "dev")),
                "region": f"region-{source.randrange(5)}",
            },
        },
        "spec": {"hubAcceptsClient": True, "taints": taints},
        "status": {
            "capacity": {"cpu": str(cpu)},
            "allocatable": {"cpu": str(cpu * 7 // 10)},
            "conditions": [{"type": "ManagedClusterConditionAvailable", "status": "True"}],
        },
    }
