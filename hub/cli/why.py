"""`quarterdeck why JOB`: the one reason why a job waits, in plain words, and what would change it."""

from __future__ import annotations

import asyncio

import click

from hub.cli.completion import complete_job


@click.command(name="why")
@click.argument("job", metavar="JOB", shell_complete=complete_job)
@click.pass_context
def command(ctx: click.Context, job: str) -> None:
    """Why JOB waits: the numbers, who has what it needs, its place in line, when it is likely to start.

    `quarterdeck explain JOB` shows everything that the decision looked at.
    """
    asyncio.run(_why(ctx, job))


async def _why(ctx: click.Context, name: str) -> None:
    from hub.api.errors import UsageError
    from hub.cli.connection import namespace
    from hub.cli.hub_view import live_state
    from hub.cli.output import print_sections
    from hub.cli.plan_input import quiet
    from hub.server.waiting import standing_facts, why_sections

    key = name if "/" in name else f"{namespace(ctx)}/{name}"
    state = await live_state(ctx, key)
    with quiet():
        sections = why_sections(state, key) or standing_facts(state, key)
    if sections is None:
        import difflib

        where, _, wanted = key.partition("/")
        here = [ref.name for ref in (job.seen.ref for job in state.jobs.values()) if ref.namespace == where]
        close = difflib.get_close_matches(wanted, sorted(here), n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else "`quarterdeck get jobs` lists what is there."
        raise UsageError(f"there is no job {wanted} in namespace {where}", hint=hint)
    print_sections(sections)
