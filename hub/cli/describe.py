"""`quarterdeck describe job|cluster|queue NAME`: everything about one thing, with what went wrong last."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import click

from hub.cli.get import complete_kind, complete_name

if TYPE_CHECKING:
    from hub.client.interface import KubeApi
    from hub.server.view import Section

Json = dict[str, Any]


@click.command(name="describe")
@click.argument("kind", metavar="job|cluster|queue", shell_complete=complete_kind)
@click.argument("names", nargs=-1, required=True, metavar="NAME…", shell_complete=complete_name)
@click.pass_context
def command(ctx: click.Context, kind: str, names: tuple[str, ...]) -> None:
    """Everything about one job, cluster or queue."""
    asyncio.run(_describe(ctx, kind, names))


async def _describe(ctx: click.Context, text: str, names: tuple[str, ...]) -> None:
    from hub.cli.connection import connect, namespace
    from hub.cli.listing import kind_of
    from hub.cli.output import print_sections

    kind = kind_of(text)
    describe = {"jobs": _job, "clusters": _cluster, "queues": _queue}[kind.name]
    where = namespace(ctx) if kind.namespaced else ""
    async with connect(ctx) as api:
        for number, name in enumerate(dict.fromkeys(names)):
            if number:
                click.echo()
            print_sections(await describe(api, where, name))


async def _job(api: KubeApi, namespace: str, name: str) -> list[Section]:
    from hub.api import names
    from hub.api.errors import NotFoundError
    from hub.api.resource import EVENTS, FLEET_JOBS, JOBS, MANIFEST_WORKS, TASK_LOGS
    from hub.cli.listing import JOBS as KIND
    from hub.cli.listing import missing, read, said
    from hub.server.job_sections import job_sections

    for member in (FLEET_JOBS, JOBS):
        try:
            job = said(member, await api.get(member, name, namespace))
            break
        except NotFoundError:
            continue
    else:
        known = [thing.name for thing in KIND.things(await read(api, KIND, namespace))]
        raise missing(KIND, name, known, namespace)
    uid = job["metadata"].get("uid", "")
    mine = f"{names.JOB_UID}={uid}"
    works, logs = await _listed(api, MANIFEST_WORKS, None, mine), await _listed(api, TASK_LOGS, None, mine)
    events = [event for event in await _listed(api, EVENTS, namespace, "") if _about(event, uid)]
    return job_sections(job, works, logs, events, time.time())


async def _cluster(api: KubeApi, namespace: str, name: str) -> list[Section]:
    from hub.api.resource import CLUSTER_CAPACITIES, MANAGED_CLUSTERS
    from hub.cli.listing import CLUSTERS, missing, read, state_of
    from hub.server.clusters import cluster_sections

    found = await read(api, CLUSTERS, None)
    capacities = {item["metadata"]["name"]: item for item in found.get(CLUSTER_CAPACITIES, ())}
    try:
        return cluster_sections(state_of(found), name, capacities.get(name), time.time())
    except KeyError:
        known = [item["metadata"]["name"] for item in found.get(MANAGED_CLUSTERS, ())]
        raise missing(CLUSTERS, name, known, None) from None


async def _queue(api: KubeApi, namespace: str, name: str) -> list[Section]:
    from hub.api.resource import CLUSTER_QUEUES, LOCAL_QUEUES
    from hub.cli.listing import QUEUES, missing, read, state_of
    from hub.server.queues import queue_sections

    found = await read(api, QUEUES, None)
    try:
        return queue_sections(state_of(found), namespace, name, time.time())
    except KeyError:
        local = [item for item in found.get(LOCAL_QUEUES, ()) if item["metadata"].get("namespace") == namespace]
        known = [item["metadata"]["name"] for item in (*local, *found.get(CLUSTER_QUEUES, ()))]
        raise missing(QUEUES, name, known, namespace) from None


async def _listed(api: KubeApi, member: Any, namespace: str | None, selector: str) -> list[Json]:
    """What there is; nothing where the server does not know the kind."""
    from hub.api.errors import NotFoundError

    try:
        return (await api.list(member, namespace, label_selector=selector)).items
    except NotFoundError:
        return []


def _about(event: Json, uid: str) -> bool:
    regarding = event.get("regarding") or {}
    return bool(uid) and regarding.get("uid") == uid
