"""Tokens and certificates of scorers, from Secrets, read at each use: who rotates one restarts nothing."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import Any

from hub.api.errors import NotFoundError, QuarterdeckError
from hub.api.reasons import Reason
from hub.api.resource import SECRETS
from hub.asking.http import Certificates
from hub.asking.question import SecretKey, Tls
from hub.asking.trouble import ScorerTrouble
from hub.client.interface import KubeApi


class ScorerSecrets:
    """Of one namespace, for one round of questions: what is asked for twice in it is read once."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self._reading = asyncio.Lock()
        self._read: dict[str, Mapping[str, Any]] = {}

    async def token(self, key: SecretKey | None) -> str:
        """Empty where none is named. Raises `ScorerTrouble`."""
        return "" if key is None else (await self._value(key.name, key.key)).strip()

    async def certificates(self, tls: Tls | None) -> Certificates | None:
        """Raises `ScorerTrouble`."""
        if tls is None:
            return None
        authorities = await self._value(tls.ca.name, tls.ca.key) if tls.ca is not None else ""
        if not tls.client:
            return Certificates(authorities)
        return Certificates(
            authorities, await self._value(tls.client, "tls.crt"), await self._value(tls.client, "tls.key")
        )

    async def _value(self, name: str, key: str) -> str:
        where = f"Secret {self._namespace}/{name}"
        async with self._reading:
            data = self._read.get(name)
            if data is None:
                try:
                    secret = await self._api.get(SECRETS, name, self._namespace)
                except NotFoundError as error:
                    raise _missing(f"{where} does not exist") from error
                except QuarterdeckError as error:
                    raise _missing(f"{where} cannot be read: {error}") from error
                data = self._read[name] = secret.get("data") or {}
        value = data.get(key)
        if not isinstance(value, str):
            raise _missing(f"{where} has no key {key}")
        try:
            return base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _missing(f"{where}: {key} is no text") from error


def _missing(detail: str) -> ScorerTrouble:
    return ScorerTrouble(Reason.SCORER_SECRET_MISSING, detail)
