"""`quarterdeck` (and `qd`): the command line. Commands are imported when they are called, never for `--help`.

This module knows the names and one-line summaries of the commands and how errors look; what a command does is in its
own module.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from hub.api.errors import InvalidObjectError, QuarterdeckError, UnreachableError

# name -> (module, summary); the order is the order of the help page.
_COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("hub.cli.up.command", "Start a hub and its sites on this machine."),
    "hub": ("hub.cli.hub", "Run the hub against a Kubernetes API server."),
    "demo": ("hub.cli.demo.command", "Watch the whole loop: a fleet, an array job, retries, results."),
    "run": ("hub.cli.run", "Run a command on the fleet, follow it, exit with its code."),
    "submit": ("hub.cli.submit", "Submit jobs and other objects from files."),
    "get": ("hub.cli.get", "List jobs, clusters or queues."),
    "describe": ("hub.cli.describe", "Everything about one job, cluster or queue."),
    "logs": ("hub.cli.logs", "Print what a job's tasks wrote."),
    "wait": ("hub.cli.wait", "Wait until jobs end."),
    "cancel": ("hub.cli.cancel", "End jobs; their processes are stopped."),
    "retry": ("hub.cli.retry", "Run a job's failed tasks again."),
    "why": ("hub.cli.why", "Why a job waits, and when it is likely to start."),
    "queue": ("hub.cli.queue", "Quota as a tree: who owns, uses, borrows, lends; what waits."),
    "top": ("hub.cli.top", "Who uses most of the fleet."),
    "explain": ("hub.cli.explain", "Why a job is where it is: quota, filters, scores."),
    "plan": ("hub.cli.plan", "What would be decided for objects in files, without a hub."),
    "score": ("hub.cli.score", "Try a score source: raw values, scores, ranks."),
    "scorer": ("hub.cli.scorer", "Write, check and measure a scorer of your own."),
    "clusters": ("hub.cli.clusters", "Accept, deny and remove clusters."),
    "completion": ("hub.cli.completion", "Print the line that makes names complete in your shell."),
}


_ERROR = click.style("error:", fg="red", bold=True)
# They talk to no hub that was there before.
_LOCAL = frozenset({"up", "hub", "demo", "completion"})


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command = importlib.import_module(_COMMANDS[name][0]).command
        assert isinstance(command, click.Command)
        if name not in _LOCAL:
            _accept_anywhere(command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UnreachableError as error:
            from hub.cli.connection import how_to_start

            error.hint = how_to_start(ctx) or error.hint
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            meant = f" Did you mean `{close[0]}`?" if close else " `quarterdeck --help` lists the commands."
            raise click.UsageError(f"there is no command `{args[0]}`.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


def _accept_anywhere(command: click.Command) -> None:
    """The options of `quarterdeck` itself, also after the command's name, where people write them."""
    if isinstance(command, click.Group):
        for member in command.commands.values():
            _accept_anywhere(member)
    if any(param.name == "kubeconfig" for param in command.params):
        return
    for flags in (("--kubeconfig",), ("-n", "--namespace")):
        command.params.append(click.Option(flags, expose_value=False, hidden=True, callback=_take))


def _take(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    root = ctx.find_root()
    if root.obj is None:
        # Names are being completed: no command has begun.
        root.obj = dict(root.params)
    if value is not None:
        root.obj[param.name] = value


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `quarterdeck demo`, or `quarterdeck up` and then `quarterdeck run -- hostname`.",
)
@click.option(
    "--kubeconfig",
    metavar="FILE",
    help="The hub's kubeconfig (default: $QUARTERDECK_KUBECONFIG, then the last `up`, then kubectl's own).",
)
@click.option("-n", "--namespace", metavar="NS", help="Namespace (default: the kubeconfig's, else `default`).")
@click.version_option(package_name="quarterdeck", message="quarterdeck %(version)s")
@click.pass_context
def cli(ctx: click.Context, kubeconfig: str | None, namespace: str | None) -> None:
    """One queue, one placement and one view for a fleet of clusters and edge machines."""
    ctx.obj = {"kubeconfig": kubeconfig, "namespace": namespace}


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point. Exit codes: 0 done, 1 refused or failed, 2 a mistake in the command or its input, 130 Ctrl-C."""
    program = os.path.basename(sys.argv[0]) if sys.argv[0].endswith(("quarterdeck", "qd")) else "quarterdeck"
    try:
        code = cli.main(
            args=list(arguments) if arguments is not None else None, prog_name=program, standalone_mode=False
        )
    except click.UsageError as error:
        _print_usage_error(error)
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except QuarterdeckError as error:
        _print_error(error)
        code = 2 if isinstance(error, InvalidObjectError) else 1
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("hub", "agent"):
            raise
        click.echo(f"error: this command needs the package `{error.name}`", err=True)
        click.echo("  → pip install 'quarterdeck[hub]'", err=True)
        code = 1
    except BrokenPipeError:
        # The reader went away (`| head`): nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def _print_error(error: QuarterdeckError) -> None:
    first, *others = str(error).split("\n")
    click.echo(f"{_ERROR} {first}", err=True)
    for line in others:
        click.echo(f"       {line}", err=True)
    hint = error.hint
    if not hint and isinstance(error, UnreachableError):
        hint = "Is the hub running? Start one with `quarterdeck up`."
    if hint:
        click.echo(f"  → {hint}", err=True)


def _print_usage_error(error: click.UsageError) -> None:
    """As every other error looks."""
    text = " ".join(error.format_message().split()).rstrip(".")
    click.echo(f"{_ERROR} {text[:1].lower()}{text[1:]}", err=True)
    if error.ctx is not None and "quarterdeck --help" not in text:
        click.echo(f"  → `{error.ctx.command_path} --help` says how it is used.", err=True)
