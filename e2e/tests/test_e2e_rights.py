"""Hub and agent with exactly the roles of manifests/: nothing they do is refused, and no right of theirs is spare."""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

import pytest

from e2e import audit
from e2e.audit import Right
from e2e.building import CannotBuildError
from e2e.installed import AGENT_USER, HUB_USER, MEMBER, Installation, installation, until
from e2e.jobs import fleet_job, plain_job, played
from hub.api import names
from hub.scoring.plugins import GROUP

Json = dict[str, Any]
AGENT_ON_HUB: Final = f"system:serviceaccount:{MEMBER}:agent"
FLEET, KUEUE = "fleet.quarterdeck.dev", "kueue.x-k8s.io"
CLUSTER, WORK = "cluster.open-cluster-management.io", "work.open-cluster-management.io"
RBAC, REGISTER = "rbac.authorization.k8s.io", "register.open-cluster-management.io"
CONFIG = {
    "autoAccept": {"users": ["system:open-cluster-management:auto:*"]},
    "scorers": {"publish": {"every": "200ms"}},
    "queue": {"fairSharing": {"enable": True}},
    "leadership": {"lease": 6, "renewDeadline": 4, "retry": 1},
}


class Scorer(http.server.BaseHTTPRequestHandler):
    """A DynamicScorer's configuration, for who brings the token."""

    def do_GET(self) -> None:
        source = {"type": "None"}
        scoring = {"path": "/scoring", "params": {"name": "cool", "interval": 1}}
        self._answer({"name": "cool", "description": "d", "source": source, "scoring": scoring})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        known = self.headers.get("Authorization") == "Bearer let-me-in"
        self._answer({"results": [{"metric": {"cluster": MEMBER}, "score": 50}]} if known else None)

    def _answer(self, document: Json | None) -> None:
        body = json.dumps(document).encode()
        self.send_response(200 if document is not None else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def scorer() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scorer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def inst() -> Iterator[Installation]:
    try:
        with installation() as found:
            yield found
    except CannotBuildError as error:
        pytest.skip(str(error))


def apply(inst: Installation, *objects: Json) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    inst.kubectl(inst.hub, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(listed))


def obj(api_version: str, kind: str, name: str, namespace: str = "", **content: Any) -> Json:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def phase(inst: Installation, name: str, *wanted: str) -> None:
    def there() -> bool:
        status = inst.get(inst.hub, "fleetjob", name, "-n", "default").get("status") or {}
        return status.get("phase") in wanted

    try:
        until(there, f"{name} is {' or '.join(wanted)}", 90)
    except TimeoutError as error:
        job = inst.get(inst.hub, "fleetjob", name, "-n", "default").get("status")
        work = ("manifestworks", "-n", MEMBER, "-l", f"{names.JOB_NAME}={name}", "-o", "jsonpath={.items[*].status}")
        pods = ("jobs,pods", "-n", "default", "-l", f"{names.JOB_NAME}={name}", "-o", "wide")
        seen = [json.dumps(job), inst.kubectl(inst.hub, "get", *work), inst.kubectl(inst.member, "get", *pods)]
        raise TimeoutError("\n".join([str(error), *seen])) from error


def play(inst: Installation, scorer: str) -> None:
    """A day of a fleet: everything that hub and agent do happens at least once."""
    inst.install_hub()
    inst.kubectl(inst.member, "apply", "--server-side", "-k", "manifests/agent/base")
    inst.start_hub(config=json.dumps(CONFIG), path=_plugin(inst))
    # The hub lets one in by itself, and one is let in by hand, with its ServiceAccount as its agent's name.
    apply(
        inst,
        obj(f"{CLUSTER}/v1", "ManagedCluster", "auto", spec={}),
        obj(f"{CLUSTER}/v1", "ManagedCluster", MEMBER, spec={"hubAcceptsClient": True}),
    )
    until(lambda: MEMBER in inst.kubectl(inst.hub, "get", "namespaces", "-o", "name"), "the namespace is made")
    inst.kubectl(inst.hub, "create", "serviceaccount", "agent", "-n", MEMBER)
    given = ("rolebinding/quarterdeck-agent", "-n", MEMBER, "--for=create", "--timeout=30s")
    inst.kubectl(inst.hub, "wait", *given)
    inst.kubectl(inst.hub, "wait", f"clusterrolebinding/quarterdeck:cluster:{MEMBER}", "--for=create", "--timeout=30s")
    inst.start_agent(inst.account(inst.hub, MEMBER, "agent"), MEMBER, "--label=region=eu")
    available = ("--for=condition=ManagedClusterConditionAvailable", "--timeout=60s")
    inst.kubectl(inst.hub, "wait", f"managedcluster/{MEMBER}", *available)
    _scores(inst, scorer)
    _placements(inst)
    _jobs(inst)
    _by_hand(inst)
    _queues(inst)
    _asked(inst)
    _second_hub(inst)
    _departure(inst)


def _plugin(inst: Installation) -> Any:
    """A scorer that is installed and cannot be loaded: something is said of it all the same."""
    path = inst.directory / "plugin"
    info = path / "ghost-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ghost\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nghost = no_such_module:Scorer\n")
    return path


