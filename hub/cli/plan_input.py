"""What `plan` and `explain` decide about, and how: options, configuration, objects from files or from a hub."""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import structlog

from hub.api.errors import InvalidObjectError, NotFoundError, UsageError
from hub.api.timestamps import parse_time
from hub.client.interface import KubeApi
from hub.placement.score_sources import source_scorer
from hub.scoring.builtin import default_scorers
from hub.scoring.interface import WeightedScorer
from hub.scoring.plugins import Load, discover
from hub.scoring.state import ScoreState, ranked_by
from hub.server.reading import CONFIG_GROUP, READ, Objects, Source, sort_objects
from hub.server.recorded_scorers import recorded_scorers
from hub.server.rules import Rules
from hub.server.snapshot import State

if TYPE_CHECKING:
    from hub.controllers.config import Scorers

# The parts of Kueue's Configuration that say how the queue decides; mode fleet does not decide by them yet.
_BEYOND = ("resources", "multiKueue")
# Of `resources` both modes decide by these.
_COUNTED = frozenset(("excludeResourcePrefixes", "transformations", "quotaCheckStrategy"))
_KUEUE_PARTS = ("admissionFairSharing", "waitForPodsReady", *_BEYOND)
# What of the queue's part says how mode fleet decides, besides fairSharing.
_FLEET_PARTS = ("minimumRuntime", "preemptionBudget", "notice", "backfill", "protectedStart")
_RULES = (*_FLEET_PARTS, "waitForPodsReady")
_QUEUE_PARTS = ("mode", "fairSharing", *_KUEUE_PARTS, *_FLEET_PARTS)
# What of it is about what a live hub does later.
_NOT_DECISIONS = ("idle", "starvation")


