"""`quarterdeck explain JOB`: why a job is where it is or waits, by the code that decides, on the hub's own objects."""

from __future__ import annotations

import asyncio

import click

from hub.cli.completion import complete_job


@click.command(name="explain")
@click.argument("what", metavar="JOB | placement NAME", nargs=-1, required=True, shell_complete=complete_job)
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="The whole record instead of tables.")
@click.pass_context
def command(ctx: click.Context, what: tuple[str, ...], output: str | None) -> None:
    """Why JOB is where it is, or what it waits for: quota, clusters, scores, and what would have to change.

    JOB is a FleetJob, a Job with a queue name, or a Workload; NAMESPACE/NAME for one of another namespace.
    `placement NAME` explains a Placement: every cluster with what is against it or with its scores, and the next best.
    """
    if len(what) == 1:
        asyncio.run(_explain(ctx, "job", what[0], output))
    elif len(what) == 2 and what[0].lower() in ("placement", "placements"):
        asyncio.run(_explain(ctx, "placement", what[1], output))
    else:
        raise click.UsageError("Write one JOB, or: placement NAME.")


async def _explain(ctx: click.Context, kind: str, name: str, output: str | None) -> None:
    import difflib

    from hub.api.errors import UsageError
    from hub.api.resource import PLACEMENTS
    from hub.cli.connection import namespace
    from hub.cli.explanation_text import print_explanation
    from hub.cli.hub_view import hub_view
    from hub.cli.output import print_text
    from hub.cli.plan_input import Settings, quiet
    from hub.client.informer import object_key
    from hub.server.explanation_document import explanation_document

    key = name if "/" in name else f"{namespace(ctx)}/{name}"
    view = await hub_view(ctx, key)
    with quiet():
        settings = Settings.read(None, "1", None, None).knowing(view.scores, view.queue)
        objects, state = settings.state(view.sources, live=True)
        document = explanation_document(objects, state, key)
    if document is not None and kind == "placement":
        document = {"key": key, "placement": document["placement"]} if "placement" in document else None
    if document is None:
        if kind == "placement":
            known = sorted(object_key(dict(placement)) for placement in objects.of(PLACEMENTS))
            hint = "`kubectl get placements` lists what is there."
        else:
            known = sorted({str(found.seen.ref) for found in state.jobs.values()} | set(state.workloads))
            hint = "`quarterdeck get jobs` lists what is there."
        where, _, wanted = key.partition("/")
        # What all names here begin with makes none of them nearer.
        here = [other.partition("/")[2] for other in known if other.partition("/")[0] == where]
        close = difflib.get_close_matches(wanted, here, n=3)
        if close:
            hint = f"Did you mean {' or '.join(close)}?"
        raise UsageError(f"there is no {kind} {wanted} in namespace {where}", hint=hint)
    if output == "json":
        import json

        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)
    else:
        print_explanation(document)
        decided = document.get("job", {})
        if view.note and ("verdict" in decided or "oneMoreTask" in decided):
            print_text(
                f"What only the hub knows is missing here ({view.note}): values of ScoreSources are unknown, and "
                "settings are the default ones. Each slice says what counted."
            )
