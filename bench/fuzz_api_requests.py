"""Requests that mean no good, for the fuzz of the embedded API: from a seed, the same ones every time.

Each is bytes to be sent, and how: at once, in pieces, or not to the end. Half of them are sound HTTP about a kind that
is served, with a body, parameters or headers gone wrong; the others are not even that.
"""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass
from typing import Any, Final, Literal

Manner = Literal["whole", "pieces", "cut", "half-closed", "reset"]

_TYPES: Final = (
    *("application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "text/html", "", "json", "\x00"),
    *("application/json;charset=utf-16", "multipart/form-data; boundary=x", "application/json;" + "a=b;" * 200),
)
_PATCHES: Final = (
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_ACCEPTS: Final = (
    *("*/*", "application/json", "text/plain", "application/json;as=Table;v=v1;g=meta.k8s.io", ";;;q=x", "," * 500),
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json;q=nan",
    "application/json;as=Table;v=v9;g=meta.k8s.io",
)
_PARAMETERS: Final = (
    *("labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch", "watch"),
    *(
        "timeoutSeconds",
        "sendInitialEvents",
        "allowWatchBookmarks",
        "dryRun",
        "fieldManager",
        "fieldValidation",
        "force",
    ),
    *("propagationPolicy", "orphanDependents", "includeObject", "pretty", "gracePeriodSeconds", "nothing"),
)
_WORDS: Final = (
    *("", "0", "-1", "true", "false", "All", "1", "99999999999999999999", "1e9", "NaN", "a=b", "a in (b", "a!=,", "!"),
    *(
        "metadata.name=x",
        "spec.nope=1",
        "Exact",
        "NotOlderThan",
        "None",
        "Object",
        "%",
        "%zz",
        "%00",
        "\u00e9",
        "a" * 300,
    ),
    *("WzEsImEiLCJiIl0=", "W10=", "eyJ9", "{", "[1]", "Orphan", "Strict", "x" * 129, "a,b,c", "(((", "a==b==c"),
)
_ODD: Final = (
    *(None, True, False, 0, -1, 2**63, -(2**63), 2**64, 1e308, "", "x", "a" * 5000, [], {}, [[]], [None], {"": None}),
    *("\u0000", "\ud7ff", "2026-13-45T99:99:99Z", "1Zi", {"a": {"a": {"a": {}}}}, [1, "1", None, {}], "$(x)", "../.."),
)
_CONTAINER: Final = {
    "name": "main",
    "image": "x",
    "env": [{"name": "A", "value": "b"}],
    "resources": {"limits": {"cpu": "1"}},
}
_POD: Final = {"restartPolicy": "Never", "containers": [_CONTAINER]}
_TEMPLATE: Final = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [_CONTAINER]}}
_CSR: Final = {
    "request": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K",
    "signerName": "a.b/c",
    "usages": ["client auth"],
}
_RULE: Final = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
_SELECTOR: Final = {"matchLabels": {"a": "b"}}
_MANIFEST: Final = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
_FLAVOR: Final = {"name": "f", "resources": [{"name": "cpu", "nominalQuota": "5"}]}
_ATTRIBUTES: Final = {"verb": "get", "resource": "pods"}
_NOW: Final = "2026-01-01T00:00:00.000000Z"
_READY: Final = {"type": "Ready", "status": "True"}
_INSIDE: Final = "namespaces/default"
Sound = dict[str, Any] | None


def _spec(**fields: Any) -> Sound:
    return {"spec": fields}


