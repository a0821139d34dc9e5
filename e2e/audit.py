"""What a user did on a real API server, from its audit log, held against what its roles allow.

Two findings: requests that were refused, and rules that no request needed. A rule is taken apart into single rights
(verb, group, resource, name, namespace), because a rule of which one verb is used hides the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

Json = dict[str, Any]
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """`resource` has its subresource after a slash; `name` and `namespace` are empty where every one is meant."""

    group: str
    resource: str
    verb: str
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        return (
            f"{self.verb} {what}"
            + (f" {self.name}" if self.name else "")
            + (f" in {self.namespace}" if self.namespace else "")
        )


@dataclass(frozen=True, slots=True)
class Request:
    user: str
    verb: str
    group: str
    resource: str
    name: str
    namespace: str
    code: int
    uri: str

    def needs(self, right: Right) -> bool:
        return (
            (self.group, self.resource, self.verb) == (right.group, right.resource, right.verb)
            and right.name in ("", self.name)
            and right.namespace in ("", self.namespace)
        )


def flags(directory: Path) -> list[str]:
    """Of an API server that writes its audit log into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "audit-policy.yaml").write_text(yaml.safe_dump(POLICY))
    return [f"--audit-policy-file={directory / 'audit-policy.yaml'}", f"--audit-log-path={log(directory)}"]


def log(directory: Path) -> Path:
    return directory / "audit.log"


def requests(directory: Path, user: str) -> Iterator[Request]:
    """Everything that `user` asked for, as soon as it was answered (a watch: as soon as it began)."""
    with log(directory).open() as lines:
        for line in lines:
            if f'"{user}"' not in line or not line.endswith("\n"):
                continue
            event = json.loads(line)
            if event["user"]["username"] != user:
                continue
            ref = event.get("objectRef") or {}
            resource = str(ref.get("resource") or "")
            if ref.get("subresource"):
                resource = f"{resource}/{ref['subresource']}"
            yield Request(
                user,
                event["verb"],
                str(ref.get("apiGroup") or ""),
                resource,
                str(ref.get("name") or ""),
                str(ref.get("namespace") or ""),
                int((event.get("responseStatus") or {}).get("code") or 0),
                event["requestURI"],
            )


def rights(roles: Iterable[tuple[str, Json]]) -> set[Right]:
    """Of roles, each with the namespace in which it is bound (empty: everywhere)."""
    found = set()
    for namespace, role in roles:
        for rule in role.get("rules") or ():
            for group in rule.get("apiGroups") or ():
                for resource in rule.get("resources") or ():
                    for verb in rule["verbs"]:
                        for name in rule.get("resourceNames") or [""]:
                            found.add(Right(group, resource, verb, name, namespace))
    return found


def refused(asked: Iterable[Request]) -> list[str]:
    return sorted({f"{one.verb} {one.uri.partition('?')[0]}" for one in asked if one.code == 403})


def unused(held: Iterable[Right], asked: Iterable[Request], elsewhere: Mapping[Right, str]) -> list[str]:
    """`elsewhere`: rights that are needed without a request, and why; one that is not held is an error of the test."""
    held, asked = set(held), list(asked)
    stale = [right for right in elsewhere if right not in held]
    assert not stale, f"no role has {', '.join(map(str, stale))} any more"
    return [
        str(right)
        for right in sorted(held)
        if right not in elsewhere and not any(one.code != 403 and one.needs(right) for one in asked)
    ]