@dataclass(frozen=True, slots=True)
class Settings:
    """`now` is epoch seconds. `weights` and `plugins` (their settings): by name. `said`: warnings, each said once.

    `queue`: the queue's part of the configuration, or Kueue's, as it was read; of several the input's comes last.
    `scores`: what a live hub's scorers know; None: only what objects say. `load`: how plugins are loaded that the
    configuration isolates; None: none is.
    """

    now: float
    cycles: int | Literal["settle"]
    weights: Mapping[str, float]
    mode: Literal["fleet", "kueue"] = "fleet"
    queue: Mapping[str, Any] = field(default_factory=dict)
    plugins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    scores: ScoreState | None = None
    load: Load | None = None

    @staticmethod
    def read(moment: str | None, cycles: str, config: Path | None, mode: str | None) -> Settings:
        """Raises `UsageError` for what cannot be done, by option."""
        count: int | Literal["settle"]
        if cycles == "settle":
            count = "settle"
        elif cycles.isdecimal() and 1 <= int(cycles) <= 100_000:
            count = int(cycles)
        else:
            raise UsageError(f"{cycles!r} is neither a number of cycles from 1 nor `settle`", field="--cycles")
        now = parse_time(moment).timestamp() if moment else time.time()
        weights, plugins, queue, load = _configured(config) if config is not None else ({}, {}, {}, None)
        chosen = mode or queue.get("mode") or "fleet"
        if chosen not in ("fleet", "kueue"):
            raise UsageError(f"found {chosen!r}; allowed: fleet, kueue", field=f"queue.mode of {config}")
        settings = Settings(now, count, weights, "kueue" if chosen == "kueue" else "fleet", queue, plugins, load=load)
        settings.warn(no_effect(queue, settings.mode))
        return settings

    def knowing(
        self,
        scores: ScoreState | None,
        queue: Mapping[str, Any] | None = None,
        *,
        moment: str | None = None,
        mode: str | None = None,
    ) -> Settings:
        """With what a hub knows, at its own moment and in its own mode unless others are asked for; what was read of a
        file goes before the hub's settings."""
        if scores is None:
            return self
        settings = {**(queue or {}), **self.queue}
        by_hub = settings.get("mode") == "kueue" and mode is None
        return replace(
            self,
            scores=scores,
            now=self.now if moment else scores.now,
            queue=settings,
            mode="kueue" if by_hub else self.mode,
        )

    def decide(self, sources: Iterable[Source], *, live: bool = False, key: str | None = None) -> dict[str, Any]:
        """The plan's document. Raises `InvalidObjectError` before anything is decided, if something is malformed."""
        from hub.server.explanation_document import explanation_document
        from hub.server.plan_document import plan_document

        if self.mode == "kueue":
            return self._decide_as_kueue(sources, live=live, key=key)
        with quiet():
            objects, state = self.state(sources, live=live)
            explained = None
            if key is not None:
                explained = explanation_document(objects, state, key)
                if explained is None:
                    raise UsageError(f"no job, Workload or Placement is called {key}", field="--explain")
            document = plan_document(objects, state, self.cycles)
        return document if explained is None else document | {"explain": explained}

    def _decide_as_kueue(self, sources: Iterable[Source], *, live: bool, key: str | None) -> dict[str, Any]:
        from hub.queueing.kueue.settings import read_settings
        from hub.server.kueue_plan import KueuePlan, explained_plan

        with quiet():
            objects, state = self._read(sources, live=live)
            parts = dict(self.queue)
            for configuration in objects.of("Configuration"):
                parts.update(configuration)
                self.warn(no_effect(configuration, self.mode))
            settings = read_settings(parts)
            plan = KueuePlan(objects, state, settings)
            if not live:
                objects.check()
            notes = {"mode kueue decides about quota only: nothing is placed on a cluster"} if state.placing else set()
            self.warn(sorted(state.problems() | plan.notes | notes))
            if key is None:
                return plan.document(self.cycles)

            def again(objects: Objects) -> dict[str, Any]:
                other = State(
                    objects, self.now, self.scorers(objects), live=live, scores=self.scores, rules=state.rules
                )
                return KueuePlan(objects, other, settings).document(self.cycles)

            document = explained_plan(plan, objects, state, self.cycles, key, again)
        if document is None:
            raise UsageError(f"no job, Workload or Placement is called {key}", field="--explain")
        return document

    def _read(self, sources: Iterable[Source], *, live: bool) -> tuple[Objects, State]:
        objects = sort_objects(sources)
        rules = self._rules(objects)
        return objects, State(objects, self.now, self.scorers(objects), live=live, scores=self.scores, rules=rules)

    def _rules(self, objects: Objects) -> Rules:
        """How the queue decides, by the configuration and by what of Kueue's is among the input."""
        from hub.controllers.queue_config import rules_of
        from hub.queueing.kueue.settings import read_settings

        parts = dict(self.queue)
        for configuration in objects.of("Configuration"):
            parts.update(configuration)
        policy, ready = rules_of({name: parts[name] for name in (*_RULES, "apiVersion") if name in parts}, self.mode)
        settings = read_settings(parts)
        return Rules(replace(policy, strategies=settings.strategies), ready, settings, kueue=self.mode == "kueue")

    def state(self, sources: Iterable[Source], *, live: bool) -> tuple[Objects, State]:
        """What is wrong with a live hub's objects is decided about; what is wrong with files is an error."""
        objects, state = self._read(sources, live=live)
        for configuration in objects.of("Configuration"):
            self.warn(no_effect(configuration, self.mode))
        if not live:
            objects.check()
        self.warn(sorted(state.notes | state.problems() | queue_notes(objects, self.mode)))
        return objects, state

    def warn(self, lines: Iterable[str]) -> None:
        fresh = [line for line in lines if line not in self.said]
        self.said.update(fresh)
        _warn(fresh)

    def scorers(self, objects: Objects) -> tuple[WeightedScorer, ...]:
        """The hub's own, installed plugins, ScoreSources, DynamicScorers by what is published of them; without a hub
        what has to be asked for is unknown here."""
        if self.scores is not None:
            known = ranked_by(self.scores, self._sources(objects))
            weighted = [WeightedScorer(e.scorer, self.weights.get(e.scorer.name, e.weight)) for e in known]
            return tuple(entry for entry in weighted if entry.weight)
        entries = list(default_scorers())
        installed = discover((entry.scorer.name for entry in entries), settings=self.plugins, load=self.load)
        self.warn(f"scorer {name} cannot be used: {problem}" for name, problem in installed.problems.items())
        entries += [*installed.scorers, *self._sources(objects), *recorded_scorers(objects).scorers]
        weighted = [WeightedScorer(e.scorer, self.weights.get(e.scorer.name, e.weight)) for e in entries]
        return tuple(entry for entry in weighted if entry.weight)

    def _sources(self, objects: Objects) -> list[WeightedScorer]:
        found = []
        for source in objects.of("ScoreSource"):
            try:
                found.append(source_scorer(source))
            except InvalidObjectError as error:
                self.warn([f"ScoreSource {source['metadata']['name']}: {error}"])
        return found


