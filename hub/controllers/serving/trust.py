"""Keeps what the hub serves known to the API server: a Secret with the certificates, and its authority where it counts.

The hub that leads makes certificates (serving/certificates.py) and tells the API server by which authority to know
them: in webhook configurations, APIServices, and kinds that it converts. Every hub serves with what the Secret holds.
What is not installed, or not of a kind that the API has, is not told; it is looked for again every minute.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from hub.api import names
from hub.api.errors import ConflictError, NotFoundError, QuarterdeckError
from hub.api.resource import CUSTOM_RESOURCE_DEFINITIONS, SECRETS, Resource
from hub.client.interface import KubeApi
from hub.controllers.logs import logger
from hub.controllers.serving.certificates import Material, from_data, renewed, to_data
from hub.controllers.serving.conversion import CONVERTED

Json = dict[str, Any]
_log = logger(__name__)
SECRET: Final = "quarterdeck-hub-tls"
CONFIGURATION: Final = "quarterdeck"
_FIELD_MANAGER: Final = "quarterdeck-hub"
_ADMISSION: Final = "admissionregistration.k8s.io"
_WEBHOOKS: Final = (
    Resource(_ADMISSION, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", False),
    Resource(_ADMISSION, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", False),
)
_API_SERVICES: Final = Resource("apiregistration.k8s.io", "v1", "APIService", "apiservices", False)
_SERVED_APIS: Final = ("v1beta1.visibility.kueue.x-k8s.io", "v1beta2.visibility.kueue.x-k8s.io")
_SERVICE: Final = "quarterdeck-hub"
_EVERY: Final = 60.0
_SOON: Final = 2.0


def service_names(namespace: str = names.HUB_NAMESPACE) -> tuple[str, ...]:
    """What the API server calls the hub: the Services in manifests/hub/base/services.yaml."""
    return tuple(f"{service}.{namespace}.svc" for service in ("quarterdeck-hub", "quarterdeck-leader"))


class Trust:
    """`run()` until cancelled; `ready` is set once `context` can serve. What connects meanwhile is hung up on."""

    def __init__(
        self,
        api: KubeApi,
        leads: Callable[[], bool],
        server_names: Sequence[str] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        contexts: Sequence[ssl.SSLContext] = (),
    ) -> None:
        self.ready = asyncio.Event()
        self._api, self._leads, self._now = api, leads, now
        self._names = tuple(server_names) or service_names()
        self._contexts = tuple(contexts)
        self._served: Material | None = None
        # Whether all was told once since this hub leads.
        self._told = False

    async def run(self) -> None:
        complained = ""
        while True:
            try:
                await self.step()
                complained = ""
            except ConflictError:
                # Somebody wrote it at the same time: what they wrote is read next.
                pass
            except QuarterdeckError as error:
                if str(error) != complained:
                    _log.warning("certificates cannot be looked after; again soon", why=str(error))
                complained = str(error)
            waits = not self.ready.is_set() or complained or (self._leads() and not self._told)
            await asyncio.sleep(_SOON if waits else _EVERY)

    async def step(self) -> None:
        """One look at the Secret, and what follows from it. Raises what the API raises."""
        try:
            secret = await self._api.get(SECRETS, SECRET, names.HUB_NAMESPACE)
        except NotFoundError as error:
            raise QuarterdeckError(
                f"there is no Secret {SECRET} in namespace {names.HUB_NAMESPACE}",
                hint="It is part of manifests/hub; an empty one will do.",
            ) from error
        material = from_data(_decoded(secret))
        if self._leads():
            wanted = renewed(material, self._names, self._now())
            if wanted is not material and wanted != material:
                await self._keep(secret, wanted)
            self._serve(wanted)
            await self._tell(wanted.bundle)
            self._told = True
        else:
            self._told = False
            if material is not None:
                self._serve(material)

    async def _keep(self, secret: Json, material: Material) -> None:
        meta = secret["metadata"]
        data = {key: base64.b64encode(value).decode() if value else None for key, value in to_data(material).items()}
        patch = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}, "data": data}
        await self._api.patch(SECRETS, SECRET, patch, names.HUB_NAMESPACE)
        _log.info("new certificates are kept", secret=SECRET)

    def _serve(self, material: Material) -> None:
        if self._served is not None and (self._served.certificate, self._served.key) == (
            material.certificate,
            material.key,
        ):
            return
        for context in self._contexts:
            load(context, material)
        self._served = material
        self.ready.set()

    async def _tell(self, bundle: bytes) -> None:
        encoded = base64.b64encode(bundle).decode()
        for resource in _WEBHOOKS:
            found = await self._find(resource, CONFIGURATION)
            hooks = (found or {}).get("webhooks") or ()
            if found is None or all((hook.get("clientConfig") or {}).get("caBundle") == encoded for hook in hooks):
                continue
            # By server-side apply: who applies the manifests again, without an authority in them, does not undo it.
            each = [{"name": hook["name"], "clientConfig": {"caBundle": encoded}} for hook in hooks]
            await self._apply(resource, CONFIGURATION, {"webhooks": each})
        for name in CONVERTED:
            found = await self._find(CUSTOM_RESOURCE_DEFINITIONS, name)
            asked = (((found or {}).get("spec") or {}).get("conversion") or {}).get("webhook") or {}
            client = asked.get("clientConfig") or {}
            if (client.get("service") or {}).get("name") == _SERVICE and client.get("caBundle") != encoded:
                hook = {"clientConfig": {"caBundle": encoded}, "conversionReviewVersions": ["v1"]}
                said = {"spec": {"conversion": {"strategy": "Webhook", "webhook": hook}}}
                await self._apply(CUSTOM_RESOURCE_DEFINITIONS, name, said)
        for name in _SERVED_APIS:
            found = await self._find(_API_SERVICES, name)
            if found is not None and (found.get("spec") or {}).get("caBundle") != encoded:
                await self._apply(_API_SERVICES, name, {"spec": {"caBundle": encoded}})

    async def _find(self, resource: Resource, name: str) -> Json | None:
        try:
            return await self._api.get(resource, name)
        except NotFoundError:
            return None
        except QuarterdeckError as error:
            # Not installed with the rights that belong to it: then it is not installed.
            if getattr(error, "code", 0) == 403:
                return None
            raise

    async def _apply(self, resource: Resource, name: str, said: Json) -> None:
        body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}, **said}
        await self._api.patch(resource, name, body, type="apply", field_manager=_FIELD_MANAGER, force=True)
        _log.info("the API server knows our authority", kind=resource.kind, name=name)


def load(context: ssl.SSLContext, material: Material) -> None:
    """Connections made from now on are served with it."""
    # OpenSSL takes these from files only; written where only we can read them, and removed at once.
    with tempfile.TemporaryDirectory() as directory:
        certificate, key = Path(directory, "tls.crt"), Path(directory, "tls.key")
        for path, data in ((certificate, material.certificate), (key, material.key)):
            path.touch(mode=0o600)
            path.write_bytes(data)
        context.load_cert_chain(certificate, key)


def _decoded(secret: Mapping[str, Any]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            continue
    return found
