"""Jobs as people submit them, for members where kwok plays the pods, and what is asked of them afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from e2e.cluster import Cluster
from e2e.quarterdeck import until
from e2e.stages import EXIT_CODE, FAILS_ATTEMPTS, FAILS_INDEXES, RUNS_FOR
from hub.api import names
from hub.api.conditions import condition_is
from hub.api.resource import APPLIED_MANIFEST_WORKS, FLEET_JOBS, JOBS, MANIFEST_WORKS, PODS
from hub.client.session import Session

Json = dict[str, Any]
ENDED = ("Succeeded", "Failed", "Cancelled")
NAMESPACE = "default"


def played(*, runs_for: str = "", exit_code: int = 0, indexes: str = "", attempts: str = "") -> dict[str, str]:
    """Annotations of the pod template (e2e/stages.py)."""
    said = {RUNS_FOR: runs_for, EXIT_CODE: str(exit_code or ""), FAILS_INDEXES: indexes, FAILS_ATTEMPTS: attempts}
    return {key: value for key, value in said.items() if value}


def template(play: Mapping[str, str], requests: Mapping[str, str]) -> Json:
    # Limits as well: of what is not cpu or memory a real API server takes nothing else.
    container = {
        "name": "main",
        "image": "registry.example/train:1",
        "resources": {"requests": dict(requests), "limits": dict(requests)},
    }
    spec = {"restartPolicy": "Never", "containers": [container]}
    return {"metadata": {"annotations": dict(play)}, "spec": spec}


def fleet_job(name: str, *, play: Mapping[str, str] | None = None, cpu: str = "1", **spec: Any) -> Json:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FleetJob",
        "metadata": {"name": name},
        "spec": {**spec, "template": template(play or {}, {"cpu": cpu})},
    }


def plain_job(name: str, completions: int, *, play: Mapping[str, str] | None = None, **spec: Any) -> Json:
    """A batch/v1 Job with a queue name: what takes it up depends on `suspend` or `managedBy` in `spec`."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {names.QUEUE_NAME: "default"}},
        "spec": {
            "completions": completions,
            "parallelism": completions,
            "completionMode": "Indexed",
            "template": template(play or {}, {"cpu": "1", "nvidia.com/gpu": "1"}),
            **spec,
        },
    }


async def ended(api: Session, name: str, seconds: float = 60.0) -> Json:
    """The status of a FleetJob once its phase is a last one."""
    return await in_phase(api, name, *ENDED, seconds=seconds)


async def in_phase(api: Session, name: str, *phases: str, seconds: float = 60.0) -> Json:
    last: Json = {}

    async def there() -> Json | None:
        nonlocal last
        last = (await api.get(FLEET_JOBS, name, NAMESPACE)).get("status") or {}
        return last if last.get("phase") in phases else None

    try:
        found: Json = await until(there, seconds, f"{name} is {' or '.join(phases)}")
    except TimeoutError as error:
        raise TimeoutError(f"{error}; it is {last.get('phase')}: {last.get('message')}") from error
    return found


async def complete(api: Session, name: str, seconds: float = 60.0) -> Json:
    """A batch/v1 Job once it is Complete."""

    async def there() -> Json | None:
        job = await api.get(JOBS, name, NAMESPACE)
        return job if condition_is((job.get("status") or {}).get("conditions"), "Complete") else None

    found: Json = await until(there, seconds, f"Job {name} is Complete")
    return found


async def works(api: Session, uid: str) -> list[Json]:
    """The ManifestWorks of one job, on all clusters."""
    return (await api.list(MANIFEST_WORKS, label_selector=f"{names.JOB_UID}={uid}")).items


async def left_on(member: Cluster, uid: str) -> list[str]:
    """What a member still has of one job: Jobs, pods, records."""
    selector = f"{names.JOB_UID}={uid}"
    async with member.session() as api:
        kinds = [await api.list(JOBS, label_selector=selector), await api.list(PODS, label_selector=selector)]
        left = [f"{o['kind']} {o['metadata']['name']}" for listing in kinds for o in listing.items]
        records = (await api.list(APPLIED_MANIFEST_WORKS)).items
    short = uid.replace("-", "")[:8]
    ours = [record for record in records if short in str(record["spec"].get("manifestWorkName"))]
    return left + [f"AppliedManifestWork {record['metadata']['name']}" for record in ours]
