"""GPUs that are held and not used: who is warned, when it is evicted or loses its priority, and what is never idle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import pytest
from controllers_scene import Scene, Told, until
from controllers_web import Answer, Web, vector

from hub.api import names
from hub.api.resource import EVENTS
from hub.controllers.idle import DEMOTED, IdleWatch, read_use
from hub.controllers.queue_config import Idle
from hub.fleet.shape import TaskShape
from hub.jobs.attempt import Attempt
from hub.planner.plan import HeldSlice

Json = dict[str, Any]
SLICE = HeldSlice(
    key="lab/job", uid="u", work="job-1", epoch=1, cluster="ash", queue="q", priority=5, created=0.0, admitted=0.0,
    shape=TaskShape(((names.GPU, 1),)), slots=1, amounts=(), started=100.0,
)  # fmt: skip


class Watched:
    """A watch whose clock and holders the test moves."""

    def __init__(self, action: str, *held: HeldSlice) -> None:
        self.now, self.held = 100.0, list(held)
        self.warned: list[str] = []
        self.changed: list[str] = []
        config = Idle.model_validate({"below": 5, "for": "60s", "action": action, "patience": "30s"})
        self.watch = IdleWatch(
            config, lambda promql: [], lambda: self.held, 7.0, lambda: self.now,
            on_idle=lambda part, sentence: self.warned.append(sentence), on_change=self.changed.append,
        )  # fmt: skip

    def look(self, at: float, value: float | None) -> None:
        self.now = at
        self.watch.look({} if value is None else {("ash", "job-1"): value})

    def cause(self) -> Any:
        return self.watch.cause(Attempt(1, 1, "ash", tasks=_ONE, slots=1, work="job-1"))


_ONE = Attempt.__dataclass_fields__["stale"].default


def test_it_is_warned_once_and_evicted_after_its_patience() -> None:
    scene = Watched("evict", SLICE)
    scene.look(120.0, 0.0)
    assert (scene.warned, scene.watch.slices) == ([], 0)
    scene.look(160.0, 1.4)
    scene.look(170.0, 1.4)
    assert scene.warned == ["its GPUs on ash were used 1 % over 1m; 5 % is the least that is expected"]
    assert (scene.cause(), scene.watch.slices, scene.changed) == (None, 1, ["u"])
    scene.look(190.0, 2.0)
    cause = scene.cause()
    assert (cause.reason.code, cause.notice) == ("Idle", 7.0)
    assert "2 %" in cause.message


def test_who_works_again_in_time_has_nothing_to_fear() -> None:
    scene = Watched("evict", SLICE)
    scene.look(160.0, 0.0)
    scene.look(185.0, 50.0)
    scene.look(200.0, 0.0)
    assert scene.cause() is None
    assert len(scene.warned) == 2
    assert not scene.watch.demoted("u")


def test_a_demoted_job_loses_its_priority_while_it_is_idle() -> None:
    scene = Watched("demote", SLICE)
    scene.look(160.0, 0.0)
    assert not scene.watch.demoted("u")
    scene.look(195.0, 0.0)
    assert (scene.watch.demoted("u"), scene.watch.demoted("other"), scene.cause()) == (True, False, None)
    scene.look(200.0, 80.0)
    assert not scene.watch.demoted("u")


@pytest.mark.parametrize(
    "held",
    [
        replace(SLICE, shape=TaskShape((("cpu", 1000),))),
        replace(SLICE, started=None),
        replace(SLICE, leaving=True),
        replace(SLICE, cluster="elm"),
    ],
)
def test_what_is_never_idle(held: HeldSlice) -> None:
    scene = Watched("evict", held)
    scene.look(1000.0, 0.0)
    assert scene.watch.slices == 0


def test_what_nobody_measures_is_not_idle() -> None:
    scene = Watched("evict", SLICE)
    scene.look(1000.0, None)
    assert scene.watch.slices == 0


def test_nonsense_is_no_measurement() -> None:
    labels = {"cluster": "ash", "work": "job-1"}
    good = {"metric": labels, "value": [1, "3.5"]}
    bad: list[Any] = [
        {"metric": labels, "value": [1, "NaN"]}, {"metric": {"cluster": "a"}, "value": [1, "1"]}, {"metric": labels},
        {"value": [1, "1"]}, 7,
    ]  # fmt: skip
    assert read_use([*bad, good]) == {("ash", "job-1"): 3.5}
    assert read_use({"no": "list"}) == {}


@pytest.fixture
def prometheus(web: Web) -> tuple[str, dict[str, str]]:
    """Says of every work what the test has put there; keeps the last query."""
    use: dict[str, str] = {}

    def answers(path: str, asked: bytes) -> Answer:
        query = parse_qs(asked.decode()).get("query") or parse_qs(path.partition("?")[2]).get("query") or [""]
        use["query"] = query[0]
        return vector(
            [
                {"metric": {"cluster": "ash", "work": work}, "value": [1, value]}
                for work, value in use.items()
                if work != "query"
            ]
        )

    web.answers = answers
    return web.url, use


async def test_an_idle_slice_is_warned_evicted_and_runs_again(
    scene: Scene, prometheus: tuple[str, dict[str, str]]
) -> None:
    url, use = prometheus
    idle = {"below": 5, "for": "1s", "action": "evict", "patience": "300ms"}
    hub = await scene.hub(prometheus={"url": url}, queue={"idle": idle, "notice": "50ms"})

    def plan(work: Json, tasks: Any) -> Told:
        first = work["metadata"]["labels"][names.EPOCH] == "1"
        if first:
            use[work["metadata"]["name"]] = "0.5"
        return Told(seconds=60 if first else 0.05, running_after=0.0)

    await scene.agent("ash", gpus=2, plan=plan)
    await scene.available("ash")
    await scene.submit("job", gpu={"count": 1})
    status = await scene.phase("job", "Succeeded", seconds=30)
    first = status["attempts"][0]
    assert (first["state"], first["reason"]) == ("Evicted", "Idle")
    assert "5 % is the least" in first["message"]
    assert "DCGM_FI_DEV_GPU_UTIL" in use["query"]

    async def warned() -> bool:
        events = (await scene.api.list(EVENTS, "default")).items
        return any(e["reason"] == "Idle" and e["action"] == "Watch" for e in events)

    await until(warned)
    value = hub.metrics.registry.get_sample_value
    assert value("quarterdeck_evictions_total", {"queue": "default", "reason": "Idle"}) == 1


async def test_a_demoted_job_is_the_first_to_make_way(scene: Scene, prometheus: tuple[str, dict[str, str]]) -> None:
    url, use = prometheus
    idle = {"below": 5, "for": "1s", "action": "demote", "patience": "100ms"}
    hub = await scene.hub(prometheus={"url": url}, queue={"idle": idle})

    def plan(work: Json, tasks: Any) -> Told:
        use[work["metadata"]["name"]] = "0"
        return Told(seconds=60, running_after=0.0)

    await scene.agent("ash", gpus=2, plan=plan)
    await scene.available("ash")
    await scene.submit("job", gpu={"count": 1}, priorityClassName="high")
    await until(lambda: [part.priority for part in hub.holdings.slices] == [DEMOTED], 30)
    use.update(dict.fromkeys([key for key in use if key != "query"], "90"))
    await until(lambda: [part.priority for part in hub.holdings.slices] != [DEMOTED], 30)
