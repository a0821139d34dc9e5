"""`quarterdeck clusters accept|deny|remove NAME`: who belongs to the fleet."""

from __future__ import annotations

import asyncio

import click

from hub.cli.completion import complete_cluster


@click.group(name="clusters")
def command() -> None:
    """Accept, deny and remove clusters."""


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…", shell_complete=complete_cluster)
@click.pass_context
def accept(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Let clusters that asked to join in."""
    asyncio.run(_patch(ctx, names, {"spec": {"hubAcceptsClient": True}}, "accepted"))


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…", shell_complete=complete_cluster)
@click.pass_context
def deny(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Give clusters no more work; what runs there is moved."""
    asyncio.run(_patch(ctx, names, {"spec": {"hubAcceptsClient": False}}, "denied"))


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…", shell_complete=complete_cluster)
@click.pass_context
def remove(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Take clusters out of the fleet; their tasks go elsewhere.

    An agent that still runs asks to join again: stop it first, or deny the cluster instead.
    """
    asyncio.run(_patch(ctx, names, None, "removed"))


async def _patch(ctx: click.Context, names: tuple[str, ...], patch: dict[str, object] | None, done: str) -> None:
    from hub.api.conditions import condition_is
    from hub.api.errors import NotFoundError, UsageError
    from hub.api.resource import MANAGED_CLUSTERS
    from hub.cli.connection import connect
    from hub.cli.invocation import command_line

    async with connect(ctx) as api:
        for name in dict.fromkeys(names):
            there = False
            try:
                if patch is None:
                    conditions = (await api.get(MANAGED_CLUSTERS, name)).get("status", {}).get("conditions")
                    there = condition_is(conditions, "ManagedClusterConditionAvailable")
                    await api.delete(MANAGED_CLUSTERS, name)
                else:
                    await api.patch(MANAGED_CLUSTERS, name, patch)
            except NotFoundError:
                known = [item["metadata"]["name"] for item in (await api.list(MANAGED_CLUSTERS)).items]
                raise UsageError(
                    f"there is no cluster {name}", hint=f"Known: {', '.join(sorted(known)) or 'none has joined yet'}"
                ) from None
            click.echo(f"{name} {done}")
            if there:
                hint = f"Its agent runs and asks to join again: stop it, or `{command_line()} clusters deny {name}`."
                click.echo(f"  → {hint}", err=True)
