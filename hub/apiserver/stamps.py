"""What the server itself writes into an object's metadata: uid, times, generation, version; nobody else can.

Nothing here judges what clients wrote.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

Object = dict[str, Any]

# What a client may send and the server decides.
_SYSTEM: Final = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
)
# The alphabet of Kubernetes' generated names: nothing that spells words or looks alike.
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_MAX_GENERATED_BASE: Final = 253 - 5

_second = 0
_second_text = ""


def now_text() -> str:
    """metav1.Time of now; made once a second."""
    global _second, _second_text
    second = int(time.time())
    if second != _second:
        _second, _second_text = second, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
    return _second_text


def new_uid() -> str:
    """A random UUID (version 4)."""
    text = os.urandom(16).hex()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def generated_name(base: str) -> str:
    return base[:_MAX_GENERATED_BASE] + "".join(secrets.choice(_LETTERS) for _ in range(5))


def stamp_new(metadata: Object, *, counts_generations: bool) -> None:
    """Metadata of an object that is being created, in place."""
    for name in _SYSTEM:
        metadata.pop(name, None)
    metadata["uid"] = new_uid()
    metadata["creationTimestamp"] = now_text()
    if counts_generations:
        metadata["generation"] = 1


def keep_system_fields(metadata: Object, old: Mapping[str, Any]) -> None:
    """Metadata of an object that replaces another: what the server decides stays as it was, in place."""
    for name in _SYSTEM:
        if name in old:
            metadata[name] = old[name]
        else:
            metadata.pop(name, None)
    metadata["name"] = old["name"]
    if "namespace" in old:
        metadata["namespace"] = old["namespace"]
    else:
        metadata.pop("namespace", None)


def stamp_deletion(metadata: Object, *, counts_generations: bool) -> None:
    """Metadata of an object that is being deleted and waits for its finalizers, in place."""
    metadata["deletionTimestamp"] = now_text()
    metadata["deletionGracePeriodSeconds"] = 0
    if counts_generations and "generation" in metadata:
        metadata["generation"] += 1


def content_changed(new: Mapping[str, Any], old: Mapping[str, Any], *, status_apart: bool) -> bool:
    """Whether a generation has passed: anything outside metadata (and status, where it is a subresource) differs."""
    for name in new.keys() | old.keys():
        if name == "metadata" or (name == "status" and status_apart):
            continue
        if new.get(name) != old.get(name):
            return True
    return False
