"""Where the values of a scorer come from, for people who want to know: its source, its query, how old its answer is."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.resource import ADDON_PLACEMENT_SCORES, CLUSTER_CAPACITIES, SCORE_SOURCES
from hub.api.timestamps import parse_time
from hub.fleet.fleet import Fleet
from hub.placement.expired import expired_words
from hub.placement.filters import ADDON
from hub.placement.rules import ALLOCATABLE_CPU, ALLOCATABLE_MEMORY, BALANCE, STEADY
from hub.placement.scorer_targets import DYNAMIC
from hub.scoring.interface import Scorer
from hub.scoring.state import Recorded, ScoreState
from hub.server.reading import Objects
from hub.server.recorded_scorers import described_sources

Json = dict[str, Any]
_OF_PLACEMENTS: Final = {
    BALANCE: "how often other Placements chose the cluster",
    STEADY: "whether the Placement has chosen it already",
    ALLOCATABLE_CPU: "ManagedCluster status.allocatable.cpu, compared with the other candidates",
    ALLOCATABLE_MEMORY: "ManagedCluster status.allocatable.memory, compared with the other candidates",
}


class Origins:
    """Of one fleet at `now` (epoch seconds). `scorers`: the hub's; `scores`: what a live hub says of them."""

    def __init__(
        self,
        objects: Objects,
        fleet: Fleet,
        now: float,
        scorers: Iterable[Scorer] = (),
        scores: ScoreState | None = None,
    ) -> None:
        self._fleet, self._now, self._scores = fleet, now, scores
        self._scorers = {scorer.name: scorer for scorer in scorers}
        self._dynamic = described_sources(objects)
        self._sources = {str(s["metadata"]["name"]): s for s in objects.of(SCORE_SOURCES)}
        self._addons: dict[str, list[Mapping[str, Any]]] = {}
        for obj in objects.of(ADDON_PLACEMENT_SCORES):
            self._addons.setdefault(str(obj["metadata"]["name"]), []).append(obj)
        looked = [self._age((c.get("status") or {}).get("observedTime")) for c in objects.of(CLUSTER_CAPACITIES)]
        self._reports = max((age for age in looked if age is not None), default=None)

    def of(self, scorer: str, weight: float) -> Json:
        """`source`, `query` and `problem` are empty where there is none; `age` in seconds, of the oldest value that it
        may have read; None: nobody knows, or it has none."""
        found = self._of(scorer, weight)
        return found if found["problem"] else found | {"problem": expired_words(self._fleet, scorer, self._now)}

    def _of(self, scorer: str, weight: float) -> Json:
        found: Json = {"scorer": scorer, "weight": weight, "source": "", "query": "", "age": None, "problem": ""}
        if scorer.startswith(ADDON):
            return found | self._addon(scorer)
        if scorer in _OF_PLACEMENTS:
            return found | {"source": _OF_PLACEMENTS[scorer]}
        if scorer in self._sources:
            return found | self._source(scorer)
        if scorer.startswith(DYNAMIC):
            dynamic = {
                "source": f"DynamicScorer, score {scorer[len(DYNAMIC) :]}, over HTTP",
                "query": self._dynamic.get(scorer, ""),
            }
            return found | dynamic | self._standing(scorer)
        known = self._scorers.get(scorer)
        if known is None or isinstance(known, Recorded):
            return found | {"source": "plugin of the hub"} | self._standing(scorer)
        said = (inspect.getdoc(type(known)) or "").split("\n\n")[0].replace("\n", " ")
        return found | {"source": said or type(known).__name__, "age": self._reports}

    def _addon(self, scorer: str) -> Json:
        resource, _, score = scorer[len(ADDON) :].partition("/")
        found: Json = {"source": f"AddOnPlacementScore {resource}, score {score}"}
        if resource == names.HUB_SCORES and score in self._sources:
            # The hub's own, rounded: what it was made of says more.
            return found | {key: value for key, value in self._source(score).items() if key != "source"}
        written = [self._written(obj) for obj in self._addons.get(resource, ())]
        return found | {"age": max((age for age in written if age is not None), default=None)}

    def _source(self, name: str) -> Json:
        spec, status = self._sources[name].get("spec") or {}, self._sources[name].get("status") or {}
        found: Json = {"source": f"ScoreSource {name}", "age": self._age(status.get("lastUpdateTime"))}
        if status.get("reason"):
            found["problem"] = str(status.get("message") or status["reason"])
        if spec.get("promQL"):
            found |= {"source": f"ScoreSource {name}, Prometheus", "query": str(spec["promQL"])}
        elif spec.get("httpJson"):
            found |= {"source": f"ScoreSource {name}, JSON", "query": str(spec["httpJson"].get("url") or "")}
        elif spec.get("report"):
            found |= {"source": f"ScoreSource {name}, reports", "query": str(spec["report"]), "age": self._reports}
        else:
            found |= {"source": f"ScoreSource {name}, written there", "age": None}
        return found | (self._standing(name) if spec.get("promQL") or spec.get("httpJson") else {})

    def _standing(self, name: str) -> Json:
        known = self._scores.standing.get(name) if self._scores is not None else None
        if known is None:
            return {}
        return {"age": None if known.at is None else max(0.0, self._now - known.at), "problem": known.problem}

    def _written(self, obj: Mapping[str, Any]) -> float | None:
        """Since its status was written."""
        ages = [
            self._age(entry.get("time"))
            for entry in obj["metadata"].get("managedFields") or ()
            if isinstance(entry, Mapping) and entry.get("subresource") == "status"
        ]
        return min((age for age in ages if age is not None), default=None)

    def _age(self, moment: Any) -> float | None:
        try:
            return max(0.0, self._now - parse_time(str(moment)).timestamp()) if moment else None
        except InvalidObjectError:
            return None
