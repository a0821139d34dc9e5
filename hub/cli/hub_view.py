"""The live hub as `explain` and `plan --from-hub` see it: the API's objects, and what only the hub itself knows.

What the hub's scorers know is asked of the hub, whose Lease says where. The user's token goes with the question, so it
is sent over TLS or to this machine only. Without an answer everything else still works, and what is missing is said.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import click

from hub.api import names
from hub.api.errors import InvalidObjectError, QuarterdeckError
from hub.api.resource import FLEET_JOBS, JOBS, LEASES
from hub.cli.plan_input import list_objects
from hub.client.session import Session
from hub.controllers.seen import read_job
from hub.fleet.shape import TaskShape
from hub.scoring.state import ScoreState, from_document, shape_documents
from hub.server.reading import Source
from hub.server.snapshot import State as HubState

State = tuple[ScoreState, Mapping[str, Any]]
_PATIENCE: Final = 5.0
# As many as the hub asks its plugins about at once.
_SHAPES: Final = 8


@dataclass(frozen=True, slots=True)
class HubView:
    """`scores`: what its scorers know, `queue`: the queue's part of its configuration. None: the hub could not be
    asked, and `note` says why."""

    sources: list[Source]
    scores: ScoreState | None
    queue: Mapping[str, Any] | None = None
    note: str = ""


async def hub_view(ctx: click.Context, key: str = "") -> HubView:
    """`key` (``namespace/name``): the job that matters, where only some can be asked about."""
    from hub.cli.connection import connect

    async with connect(ctx) as api:
        return await view(api, key)


async def live_state(ctx: click.Context, key: str = "") -> HubState:
    """The hub's own state of everything, decided about as the hub is set. `key` as in `hub_view`."""
    from hub.cli.plan_input import Settings, quiet

    seen = await hub_view(ctx, key)
    with quiet():
        _, state = Settings.read(None, "1", None, None).knowing(seen.scores, seen.queue).state(seen.sources, live=True)
    return state


async def view(api: Session, key: str = "") -> HubView:
    sources = await list_objects(api)
    try:
        return HubView(sources, *await hub_state(api, _shapes(sources, key)))
    except (QuarterdeckError, OSError, TimeoutError) as error:
        return HubView(sources, None, note=str(error) or type(error).__name__)


async def hub_scores(api: Session, shapes: list[TaskShape]) -> ScoreState:
    """What the hub's scorers know now; plugins are asked about `shapes`. Raises `QuarterdeckError`, `OSError`."""
    return (await hub_state(api, shapes))[0]


async def hub_state(api: Session, shapes: list[TaskShape]) -> State:
    """As `hub_scores`, and the queue's part of the hub's configuration."""
    lease = await api.get(LEASES, names.HUB_LEASE, names.HUB_NAMESPACE)
    url = str((lease["metadata"].get("annotations") or {}).get(names.DEBUG_URL) or "")
    if not url:
        raise InvalidObjectError("the hub says nowhere where it answers (it runs without --metrics-listen)")
    if not _private(url):
        raise InvalidObjectError(f"a token is not sent to {url}: it is neither TLS nor this machine")
    authorization = (await api.connection()).authorization
    if not authorization:
        raise InvalidObjectError("the kubeconfig has no bearer token, and the hub knows people by nothing else")
    known = await _ask(url, authorization, None)
    return await _ask(url, authorization, shapes) if known[0].plugins and shapes else known


async def _ask(url: str, authorization: str, shapes: list[TaskShape] | None) -> State:
    import aiohttp

    limits = aiohttp.ClientTimeout(total=_PATIENCE)
    where = url.rstrip("/") + "/debug/state"
    try:
        async with aiohttp.ClientSession(timeout=limits, headers={"Authorization": authorization}) as http:
            body = None if shapes is None else {"shapes": shape_documents(shapes)}
            method = "GET" if shapes is None else "POST"
            async with http.request(method, where, json=body, allow_redirects=False) as response:
                document: Any = await response.json(content_type=None)
                if response.status != 200:
                    said = document.get("error") if isinstance(document, dict) else ""
                    raise InvalidObjectError(said or f"{where} answered {response.status}")
                if not isinstance(document, dict) or not isinstance(document.get("queue"), dict):
                    raise InvalidObjectError(f"{where} answered something else than a hub's state")
                return from_document(document.get("scores")), document["queue"]
    except (aiohttp.ClientError, ValueError) as error:
        if isinstance(error, InvalidObjectError):
            raise
        raise InvalidObjectError(f"no answer from {where}: {error or type(error).__name__}") from error


def _private(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    return parts.scheme == "https" or (parts.scheme == "http" and here)


def _shapes(sources: Iterable[Source], key: str) -> list[TaskShape]:
    """What jobs ask for, first the one that matters, then as they are listed; each once."""
    found: dict[TaskShape, None] = {}
    kinds = {kind.kind for kind in (FLEET_JOBS, JOBS)}
    jobs = [source.obj for source in sources if source.obj.get("kind") in kinds]
    seen = [job for obj in jobs if (job := read_job(dict(obj))) is not None and job.spec is not None]
    for job in sorted(seen, key=lambda job: key not in (str(job.ref), job.spec.key if job.spec is not None else "")):
        if job.spec is not None:
            found[job.spec.shape] = None
    return list(found)[:_SHAPES]
