"""What every kind's model is made of: the base models, metav1 types, and how a kind asks to be served.

One pydantic model a kind is the only description of the wire; CRDs, `kubectl explain` and the reference are generated
from it (hub/api/crd.py). Models are for the edges (files, command lines, generation): hot paths keep plain dicts.
Unknown fields are kept, because a newer peer may know them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, Strict, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from hub.api.column import Column
from hub.api.patterns import DNS_LABEL_PATTERN, DNS_SUBDOMAIN_PATTERN, DURATION_PATTERN, LABEL_KEY_PATTERN
from hub.api.resource import Resource


class Wire:
    """Schema keywords that pydantic has no name for, such as ``format`` or ``x-kubernetes-list-type``.

    Used as `Annotated` metadata, so that several compose; dashes are written as underscores.
    """

    def __init__(self, **keywords: Any) -> None:
        self.keywords = {key.replace("_", "-") if key.startswith("x_") else key: v for key, v in keywords.items()}

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), **self.keywords}


def list_map(*keys: str) -> Wire:
    """A list whose members are told apart by `keys`: the server refuses doubles and applies member by member."""
    return Wire(x_kubernetes_list_type="map", x_kubernetes_list_map_keys=list(keys))


def rules(*written: tuple[str, str] | tuple[str, str, str]) -> dict[str, Any]:
    """CEL rules for a model's ``json_schema_extra``: (expression, the sentence a person reads when it is false), and
    the field below this one that is to blame, such as ``.tasks``, where it is one."""
    keys = ("rule", "message", "fieldPath")
    return {"x-kubernetes-validations": [dict(zip(keys, rule, strict=False)) for rule in written]}


def as_kubernetes(*names: str) -> ConfigDict:
    """For a model of a Kubernetes type: its other fields by name, kept as they are written.

    Named, not merely let through, so that a slip of the pen (``comand``) is told from a field that we do not read.
    """
    rest = {name: {**_AS_KUBERNETES} for name in names}

    def extend(schema: dict[str, Any]) -> None:
        schema["properties"] = {**schema.get("properties", {}), **rest}

    return ConfigDict(json_schema_extra=extend)


ATOMIC = Wire(x_kubernetes_list_type="atomic")
SET = Wire(x_kubernetes_list_type="set")
PRESERVE = Wire(x_kubernetes_preserve_unknown_fields=True)

_AS_KUBERNETES: dict[str, Any] = {
    "description": "As in Kubernetes; kept as written.",
    "x-kubernetes-preserve-unknown-fields": True,
}

# The API server coerces nothing: "5" is not a number there, so it is not one here.
Int32 = Annotated[int, Strict(), Wire(format="int32")]
Int64 = Annotated[int, Strict(), Wire(format="int64")]
Bool = Annotated[bool, Strict()]
Time = Annotated[str, Wire(format="date-time")]
Duration = Annotated[str, Field(pattern=DURATION_PATTERN)]
DnsLabel = Annotated[str, Field(max_length=63, pattern=DNS_LABEL_PATTERN)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN_PATTERN)]
IntOrString = Annotated[Annotated[int, Strict()] | str, Wire(x_kubernetes_int_or_string=True)]
# An object of somebody else's schema, kept as it came.
Opaque = Annotated[dict[str, Any], PRESERVE]
EmbeddedObject = Annotated[dict[str, Any], PRESERVE, Wire(x_kubernetes_embedded_resource=True)]


class Model(BaseModel):
    """Base of every part of an object. A null is an absent field, as the API server reads it."""

    model_config = ConfigDict(extra="allow", populate_by_name=True, ser_json_inf_nan="null")

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        if isinstance(value, dict) and None in value.values():
            return {key: member for key, member in value.items() if member is not None}
        return value

    def to_object(self) -> dict[str, Any]:
        """The wire's spelling, with only what was set."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class OwnerReference(Model):
    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: Bool | None = None
    blockOwnerDeletion: Bool | None = None


class ObjectMeta(Model):
    name: str | None = Field(None, min_length=1, max_length=253, pattern=DNS_SUBDOMAIN_PATTERN)
    generateName: str | None = None
    namespace: DnsLabel | None = None
    uid: str | None = None
    resourceVersion: str | None = None
    generation: Int64 | None = None
    creationTimestamp: Time | None = None
    deletionTimestamp: Time | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: list[str] = Field(default_factory=list)
    ownerReferences: list[OwnerReference] = Field(default_factory=list)


class TemplateMeta(Model):
    """The metadata that a template may give to what is made from it."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})

    labels: dict[str, str] = Field(default_factory=dict, description="Labels of every pod.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations of every pod.")


class Condition(Model):
    type: str = Field(
        max_length=316, pattern=LABEL_KEY_PATTERN, description="Which aspect this is about, in CamelCase."
    )
    status: Annotated[str, Wire(enum=["True", "False", "Unknown"])] = Field(
        pattern="^(True|False|Unknown)$", description="True, False or Unknown."
    )
    observedGeneration: Int64 | None = Field(None, ge=0, description="The metadata.generation this was said about.")
    lastTransitionTime: Time = Field(description="When the status last changed.")
    reason: str = Field(
        min_length=1,
        max_length=1024,
        pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        description="The reason in CamelCase, for programs.",
    )
    message: str = Field(max_length=32768, description="The reason in words, for people.")


Conditions = Annotated[list[Condition], list_map("type")]


class LabelSelectorRequirement(Model):
    key: str = Field(description="The label's key.")
    operator: str = Field(description="In, NotIn, Exists or DoesNotExist.")
    values: Annotated[list[str], ATOMIC] = Field(
        default_factory=list, description="The values for In and NotIn; empty for Exists and DoesNotExist."
    )


class LabelSelector(Model):
    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    matchLabels: dict[str, str] = Field(default_factory=dict, description="Labels that must have exactly these values.")
    matchExpressions: Annotated[list[LabelSelectorRequirement], ATOMIC] = Field(
        default_factory=list, description="Requirements on labels; all must hold."
    )


@dataclass(frozen=True, slots=True)
class KindInfo:
    """How a kind is served: where, under which short names, with which columns, with or without ``/status``."""

    resource: Resource
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    status_subresource: bool = True


class KubeObject(Model):
    """Base of every kind. Subclasses add `spec`, `status` and a class variable `info`."""

    info: ClassVar[KindInfo]

    apiVersion: str
    kind: str
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
