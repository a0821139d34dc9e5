"""Objects from files, checked before they are sent, with errors that a person can act on.

An error names the file and line, the object, the field, what was found and what is allowed. All errors of a file are
said at once. What only a server can know (quota, whether a queue exists, CEL rules) is left to it; objects of kinds
that have no model here pass through after a look at their names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, ValidationError

from hub.api.errors import InvalidObjectError
from hub.api.kinds import KINDS, older_versions
from hub.api.meta import KubeObject, ObjectMeta
from hub.api.patterns import DNS_LABEL_PATTERN, DNS_SUBDOMAIN_PATTERN, DURATION_PATTERN

_PATTERNS = {
    DURATION_PATTERN: "a duration such as 90s, 20m or 1h30m",
    DNS_LABEL_PATTERN: "lower-case letters, digits and dashes, starting and ending with a letter or digit",
    DNS_SUBDOMAIN_PATTERN: "lower-case letters, digits, dashes and dots, starting and ending with a letter or digit",
}
_SAID = re.compile(r"status\.conditions\[\d+\]\.(reason|message|lastTransitionTime)")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the C loader where there is one
    """YAML as the API reads it: a date is a string."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


# Kinds of Kueue that nobody here serves: no slips of the pen.
_OF_KUEUE = frozenset(("ProvisioningRequestConfig", "Topology"))


def models() -> dict[tuple[str, str], type[KubeObject]]:
    """Every model by (apiVersion, kind)."""
    found: dict[tuple[str, str], type[KubeObject]] = {}
    for kind in KINDS:
        resource = kind.info.resource
        found[resource.api_version, resource.kind] = kind
        for version, model in older_versions(kind).items():
            found[f"{resource.group}/{version}", resource.kind] = model
    return found


def load_objects(text: str, source: str, *, recorded: bool = False) -> list[dict[str, Any]]:
    """The objects of a YAML or JSON text (documents and Lists taken apart), as they were written.

    `source` is what errors call the text. `recorded`: they are a record of a cluster, not to be sent to one, so that a
    condition may leave out what only people read. Raises `InvalidObjectError` with one line an error; `field` is the
    first one.
    """
    objects: list[dict[str, Any]] = []
    problems: list[tuple[str, str]] = []
    for node, document in _documents(text, source):
        for obj, written in _flatten(document, node, source):
            name = _describe(obj)
            for field, detail in problems_of(obj):
                if not (recorded and detail == "is required" and _SAID.fullmatch(field)):
                    problems.append((field, f"{source}:{_line(written, field)}: {name}: {field}: {detail}"))
            objects.append(obj)
    if problems:
        error = InvalidObjectError("\n".join(line for _, line in problems))
        error.field = problems[0][0]
        raise error
    if not objects:
        raise InvalidObjectError(f"{source} holds no objects", hint="Give it at least one YAML or JSON document.")
    return objects


def problems_of(obj: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it) of one object; nothing when it can be sent."""
    api_version, kind = obj.get("apiVersion"), obj.get("kind")
    for field, value in (("apiVersion", api_version), ("kind", kind)):
        if not isinstance(value, str) or not value:
            yield field, f"found {_show(value)}; every object needs one"
            return
    registry = models()
    model = registry.get((str(api_version), str(kind)))
    if model is None:
        yield from _unknown_kind(str(api_version), str(kind), registry)
        yield from _validate(ObjectMeta, obj.get("metadata"), ("metadata",))
    else:
        yield from _validate(model, obj, ())
    if str(api_version).startswith("config.kueue.x-k8s.io/"):
        # A program's configuration file in an object's clothes: it has no name.
        return
    metadata = obj.get("metadata")
    if not isinstance(metadata, Mapping) or not (metadata.get("name") or metadata.get("generateName")):
        yield "metadata.name", "is required"


def _documents(text: str, source: str) -> Iterator[tuple[yaml.Node, Any]]:
    """Each document as it is written, and what it means."""
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            try:
                yield node, _plain(loader.construct_document(node))
            except RecursionError:
                place = f"{source}:{node.start_mark.line + 1}"
                raise InvalidObjectError(f"{place}: an alias in it stands for what contains it") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark is not None else source
        detail = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InvalidObjectError(f"{place}: not YAML or JSON: {detail}") from error
    finally:
        loader.dispose()


def _line(node: yaml.Node, field: str) -> int:
    """Where `field` is written; where it is missing, where the part of it begins that is there."""
    line = node.start_mark.line
    while field:
        found = next(
            (
                (key, value, rest)
                for key, value in _members(node)
                for rest in (field.removeprefix(key),)
                if rest != field and (not rest or rest[0] in ".[")
            ),
            None,
        )
        if found is None:
            break
        _, (line, node), rest = found
        field = rest.removeprefix(".")
    return int(line) + 1


def _members(node: yaml.Node) -> Iterator[tuple[str, tuple[int, yaml.Node]]]:
    """What a path calls each member of a mapping or a list, the line it begins on, and itself."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), (key.start_mark.line, value)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield f"[{index}]", (value.start_mark.line, value)