_RBAC, _OCM = "/apis/rbac.authorization.k8s.io/v1", "/apis/cluster.open-cluster-management.io"
_BINDING: Final = {"roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [{"kind": "User", "name": "x"}]}
# (collection, kind, a sound object without names). None: only what is garbage is sent there.
KINDS: Final[tuple[tuple[str, str, Sound], ...]] = (
    (f"/api/v1/{_INSIDE}/configmaps", "ConfigMap", {"data": {"a": "b"}, "binaryData": {"c": "ZA=="}}),
    (f"/api/v1/{_INSIDE}/secrets", "Secret", {"type": "Opaque", "data": {"a": "Yg=="}, "stringData": {"c": "d"}}),
    (f"/api/v1/{_INSIDE}/pods", "Pod", {"spec": _POD}),
    (f"/api/v1/{_INSIDE}/services", "Service", _spec(ports=[{"port": 1}], selector={"a": "b"})),
    (f"/api/v1/{_INSIDE}/serviceaccounts", "ServiceAccount", {}),
    ("/api/v1/namespaces", "Namespace", _spec(finalizers=["kubernetes"])),
    ("/api/v1/nodes", "Node", {"status": {"capacity": {"cpu": "1"}, "conditions": [_READY]}}),
    (f"/apis/batch/v1/{_INSIDE}/jobs", "Job", _spec(completions=2, template={"spec": _POD})),
    (f"/apis/apps/v1/{_INSIDE}/deployments", "Deployment", _spec(replicas=1, selector=_SELECTOR, template=_TEMPLATE)),
    (f"/apis/coordination.k8s.io/v1/{_INSIDE}/leases", "Lease", _spec(holderIdentity="x", renewTime=_NOW)),
    (f"/apis/events.k8s.io/v1/{_INSIDE}/events", "Event", {"eventTime": _NOW, "note": "x", "reason": "y"}),
    (f"{_RBAC}/{_INSIDE}/roles", "Role", {"rules": [_RULE]}),
    (
        f"{_RBAC}/clusterroles",
        "ClusterRole",
        {"aggregationRule": {"clusterRoleSelectors": [_SELECTOR]}, "rules": [_RULE]},
    ),
    (f"{_RBAC}/{_INSIDE}/rolebindings", "RoleBinding", _BINDING),
    ("/apis/certificates.k8s.io/v1/certificatesigningrequests", "CertificateSigningRequest", {"spec": _CSR}),
    ("/apis/scheduling.k8s.io/v1/priorityclasses", "PriorityClass", {"value": 5}),
    ("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", "ValidatingWebhookConfiguration", None),
    ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "CustomResourceDefinition", None),
    (
        f"/apis/fleet.quarterdeck.dev/v1alpha1/{_INSIDE}/fleetjobs",
        "FleetJob",
        _spec(tasks=3, template={"spec": _POD}, gpu={"count": 1}, retry={"limitPerTask": 2}),
    ),
    (
        f"/apis/work.open-cluster-management.io/v1/{_INSIDE}/manifestworks",
        "ManifestWork",
        _spec(workload={"manifests": [_MANIFEST]}),
    ),
    (
        f"{_OCM}/v1/managedclusters",
        "ManagedCluster",
        _spec(hubAcceptsClient=True, taints=[{"key": "a", "effect": "NoSelect"}]),
    ),
    (
        f"{_OCM}/v1beta1/{_INSIDE}/placements",
        "Placement",
        _spec(numberOfClusters=1, predicates=[{"requiredClusterSelector": {"labelSelector": _SELECTOR}}]),
    ),
    (
        "/apis/kueue.x-k8s.io/v1beta2/clusterqueues",
        "ClusterQueue",
        _spec(namespaceSelector={}, resourceGroups=[{"coveredResources": ["cpu"], "flavors": [_FLAVOR]}]),
    ),
    ("/apis/kueue.x-k8s.io/v1beta1/clusterqueues", "ClusterQueue", _spec(cohort="c", namespaceSelector={})),
    (
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        "SubjectAccessReview",
        _spec(user="x", resourceAttributes=_ATTRIBUTES),
    ),
    ("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", "SelfSubjectRulesReview", _spec(namespace="default")),
    ("/apis/authentication.k8s.io/v1/tokenreviews", "TokenReview", _spec(token="x.y.z", audiences=["a"])),
)
_DOCUMENTS: Final = (
    *("/", "/api", "/apis", "/apis/batch", "/apis/batch/v1", "/openapi/v2", "/openapi/v3", "/openapi/v3/apis/batch/v1"),
    *(
        "/version",
        "/healthz",
        "/metrics",
        "/clusters",
        "/clusters/x",
        "/clusters/X!/api",
        "/.well-known/openid-configuration",
    ),
    *(
        "/openid/v1/jwks",
        "/logs",
        "/api/v1",
        "/apis//",
        "/api/v2/pods",
        "//api",
        "/api/v1/namespaces/default/pods/x/exec",
    ),
)
_METHODS: Final = (
    *(("GET",) * 6 + ("POST",) * 14 + ("PUT",) * 4 + ("PATCH",) * 8 + ("DELETE",) * 3),
    *("HEAD", "OPTIONS", "get", "XYZ"),
)
_NAMES: Final = (*("abc" * 4), "A", "..", "%2e%2e", "%00", "a%2Fb", "x" * 300, "default", "%ff")
_GARBAGE: Final = (b"", b"null", b"[]", b"{", b'"x"', b"1e999", b"\xff\xfe", b"{}" * 50, b"[" * 5000, b"&a [*a,*a]")
_FIELDS: Final = (
    *("$patch", "apiVersion", "kind", "metadata", "ownerReferences", "finalizers", "managedFields", "uid", "status"),
)
_SUBRESOURCES: Final = ("status", "scale", "approval", "token", "finalize", "log", "x", "status/status", "%2e%2e", "")


