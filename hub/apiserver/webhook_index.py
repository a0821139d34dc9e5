"""Which webhooks a write is shown to: the two kinds of webhook configurations as an index that follows every commit.

Nothing here calls anybody.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.api import cel
from hub.api.errors import InvalidObjectError
from hub.apiserver.collection import Collection
from hub.apiserver.history import Event
from hub.apiserver.kinds import ServedKind
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.record import Record
from hub.apiserver.selectors import LabelSelector, label_selector_of

GROUP: Final = "admissionregistration.k8s.io"
MUTATING, VALIDATING = "mutatingwebhookconfigurations", "validatingwebhookconfigurations"
VARIABLES: Final = ("object", "oldObject", "request")
Object = Mapping[str, Any]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HookRule:
    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: frozenset[str]
    scope: str

    def matches(self, operation: str, kind: ServedKind, resource: str) -> bool:
        scope = "Namespaced" if kind.namespaced else "Cluster"
        return (
            _in(operation, self.operations)
            and _in(kind.group, self.groups)
            and _in(kind.version, self.versions)
            and self.scope in ("*", scope)
            and self._has(resource)
        )

    def _has(self, resource: str) -> bool:
        plural, slash, below = resource.partition("/")
        if not slash:
            return bool(self.resources & {plural, "*", "*/*"})
        return bool(self.resources & {resource, "*/*", f"{plural}/*", f"*/{below}"})


@dataclass(frozen=True, slots=True, eq=False)
class Hook:
    """One webhook. `problem` is why it can never be called, or decide whether it is meant."""

    configuration: str
    name: str
    client: Object
    rules: tuple[HookRule, ...]
    fails: bool
    equivalent: bool
    namespaces: LabelSelector
    objects: LabelSelector
    seconds: float
    again: bool
    conditions: tuple[cel.Program, ...] = ()
    problem: str = ""

    def kind_for(self, operation: str, kind: ServedKind, others: Iterable[ServedKind], below: str) -> ServedKind | None:
        """In which version of the kind it wants to see the object; None: not at all."""
        resource = f"{kind.plural}/{below}" if below else kind.plural
        for candidate in (kind, *(others if self.equivalent else ())):
            if any(rule.matches(operation, candidate, resource) for rule in self.rules):
                return candidate
        return None


class WebhookIndex:
    """Of one logical cluster. Configurations in the order of their names, webhooks in that of each configuration."""

    def __init__(self, cluster: LogicalCluster) -> None:
        self._cluster = cluster
        self._hooks: dict[str, dict[str, tuple[Hook, ...]]] = {MUTATING: {}, VALIDATING: {}}
        for plural in self._hooks:
            collection = cluster.store.collections.get((cluster.name, GROUP, plural))
            for record in collection.select() if collection is not None else ():
                self._take(plural, record.name, record)

    def follow(self, collection: Collection, events: Iterable[Event]) -> None:
        if collection.group == GROUP and collection.plural in self._hooks:
            for event in events:
                self._take(collection.plural, event.record.name, None if event.type == "DELETED" else event.record)

    @property
    def empty(self) -> bool:
        return not any(self._hooks.values())

    def of(
        self, plural: str, operation: str, kind: ServedKind, below: str, obj: Object | None, old: Object | None
    ) -> list[tuple[Hook, ServedKind]]:
        """Who of `plural` (MUTATING or VALIDATING) is asked about this write, and in which version of the kind."""
        if kind.group == GROUP:
            # Or nobody could ever take away one that refuses everything.
            return []
        found = []
        others = self._cluster.registry.versions_of(kind.group, kind.plural)
        for hooks in self._hooks[plural].values():
            for hook in hooks:
                wanted = hook.kind_for(operation, kind, others, below)
                if wanted is not None and self._selects(hook, kind, obj, old):
                    found.append((hook, wanted))
        return found

    def _selects(self, hook: Hook, kind: ServedKind, obj: Object | None, old: Object | None) -> bool:
        if not hook.objects.everything and not any(
            hook.objects.matches(part["metadata"].get("labels") or {}) for part in (obj, old) if part is not None
        ):
            return False
        if hook.namespaces.everything:
            return True
        metadata = (obj or old or {}).get("metadata", {})
        if kind.storage_key == ("", "namespaces"):
            return hook.namespaces.matches(metadata.get("labels") or {})
        if not kind.namespaced:
            return True
        record = self._cluster.namespaces.latest(("", str(metadata.get("namespace") or "")))
        return hook.namespaces.matches(record.labels if record is not None else {})

    def _take(self, plural: str, name: str, record: Record | None) -> None:
        hooks = self._hooks[plural]
        if record is None:
            hooks.pop(name, None)
            return
        hooks[name] = tuple(_hook(name, written) for written in record.load().get("webhooks") or ())
        self._hooks[plural] = dict(sorted(hooks.items()))


def _hook(configuration: str, written: Object) -> Hook:
    problem = ""
    conditions: list[cel.Program] = []
    nothing = label_selector_of({})
    namespaces = objects = nothing
    try:
        namespaces = label_selector_of(written.get("namespaceSelector") or {})
        objects = label_selector_of(written.get("objectSelector") or {})
        conditions += [
            cel.compile_expression(str(condition["expression"]), VARIABLES)
            for condition in written.get("matchConditions") or ()
        ]
    except InvalidObjectError as error:
        problem = str(error)
        _log.warning("webhook %s of %s: %s", written.get("name"), configuration, error)
    return Hook(
        configuration=configuration,
        name=str(written["name"]),
        client=written["clientConfig"],
        rules=tuple(map(_rule, written.get("rules") or ())),
        fails=written.get("failurePolicy", "Fail") == "Fail",
        equivalent=written.get("matchPolicy", "Equivalent") == "Equivalent",
        namespaces=namespaces,
        objects=objects,
        seconds=float(written.get("timeoutSeconds") or 10),
        again=written.get("reinvocationPolicy") == "IfNeeded",
        conditions=tuple(conditions),
        problem=problem,
    )


def _rule(written: Object) -> HookRule:
    return HookRule(
        frozenset(written.get("operations") or ()),
        frozenset(written.get("apiGroups") or ()),
        frozenset(written.get("apiVersions") or ()),
        frozenset(written.get("resources") or ()),
        str(written.get("scope") or "*"),
    )


def _in(value: str, allowed: frozenset[str]) -> bool:
    return value in allowed or "*" in allowed
