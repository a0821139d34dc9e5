"""`quarterdeck cancel JOB…`: the job ends, its processes are stopped, what it had done stays recorded."""

from __future__ import annotations

import asyncio
import sys

import click

from hub.cli.completion import complete_live_job


@click.command(name="cancel")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB…", shell_complete=complete_live_job)
@click.pass_context
def command(ctx: click.Context, jobs: tuple[str, ...]) -> None:
    """End JOB…; tasks get their grace period, then are killed."""
    sys.exit(asyncio.run(_cancel(ctx, jobs)))


async def _cancel(ctx: click.Context, jobs: tuple[str, ...]) -> int:
    from hub.api import names
    from hub.api.resource import FLEET_JOBS
    from hub.cli.connection import connect, namespace
    from hub.cli.jobs import get_job, has_ended, member_of, phase

    where = namespace(ctx)
    async with connect(ctx) as api:
        for name in dict.fromkeys(jobs):
            job = await get_job(api, name, where)
            if has_ended(job):
                click.echo(f"{name} has ended already: {phase(job)}")
                continue
            member = member_of(job)
            patch: dict[str, object] = {"spec": {"cancel": True}}
            if member != FLEET_JOBS:
                # A plain Job has no field for it.
                patch = {"metadata": {"annotations": {names.CANCEL: "cancelled by its owner"}}}
            await api.patch(member, name, patch, where)
            click.echo(f"{name} is being cancelled")
    return 0
