"""Schemas of the built-in kinds that say who may do what, who is who, and who is asked before something is stored."""

from __future__ import annotations

from typing import Any, Final

from hub.apiserver.builtin_schemas import (
    CONDITIONS,
    INT32,
    INT64,
    LABEL_SELECTOR,
    STRING,
    TIME,
    choice,
    many,
    mapping,
    merged,
    obj,
    say,
)

_RULES: Final = many(
    obj(
        "What may be done to which resources, or to which paths.",
        need=("verbs",),
        verbs=say(many(STRING), "What may be done; * is everything."),
        apiGroups=say(many(STRING), "Groups of the resources; the empty one is core, * is every group."),
        resources=say(
            many(STRING), "Plurals, with a subresource after a slash; * is all of them, */status every status."
        ),
        resourceNames=say(many(STRING), "Only objects of these names; none: all."),
        nonResourceURLs=say(many(STRING), "Paths that are no resources; a * at the end is any rest."),
    )
)
ROLE: Final = obj("What may be done in a namespace.", rules=_RULES)
CLUSTER_ROLE: Final = obj(
    "What may be done everywhere, or in the namespaces that it is bound in.",
    rules=_RULES,
    aggregationRule=obj(
        "The rules are those of other ClusterRoles; the server keeps them.",
        clusterRoleSelectors=say(many(LABEL_SELECTOR), "Which ClusterRoles, by label."),
    ),
)
BINDING: Final = obj(
    "Who has a role.",
    need=("roleRef",),
    subjects=many(
        obj(
            need=("kind", "name"),
            kind=say(STRING, "User, Group or ServiceAccount."),
            apiGroup=STRING,
            name=STRING,
            namespace=say(STRING, "Of a ServiceAccount."),
        )
    ),
    roleRef=obj(
        "The role; it cannot be changed.",
        need=("kind", "name"),
        apiGroup=STRING,
        kind=say(STRING, "Role or ClusterRole."),
        name=STRING,
    ),
)
CERTIFICATE_SIGNING_REQUEST: Final = obj(
    "A request for a certificate: approved by whoever may, then signed.",
    need=("spec",),
    spec=obj(
        need=("request", "signerName"),
        request=say(STRING, "The request: PEM, in base64.", format="byte"),
        signerName=say(STRING, "Who is to sign it, such as kubernetes.io/kube-apiserver-client."),
        expirationSeconds=say(INT32, "For how long; 600 at least."),
        usages=say(many(STRING), "What the key is for."),
        username=say(STRING, "Who asked; the server writes it."),
        uid=STRING,
        groups=many(STRING),
        extra=mapping(many(STRING)),
    ),
    status=obj(
        conditions=CONDITIONS,
        certificate=say(STRING, "The certificate, once it is signed: PEM, in base64.", format="byte"),
    ),
)
_HOOK: Final[dict[str, Any]] = {
    "name": say(STRING, "A name with at least two dots."),
    "clientConfig": obj(
        "Where it is asked.",
        url=say(STRING, "https://HOST:PORT/PATH."),
        service=obj(need=("name", "namespace"), name=STRING, namespace=STRING, path=STRING, port=INT32),
        caBundle=say(STRING, "Whom to trust there: PEM, in base64.", format="byte"),
    ),
    "rules": many(
        obj(
            apiGroups=many(STRING),
            apiVersions=many(STRING),
            resources=many(STRING),
            operations=many(choice("CREATE", "UPDATE", "DELETE", "CONNECT", "*")),
            scope=say(choice("*", "Cluster", "Namespaced"), "", default="*"),
        )
    ),
    "failurePolicy": say(choice("Fail", "Ignore"), "What holds when it does not answer.", default="Fail"),
    "matchPolicy": say(
        choice("Exact", "Equivalent"), "Whether other versions of a kind count, too.", default="Equivalent"
    ),
    "namespaceSelector": say(LABEL_SELECTOR, "Only in these namespaces.", default={}),
    "objectSelector": say(LABEL_SELECTOR, "Only objects that have these labels, before or after.", default={}),
    "sideEffects": say(choice("None", "NoneOnDryRun", "Some", "Unknown"), "What else it changes."),
    "timeoutSeconds": say(INT32, "How long it may take.", default=10),
    "admissionReviewVersions": say(many(STRING), "What it understands; v1 is sent."),
    "matchConditions": merged(
        obj(need=("name", "expression"), name=STRING, expression=say(STRING, "A condition in CEL.")), "name"
    ),
}
_HOOK_NEED: Final = ("name", "clientConfig", "sideEffects", "admissionReviewVersions")
VALIDATING_HOOKS: Final = obj(
    "Who is asked whether a write is in order.", webhooks=merged(obj("One of them.", need=_HOOK_NEED, **_HOOK), "name")
)
MUTATING_HOOKS: Final = obj(
    "Who may change an object before it is stored.",
    webhooks=merged(
        obj(
            "One of them.",
            need=_HOOK_NEED,
            **_HOOK,
            reinvocationPolicy=say(
                choice("Never", "IfNeeded"),
                "Whether it is asked again when another changed the object.",
                default="Never",
            ),
        ),
        "name",
    ),
)
TOKEN_REQUEST: Final = obj(
    "Asks for a token of a service account.",
    spec=obj(
        audiences=say(many(STRING), "Whom the token is for; none: this server."),
        expirationSeconds=say(INT64, "For how long; 600 at least."),
        boundObjectRef=obj(kind=STRING, apiVersion=STRING, name=STRING, uid=STRING),
    ),
    status=obj(token=STRING, expirationTimestamp=TIME),
)
