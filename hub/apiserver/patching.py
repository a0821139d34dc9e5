"""Patches in the four formats of Kubernetes, as one value: what to do to the object that is there.

The formats themselves are in jsonpatch.py, strategic.py and apply.py; merge patches (RFC 7386) are small enough to be
here. Whether the result may be stored is judged in update.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from hub.api.errors import InvalidObjectError
from hub.apiserver.apply import apply
from hub.apiserver.jsonpatch import PatchFailedError, apply_json_patch
from hub.apiserver.kinds import ServedKind
from hub.apiserver.stamps import now_text
from hub.apiserver.status import bad_request, failure, unsupported_media_type
from hub.apiserver.strategic import apply_strategic_patch
from hub.apiserver.written import Object, Options

Format = Literal["merge", "json", "strategic", "apply"]

MEDIA_TYPES: Final[dict[str, Format]] = {
    "application/merge-patch+json": "merge",
    "application/json-patch+json": "json",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
    "application/apply-patch+json": "apply",
}


@dataclass(frozen=True, slots=True)
class Patch:
    """`body` is decoded and only read."""

    format: Format
    body: Any

    @property
    def creates(self) -> bool:
        return self.format == "apply"

    def apply(self, kind: ServedKind, current: Object | None, options: Options, subresource: str) -> Object:
        """What becomes of `current`; it shares what did not change. None: there is none (apply only).

        Raises `RefusedError` for a patch that is not one, or does not go with the object; `ConflictError` where apply
        would take fields from another owner.
        """
        try:
            return _object(self._patched(kind, current, options, subresource))
        except PatchFailedError as error:
            raise failure(422, "Invalid", f"the patch does not apply: {error}") from error
        except InvalidObjectError as error:
            raise bad_request(f"the patch is not one: {error}") from error

    def _patched(self, kind: ServedKind, current: Object | None, options: Options, subresource: str) -> Any:
        if self.format == "json":
            return apply_json_patch(current, self.body)
        if not isinstance(self.body, dict):
            raise bad_request("the patch must be a JSON object")
        if self.format == "apply":
            return apply(
                kind,
                current,
                self.body,
                manager=options.manager,
                force=options.force,
                now=now_text(),
                subresource=subresource,
            )
        if self.format == "merge":
            return merge_patch(current, self.body)
        if kind.is_crd:
            supported = ", ".join(name for name, format in MEDIA_TYPES.items() if format != "strategic")
            raise unsupported_media_type("application/strategic-merge-patch+json", supported)
        return apply_strategic_patch(current or {}, self.body, kind.openapi)


def merge_patch(current: Any, patch: Any) -> Any:
    """RFC 7386. Nothing is changed in place; what the patch does not touch is shared."""
    if not isinstance(patch, dict):
        return patch
    result = dict(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merge_patch(result.get(key), value)
        else:
            result[key] = value
    return result


def _object(value: Any) -> Object:
    if not isinstance(value, dict):
        raise bad_request("the patch leaves no object")
    return value
