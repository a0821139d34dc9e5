"""Kubernetes' protobuf: bodies as Go clients write them, and everything that is none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.apiserver.protobuf import MAGIC, ProtobufError, decode_envelope
from hub.apiserver.protobuf_messages import KINDS, MESSAGES


def varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def envelope(api_version: str, kind: str, *fields: bytes) -> bytes:
    return (
        MAGIC
        + field(1, field(1, api_version) + field(2, kind))
        + field(2, b"".join(fields))
        + field(3, "")
        + field(4, "")
    )


# Go writes empty what is no pointer.
METADATA = b"".join(
    [field(1, "a"), field(2, ""), field(3, "ns"), field(4, ""), field(5, ""), field(6, ""), field(7, 0), field(8, b"")]
)


def test_a_lease() -> None:
    time = field(1, 1767225600) + field(2, 250_000_000)
    spec = field(1, "me") + field(2, 15) + field(3, time) + field(4, time) + field(5, 0)
    assert decode_envelope(envelope("coordination.k8s.io/v1", "Lease", field(1, METADATA), field(2, spec))) == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "a", "namespace": "ns"},
        "spec": {
            "holderIdentity": "me",
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-01-01T00:00:00.250000Z",
            "renewTime": "2026-01-01T00:00:00.250000Z",
            "leaseTransitions": 0,
        },
    }


def test_maps_bytes_and_lists() -> None:
    entry = field(1, "key") + field(2, b"\x00\xff")
    label = field(1, "x") + field(2, "")
    body = envelope(
        "v1",
        "Secret",
        field(1, METADATA + field(11, label) + field(14, "f/1") + field(14, "f/2")),
        field(2, entry),
        field(3, "Opaque"),
    )
    decoded = decode_envelope(body)
    assert decoded["data"] == {"key": "AP8="}
    assert decoded["metadata"]["labels"] == {"x": ""}
    assert decoded["metadata"]["finalizers"] == ["f/1", "f/2"]


def test_delete_options_of_any_version() -> None:
    fields = [field(1, 0), field(2, field(1, "uid")), field(4, "Foreground"), field(5, "All")]
    for version in ("v1", "batch/v1", "meta.k8s.io/v1"):
        assert decode_envelope(envelope(version, "DeleteOptions", *fields)) == {
            "apiVersion": version,
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": "uid"},
            "propagationPolicy": "Foreground",
            "dryRun": ["All"],
        }


def test_negative_numbers_and_false_that_means_something() -> None:
    decoded = decode_envelope(
        envelope("scheduling.k8s.io/v1", "PriorityClass", field(1, METADATA), field(2, -5), field(3, 0))
    )
    assert decoded["value"] == -5
    assert "globalDefault" not in decoded
    pod = field(2, field(1, "c") + field(2, "i")) + field(3, "Never")
    decoded = decode_envelope(
        envelope("batch/v1", "Job", field(2, field(1, 0) + field(6, field(2, pod)) + field(10, 0)))
    )
    assert decoded["spec"]["parallelism"] == 0
    assert decoded["spec"]["suspend"] is False
    assert decoded["spec"]["template"]["spec"] == {
        "containers": [{"name": "c", "image": "i"}],
        "restartPolicy": "Never",
    }


def test_newer_fields_are_skipped_where_all_older_ones_are_read() -> None:
    newer = (
        field(99, "x") + varint(98 << 3) + varint(7) + varint(97 << 3 | 5) + b"1234" + varint(96 << 3 | 1) + b"12345678"
    )
    decoded = decode_envelope(envelope("v1", "ConfigMap", field(1, METADATA), newer))
    assert decoded == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns"}}


def test_what_would_get_lost_is_refused() -> None:
    volumes = field(6, field(2, field(1, field(1, "v"))))
    with pytest.raises(ProtobufError, match="field 1 of PodSpec is not read as protobuf: send JSON"):
        decode_envelope(envelope("batch/v1", "Job", field(2, volumes)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        MAGIC,
        envelope("v1", "Unheard"),
        envelope("example.com/v1", "Secret"),
        MAGIC + b"\x0a\xff",
        envelope("v1", "Secret", b"\x0a\x05abc"),
        envelope("v1", "Secret", field(1, 5)),
        envelope("v1", "Secret", field(3, b"\xff\xfe")),
        envelope("v1", "Secret", b"\x0b"),
        envelope("coordination.k8s.io/v1", "Lease", field(2, field(3, field(1, 2**62)))),
        MAGIC + b"\xff" * 20,
    ],
)
def test_what_is_no_body(body: bytes) -> None:
    with pytest.raises(ProtobufError):
        decode_envelope(body)


def test_the_record_of_owners_comes_as_json() -> None:
    entry = field(1, "m") + field(2, "Apply") + field(3, "v1") + field(6, "FieldsV1")
    fields = field(7, field(1, b'{"f:data":{"f:k":{}}}'))
    metadata = METADATA + field(17, entry + fields)
    found = decode_envelope(envelope("v1", "ConfigMap", field(1, metadata)))
    assert found["metadata"]["managedFields"] == [
        {
            "manager": "m",
            "operation": "Apply",
            "apiVersion": "v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {"f:k": {}}},
        }
    ]
    with pytest.raises(ProtobufError):
        decode_envelope(envelope("v1", "ConfigMap", field(1, field(17, field(7, field(1, b"{"))))))


# What Open Cluster Management's agents and other Go clients send: number and name of each field.
SENT = """
ObjectMeta 1 name 2 generateName 3 namespace 5 uid 6 resourceVersion 7 generation 8 creationTimestamp
ObjectMeta 9 deletionTimestamp 10 deletionGracePeriodSeconds 11 labels 12 annotations 13 ownerReferences 14 finalizers
ObjectMeta 17 managedFields
OwnerReference 1 kind 3 name 4 uid 5 apiVersion 6 controller 7 blockOwnerDeletion
DeleteOptions 1 gracePeriodSeconds 2 preconditions 3 orphanDependents 4 propagationPolicy 5 dryRun
Lease 1 metadata 2 spec
LeaseSpec 1 holderIdentity 2 leaseDurationSeconds 3 acquireTime 4 renewTime 5 leaseTransitions 6 strategy
LeaseSpec 7 preferredHolder
Event 1 metadata 2 eventTime 3 series 4 reportingController 5 reportingInstance 6 action 7 reason 8 regarding 9 related
Event 10 note 11 type 12 deprecatedSource 15 deprecatedCount
ObjectReference 1 kind 2 namespace 3 name 4 uid 5 apiVersion 6 resourceVersion 7 fieldPath
CSRSpec 1 request 2 username 3 uid 4 groups 5 usages 6 extra 7 signerName 8 expirationSeconds
CSRStatus 1 conditions 2 certificate
CSRCondition 1 type 2 reason 3 message 4 lastUpdateTime 5 lastTransitionTime 6 status
SubjectAccess 1 resourceAttributes 2 nonResourceAttributes 3 user 4 groups 5 extra 6 uid
ResourceAttributes 1 namespace 2 verb 3 group 4 version 5 resource 6 subresource 7 name
AccessStatus 1 allowed 2 reason 3 evaluationError 4 denied
TokenRequestSpec 1 audiences 3 boundObjectRef 4 expirationSeconds
TokenReviewSpec 1 token 2 audiences
NamespaceStatus 1 phase 2 conditions
ServiceAccount 1 metadata 2 secrets 3 imagePullSecrets 4 automountServiceAccountToken
Secret 1 metadata 2 data 3 type 4 stringData 5 immutable
ConfigMap 1 metadata 2 data 3 binaryData 4 immutable
ClusterRole 1 metadata 2 rules 3 aggregationRule
RoleBinding 1 metadata 2 subjects 3 roleRef
Subject 1 kind 2 apiGroup 3 name 4 namespace
RoleRef 1 apiGroup 2 kind 3 name
PolicyRule 1 verbs 2 apiGroups 3 resources 4 resourceNames 5 nonResourceURLs
"""


@pytest.mark.parametrize("line", SENT.split("\n")[1:-1])
def test_what_go_clients_send_is_read(line: str) -> None:
    message, *words = line.split()
    known = {tuple(entry.split()[:2]) for entry in MESSAGES[message].split(",")}
    assert set(zip(words[::2], words[1::2], strict=True)) <= known


def test_the_table_is_whole() -> None:
    plain = {"str", "int", "bool", "bytes", "Time", "MicroTime"}
    for name, text in MESSAGES.items():
        numbers = [entry.split()[0] for entry in text.split(",")]
        assert len(numbers) == len(set(numbers)), name
        for entry in text.split(","):
            kind = entry.split()[2].rstrip("?[]").removeprefix("map<").rstrip(">")
            assert kind in plain or kind in MESSAGES, entry
    assert set(KINDS.values()) <= set(MESSAGES)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(kind: tuple[str, str], raw: bytes) -> None:
    group = kind[0] if kind[0] != "*" else "x"
    try:
        decoded: Any = decode_envelope(envelope(f"{group}/v1" if group else "v1", kind[1], raw))
    except ProtobufError:
        return
    assert decoded["kind"] == kind[1]