def _scores(inst: Installation, scorer: str) -> None:
    inst.kubectl(
        inst.hub,
        *("create", "rolebinding", "quarterdeck-scorer-secrets", "-n", "default"),
        *("--clusterrole=quarterdeck-scorer-secrets", "--serviceaccount=quarterdeck-system:quarterdeck-hub"),
    )
    auth = {"tokenSecretRef": {"name": "cool", "key": "token"}}
    apply(
        inst,
        obj("v1", "Secret", "cool", "default", stringData={"token": "let-me-in"}),
        obj(f"{FLEET}/v1alpha1", "ScoreSource", "busy", spec={"promQL": "1"}),
        obj(f"{FLEET}/v1alpha1", "ScorerPolicy", "cool", "default", spec={"scoredBy": "Hub"}),
        _scorer("cool", f"{scorer}/config", {"auth": auth}),
        # Another one of the same score waits for its turn.
        _scorer("then", f"{scorer}/config", {"auth": auth}),
        obj(f"{FLEET}/v1alpha1", "ScorerPolicy", "there", "default", spec={"scoredBy": "Agent"}),
        _scorer("there", f"{scorer}/healthz", _there(5), "None"),
    )
    scored = ("addonplacementscores", "-n", MEMBER)
    until(lambda: "cool" in inst.kubectl(inst.hub, "get", *scored, "-o", "yaml"), "the scorer was asked", 30)
    until(lambda: inst.get(inst.hub, "clusterscorings", "-n", MEMBER)["items"], "the agent is told what to ask", 30)
    apply(inst, _scorer("there", f"{scorer}/healthz", _there(6), "None"))
    inst.kubectl(inst.hub, "delete", "dynamicscorer", "cool", "-n", "default")


def _there(interval: int) -> Json:
    return {"path": "/scoring", "params": {"name": "there", "interval": interval}}


def _scorer(name: str, url: str, scoring: Json, sync: str = "Full") -> Json:
    spec = {"description": "d", "configURL": url, "configSyncMode": sync, "location": "External"}
    spec |= {"scoreDestination": "AddOnPlacementScore", "scoring": scoring, "source": {"type": "None"}}  # type: ignore[dict-item]
    return obj("dynamic-scoring.open-cluster-management.io/v1alpha1", "DynamicScorer", name, "default", spec=spec)


