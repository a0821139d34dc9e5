"""A ManifestWork's manifests as the executor handles them: parsed, addressed, with the options that apply to each.

Pure but for the lookup of kinds. Which manifestConfig applies follows OCM: per aspect the first matching entry that
sets it wins, except `feedbackScrapeType`, where the last one does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import orjson

from agent.work.kinds import Kinds, rank, split_api_version
from hub.api.resource import Resource

Json = dict[str, Any]
# (group, plural, namespace, name): what an object is on one cluster, whatever version it was written in.
ObjectKey = tuple[str, str, str, str]

_UNPARSABLE_RANK = 1001


@dataclass(frozen=True, slots=True)
class Options:
    strategy: str = "Update"
    apply: Mapping[str, Any] = field(default_factory=dict)
    feedback_rules: tuple[Mapping[str, Any], ...] = ()
    condition_rules: tuple[Mapping[str, Any], ...] = ()
    scrape: str = "Poll"
    orphan: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """One entry of `spec.workload.manifests`. `problem` says why it can't be applied; then `resource` is None."""

    ordinal: int
    body: Json
    resource: Resource | None
    options: Options
    problem: str = ""

    @property
    def kind(self) -> str:
        return str(self.body.get("kind", ""))

    @property
    def name(self) -> str:
        return str(_metadata(self.body).get("name", ""))

    @property
    def namespace(self) -> str:
        return str(_metadata(self.body).get("namespace", ""))

    @property
    def key(self) -> ObjectKey:
        group, plural = (self.resource.group, self.resource.plural) if self.resource else ("", "")
        return group, plural, self.namespace, self.name

    @property
    def meta(self) -> Json:
        """The `resourceMeta` of the status."""
        group, version = split_api_version(str(self.body.get("apiVersion", "")))
        return {
            "ordinal": self.ordinal,
            "group": group,
            "version": version,
            "kind": self.kind,
            "resource": self.resource.plural if self.resource else "",
            "name": self.name,
            "namespace": self.namespace,
        }

    def digest(self) -> str:
        return hashlib.sha256(orjson.dumps(self.body, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


async def parse_manifests(work: Mapping[str, Any], kinds: Kinds) -> list[Manifest]:
    """In spec order. Never raises for what is in the work: an entry that can't be applied carries its problem."""
    spec = work.get("spec") or {}
    entries = (spec.get("workload") or {}).get("manifests") or []
    return [await _parse(ordinal, entry, spec, kinds) for ordinal, entry in enumerate(entries)]


def in_apply_order(manifests: Iterable[Manifest]) -> list[Manifest]:
    return sorted(manifests, key=lambda m: (rank(m.kind) if m.resource else _UNPARSABLE_RANK, m.ordinal))


async def _parse(ordinal: int, entry: Any, spec: Mapping[str, Any], kinds: Kinds) -> Manifest:
    if not isinstance(entry, dict):
        return Manifest(ordinal, {}, None, Options(), "the manifest is not an object")
    body = entry
    problem = _problem(body)
    if problem:
        return Manifest(ordinal, body, None, Options(), problem)
    resource = await kinds.resolve(str(body["apiVersion"]), str(body["kind"]))
    if resource is None:
        return Manifest(
            ordinal, body, None, Options(), f"this cluster serves no kind {body['kind']!r} in {body['apiVersion']}"
        )
    if resource.namespaced and not _metadata(body).get("namespace"):
        return Manifest(ordinal, body, None, Options(), f"metadata.namespace: {resource.kind} lives in a namespace")
    if not resource.namespaced and _metadata(body).get("namespace"):
        body = {**body, "metadata": {k: v for k, v in body["metadata"].items() if k != "namespace"}}
    return Manifest(ordinal, body, resource, options_for(spec, resource, _metadata(body)))


def _problem(body: Mapping[str, Any]) -> str:
    for name in ("apiVersion", "kind"):
        if not isinstance(body.get(name), str) or not body[name]:
            return f"{name}: required, a non-empty string"
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        return "metadata: required, an object"
    if not isinstance(metadata.get("name"), str) or not metadata["name"]:
        return "metadata.name: required (generateName is not supported in a work)"
    if not isinstance(metadata.get("namespace", ""), str):
        return "metadata.namespace: must be a string"
    return ""


def _metadata(body: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = body.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def options_for(spec: Mapping[str, Any], resource: Resource, metadata: Mapping[str, Any]) -> Options:
    name, namespace = str(metadata.get("name", "")), str(metadata.get("namespace", "")) if resource.namespaced else ""
    strategy: Mapping[str, Any] | None = None
    feedback: list[Mapping[str, Any]] | None = None
    conditions: list[Mapping[str, Any]] | None = None
    scrape = "Poll"
    for config in spec.get("manifestConfigs") or ():
        if not selects(config.get("resourceIdentifier") or {}, resource, namespace, name):
            continue
        strategy = strategy or config.get("updateStrategy")
        feedback = feedback or config.get("feedbackRules")
        conditions = conditions or config.get("conditionRules")
        scrape = config.get("feedbackScrapeType") or scrape
    strategy = strategy or {}
    return Options(
        strategy=strategy.get("type") or "Update",
        apply=strategy.get("serverSideApply") or {},
        feedback_rules=tuple(feedback or ()),
        condition_rules=tuple(conditions or ()),
        scrape=scrape,
        orphan=orphans(spec.get("deleteOption") or {}, resource, namespace, name),
    )


def orphans(option: Mapping[str, Any], resource: Resource, namespace: str, name: str) -> bool:
    """Whether the object stays when its work goes."""
    policy = option.get("propagationPolicy") or "Foreground"
    if policy == "SelectivelyOrphan":
        rules = (option.get("selectivelyOrphans") or {}).get("orphaningRules") or ()
        return any(selects(rule, resource, namespace, name) for rule in rules)
    return bool(policy == "Orphan")


def selects(identifier: Mapping[str, Any], resource: Resource, namespace: str, name: str) -> bool:
    """``*`` in the identifier's name or namespace stands for anything; nothing else is special."""
    return (
        (identifier.get("group") or "") == resource.group
        and identifier.get("resource") == resource.plural
        and _wild(str(identifier.get("namespace") or ""), namespace)
        and _wild(str(identifier.get("name") or ""), name)
    )


def _wild(pattern: str, text: str) -> bool:
    if "*" not in pattern:
        return pattern == text
    return fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))
