"""`python -m hub.controllers`: the hub's process, from its options to its orderly end.

Options, logging, the event loop and signals; what it does is hub/controllers/hub.py.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from hub.api.errors import QuarterdeckError
from hub.client.session import Session
from hub.controllers import logs
from hub.controllers.config import HubConfig, load_config, read_document
from hub.controllers.identity import Identity
from hub.controllers.memory import calm


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    try:
        config = load_config(options.config)
        logs.configure(options.log_level or config.logs.level, config.logs.format)
        for remark in read_document(options.config)[1] if options.config is not None else ():
            log = logs.logger(__name__)
            tell = log.info if remark.process else log.warning
            tell("a field of Kueue's Configuration", field=remark.field, here=remark.said)
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options, config))
    except QuarterdeckError as error:
        hint = f"\n  → {error.hint}" if error.hint else ""
        sys.stderr.write(f"error: {error}{hint}\n")
        return 2
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="quarterdeck-hub", description="The hub's controllers.")
    parser.add_argument(
        "--kubeconfig", type=Path, help="of the hub's API; default: the pod's service account, else kubectl's"
    )
    parser.add_argument("--config", type=Path, help="the hub's configuration file")
    parser.add_argument(
        "--metrics-listen", metavar="HOST:PORT", help="serve /metrics, /livez, /readyz and /debug there"
    )
    parser.add_argument(
        "--debug-url",
        metavar="URL",
        default="",
        help="where others reach /debug of --metrics-listen, said in the hub's Lease; default: its address",
    )
    parser.add_argument(
        "--api-listen",
        metavar="HOST:PORT",
        default="",
        help="serve the visibility API there, by HTTPS",
    )
    parser.add_argument("--webhook-listen", metavar="HOST:PORT", default="", help="serve admission webhooks there")
    parser.add_argument(
        "--pod",
        metavar="NAME",
        default=os.environ.get("POD_NAME", ""),
        help="this hub's pod, which says by a label whether it leads; default: $POD_NAME",
    )
    parser.add_argument("--identity", default="", help="this hub's name in its Lease; default: made up")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="over the configuration's")
    parser.add_argument("--bootstrap", action="store_true", help="install kinds and default objects before starting")
    return parser.parse_args(arguments)


async def _serve(options: argparse.Namespace, config: HubConfig) -> None:
    # Loaded here, so that `--help` and a mistake in the configuration answer at once.
    from hub.controllers.debug_server import DebugPages
    from hub.controllers.hub import Hub
    from hub.controllers.metrics_server import MetricsServer
    from hub.controllers.otlp_server import OtlpPages
    from hub.controllers.permission import Permission
    from hub.controllers.readings import health, refresh
    from hub.controllers.serving.assembly import Addresses, serving
    from hub.controllers.visibility import VisibilityPages

    identity = Identity(options.kubeconfig, options.identity)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(identity.release)
        session = await stack.enter_async_context(_session(options))
        if options.bootstrap:
            from hub.controllers.bootstrap import bootstrap

            await bootstrap(session)
        hub = Hub(session, config, identity=identity.name, connect=lambda: _session(options))
        permission = Permission(session)
        if options.metrics_listen:
            server = MetricsServer(
                options.metrics_listen,
                hub.metrics.registry,
                lambda: refresh(hub),
                lambda: health(hub),
                [
                    *DebugPages(hub, permission).routes,
                    *OtlpPages(hub.dynamic.pushed, permission, lambda: hub.dynamic.running).routes,
                    *VisibilityPages(hub.deciding, hub.table, permission, hub.way).routes,
                ],
            )
            await stack.enter_async_context(server)
            hub.announce(options.debug_url or server.url)
        addresses = Addresses(options.api_listen, options.webhook_listen, options.pod)
        await stack.enter_async_context(serving(hub, session, lambda: _session(options), addresses, permission))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, hub.stop)
        calm()
        logs.logger(__name__).info("starting", identity=identity.name)
        await hub.run()
        logs.logger(__name__).info("stopped")


def _session(options: argparse.Namespace) -> Session:
    """Answers within ten seconds or not at all: a hub that is replaced must not have old writes on their way."""
    if options.kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return Session.in_cluster(timeout=10.0)
    return Session.from_kubeconfig(options.kubeconfig, timeout=10.0)
