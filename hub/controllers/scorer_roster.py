"""Which clusters each DynamicScorer is about, and what of it is asked: policies, masks, clusters, Placements.

What people wrote is read once, when it comes; of a ScorerPolicy that cannot be read any more the last that could
counts. Nothing is asked here, and nothing written but what these objects' own conditions say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.api.resource import DYNAMIC_SCORING_CONFIGS, SCORER_POLICIES
from hub.controllers.scorer_round import Assignment
from hub.controllers.scorer_state import Key, ScorerState
from hub.controllers.scorer_telling import ScorerTelling
from hub.controllers.world import World
from hub.placement.scorer_targets import ScorerTargets, parse_targets, question, route
from hub.registration.acceptance import is_accepted, is_leaving
from hub.scoring.dynamic.plan import ScorerPlan
from hub.scoring.dynamic.policy import ADD_ON, AGENT, HUB, ScorerPolicy, parse_policy
from hub.scoring.dynamic.summary import order, summary

Json = dict[str, Any]
CONFIG_NAME: Final = "dynamic-scoring-config"
"""The one DynamicScoringConfig that counts, as the framework has it."""


class ScorerRoster:
    """`states` are its owner's. `on_change`: what is asked could differ."""

    def __init__(
        self, states: Mapping[Key, ScorerState], world: World, telling: ScorerTelling, on_change: Callable[[], None]
    ) -> None:
        self._states, self._world, self._telling, self._on_change = states, world, telling, on_change
        self._policies: dict[Key, Json] = {}
        self._accepted: dict[Key, tuple[ScorerPolicy, ScorerTargets]] = {}
        self._unreadable: dict[Key, str] = {}
        self._configs: dict[Key, Json] = {}
        self._masks: dict[Key, frozenset[tuple[str, str]]] = {}
        self._chosen: dict[Key, frozenset[str]] = {}
        # Labels, and whether nothing is heard of it, of every cluster that could be scored.
        self._clusters: dict[str, tuple[Mapping[str, str], bool]] = {}
        # What agents are told, by scorer and cluster, and of what it was made.
        self._orders: dict[tuple[Key, str], tuple[ScorerPlan, ScorerTargets, Mapping[str, str], Json]] = {}

    # What follows.

    def policy_of(self, key: Key) -> tuple[ScorerPolicy, ScorerTargets]:
        return self._accepted.get(key) or (ScorerPolicy(), ScorerTargets())

    def concerned(self, key: Key, state: ScorerState) -> tuple[str, ...]:
        """Of a state with a plan: which clusters it is about, by name."""
        assert state.plan is not None
        masked = {cluster for masks in self._masks.values() for cluster, score in masks if score == state.plan.score}
        targets, chosen = state.targets, None
        if targets.placement:
            chosen = self._chosen.get((key[0], targets.placement), frozenset())
        return tuple(
            sorted(
                name
                for name, (labels, _) in self._clusters.items()
                if name not in masked and (chosen is None or name in chosen) and targets.concerns(name, labels)
            )
        )

    def assignment(self, state: ScorerState) -> Assignment | None:
        """An inactive scorer is not asked, nor is anybody about a cluster of which nothing is heard."""
        plan = state.plan
        if plan is None or state.problem is not None or not state.healthy or plan.policy.scored_by != HUB:
            return None
        routes = {
            name: route(plan, state.targets, name, self._clusters[name][0])
            for name in state.concerned
            if not self._clusters[name][1]
        }
        return Assignment(plan, routes)

    @property
    def clusters(self) -> tuple[str, ...]:
        """Every cluster that could be scored, by name."""
        return tuple(sorted(self._clusters))

    def unknown(self, scored_by: str) -> frozenset[str]:
        """Scorers for these to ask of which nobody can say yet what there is to ask (``NAMESPACE/NAME``): their own
        configuration has not been read."""
        return frozenset(
            f"{key[0]}/{key[1]}"
            for key, state in self._states.items()
            if state.plan is None and state.problem is None and self.policy_of(key)[0].scored_by == scored_by
        )

    def ordered(self, cluster: str) -> list[Json]:
        """What our agent of a cluster is to ask: the scorers that are left to agents, by name.

        Those that do not answer the hub as well: an agent finds out by itself, and a scorer that starts again is no
        reason to write to every cluster twice.
        """
        found = []
        for key in sorted(self._states):
            state = self._states[key]
            plan = state.plan
            if plan is None or state.problem is not None or plan.policy.scored_by != AGENT:
                continue
            if cluster in state.concerned:
                found.append(self._order(key, plan, state.targets, cluster))
        return found

    def _order(self, key: Key, plan: ScorerPlan, targets: ScorerTargets, cluster: str) -> Json:
        """Made once of the same plan, targets and labels: they are asked for at each report of each cluster."""
        labels = self._clusters[cluster][0]
        known = self._orders.get((key, cluster))
        if known is not None and known[0] is plan and known[1] is targets and known[2] is labels:
            return known[3]
        asked = question(plan, route(plan, targets, cluster, labels), cluster)
        made = order(f"{key[0]}/{key[1]}", asked, plan)
        self._orders[key, cluster] = (plan, targets, labels, made)
        return made

    def forget(self, key: Key) -> None:
        """A scorer that is gone."""
        self._orders = {known: made for known, made in self._orders.items() if known[0] != key}

    def pushed_metrics(self) -> dict[str, int]:
        """Which metrics that are pushed scorers are sent, and how many seconds of each."""
        found: dict[str, int] = {}
        for state in self._states.values():
            if state.plan is not None:
                source = state.plan.source
                found |= {metric: max(found.get(metric, 0), source.range) for metric in source.metrics}
        return found

    def told(self, cluster: str) -> list[Json]:
        """What the framework's own agent of a cluster is to ask: the healthy scorers that are left to it."""
        found = []
        for key in sorted(self._states):
            state = self._states[key]
            spec, plan = state.spec, state.plan
            if spec is None or plan is None or state.problem is not None or not state.healthy:
                continue
            if plan.policy.scored_by == ADD_ON and cluster in state.concerned:
                at = route(plan, state.targets, cluster, self._clusters[cluster][0])
                tokens = (at.source_token, at.token)
                found.append(summary(key[1], spec, plan, cluster, at.source, tokens[0], at.scoring, tokens[1]))
        return found

    # What happens.

    def announce(self) -> None:
        """Says of everything what is so, when somebody else may have said it last, or nobody could."""
        for key in self._policies:
            self.policy_said(key)
        for obj in self._configs.values():
            self._config_said(obj)

    def policy_seen(self, obj: Json) -> None:
        key = key_of(obj)
        before = self._policies.get(key)
        self._policies[key] = obj
        if before is not None and before.get("spec") == obj.get("spec"):
            return
        self._unreadable.pop(key, None)
        try:
            self._accepted[key] = (parse_policy(obj.get("spec")), parse_targets(obj.get("spec")))
        except InvalidObjectError as error:
            self._unreadable[key] = str(error)
        self.policy_said(key)
        self._on_change()

    def policy_gone(self, namespace: str, name: str) -> None:
        for known in (self._policies, self._accepted, self._unreadable):
            known.pop((namespace, name), None)
        self._on_change()

    def policy_said(self, key: Key) -> None:
        """Whether it can be read, and whether there is a scorer that it is about."""
        policy, problem = self._policies.get(key), self._unreadable.get(key)
        if policy is None:
            return
        whose = f"DynamicScorer {key[0]}/{key[1]}"
        holds = problem is None and key in self._states
        if problem is not None:
            reason, detail = Reason.SCORER_SPEC_INVALID, problem
        elif key in self._states:
            reason, detail = Reason.SCORER_ACCEPTED, f"it is used for {whose}"
        else:
            reason, detail = Reason.SCORER_NOT_THERE, f"there is no {whose}"
        self._telling.say(SCORER_POLICIES, policy, "Accepted", holds, reason, detail)

    def config_seen(self, obj: Json) -> None:
        """Masks; of several objects in force all count."""
        key = key_of(obj)
        self._configs[key] = obj
        if key[1] == CONFIG_NAME:
            masks = (obj.get("spec") or {}).get("masks") or ()
            found = frozenset((str(mask.get("clusterName")), str(mask.get("scoreName"))) for mask in masks)
            if self._masks.get(key) != found:
                self._masks[key] = found
                self._on_change()
        self._config_said(obj)

    def config_gone(self, namespace: str, name: str) -> None:
        self._configs.pop((namespace, name), None)
        if self._masks.pop((namespace, name), None):
            self._on_change()

    def _config_said(self, obj: Json) -> None:
        counts = key_of(obj)[1] == CONFIG_NAME
        masks = len((obj.get("spec") or {}).get("masks") or ())
        reason = Reason.SCORER_ACCEPTED if counts else Reason.SCORER_NOT_THERE
        detail = f"its masks count: {masks}" if counts else f"only one called {CONFIG_NAME} counts"
        self._telling.say(DYNAMIC_SCORING_CONFIGS, obj, "InEffect", counts, reason, detail)

    def placement_decided(self, namespace: str, name: str, clusters: Iterable[str]) -> None:
        self._chosen[namespace, name] = frozenset(clusters)
        if any(state.targets.placement == name and key[0] == namespace for key, state in self._states.items()):
            self._on_change()

    def cluster_changed(self, name: str) -> None:
        """A cluster came, went, was lost, is back, or may have other labels."""
        cluster = self._world.clusters.get(name)
        known: tuple[Mapping[str, str], bool] | None = None
        if cluster is not None and is_accepted(cluster) and not is_leaving(cluster):
            known = (dict(cluster["metadata"].get("labels") or {}), name in self._world.lost_names)
        if known == self._clusters.get(name):
            return
        if known is None:
            del self._clusters[name]
            self._orders = {asked: made for asked, made in self._orders.items() if asked[1] != name}
        else:
            self._clusters[name] = known
        self._on_change()


def key_of(obj: Mapping[str, Any]) -> Key:
    return str(obj["metadata"].get("namespace") or ""), str(obj["metadata"]["name"])
