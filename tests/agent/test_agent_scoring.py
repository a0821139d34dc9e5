"""J: scorers that an agent asks, by a clock that jumps: cadence, a hub that is away, what it is told afterwards."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from agent_clock import run_jumping
from agent_fakes import FakeApi

from agent.link import HubLink
from agent.main import main
from agent.scoring.orders import KeptOrders, Order, read_orders
from agent.scoring.pacing import Pacing, offset
from agent.scoring.report import MOST_RESULTS, ScoreReport
from agent.scoring.room import ScoringRoom
from hub.api.clusterscoring import ClusterScoring
from hub.api.reasons import Reason
from hub.api.resource import CLUSTER_SCORINGS, NAMESPACES
from hub.asking.access import Access
from hub.asking.answer import Result, ScorerAnswer
from hub.asking.question import Question, to_wire
from hub.asking.trouble import ScorerTrouble
from hub.client.backoff import Backoff

Json = dict[str, Any]
LABELS = ("n1", "", "", "", "", "", "")


def order(
    name: str = "default/cool", interval: float = 10.0, deadband: float | None = 0.0, score: str = "cool"
) -> Order:
    question = Question(score, "http://scorer.example/scoring")
    return Order(name, question.digest, question, interval, 2 * interval, deadband)


def entry(name: str = "default/cool", interval: float = 10.0, score: str = "cool", **more: Any) -> Json:
    question = Question(score, "http://scorer.example/scoring")
    return {
        "scorer": name,
        "digest": question.digest,
        **to_wire(question),
        "intervalSeconds": interval,
        "validSeconds": 2 * interval,
        "deadband": 0,
        **more,
    }


def answer(score: float) -> ScorerAnswer:
    return ScorerAnswer((Result(LABELS, score),))


class Room(ScoringRoom):
    """Its scorers are asked here: `scores(scorer, how often it was asked)` is a number or trouble."""

    def __init__(self, hub: FakeApi, kept: Path, cluster: str = "ash", seed: int = 0) -> None:
        self.begun: list[tuple[str, float]] = []
        self.scores: Callable[[str, int], float | ScorerTrouble] = lambda scorer, count: float(count)
        accepted = asyncio.Event()
        accepted.set()
        link = HubLink(Backoff(0.25, 10.0, random.Random(seed)))
        super().__init__(
            hub,
            FakeApi,
            cluster=cluster,
            link=link,
            accepted=accepted,
            access=Access(),
            kept=kept,
            clock=lambda: 1_700_000_000 + asyncio.get_running_loop().time(),
        )

    async def _ask(self, http: Any, order: Order) -> ScorerAnswer:
        self.begun.append((order.scorer, asyncio.get_running_loop().time()))
        await asyncio.sleep(0.05)
        found = self.scores(order.scorer, len(self.begun))
        if isinstance(found, ScorerTrouble):
            raise found
        return answer(found)


async def hub_with(*entries: Json, cluster: str = "ash") -> FakeApi:
    hub = FakeApi()
    await give(hub, *entries, cluster=cluster)
    return hub


async def give(hub: FakeApi, *entries: Json, cluster: str = "ash") -> None:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster}}
    await hub.create(NAMESPACES, space)
    body = {
        "apiVersion": CLUSTER_SCORINGS.api_version,
        "kind": "ClusterScoring",
        "metadata": {"name": cluster, "namespace": cluster},
        "spec": {"scorers": list(entries)},
    }
    await hub.create(CLUSTER_SCORINGS, body, cluster)


def told(hub: FakeApi, cluster: str = "ash") -> Json:
    return (hub.peek(CLUSTER_SCORINGS, cluster, cluster) or {}).get("status") or {}


def writes(hub: FakeApi) -> int:
    return len(hub.writes("ClusterScoring", "status"))


def in_time(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_jumping(main())


# When.


def test_j_one_of_ten_that_hangs_for_thirty_seconds_moves_no_other_by_a_second() -> None:
    begun: dict[str, list[float]] = {}
    at_once: Counter[str] = Counter()

    async def ask(order: Order) -> ScorerAnswer:
        loop = asyncio.get_running_loop()
        begun.setdefault(order.scorer, []).append(loop.time())
        at_once[order.scorer] += 1
        assert at_once[order.scorer] == 1
        hangs = order.scorer.endswith("0")
        await asyncio.sleep(30 if hangs else 0.2)
        at_once[order.scorer] -= 1
        if hangs:
            raise ScorerTrouble(Reason.SCORER_TIMEOUT, "no answer", endpoint=True)
        return answer(1)

    async def main() -> None:
        pacing = Pacing("ash", ask, lambda order, outcome, at: None)
        await pacing.follow({f"default/s{i}": order(f"default/s{i}", interval=5.0) for i in range(10)})
        await asyncio.sleep(600)
        await pacing.stop()

    in_time(main)
    for number in range(1, 10):
        gaps = [later - sooner for sooner, later in pairwise(begun[f"default/s{number}"])]
        assert len(gaps) >= 118
        assert all(gap == pytest.approx(5.0, abs=1e-6) for gap in gaps)
    # Whoever hangs is left alone for longer each time.
    assert len(begun["default/s0"]) <= 13


def test_j_slow_answers_do_not_stretch_the_pace_and_one_that_is_longer_than_it_skips_no_further() -> None:
    begun: list[float] = []
    lengths = iter([4.0, 12.0, 0.0, 0.0])

    async def ask(order: Order) -> ScorerAnswer:
        begun.append(asyncio.get_running_loop().time())
        await asyncio.sleep(next(lengths, 0.0))
        return answer(1)

    async def main() -> None:
        pacing = Pacing("ash", ask, lambda order, outcome, at: None)
        await pacing.follow({"default/cool": order(interval=5.0)})
        await asyncio.sleep(40)
        await pacing.stop()

    in_time(main)
    assert [round(later - sooner, 6) for sooner, later in pairwise(begun)][:4] == [5.0, 12.0, 5.0, 5.0]


def test_j_the_clusters_of_a_fleet_begin_at_different_moments_and_each_always_at_the_same() -> None:
    offsets = sorted(offset(f"cluster-{number}", order()) for number in range(200))
    assert offsets == sorted(offset(f"cluster-{number}", order()) for number in range(200))
    assert 0 <= offsets[0] < 0.1
    assert 1.9 < offsets[-1] < 2.0
    assert max(later - sooner for sooner, later in pairwise(offsets)) < 0.1
    assert all(offset(f"cluster-{number}", order(interval=1.0)) < 0.25 for number in range(200))


def test_b_another_question_is_asked_at_once_and_the_old_one_is_given_up() -> None:
    heard: list[tuple[str, str]] = []

    async def ask(order: Order) -> ScorerAnswer:
        heard.append(("asked", order.question.score))
        try:
            await asyncio.sleep(3.0)
        except asyncio.CancelledError:
            heard.append(("given up", order.question.score))
            raise
        return answer(1)

    async def main() -> None:
        pacing = Pacing("ash", ask, lambda order, outcome, at: heard.append(("answered", order.question.score)))
        await pacing.follow({"default/cool": order()})
        await asyncio.sleep(2.5)
        await pacing.follow({"default/cool": order(score="warm")})
        await asyncio.sleep(6)
        await pacing.stop()

    in_time(main)
    assert heard == [("asked", "cool"), ("given up", "cool"), ("asked", "warm"), ("answered", "warm")]


# While the hub is away.


def test_j_scoring_goes_on_without_the_hub_and_it_is_told_the_last_score_in_one_write(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        names = [f"default/s{number}" for number in range(5)]
        hub = await hub_with(*(entry(name) for name in names))
        room = Room(hub, tmp_path / "kept.json")
        task = asyncio.create_task(room.run())
        await asyncio.sleep(25)
        assert writes(hub) >= 1
        hub.cut()
        before, cut = writes(hub), loop.time()
        await asyncio.sleep(600)
        since = [name for name, at in room.begun if at > cut]
        # Every ten seconds, each of them, as if nothing had happened.
        assert all(59 <= count <= 61 for count in Counter(since).values())
        assert len(Counter(since)) == 5
        assert writes(hub) == before
        hub.heal()
        await asyncio.sleep(11)
        # What was answered meanwhile is not told one after the other: one write has them all, as they are now.
        assert writes(hub) - before <= 3
        ages = {one["scorer"]: one["ageSeconds"] for one in told(hub)["scorers"]}
        assert sorted(ages) == names
        assert all(age < 10.2 for age in ages.values())
        values = [one["results"][0]["score"] for one in told(hub)["scorers"]]
        assert min(values) > 300
        assert all(gap == pytest.approx(10.0, abs=1e-6) for gap in gaps(room.begun, names[0]))
        ClusterScoring.model_validate(hub.peek(CLUSTER_SCORINGS, "ash", "ash"))
        task.cancel()

    in_time(main)


def test_j_fifty_agents_do_not_come_back_all_at_once(tmp_path: Path) -> None:
    arrivals: list[float] = []

    class Hub(FakeApi):
        async def patch(self, *arguments: Any, **options: Any) -> Any:
            found = await super().patch(*arguments, **options)
            arrivals.append(asyncio.get_running_loop().time())
            return found

    async def main() -> None:
        hub = Hub()
        rooms = []
        for number in range(50):
            await give(hub, entry(), cluster=f"c{number}")
            rooms.append(Room(hub, tmp_path / f"{number}.json", f"c{number}", seed=number))
        tasks = [asyncio.create_task(room.run()) for room in rooms]
        await asyncio.sleep(30)
        hub.cut()
        await asyncio.sleep(300)
        arrivals.clear()
        hub.heal()
        healed = asyncio.get_running_loop().time()
        await asyncio.sleep(60)
        first = sorted(arrivals)[:50]
        assert first[-1] - healed < 21
        # In no second more than a third of them.
        assert max(sum(at <= other < at + 1 for other in first) for at in first) <= 17
        for task in tasks:
            task.cancel()

    in_time(main)


def test_j_an_agent_that_starts_while_the_hub_is_away_goes_on_with_what_it_was_told_last(tmp_path: Path) -> None:
    async def main() -> None:
        hub = await hub_with(entry())
        first = Room(hub, tmp_path / "kept.json")
        task = asyncio.create_task(first.run())
        await asyncio.sleep(15)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        hub.cut()
        second = Room(hub, tmp_path / "kept.json")
        second.scores = lambda scorer, count: 77.0
        task = asyncio.create_task(second.run())
        await asyncio.sleep(120)
        assert 11 <= len(second.begun) <= 13
        hub.heal()
        await asyncio.sleep(75)
        (one,) = told(hub)["scorers"]
        assert one["results"] == [{"metric": {"node": "n1"}, "score": 77.0}]
        # What the hub takes back while the agent is away is not asked any more once it is heard.
        await hub.patch(CLUSTER_SCORINGS, "ash", {"spec": {"scorers": []}}, "ash")
        await asyncio.sleep(5)
        asked = len(second.begun)
        await asyncio.sleep(60)
        assert len(second.begun) == asked
        assert told(hub)["scorers"] == []
        assert KeptOrders(tmp_path / "kept.json").load() == {"scorers": []}
        task.cancel()

    in_time(main)


# What is told.


def test_scores_that_stay_are_told_again_before_half_of_their_validity_is_over_and_no_sooner(tmp_path: Path) -> None:
    async def main() -> None:
        hub = await hub_with(entry(interval=10, validSeconds=60))
        room = Room(hub, tmp_path / "kept.json")
        room.scores = lambda scorer, count: 5.0
        task = asyncio.create_task(room.run())
        await asyncio.sleep(600)
        # Asked sixty times, told every thirty seconds.
        assert len(room.begun) == 60
        assert 18 <= writes(hub) <= 21
        room.scores = lambda scorer, count: 6.0
        before = writes(hub)
        await asyncio.sleep(10.5)
        assert writes(hub) == before + 1
        task.cancel()

    in_time(main)


def test_a_move_below_the_deadband_waits_and_without_one_every_answer_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        quiet, loud = entry("default/quiet", deadband=5, validSeconds=600), entry("default/loud", validSeconds=600)
        del loud["deadband"]
        hub = await hub_with(quiet)
        room = Room(hub, tmp_path / "kept.json")
        room.scores = lambda scorer, count: 50.0 + count % 2
        task = asyncio.create_task(room.run())
        await asyncio.sleep(100)
        assert writes(hub) == 1
        await hub.patch(CLUSTER_SCORINGS, "ash", {"spec": {"scorers": [quiet, loud]}}, "ash")
        await asyncio.sleep(100)
        assert writes(hub) >= 9
        task.cancel()

    in_time(main)


def test_trouble_is_told_once_with_its_reason_and_the_last_results_stay_with_their_age(tmp_path: Path) -> None:
    async def main() -> None:
        hub = await hub_with(entry())
        room = Room(hub, tmp_path / "kept.json")
        task = asyncio.create_task(room.run())
        await asyncio.sleep(12)
        broken = ScorerTrouble(Reason.SCORER_FAILED, "scorer.example answers 500", endpoint=True)
        room.scores = lambda scorer, count: broken
        await asyncio.sleep(15)
        before = writes(hub)
        (one,) = told(hub)["scorers"]
        assert (one["reason"], one["message"]) == ("ScorerFailed", "scorer.example answers 500")
        assert one["results"]
        assert one["ageSeconds"] > 5
        await asyncio.sleep(300)
        assert writes(hub) == before
        assert room.asked["default/cool", "ScorerFailed"] >= 4
        room.scores = lambda scorer, count: 3.0
        await asyncio.sleep(65)
        (one,) = told(hub)["scorers"]
        assert "reason" not in one
        task.cancel()

    in_time(main)


def test_of_very_many_results_the_first_are_told_and_the_rest_is_said() -> None:
    report = ScoreReport("run")
    report.ordered({"default/cool": order()})
    results = tuple(Result((f"n{number}", "", "", "", "", "", ""), 1.0) for number in range(MOST_RESULTS + 5))
    report.took(order(), ScorerAnswer(results, ("results[7] is no object",), 1), 5.0)
    (one,) = report.status(7.5, "2026-01-01T00:00:00Z")["scorers"]
    assert len(one["results"]) == MOST_RESULTS
    assert one["dropped"] == 6
    assert any("only the first" in complaint for complaint in one["complaints"])
    assert one["ageSeconds"] == 2.5


def test_an_answer_to_a_question_of_before_is_not_told() -> None:
    report = ScoreReport("run")
    report.ordered({"default/cool": order(score="warm")})
    report.took(order(), answer(5), 1.0)
    assert report.status(2.0, "")["scorers"] == [{"scorer": "default/cool", "digest": order(score="warm").digest}]


# What is kept.


@pytest.mark.parametrize(
    "broken",
    [
        {"scorer": "default/x"},
        entry("default/x", source={"type": "Magic"}),
        entry("default/x", intervalSeconds="soon"),
        "x",
    ],
)
def test_an_order_that_cannot_be_read_costs_itself_only(broken: Any) -> None:
    assert list(read_orders({"scorers": [broken, entry()]})) == ["default/cool"]


def test_orders_survive_a_torn_file(tmp_path: Path) -> None:
    kept = KeptOrders(tmp_path / "kept.json")
    assert kept.load() is None
    kept.keep({"scorers": [entry()]})
    assert kept.load() == {"scorers": [entry()]}
    (tmp_path / "kept.json").write_bytes(b'{"scorers": [')
    assert kept.load() is None
    kept.keep(None)
    assert not (tmp_path / "kept.json").exists()


def gaps(begun: list[tuple[str, float]], name: str) -> list[float]:
    times = [at for scorer, at in begun if scorer == name]
    return [later - sooner for sooner, later in pairwise(times)]


def test_i_a_mistake_in_the_agents_own_limits_ends_it_before_it_does_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = tmp_path / "sources.yaml"
    sources.write_text("programs: {power: [power]}")
    arguments = ["--cluster", "ash", "--data", str(tmp_path / "data"), "--hub-kubeconfig", str(tmp_path / "absent")]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--sources", str(sources)])
    assert ended.value.code == 2
    assert "programs.power must be a list of words, the first an absolute path" in capsys.readouterr().err
