"""What every OpenAPI document shares: metadata, and the two types that are a number or a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

REFERENCE: Final = "#/components/schemas/"
_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."
_NAMES: Final = {
    "ObjectMeta": f"{_META}ObjectMeta",
    "OwnerReference": f"{_META}OwnerReference",
    "ListMeta": f"{_META}ListMeta",
    "Quantity": "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "IntOrString": "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
}


def ref(name: str, description: str = "", default: Any = None) -> dict[str, Any]:
    """A reference that keeps its own description, as Kubernetes writes them."""
    schema: dict[str, Any] = {"allOf": [{"$ref": REFERENCE + _NAMES[name]}]}
    if description:
        schema["description"] = description
    if default is not None:
        schema["default"] = default
    return schema


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _texts(description: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": {"type": "string"}, "description": description}


COMPONENTS: Final[Mapping[str, Any]] = {
    _NAMES["ObjectMeta"]: {
        "type": "object",
        "description": "What every object says of itself.",
        "properties": {
            "name": _text("Unique in its namespace and kind; cannot be changed."),
            "generateName": _text("The start of a name that the server completes."),
            "namespace": _text("Where it lives; empty for kinds without namespaces."),
            "labels": _texts("What selectors look at."),
            "annotations": _texts("Anything else that tools note."),
            "finalizers": {
                "type": "array",
                "items": {"type": "string"},
                "x-kubernetes-list-type": "set",
                "description": "Who has to let go of it before it can be deleted.",
            },
            "ownerReferences": {
                "type": "array",
                "items": {"$ref": REFERENCE + _NAMES["OwnerReference"]},
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["uid"],
                "description": "What it goes with: deleted when they are.",
            },
            "uid": _text("Set by the server; never used again for another object."),
            "resourceVersion": _text("Set by the server; another one after each change."),
            "generation": {
                "type": "integer",
                "format": "int64",
                "description": "Set by the server; counts changes of what is wanted.",
            },
            "creationTimestamp": _text("Set by the server.", format="date-time"),
            "deletionTimestamp": _text("When it was asked to go.", format="date-time"),
            "deletionGracePeriodSeconds": {
                "type": "integer",
                "format": "int64",
                "description": "How long it may take to go.",
            },
            "selfLink": _text("Not used."),
            "managedFields": {
                "type": "array",
                "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "description": "Who owns which field, once it has been applied on the server's side.",
            },
        },
    },
    _NAMES["OwnerReference"]: {
        "type": "object",
        "description": "An object that another one goes with.",
        "required": ["apiVersion", "kind", "name", "uid"],
        "properties": {
            "apiVersion": _text("Its group and version."),
            "kind": _text("Its kind."),
            "name": _text("Its name."),
            "uid": _text("Its uid."),
            "controller": {"type": "boolean", "description": "Whether it is the one that manages this object."},
            "blockOwnerDeletion": {
                "type": "boolean",
                "description": "Whether it stays until this object is gone, when deleted in the foreground.",
            },
        },
    },
    _NAMES["ListMeta"]: {
        "type": "object",
        "description": "What a list says of itself.",
        "properties": {
            "resourceVersion": _text("The version that the list is of."),
            "continue": _text("Where the list goes on."),
            "remainingItemCount": {"type": "integer", "format": "int64", "description": "How many are left."},
            "selfLink": _text("Not used."),
        },
    },
    _NAMES["Quantity"]: {
        "description": "A number with an optional unit: 2, 500m, 16Gi.",
        "oneOf": [{"type": "string"}, {"type": "number"}],
    },
    _NAMES["IntOrString"]: {
        "description": "A number or a text.",
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    },
}
