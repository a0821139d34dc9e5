"""What every write has in common: the options of a request, the result, and how an object gets into the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from hub.api.packing import packed
from hub.apiserver.auth import User
from hub.apiserver.consultation import Consultation
from hub.apiserver.history import Change
from hub.apiserver.kinds import ServedKind
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.record import Record
from hub.apiserver.status import bad_request, too_large

# As much as etcd takes, so that whatever is stored here can go to a real control plane.
MAX_OBJECT: Final = 1536 * 1024
Object = dict[str, Any]
FieldValidation = Literal["Strict", "Warn", "Ignore"]


@dataclass(frozen=True, slots=True)
class Options:
    """Of one request. `manager` is who will own the fields that change; never empty for apply."""

    dry_run: bool = False
    field_validation: FieldValidation = "Warn"
    manager: str = ""
    force: bool = False
    # The write is an apply, which keeps the record of field owners itself.
    applied: bool = False
    # Who writes; None is the server itself, and whoever shares its process.
    user: User | None = None
    # What webhooks say; None: nobody is asked.
    consultation: Consultation | None = None


@dataclass(slots=True)
class Written:
    """`record` is the object as it will be once the commit is through; `changed` is False when there is nothing to
    commit, `deleted` tells that the write took away the last reason to keep the object."""

    record: Record
    created: bool = False
    changed: bool = True
    deleted: bool = False
    warnings: list[str] = field(default_factory=list)


def stage(
    cluster: LogicalCluster,
    kind: ServedKind,
    change: Change,
    obj: Object,
    previous: Record | None,
    options: Options,
    *,
    verb: str,
    subresource: str = "",
) -> Record:
    """Puts `obj`, spelled in `kind`'s version, on its way into the store (not when dry); it must not change afterwards.

    The only place where a resourceVersion is given out.
    """
    store = cluster.store
    if not options.dry_run:
        version = store.next_version()
    else:
        version = previous.version if previous is not None else store.version
    obj["metadata"]["resourceVersion"] = str(version)
    kept = kind.to_storage(obj)
    if previous is not None:
        id = previous.id
    else:
        id = 0 if options.dry_run else store.next_id()
    raw = encode(kept)
    # What grows patch by patch ends somewhere, too; deleting it is always possible.
    if len(raw) > MAX_OBJECT and change != "DELETED" and (previous is None or len(raw) > len(previous.raw)):
        raise too_large(f"the object, with its {len(raw)} bytes,", MAX_OBJECT)
    record = Record(id, kept, raw, previous)
    if not options.dry_run:
        store.stage(cluster.collection(kind), change, record, previous)
        cluster.count(verb, kind, subresource)
    return record


def encode(obj: Object) -> bytes:
    """Raises `RefusedError` (400) for what JSON cannot say."""
    try:
        return packed(obj)
    except TypeError as error:
        raise bad_request(f"the object is not JSON: {error}") from error


def owned_copy(value: Any) -> Any:
    """A copy that shares nothing with `value`, for what a caller in this process goes on using.

    Raises `RefusedError` (400) for what JSON cannot say.
    """
    try:
        return orjson.loads(orjson.dumps(value))
    except TypeError as error:
        raise bad_request(f"the object is not JSON: {error}") from error
