"""ClusterRoles whose rules are those of others: kept up to date as the others come, change and go.

It follows committed changes. A role may be part of a role that is part of a third, so what it writes is followed, too;
the chain ends where nothing changes any more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from hub.api.errors import ApiError, InvalidObjectError, StorageError
from hub.apiserver.authorizer import GROUP
from hub.apiserver.collection import Collection
from hub.apiserver.history import Event
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.record import Record
from hub.apiserver.selectors import LabelSelector, label_selector_of
from hub.apiserver.update import replace
from hub.apiserver.written import Object, Options

_log = logging.getLogger(__name__)


class Aggregator:
    """Of one logical cluster. `scan` once at the start; `follow` after each commit."""

    def __init__(self, cluster: LogicalCluster) -> None:
        self._cluster = cluster
        # Roles that are put together, by name, and by which labels.
        self._selectors: dict[str, list[LabelSelector]] = {}

    def scan(self) -> None:
        collection = self._cluster.store.collection(self._cluster.name, GROUP, "clusterroles")
        for record in collection.select():
            self._learn(record)
        for name in sorted(self._selectors):
            self._put_together(collection, name)

    def follow(self, collection: Collection, events: Iterable[Event]) -> None:
        if collection.group != GROUP or collection.plural != "clusterroles":
            return
        due: set[str] = set()
        for event in events:
            if event.type == "DELETED":
                self._selectors.pop(event.record.name, None)
            else:
                self._learn(event.record)
                if event.record.name in self._selectors:
                    due.add(event.record.name)
            for record in (event.record, event.previous):
                if record is not None and record.labels:
                    due.update(name for name, selectors in self._selectors.items() if _chosen(record, selectors))
        for name in sorted(due):
            self._put_together(collection, name)

    def _learn(self, record: Record) -> None:
        rule = record.load().get("aggregationRule") if b'"aggregationRule"' in record.raw else None
        if not rule:
            self._selectors.pop(record.name, None)
            return
        try:
            selectors = [label_selector_of(selector) for selector in rule.get("clusterRoleSelectors") or ()]
        except InvalidObjectError as error:
            _log.warning("ClusterRole %s cannot be put together: %s", record.name, error)
            selectors = []
        self._selectors[record.name] = selectors

    def _put_together(self, collection: Collection, name: str) -> None:
        record = collection.latest(("", name))
        kind = self._cluster.stored_kind(collection)
        selectors = self._selectors.get(name)
        if record is None or kind is None or selectors is None or record.deleting:
            return
        rules: list[Object] = []
        for part in collection.select():
            if part.name != name and _chosen(part, selectors):
                rules += [rule for rule in part.load().get("rules") or () if rule not in rules]
        obj = record.load()
        if (obj.get("rules") or []) == rules:
            return
        obj["rules"] = rules
        try:
            replace(self._cluster, kind, obj, record.key, Options())
        except (ApiError, StorageError) as error:
            _log.warning("ClusterRole %s is not put together: %s", name, error)


def _chosen(record: Record, selectors: list[LabelSelector]) -> bool:
    return any(selector.matches(record.labels) for selector in selectors)