@dataclass(frozen=True, slots=True)
class Shot:
    """`data` is sent as `manner` says; `head` where the answer has no body. `patient`: it may be half a request, which
    a server waits for."""

    data: bytes
    manner: Manner = "whole"
    head: bool = False
    patient: bool = False


class Shots:
    def __init__(self, seed: int, token: str) -> None:
        self._random = random.Random(seed)
        self._token = token

    def next(self) -> Shot:
        roll = self._random.random()
        if roll < 0.08:
            return self._noise()
        method, path, headers, body = self._request()
        if roll < 0.16:
            headers = self._bad_headers(headers)
        lines = [f"{method} {path} HTTP/1.{self._random.choice('1111110')}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        data = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + (body or b"")
        manner: Manner = "whole"
        if roll > 0.9:
            manner = self._random.choice(("pieces", "cut", "half-closed", "reset"))
        return Shot(data, manner, method == "HEAD", patient=manner == "cut" or 0.08 <= roll < 0.16)

    def _noise(self) -> Shot:
        pick = self._random.choice
        size = self._random.choice((0, 1, 10, 100, 5000))
        data = pick(
            (
                self._random.randbytes(size),
                b"GET / HTTP/9.9\r\n\r\n",
                b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * self._random.choice((10, 20_000)) + b"\r\n",
                b"POST /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
                b"POST /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
                b"POST /api HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                b"POST /api HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                b"POST /api HTTP/1.1\r\nContent-Length: 4294967296\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + self._random.randbytes(40),
                b"GET http://elsewhere/api HTTP/1.1\r\nHost: x\r\n\r\n",
                b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
                b"GET /api HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            )
        )
        return Shot(data, pick(("whole", "half-closed", "cut")), patient=True)

    def _request(self) -> tuple[str, str, list[tuple[str, str]], bytes | None]:
        choose = self._random.choice
        collection, kind, sound = choose(KINDS)
        method, name = choose(_METHODS), choose(_NAMES)
        path = collection
        if self._random.random() < 0.12:
            path = choose(_DOCUMENTS)
        elif method in ("GET", "PUT", "PATCH", "DELETE", "HEAD") and self._random.random() < 0.85:
            path += "/" + name
            if self._random.random() < 0.3:
                path += "/" + choose(_SUBRESOURCES)
        if method == "POST" and kind == "ServiceAccount" and self._random.random() < 0.5:
            path += "/a/token"
        if method == "DELETE" and sound is None:
            # Without its kinds the rest would be a fuzz of 404.
            method = "GET"
        if self._random.random() < 0.3:
            path += "?" + "&".join(f"{choose(_PARAMETERS)}={choose(_WORDS)}" for _ in range(choose((1, 1, 2, 5))))
            # Streams have an end here.
            path += "&timeoutSeconds=1"
        path = "".join(letter if " " < letter < "\x7f" else "%C3%A9" for letter in path)
        headers = [
            ("Host", "x"),
            ("Authorization", f"Bearer {self._token}"),
            ("Accept", choose(("*/*",) * 100 + _ACCEPTS)),
        ]
        body: bytes | None = None
        if method in ("POST", "PUT", "PATCH", "XYZ") or (method == "DELETE" and self._random.random() < 0.2):
            content_type = choose(_PATCHES) if method == "PATCH" else choose(("application/json",) * 80 + _TYPES)
            headers.append(("Content-Type", content_type))
            body = self._body(collection, kind, name, sound, content_type)
            if "apply" in content_type and "fieldManager" not in path:
                path += ("&" if "?" in path else "?") + "fieldManager=fuzz"
        return method, path, headers, body

    def _body(self, collection: str, kind: str, name: str, sound: Sound, content_type: str) -> bytes:
        choose = self._random.choice
        if "protobuf" in content_type:
            inner = b"\x0a" + bytes([4 + len(kind)]) + b"\x0a\x02v1\x12" + bytes([len(kind) % 128]) + kind.encode()
            return (
                choose((b"k8s\x00", b"k8s", b"")) + choose((inner, b"")) + self._random.randbytes(choose((0, 5, 200)))
            )
        roll = self._random.random()
        if roll < 0.08 or sound is None:
            return choose(
                (b"", b"null", b"[]", b"{", b'"x"', b"1e999", b"\xff\xfe", b"{}" * 50, b"[" * 5000, b"&a [*a,*a]")
            )
        if roll < 0.12:
            return b'{"a":' * choose((140, 200, 3000)) + b"1" + b"}" * choose((140, 200, 3000))
        if roll < 0.123:
            return json.dumps(
                {"metadata": {"name": "a"}, "data": {"x": "y" * choose((900_000, 1_500_000, 3_200_000))}}
            ).encode()
        version = "v1" if collection.startswith("/api/") else "/".join(collection.split("/")[2:4])
        obj: Any = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": {"l": "m"}}}
        obj |= copy.deepcopy(sound)
        if "json-patch" in content_type:
            obj = [self._operation() for _ in range(choose((0, 1, 3)))]
        for _ in range(choose((0, 0, 1, 1, 1, 2))):
            obj = self._spoil(obj)
        text = json.dumps(obj)
        if roll > 0.96:
            text = text[: self._random.randrange(len(text) + 1)]
        if roll > 0.98:
            return text.encode("utf-16")
        return text.encode("utf-8", "surrogatepass")

    def _operation(self) -> Any:
        choose = self._random.choice
        paths = ("", "/", "/metadata", "/metadata/labels/x", "/spec", "/data/-", "/a~2", "/metadata/name", "/-1", "//")
        operation = {
            "op": choose(("add", "remove", "replace", "test", "move", "copy", "x", None)),
            "path": choose(paths),
        }
        if self._random.random() < 0.6:
            operation["value"] = choose(_ODD)
        if self._random.random() < 0.4:
            operation["from"] = choose(paths)
        return operation

    def _spoil(self, value: Any) -> Any:
        """One thing somewhere inside becomes another."""
        choose = self._random.choice
        if isinstance(value, dict) and value and self._random.random() < 0.85:
            key = choose(sorted(value))
            return {**value, key: self._spoil(value[key])}
        if isinstance(value, list) and value and self._random.random() < 0.85:
            index = self._random.randrange(len(value))
            return [*value[:index], self._spoil(value[index]), *value[index + 1 :]]
        if isinstance(value, dict) and self._random.random() < 0.5:
            name = choose(
                ("$patch", "apiVersion", "kind", "metadata", "ownerReferences", "finalizers", "managedFields", "uid")
            )
            return {**value, name: choose(_ODD)}
        return choose(_ODD)

    def _bad_headers(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        choose = self._random.choice
        bad = choose(
            (
                (
                    "Authorization",
                    choose(("", "Bearer", "Basic x", "Bearer \x00", "Bearer " + "x" * 9000, "Bearer a.b.c")),
                ),
                ("Impersonate-User", choose(("", "bob", "system:serviceaccount:", "system:masters", "\x7f"))),
                ("Impersonate-Group", "x"),
                ("Impersonate-Extra-%zz", "y"),
                ("Content-Length", choose(("0", "x", "3", "999999999"))),
                ("Content-Encoding", "gzip"),
                ("Expect", "100-continue"),
                ("Transfer-Encoding", choose(("chunked", "gzip", "x"))),
                ("X" * choose((10, 70_000)), "y"),
                ("Accept", "*/*, " * 3000),
                ("Connection", choose(("close", "upgrade", "keep-alive, close"))),
            )
        )
        kept = [pair for pair in headers if pair[0] != bad[0] or self._random.random() < 0.3]
        kept.insert(self._random.randrange(len(kept) + 1), bad)
        return kept
