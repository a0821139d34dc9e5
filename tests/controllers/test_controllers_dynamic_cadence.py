"""J: ten scorers asked by the hub, by a clock that jumps, so that a second is a second whatever the machine does."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any, cast

import orjson
import pytest

from hub.api.reasons import Reason
from hub.asking.answer import ScorerAnswer
from hub.asking.http import Reply, ScorerHttp
from hub.asking.trouble import ScorerTrouble
from hub.client.interface import KubeApi
from hub.controllers.scorer_round import Asks, Assignment
from hub.controllers.scorer_runner import ScorerRunner
from hub.placement.scorer_targets import ScorerTargets, route
from hub.scoring.dynamic.document import ScorerDocument, read_document
from hub.scoring.dynamic.plan import make_plan
from hub.scoring.dynamic.policy import ScorerPolicy
from hub.scoring.dynamic.spec import parse_scorer
from tests.agent.agent_clock import run_jumping

CLUSTERS = [f"c{number}" for number in range(20)]
INTERVAL = 5.0


class Http:
    """Scorers that answer after a while; those called `hangs` not within their timeout."""

    def __init__(self) -> None:
        self.begun: dict[str, dict[str, list[float]]] = {}
        self.at_once: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def get(self, url: str, timeout: float, **options: Any) -> Reply:
        await asyncio.sleep(0.05)
        name = url.split("/")[2]
        params = {"name": name, "interval": INTERVAL}
        return Reply(200, orjson.dumps({"name": name, "scoring": {"path": "/s", "params": params}}))

    async def post(self, url: str, body: bytes, timeout: float, *, cluster: str, **options: Any) -> Reply:
        name = url.split("/")[2]
        times = self.begun.setdefault(name, {}).setdefault(cluster, [])
        times.append(asyncio.get_running_loop().time())
        self.at_once[name] += 1
        self.most[name] = max(self.most[name], self.at_once[name])
        try:
            await asyncio.sleep(timeout if name == "hangs" else 0.2)
        finally:
            self.at_once[name] -= 1
        if name == "hangs":
            raise ScorerTrouble(Reason.SCORER_TIMEOUT, "no answer", endpoint=True)
        return Reply(200, b'{"results": [{"metric": {}, "score": 1}]}')


class Heard:
    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()

    def synced(self, document: ScorerDocument | None, trouble: ScorerTrouble | None) -> None:
        assert trouble is None

    def answered(self, cluster: str, plan: Any, outcome: ScorerAnswer | ScorerTrouble) -> None:
        self.outcomes["ok" if isinstance(outcome, ScorerAnswer) else outcome.reason.code] += 1


def test_j_nine_scorers_keep_their_cadence_beside_one_that_hangs_for_thirty_seconds() -> None:
    http, heard = Http(), {}
    names = ["hangs", *(f"s{number}" for number in range(9))]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        runners = []
        for name in names:
            url = f"http://{name}"
            spec = parse_scorer(
                {
                    "configURL": f"{url}/config",
                    "configSyncMode": "Full",
                    "location": "External",
                    "scoreDestination": "AddOnPlacementScore",
                }
            )
            params = {"name": name, "interval": INTERVAL}
            document = read_document({"scoring": {"path": "/s", "params": params}})
            plan = make_plan(spec, document, ScorerPolicy())
            routes = {cluster: route(plan, ScorerTargets(), cluster, {}) for cluster in CLUSTERS}
            heard[name] = Heard()
            asks = Asks(
                cast(KubeApi, None),
                "default",
                cast(ScorerHttp, http),
                heard[name],
                lambda step, seconds, trouble: None,
                loop.time,
            )
            runner = ScorerRunner(asks, sync_every=30.0, at_once=8)
            runner.set_spec(spec, lambda: None)
            runner.retarget(Assignment(plan, routes))
            runner.start()
            runners.append(runner)
        await asyncio.sleep(600)
        for runner in runners:
            await runner.stop()

    run_jumping(main())
    for name in names[1:]:
        for cluster in CLUSTERS:
            gaps = [later - sooner for sooner, later in pairwise(http.begun[name][cluster])]
            assert len(gaps) >= 118
            # Less than a second is asked; it is none at all, but for the turn that a cluster has among eight at once.
            assert all(gap == pytest.approx(INTERVAL, abs=0.05) for gap in gaps), (name, cluster)
        assert http.most[name] <= 8
        assert heard[name].outcomes.keys() == {"ok"}
    # Eight at most of the one that hangs, then one at a time, each longer after the last.
    assert http.most["hangs"] <= 8
    assert sum(len(times) for times in http.begun["hangs"].values()) <= 8 + 12
    # Of every cluster is said why there is no score.
    assert heard["hangs"].outcomes["ScorerTimeout"] >= len(CLUSTERS)
