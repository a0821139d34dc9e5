from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from controllers_scene import Scene

from hub.apiserver.server import ApiServer
from hub.controllers.bootstrap import bootstrap


@pytest.fixture
async def scene(api_server: ApiServer) -> AsyncIterator[Scene]:
    api = api_server.in_process()
    await bootstrap(api)
    scene = Scene(api)
    yield scene
    await scene.close()
