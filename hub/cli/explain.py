"""`quarterdeck explain JOB`: why a job is where it is or waits, by the code that decides, on the hub's own objects."""

from __future__ import annotations

import asyncio

import click

from hub.cli.completion import complete_job


@click.command(name="explain")
@click.argument("job", metavar="JOB", shell_complete=complete_job)
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="The whole record instead of tables.")
@click.pass_context
def command(ctx: click.Context, job: str, output: str | None) -> None:
    """Why JOB is where it is, or what it waits for: quota, clusters, scores, and what would have to change.

    JOB is a FleetJob, a Job with a queue name, or a Workload; NAMESPACE/NAME for one of another namespace.
    """
    asyncio.run(_explain(ctx, job, output))


async def _explain(ctx: click.Context, job: str, output: str | None) -> None:
    import difflib

    from hub.api.errors import UsageError
    from hub.cli.connection import namespace
    from hub.cli.explanation_text import print_explanation
    from hub.cli.output import print_text
    from hub.cli.plan_input import Settings, hub_objects, quiet
    from hub.server.explanation_document import explanation_document

    key = job if "/" in job else f"{namespace(ctx)}/{job}"
    sources = await hub_objects(ctx)
    with quiet():
        objects, state = Settings.read(None, "1", None, None).state(sources, live=True)
        document = explanation_document(objects, state, key)
    if document is None:
        known = sorted({str(found.seen.ref) for found in state.jobs.values()} | set(state.workloads))
        close = difflib.get_close_matches(key, known, n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else "`quarterdeck get jobs` lists what is there."
        where, _, name = key.partition("/")
        raise UsageError(f"there is no job {name} in namespace {where}", hint=hint)
    if output == "json":
        import json

        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)
    else:
        print_explanation(document)
        decided = document.get("job", {})
        if ("verdict" in decided or "oneMoreTask" in decided) and (asked := list(objects.of("ScoreSource"))):
            names = ", ".join(sorted(source["metadata"]["name"] for source in asked))
            print_text(
                f"{names}: only the hub asks Prometheus, so values are unknown here; each slice says what counted"
            )
