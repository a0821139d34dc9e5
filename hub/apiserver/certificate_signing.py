"""Signs approved CertificateSigningRequests with the server's own authority, for the signers that Kubernetes names.

It follows committed changes. What a signer does not sign is marked Failed with the reason; requests for other signers
are left to whoever signs those. A certificate made in a logical cluster says which, in its OU, and is good there only.
Old requests go: an hour after they were decided, a day after they were made.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from hub.api.errors import ApiError, QuarterdeckError, StorageError
from hub.api.timestamps import parse_time
from hub.apiserver.access_rules import REQUESTS
from hub.apiserver.collection import Collection
from hub.apiserver.history import Event
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.record import Record
from hub.apiserver.remove import DeleteOptions, delete_collection
from hub.apiserver.stamps import now_text
from hub.apiserver.written import Object, Options, stage

CLUSTER_UNIT: Final = "cluster:"
_CLIENT, _KUBELET = "kubernetes.io/kube-apiserver-client", "kubernetes.io/kube-apiserver-client-kubelet"
_SERVING: Final = "kubernetes.io/kubelet-serving"
_MOST_SECONDS: Final = 365 * 86400
_DECIDED_SECONDS, _PENDING_SECONDS = 3600.0, 86400.0
_log = logging.getLogger(__name__)


class _NotSignedError(Exception):
    """Why a signer does not sign what was approved."""


class CertificateSigner:
    """Of one logical cluster; `directory` has the authority."""

    def __init__(self, cluster: LogicalCluster, directory: Path) -> None:
        self._cluster = cluster
        self._directory = directory

    def scan(self) -> None:
        collection = self._cluster.store.collection(self._cluster.name, *REQUESTS)
        for record in collection.select():
            self._look_at(collection, record)

    def follow(self, collection: Collection, events: Iterable[Event]) -> None:
        if (collection.group, collection.plural) != REQUESTS:
            return
        for event in events:
            if event.type != "DELETED":
                self._look_at(collection, event.record)

    def forget_old(self) -> None:
        collection = self._cluster.store.collection(self._cluster.name, *REQUESTS)
        kind = self._cluster.stored_kind(collection)
        now = time.time()
        old = [record for record in collection.select() if _over(record.load(), now)]
        if old and kind is not None:
            delete_collection(self._cluster, kind, old, DeleteOptions("Background"))

    def _look_at(self, collection: Collection, record: Record) -> None:
        latest = collection.latest(record.key)
        if latest is None or b'"Approved"' not in latest.raw:
            return
        obj = latest.load()
        status = obj.get("status") or {}
        found = {condition.get("type") for condition in status.get("conditions") or ()}
        sign = _SIGNERS.get(obj["spec"]["signerName"])
        if sign is None or status.get("certificate") or "Approved" not in found or found & {"Denied", "Failed"}:
            return
        try:
            certificate = sign(self._directory, self._cluster.name, obj["spec"])
            obj["status"] = {**status, "certificate": base64.b64encode(certificate).decode()}
        except _NotSignedError as error:
            failed = {"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": str(error)}
            failed |= {"lastUpdateTime": now_text(), "lastTransitionTime": now_text()}
            obj["status"] = {**status, "conditions": [*status.get("conditions", ()), failed]}
        except QuarterdeckError as error:
            _log.warning("request %s is not signed: %s", record.name, error)
            return
        kind = self._cluster.stored_kind(collection)
        assert kind is not None
        try:
            stage(self._cluster, kind, "MODIFIED", obj, latest, Options(), verb="update", subresource="status")
        except (ApiError, StorageError) as error:
            _log.warning("the certificate of %s is not stored: %s", record.name, error)


def _request(spec: Object, needed: set[str], allowed: set[str]) -> Any:
    from cryptography import x509

    usages = set(spec.get("usages") or ())
    if not needed <= usages <= allowed:
        raise _NotSignedError(f"usages: found {sorted(usages)}; expected {sorted(needed)}, allowed {sorted(allowed)}")
    try:
        request = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
    except ValueError as error:
        raise _NotSignedError(f"the request cannot be read: {error}") from error
    if not request.is_signature_valid:
        raise _NotSignedError("the request's signature is not its key's")
    return request


_KEY_USAGES: Final = {"digital signature", "key encipherment"}


def _client(directory: Path, cluster: str, spec: Object) -> bytes:
    return _issue(
        directory, cluster, spec, _request(spec, {"client auth"}, {"client auth", *_KEY_USAGES}), server=False
    )


def _kubelet(directory: Path, cluster: str, spec: Object) -> bytes:
    request = _request(spec, {"client auth", "digital signature"}, {"client auth", *_KEY_USAGES})
    _must_be_node(request)
    return _issue(directory, cluster, spec, request, server=False)


def _kubelet_serving(directory: Path, cluster: str, spec: Object) -> bytes:
    request = _request(spec, {"server auth", "digital signature"}, {"server auth", *_KEY_USAGES})
    _must_be_node(request)
    return _issue(directory, cluster, spec, request, server=True)


def _must_be_node(request: Any) -> None:
    names, groups = (_values(request.subject, oid) for oid in ("COMMON_NAME", "ORGANIZATION_NAME"))
    if groups != ["system:nodes"] or len(names) != 1 or not names[0].startswith("system:node:"):
        raise _NotSignedError("the subject must be a node: O=system:nodes, CN=system:node:NAME")


def _values(subject: Any, oid: str) -> list[str]:
    from cryptography.x509 import NameOID

    return [str(attribute.value) for attribute in subject.get_attributes_for_oid(getattr(NameOID, oid))]


def _issue(directory: Path, cluster: str, spec: Object, request: Any, *, server: bool) -> bytes:
    from cryptography import x509

    from hub.apiserver.certificates import issue_from

    subject = [
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, group)
        for group in _values(request.subject, "ORGANIZATION_NAME")
    ]
    if cluster:
        subject.append(x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, f"{CLUSTER_UNIT}{cluster}"))
    names = _values(request.subject, "COMMON_NAME")
    if len(names) != 1 or not names[0]:
        raise _NotSignedError("the subject needs one common name")
    subject.append(x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0]))
    alternatives = None
    if server:
        try:
            found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound as error:
            raise _NotSignedError("a serving certificate needs DNS or IP names") from error
        alternatives = found.value
    seconds = min(int(spec.get("expirationSeconds") or _MOST_SECONDS), _MOST_SECONDS)
    return issue_from(directory, x509.Name(subject), request.public_key(), seconds, alternatives)


_SIGNERS: Final[dict[str, Callable[[Path, str, Object], bytes]]] = {
    _CLIENT: _client,
    _KUBELET: _kubelet,
    _SERVING: _kubelet_serving,
}


def _over(obj: Object, now: float) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    decided = [
        parse_time(str(condition["lastUpdateTime"])).timestamp()
        for condition in conditions
        if condition.get("lastUpdateTime") and condition.get("type") in ("Approved", "Denied", "Failed")
    ]
    if decided:
        return now - max(decided) > _DECIDED_SECONDS
    return now - parse_time(obj["metadata"]["creationTimestamp"]).timestamp() > _PENDING_SECONDS
