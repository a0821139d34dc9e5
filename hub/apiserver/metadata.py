"""What metadata must look like: names, labels, annotations, finalizers, owners. Every kind has it, no schema says it.

Only what is written by users is checked; uid, resourceVersion and the like are the server's own. Unknown fields are
listed, never kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from hub.api.patterns import DNS_LABEL_PATTERN, DNS_SUBDOMAIN_PATTERN, LABEL_KEY_PATTERN
from hub.apiserver.invalid import FieldError, required, too_long, wrong, wrong_type

MAX_ANNOTATIONS: Final = 256 * 1024
_LABEL, _SUBDOMAIN, _KEY = (
    re.compile(pattern, re.ASCII) for pattern in (DNS_LABEL_PATTERN, DNS_SUBDOMAIN_PATTERN, LABEL_KEY_PATTERN)
)
_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?", re.ASCII)
_PATH_SEGMENT = re.compile(r"(?!\.{1,2}$)[^/%]+")
_SUBDOMAIN_WORDS: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_LABEL_WORDS: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
_TEXTS: Final = ("name", "generateName", "namespace", "uid", "resourceVersion", "selfLink")
_TIMES: Final = ("creationTimestamp", "deletionTimestamp")
_NUMBERS: Final = ("generation", "deletionGracePeriodSeconds")
_KNOWN: Final = frozenset(
    (*_TEXTS, *_TIMES, *_NUMBERS, "labels", "annotations", "finalizers", "ownerReferences", "managedFields")
)
# Kinds whose names are not subdomains, by group and plural.
_LABEL_NAMES: Final = frozenset({("", "namespaces"), ("", "services")})
_FREE_NAMES: Final = frozenset({("rbac.authorization.k8s.io", name) for name in ("roles", "clusterroles")}) | {
    ("rbac.authorization.k8s.io", name) for name in ("rolebindings", "clusterrolebindings")
}


def admit_metadata(
    obj: Mapping[str, Any], group: str, plural: str
) -> tuple[dict[str, Any], list[FieldError], list[str]]:
    """metadata as it is kept, what is wrong with it, and the fields that were dropped. Nulls are absent fields."""
    written = obj.get("metadata")
    if written is None:
        return {}, [], []
    if not isinstance(written, Mapping):
        return {}, [wrong_type("metadata", written, "object")], []
    # Kubernetes keeps no empty maps and lists here either.
    metadata = {key: value for key, value in written.items() if value not in (None, {}, []) and key in _KNOWN}
    unknown = [f"metadata.{key}" for key in written if key not in _KNOWN]
    errors = _types(metadata)
    if not errors:
        errors = [*_names(metadata, group, plural), *_labels(metadata), *_annotations(metadata), *_references(metadata)]
    return metadata, errors, unknown


def _types(metadata: dict[str, Any]) -> list[FieldError]:
    errors = [
        wrong_type(f"metadata.{name}", metadata[name], "string")
        for name in (*_TEXTS, *_TIMES)
        if not isinstance(metadata.get(name, ""), str)
    ]
    errors += [
        wrong_type(f"metadata.{name}", metadata[name], "integer")
        for name in _NUMBERS
        if isinstance(metadata.get(name, 0), bool) or not isinstance(metadata.get(name, 0), int)
    ]
    for name in ("labels", "annotations"):
        values = metadata.get(name, {})
        if not isinstance(values, Mapping):
            errors.append(wrong_type(f"metadata.{name}", values, "object"))
            continue
        errors += [
            wrong_type(f"metadata.{name}.{key}", value, "string")
            for key, value in values.items()
            if value is not None and not isinstance(value, str)
        ]
        if None in values.values():
            metadata[name] = {key: value for key, value in values.items() if value is not None}
    for name, kind in (("finalizers", str), ("ownerReferences", Mapping), ("managedFields", Mapping)):
        values = metadata.get(name, [])
        if not isinstance(values, list):
            errors.append(wrong_type(f"metadata.{name}", values, "array"))
            continue
        wanted = "string" if kind is str else "object"
        errors += [
            wrong_type(f"metadata.{name}[{index}]", value, wanted)
            for index, value in enumerate(values)
            if not isinstance(value, kind)
        ]
    return errors


def _names(metadata: Mapping[str, Any], group: str, plural: str) -> list[FieldError]:
    errors = []
    if name := metadata.get("name"):
        if problem := name_problem(name, group, plural):
            errors.append(wrong("metadata.name", name, problem))
    # What the server adds to a prefix is letters and digits.
    elif (prefix := metadata.get("generateName")) and (problem := name_problem(f"{prefix}x", group, plural)):
        errors.append(wrong("metadata.generateName", prefix, problem))
    if (namespace := metadata.get("namespace")) and not (len(namespace) <= 63 and _LABEL.fullmatch(namespace)):
        errors.append(wrong("metadata.namespace", namespace, _LABEL_WORDS))
    return errors


def name_problem(name: str, group: str, plural: str) -> str:
    """Why no object of this kind can be called `name`; empty when it can."""
    if (group, plural) in _FREE_NAMES:
        return "" if _PATH_SEGMENT.fullmatch(name) else "may not contain '/' or '%', nor be '.' or '..'"
    if (group, plural) in _LABEL_NAMES:
        if len(name) > 63:
            return "must be no more than 63 characters"
        return "" if _LABEL.fullmatch(name) else _LABEL_WORDS
    if len(name) > 253:
        return "must be no more than 253 characters"
    return "" if _SUBDOMAIN.fullmatch(name) else _SUBDOMAIN_WORDS


def label_key_problem(key: str) -> str:
    """Why `key` cannot be a label's key (nor an annotation's, in lower case); empty when it can."""
    prefix, slash, name = key.rpartition("/")
    if not name or len(name) > 63:
        return "name part must be 1 to 63 characters"
    if slash and (not prefix or len(prefix) > 253):
        return "prefix part must be 1 to 253 characters"
    if not _KEY.fullmatch(key):
        return (
            "must be letters, digits, '-', '_' and '.', starting and ending with a letter or digit, "
            "after an optional DNS subdomain and '/' (e.g. 'example.com/my-name')"
        )
    return ""


def label_value_problem(value: str) -> str:
    if len(value) > 63:
        return "must be no more than 63 characters"
    if not _VALUE.fullmatch(value):
        return (
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character"
        )
    return ""


def _labels(metadata: Mapping[str, Any]) -> list[FieldError]:
    errors = []
    for key, value in (metadata.get("labels") or {}).items():
        if problem := label_key_problem(key):
            errors.append(wrong("metadata.labels", key, problem))
        if problem := label_value_problem(value):
            errors.append(wrong("metadata.labels", value, problem))
    return errors


def _annotations(metadata: Mapping[str, Any]) -> list[FieldError]:
    annotations = metadata.get("annotations")
    if not annotations:
        return []
    errors = [
        wrong("metadata.annotations", key, problem)
        for key in annotations
        if (problem := label_key_problem(key.lower()))
    ]
    if sum(len(key) + len(value) for key, value in annotations.items()) > MAX_ANNOTATIONS // 4 and (
        sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > MAX_ANNOTATIONS
    ):
        errors.append(too_long("metadata.annotations", MAX_ANNOTATIONS))
    return errors


def _references(metadata: Mapping[str, Any]) -> list[FieldError]:
    errors = [
        wrong(f"metadata.finalizers[{index}]", name, problem)
        for index, name in enumerate(metadata.get("finalizers") or ())
        if (problem := label_key_problem(name))
    ]
    controllers = 0
    for index, owner in enumerate(metadata.get("ownerReferences") or ()):
        for name in ("apiVersion", "kind", "name", "uid"):
            value = owner.get(name)
            if not isinstance(value, str) or not value:
                errors.append(required(f"metadata.ownerReferences[{index}].{name}", "must not be empty"))
        controllers += owner.get("controller") is True
    if controllers > 1:
        errors.append(
            wrong("metadata.ownerReferences", controllers, "only one reference can have controller set to true")
        )
    return errors
