"""The kinds that every API server here serves without a CRD: Kubernetes' own, as far as a fleet needs them.

One table of who is called what; schemas, printers and rules live in files of their own. Access reviews are listed
because clients look for them; who answers them is the server's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from hub.api import resource
from hub.api.column import Column
from hub.api.resource import PRIORITY_CLASSES, Resource
from hub.apiserver import builtin_rules, printers
from hub.apiserver import builtin_schemas as schemas
from hub.apiserver.builtin_access import access_kinds
from hub.apiserver.kinds import Registry, Scale, ServedKind
from hub.apiserver.schema import compile_schema

_NAME, _AGE = Column("Name", ".metadata.name"), Column("Age", ".metadata.creationTimestamp")
_PODS_OF: Final = (
    Column("Containers", "", wide=True),
    Column("Images", "", wide=True),
    Column("Selector", "", wide=True),
)
_STATUS: Final = frozenset({"status"})
_EVENT_COLUMNS: Final = (
    Column("Last Seen", ""),
    Column("Type", ""),
    Column("Reason", ""),
    Column("Object", ""),
    Column("Subobject", "", wide=True),
    Column("Source", "", wide=True),
    Column("Message", ""),
    Column("First Seen", "", wide=True),
    Column("Count", "", wide=True),
    Column("Name", "", wide=True),
)
_SERVICE_ACCOUNTS = Resource("", "v1", "ServiceAccount", "serviceaccounts", True)
_SERVICES = Resource("", "v1", "Service", "services", True)
_CORE_EVENTS = Resource("", "v1", "Event", "events", True)
_DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments", True)
_AUTHORIZATION, _AUTHENTICATION = "authorization.k8s.io", "authentication.k8s.io"
_REVIEWS: Final = (
    Resource(_AUTHENTICATION, "v1", "TokenReview", "tokenreviews", False),
    Resource(_AUTHENTICATION, "v1", "SelfSubjectReview", "selfsubjectreviews", False),
    Resource(_AUTHORIZATION, "v1", "SubjectAccessReview", "subjectaccessreviews", False),
    Resource(_AUTHORIZATION, "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", False),
    Resource(_AUTHORIZATION, "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", False),
    Resource(_AUTHORIZATION, "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", True),
)


def _columns(*names: str, wide: tuple[str, ...] = ()) -> tuple[Column, ...]:
    plain = tuple(Column(name, "", "integer" if name in ("Data", "Secrets", "Value") else "string") for name in names)
    return (_NAME, *plain, *(Column(name, "", wide=True) for name in wide))


def _kind(
    served: Resource, openapi: Mapping[str, Any], columns: tuple[Column, ...], cells: Callable[..., Any], **more: Any
) -> ServedKind:
    return ServedKind(
        resource=served,
        storage=more.pop("storage", served),
        singular=served.kind.lower(),
        list_kind=f"{served.kind}List",
        openapi=openapi,
        schema=compile_schema(openapi, where=served.kind, root=True),
        columns=columns,
        cells=cells,
        **more,
    )


@cache
def builtin_kinds() -> tuple[ServedKind, ...]:
    """Compiled once a process; the order is that of discovery."""
    core = (
        _kind(
            resource.NAMESPACES,
            schemas.NAMESPACE,
            _columns("Status", "Age"),
            printers.namespace,
            short_names=("ns",),
            subresources=_STATUS,
            generation=False,
            review=builtin_rules.namespace,
            selectable=frozenset({"status.phase"}),
        ),
        _kind(
            resource.NODES,
            schemas.NODE,
            _columns(
                *("Status", "Roles", "Age", "Version"),
                wide=("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"),
            ),
            printers.node,
            short_names=("no",),
            subresources=_STATUS,
            generation=False,
            selectable=frozenset({"spec.unschedulable"}),
        ),
        _kind(
            resource.PODS,
            schemas.POD,
            _columns(*("Ready", "Status", "Restarts", "Age"), wide=("IP", "Node", "Nominated Node", "Readiness Gates")),
            printers.pod,
            short_names=("po",),
            categories=("all",),
            subresources=_STATUS,
            review=builtin_rules.pod,
            selectable=frozenset(
                {
                    *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName"),
                    *("spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName"),
                }
            ),
        ),
        _kind(
            resource.CONFIG_MAPS,
            schemas.CONFIG_MAP,
            _columns("Data", "Age"),
            printers.config_map,
            short_names=("cm",),
            generation=False,
            review=builtin_rules.config_map,
        ),
        _kind(
            resource.SECRETS,
            schemas.SECRET,
            _columns("Type", "Data", "Age"),
            printers.secret,
            generation=False,
            review=builtin_rules.secret,
            selectable=frozenset({"type"}),
        ),
        _kind(
            _SERVICE_ACCOUNTS,
            schemas.SERVICE_ACCOUNT,
            _columns("Secrets", "Age"),
            printers.service_account,
            short_names=("sa",),
            subresources=frozenset({"token"}),
            generation=False,
        ),
        _kind(
            _SERVICES,
            schemas.SERVICE,
            _columns("Type", "Cluster-IP", "External-IP", "Port(s)", "Age", wide=("Selector",)),
            printers.service,
            short_names=("svc",),
            categories=("all",),
            subresources=_STATUS,
            generation=False,
            selectable=frozenset({"spec.clusterIP", "spec.type"}),
        ),
        _kind(
            _CORE_EVENTS,
            schemas.CORE_EVENT,
            _EVENT_COLUMNS,
            printers.event,
            short_names=("ev",),
            generation=False,
            selectable=_event_fields("involvedObject", "reportingComponent"),
        ),
    )
    grouped = (
        _kind(
            resource.EVENTS,
            schemas.EVENT,
            _EVENT_COLUMNS,
            printers.event,
            storage=_CORE_EVENTS,
            short_names=("ev",),
            generation=False,
            selectable=_event_fields("regarding", "reportingController"),
            into_storage=builtin_rules.core_event,
            out_of_storage=builtin_rules.new_event,
        ),
        _kind(
            _DEPLOYMENTS,
            schemas.DEPLOYMENT,
            (*_columns("Ready", "Up-to-date", "Available", "Age"), *_PODS_OF),
            printers.deployment,
            short_names=("deploy",),
            categories=("all",),
            subresources=frozenset({"status", "scale"}),
            scale=Scale(".spec.replicas", ".status.replicas"),
        ),
        _kind(
            resource.JOBS,
            schemas.JOB,
            (*_columns("Status", "Completions", "Duration", "Age"), *_PODS_OF),
            printers.job,
            categories=("all",),
            subresources=_STATUS,
            review=builtin_rules.job,
            selectable=frozenset({"status.successful"}),
        ),
        _kind(resource.LEASES, schemas.LEASE, _columns("Holder", "Age"), printers.lease, generation=False),
        _kind(
            PRIORITY_CLASSES,
            schemas.PRIORITY_CLASS,
            _columns("Value", "Global-Default", "Age", "PreemptionPolicy"),
            printers.priority_class,
            short_names=("pc",),
            review=builtin_rules.priority_class,
        ),
        _kind(
            resource.CUSTOM_RESOURCE_DEFINITIONS,
            schemas.CUSTOM_RESOURCE_DEFINITION,
            _columns("Created At"),
            printers.custom_resource_definition,
            short_names=("crd", "crds"),
            categories=("api-extensions",),
            subresources=_STATUS,
        ),
    )
    return (*core, *grouped, *access_kinds(_kind), *map(_review, _REVIEWS))


def _review(served: Resource) -> ServedKind:
    return ServedKind(
        resource=served,
        storage=served,
        singular=served.kind.lower(),
        list_kind=f"{served.kind}List",
        openapi=schemas.REVIEW,
        virtual=True,
        generation=False,
    )


def _event_fields(about: str, reporter: str) -> frozenset[str]:
    parts = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    return frozenset({*(f"{about}.{part}" for part in parts), reporter, "reason", "type"})


def builtin_registry() -> Registry:
    return Registry(builtin_kinds())
