"""What every room's tests may use: the embedded API, empty but for our CRDs, in the test's own loop."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import pytest

from hub.api.installed import installed_crds
from hub.apiserver.kubeconfig import write_kubeconfig
from hub.apiserver.server import ApiServer, serve
from hub.client.session import Session

# Read once a run: parsing them takes longer than starting a server.
_crds = cache(installed_crds)


@pytest.fixture(autouse=True)
def warnings_are_heard() -> None:
    """Whatever an operator framework or a process's own set-up did to logging in an earlier test of this worker."""
    logging.disable(logging.NOTSET)
    logging.getLogger().setLevel(logging.INFO)
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger) and logger.name.partition(".")[0] in ("agent", "hub"):
            logger.disabled, logger.propagate = False, True
            logger.setLevel(logging.NOTSET)


@pytest.fixture
async def api_server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    """`url`, `token`, `in_process()`; its store is in the test's tmp_path."""
    async with serve(tmp_path / "api", crds=_crds()) as server:
        yield server


@pytest.fixture
async def api(api_server: ApiServer) -> AsyncIterator[Session]:
    """An administrator's session on `api_server`."""
    async with Session(api_server.url, token=api_server.token) as session:
        yield session


@pytest.fixture
def kubeconfig(api_server: ApiServer, tmp_path: Path) -> Path:
    """A kubeconfig of `api_server`, for clients that are not ours."""
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, api_server.url, api_server.token, user="admin")
    return path
