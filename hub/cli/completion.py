"""Names that complete in the shell: asked of the hub, quickly, and silently nothing when it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from hub.api.resource import Resource
    from hub.client.interface import KubeApi

_PATIENCE = 1.0


def complete_job(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _complete(ctx, incomplete, _jobs(lambda job: True))


def complete_live_job(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Those that have not ended."""
    from hub.cli.jobs import has_ended

    return _complete(ctx, incomplete, _jobs(lambda job: not has_ended(job)))


def complete_failed_job(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Those with tasks that could be tried again."""
    from hub.api.resource import FLEET_JOBS
    from hub.cli.jobs import failed_tasks, member_of

    return _complete(ctx, incomplete, _jobs(lambda job: member_of(job) == FLEET_JOBS and bool(failed_tasks(job))))


def complete_cluster(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from hub.api.resource import MANAGED_CLUSTERS

    return _complete(ctx, incomplete, _all(MANAGED_CLUSTERS))


def complete_queue(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from hub.api.resource import LOCAL_QUEUES

    return _complete(ctx, incomplete, _all(LOCAL_QUEUES))


def complete_priority(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from hub.api.resource import WORKLOAD_PRIORITY_CLASSES

    return _complete(ctx, incomplete, _all(WORKLOAD_PRIORITY_CLASSES))


_Names = Callable[["KubeApi", str], Awaitable[list[str]]]


def _jobs(wanted: Callable[[dict[str, Any]], bool]) -> _Names:
    async def names(api: KubeApi, namespace: str) -> list[str]:
        from hub.cli.jobs import every_job

        return [job["metadata"]["name"] for job in await every_job(api, namespace) if wanted(job)]

    return names


def _all(member: Resource) -> _Names:
    async def names(api: KubeApi, namespace: str) -> list[str]:
        listing = await api.list(member, namespace if member.namespaced else None)
        return [str(item["metadata"]["name"]) for item in listing.items]

    return names


def _complete(ctx: click.Context, incomplete: str, names: _Names) -> list[CompletionItem]:
    from hub.api.errors import QuarterdeckError
    from hub.cli.connection import connect, namespace

    async def found() -> list[str]:
        async with asyncio.timeout(_PATIENCE), connect(ctx) as api:
            return await names(api, namespace(ctx))

    if ctx.find_root().obj is None:
        ctx.find_root().obj = dict(ctx.find_root().params)
    given = {str(name) for values in ctx.params.values() if isinstance(values, tuple) for name in values}
    try:
        known = asyncio.run(found())
    except (QuarterdeckError, TimeoutError, OSError):
        return []
    return [CompletionItem(name) for name in sorted(set(known) - given) if name.startswith(incomplete)]


@click.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the line to put into your shell's start-up file."""
    lines = {
        "bash": 'eval "$(_QUARTERDECK_COMPLETE=bash_source quarterdeck; _QD_COMPLETE=bash_source qd)"',
        "zsh": 'eval "$(_QUARTERDECK_COMPLETE=zsh_source quarterdeck; _QD_COMPLETE=zsh_source qd)"',
        "fish": "_QUARTERDECK_COMPLETE=fish_source quarterdeck | source; _QD_COMPLETE=fish_source qd | source",
    }
    click.echo(lines[shell])
