"""The scale subresource at work: replicas read and written as autoscaling/v1 Scale. What a Scale says is scale.py's."""

from __future__ import annotations

from dataclasses import replace as replaced
from typing import Any

from hub.apiserver.invalid import invalid
from hub.apiserver.kinds import ServedKind
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.patching import Patch, merge_patch
from hub.apiserver.record import Key, Record
from hub.apiserver.scale import scale_of, scaled
from hub.apiserver.status import bad_request
from hub.apiserver.update import store_change
from hub.apiserver.written import Object, Options, Written


def read_scale(kind: ServedKind, record: Record) -> Object:
    return scale_of(kind, kind.from_storage(record.load()))


def write_scale(
    cluster: LogicalCluster, kind: ServedKind, body: Any, key: Key, options: Options, *, verb: str
) -> Written:
    """Stages the replicas that `body` asks for: a Scale, or a `Patch` of one. Raises as `update.replace` does."""
    record = cluster.latest(kind, key)
    old = kind.from_storage(record.load())
    if isinstance(body, Patch):
        current = scale_of(kind, old)
        # Of an applied Scale only the number counts: its owner is recorded for the object's own field.
        body = (
            merge_patch(current, body.body) if body.format == "apply" else body.apply(kind, current, options, "scale")
        )
    if not isinstance(body, dict):
        raise bad_request("the body must be a Scale")
    obj, errors = scaled(kind, old, body)
    if errors:
        raise invalid(kind.group, kind.kind, key[1], errors)
    options = replaced(options, applied=False)
    return store_change(cluster, kind, obj, record, old, options, verb=verb, subresource="scale")
