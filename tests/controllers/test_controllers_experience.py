"""What the hub remembers of clusters: from the slices of a real hub, and slice by slice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from controllers_scene import Scene, Told, until

from hub.api.indexset import IndexSet
from hub.controllers.experience import SliceRecord
from hub.controllers.hub import Hub
from hub.fleet.changes import FleetChange, ScoresSeen
from hub.jobs.attempt import Attempt

NOW = 1_767_225_600.0


def attempt(epoch: int, cluster: str, state: Any, **facts: Any) -> Attempt:
    tasks = IndexSet.parse("0-3")
    return Attempt(epoch, 1, cluster, tasks, 4, f"w{epoch}", state=state, **facts)


def entry(uid: str, *attempts: Attempt) -> Any:
    return SimpleNamespace(uid=uid, state=SimpleNamespace(attempts=attempts))


class Fed:
    def __init__(self) -> None:
        self.changes: list[FleetChange] = []
        self.record = SliceRecord(self.changes.append, lambda: NOW)

    def values(self, name: str) -> dict[str, float]:
        self.record.look()
        found = [change for change in self.changes if isinstance(change, ScoresSeen) and change.source == name]
        return dict(found[-1].values) if found else {}


@pytest.mark.parametrize(
    ("state", "facts", "known"),
    [
        ("Failed", {"failed": IndexSet.parse("0-3")}, True),
        ("Lost", {}, True),
        ("Failed", {"reason": "WorkRefused"}, True),
        ("Cancelled", {"failed": IndexSet.parse("0")}, False),
        ("Running", {"failed": IndexSet.parse("0")}, False),
        ("Succeeded", {"succeeded": IndexSet.parse("0-3")}, True),
    ],
)
async def test_what_counts_for_or_against_a_cluster(state: str, facts: dict[str, Any], known: bool) -> None:
    fed = Fed()
    fed.record.job_state(entry("u", attempt(1, "ash", state, finished_at=NOW, **facts)))
    rates = fed.values("FailureRate")
    assert (rates.get("ash") is not None) is known
    if known:
        assert rates["ash"] == (0.0 if state == "Succeeded" else 1.0)
    fed.record.stop()


async def test_a_slice_counts_once_and_how_late_it_began_is_known_while_it_runs() -> None:
    fed = Fed()
    running = attempt(1, "ash", "Running", admitted_at=NOW - 30, started_at=NOW - 10)
    for _ in range(3):
        fed.record.job_state(entry("u", running))
    assert fed.values("StartDelay") == {"ash": 20.0}
    assert fed.values("FailureRate") == {}
    over = attempt(
        1, "ash", "Failed", admitted_at=NOW - 30, started_at=NOW - 10, finished_at=NOW, failed=IndexSet.parse("0-3")
    )
    good = attempt(2, "elm", "Succeeded", finished_at=NOW, succeeded=IndexSet.parse("0-3"))
    fed.record.job_state(entry("u", over, good))
    fed.record.job_state(entry("u", over, good))
    # Each has one observation and three like the mean of the fleet, ½.
    assert fed.values("FailureRate") == {"ash": 0.62, "elm": 0.38}
    said = len(fed.changes)
    fed.record.look()
    assert len(fed.changes) == said
    fed.record.job_gone("u")
    fed.record.look()
    assert len(fed.changes) == said
    fed.record.stop()


async def test_a_clock_that_is_wrong_makes_no_negative_delay() -> None:
    fed = Fed()
    fed.record.job_state(entry("u", attempt(1, "ash", "Running", admitted_at=NOW, started_at=NOW - 50)))
    assert fed.values("StartDelay") == {"ash": 0.0}
    fed.record.stop()


async def test_a_hub_tells_it_all_again_after_a_restart(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.controllers.experience._EVERY", 0.05)
    hub = await scene.hub()
    await scene.agent("ash", plan=lambda work, tasks: Told(failing=frozenset({0})))
    await scene.available("ash")
    await scene.submit("wrong")
    await scene.phase("wrong", "Failed")

    def knows(of: Hub) -> bool:
        of.world.refresh()
        return len(of.world.fleet) == 1 and float(of.world.fleet.scores("FailureRate", 0.0)[0]) > 0.5

    await until(lambda: knows(hub), 10)
    await scene.kill(hub)
    again = await scene.hub(identity="another")
    await until(lambda: knows(again), 10)
