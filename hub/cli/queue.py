"""`quarterdeck queue [NAME]`: quota as a tree. `quarterdeck queue pending [NAME]`: what waits, in order."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import click

from hub.cli.completion import complete_queue

_ESTIMATED = 20
"""Starts that are estimated in one listing: each costs some decisions."""


@click.command(name="queue")
@click.argument("what", metavar="[NAME] | pending [NAME]", nargs=-1, shell_complete=complete_queue)
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="With pending: of all namespaces.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="The same for programs.")
@click.pass_context
def command(ctx: click.Context, what: tuple[str, ...], everywhere: bool, output: str | None) -> None:
    """Who owns, uses, borrows and lends what: cohorts and ClusterQueues as a tree, or NAME and what is below it.

    `queue pending` lists what waits in the order in which it is decided about, with the reason and a likely start;
    NAME is a LocalQueue of the namespace or a ClusterQueue.
    """
    if what[:1] == ("pending",) and len(what) <= 2:
        asyncio.run(_pending(ctx, what[1] if len(what) == 2 else None, everywhere, output))
    elif len(what) <= 1:
        asyncio.run(_tree(ctx, what[0] if what else None, output))
    else:
        raise click.UsageError("Write at most one NAME, or: pending NAME.")


async def _tree(ctx: click.Context, name: str | None, output: str | None) -> None:
    from hub.cli.hub_view import live_state
    from hub.cli.output import print_document, print_sections, print_view
    from hub.server.derived_quota import derived_section
    from hub.server.quota_tree import branch_names, drift_of, find, quota_tree, tree_table

    branches = quota_tree(await live_state(ctx))
    if name is not None:
        found = find(branches, name)
        if found is None:
            raise _unknown("queue or cohort", name, branch_names(branches))
        branches = [found]
    if output:
        print_document([branch.document() for branch in branches], output)
    elif branches:
        print_view(tree_table(branches))
        section = derived_section(drift_of(branches))
        if section is not None:
            click.echo()
            print_sections([section])
    else:
        click.echo("no ClusterQueue is there", err=True)
        click.echo("  → A LocalQueue leads to a ClusterQueue; create both with `quarterdeck submit FILE`.", err=True)


async def _pending(ctx: click.Context, name: str | None, everywhere: bool, output: str | None) -> None:
    from hub.cli.connection import namespace
    from hub.cli.hub_view import live_state
    from hub.cli.output import print_document, print_view
    from hub.server.pending import pending_rows, pending_table, with_starts

    state = await live_state(ctx)
    where = namespace(ctx)
    quotas = state.world.quotas
    local = name is not None and (where, name) in quotas.local_queues
    if name is not None and not local and name not in quotas.queues:
        known = sorted({n for space, n in quotas.local_queues if space == where} | set(quotas.queues))
        raise _unknown("queue", name, known)

    def asked(row: Any) -> bool:
        if local:
            return (row.namespace, row.local_queue) == (where, name)
        return row.cluster_queue == name if name is not None else everywhere or row.namespace == where

    rows = with_starts(state, [row for row in pending_rows(state) if asked(row)], _ESTIMATED)
    if output:
        print_document([row.document() for row in rows], output)
    elif rows:
        print_view(pending_table(rows, time.time(), namespaces=everywhere or not local))
    else:
        about = f"queue {name}" if name is not None else "the fleet" if everywhere else f"namespace {where}"
        click.echo(f"nothing waits in {about}", err=True)


def _unknown(kind: str, name: str, known: list[str]) -> Exception:
    import difflib

    from hub.api.errors import UsageError

    close = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else "`quarterdeck queue` shows all there are."
    return UsageError(f"there is no {kind} {name}", hint=hint)
