"""H and I: other addresses for single clusters, named queries; tokens, certificates, who may be asked."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import ssl
from pathlib import Path
from typing import Any

from aiohttp import web
from controllers_scene import Scene, until
from controllers_scorer import (
    FakePrometheus,
    Scorer,
    always,
    policy_object,
    published,
    says,
    scorer_object,
    series,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hub.api.errors import NotFoundError
from hub.api.resource import DYNAMIC_SCORERS, MANIFEST_WORKS, SCORER_POLICIES, SECRETS

Json = dict[str, Any]


async def site(scene: Scene, *clusters: str, **options: Any) -> None:
    for name in clusters:
        await scene.agent(name, **options)
    await scene.available(*clusters)


def secret(name: str, **data: str) -> Json:
    encoded = {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}, "data": encoded}


def token(name: str) -> Json:
    return {"tokenSecretRef": {"name": name, "key": "token"}}


def source(prometheus: FakePrometheus, query: str = "x", **more: Any) -> Json:
    params = {"query": query, "range": 60, "step": 15}
    return {"type": "Prometheus", "host": prometheus.url, "path": "/api/v1/query_range", "params": params, **more}


async def test_i_tokens_come_from_secrets_and_a_new_one_needs_no_restart(
    scene: Scene, prometheus: FakePrometheus, scorer: Scorer
) -> None:
    scorer.answer, scorer.token = always(5), "first"
    scorer.config["source"] = source(prometheus)
    await scene.api.create(SECRETS, secret("prom", token="of-prometheus\n"), "default")
    await scene.hub()
    await site(scene, "ash")
    body = scorer_object("load", scorer.url, source={"auth": token("prom")}, scoring={"auth": token("api")})
    await scene.api.create(DYNAMIC_SCORERS, body, "default")
    said = await says(scene, "load", "Ready", "ScorerSecretMissing")
    assert "Secret default/api does not exist" in said["message"]
    await scene.api.create(SECRETS, secret("api", other="x"), "default")
    await until(lambda: says(scene, "load", "Answering", "ScorerSecretMissing"))
    await scene.api.patch(SECRETS, "api", {"data": secret("api", token="first")["data"]}, "default")
    await until(lambda: published(scene, "ash", "my-score"))
    assert prometheus.asked[-1][2]["Authorization"] == "Bearer of-prometheus"
    # The scorer's token is another one now; the hub has not heard of it yet.
    scorer.token = "second"
    refused = await says(scene, "load", "Answering", "ScorerRequestRefused")
    assert "answers 401" in refused["message"]
    for secret_text in ("first", "second", "of-prometheus"):
        assert secret_text not in str(await scene.api.get(DYNAMIC_SCORERS, "load", "default"))
    await scene.api.patch(SECRETS, "api", {"data": secret("api", token="second")["data"]}, "default")
    await says(scene, "load", "Answering", "ScoreAnswered")


async def test_i_a_token_file_of_the_hub_serves_hosts_that_no_secret_is_named_for(
    scene: Scene, scorer: Scorer, tmp_path: Path
) -> None:
    scorer.answer, scorer.token = always(5), "from-a-file"
    file = tmp_path / "token"
    file.write_text("from-a-file\n")
    await scene.hub(sources={"tokens": {"127.0.0.*": str(file)}})
    await site(scene, "ash")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    await until(lambda: published(scene, "ash", "my-score"))


async def test_i_hosts_that_are_not_allowed_are_not_asked_whoever_names_them(
    scene: Scene, prometheus: FakePrometheus, scorer: Scorer
) -> None:
    scorer.config["source"] = source(prometheus) | {"host": prometheus.url.replace("127.0.0.1", "localhost")}
    await scene.hub(sources={"allow": ["127.0.0.1"]})
    await site(scene, "ash")
    elsewhere = scorer_object("elsewhere", scorer.url.replace("127.0.0.1", "localhost"))
    await scene.api.create(DYNAMIC_SCORERS, elsewhere, "default")
    assert "may not ask localhost" in (await says(scene, "elsewhere", "Synced", "ScorerNotAllowed"))["message"]
    assert scorer.config_asked == 0
    # The scorer's own configuration names a Prometheus that nobody has allowed.
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    await says(scene, "load", "Answering", "ScorerNotAllowed")
    assert prometheus.asked == []
    assert scorer.asked == []


async def test_i_a_redirect_to_another_host_is_refused_and_one_at_home_is_followed(
    scene: Scene, scorer: Scorer
) -> None:
    other = await Scorer().start()
    try:
        target = f"{other.url}/scoring"
        scorer.answer = lambda request: web.Response(status=307, headers={"Location": target})
        await scene.hub(scorers={"dynamic": {"sync": "100ms"}})
        await site(scene, "ash")
        await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
        said = await says(scene, "load", "Ready", "ScorerRedirected")
        assert "which is not followed" in said["message"]
        assert other.asked == []
        first = iter([web.Response(status=307, headers={"Location": "/scoring?again"})])
        scorer.answer = lambda request: next(first, {"results": [{"metric": {}, "score": 6}]})
        scorer.config["scoring"]["params"]["interval"] = 2
        assert await until(lambda: published(scene, "ash", "my-score")) == {"my_score": 6}
    finally:
        await other.stop()


def _certificate(
    name: str, issuer: tuple[Any, Any] | None = None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


async def test_i_the_scorer_is_known_by_its_certificate_and_knows_the_hub_by_the_hubs(
    scene: Scene, tmp_path: Path
) -> None:
    ca = _certificate("authority")
    theirs, ours = _certificate("scorer", ca), _certificate("hub", ca)
    (tmp_path / "chain").write_text(_pem(theirs[0]) + _key_pem(theirs[1]))
    (tmp_path / "ca").write_text(_pem(ca[0]))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca"))
    context.load_cert_chain(tmp_path / "chain")
    context.verify_mode = ssl.CERT_REQUIRED
    scorer = await Scorer().start(context)
    try:
        scorer.answer = always(5)
        await scene.hub()
        await site(scene, "ash")
        await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
        assert "certificate" in (await says(scene, "load", "Synced", "ScorerUnreachable"))["message"].lower()
        await scene.api.create(SECRETS, secret("authority", ca_crt=_pem(ca[0])), "default")
        client = secret("client", tls_crt=_pem(ours[0]), tls_key=_key_pem(ours[1]))
        await scene.api.create(SECRETS, client, "default")
        tls = {
            "caSecretRef": {"name": "authority", "key": "ca.crt"}, "clientCertSecretRef": {"name": "client"},
        }  # fmt: skip
        await scene.api.create(SCORER_POLICIES, policy_object("load", tls=tls), "default")
        assert await until(lambda: published(scene, "ash", "my-score"), 20) == {"my_score": 5}
    finally:
        await scorer.stop()


async def test_h_single_clusters_have_a_prometheus_a_token_and_a_scorer_of_their_own(
    scene: Scene, prometheus: FakePrometheus, scorer: Scorer
) -> None:
    own, theirs = await FakePrometheus().start(), await Scorer("other").start()
    try:
        prometheus.series = lambda query: [series([10], cluster="ash"), series([20], cluster="elm")]
        # Its own needs no label: everything in it is about that cluster.
        own.series = lambda query: [series([70], node="n1")]
        scorer.config["source"] = source(prometheus)
        await scene.api.create(SECRETS, secret("oak", token="oaks"), "default")
        overrides = [
            {"clusters": ["oak"], "source": {"host": own.url, "auth": token("oak")}},
            {"clusterSelector": {"matchLabels": {"tier": "edge"}}, "scoring": {"host": theirs.url}},
        ]
        await scene.api.create(SCORER_POLICIES, policy_object("load", overrides=overrides), "default")
        await scene.hub()
        await site(scene, "ash", "oak")
        await site(scene, "elm", labels={"tier": "edge"})
        await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
        assert await until(lambda: published(scene, "ash", "my-score")) == {"my_score": 10}
        assert await until(lambda: published(scene, "elm", "my-score")) == {"my_score": 20}
        assert await until(lambda: published(scene, "oak", "my-score")) == {"my_score": 70}
        assert set(theirs.clusters_asked()) == {"elm"}
        assert set(scorer.clusters_asked()) == {"ash", "oak"}
        assert {headers.get("Authorization") for _, _, headers in own.asked} == {"Bearer oaks"}
        assert {headers.get("Authorization") for _, _, headers in prometheus.asked} == {None}
    finally:
        await own.stop()
        await theirs.stop()


async def test_h_a_clusters_name_in_the_query_asks_once_a_cluster(
    scene: Scene, prometheus: FakePrometheus, scorer: Scorer
) -> None:
    prometheus.series = lambda query: [series([{'x{c="ash"}': 10, 'x{c="elm"}': 20}[query]])]
    scorer.config["source"] = source(prometheus, 'x{c="${cluster}"}')
    await scene.hub()
    await site(scene, "ash", "elm")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    assert await until(lambda: published(scene, "ash", "my-score")) == {"my_score": 10}
    assert await until(lambda: published(scene, "elm", "my-score")) == {"my_score": 20}


async def test_h_series_that_name_no_cluster_are_said_with_what_to_do(
    scene: Scene, prometheus: FakePrometheus, scorer: Scorer
) -> None:
    prometheus.series = lambda query: [series([10], node="n1")]
    scorer.config["source"] = source(prometheus, "sum by (node) (x)")
    await scene.hub()
    await site(scene, "ash")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    said = await says(scene, "load", "Ready", "ScoreSourceFailed")
    assert "without label cluster: aggregate by (cluster)" in said["message"]
    assert scorer.asked == []


async def test_h_a_prometheus_that_fails_costs_its_cluster_only(
    scene: Scene, prometheus: FakePrometheus, scorer: Scorer
) -> None:
    bad = await FakePrometheus().start()
    try:
        bad.status = 500
        prometheus.series = lambda query: [series([10], cluster="ash")]
        scorer.config["source"] = source(prometheus)
        overrides = [{"clusters": ["elm"], "source": {"host": bad.url}}]
        await scene.api.create(SCORER_POLICIES, policy_object("load", overrides=overrides), "default")
        await scene.hub()
        await site(scene, "ash", "elm")
        await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
        said = await says(scene, "load", "Answering", "ScoreSourceFailed")
        assert "elm: " in said["message"]
        assert "answers 500" in said["message"]
        assert (await says(scene, "load", "Ready", "ScoreAnswered"))["status"] == "True"
    finally:
        await bad.stop()


async def test_h_a_scorer_of_protocol_two_gets_its_queries_by_name(
    scene: Scene, prometheus: FakePrometheus, scorer: Scorer
) -> None:
    prometheus.series = lambda query: [series([1, {"load": 10, "free": 3}[query]], cluster="ash")]
    scorer.config["source"] = source(prometheus)
    scorer.config["protocol"] = 2
    scorer.answer = lambda request: {
        "results": [{"metric": {}, "score": float(request["named"]["now"][0]["values"][0][1])}]
    }
    queries = [{"name": "load", "promql": "load"}, {"name": "now", "promql": "free", "mode": "instant"}]
    await scene.api.create(SCORER_POLICIES, policy_object("load", queries=queries), "default")
    await scene.hub()
    await site(scene, "ash")
    await scene.api.create(DYNAMIC_SCORERS, scorer_object("load", scorer.url), "default")
    assert await until(lambda: published(scene, "ash", "my-score")) == {"my_score": 3}
    request = scorer.asked[0][1]
    assert request["cluster"] == "ash"
    assert request["data"] == [*request["named"]["load"], *request["named"]["now"]]
    assert {path for path, _, _ in prometheus.asked} == {"/api/v1/query_range", "/api/v1/query"}


async def summaries(scene: Scene, cluster: str) -> list[Json] | None:
    try:
        work = await scene.api.get(MANIFEST_WORKS, "dynamic-scoring-config-manifestwork", cluster)
    except NotFoundError:
        return None
    (manifest,) = work["spec"]["workload"]["manifests"]
    assert manifest["metadata"] == {"name": "dynamic-scoring-config", "namespace": "dynamic-scoring"}
    found: list[Json] = json.loads(manifest["data"]["summaries"])
    return found


async def test_the_frameworks_own_agents_are_told_what_to_ask_where_they_are_to(
    scene: Scene, prometheus: FakePrometheus, scorer: Scorer
) -> None:
    scorer.config["source"] = source(prometheus, "a;b")
    policy = policy_object(
        "load",
        scoredBy="AddOn",
        clusters={"deny": ["oak"]},
        overrides=[{"clusters": ["elm"], "source": {"host": "http://own.example:9090", "auth": token("elm")}}],
    )
    await scene.api.create(SCORER_POLICIES, policy, "default")
    await scene.hub(scorers={"dynamic": {"sync": "100ms"}})
    await site(scene, "ash", "elm", "oak")
    body = scorer_object("load", scorer.url, scoring={"auth": token("api")}, scoreDimensionFormat="${node}")
    await scene.api.create(DYNAMIC_SCORERS, body, "default")
    (told,) = await until(lambda: summaries(scene, "ash"))
    assert told == {
        "name": "load", "scoreName": "my_score", "sourceType": "Prometheus",
        "sourceEndpoint": f"{prometheus.url}/api/v1/query_range",
        "sourceEndpointAuthName": "", "sourceEndpointAuthKey": "",
        "sourceQuery": "a;b", "sourceRange": 60, "sourceStep": 15,
        "scoringEndpoint": f"{scorer.url}/scoring", "scoringInterval": 1,
        "scoringEndpointAuthName": "api", "scoringEndpointAuthKey": "token",
        "location": "External", "scoreDestination": "AddOnPlacementScore", "scoreDimensionFormat": "${node}",
    }  # fmt: skip
    (told,) = await until(lambda: summaries(scene, "elm"))
    assert told["sourceEndpoint"] == "http://own.example:9090/api/v1/query_range"
    assert (told["sourceEndpointAuthName"], told["sourceEndpointAuthKey"]) == ("elm", "token")
    assert "told to ask it" in (await says(scene, "load", "Ready", "ScorerAccepted"))["message"]
    assert await summaries(scene, "oak") is None
    # Neither the scorer nor Prometheus hears of the hub.
    assert scorer.asked == []
    assert prometheus.asked == []

    async def now_told(what: list[Json] | None) -> bool:
        found = await summaries(scene, "ash")
        return found is not None and [one["scoreName"] for one in found] == what

    # A changed configuration reaches the agents, and one that is not healthy any more is taken from them.
    scorer.config["scoring"]["params"]["name"] = "other"
    await until(lambda: now_told(["other"]))
    good, scorer.config = scorer.config, None
    await until(lambda: now_told([]))
    scorer.config = good
    await until(lambda: now_told(["other"]))
    await scene.api.delete(SCORER_POLICIES, "load", "default")
    await until(lambda: now_told([]))
    # The hub asks itself again, and wants the token itself.
    await says(scene, "load", "Answering", "ScorerSecretMissing")
    await scene.api.create(SECRETS, secret("api", token="t"), "default")
    await until(lambda: scorer.asked)
