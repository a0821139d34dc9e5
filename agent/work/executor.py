"""Carries out the ManifestWorks of one cluster: the shell around apply, removal, rules and report.

One informer on the works, one queue keyed by work: a work is in one pair of hands at a time and its trouble stays its
own. A work that is Complete is frozen; what ran to its end is never made again (the journal knows); a work that is
deleted is first stopped, then its last results are reported, and only then is it let go.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from agent.journal import Journal
from agent.link import TRANSIENT, HubLink
from agent.log import Log, bind, work_fields
from agent.work.applied import AppliedWorks, applied_resources, entry_key, resource_entry
from agent.work.apply import Applier
from agent.work.eviction import Evictor
from agent.work.kinds import Kinds
from agent.work.manifests import Manifest, ObjectKey, in_apply_order, orphans, parse_manifests
from agent.work.queue import KeyedQueue
from agent.work.remembered import Works
from agent.work.removal import Remover
from agent.work.report import StatusReporter
from agent.work.rules import finished
from agent.work.status import Applied, ManifestFacts, Seen, work_status
from agent.work.watches import LocalObjects
from hub.api import names
from hub.api.conditions import condition_is, find_condition, with_condition
from hub.api.errors import ConflictError, InvalidObjectError, NotFoundError, QuarterdeckError, UnreachableError
from hub.api.resource import APPLIED_MANIFEST_WORKS, MANIFEST_WORKS, Resource
from hub.api.timestamps import format_time
from hub.client.backoff import Backoff
from hub.client.informer import Informer
from hub.client.interface import KubeApi

T = TypeVar("T")
Json = dict[str, Any]
ObjectListener = Callable[[Json, Resource, Json], None]
_log = logging.getLogger("agent.work")

_RESYNC = (240.0, 360.0)
_DELETING_PASS = 0.5
# Deleting is said in the status only when it takes longer than this: most are over before anyone could read it.
_SAY_DELETING_AFTER = 1.0
_EXECUTOR_REFUSED = (
    "spec.executor is not supported by this agent: remove it, and the agent's own rights on this cluster are used"
)


@dataclass(slots=True)
class _State:
    """What this process knows of one work beyond the ManifestWork itself."""

    uid: str
    log: Log
    generation: int = -1
    manifests: tuple[Manifest, ...] = ()
    digests: dict[ObjectKey, str] = field(default_factory=dict)
    applied: dict[int, Applied] = field(default_factory=dict)
    resync_at: float = 0.0
    active: bool = False
    stale: bool = True
    deleting_since: float | None = None


class WorkExecutor:
    """`run()` until cancelled. `now` is the clock of the written times; loop time drives the delays."""

    def __init__(
        self,
        hub: KubeApi,
        local: KubeApi,
        *,
        cluster: str,
        hub_hash: str,
        agent_id: str,
        journal: Journal,
        link: HubLink,
        eviction_grace: float = 3600.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_object: ObjectListener | None = None,
        poll_seconds: float = 10.0,
    ) -> None:
        self._hub = hub
        self._local = local
        self._cluster = cluster
        self._journal = journal
        self._link = link
        self._now = now
        self._on_object = on_object
        self._works = Works()
        self._states: dict[str, _State] = {}
        self.applied = AppliedWorks(local, hub_hash, agent_id)
        self._kinds = Kinds(local)
        self._applier = Applier(local)
        self.objects = LocalObjects(local, self._on_local, poll_seconds=poll_seconds)
        self._remover = Remover(local, self.applied, self.objects, self._kinds)
        self.reporter = StatusReporter(hub, cluster, link, journal, self._desired, self._seen_work)
        self.queue = KeyedQueue(self._reconcile)
        self.works_synced = asyncio.Event()
        self._accepting = True
        self._evictor = Evictor(self.applied, self._remover, self._works.__contains__, grace=eviction_grace, now=now)

    @property
    def works(self) -> Mapping[str, Json]:
        """The ManifestWorks of this cluster by name, as last seen on the hub."""
        return self._works

    async def run(self) -> None:
        records: Informer[Json] = Informer(
            self._local, APPLIED_MANIFEST_WORKS, transform=self._take_in_record, on_event=self._on_record
        )
        works: Informer[str] = Informer(
            self._hub,
            MANIFEST_WORKS,
            self._cluster,
            transform=self._take_in_work,
            on_event=self._on_work,
            backoff=Backoff(0.1, 5.0),
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(records.run(), name="applied works")
            tasks.create_task(self.objects.run(), name="local objects")
            try:
                # Whose is what must be known before anything is applied or removed.
                await records.synced.wait()
                tasks.create_task(works.run(), name="works")
                tasks.create_task(self.queue.run(), name="work queue")
                await works.synced.wait()
                self.works_synced.set()
                self._forget_ended_works()
                await self._evictor.run()
            finally:
                await self.reporter.close()

    def accept(self, accepting: bool) -> None:
        """Whether works are applied. While not, what runs goes on and is reported, and deletions are carried out."""
        if accepting and not self._accepting:
            for name in self._works:
                self.queue.add(name)
        self._accepting = accepting

    def _forget_ended_works(self) -> None:
        known = {work["metadata"]["uid"] for work in self._works.values()}
        for uid in self._journal.works() - known:
            self._journal.forget(uid)

    # What happens on the hub.

    def _on_work(self, change: str, key: str, old: str | None, new: str | None) -> None:
        if new is None and old is not None:
            self._works.pop(old, None)
            self._drop(old)
            self._evictor.wake()

    def _take_in_work(self, new: Json) -> str:
        """What the informer keeps is only its name: the work itself is kept once."""
        name = str(new["metadata"]["name"])
        before = self._works.get(name)
        if before is not None and _newer(before, new):
            return name
        self._works[name] = new
        if before is None or _needs_hands(before, new):
            self.queue.forget(name)
            self.queue.add(name)
        elif name in self._states and not condition_is(_conditions(new), "Complete"):
            # The status was changed, by us or by someone else: say what is so if it is not what is written.
            self.reporter.changed(name)
        return name

    def _seen_work(self, work: Json) -> None:
        current = self._works.get(work["metadata"]["name"])
        # The informer may have been quicker.
        if current is None or current["metadata"].get("resourceVersion") != work["metadata"].get("resourceVersion"):
            self._take_in_work(work)
        if condition_is(_conditions(work), "Complete"):
            self.queue.add(work["metadata"]["name"])

    def _drop(self, name: str) -> None:
        self._states.pop(name, None)
        self.objects.unfollow(name)
        self.reporter.forget(name)
        self.queue.forget(name)

    # What happens on the cluster.

    def _take_in_record(self, record: Json) -> Json:
        """What the informer keeps is only what tells of its end: the record itself is kept once."""
        self.applied.seen(record)
        metadata = record["metadata"]
        kept = {key: metadata[key] for key in ("name", "uid", "deletionTimestamp") if key in metadata}
        return {"metadata": kept, "spec": {"manifestWorkName": record["spec"].get("manifestWorkName", "")}}

    def _on_record(self, change: str, key: str, old: Json | None, new: Json | None) -> None:
        record = new or old
        assert record is not None
        if new is None:
            self.applied.seen(record, deleted=True)
        name = record["spec"]["manifestWorkName"]
        if name not in self._works:
            self._evictor.wake()
        elif new is None or new["metadata"].get("deletionTimestamp"):
            state = self._states.get(name)
            if state is not None and state.deleting_since is None:
                state.stale = True
            self.queue.add(name)

    def _on_local(self, name: str, key: ObjectKey, deleted: bool) -> None:
        work, state = self._works.get(name), self._states.get(name)
        if work is None or state is None:
            return
        seen = self.objects.seen(key)
        manifest = next((m for m in state.manifests if m.key == key), None)
        if state.deleting_since is not None:
            if deleted:
                self.queue.add(name)
            if manifest is None:
                return
        if manifest is None or seen is None or manifest.resource is None:
            return
        obj = seen.last
        self._tell(work, manifest.resource, obj)
        ended = obj is not None and finished(manifest.resource, obj)
        if ended and obj is not None:
            self._journal.record_end(state.uid, key, state.digests.get(key, ""), obj)
        if state.deleting_since is not None:
            return
        if ended:
            self.reporter.ended(name)
        elif deleted:
            state.stale = True
            self.queue.add_after(name, random.uniform(0.1, 0.5))
        elif not state.active and obj is not None and (obj.get("status") or {}).get("active"):
            state.active = True
            self.reporter.running(name)
        else:
            self.reporter.changed(name)

    # One pass over one work.

    async def _reconcile(self, name: str) -> None:
        work = self._works.get(name)
        if work is None:
            return
        metadata = work["metadata"]
        state = self._states.get(name)
        if state is not None and state.uid != metadata["uid"]:
            self._drop(name)
            state = None
        try:
            if metadata.get("deletionTimestamp"):
                if names.WORK_FINALIZER in (metadata.get("finalizers") or ()):
                    await self._delete(name, work, state or self._new_state(name, work))
                return
            if condition_is(_conditions(work), "Complete"):
                if state is not None:
                    self._drop(name)
                return
            if not self._accepting:
                return
            state = state or self._new_state(name, work)
            if names.WORK_FINALIZER not in (metadata.get("finalizers") or ()):
                await self._add_finalizer(work)
            loop = asyncio.get_running_loop()
            if state.stale or state.generation != metadata.get("generation", 0) or loop.time() >= state.resync_at:
                await self._apply(name, work, state)
            self.queue.add_after(name, max(0.0, state.resync_at - loop.time()))
        except TRANSIENT:
            self.queue.add_after(name, max(self._link.pause, 0.2) * random.uniform(1.0, 1.3))

    async def _ask_hub(self, call: Awaitable[T]) -> T:
        """So that the link hears of the hub's troubles, and not of the local API's."""
        try:
            return await call
        except TRANSIENT as error:
            self._link.failed(error)
            raise

    def _new_state(self, name: str, work: Json) -> _State:
        state = self._states[name] = _State(work["metadata"]["uid"], bind(_log, **work_fields(work)))
        return state

    async def _add_finalizer(self, work: Json) -> None:
        metadata = work["metadata"]
        finalizers = [*(metadata.get("finalizers") or ()), names.WORK_FINALIZER]
        await self._patch_finalizers(metadata, finalizers)

    async def _patch_finalizers(self, metadata: Mapping[str, Any], finalizers: list[str]) -> None:
        patch = {
            "metadata": {
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
                "finalizers": finalizers or None,
            }
        }
        answer = await self._ask_hub(self._hub.patch(MANIFEST_WORKS, metadata["name"], patch, self._cluster))
        self._link.succeeded()
        if not (answer["metadata"].get("deletionTimestamp") and not answer["metadata"].get("finalizers")):
            current = self._works.get(metadata["name"])
            if current is not None and not _newer(current, answer):
                self._works[metadata["name"]] = answer

    async def _apply(self, name: str, work: Json, state: _State) -> None:
        spec = work.get("spec") or {}
        manifests = tuple(await parse_manifests(work, self._kinds))
        record = self.applied.record(name)
        if record is not None and record["metadata"].get("deletionTimestamp"):
            if not await self._remover.end_record(record):
                self.queue.add_after(name, _DELETING_PASS)
                return
            record = None
        fresh = record is None
        digests = {m.key: m.digest() for m in manifests if m.resource is not None}
        record = await self.applied.ensure(work, digests)
        before = self.applied.digests(record)
        generation = int(work["metadata"].get("generation", 0))
        state.manifests, state.digests, state.generation = manifests, digests, generation
        if spec.get("executor"):
            refused = Applied.failed(_EXECUTOR_REFUSED, retry=False)
            state.applied = {m.ordinal: refused for m in manifests}
        else:
            state.applied = {m.ordinal: state.applied[m.ordinal] for m in manifests if m.ordinal in state.applied}
            for manifest in in_apply_order(manifests):
                edited = not fresh and before.get(manifest.key, digests.get(manifest.key)) != digests.get(manifest.key)
                state.applied[manifest.ordinal] = await self._apply_one(
                    name, work, state, manifest, record, edited=edited, known=not fresh
                )
        loop = asyncio.get_running_loop()
        state.stale = False
        state.resync_at = loop.time() + random.uniform(*_RESYNC)
        expects_end = self._expects_end(state)
        self.reporter.applied(name, expects_end=expects_end and all(a.ok for a in state.applied.values()))
        await self._keep_record(name, state, record)
        failures = [a for a in state.applied.values() if not a.ok]
        if any(a.retry for a in failures):
            state.resync_at = loop.time()
            self.queue.retry(name)
        elif not failures:
            self.queue.forget(name)

    async def _apply_one(
        self,
        name: str,
        work: Json,
        state: _State,
        manifest: Manifest,
        record: Json,
        *,
        edited: bool,
        known: bool,
    ) -> Applied:
        if manifest.resource is None:
            return Applied.failed(manifest.problem)
        if _manifest_complete(work, manifest):
            return Applied.done()
        if self._journal.has_ended(state.uid, manifest.key, state.digests[manifest.key]):
            ended = self._journal.ended(state.uid, manifest.key)
            self.objects.follow(
                name, manifest.resource, manifest.namespace, manifest.name, ended.object if ended else None
            )
            await self.objects.refresh(manifest.key)
            self._tell(work, manifest.resource, ended.object if ended else None)
            return Applied.done()
        try:
            obj = await self._applier.apply(manifest, record, edited=edited, known=known)
        except UnreachableError as error:
            state.log.warning("local API does not answer", extra={"fields": {"why": error}})
            return Applied.failed(str(error))
        except InvalidObjectError as error:
            ignore = manifest.options.strategy == "ServerSideApply"
            reason = "AppliedManifestSSAIgnoreFieldError" if ignore else "AppliedManifestFailed"
            return Applied.failed(str(error), retry=False, reason=reason)
        except QuarterdeckError as error:
            fields = {"manifest": manifest.ordinal, "kind": manifest.kind, "object": manifest.name, "why": error}
            state.log.warning("manifest not applied", extra={"fields": fields})
            await self._look(name, manifest)
            ssa_conflict = isinstance(error, ConflictError) and manifest.options.strategy == "ServerSideApply"
            return Applied.failed(str(error), retry=not ssa_conflict)
        self.objects.follow(name, manifest.resource, manifest.namespace, manifest.name, obj)
        if obj is not None and finished(manifest.resource, obj):
            self._journal.record_end(state.uid, manifest.key, state.digests[manifest.key], obj)
        self._tell(work, manifest.resource, obj)
        return Applied.done()

    def _tell(self, work: Json, resource: Resource, obj: Json | None) -> None:
        if obj is not None and self._on_object is not None:
            self._on_object(work, resource, obj)

    async def _look(self, name: str, manifest: Manifest) -> None:
        """So that Available says what is there, although the manifest could not be applied."""
        assert manifest.resource is not None
        if self.objects.seen(manifest.key) is None:
            self.objects.follow(name, manifest.resource, manifest.namespace, manifest.name, None)
        await self.objects.refresh(manifest.key)

    def _expects_end(self, state: _State) -> bool:
        for manifest in state.manifests:
            seen = self.objects.seen(manifest.key)
            if manifest.resource is None or seen is None or seen.last is None or seen.state != "present":
                continue
            ends = manifest.options.condition_rules or (manifest.resource.group, manifest.kind) == ("batch", "Job")
            if ends and not finished(manifest.resource, seen.last):
                return True
        return False

    async def _keep_record(self, name: str, state: _State, record: Json) -> None:
        """The record lists what was applied, and what was dropped from the work and is not gone yet."""
        entries: list[Json] = []
        for manifest in state.manifests:
            seen = self.objects.seen(manifest.key)
            read_only = manifest.options.strategy == "ReadOnly"
            if manifest.resource is not None and not read_only and seen and seen.state == "present" and seen.last:
                entries.append(resource_entry(manifest, seen.last))
        current = {m.key for m in state.manifests}
        dropped = [entry for entry in applied_resources(record) if entry_key(entry) not in current]
        left = await self._remover.sweep(record, dropped)
        for entry in dropped:
            if entry not in left:
                self.objects.unfollow(name, entry_key(entry))
        if left:
            self.queue.add_after(name, _DELETING_PASS)
            state.stale = True
        record = await self.applied.set_resources(record, [*entries, *left])
        await self.applied.set_digests(record, state.digests)

    # Deletion.

    async def _delete(self, name: str, work: Json, state: _State) -> None:
        loop = asyncio.get_running_loop()
        if state.deleting_since is None:
            state.deleting_since = loop.time()
            state.log.info("deleting")
        if not state.manifests:
            state.manifests = tuple(await parse_manifests(work, self._kinds))
            state.digests = {m.key: m.digest() for m in state.manifests if m.resource is not None}
        record = self.applied.record(name)
        if record is not None:
            await self._follow_all(name, state)
            left = await self._remover.sweep(record, _all_entries(record, state.manifests), _stays(work))
            if left:
                if loop.time() - state.deleting_since > _SAY_DELETING_AFTER and self._link.up:
                    self.reporter.changed(name)
                self.queue.add_after(name, _DELETING_PASS)
                return
        if self._link.pause:
            # Everything here has stopped; only telling the hub is left.
            self.queue.add_after(name, self._link.pause)
            return
        try:
            await self._ask_hub(self.reporter.write(name))
            if record is not None:
                await self._remover.release(record)
            metadata = self._works.get(name, work)["metadata"]
            others = [f for f in metadata.get("finalizers") or () if f != names.WORK_FINALIZER]
            await self._patch_finalizers(metadata, others)
        except NotFoundError:
            pass
        except ConflictError:
            fresh = await self._ask_hub(self._hub.get(MANIFEST_WORKS, name, self._cluster))
            if fresh["metadata"]["uid"] == state.uid:
                self._works[name] = fresh
            self.queue.add_after(name, 0.05)
            return
        state.log.info("let go", extra={"fields": {"seconds": f"{loop.time() - state.deleting_since:.2f}"}})
        self._journal.forget(state.uid)
        self._drop(name)

    async def _follow_all(self, name: str, state: _State) -> None:
        """Before anything is told to go: what is deleted is still seen until its end."""
        for manifest in state.manifests:
            if manifest.resource is None or self.objects.seen(manifest.key) is not None:
                continue
            self.objects.follow(name, manifest.resource, manifest.namespace, manifest.name, None)
            await self.objects.refresh(manifest.key)

    # The status.

    def _desired(self, name: str) -> tuple[Json, Json] | None:
        work, state = self._works.get(name), self._states.get(name)
        if work is None or state is None:
            return None
        deleting = state.deleting_since is not None
        if not deleting and (state.generation < 0 or condition_is(_conditions(work), "Complete")):
            return None
        now = format_time(self._now())
        facts = [self._facts(state, manifest) for manifest in state.manifests]
        status = work_status(work, facts, now=now, deleting=deleting)
        if deleting:
            waited = asyncio.get_running_loop().time() - (state.deleting_since or 0.0)
            already = find_condition(_conditions(work), "Deleting") is not None
            if waited > _SAY_DELETING_AFTER or already:
                status["conditions"] = with_condition(
                    status["conditions"], "Deleting", "True", "WorkDeleting", "ManifestWork is being deleted", now=now
                )
        return work, status

    def _facts(self, state: _State, manifest: Manifest) -> ManifestFacts:
        seen = self.objects.seen(manifest.key) if manifest.resource is not None else None
        ended = False
        digest = state.digests.get(manifest.key, "")
        if seen is not None and seen.state != "present" and self._journal.has_ended(state.uid, manifest.key, digest):
            stored = self._journal.ended(state.uid, manifest.key)
            seen, ended = Seen(seen.state, stored.object if stored else None, seen.why), True
        return ManifestFacts(manifest, state.applied.get(manifest.ordinal), seen, ended)


def _conditions(work: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return (work.get("status") or {}).get("conditions") or ()


def _manifest_complete(work: Mapping[str, Any], manifest: Manifest) -> bool:
    """Completed manifests are frozen one by one, even when the work is not."""
    meta = manifest.meta
    for entry in ((work.get("status") or {}).get("resourceStatus") or {}).get("manifests") or ():
        if entry.get("resourceMeta") == meta:
            return condition_is(entry.get("conditions"), "Complete")
    return False


def _all_entries(record: Mapping[str, Any], manifests: Iterable[Manifest]) -> list[Json]:
    """The record's resources, and those applied just before a crash that the record does not list yet."""
    entries = {entry_key(entry): entry for entry in applied_resources(record)}
    for manifest in manifests:
        if manifest.resource is not None and manifest.key not in entries:
            entries[manifest.key] = {**resource_entry(manifest, {"metadata": {}})}
    return list(entries.values())


def _stays(work: Mapping[str, Any]) -> Callable[[Resource, str, str], bool]:
    option = (work.get("spec") or {}).get("deleteOption") or {}
    return lambda resource, namespace, name: orphans(option, resource, namespace, name)


def _needs_hands(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether more than the status changed."""
    old, new = before["metadata"], after["metadata"]
    return (
        old.get("uid") != new.get("uid")
        or old.get("generation") != new.get("generation")
        or old.get("deletionTimestamp") != new.get("deletionTimestamp")
        or (names.WORK_FINALIZER in (old.get("finalizers") or ()))
        != (names.WORK_FINALIZER in (new.get("finalizers") or ()))
        or condition_is(_conditions(before), "Complete") != condition_is(_conditions(after), "Complete")
    )


def _newer(current: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether `current` is a later state of the same object than `other`: answers and events race."""
    if current["metadata"].get("uid") != other["metadata"].get("uid"):
        return False
    try:
        return int(current["metadata"]["resourceVersion"]) > int(other["metadata"]["resourceVersion"])
    except (KeyError, ValueError):
        return False
