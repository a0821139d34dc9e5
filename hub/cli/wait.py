"""`quarterdeck wait JOB…`: return when they have ended; exit 0 only if all succeeded."""

from __future__ import annotations

import asyncio
import sys

import click

from hub.cli.completion import complete_job


@click.command(name="wait")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB…", shell_complete=complete_job)
@click.option("--timeout", metavar="DURATION", help="Give up after this long, such as 90s or 2h (exit code 124).")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
@click.pass_context
def command(ctx: click.Context, jobs: tuple[str, ...], timeout: str | None, quiet: bool) -> None:
    """Wait until JOB… have ended."""
    sys.exit(asyncio.run(_wait(ctx, jobs, timeout, quiet)))


async def _wait(ctx: click.Context, jobs: tuple[str, ...], timeout: str | None, quiet: bool) -> int:
    from hub.api.timestamps import parse_duration
    from hub.cli.connection import connect, namespace
    from hub.cli.jobs import get_job, phase, until_ended

    where = namespace(ctx)
    limit = parse_duration(timeout).total_seconds() if timeout else None

    async def one(name: str) -> bool:
        await get_job(api, name, where)
        job = await until_ended(api, name, where)
        if not quiet:
            message = str(job.get("status", {}).get("message") or "")
            click.echo(f"{name}  {phase(job)}  {message}".rstrip())
        return phase(job) == "Succeeded"

    async with connect(ctx) as api:
        try:
            async with asyncio.timeout(limit):
                results = await asyncio.gather(*(one(name) for name in dict.fromkeys(jobs)))
        except TimeoutError:
            click.echo(f"still not ended after {timeout}: `quarterdeck get jobs {' '.join(jobs)}`", err=True)
            return 124
    return 0 if all(results) else 1
