"""The term of the hub on what it decides, so that a decision that arrives late is known for one.

Pure; what becomes of it is hub/admission/fencing.py.
"""

from __future__ import annotations

from hub.api import names
from hub.api.resource import MANIFEST_WORKS
from hub.client.patcher import Create, JsonPatch, MergePatch, Write, WriteKey
from hub.jobs.resize import escaped


def in_term(key: WriteKey, write: Write | None, term: int) -> Write | None:
    """`write` with the term on it where it makes a work, tells one to go or resizes it; any other as it is."""
    if key.resource is not MANIFEST_WORKS or key.subresource is not None:
        return write
    noted = {names.TERM: str(term)}
    if isinstance(write, Create):
        meta = write.obj["metadata"]
        return Create({**write.obj, "metadata": {**meta, "annotations": {**(meta.get("annotations") or {}), **noted}}})
    if isinstance(write, JsonPatch):
        # Only decisions are written like this: slices that are told to go, or have another size.
        path = "/metadata/annotations/" + escaped(names.TERM)
        return JsonPatch((*write.operations, {"op": "add", "path": path, "value": str(term)}))
    if isinstance(write, MergePatch):
        meta = write.patch.get("metadata") or {}
        annotations = meta.get("annotations")
        if annotations and names.EVICTION in annotations:
            return MergePatch({**write.patch, "metadata": {**meta, "annotations": {**annotations, **noted}}})
    return write