def _placements(inst: Installation) -> None:
    everywhere: Json = {"tolerations": [{"operator": "Exists"}]}
    groups = {"groupStrategy": {"clustersPerDecisionGroup": 1}}
    apply(
        inst,
        obj(f"{CLUSTER}/v1beta2", "ManagedClusterSetBinding", "default", "default", spec={"clusterSet": "default"}),
        obj(f"{CLUSTER}/v1beta1", "Placement", "near", "default", spec={**everywhere, "decisionStrategy": groups}),
    )

    def sheets() -> int:
        return len(inst.get(inst.hub, "placementdecisions", "-n", "default")["items"])

    until(lambda: sheets() == 2, "a placement is decided, in two groups")
    selector = {"labelSelector": {"matchLabels": {"region": "eu"}}}
    named: Json = {"groupStrategy": {"decisionGroups": [{"groupName": "eu", "groupClusterSelector": selector}]}}
    fewer = {**everywhere, "numberOfClusters": 1, "decisionStrategy": named}
    apply(inst, obj(f"{CLUSTER}/v1beta1", "Placement", "near", "default", spec=fewer))
    until(lambda: sheets() == 1, "one group is left")
    # Since when a cluster is chosen is remembered beside the decision, where that matters.
    steady = obj(f"{CLUSTER}/v1beta1", "Placement", "near", "default", spec={**everywhere, "decisionStrategy": named})
    steady["metadata"]["annotations"] = {names.MIN_DWELL: "1s"}
    apply(inst, steady)
    decisions = ("placementdecisions", "-n", "default", "-o", "yaml")
    until(lambda: names.CHOSEN in inst.kubectl(inst.hub, "get", *decisions), "it is remembered")
    # The lifecycle keeps the sets that every hub has.
    inst.kubectl(inst.hub, "delete", "managedclusterset", "global")
    patch = json.dumps({"spec": {"clusterSelector": {"selectorType": "LabelSelector", "labelSelector": {}}}})
    inst.kubectl(inst.hub, "patch", "managedclusterset", "default", "--type=merge", "-p", patch)


