"""`quarterdeck get jobs|clusters|queues [NAME…]`: a table, or the objects; once, or again at every change."""

from __future__ import annotations

import asyncio
import time

import click
from click.shell_completion import CompletionItem

from hub.cli.completion import complete_cluster, complete_job, complete_queue
from hub.cli.output import output_option


def complete_kind(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in ("jobs", "clusters", "queues") if name.startswith(incomplete)]


def complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the kind that is on the line already."""
    kind = str(ctx.params.get("kind") or "").rstrip("s")
    complete = {"job": complete_job, "cluster": complete_cluster, "queue": complete_queue}.get(kind)
    return complete(ctx, param, incomplete) if complete is not None else []


@click.command(name="get")
@click.argument("kind", metavar="jobs|clusters|queues", shell_complete=complete_kind)
@click.argument("names", nargs=-1, metavar="[NAME]…", shell_complete=complete_name)
@output_option
@click.option("-w", "--watch", is_flag=True, help="Then print what changes, until Ctrl-C.")
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Of all namespaces.")
@click.pass_context
def command(
    ctx: click.Context, kind: str, names: tuple[str, ...], output: str | None, watch: bool, everywhere: bool
) -> None:
    """List jobs, clusters or queues."""
    asyncio.run(_get(ctx, kind, names, output, watch, everywhere))


async def _get(
    ctx: click.Context, text: str, names: tuple[str, ...], output: str | None, watch: bool, everywhere: bool
) -> None:
    from hub.cli.connection import connect, namespace
    from hub.cli.listing import choose, kind_of, read
    from hub.cli.output import print_objects, print_view

    kind = kind_of(text)
    where = None if everywhere or not kind.namespaced else namespace(ctx)
    async with connect(ctx) as api:
        if watch:
            from hub.cli.watching import watch_things

            await watch_things(api, kind, names, where, output, everywhere=everywhere)
            return
        things = choose(kind, kind.things(await read(api, kind, where)), names, where)
    if output in ("json", "yaml", "name"):
        print_objects([thing.object for thing in things], output, single=len(names) == 1)
        return
    if not things:
        click.echo(f"no {kind.name}" + (f" in namespace {where}" if where else ""), err=True)
        click.echo(f"  → {kind.hint}", err=True)
        return
    print_view(kind.table([thing.row for thing in things], time.time(), everywhere), wide=output == "wide")
