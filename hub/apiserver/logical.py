"""One logical cluster: an API of its own (kinds, namespaces, objects) in a store that it shares with others.

It finds things; what may be written is judged in create.py, update.py and remove.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hub.apiserver.authorizer import Authorizer
from hub.apiserver.collection import Collection
from hub.apiserver.kinds import Registry, ServedKind
from hub.apiserver.record import Key, Record
from hub.apiserver.status import not_found
from hub.apiserver.store import Store

if TYPE_CHECKING:
    from hub.apiserver.webhook_index import WebhookIndex

BOOTSTRAP_NAMESPACES: Final = ("default", "kube-node-lease", "kube-public", "kube-system")

Counted = Callable[[str, str], None]


class LogicalCluster:
    """`name` is empty for the one at the server's root. `registry` is swapped whole when CRDs come and go."""

    def __init__(self, name: str, store: Store, registry: Registry, counted: Counted) -> None:
        self.name = name
        self.store = store
        self._registry = registry
        self._stored: dict[tuple[str, str], ServedKind] = {}
        # None where nobody is asked who may do what: inside of a process.
        self.authorizer: Authorizer | None = None
        # Set with it: who else is asked about writes.
        self.webhooks: WebhookIndex | None = None
        # Called with verb and resource for each write that changed something, once it is durable.
        self.counted = counted

    @property
    def registry(self) -> Registry:
        return self._registry

    @registry.setter
    def registry(self, registry: Registry) -> None:
        self._registry = registry
        self._stored = {}

    def stored_kind(self, collection: Collection) -> ServedKind | None:
        """The kind of the objects in `collection`, in the version they are kept as if it is served; None: none is."""
        key = (collection.group, collection.plural)
        found = self._stored.get(key)
        if found is None:
            for kind in self._registry:
                if kind.storage_key == key and not kind.virtual and (found is None or kind.storage == kind.resource):
                    found = kind
            if found is not None:
                self._stored[key] = found
        return found

    def collection(self, kind: ServedKind) -> Collection:
        group, plural = kind.storage_key
        return self.store.collection(self.name, group, plural)

    @property
    def namespaces(self) -> Collection:
        return self.store.collection(self.name, "", "namespaces")

    @property
    def crds(self) -> Collection:
        return self.store.collection(self.name, "apiextensions.k8s.io", "customresourcedefinitions")

    def namespace(self, name: str) -> Record:
        """The newest state of a namespace. Raises `NotFoundError`."""
        record = self.namespaces.latest(("", name))
        if record is None:
            raise not_found("", "namespaces", name)
        return record

    def get(self, kind: ServedKind, key: Key) -> Record:
        """The committed state. Raises `NotFoundError`."""
        record = self.collection(kind).records.get(key)
        if record is None:
            raise not_found(kind.group, kind.plural, key[1])
        return record

    def latest(self, kind: ServedKind, key: Key) -> Record:
        """What a write builds on. Raises `NotFoundError`."""
        record = self.collection(kind).latest(key)
        if record is None:
            raise not_found(kind.group, kind.plural, key[1])
        return record

    def count(self, verb: str, kind: ServedKind, subresource: str = "") -> None:
        """Counts a staged write once it is durable."""
        resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
        counted = self.counted
        self.store.after_commit(lambda error: counted(verb, resource) if error is None else None)
