"""The built-in kinds of access: roles and bindings, requests for certificates, and webhooks. Listed by builtin.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from hub.api.column import Column
from hub.api.resource import Resource
from hub.apiserver import access_printers, access_rules, access_schemas
from hub.apiserver.kinds import ServedKind

_RBAC, _CERTIFICATES, _ADMISSION = "rbac.authorization.k8s.io", "certificates.k8s.io", "admissionregistration.k8s.io"
_NAME: Final = Column("Name", ".metadata.name")
_ROLE: Final = (_NAME, Column("Created At", ""))
_BINDING: Final = (
    _NAME,
    Column("Role", ""),
    Column("Age", ""),
    Column("Users", "", wide=True),
    Column("Groups", "", wide=True),
    Column("ServiceAccounts", "", wide=True),
)
_REQUEST: Final = (
    _NAME,
    Column("Age", ""),
    Column("SignerName", ""),
    Column("Requestor", ""),
    Column("RequestedDuration", ""),
    Column("Condition", ""),
)
_HOOKS: Final = (_NAME, Column("Webhooks", "", "integer"), Column("Age", ""))

MakeKind = Callable[..., ServedKind]


def access_kinds(make: MakeKind) -> tuple[ServedKind, ...]:
    """`make(resource, schema, columns, cells, **fields)` compiles one kind."""

    def rbac(kind: str, plural: str, *, inside: bool, schema: Mapping[str, Any], binds: bool) -> ServedKind:
        return make(
            Resource(_RBAC, "v1", kind, plural, inside),
            schema,
            _BINDING if binds else _ROLE,
            access_printers.binding if binds else access_printers.role,
            generation=False,
            review=access_rules.binding if binds else access_rules.role,
        )

    return (
        make(
            Resource(_CERTIFICATES, "v1", "CertificateSigningRequest", "certificatesigningrequests", False),
            access_schemas.CERTIFICATE_SIGNING_REQUEST,
            _REQUEST,
            access_printers.certificate_request,
            short_names=("csr",),
            subresources=frozenset({"approval", "status"}),
            generation=False,
            review=access_rules.certificate_request,
            selectable=frozenset({"spec.signerName"}),
        ),
        rbac("ClusterRoleBinding", "clusterrolebindings", inside=False, schema=access_schemas.BINDING, binds=True),
        rbac("ClusterRole", "clusterroles", inside=False, schema=access_schemas.CLUSTER_ROLE, binds=False),
        rbac("RoleBinding", "rolebindings", inside=True, schema=access_schemas.BINDING, binds=True),
        rbac("Role", "roles", inside=True, schema=access_schemas.ROLE, binds=False),
        make(
            Resource(_ADMISSION, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", False),
            access_schemas.MUTATING_HOOKS,
            _HOOKS,
            access_printers.webhooks,
            categories=("api-extensions",),
            review=access_rules.webhooks,
        ),
        make(
            Resource(_ADMISSION, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", False),
            access_schemas.VALIDATING_HOOKS,
            _HOOKS,
            access_printers.webhooks,
            categories=("api-extensions",),
            review=access_rules.webhooks,
        ),
    )
