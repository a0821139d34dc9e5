"""One set of real control planes for the whole run, with Quarterdeck on it; E2E_KUBERNETES names another version."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Generator, Iterator

import pytest

from e2e import versions
from e2e.building import CannotBuildError
from e2e.planes import Planes, fleet
from e2e.quarterdeck import Quarterdeck
from hub.client.session import Session


@pytest.fixture(scope="session")
def planes() -> Iterator[Planes]:
    wanted = os.environ.get("E2E_KUBERNETES") or versions.newest()
    try:
        with fleet(version=wanted, say=print) as started:
            yield started
    except CannotBuildError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def quarterdeck(planes: Planes) -> Quarterdeck:
    """One hub, an agent for each member; a cluster is lost after eight seconds of silence."""
    installed = Quarterdeck(planes)
    installed.start()
    asyncio.run(installed.joined(lease_seconds=8))
    return installed


@pytest.fixture
async def api(quarterdeck: Quarterdeck) -> AsyncIterator[Session]:
    """An administrator's session on the hub's control plane."""
    async with quarterdeck.planes.hub.session() as session:
        yield session


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the ends of our processes' logs: the control planes are gone when somebody wants to look."""
    report = yield
    quarterdeck = getattr(item, "funcargs", {}).get("quarterdeck")
    if isinstance(quarterdeck, Quarterdeck) and report.when == "call" and report.failed:
        for name in quarterdeck.processes.names():
            if name.startswith(("hub-", "agent-")) and not name.startswith("hub-kube"):
                tail = quarterdeck.processes.log(name).read_text(errors="replace").splitlines()[-25:]
                report.sections.append((f"end of {name}.log", "\n".join(tail)))
    return report
