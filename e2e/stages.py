"""What kwok does with nodes and pods, since nothing really runs: its Stage objects, and how a job says what to play.

A pod runs as soon as it is bound. A Job's pod ends after the time that its annotation RUNS_FOR gives, with the code of
EXIT_CODE; where FAILS_INDEXES and FAILS_ATTEMPTS are given, only the pods of those completion indexes and attempts (of
a slice of a FleetJob) do, all others succeed. A pod that is told to go is gone at once.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

_PREFIX: Final = "play.quarterdeck.dev/"
RUNS_FOR: Final = _PREFIX + "runs-for"
"""A Go duration; 1s when it is not given."""
EXIT_CODE: Final = _PREFIX + "exit-code"
FAILS_INDEXES: Final = _PREFIX + "fails-indexes"
FAILS_ATTEMPTS: Final = _PREFIX + "fails-attempts"
"""Comma-separated numbers."""

DEFAULT_RUN_MILLISECONDS: Final = 1000

_NODE_STATUS: Final = """\
{{ $now := Now }}
conditions:
- {type: Ready, status: "True", reason: KubeletReady, message: kept alive by kwok,
   lastHeartbeatTime: {{ $now | Quote }}, lastTransitionTime: {{ $now | Quote }}}
addresses:
- {type: InternalIP, address: {{ NodeIP | Quote }}}
- {type: Hostname, address: {{ NodeName | Quote }}}
nodeInfo: {architecture: amd64, operatingSystem: linux, kubeletVersion: KUBELET, containerRuntimeVersion: kwok,
  kernelVersion: kwok, kubeProxyVersion: "", osImage: kwok, bootID: "", machineID: "", systemUUID: ""}
phase: Running
"""
_RUNNING: Final = """\
{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
conditions:
- {type: Initialized, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: ContainersReady, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: Ready, status: "True", lastTransitionTime: {{ $now | Quote }}}
containerStatuses:
{{ range .spec.containers }}
- {name: {{ .name | Quote }}, image: {{ .image | Quote }}, imageID: "", ready: true, started: true, restartCount: 0,
   state: {running: {startedAt: {{ $now | Quote }}}}}
{{ end }}
"""
_ENDED: Final = """\
{{ $now := Now }}
{{ $started := .status.startTime }}
{{ $code := CODE }}
phase: PHASE
conditions:
- {type: Initialized, status: "True", lastTransitionTime: {{ $started | Quote }}}
- {type: ContainersReady, status: "False", reason: PodEnded, lastTransitionTime: {{ $now | Quote }}}
- {type: Ready, status: "False", reason: PodEnded, lastTransitionTime: {{ $now | Quote }}}
containerStatuses:
{{ range .spec.containers }}
- {name: {{ .name | Quote }}, image: {{ .image | Quote }}, imageID: "", ready: false, started: false, restartCount: 0,
   state: {terminated: {exitCode: {{ $code }}, reason: REASON,
     startedAt: {{ $started | Quote }}, finishedAt: {{ $now | Quote }}}}}
{{ end }}
"""
# jq. A pod without the annotations never fails; one list that is not given holds everything.
_LISTED = '[(.metadata.annotations["{name}"] // "") | split(",") | .[] | select(. != "")] as ${short}'
_FAILS: Final = " | ".join(
    [
        _LISTED.format(name=FAILS_INDEXES, short="indexes"),
        _LISTED.format(name=FAILS_ATTEMPTS, short="attempts"),
        '(.metadata.annotations["batch.kubernetes.io/job-completion-index"] // "0") as $index',
        '([.spec.containers[0].env[]? | select(.name == "QUARTERDECK_ATTEMPT") | .value] | first // "1") as $attempt',
        f'(.metadata.annotations["{EXIT_CODE}"] // "0") != "0"'
        " and (($indexes | length) == 0 or ($indexes | index($index)) != null)"
        " and (($attempts | length) == 0 or ($attempts | index($attempt)) != null)",
    ]
)


def stages(version: str) -> str:
    """The file for kwok's --config, a stream of YAML documents. `version` is what the kubelets call themselves."""
    return yaml.safe_dump_all(
        [
            _stage("node-ready", "Node", [_ready("NotIn")], _NODE_STATUS.replace("KUBELET", f"v{version}")),
            _stage("pod-running", "Pod", [_stays(), _phase("Pending")], _RUNNING),
            _ending("pod-succeeded", fails=False),
            _ending("pod-failed", fails=True),
            _stage("pod-deleted", "Pod", [{"key": ".metadata.deletionTimestamp", "operator": "Exists"}], None),
        ],
        sort_keys=False,
    )


def _ending(name: str, *, fails: bool) -> dict[str, Any]:
    status = _ENDED.replace("PHASE", "Failed" if fails else "Succeeded").replace(
        "REASON", "Error" if fails else "Completed"
    )
    status = status.replace("CODE", f'index .metadata.annotations "{EXIT_CODE}"' if fails else "0")
    of_a_job = {"key": ".metadata.ownerReferences.[].kind", "operator": "In", "values": ["Job"]}
    which = {"key": _FAILS, "operator": "In", "values": [str(fails).lower()]}
    stage = _stage(name, "Pod", [_stays(), _phase("Running"), of_a_job, which], status)
    stage["spec"]["delay"] = {
        "durationMilliseconds": DEFAULT_RUN_MILLISECONDS,
        "durationFrom": {"expressionFrom": f'.metadata.annotations["{RUNS_FOR}"]'},
    }
    return stage


def _stage(name: str, kind: str, expressions: list[dict[str, Any]], status: str | None) -> dict[str, Any]:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": expressions},
            "next": {"delete": True} if status is None else {"statusTemplate": status},
        },
    }


def _ready(operator: str) -> dict[str, Any]:
    return {
        "key": '.status.conditions.[] | select( .type == "Ready" ) | .status',
        "operator": operator,
        "values": ["True"],
    }


def _stays() -> dict[str, Any]:
    return {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}


def _phase(phase: str) -> dict[str, Any]:
    return {"key": ".status.phase", "operator": "In", "values": [phase]}
