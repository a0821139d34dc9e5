"""`quarterdeck-agent`: the process. Arguments, the lock of its directory, signals, one event loop, exit codes.

0 it was told to stop; 1 it cannot run here (directory held, disk, damage); 2 a mistake in its arguments or files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.options import Options, parse
from hub.api.errors import InvalidObjectError, QuarterdeckError, UsageError

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from agent.datadir import AgentDirectory
    from agent.local import LocalCluster
    from hub.client.session import Session


def main(arguments: Sequence[str] | None = None) -> None:
    sys.exit(_main(sys.argv[1:] if arguments is None else arguments))


def _main(arguments: Sequence[str]) -> int:
    try:
        options = parse(arguments)
        # Not before: a mistake in the arguments is to be answered at once.
        from agent.datadir import AgentDirectory

        with AgentDirectory(options.data) as directory:
            _run(options, directory)
    except QuarterdeckError as error:
        hint = f" ({error.hint})" if error.hint else ""
        # One line, whatever a parser had to say.
        sys.stderr.write(f"quarterdeck-agent: {' '.join(str(error).split())}{hint}\n")
        return 2 if isinstance(error, InvalidObjectError) else 1
    return 0


def _run(options: Options, directory: AgentDirectory) -> None:
    import asyncio

    from agent import log

    try:
        from uvloop import new_event_loop as factory
    except ImportError:
        factory = None  # type: ignore[assignment]  # asyncio's own
    log.configure(options.log_level)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(options, directory))


async def _serve(options: Options, directory: AgentDirectory) -> None:
    import asyncio
    import logging
    import os
    import signal
    from contextlib import AsyncExitStack

    from agent.assembly import Agent, StopSignal
    from agent.journal import Journal
    from agent.scoring.sourcesfile import read_sources
    from agent.work.applied import hub_hash

    access = read_sources(options.sources)
    stop = StopSignal()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(await _session(options.hub_kubeconfig, "--hub-kubeconfig"))
        connection = await hub.connection()
        local = await _local_cluster(options, directory, stack)
        journal = Journal.open(directory.path / "journal.db")
        stack.callback(journal.close)
        agent = Agent(
            options,
            hub,
            local,
            journal,
            agent_id=directory.agent_id(),
            hub_hash=hub_hash(connection.server),
            access=access,
        )
        fields = {"cluster": options.cluster, "hub": connection.server, "pid": os.getpid()}
        logging.getLogger("agent").info("started", extra={"fields": fields})
        await agent.run(stop)


async def _local_cluster(options: Options, directory: AgentDirectory, stack: AsyncExitStack) -> LocalCluster:
    if options.site_file is not None:
        from agent.edge.site import EdgeSite
        from agent.edge.sitefile import read_site_file

        site = read_site_file(options.site_file)
        if site.name != options.cluster:
            raise UsageError(
                f"{options.site_file} describes the site {site.name!r}, not {options.cluster!r}", field="--site-file"
            )
        return EdgeSite(site, directory.path)
    from agent.kubernetes import KubernetesCluster

    session = await stack.enter_async_context(await _session(options.kubeconfig, "--kubeconfig"))
    return KubernetesCluster(session, options.labels)


async def _session(kubeconfig: Path | None, option: str) -> Session:
    """None: as a pod of the cluster. Raises `UsageError` naming the option when it cannot work as written."""
    from hub.client.session import Session

    try:
        session = Session.from_kubeconfig(kubeconfig) if kubeconfig is not None else Session.in_cluster()
        await session.connection()
    except UsageError as error:
        hint = f"Give {option} FILE" if kubeconfig is not None else "Give --site-file FILE or --kubeconfig FILE"
        raise UsageError(str(error), field=option, hint=f"{hint}.") from error
    return session


if __name__ == "__main__":
    main()
