"""Names that complete in the shell: asked of the hub, quickly, and silently nothing when it does not answer."""

from __future__ import annotations

import asyncio

import click
from click.shell_completion import CompletionItem

_PATIENCE = 1.0


def complete_job(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _complete(ctx, "FLEET_JOBS", incomplete, namespaced=True)


def complete_cluster(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _complete(ctx, "MANAGED_CLUSTERS", incomplete, namespaced=False)


def complete_queue(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _complete(ctx, "LOCAL_QUEUES", incomplete, namespaced=True)


def _complete(ctx: click.Context, kind: str, incomplete: str, *, namespaced: bool) -> list[CompletionItem]:
    from hub.api import resource
    from hub.api.errors import QuarterdeckError
    from hub.cli.connection import connect, namespace

    async def names() -> list[str]:
        async with asyncio.timeout(_PATIENCE), connect(ctx) as api:
            listing = await api.list(getattr(resource, kind), namespace(ctx) if namespaced else None)
            return [str(item["metadata"]["name"]) for item in listing.items]

    if ctx.find_root().obj is None:
        ctx.find_root().obj = dict(ctx.find_root().params)
    try:
        found = asyncio.run(names())
    except (QuarterdeckError, TimeoutError, OSError):
        return []
    return [CompletionItem(name) for name in sorted(found) if name.startswith(incomplete)]


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
