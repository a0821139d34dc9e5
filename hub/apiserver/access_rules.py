"""What built-in kinds of access get when they are written, and what of them cannot change: roles, bindings, requests
for certificates, webhooks. Shaped as the rules of builtin_rules.py are.

Who may write them is guards.py's business; who signs, certificate_signing.py's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from hub.apiserver.builtin_rules import Object, Reviewed
from hub.apiserver.invalid import FieldError, forbidden, not_supported, required, wrong
from hub.apiserver.status import bad_request

REQUESTS: Final = ("certificates.k8s.io", "certificatesigningrequests")
_RBAC: Final = "rbac.authorization.k8s.io"
_DECISIONS: Final = ("Approved", "Denied")
_USAGES: Final = (
    *("signing", "digital signature", "content commitment", "key encipherment", "key agreement", "data encipherment"),
    *("cert sign", "crl sign", "encipher only", "decipher only", "any", "server auth", "client auth", "code signing"),
    *("email protection", "s/mime", "ipsec end system", "ipsec tunnel", "ipsec user", "timestamping"),
    *("ocsp signing", "microsoft sgc", "netscape sgc"),
)


def role(obj: Object, old: Object | None) -> Reviewed:
    result = {**obj, "rules": obj.get("rules")} if "rules" in obj else dict(obj)
    errors: list[FieldError] = []
    for index, rule in enumerate(obj.get("rules") or ()):
        where = f"rules[{index}]"
        if rule.get("nonResourceURLs"):
            if obj["metadata"].get("namespace"):
                errors.append(
                    wrong(
                        f"{where}.nonResourceURLs",
                        rule["nonResourceURLs"],
                        "namespaced rules cannot apply to non-resource URLs",
                    )
                )
            if any(rule.get(part) for part in ("apiGroups", "resources", "resourceNames")):
                detail = "rules cannot apply to both regular resources and non-resource URLs"
                errors.append(wrong(f"{where}.nonResourceURLs", rule["nonResourceURLs"], detail))
            errors += _verbs(rule, where)
            continue
        if not rule.get("apiGroups"):
            errors.append(required(f"{where}.apiGroups", "resource rules must supply at least one api group"))
        if not rule.get("resources"):
            errors.append(required(f"{where}.resources", "resource rules must supply at least one resource"))
        errors += _verbs(rule, where)
    return result, errors


def _verbs(rule: Mapping[str, Any], where: str) -> list[FieldError]:
    return [] if rule.get("verbs") else [required(f"{where}.verbs")]


def binding(obj: Object, old: Object | None) -> Reviewed:
    result = dict(obj)
    inside = bool(obj["metadata"].get("namespace"))
    reference = result["roleRef"] = {"apiGroup": _RBAC, **obj["roleRef"]}
    reference["apiGroup"] = reference["apiGroup"] or _RBAC
    errors: list[FieldError] = []
    if reference["apiGroup"] != _RBAC:
        errors.append(not_supported("roleRef.apiGroup", reference["apiGroup"], [_RBAC]))
    kinds = ["Role", "ClusterRole"] if inside else ["ClusterRole"]
    if reference.get("kind") not in kinds:
        errors.append(not_supported("roleRef.kind", reference.get("kind"), kinds))
    if not reference.get("name"):
        errors.append(required("roleRef.name"))
    if old is not None and old.get("roleRef") != reference:
        shown = {"APIGroup": reference["apiGroup"], "Kind": reference["kind"], "Name": reference["name"]}
        errors.append(FieldError("roleRef", f"Invalid value: {orjson.dumps(shown).decode()}: field is immutable"))
    subjects = []
    for index, subject in enumerate(obj.get("subjects") or ()):
        errors += _subject(subject, f"subjects[{index}]", inside=inside)
        account = subject.get("kind") == "ServiceAccount"
        subjects.append(subject if account or subject.get("apiGroup") else {**subject, "apiGroup": _RBAC})
    if subjects:
        result["subjects"] = subjects
    return result, errors


def _subject(subject: Mapping[str, Any], where: str, *, inside: bool) -> list[FieldError]:
    errors = [] if subject.get("name") else [required(f"{where}.name")]
    kind = subject.get("kind")
    if kind == "ServiceAccount":
        # In a namespace it is that one's.
        if not subject.get("namespace") and not inside:
            errors.append(required(f"{where}.namespace"))
        if subject.get("apiGroup"):
            errors.append(not_supported(f"{where}.apiGroup", subject["apiGroup"], [""]))
    elif kind in ("User", "Group"):
        if subject.get("apiGroup") not in (None, "", _RBAC):
            errors.append(not_supported(f"{where}.apiGroup", subject["apiGroup"], [_RBAC]))
    else:
        errors.append(not_supported(f"{where}.kind", kind, ["ServiceAccount", "User", "Group"]))
    return errors


def certificate_request(obj: Object, old: Object | None) -> Reviewed:
    """The request cannot be changed; a decision cannot be taken back, nor a certificate."""
    if old is not None:
        result = {**obj, "spec": old["spec"]}
        return result, _decisions(result, old)
    spec = dict(obj["spec"])
    result = {**obj, "spec": spec}
    errors: list[FieldError] = []
    if problem := request_problem(str(spec.get("request") or "")):
        errors.append(wrong("spec.request", spec.get("request"), problem))
    signer = str(spec.get("signerName") or "")
    if "/" not in signer.strip("/"):
        errors.append(
            wrong(
                "spec.signerName",
                signer,
                "must be a fully qualified domain and path of the form 'example.com/signer-name'",
            )
        )
    elif signer == "kubernetes.io/legacy-unknown":
        errors.append(wrong("spec.signerName", signer, "is not allowed in certificates.k8s.io/v1"))
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        errors.append(
            wrong("spec.expirationSeconds", seconds, "may not specify a duration less than 600 seconds (10 minutes)")
        )
    if not spec.get("usages"):
        errors.append(required("spec.usages"))
    errors += [
        not_supported(f"spec.usages[{index}]", usage, sorted(_USAGES))
        for index, usage in enumerate(spec.get("usages") or ())
        if usage not in _USAGES
    ]
    return result, errors


def request_problem(encoded: str) -> str:
    """Why `encoded` is no request for a certificate in base64; empty when it is one."""
    try:
        pem = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return "must be base64"
    from cryptography import x509

    if b"BEGIN CERTIFICATE REQUEST" not in pem:
        return "PEM block type must be CERTIFICATE REQUEST"
    try:
        request = x509.load_pem_x509_csr(pem)
    except ValueError as error:
        return f"cannot be read: {error}"
    return "" if request.is_signature_valid else "its signature is not its key's"


def _decisions(obj: Object, old: Object) -> list[FieldError]:
    errors = []
    before, after = (
        {condition.get("type"): condition for condition in (part.get("status") or {}).get("conditions") or ()}
        for part in (old, obj)
    )
    for name in (*_DECISIONS, "Failed"):
        if name in before and name not in after:
            errors.append(forbidden("status.conditions", f'updates may not remove a condition of type "{name}"'))
        if name in after and name not in before and after[name].get("status") not in ("True", None):
            errors.append(wrong(f"status.conditions[{name}].status", after[name].get("status"), "must be True"))
    if all(name in after for name in _DECISIONS):
        errors.append(wrong("status.conditions", "", "Approved and Denied conditions are mutually exclusive"))
    if (found := _certificate(obj)) and found != _certificate(old) and not _is_certificate(found):
        detail = "must contain at least one CERTIFICATE PEM block"
        return [*errors, wrong("status.certificate", "<certificate data>", detail)]
    had, has = ((part.get("status") or {}).get("certificate") for part in (old, obj))
    if had and had != has:
        errors.append(forbidden("status.certificate", "updates may not set certificate content once it is there"))
    return errors


def _certificate(obj: Object) -> str:
    return str((obj.get("status") or {}).get("certificate") or "")


def _is_certificate(encoded: str) -> bool:
    try:
        return b"BEGIN CERTIFICATE-" in base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return False


def webhooks(obj: Object, old: Object | None) -> Reviewed:
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, hook in enumerate(obj.get("webhooks") or ()):
        where = f"webhooks[{index}]"
        name = str(hook.get("name") or "")
        if name.count(".") < 2:
            errors.append(
                wrong(f"{where}.name", name, "should be a domain with at least three segments separated by dots")
            )
        if name in names:
            errors.append(wrong(f"{where}.name", name, "is there twice"))
        names.add(name)
        config = hook.get("clientConfig") or {}
        url, service = config.get("url"), config.get("service")
        if bool(url) == bool(service):
            errors.append(required(f"{where}.clientConfig", "exactly one of url or service is required"))
        elif url and not _is_https(url):
            errors.append(wrong(f"{where}.clientConfig.url", url, "must be https://HOST[:PORT]/PATH"))
        if not 1 <= hook.get("timeoutSeconds", 10) <= 30:
            detail = "the timeout value must be between 1 and 30 seconds"
            errors.append(wrong(f"{where}.timeoutSeconds", hook["timeoutSeconds"], detail))
        if hook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            errors.append(not_supported(f"{where}.sideEffects", hook.get("sideEffects"), ["None", "NoneOnDryRun"]))
        if "v1" not in (hook.get("admissionReviewVersions") or ()):
            detail = "must include v1"
            errors.append(wrong(f"{where}.admissionReviewVersions", hook.get("admissionReviewVersions"), detail))
    return dict(obj), errors


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme == "https" and bool(parts.hostname) and not (parts.username or parts.query or parts.fragment)
        )
    except ValueError:
        return False


def stamp_requester(obj: Object, user: Mapping[str, Any] | None) -> dict[str, Any]:
    """A new CertificateSigningRequest that says who asked for it, whatever it said before."""
    spec = obj.get("spec")
    if not isinstance(spec, Mapping):
        raise bad_request("spec is required")
    kept = {name: value for name, value in spec.items() if name not in ("username", "uid", "groups", "extra")}
    return {**obj, "spec": {**kept, **(user or {})}}


def certificate_status(new: Mapping[str, Any], old: Mapping[str, Any], subresource: str, now: str) -> dict[str, Any]:
    """status after a write to `approval` (its decisions only) or `status` (all but decisions)."""
    before, after = (dict(part.get("status") or {}) for part in (old, new))
    decided = {condition.get("type"): condition for condition in before.get("conditions") or ()}
    if subresource == "approval":
        conditions = [
            condition
            if condition == decided.get(condition.get("type"))
            else {"status": "True", **condition, "lastUpdateTime": now, "lastTransitionTime": now}
            for condition in after.get("conditions") or ()
        ]
        return {**before, "conditions": conditions}
    kept = [condition for name, condition in decided.items() if name in _DECISIONS]
    mine = [condition for condition in after.get("conditions") or () if condition.get("type") not in _DECISIONS]
    if kept or mine:
        after["conditions"] = [*kept, *mine]
    return after
