"""Sets of clusters and who may choose from them: ManagedClusterSets and their bindings, parsed once, immutable.

Semantics are OCM's: a set holds clusters by the exclusive label or by a selector; a namespace may choose from the sets
it is bound to. The sets ``default`` (clusters without a set of their own) and ``global`` (all) always exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.fleet.amounts import mapping
from hub.fleet.facts import ClusterFacts
from hub.fleet.fleet import Fleet
from hub.placement.rule import Requirement
from hub.placement.selectors import matches, parse_label_selector

DEFAULT_SET = "default"
GLOBAL_SET = "global"


@dataclass(frozen=True, slots=True)
class ClusterSet:
    """`selector` None: members carry the exclusive label with this set's name; else: who matches all of it."""

    name: str
    selector: tuple[Requirement, ...] | None = None

    def holds(self, facts: ClusterFacts) -> bool:
        if self.selector is not None:
            return matches(self.selector, facts.labels)
        # A cluster without the label is in the default set, as OCM's admission writes it.
        return (facts.labels.get(names.CLUSTER_SET) or DEFAULT_SET) == self.name


_BUILT_IN = {DEFAULT_SET: ClusterSet(DEFAULT_SET), GLOBAL_SET: ClusterSet(GLOBAL_SET, ())}


@dataclass(frozen=True, slots=True)
class ClusterSets:
    """`bindings`: namespace → names of the sets bound to it, sorted.

    `problems`: name of a set, or ``namespace/name`` of a binding → what is wrong with it.
    """

    sets: Mapping[str, ClusterSet] = field(default_factory=lambda: dict(_BUILT_IN))
    bindings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def parse(sets: Iterable[Mapping[str, Any]], bindings: Iterable[Mapping[str, Any]]) -> ClusterSets:
        """A broken object is in `problems` and binds or holds nothing; the others stand."""
        problems: dict[str, str] = {}
        found = dict(_BUILT_IN)
        for obj in sets:
            name = _text(obj, "metadata", "name")
            if name in _BUILT_IN:
                continue
            try:
                found[name] = _parse_set(name, obj)
            except InvalidObjectError as error:
                problems[name] = str(error)
        bound: dict[str, set[str]] = {}
        for obj in bindings:
            namespace, name = _text(obj, "metadata", "namespace"), _text(obj, "metadata", "name")
            target = _text(obj, "spec", "clusterSet")
            if not name or target != name:
                problems[f"{namespace}/{name}"] = f"spec.clusterSet: {target!r} must be the binding's name, {name!r}"
            elif name not in found:
                problems[f"{namespace}/{name}"] = f"spec.clusterSet: set {name} does not exist"
            else:
                bound.setdefault(namespace, set()).add(name)
        return ClusterSets(found, {ns: tuple(sorted(names)) for ns, names in sorted(bound.items())}, problems)

    def bound(self, namespace: str) -> tuple[str, ...]:
        """Sets that `namespace` may choose from."""
        return self.bindings.get(namespace, ())

    def members(self, fleet: Fleet, name: str) -> NDArray[np.bool_]:
        """Which clusters are in the set; none for a set that does not exist."""
        known = self.sets.get(name)
        if known is None:
            return np.zeros(len(fleet.names), np.bool_)
        return fleet.facts_column(("set", known), known.holds, np.bool_)


def _parse_set(name: str, obj: Mapping[str, Any]) -> ClusterSet:
    selector = mapping(mapping(obj.get("spec"), "spec").get("clusterSelector"), "spec.clusterSelector")
    kind = selector.get("selectorType") or "ExclusiveClusterSetLabel"
    if kind == "ExclusiveClusterSetLabel":
        return ClusterSet(name)
    if kind != "LabelSelector":
        raise InvalidObjectError(
            f"{kind!r} is not a selector type: write ExclusiveClusterSetLabel or LabelSelector",
            field="spec.clusterSelector.selectorType",
        )
    labels = selector.get("labelSelector")
    if labels is None:
        # OCM: no selector chooses nothing; {} chooses every cluster.
        return ClusterSet(name, (Requirement("", "In"),))
    return ClusterSet(name, parse_label_selector(labels, "spec.clusterSelector.labelSelector"))


def _text(obj: Mapping[str, Any], part: str, key: str) -> str:
    within = obj.get(part)
    value = within.get(key) if isinstance(within, Mapping) else None
    return value if isinstance(value, str) else ""
