"""Who owns which field of an object (metadata.managedFields), as writes other than apply see it.

Objects that nobody ever applied carry no such record: it would double them, and nothing would ask for it. Once one has
been applied, every write moves the fields that it changes. How fields are told apart is apply.py's business.
"""

from __future__ import annotations

from hub.apiserver.apply import track
from hub.apiserver.kinds import ServedKind
from hub.apiserver.stamps import now_text
from hub.apiserver.written import Object, Options


def own_fields(kind: ServedKind, obj: Object, old: Object | None, options: Options, subresource: str) -> None:
    """Sets metadata.managedFields of `obj`, in place."""
    if options.applied:
        return
    metadata = obj["metadata"]
    if old is None or not ("managedFields" in metadata or "managedFields" in old["metadata"]):
        metadata.pop("managedFields", None)
        return
    owners = track(kind, old, obj, manager=options.manager, now=now_text(), subresource=subresource)
    if owners:
        metadata["managedFields"] = owners
    else:
        metadata.pop("managedFields", None)