@contextmanager
def quiet() -> Iterator[None]:
    """Without the log lines of a hub: what they would say is in the document or among the warnings."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def file_sources(name: str, text: str) -> list[Source]:
    from hub.api.validation import load_objects

    return [Source(obj, name) for obj in load_objects(text, name, recorded=True)]


async def hub_objects(ctx: click.Context) -> list[Source]:
    """Everything of the hub that a decision reads; kinds that it does not serve are not there."""
    from hub.cli.connection import connect

    async with connect(ctx) as api:
        return await list_objects(api)


async def list_objects(api: KubeApi) -> list[Source]:
    """As `hub_objects`, of an API that is connected already."""
    found: list[Source] = []
    for resource in READ:
        try:
            listing = await api.list(resource)
        except NotFoundError:
            continue
        # Members of a list do not say what they are.
        kind = {"apiVersion": resource.api_version, "kind": resource.kind}
        found += [Source(kind | item) for item in listing.items]
    return found


def no_effect(configuration: Mapping[str, Any], mode: str) -> list[str]:
    """What of Kueue's Configuration the queue does not decide by. Raises `UsageError` for a field that it has not."""
    from hub.controllers.kueue_configuration import from_kueue, is_kueue_configuration

    parts = ("admissionFairSharing", "multiKueue") if mode == "fleet" else ("multiKueue",)
    unused = [name for name in parts if configuration.get(name)]
    resources = configuration.get("resources")
    if isinstance(resources, Mapping):
        unused += [f"resources.{name}" for name in sorted(resources.keys() - _COUNTED)]
    remarks = from_kueue(configuration)[1] if is_kueue_configuration(configuration) else ()
    said = [f"{name} has no effect in mode {mode} yet" for name in unused]
    said += [
        f"{remark.field}: {remark.said}"
        for remark in remarks
        if not remark.process and not remark.field.startswith(tuple(unused))
    ]
    return [f"{CONFIG_GROUP} Configuration: {one}" for one in said]


def queue_notes(objects: Objects, mode: str) -> set[str]:
    """Fields of queues that do not change a decision in this mode, once each."""
    fields = ("concurrentAdmissionPolicy",) if mode == "kueue" else ("admissionScope", "concurrentAdmissionPolicy")
    return {
        f"{field} of ClusterQueue {queue['metadata']['name']}: mode {mode} does not decide by it"
        for queue in objects.of("ClusterQueue")
        for field in fields
        if (queue.get("spec") or {}).get(field)
    }


def _configured(path: Path) -> tuple[dict[str, float], dict[str, dict[str, Any]], Mapping[str, Any], Load | None]:
    """Of the hub's configuration the scorers' weights, plugins' settings, its queue part, and how plugins are loaded;
    Kueue's is all queue."""
    import yaml

    from hub.controllers.config import parse_config

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", field="--config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}", field="--config") from error
    if not isinstance(document, Mapping):
        raise UsageError(f"{path} holds no settings", field="--config")
    if str(document.get("apiVersion") or "").startswith(CONFIG_GROUP):
        return {}, {}, document, None
    settings = dict(document)
    queue = settings.pop("queue", None) or {}
    if not isinstance(queue, Mapping):
        raise UsageError(f"found {queue!r}; expected settings", field="queue")
    unknown = sorted(set(queue) - {*_QUEUE_PARTS, *_NOT_DECISIONS})
    if unknown:
        known = ", ".join(_QUEUE_PARTS)
        raise UsageError(f"there is no such setting; known here: {known}", field=f"queue.{unknown[0]}")
    scoring = parse_config(settings, str(path)).scorers
    return dict(scoring.weights), dict(scoring.settings), queue, _loader(scoring) if scoring.isolate else None


def _loader(scoring: Scorers) -> Load:
    """What the hub would not have in its process is not loaded here either."""
    from hub.controllers.isolated import Bounds, Loader

    # Nobody waits for this decision but who asked for it, and there is no second one to be late for.
    loader = Loader(scoring.isolate, Bounds(10.0, scoring.isolation.startup, scoring.isolation.memory))
    atexit.register(loader.close)
    return loader


def _warn(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(f"{click.style('warning:', fg='yellow')} {line}", err=True)
