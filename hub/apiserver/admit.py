"""What stands between a request's object and the store: the schema, metadata, and the rules of single kinds.

One function, `admit`, for creates and updates alike. The rules themselves are elsewhere: `ServedKind.admit` for what
Kubernetes checks, hub/admission for what OCM's, Kueue's and the hub's own webhooks do. Nothing here stores anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hub.admission import decide
from hub.admission.references import Look
from hub.apiserver.invalid import invalid
from hub.apiserver.kinds import ServedKind
from hub.apiserver.stamps import now_text
from hub.apiserver.status import bad_request
from hub.apiserver.written import Object, Options


def admit(
    kind: ServedKind,
    obj: Object,
    old: Object | None,
    options: Options,
    warnings: list[str],
    look: Look | None = None,
) -> Object:
    """`obj` as it will be kept (pruned, with defaults): a new dict at the top. Adds to `warnings`.

    `look` finds other objects; without it nothing is said of them.

    Raises `RefusedError`: 422 naming every field that is wrong, 400 where unknown fields are to be refused.
    """
    if kind.warning:
        warnings.append(kind.warning)
    admission = kind.admit(obj, old)
    if admission.unknown and options.field_validation != "Ignore":
        _tell_unknown(kind, admission.unknown, options, warnings)
    result, errors = admission.obj, admission.errors
    if not errors:
        decision = decide.admit(kind.group, kind.plural, result, old, now=now_text(), look=look)
        result, errors = decision.obj, decision.errors
        warnings += decision.warnings
    if errors:
        raise invalid(kind.group, kind.kind, str(result["metadata"].get("name") or ""), errors)
    return result


def _tell_unknown(kind: ServedKind, unknown: Sequence[str], options: Options, warnings: list[str]) -> None:
    if options.field_validation == "Strict":
        said = ", ".join(f'unknown field "{path}"' for path in unknown)
        raise bad_request(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: strict decoding error: {said}'
        )
    warnings += [f'unknown field "{path}"' for path in unknown]


def check_type(kind: ServedKind, obj: Any) -> Object:
    """`obj` as an object of `kind`: what it says of itself must be that, or nothing. Raises `RefusedError` (400)."""
    if not isinstance(obj, dict):
        raise bad_request(f"the body must be a JSON object of kind {kind.kind}")
    result: Object = obj
    found_version, found_kind = obj.get("apiVersion"), obj.get("kind")
    if found_kind not in (None, "", kind.kind):
        raise bad_request(f"the kind in the data ({found_kind}) does not match the expected kind ({kind.kind})")
    if found_version not in (None, "", kind.api_version):
        raise bad_request(
            f"the API version in the data ({found_version}) does not match the expected API version"
            f" ({kind.api_version})"
        )
    if not found_kind or not found_version:
        result = {"apiVersion": kind.api_version, "kind": kind.kind, **result}
        result["apiVersion"], result["kind"] = kind.api_version, kind.kind
    metadata = result.get("metadata")
    if metadata is None:
        result["metadata"] = {}
    elif not isinstance(metadata, dict):
        raise bad_request("metadata must be an object")
    return result
