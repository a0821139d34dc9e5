"""The label on the pod of the hub that leads, so that a Service leads to it and to no standby."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from hub.api import names
from hub.api.errors import QuarterdeckError
from hub.api.resource import PODS
from hub.client.interface import KubeApi
from hub.controllers.logs import logger

_log = logger(__name__)
_EVERY: Final = 0.5
_AGAIN: Final = 2.0


async def keep_label(api: KubeApi, pod: str, leads: Callable[[], bool]) -> None:
    """Until cancelled: written when it changes, and at the start, because a process that was killed left its own."""
    said: bool | None = None
    while True:
        wanted = leads()
        if wanted == said:
            await asyncio.sleep(_EVERY)
            continue
        patch = {"metadata": {"labels": {names.LEADS: "true" if wanted else None}}}
        try:
            await api.patch(PODS, pod, patch, names.HUB_NAMESPACE)
        except QuarterdeckError as error:
            _log.warning("the pod cannot be labelled; again soon", pod=pod, leads=wanted, why=str(error))
            await asyncio.sleep(_AGAIN)
        else:
            said = wanted
