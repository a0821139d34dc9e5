"""`quarterdeck top tenants`: who has the fleet now, who had it so far, who waits."""

from __future__ import annotations

import asyncio
import time

import click


@click.group(name="top")
def command() -> None:
    """Who uses most."""


@command.command(name="tenants")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="The same for programs.")
@click.pass_context
def tenants_command(ctx: click.Context, output: str | None) -> None:
    """LocalQueues by what they hold now, with what they have used so far and what waits."""
    asyncio.run(_tenants(ctx, output))


async def _tenants(ctx: click.Context, output: str | None) -> None:
    from hub.cli.hub_view import live_state
    from hub.cli.output import print_document, print_sections
    from hub.server.tenants import fairness, tenant_sections, tenants

    state = await live_state(ctx)
    found, index = tenants(state), fairness(state)
    if output:
        print_document({"tenants": [tenant.document() for tenant in found], "jainIndex": index}, output)
    else:
        print_sections(tenant_sections(found, index, time.time()))
