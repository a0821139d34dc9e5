"""`quarterdeck hub`: the hub's own process, against any Kubernetes API server.

What `python -m hub.controllers` is to a script this is to a person; options and behaviour are the same. The API is
found as there (the option, the pod's service account, kubectl's own), never by what the last `up` left behind.
"""

from __future__ import annotations

from pathlib import Path

import click

_LEVELS = ("debug", "info", "warning", "error")
_FILE = click.Path(path_type=Path)


@click.command(name="hub")
@click.option(
    "--kubeconfig",
    type=_FILE,
    metavar="FILE",
    help="Of the hub's API (default: the pod's service account, else kubectl's own).",
)
@click.option("--config", type=_FILE, metavar="FILE", help="The hub's configuration file.")
@click.option("--metrics-listen", metavar="HOST:PORT", help="Serve /metrics, /livez, /readyz and /debug there.")
@click.option(
    "--debug-url",
    metavar="URL",
    help="Where others reach /debug of --metrics-listen, said in the hub's Lease (default: its address).",
)
@click.option("--api-listen", metavar="HOST:PORT", help="Serve the visibility API there, by HTTPS.")
@click.option("--webhook-listen", metavar="HOST:PORT", help="Serve admission webhooks there.")
@click.option("--pod", metavar="NAME", help="This hub's pod, labelled while it leads (default: $POD_NAME).")
@click.option("--identity", metavar="NAME", help="This hub's name in its Lease (default: made up).")
@click.option("--log-level", type=click.Choice(_LEVELS), help="Over the configuration's.")
@click.option("--bootstrap", is_flag=True, help="Install kinds and default objects before starting.")
@click.pass_context
def command(ctx: click.Context, /, bootstrap: bool, kubeconfig: Path | None, **others: str | Path | None) -> None:
    """Run the hub: it decides, for as long as it holds its Lease, what runs where.

    \b
      quarterdeck hub --kubeconfig hub.kubeconfig --bootstrap     the first start on an empty control plane
      quarterdeck hub --kubeconfig hub.kubeconfig                 from then on; started twice, one stands by

    Ctrl-C or SIGTERM ends it in order: what is decided is written, and the Lease is free for the next.
    """
    from hub.controllers.main import main

    # Written before the command, it means this one's API just as well.
    kubeconfig = kubeconfig or ctx.find_root().obj["kubeconfig"]
    arguments = ["--bootstrap"] if bootstrap else []
    for name, value in (("kubeconfig", kubeconfig), *others.items()):
        if value is not None:
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    ctx.exit(main(arguments))