def _jobs(inst: Installation) -> None:
    short = played(runs_for="200ms")
    failing = played(runs_for="200ms", exit_code=3)
    long = played(runs_for="10m")
    apply(
        inst,
        _in_default(fleet_job("done", play=short, tasks=2)),
        _in_default(fleet_job("brief", play=short, ttlSecondsAfterFinished=0)),
        _in_default(fleet_job("fails", play=failing, retry={"limitPerTask": 2})),
        _in_default(fleet_job("long", play=long)),
        _in_default(fleet_job("elsewhere", play=short, placementRef={"name": "near"})),
        _in_default(plain_job("plain", 2, play=short, suspend=True)),
        _in_default(plain_job("plain-long", 1, play=long, managedBy=names.MANAGED_BY)),
        _in_default(plain_job("plain-brief", 1, play=short, suspend=True, ttlSecondsAfterFinished=0)),
    )
    phase(inst, "done", "Succeeded")
    phase(inst, "fails", "Failed")
    phase(inst, "long", "Running")
    complete = ("--for=condition=Complete", "--timeout=60s")
    inst.kubectl(inst.hub, "wait", "job/plain", "-n", "default", *complete)
    work = inst.get(inst.hub, "manifestworks", "-n", MEMBER, "-l", f"{names.JOB_NAME}=long")["items"][0]
    uid = work["metadata"]["labels"][names.JOB_UID]
    request = obj(
        f"{FLEET}/v1alpha1",
        "TaskLogRequest",
        "ask",
        MEMBER,
        spec={"work": work["metadata"]["name"], "jobUID": uid, "tasks": "0"},
    )
    request["metadata"]["labels"] = {names.JOB_UID: uid}
    apply(inst, request)
    until(
        lambda: (inst.get(inst.hub, "tasklogrequest", "ask", "-n", MEMBER).get("status") or {}).get("state"),
        "the request is answered",
    )
    # Its Workload follows it, and what runs is taken back.
    inst.kubectl(inst.hub, "patch", "fleetjob", "long", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    until(
        lambda: not inst.get(inst.hub, "manifestworks", "-n", MEMBER, "-l", f"{names.JOB_NAME}=long")["items"],
        "it is off",
    )
    of_workload = ("workloads", "-n", "default", "-o", "yaml")
    until(lambda: "active: false" in inst.kubectl(inst.hub, "get", *of_workload), "its Workload says so")
    # A plain Job that is stopped remembers what it ran, in an annotation.
    held = ("--for=jsonpath={.status.active}=1", "--timeout=60s")
    inst.kubectl(inst.hub, "wait", "job/plain-long", "-n", "default", *held)
    workloads = inst.get(inst.hub, "workloads", "-n", "default")["items"]
    (mine,) = (w for w in workloads if w["metadata"]["ownerReferences"][0]["name"] == "plain-long")
    off = ("--type=merge", "-p", '{"spec": {"active": false}}')
    inst.kubectl(inst.hub, "patch", "workload", mine["metadata"]["name"], "-n", "default", *off)

    def remembers() -> bool:
        return names.JOB_MEMORY in inst.get(inst.hub, "job", "plain-long", "-n", "default")["metadata"]["annotations"]

    until(remembers, "the plain Job remembers")
    inst.kubectl(inst.hub, "delete", "fleetjob", "long", "fails", "--wait=false")
    until(lambda: not inst.get(inst.hub, "tasklogrequests", "-n", MEMBER)["items"], "its logs go with it")
    until(lambda: "brief" not in inst.kubectl(inst.hub, "get", "fleetjobs", "-o", "name"), "its time is over")


def _by_hand(inst: Installation) -> None:
    """Works that people write, in the ways in which OCM lets them be applied; and a node that changes."""
    for strategy in ("Update", "ServerSideApply"):
        for parallelism in (1, 2):
            apply(inst, _work(f"by-{strategy.lower()}", strategy, parallelism))
            applied = ("--for=condition=Applied", f"manifestwork/by-{strategy.lower()}", "-n", MEMBER, "--timeout=30s")
            inst.kubectl(inst.hub, "wait", *applied)

            def there(strategy: str = strategy, parallelism: int = parallelism) -> bool:
                job = inst.get(inst.member, "job", f"by-{strategy.lower()}", "-n", "default")
                return bool(job["spec"]["parallelism"] == parallelism)

            until(there, f"{strategy} {parallelism} is in force")
    before = inst.get(inst.hub, "clustercapacity", MEMBER, "-n", MEMBER)["status"]
    node = inst.get(inst.member, "nodes")["items"][0]["metadata"]["name"]
    inst.kubectl(inst.member, "cordon", node)
    until(lambda: inst.get(inst.hub, "clustercapacity", MEMBER, "-n", MEMBER)["status"] != before, "it is reported")
    inst.kubectl(inst.member, "uncordon", node)


def _work(name: str, strategy: str, parallelism: int) -> Json:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    job = obj(
        "batch/v1",
        "Job",
        name,
        "default",
        spec={"suspend": True, "parallelism": parallelism, "template": {"spec": pod}},
    )
    identity = {"group": "batch", "resource": "jobs", "namespace": "default", "name": name}
    config = {"resourceIdentifier": identity, "updateStrategy": {"type": strategy}}
    return obj(
        f"{WORK}/v1",
        "ManifestWork",
        name,
        MEMBER,
        spec={"workload": {"manifests": [job]}, "manifestConfigs": [config]},
    )


def _in_default(job: Json) -> Json:
    return {**job, "metadata": {**job["metadata"], "namespace": "default"}}


def _queues(inst: Installation) -> None:
    quotas = [{"name": "cpu", "nominalQuota": 2}]
    groups = [{"coveredResources": ["cpu"], "flavors": [{"name": "default", "resources": quotas}]}]
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    apply(
        inst,
        obj(f"{KUEUE}/v1beta2", "Cohort", "all", spec={}),
        obj(
            f"{KUEUE}/v1beta2",
            "ClusterQueue",
            "small",
            spec={"cohortName": "all", "namespaceSelector": {}, "resourceGroups": groups},
        ),
        obj(f"{KUEUE}/v1beta2", "LocalQueue", "small", "default", spec={"clusterQueue": "small"}),
        # A check that the hub answers itself, over a worker cluster that it knows and one that it does not.
        obj(
            f"{KUEUE}/v1beta2",
            "AdmissionCheck",
            "far",
            spec={
                "controllerName": "kueue.x-k8s.io/multikueue",
                "parameters": {"apiGroup": KUEUE, "kind": "MultiKueueConfig", "name": "far"},
            },
        ),
        obj(f"{KUEUE}/v1beta2", "MultiKueueConfig", "far", spec={"clusters": [MEMBER]}),
        obj(
            f"{KUEUE}/v1beta2",
            "MultiKueueCluster",
            MEMBER,
            spec={"clusterSource": {"kubeConfig": {"locationType": "Secret", "location": MEMBER}}},
        ),
        # One that somebody else runs.
        obj(
            f"{KUEUE}/v1beta2",
            "Workload",
            "theirs",
            "default",
            spec={"queueName": "small", "podSets": [{"name": "main", "count": 1, "template": template}]},
        ),
        _in_default(fleet_job("big", play=played(runs_for="200ms"), cpu="3", queueName="small")),
    )
    until(
        lambda: (inst.get(inst.hub, "workload", "theirs", "-n", "default").get("status") or {}).get("conditions"),
        "it is judged",
    )
    until(
        lambda: inst.get(inst.hub, "localqueue", "small", "-n", "default").get("status") or {}, "the queue is counted"
    )


def _asked(inst: Installation) -> None:
    """People ask the hub itself: by the aggregated API, and directly."""
    slice_ = {
        **obj("discovery.k8s.io/v1", "EndpointSlice", "by-hand", "quarterdeck-system"),
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [{"name": "api", "port": inst.ports["api"]}],
    }
    slice_["metadata"]["labels"] = {"kubernetes.io/service-name": "quarterdeck-leader"}
    apply(inst, slice_)
    path = "/apis/visibility.kueue.x-k8s.io/v1beta2/clusterqueues/small/pendingworkloads"

    def answered() -> bool:
        return '"items":[{' in inst.kubectl(inst.hub, "get", "--raw", path, check=False).replace(" ", "")

    until(answered, "the visibility API answers", 60)
    token = inst.kubectl(inst.hub, "create", "token", "quarterdeck-hub", "-n", "quarterdeck-system").strip()
    url = f"http://127.0.0.1:{inst.ports['metrics']}/debug/state"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})) as answer:
        assert answer.status == 200


