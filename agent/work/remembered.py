"""How much of a ManifestWork is kept in memory: all of it while there is something to do, little once it is Complete.

A site that has run thousands of jobs keeps their works until their jobs are deleted on the hub. Of those only what a
log needs (which tasks, which Job) and what is counted stays, as the bytes of its JSON (a fifth of what the dicts take);
the rest comes back by itself with any change of the work. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final

import orjson

from agent.slices import is_job
from hub.api.conditions import condition_is
from hub.api.packing import packed

Json = dict[str, Any]
_FEEDBACK: Final = frozenset({"failedIndexes", "exitCodes"})
_OF_CONDITIONS: Final = ("type", "status")


class Works(MutableMapping[str, Json]):
    """The ManifestWorks of a cluster by name. What is put in is read back as far as it is remembered."""

    def __init__(self) -> None:
        self._kept: dict[str, Json | bytes] = {}

    def __getitem__(self, name: str) -> Json:
        kept = self._kept[name]
        return orjson.loads(kept) if isinstance(kept, bytes) else kept

    def __setitem__(self, name: str, work: Json) -> None:
        self._kept[name] = packed(remembered(work)) if _is_done(work) else remembered(work)

    def __delitem__(self, name: str) -> None:
        del self._kept[name]

    def __contains__(self, name: object) -> bool:
        return name in self._kept

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def _is_done(work: Json) -> bool:
    conditions = (work.get("status") or {}).get("conditions")
    return not work["metadata"].get("deletionTimestamp") and condition_is(conditions, "Complete")


def remembered(work: Json) -> Json:
    """All of it while it is not Complete or is being deleted."""
    metadata, status = work["metadata"], work.get("status") or {}
    if not _is_done(work):
        if "managedFields" not in metadata:
            return work
        return {**work, "metadata": _without_managers(metadata)}
    manifests = ((work.get("spec") or {}).get("workload") or {}).get("manifests") or ()
    jobs = [_job(manifest) for manifest in manifests if isinstance(manifest, Mapping) and is_job(manifest)]
    reports = (status.get("resourceStatus") or {}).get("manifests") or ()
    return {
        "metadata": _without_managers(metadata),
        "spec": {"workload": {"manifests": jobs}},
        "status": {
            "conditions": [{key: c.get(key) for key in _OF_CONDITIONS} for c in status.get("conditions") or ()],
            "resourceStatus": {"manifests": [report for report in map(_report, reports) if report is not None]},
        },
    }


def _without_managers(metadata: Mapping[str, Any]) -> Json:
    return {key: value for key, value in metadata.items() if key != "managedFields"}


def _job(manifest: Mapping[str, Any]) -> Json:
    metadata, spec = manifest["metadata"], manifest.get("spec") or {}
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": {key: metadata[key] for key in ("name", "namespace") if key in metadata},
        "spec": {key: spec[key] for key in ("completions",) if key in spec},
    }


def _report(report: Mapping[str, Any]) -> Json | None:
    """The feedback that says which tasks failed; None when none did."""
    values = (report.get("statusFeedback") or {}).get("values") or ()
    kept = [value for value in values if value.get("name") in _FEEDBACK]
    return {"statusFeedback": {"values": kept}} if kept else None
