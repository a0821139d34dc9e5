"""ConfigMaps and Secrets of the site's own API, as text, for the environments of tasks."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agent.edge.environment import ConfigMissing, Source, sources
from agent.edge.podplan import PodPlan
from hub.api.errors import NotFoundError, QuarterdeckError
from hub.api.resource import CONFIG_MAPS, SECRETS
from hub.client.interface import KubeApi

_LOOK_SECONDS = 2.0
Found = dict[tuple[str, str], Mapping[str, str]]


class Configs:
    def __init__(self, api: KubeApi) -> None:
        self._api = api

    async def wait(self, namespace: str, plan: PodPlan, missing: Callable[[str], None]) -> Found:
        """All that the pod reads, as soon as it is there; `missing` is told what is not, each time it is looked for."""
        while True:
            try:
                return await self.fetch(namespace, sources(plan))
            except (ConfigMissing, QuarterdeckError) as error:
                missing(str(error))
            await asyncio.sleep(_LOOK_SECONDS)

    async def fetch(self, namespace: str, wanted: Iterable[Source]) -> Found:
        """By (kind, name).

        Raises `ConfigMissing` for one that is not there and not optional, and what the API answers.
        """
        found: Found = {}
        for source in sorted(wanted):
            resource = CONFIG_MAPS if source.kind == "ConfigMap" else SECRETS
            try:
                obj = await self._api.get(resource, source.name, namespace)
            except NotFoundError:
                if source.optional:
                    continue
                raise ConfigMissing(f"{source.kind} {namespace}/{source.name} is not there") from None
            found[source.kind, source.name] = _text(source.kind, obj)
        return found


def _text(kind: str, obj: Mapping[str, Any]) -> dict[str, str]:
    data = {str(key): str(value) for key, value in (obj.get("data") or {}).items()}
    if kind == "ConfigMap":
        return data
    plain = {str(key): str(value) for key, value in (obj.get("stringData") or {}).items()}
    for key, value in data.items():
        try:
            plain[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            # Bytes cannot be an environment variable.
            continue
    return plain