def _second_hub(inst: Installation) -> None:
    """Another process takes over, without the plugin that never was, and mends what somebody changed."""
    inst.hub.processes.kill(["hub", f"agent-{MEMBER}"])
    mine = f"quarterdeck:cluster:{MEMBER}"
    inst.kubectl(inst.hub, "patch", "clusterrole", mine, "--type=merge", "-p", '{"rules": []}')
    inst.kubectl(inst.hub, "patch", "clusterrolebinding", mine, "--type=merge", "-p", '{"subjects": []}')
    bound = ("rolebinding", "quarterdeck-agent", "-n", MEMBER)
    inst.kubectl(inst.hub, "patch", *bound, "--type=merge", "-p", '{"subjects": []}')
    # Of jobs that went meanwhile it finds the works, and asks.
    inst.kubectl(inst.hub, "delete", "fleetjob/done", "job/plain", "-n", "default")
    inst.start_hub("hub-2", config=json.dumps(CONFIG))
    until(lambda: inst.get(inst.hub, "clusterrole", mine)["rules"], "rights are mended", 60)
    until(lambda: inst.get(inst.hub, *bound)["subjects"], "and its namespace is its own again", 60)
    inst.start_agent(inst.account(inst.hub, MEMBER, "agent"), MEMBER, "--label=region=eu")
    until(lambda: not inst.get(inst.hub, "scorerplugins")["items"], "nothing is said of it any more", 60)
    of_gone = ("manifestworks", "-n", MEMBER, "-l", f"{names.JOB_NAME} in (done,plain)")
    until(lambda: not inst.get(inst.hub, *of_gone)["items"], "works without a job are taken away", 60)


