"""Objects between the versions of their kind, for an API server that has to be asked: Kueue's v1beta1 and what is kept.

Only who speaks the older version depends on it, because everything is kept, and watched by the hub, in the newer one.
What each field is called is hub/api/conversion.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hub.api.conversion import convert

Json = dict[str, Any]
CONVERTED: Final = ("clusterqueues.kueue.x-k8s.io", "localqueues.kueue.x-k8s.io", "workloads.kueue.x-k8s.io")
"""The CustomResourceDefinitions whose versions spell fields differently."""


def answer(review: Mapping[str, Any]) -> Json:
    """A ConversionReview with the objects of `review`, in their order. Raises what a malformed one raises."""
    request = review["request"]
    wanted, objects = str(request["desiredAPIVersion"]), request["objects"]
    response: Json = {"uid": request["uid"]}
    strangers = [str(obj.get("apiVersion")) for obj in objects if _group(obj.get("apiVersion")) != _group(wanted)]
    if strangers or _group(wanted) != "kueue.x-k8s.io":
        message = f"cannot make {wanted} of {', '.join(strangers) or 'that'}"
        response |= {"result": {"status": "Failure", "message": message}}
    else:
        response |= {
            "result": {"status": "Success"},
            "convertedObjects": [convert(obj, wanted) for obj in objects],
        }
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response}


def _group(api_version: Any) -> str:
    return str(api_version).partition("/")[0]