def _plain(value: Any) -> Any:
    """Keys become strings, as they would on the way through JSON; so do numbers that only a quantity can hold."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else _show(key): _plain(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    return value


def _flatten(document: Any, node: yaml.Node, source: str) -> Iterator[tuple[dict[str, Any], yaml.Node]]:
    if document is None:
        return
    if isinstance(document, list):
        for member, written in zip(document, node.value, strict=True):
            yield from _flatten(member, written, source)
    elif not isinstance(document, dict):
        raise InvalidObjectError(
            f"{source}:{node.start_mark.line + 1}: found {_show(document)} where an object with apiVersion and kind "
            f"was expected"
        )
    elif isinstance(document.get("items"), list) and str(document.get("kind", "")).endswith("List"):
        written = next((value for key, value in node.value if key.value == "items"), node)
        yield from _flatten(document["items"], written, source)
    else:
        yield document, node


def _unknown_kind(
    api_version: str, kind: str, registry: Mapping[tuple[str, str], type[KubeObject]]
) -> Iterator[tuple[str, str]]:
    group = api_version.rpartition("/")[0]
    in_group = {name: version for version, name in registry if version.rpartition("/")[0] == group}
    if kind in in_group:
        yield "apiVersion", f"found {api_version!r}; {kind} is {in_group[kind]}"
    elif in_group and kind not in _OF_KUEUE:
        yield "kind", f"found {kind!r}; {_nearest(kind, list(in_group))}"


def _validate(model: type[BaseModel], value: Any, prefix: tuple[str | int, ...]) -> Iterator[tuple[str, str]]:
    try:
        instance = model.model_validate(value if value is not None else {})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            yield _path((*prefix, *detail["loc"])), _explain(detail)
    else:
        yield from _unknown_fields(instance, prefix)


def _unknown_fields(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str, str]]:
    """Fields that the server would drop without a word; usually slips of the pen."""
    if isinstance(value, list):
        for index, member in enumerate(value):
            yield from _unknown_fields(member, (*path, index))
    elif isinstance(value, BaseModel):
        model = type(value)
        extra = model.model_config.get("json_schema_extra")
        keeps = isinstance(extra, Mapping) and "x-kubernetes-preserve-unknown-fields" in extra
        names = {name: field.alias or name for name, field in model.model_fields.items()}
        if not keeps and not isinstance(value, ObjectMeta):
            # Of Kubernetes' own types the rest of the fields is known by name.
            for name in (value.model_extra or {}).keys() - set(getattr(model, "as_written", ())):
                yield _path((*path, name)), f"is not a field; {_nearest(name, list(names.values()))}"
        for name, alias in names.items():
            yield from _unknown_fields(getattr(value, name), (*path, alias))


def _nearest(name: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1)
    return f"did you mean {close[0]}?" if close else f"allowed: {', '.join(sorted(allowed))}"


def _explain(detail: Any) -> str:
    kind, context = detail["type"], detail.get("ctx") or {}
    if kind == "missing":
        return "is required"
    found = f"found {_show(detail['input'])}"
    if kind == "literal_error":
        return f"{found}; allowed: {context['expected']}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        return f"{found}; expected {_PATTERNS.get(pattern, f'text that matches {pattern}')}"
    if kind == "string_type":
        return f"{found}; expected text: put it in quotes"
    message = str(detail["msg"]).removeprefix("Input should be ")
    return f"{found}; expected {message}" if message != detail["msg"] else f"{found}; {message}"


def _path(location: tuple[str | int, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _describe(obj: Mapping[str, Any]) -> str:
    metadata = obj.get("metadata")
    name = metadata.get("name") or metadata.get("generateName") if isinstance(metadata, Mapping) else None
    return f"{obj.get('kind') or 'object'} {name or 'without a name'}"


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
