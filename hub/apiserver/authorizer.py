"""Who may do what in one logical cluster: its Roles and bindings as an index that follows every commit.

A user's permissions are put together from the bindings of its name and groups when it first asks, and again after a
change of roles or bindings; a request then costs two look-ups. Members of system:masters may do everything, so that
nobody locks everybody out. Only committed objects count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from hub.apiserver.auth import MASTERS, User
from hub.apiserver.collection import Collection
from hub.apiserver.history import Event
from hub.apiserver.permissions import EVERYTHING, Permissions, Rule, parse_rules
from hub.apiserver.record import Key, Record
from hub.apiserver.store import Store

GROUP: Final = "rbac.authorization.k8s.io"
_USERS: Final = 10_000
Subject = tuple[str, str]
RoleKey = tuple[str, str]
"""(namespace, name); the namespace is empty for a ClusterRole."""
_Grant = tuple[str | None, RoleKey]


class Authorizer:
    """Of the logical cluster `name` in `store`. `always`: roles count for nothing, everybody may do everything that the
    scopes of a token leave."""

    def __init__(self, store: Store, name: str, *, always: bool = False) -> None:
        self._always = always
        self._roles: dict[RoleKey, tuple[Rule, ...]] = {}
        self._grants: dict[Subject, dict[tuple[str, Key], _Grant]] = {}
        self._subjects: dict[tuple[str, Key], list[Subject]] = {}
        self._users: dict[User, Permissions] = {}
        self._scoped: dict[tuple[str, ...], Permissions] = {}
        for plural in ("roles", "clusterroles", "rolebindings", "clusterrolebindings"):
            collection = store.collections.get((name, GROUP, plural))
            for record in collection.select() if collection is not None else ():
                self._take(plural, record.key, record)

    def follow(self, collection: Collection, events: Iterable[Event]) -> None:
        if collection.group != GROUP:
            return
        for event in events:
            self._take(collection.plural, event.record.key, None if event.type == "DELETED" else event.record)
        self._users.clear()
        self._scoped.clear()

    def allows(self, user: User, verb: str, group: str, resource: str, *, namespace: str = "", name: str = "") -> bool:
        """`resource` is a plural, with its subresource after a slash; `name` empty: whichever."""
        if user.scopes and not self._of_scopes(user.scopes).allow(verb, group, resource, namespace, name):
            return False
        return self.is_master(user) or self._of(user).allow(verb, group, resource, namespace, name)

    def allows_path(self, user: User, verb: str, path: str) -> bool:
        if user.scopes and not self._of_scopes(user.scopes).allow_path(verb, path):
            return False
        return self.is_master(user) or self._of(user).allow_path(verb, path)

    def rules(self, user: User, namespace: str) -> tuple[Rule, ...]:
        """What `user` holds in `namespace`, or everywhere where that is empty. Of a token's scopes: what they leave."""
        held = EVERYTHING if self.is_master(user) else self._of(user).rules(namespace)
        if not user.scopes:
            return held
        granted = self._of_scopes(user.scopes).rules(namespace)
        if held is EVERYTHING:
            return granted
        atoms = [atom for rule in granted for atom in rule.atoms()]
        return tuple(atom for atom in atoms if any(mine.covers(atom) for mine in held))

    def is_master(self, user: User) -> bool:
        """Whether no role is needed for anything."""
        return self._always or MASTERS in user.groups

    def why(self, user: User, verb: str, group: str, resource: str, namespace: str, name: str, path: str) -> str:
        """Which binding allows what is allowed, as people read it; bindings everywhere first. Empty: none."""
        subjects = [("User", user.name), *(("Group", found) for found in user.groups)]
        held = [
            (place, grant, subject) for subject in subjects for place, grant in self._grants.get(subject, {}).items()
        ]
        for (plural, key), (inside, role), subject in sorted(held, key=lambda entry: (entry[0], entry[2])):
            if inside is not None and inside != namespace:
                continue
            for rule in self._roles.get(role, ()):
                named = not rule.names or name in rule.names
                if rule.matches(verb, group, resource) and named if resource else rule.matches_path(verb, path):
                    binding = "ClusterRoleBinding" if plural == "clusterrolebindings" else "RoleBinding"
                    of = f"{key[1]}/{key[0]}" if key[0] else key[1]
                    kind = "Role" if role[0] else "ClusterRole"
                    return f'{binding} "{of}" of {kind} "{role[1]}" to {_spelled(subject)}'
        return ""

    def role(self, key: RoleKey) -> tuple[Rule, ...] | None:
        return self._roles.get(key)

    def _of(self, user: User) -> Permissions:
        found = self._users.get(user)
        if found is None:
            if len(self._users) >= _USERS:
                self._users.clear()
            grants: list[_Grant] = []
            for subject in (("User", user.name), *(("Group", group) for group in user.groups)):
                grants += self._grants.get(subject, {}).values()
            found = self._users[user] = self._permissions(grants)
        return found

    def _of_scopes(self, scopes: tuple[str, ...]) -> Permissions:
        """``role:NAME`` is what that ClusterRole allows everywhere, ``role:NAME@NAMESPACE`` there."""
        found = self._scoped.get(scopes)
        if found is None:
            grants: list[_Grant] = [(None, ("", "system:discovery")), (None, ("", "system:basic-user"))]
            for scope in scopes:
                _, _, rest = scope.partition(":")
                role, _, namespace = rest.rpartition("@")
                grants.append((namespace if role else None, ("", role or rest)))
            found = self._scoped[scopes] = self._permissions(grants)
        return found

    def _permissions(self, grants: Iterable[_Grant]) -> Permissions:
        everywhere: dict[Rule, None] = {}
        inside: dict[str, dict[Rule, None]] = {}
        for namespace, role in grants:
            rules = self._roles.get(role, ())
            (everywhere if namespace is None else inside.setdefault(namespace, {})).update(dict.fromkeys(rules))
        return Permissions(tuple(everywhere), {namespace: tuple(rules) for namespace, rules in inside.items()})

    def _take(self, plural: str, key: Key, record: Record | None) -> None:
        if plural in ("roles", "clusterroles"):
            if record is None:
                self._roles.pop(key, None)
            else:
                self._roles[key] = parse_rules(record.load().get("rules"))
            return
        place = (plural, key)
        for subject in self._subjects.pop(place, ()):
            grants = self._grants[subject]
            del grants[place]
            if not grants:
                del self._grants[subject]
        if record is None:
            return
        obj = record.load()
        reference = obj.get("roleRef") or {}
        namespace = key[0] if plural == "rolebindings" else None
        role = (key[0] if reference.get("kind") == "Role" else "", str(reference.get("name") or ""))
        subjects = list(dict.fromkeys(_subjects(obj.get("subjects"), key[0])))
        self._subjects[place] = subjects
        for subject in subjects:
            self._grants.setdefault(subject, {})[place] = (namespace, role)


def _spelled(subject: Subject) -> str:
    kind, name = subject
    if kind == "User" and name.startswith("system:serviceaccount:"):
        _, _, namespace, account = name.split(":", 3)
        return f'ServiceAccount "{account}/{namespace}"'
    return f'{kind} "{name}"'


def _subjects(written: Any, namespace: str) -> Iterable[Subject]:
    for subject in written if isinstance(written, list) else ():
        if not isinstance(subject, Mapping):
            continue
        kind, name = subject.get("kind"), str(subject.get("name") or "")
        if kind == "ServiceAccount":
            yield "User", f"system:serviceaccount:{subject.get('namespace') or namespace}:{name}"
        elif kind in ("User", "Group"):
            yield str(kind), name
