from __future__ import annotations

from hub.api.resource import CONFIG_MAPS
from hub.client.session import Session


async def test_roundtrip(api: Session) -> None:
    made = await api.create(CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"x": "y"}}, "default")
    assert (await api.get(CONFIG_MAPS, "a", "default")) == made
