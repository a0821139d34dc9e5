"""Where scores of clusters come from besides the clusters' reports, brought into the fleet on the hub's own loop.

AddOnPlacementScores (one object a cluster) are gathered into one column a score; ScoreSources are asked by threads of
their own (hub/controllers/asking.py). Anything else that has scores uses `feed`, from any thread.
What a score is worth is hub/scoring's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

import numpy as np

from hub.api.conditions import with_condition
from hub.api.errors import InvalidObjectError
from hub.api.mergepatch import create_merge_patch
from hub.api.reasons import Reason
from hub.api.resource import SCORE_SOURCES
from hub.api.timestamps import format_time, from_timestamp, parse_time
from hub.asking.access import Access
from hub.controllers.asking import Asking, SourceReport
from hub.controllers.config import Scorers as ScorerConfig
from hub.controllers.guard import Guarded, Watcher
from hub.controllers.isolated import Bounds, Isolated, Loader
from hub.controllers.logs import logger
from hub.controllers.plugin_status import Installed
from hub.controllers.source_clients import SourceClients
from hub.controllers.world import World
from hub.controllers.writes import MergePatch, Write, WriteKey, Writes
from hub.fleet.changes import FleetChange, ScoresGone, ScoresSeen
from hub.fleet.shape import TaskShape
from hub.placement.score_sources import SourceScorer, source_scorer
from hub.scoring.answer import Quality
from hub.scoring.builtin import default_scorers
from hub.scoring.interface import ScoreRequest, WeightedScorer, concerns
from hub.scoring.mix import MixCounter, Typical
from hub.scoring.packing import Fragmentation
from hub.scoring.plugins import discover

Json = dict[str, Any]
_log = logger(__name__)
_FOR_EVER: Final = float("inf")
_TOGETHER: Final = 0.05
_REPORT_EVERY: Final = 30.0
"""Seconds between two writes of a source's status that only say that it still answers."""


class OtherScores(Protocol):
    """`ages` and `coverage` by scorer, as those of `Scores`."""

    def scorers(self) -> tuple[WeightedScorer, ...]: ...

    def ages(self) -> dict[str, float]: ...

    def coverage(self) -> dict[str, float]: ...


