from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hub.api.conversion import V1BETA1, V1BETA2, convert, to_v1beta1, to_v1beta2
from hub.api.fleetjob import FleetJob
from hub.api.mergepatch import create_merge_patch
from hub.api.quantity import Quantity
from hub.api.work import ManifestWork

POD = {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "1500m"}}}]}}


def job(**spec):
    return {
        "apiVersion": "fleet.quarterdeck.dev/v1alpha1",
        "kind": "FleetJob",
        "metadata": {"name": "train"},
        "spec": {"template": POD, **spec},
    }


def test_unknown_fields_are_kept_and_unset_ones_stay_unset():
    written = job(somethingNewer={"a": [1]}, tasks=3)
    assert FleetJob.model_validate(written).to_object() == written


def test_quantities_are_exact_and_keywords_have_names():
    parsed = FleetJob.model_validate(job(gpu={"share": "500m"}, retry={"onExitCodes": {"in": [1, 137]}}))
    assert parsed.spec.template.spec.containers[0].resources is not None
    assert parsed.spec.template.spec.containers[0].resources.requests["cpu"] == Quantity("1.5")
    assert parsed.spec.gpu is not None
    assert parsed.spec.gpu.share == Quantity("0.5")
    assert parsed.spec.retry.onExitCodes is not None
    assert parsed.spec.retry.onExitCodes.in_ == [1, 137]
    assert parsed.to_object()["spec"]["retry"] == {"onExitCodes": {"in": [1, 137]}}


def test_null_is_absent():
    parsed = FleetJob.model_validate(job(parallelism=None, gpu=None, retry=None))
    assert parsed.spec.parallelism is None
    assert parsed.spec.retry.limitPerTask == 1


@pytest.mark.parametrize("share", ["0", "1001m", "0.0", "2", "half", "-500m"])
def test_shares_are_parts_of_one_gpu(share):
    with pytest.raises(ValidationError):
        FleetJob.model_validate(job(gpu={"share": share}))


@pytest.mark.parametrize("share", ["1", "500m", "0.5", ".25", "0.005", "1000m", "1m"])
def test_schema_and_model_agree_on_shares(share):
    import re

    from hub.api.fleetjob import _SHARE_PATTERN

    assert re.fullmatch(_SHARE_PATTERN.strip("^$"), share)
    FleetJob.model_validate(job(gpu={"share": share}))


@pytest.mark.parametrize("value", ["5", 5.0, True, 0, 100_001])
def test_nothing_is_coerced(value):
    with pytest.raises(ValidationError):
        FleetJob.model_validate(job(tasks=value))


def test_manifests_are_anything():
    work = {
        "apiVersion": "work.open-cluster-management.io/v1",
        "kind": "ManifestWork",
        "metadata": {"name": "w"},
        "spec": {"workload": {"manifests": [{"apiVersion": "batch/v1", "kind": "Job", "x": {"y": None}}]}},
    }
    assert ManifestWork.model_validate(work).to_object() == work


def test_v1beta1_and_back():
    old = {
        "apiVersion": V1BETA1,
        "kind": "ClusterQueue",
        "metadata": {"name": "q"},
        "spec": {
            "cohort": "research",
            "admissionChecks": ["budget"],
            "flavorFungibility": {"whenCanBorrow": "Borrow", "whenCanPreempt": "TryNextFlavor"},
        },
    }
    stored = convert(old, V1BETA2)
    assert stored["apiVersion"] == V1BETA2
    assert stored["spec"] == {
        "cohortName": "research",
        "admissionChecksStrategy": {"admissionChecks": [{"name": "budget"}]},
        "flavorFungibility": {"whenCanBorrow": "MayStopSearch", "whenCanPreempt": "TryNextFlavor"},
    }
    assert convert(stored, V1BETA1) == old
    assert old["spec"]["cohort"] == "research"


def test_checks_on_flavors_survive_the_older_version():
    stored = {
        "apiVersion": V1BETA2,
        "kind": "ClusterQueue",
        "spec": {"admissionChecksStrategy": {"admissionChecks": [{"name": "a", "onFlavors": ["x"]}]}},
    }
    assert to_v1beta2(to_v1beta1(stored)) == stored


@pytest.mark.parametrize(
    ("source", "reference"),
    [
        ("kueue.x-k8s.io/workloadpriorityclass", ("kueue.x-k8s.io", "WorkloadPriorityClass")),
        ("scheduling.k8s.io/priorityclass", ("scheduling.k8s.io", "PriorityClass")),
    ],
)
def test_workload_priorities(source, reference):
    old = {
        "apiVersion": V1BETA1,
        "kind": "Workload",
        "spec": {"priorityClassName": "batch", "priorityClassSource": source},
    }
    stored = to_v1beta2(old)
    group, kind = reference
    assert stored["spec"] == {"priorityClassRef": {"group": group, "kind": kind, "name": "batch"}}
    assert to_v1beta1(stored) == old


JSON = st.recursive(
    st.booleans() | st.integers(0, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4)


def apply(target, patch):
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply(result.get(key), value)
    return result


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_turns_one_into_the_other(old, new):
    patch = create_merge_patch(old, new)
    if patch is None:
        assert old == new
    else:
        assert repr(apply(old, patch)) == repr(apply({}, new)) or apply(old, patch) == new
        assert patch


@given(OBJECTS)
def test_equal_objects_need_no_patch(obj):
    assert create_merge_patch(obj, obj) is None


def test_the_patch_is_the_smallest():
    old = {"a": {"x": 1, "y": 2}, "b": [1], "c": 1}
    assert create_merge_patch(old, {"a": {"x": 1, "y": 3}, "b": [1], "d": True}) == {
        "a": {"y": 3},
        "c": None,
        "d": True,
    }
    assert create_merge_patch({"a": 1}, {"a": True}) == {"a": True}
