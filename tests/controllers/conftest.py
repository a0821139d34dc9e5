from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from controllers_scene import Scene
from controllers_scorer import FakePrometheus, Scorer
from controllers_web import Web, serving

from hub.apiserver.server import ApiServer
from hub.controllers.bootstrap import bootstrap


@pytest.fixture
async def scene(api_server: ApiServer) -> AsyncIterator[Scene]:
    api = api_server.in_process()
    await bootstrap(api)
    scene = Scene(api)
    yield scene
    await scene.close()


@pytest.fixture
async def prometheus() -> AsyncIterator[FakePrometheus]:
    server = await FakePrometheus().start()
    yield server
    await server.stop()


@pytest.fixture
async def scorer() -> AsyncIterator[Scorer]:
    server = await Scorer().start()
    yield server
    await server.stop()


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as server:
        yield server