class Scores:
    """`scorers()` is what orders clusters now. `on_change` is called, in the loop, when a plan could differ."""

    def __init__(
        self,
        world: World,
        writes: Writes,
        config: ScorerConfig,
        *,
        now: Callable[[], float],
        on_change: Callable[[], None],
        watcher: Watcher | None = None,
    ) -> None:
        self._world, self._writes, self._weights = world, writes, dict(config.weights)
        self._now, self._on_change = now, on_change
        self._watcher = watcher
        # Scorers that are asked by somebody else, in the hub's own loop.
        self.others: OtherScores | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asking: Asking | None = None
        self._sources: dict[str, Json] = {}
        self._scorers: dict[str, WeightedScorer] = {}
        self._reports: dict[str, SourceReport] = {}
        # Sources whose spec cannot be read, and why.
        self._broken: dict[str, str] = {}
        self._written: dict[str, float] = {}
        self._addons: dict[str, dict[str, tuple[dict[str, float], float]]] = {}
        self._columns: set[str] = set()
        self._expiry: asyncio.TimerHandle | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        defaults = default_scorers()
        self._loader = Loader(
            config.isolate,
            Bounds(config.budget, config.isolation.startup, config.isolation.memory),
            fleet=lambda: self._world.fleet,
            on_ready=self._plugin_ready,
        )
        plugins = discover((entry.scorer.name for entry in defaults), settings=config.settings, load=self._loader)
        for name, problem in plugins.problems.items():
            _log.warning("a scorer cannot be used", scorer=name, why=problem)
        guarded = [
            (
                Guarded(entry.scorer, budget=self._patience(entry, config), keep=config.keep, watcher=watcher),
                entry.weight,
            )
            for entry in plugins.scorers
        ]
        self.plugins = tuple(plugin for plugin, _ in guarded)
        self._installed = tuple(
            Installed(name, plugins.sources[name], isinstance(entry.scorer, Isolated), entry.weight, plugin)
            for name, entry, plugin in zip(plugins.points, plugins.scorers, self.plugins, strict=True)
        )
        self._unusable = tuple(
            Installed(name, source, problem=plugins.problems[name])
            for name, source in plugins.sources.items()
            if name in plugins.problems
        )
        self._mix = MixCounter()
        self._builtin = defaults
        self._fixed = (*(WeightedScorer(plugin, weight) for plugin, weight in guarded),)
        known = {entry.scorer.name for entry in (*defaults, *self._fixed)} | {"Fragmentation", "Scarcity"}
        for name in self._weights:
            if name not in known:
                _log.info("a weight for a scorer that is not there yet", scorer=name, known=", ".join(sorted(known)))

    def start(self, prometheus: str, interval: float, access: Access) -> None:
        """Asks the sources from now on; `prometheus` empty: the hub has none, and sources that need it say so."""
        loop = self._loop = asyncio.get_running_loop()
        ask = SourceClients(prometheus, access, clusters=self._targets, clock=self._now)
        self._asking = Asking(
            ask,
            feed=self.feed,
            report=self._report_from_thread,
            interval=interval,
            clock=self._now,
            watcher=self._watcher,
        )
        for name in self._sources:
            self._ask(name)
        self._asking.start()
        self._again = loop.call_later(_REPORT_EVERY, self._look_again)

    @staticmethod
    def _patience(entry: WeightedScorer, config: ScorerConfig) -> float:
        # One in a process of its own keeps its budget itself, and then has to be killed.
        return config.budget + config.isolation.startup if isinstance(entry.scorer, Isolated) else config.budget

    def _plugin_ready(self) -> None:
        """From a plugin's thread: its process is there again."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._on_change)

    def stop(self) -> None:
        self._loader.close()
        if self._again is not None:
            self._again.cancel()
        if self._asking is not None:
            self._asking.stop()

    def feed(self, change: FleetChange) -> None:
        """From any thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._take, change)

    def scorers(self) -> tuple[WeightedScorer, ...]:
        """In a fixed order, with the configured weights; what counts 0 is left out."""
        entries = [*self._builtin, *self._fixed, *(self._scorers[name] for name in sorted(self._scorers))]
        entries += self.others.scorers() if self.others is not None else ()
        weighted = [WeightedScorer(e.scorer, self._weights.get(e.scorer.name, e.weight)) for e in entries]
        return tuple(entry for entry in weighted if entry.weight)

    def asked(self, shape: TaskShape, tasks: int) -> bool:
        """A job wants so many tasks of this shape. True when what is typical is another now, and so what packs well."""
        self._mix.add([(shape, tasks)])
        builtin = self._builtin
        mix = self._mix.mix()
        if any(isinstance(e.scorer, Fragmentation) and e.scorer.mix is mix for e in builtin) or not mix.typical:
            return False
        self._builtin = default_scorers(mix)
        return True

    def published(self) -> tuple[WeightedScorer, ...]:
        """What is written where OCM's users look (hub/controllers/publishing.py): what says the same of a cluster
        whatever is to be placed. Sources with weight 0 too: they are there to be shown."""
        sources = [self._scorers[name] for name in sorted(self._scorers)]
        fixed = [entry for entry in self._fixed if getattr(entry.scorer, "publish", False)]
        return tuple(entry if entry.weight else WeightedScorer(entry.scorer, 1.0) for entry in [*fixed, *sources])

    def installed(self) -> tuple[Installed, ...]:
        """Every plugin with the weight that it has now, those that cannot be used included."""
        return (
            *(
                replace(one, weight=self._weights.get(one.plugin.name, one.weight))
                for one in self._installed
                if one.plugin
            ),
            *self._unusable,
        )

    @property
    def reports(self) -> Mapping[str, SourceReport]:
        """How each ScoreSource does, by name."""
        return self._reports

    @property
    def typical(self) -> tuple[Typical, ...]:
        """What the built-in scorers take for typical of what is asked of this fleet."""
        return next((e.scorer.mix.typical for e in self._builtin if isinstance(e.scorer, Fragmentation)), ())

    def ages(self) -> dict[str, float]:
        """Seconds since each source or plugin last answered."""
        now = self._now()
        found = {name: now - report.at for name, report in self._reports.items() if report.at is not None}
        found |= self.others.ages() if self.others is not None else {}
        return found | {plugin.name: age for plugin in self.plugins if (age := plugin.age()) is not None}

    def coverage(self) -> dict[str, float]:
        """For what part of the clusters each of them has a value (0–1)."""
        count = max(1, len(self._world.fleet))
        found = {name: min(1.0, report.clusters / count) for name, report in self._reports.items()}
        found |= self.others.coverage() if self.others is not None else {}
        found |= {plugin.name: plugin.coverage for plugin in self.plugins}
        now, fleet = self._now(), self._world.fleet
        addons = {name: np.count_nonzero(~np.isnan(fleet.scores(name, now))) / count for name in self._columns}
        return found | addons

    def ready(self) -> dict[str, bool]:
        """Whether each source that is asked and each plugin answers now."""
        wrong = (Reason.SCORE_SOURCE_FAILED.code, Reason.SCORE_STALE.code)
        found = {name: report.reason not in wrong for name, report in self._reports.items()}
        return found | {plugin.name: plugin.ready for plugin in self.plugins}

    # ScoreSources.

    def source_seen(self, source: Json) -> None:
        """A source that cannot be read keeps the last spec that could, and says so."""
        name = source["metadata"]["name"]
        before = self._sources.get(name)
        self._sources[name] = source
        if before is not None and before.get("spec") == source.get("spec"):
            return
        try:
            self._scorers[name] = source_scorer(source)
        except InvalidObjectError as error:
            self._broken[name] = str(error)
            self._say_itself(name)
            return
        self._broken.pop(name, None)
        self._ask(name)
        self._on_change()

    def source_gone(self, name: str) -> None:
        for known in (self._sources, self._scorers, self._reports, self._broken, self._written):
            known.pop(name, None)
        if self._asking is not None:
            self._asking.remove_source(name)
        self._on_change()

    def _ask(self, name: str) -> None:
        """What has to be asked is asked; what the object or the clusters say themselves is there already."""
        if self._asking is None or name not in self._scorers:
            return
        scorer = self._scorers[name].scorer
        assert isinstance(scorer, SourceScorer)
        if scorer.spec.query is not None:
            self._asking.set_source(name, scorer.spec.query)
            return
        self._asking.remove_source(name)
        self._say_itself(name)

    def _say_itself(self, name: str) -> None:
        """The report of a source that nobody is asked about."""
        broken = self._broken.get(name)
        if broken is not None:
            message = Reason.SCORE_SOURCE_FAILED.message(source=name, detail=broken)
            before = self._reports.get(name) or SourceReport(0, None)
            self._reported(name, SourceReport(before.clusters, before.at, Reason.SCORE_SOURCE_FAILED.code, message))
            return
        self._world.refresh()
        request = ScoreRequest(TaskShape(), 1, self._now())
        values = self._scorers[name].scorer.score(self._world.fleet, request)
        clusters = int(np.count_nonzero(~np.isnan(values)))
        known = self._reports.get(name)
        # A fleet that does not change is not written about.
        if known is None or known.reason or known.clusters != clusters:
            self._reported(name, SourceReport(clusters, self._now()))

    def _look_again(self) -> None:
        """What the clusters say themselves changes with them."""
        for name in self._sources:
            scorer = self._scorers[name].scorer if name in self._scorers else None
            if isinstance(scorer, SourceScorer) and scorer.spec.query is None and name not in self._broken:
                self._say_itself(name)
        self._again = asyncio.get_running_loop().call_later(_REPORT_EVERY, self._look_again)

    def _targets(self, name: str) -> tuple[str, ...]:
        """Which clusters a source is about. Called in threads of `Asking`; a fleet is immutable."""
        entry, fleet = self._scorers.get(name), self._world.fleet
        about = concerns(entry.scorer, fleet) if entry is not None else None
        if about is None:
            return fleet.names
        return tuple(name for name, is_meant in zip(fleet.names, about.tolist(), strict=True) if is_meant)

    def _report_from_thread(self, name: str, report: SourceReport) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._reported, name, report)

    def _reported(self, name: str, report: SourceReport) -> None:
        if name not in self._sources:
            return
        if name in self._broken and report.reason != Reason.SCORE_SOURCE_FAILED.code:
            # An answer to the last spec that could be read does not make this one readable.
            return
        before = self._reports.get(name)
        self._reports[name] = report
        loop = asyncio.get_running_loop()
        same = before is not None and (before.reason, before.clusters) == (report.reason, report.clusters)
        if same and loop.time() - self._written.get(name, -1e9) < _REPORT_EVERY:
            return
        self._written[name] = loop.time()
        self._writes.submit(WriteKey(SCORE_SOURCES, None, name, "status"), lambda: self._status(name), delay=0.5)

    def _status(self, name: str) -> Write | None:
        source, report = self._sources.get(name), self._reports.get(name)
        if source is None or report is None:
            return None
        now = format_time(from_timestamp(self._now()))
        status: Json = {"clusters": report.clusters}
        if report.at is not None:
            status["lastUpdateTime"] = format_time(from_timestamp(report.at))
        if report.reason:
            status |= {"reason": report.reason, "message": report.message}
        note = ""
        if report.quality is not None:
            status["forecast"] = _forecast_status(report.quality)
            entry = self._scorers.get(name)
            spec = entry.scorer.spec.query if entry is not None and isinstance(entry.scorer, SourceScorer) else None
            if spec is not None and spec.forecast is not None:
                note = "; " + report.quality.text(spec.forecast.horizon)
        ready = not report.reason or report.reason == Reason.SCORE_INCOMPLETE.code
        said = report.message or Reason.SCORE_ANSWERED.message(source=name, clusters=report.clusters) + note
        status["conditions"] = with_condition(
            (source.get("status") or {}).get("conditions"),
            "Ready",
            "True" if ready else "False",
            report.reason or Reason.SCORE_ANSWERED.code,
            said,
            now=now,
            generation=source["metadata"].get("generation"),
        )
        patch = create_merge_patch(source.get("status") or {}, status)
        return None if patch is None else MergePatch({"metadata": {"uid": source["metadata"]["uid"]}, "status": patch})

    # AddOnPlacementScores.

    def addon_seen(self, obj: Json) -> None:
        """One cluster's scores under one name; past `validUntil` they are unknown."""
        meta, status = obj["metadata"], obj.get("status") or {}
        until = _FOR_EVER
        if status.get("validUntil"):
            try:
                until = parse_time(status["validUntil"]).timestamp()
            except InvalidObjectError as error:
                _log.warning("scores cannot be read", cluster=meta["namespace"], name=meta["name"], why=str(error))
                until = 0.0
        values = {
            str(score["name"]): float(score["value"])
            for score in status.get("scores") or ()
            if isinstance(score, Mapping) and isinstance(score.get("value"), int) and score.get("name")
        }
        self._addons.setdefault(str(meta["name"]), {})[str(meta["namespace"])] = (values, until)
        self._gather_soon()

    def addon_gone(self, cluster: str, name: str) -> None:
        self._addons.get(name, {}).pop(cluster, None)
        self._gather_soon()

    def _gather_soon(self) -> None:
        """A thousand objects that change together are one change of the columns."""
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(_TOGETHER, self._gather)

    def _gather(self) -> None:
        """Columns of everything, each value with its own end; looked at again when the next of them ends."""
        self._gathering = None
        columns: dict[str, tuple[dict[str, float], dict[str, float]]] = {}
        for resource, clusters in self._addons.items():
            for cluster, (values, until) in clusters.items():
                for score, value in values.items():
                    column, ends = columns.setdefault(f"AddOn/{resource}/{score}", ({}, {}))
                    column[cluster] = value
                    if until < _FOR_EVER:
                        ends[cluster] = until
        for gone in self._columns - set(columns):
            self._world.note(ScoresGone(gone))
        for source in sorted(columns):
            column, ends = columns[source]
            self._world.note(ScoresSeen(source, column, _FOR_EVER, ends))
        self._columns = set(columns)
        self._wake_at_end()
        self._on_change()

    def _wake_at_end(self) -> None:
        """A score that ends changes the order at that moment, not at the next news."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        now = self._now()
        ends = (until for clusters in self._addons.values() for _, until in clusters.values())
        soonest = min((until for until in ends if now < until < _FOR_EVER), default=_FOR_EVER)
        if soonest < _FOR_EVER:
            self._expiry = asyncio.get_running_loop().call_later(soonest - now + 0.01, self._ended)

    def _ended(self) -> None:
        self._wake_at_end()
        self._on_change()

    def _take(self, change: FleetChange) -> None:
        self._world.note(change)
        self._on_change()


def _forecast_status(quality: Quality) -> Json:
    found: Json = {"method": quality.method, "tries": quality.tries}
    if quality.error is not None and quality.last_error is not None:
        found |= {"error": f"{quality.error:.4g}", "lastValueError": f"{quality.last_error:.4g}"}
    return found
