"""`quarterdeck retry --failed JOB…`: the tasks that failed run again, the others keep their results."""

from __future__ import annotations

import asyncio
import sys

import click

from hub.cli.completion import complete_failed_job


@click.command(name="retry")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB…", shell_complete=complete_failed_job)
@click.option("--failed", is_flag=True, required=True, help="The tasks that failed (the only kind there is to retry).")
@click.pass_context
def command(ctx: click.Context, jobs: tuple[str, ...], failed: bool) -> None:
    """Run the failed tasks of JOB… again."""
    sys.exit(asyncio.run(_retry(ctx, jobs)))


async def _retry(ctx: click.Context, jobs: tuple[str, ...]) -> int:
    from datetime import UTC, datetime

    from hub.api import names
    from hub.api.errors import UsageError
    from hub.api.resource import FLEET_JOBS
    from hub.api.timestamps import format_micro_time
    from hub.cli.connection import connect, namespace
    from hub.cli.jobs import failed_tasks, get_job, member_of

    where = namespace(ctx)
    code = 0
    async with connect(ctx) as api:
        for name in dict.fromkeys(jobs):
            job = await get_job(api, name, where)
            if member_of(job) != FLEET_JOBS:
                raise UsageError(
                    f"{name} is a plain Job, and the end of a Job is final",
                    hint="Delete it and create it again, or make it a FleetJob: of these, failed tasks can be retried.",
                )
            failed = failed_tasks(job)
            if not failed:
                click.echo(f"{name} has no failed task", err=True)
                code = 1
                continue
            stamp = format_micro_time(datetime.now(UTC))
            await api.patch(FLEET_JOBS, name, {"metadata": {"annotations": {names.RETRY_FAILED: stamp}}}, where)
            click.echo(f"{name}: tasks {failed} run again")
    return code
