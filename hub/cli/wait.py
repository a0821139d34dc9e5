"""`quarterdeck wait JOB…`: return when they have ended; exit 0 only if all succeeded."""

from __future__ import annotations

import asyncio
import sys

import click

from hub.api.errors import InvalidObjectError, UsageError
from hub.api.resource import Resource
from hub.cli.completion import complete_job


@click.command(name="wait")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB…", shell_complete=complete_job)
@click.option(
    "--timeout",
    metavar="DURATION",
    help="Give up after this long, such as 90s or 2h; a number is seconds (exit code 124).",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
@click.pass_context
def command(ctx: click.Context, jobs: tuple[str, ...], timeout: str | None, quiet: bool) -> None:
    """Wait until JOB… have ended."""
    sys.exit(asyncio.run(_wait(ctx, jobs, timeout, quiet)))


async def _wait(ctx: click.Context, jobs: tuple[str, ...], timeout: str | None, quiet: bool) -> int:
    from hub.api.timestamps import parse_duration
    from hub.cli.connection import connect, namespace
    from hub.cli.jobs import get_job, member_of, message, phase, until_ended

    where = namespace(ctx)
    limit = None
    if timeout is not None:
        # A bare number is seconds, as for `timeout` and `sleep`.
        timeout = f"{timeout}s" if timeout.isascii() and timeout.isdecimal() else timeout
        try:
            limit = parse_duration(timeout).total_seconds()
        except InvalidObjectError as error:
            raise UsageError(str(error), field="--timeout") from None

    async def one(name: str, member: Resource) -> bool:
        job = await until_ended(api, name, where, member)
        if not quiet:
            click.echo(f"{name}  {phase(job)}  {message(job)}".rstrip())
        return phase(job) == "Succeeded"

    async with connect(ctx) as api:
        try:
            async with asyncio.timeout(limit):
                found = [await get_job(api, name, where) for name in dict.fromkeys(jobs)]
                results = await asyncio.gather(*(one(job["metadata"]["name"], member_of(job)) for job in found))
        except TimeoutError:
            click.echo(f"still not ended after {timeout}: `quarterdeck get jobs {' '.join(jobs)}`", err=True)
            return 124
    return 0 if all(results) else 1
