"""What somebody may do, as rules of RBAC say it: matching one request, and covering what another rule would grant.

Rules are values compiled once from the `rules` of a Role; `Permissions` are all rules of one user, with a memory of
what was asked. Whose rules they are is authorizer.py's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

_ALL: Final = "*"
# Distinct questions of one user that are remembered.
_REMEMBERED: Final = 4096
Answer = bool | frozenset[str]
"""Of a question without a name: yes, no, or only for these names."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a Role. Empty `names`: every name."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    urls: frozenset[str] = frozenset()

    def matches(self, verb: str, group: str, resource: str) -> bool:
        """`resource` is a plural, with its subresource after a slash."""
        return (
            (verb in self.verbs or _ALL in self.verbs)
            and (group in self.groups or _ALL in self.groups)
            and self._has(resource)
        )

    def matches_path(self, verb: str, path: str) -> bool:
        if verb not in self.verbs and _ALL not in self.verbs:
            return False
        return any(url in (path, _ALL) or (url[-1:] == _ALL and path.startswith(url[:-1])) for url in self.urls)

    def _has(self, resource: str) -> bool:
        if resource in self.resources or _ALL in self.resources:
            return True
        _, slash, subresource = resource.partition("/")
        return bool(slash) and f"*/{subresource}" in self.resources

    def atoms(self) -> Iterator[Rule]:
        """The rule as rules of one thing each."""
        for verb, group, resource in product(sorted(self.verbs), sorted(self.groups), sorted(self.resources)):
            for name in sorted(self.names) or [""]:
                names = frozenset({name}) if name else frozenset[str]()
                yield Rule(frozenset({verb}), frozenset({group}), frozenset({resource}), names)
        for verb, url in product(sorted(self.verbs), sorted(self.urls)):
            yield Rule(frozenset({verb}), urls=frozenset({url}))

    def covers(self, atom: Rule) -> bool:
        """Whether whoever has this rule has `atom`, too."""
        (verb,) = atom.verbs
        if atom.urls:
            (url,) = atom.urls
            return self.matches_path(verb, url)
        (group,), (resource,) = atom.groups, atom.resources
        return self.matches(verb, group, resource) and (
            not self.names or (bool(atom.names) and atom.names <= self.names)
        )

    def __str__(self) -> str:
        parts = (
            ("APIGroups", self.groups),
            ("Resources", self.resources),
            ("ResourceNames", self.names),
            ("NonResourceURLs", self.urls),
            ("Verbs", self.verbs),
        )
        return "{" + ", ".join(f"{name}:{_quoted(values)}" for name, values in parts if values) + "}"

    def written(self) -> dict[str, Any]:
        """As a review shows it."""
        parts = (
            ("verbs", self.verbs),
            ("apiGroups", self.groups),
            ("resources", self.resources),
            ("resourceNames", self.names),
            ("nonResourceURLs", self.urls),
        )
        return {name: sorted(values) for name, values in parts if values}


EVERYTHING: Final = (
    Rule(frozenset({_ALL}), frozenset({_ALL}), frozenset({_ALL})),
    Rule(frozenset({_ALL}), urls=frozenset({_ALL})),
)


def parse_rules(written: Any) -> tuple[Rule, ...]:
    """The `rules` of a Role; what is no rule (an older release may have kept it) grants nothing."""
    if not isinstance(written, list):
        return ()
    return tuple(
        Rule(
            _texts(rule, "verbs"),
            _texts(rule, "apiGroups"),
            _texts(rule, "resources"),
            _texts(rule, "resourceNames"),
            _texts(rule, "nonResourceURLs"),
        )
        for rule in written
        if isinstance(rule, Mapping)
    )


def not_covered(owned: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """What of `wanted` nobody has who has `owned`, one thing each."""
    if EVERYTHING[0] in owned and EVERYTHING[1] in owned:
        return []
    return [atom for rule in wanted for atom in rule.atoms() if not any(mine.covers(atom) for mine in owned)]


class Permissions:
    """The rules of one user: those that hold everywhere, and those of single namespaces."""

    __slots__ = ("_everywhere", "_inside", "_memory")

    def __init__(self, everywhere: Sequence[Rule], inside: Mapping[str, Sequence[Rule]]) -> None:
        self._everywhere = tuple(everywhere)
        self._inside = {namespace: tuple(rules) for namespace, rules in inside.items()}
        self._memory: dict[tuple[str, str, str, str], Answer] = {}

    def allow(self, verb: str, group: str, resource: str, namespace: str, name: str) -> bool:
        """`namespace` is empty for what has none, or for all of them."""
        key = (verb, group, resource, namespace)
        answer = self._memory.get(key)
        if answer is None:
            if len(self._memory) >= _REMEMBERED:
                self._memory.clear()
            answer = self._memory[key] = self._answer(*key)
        return answer if isinstance(answer, bool) else name in answer

    def allow_path(self, verb: str, path: str) -> bool:
        return any(rule.matches_path(verb, path) for rule in self._everywhere)

    def rules(self, namespace: str) -> tuple[Rule, ...]:
        """All that holds in `namespace`; everywhere where it is empty."""
        return (*self._everywhere, *self._inside.get(namespace, ()))

    def _answer(self, verb: str, group: str, resource: str, namespace: str) -> Answer:
        names: set[str] = set()
        for rule in self.rules(namespace):
            if rule.matches(verb, group, resource):
                if not rule.names:
                    return True
                names |= rule.names
        return frozenset(names) if names else False


def _texts(rule: Mapping[str, Any], name: str) -> frozenset[str]:
    values = rule.get(name)
    return frozenset(value for value in values if isinstance(value, str)) if isinstance(values, list) else frozenset()


def _quoted(values: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in sorted(values)) + "]"