def _departure(inst: Installation) -> None:
    inst.kubectl(inst.hub, "delete", "managedcluster", "auto", "--timeout=60s")


def roles(inst: Installation, cluster: Any, user: str) -> list[tuple[str, Json]]:
    """(namespace in which it is bound, role) of a ServiceAccount, as the API has them."""
    found = []
    _, _, namespace, name = user.split(":")

    def mine(binding: Json) -> bool:
        return any(
            (s.get("kind"), s.get("namespace"), s.get("name")) == ("ServiceAccount", namespace, name)
            for s in binding.get("subjects") or ()
        )

    for kind in ("clusterrolebindings", "rolebindings"):
        for binding in inst.get(cluster, kind, "-A")["items"]:
            if mine(binding):
                ref, where = binding["roleRef"], binding["metadata"].get("namespace", "")
                at = ("-n", where) if ref["kind"] == "Role" else ()
                found.append((where, inst.get(cluster, ref["kind"].lower(), ref["name"], *at)))
    return found


# Rights that no request of the hub shows. It holds what it gives to agents, and policies in the API server ask for it.
GIVEN = "RBAC lets nobody give what they do not have"
POLICY = "a policy in the API server asks whether the hub has it"
HUB_HOLDS = {
    Right(CLUSTER, "managedclusters", "get"): GIVEN,
    Right(RBAC, "clusterroles", "bind", "quarterdeck-agent"): "asked when the hub binds that role",
    Right(REGISTER, "managedclusters/accept", "update"): POLICY,
    Right(CLUSTER, "managedclustersets/join", "create", "default"): POLICY,
    Right(CLUSTER, "addonplacementscores", "patch"): "a scorer that takes over another's score before it is deleted",
    Right("batch", "jobs", "delete"): "Kubernetes' own controller deletes finished Jobs as well, and may be first",
}
# What only a race asks for: somebody wrote the same object a moment before.
RACE = "after a conflict only"
AGENT_HOLDS = {
    Right(CLUSTER, "managedclusters", "get", MEMBER): RACE,
    Right(FLEET, "tasklogs", "get", namespace=MEMBER): RACE,
    Right(WORK, "manifestworks", "get", namespace=MEMBER): RACE,
}
MEMBER_HOLDS = {Right(WORK, "appliedmanifestworks", "get"): RACE}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_refused_and_nothing_is_spare(inst: Installation, scorer: str) -> None:
    try:
        play(inst, scorer)
    except BaseException:
        print(inst.logs())
        raise
    time.sleep(2)
    seen = {
        "hub": (inst.hub, HUB_USER, HUB_HOLDS, "hub"),
        "agent on the hub": (inst.hub, AGENT_ON_HUB, AGENT_HOLDS, "hub"),
        "agent in its cluster": (inst.member, AGENT_USER, MEMBER_HOLDS, "member"),
    }
    wrong: list[str] = []
    for who, (cluster, user, holds, log) in seen.items():
        asked = list(audit.requests(inst.directory / log, user))
        assert len(asked) > 20, f"{who} hardly did anything"
        wrong += [f"{who}: refused: {one}" for one in audit.refused(asked)]
        held = audit.rights(roles(inst, cluster, user))
        wrong += [f"{who}: never used: {one}" for one in audit.unused(held, asked, holds)]
    assert not wrong, "\n".join(wrong) + "\n" + inst.logs()
