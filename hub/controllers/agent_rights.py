"""Gives the agents of accepted clusters their rights on the hub's API, and nobody anything else.

Done once for each cluster and term: what is there is listed first, so that a hub that takes over writes only what is
missing or differs. An API without RBAC has nothing to give. Nothing is taken away here: what was given goes with the
cluster's namespace and with its ManagedCluster.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from hub.api import names
from hub.api.errors import NotFoundError, QuarterdeckError
from hub.api.resource import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, Resource
from hub.client.interface import KubeApi
from hub.controllers.logs import logger
from hub.controllers.writes import Create, MergePatch, Write, WriteKey, Writes
from hub.registration.acceptance import is_accepted, is_leaving
from hub.registration.rights import agent_rights

Json = dict[str, Any]
_log = logger(__name__)
_KINDS: Final = (CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS, ROLE_BINDINGS)
_AGAIN: Final = 1.0
_OTHERS_FIRST: Final = 0.1
_Key = tuple[Resource, str | None, str]


class AgentRights:
    """`run()` until cancelled; `look(cluster)` whenever one is seen. `clusters()` gives all that there are, by name."""

    def __init__(
        self, api: KubeApi, writes: Writes, clusters: Callable[[], Mapping[str, Json]], leads: Callable[[], bool]
    ) -> None:
        self._api, self._writes, self._clusters, self._leads = api, writes, clusters, leads
        self._given: dict[_Key, Json] | None = None
        # (name, uid) of clusters whose rights were asked for in this term.
        self._done: set[tuple[str, str]] = set()
        self._news = asyncio.Event()

    async def run(self) -> None:
        while True:
            self._news.clear()
            if not self._leads():
                self._given = None
            elif self._given is None:
                await self._list()
            if self._given is not None:
                for cluster in list(self._clusters().values()):
                    self._give(cluster)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN):
                    await self._news.wait()

    def look(self, cluster: Json) -> None:
        if self._given is not None and self._leads():
            self._give(cluster)

    async def _list(self) -> None:
        given: dict[_Key, Json] = {}
        self._done.clear()
        try:
            for resource in _KINDS:
                for obj in (await self._api.list(resource, label_selector=names.AGENT_RIGHTS)).items:
                    meta = obj["metadata"]
                    given[resource, meta.get("namespace"), str(meta["name"])] = obj
        except NotFoundError:
            # An API without RBAC: whoever may come in may do everything, and there is nothing to give.
            await asyncio.sleep(60.0)
            return
        except QuarterdeckError as error:
            _log.warning("what agents may do cannot be read", why=str(error))
            await asyncio.sleep(_AGAIN)
            return
        self._given = given

    def _give(self, cluster: Json) -> None:
        metadata = cluster["metadata"]
        mark = (str(metadata["name"]), str(metadata.get("uid") or ""))
        if mark in self._done or not is_accepted(cluster) or is_leaving(cluster):
            return
        self._done.add(mark)

        def failed(key: WriteKey, error: Exception) -> None:
            # Such as a namespace that is not made yet, or something of that name that another hub made.
            _log.info("an agent's rights are not given yet", cluster=mark[0], what=str(key), why=str(error))
            asyncio.get_running_loop().call_later(_AGAIN, self._again, mark)

        for resource, wanted in agent_rights(cluster):
            meta = wanted["metadata"]
            key = WriteKey(resource, meta.get("namespace"), meta["name"])
            write = self._difference(key, wanted)
            if write is not None:
                # What it needs is being made at this moment: the namespace, the role that is bound.
                delay = 0.0 if resource is CLUSTER_ROLES else _OTHERS_FIRST
                self._writes.submit(key, lambda write=write: write, delay=delay, on_error=failed)  # type: ignore[misc]

    def _difference(self, key: WriteKey, wanted: Json) -> Write | None:
        live = (self._given or {}).get((key.resource, key.namespace, key.name))
        if live is None:
            return Create(wanted)
        parts: Json = {}
        for part in ("rules", "subjects"):
            if part in wanted and live.get(part) != wanted[part]:
                parts[part] = wanted[part]
        owners = wanted["metadata"].get("ownerReferences")
        if owners and not _owned(live, owners[0]["uid"]):
            parts["metadata"] = {"ownerReferences": owners}
        return MergePatch(parts) if parts else None

    def _again(self, mark: tuple[str, str]) -> None:
        """What is there is asked anew: somebody may have made it meanwhile."""
        self._done.discard(mark)
        self._given = None
        self._news.set()


def _owned(obj: Mapping[str, Any], uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in obj["metadata"].get("ownerReferences") or ())
