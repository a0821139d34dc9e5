"""OCM's work group: what the hub asks a cluster to run, and what an agent keeps of it.

Fields and defaults are OCM's. How manifests are applied and reported is the agent's business (agent/work).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from hub.api import resource
from hub.api.column import AGE, Column
from hub.api.meta import (
    Bool,
    Conditions,
    EmbeddedObject,
    Int32,
    Int64,
    KindInfo,
    KubeObject,
    Model,
    ObjectName,
    Time,
    list_map,
    rules,
)


class ManifestsTemplate(Model):
    manifests: list[EmbeddedObject] = Field(default_factory=list, description="The objects to apply, in order.")


class OrphaningRule(Model):
    group: str | None = None
    resource: str = Field(description="Plural name of the resource.")
    namespace: str | None = None
    name: str


class SelectivelyOrphan(Model):
    orphaningRules: list[OrphaningRule] = Field(default_factory=list)


class DeleteOption(Model):
    propagationPolicy: Literal["Foreground", "Orphan", "SelectivelyOrphan"] = Field(
        "Foreground", description="What becomes of the applied objects."
    )
    selectivelyOrphans: SelectivelyOrphan | None = None
    ttlSecondsAfterFinished: Int64 | None = Field(None, description="Seconds a completed work is kept.")


class ExecutorServiceAccount(Model):
    namespace: ObjectName
    name: ObjectName


class ExecutorSubject(Model):
    type: Literal["ServiceAccount"]
    serviceAccount: ExecutorServiceAccount | None = None


class Executor(Model):
    subject: ExecutorSubject


class ResourceIdentifier(Model):
    group: str | None = None
    resource: str = Field(description="Plural name of the resource.")
    name: str = Field(description="The object's name; * stands for any part of it.")
    namespace: str | None = None


class IgnoreField(Model):
    condition: Literal["OnSpokePresent", "OnSpokeChange"] = Field("OnSpokePresent")
    jsonPaths: list[str] = Field(default_factory=list)
    jsonPointers: list[str] = Field(default_factory=list)
    jqPathExpressions: list[str] = Field(default_factory=list)


class ServerSideApply(Model):
    force: Bool | None = None
    fieldManager: str = Field("work-agent", pattern="^work-agent")
    ignoreFields: Annotated[list[IgnoreField], list_map("condition")] = Field(default_factory=list)


class UpdateStrategy(Model):
    type: Literal["Update", "CreateOnly", "ServerSideApply", "ReadOnly"] = Field("Update")
    serverSideApply: ServerSideApply | None = None


class JsonPath(Model):
    name: str = Field(description="The value's name in the feedback.")
    path: str = Field(description="JSONPath of the value, without braces. Example: .status.succeeded")
    version: str | None = Field(None, description="Version of the resource to read.")


class FeedbackRule(Model):
    type: Literal["WellKnownStatus", "JSONPaths"]
    jsonPaths: Annotated[list[JsonPath], list_map("name")] = Field(default_factory=list)


class ConditionRule(Model):
    model_config = ConfigDict(
        json_schema_extra=rules(('self.type != "CEL" || self.condition != ""', "Condition is required for CEL rules"))
    )

    condition: str = Field(description="The condition to set on the manifest.")
    type: Literal["WellKnownConditions", "CEL"]
    celExpressions: list[str] = Field(default_factory=list)
    message: str | None = None
    messageExpression: str | None = None


class ManifestConfig(Model):
    resourceIdentifier: ResourceIdentifier = Field(description="Which manifest this is about.")
    updateStrategy: UpdateStrategy | None = None
    feedbackRules: list[FeedbackRule] = Field(default_factory=list, description="What to report of its status.")
    feedbackScrapeType: Literal["Poll", "Watch"] = Field("Poll")
    conditionRules: Annotated[list[ConditionRule], list_map("condition")] = Field(default_factory=list)


class ManifestWorkSpec(Model):
    workload: ManifestsTemplate | None = None
    deleteOption: DeleteOption | None = None
    executor: Executor | None = None
    manifestConfigs: list[ManifestConfig] = Field(default_factory=list)


class ResourceMeta(Model):
    ordinal: Int32
    group: str | None = None
    version: str | None = None
    kind: str | None = None
    resource: str | None = None
    name: str | None = None
    namespace: str | None = None


class FieldValue(Model):
    type: Literal["Integer", "String", "Boolean", "JsonRaw"]
    integer: Int64 | None = None
    string: str | None = None
    boolean: Bool | None = None
    jsonRaw: str | None = Field(None, max_length=1024)


class FeedbackValue(Model):
    name: str
    fieldValue: FieldValue


class StatusFeedback(Model):
    values: Annotated[list[FeedbackValue], list_map("name")] = Field(default_factory=list)


class ManifestCondition(Model):
    resourceMeta: ResourceMeta
    conditions: Conditions
    statusFeedback: StatusFeedback | None = None


class ManifestResourceStatus(Model):
    manifests: list[ManifestCondition] = Field(default_factory=list)


class ManifestWorkStatus(Model):
    conditions: Conditions = Field(default_factory=list)
    resourceStatus: ManifestResourceStatus | None = None


class ManifestWork(KubeObject):
    """Objects that one cluster is to have; lives in the cluster's namespace on the hub."""

    info: ClassVar = KindInfo(
        resource.MANIFEST_WORKS,
        categories=("fleet",),
        columns=(
            Column("APPLIED", '.status.conditions[?(@.type=="Applied")].status'),
            Column("AVAILABLE", '.status.conditions[?(@.type=="Available")].status'),
            Column("COMPLETE", '.status.conditions[?(@.type=="Complete")].status'),
            AGE,
        ),
    )
    spec: ManifestWorkSpec | None = None
    status: ManifestWorkStatus | None = None


class AppliedManifestWorkSpec(Model):
    hubHash: str = Field(description="SHA-256 of the hub's address, in hex.")
    manifestWorkName: str = Field(description="The ManifestWork on the hub.")
    agentID: str | None = Field(None, description="Tells agents on the same cluster apart.")


class AppliedResource(Model):
    group: str | None = None
    version: str
    resource: str
    namespace: str | None = None
    name: str
    uid: str | None = None


class AppliedManifestWorkStatus(Model):
    appliedResources: list[AppliedResource] = Field(default_factory=list)
    evictionStartTime: Time | None = None


class AppliedManifestWork(KubeObject):
    """An agent's memory of what it applied for a ManifestWork; lives on the managed cluster."""

    info: ClassVar = KindInfo(resource.APPLIED_MANIFEST_WORKS)
    spec: AppliedManifestWorkSpec | None = None
    status: AppliedManifestWorkStatus | None = None
