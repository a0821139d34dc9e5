"""Who somebody is: certificates by request, tokens of service accounts, reviews of tokens."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hub.apiserver import ApiServer, serve

CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
MAPS = "/api/v1/namespaces/default/configmaps"
WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
SELF = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
CLIENT = "kubernetes.io/kube-apiserver-client"
Send = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"admin": {"user": "root", "groups": ["system:masters"]}, "bob": {"user": "bob"}}')
    async with serve(tmp_path / "api", tokens=tokens, self_signed=True) as server:
        yield server


def trusting(server: ApiServer) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=server.authority.decode())


@pytest.fixture
async def send(server: ApiServer) -> AsyncIterator[Send]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting(server))) as client:

        async def request(
            who: str, method: str, path: str, body: Any = None, *, kind: str = "application/json"
        ) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {who}", "Content-Type": kind}
            data = None if body is None else json.dumps(body)
            async with client.request(method, server.url + path, data=data, headers=headers) as answer:
                return answer.status, json.loads(await answer.text())

        yield request


KEY = ec.generate_private_key(ec.SECP256R1())


def csr(name: str, *groups: str, signer: str = CLIENT, usages: tuple[str, ...] = ("client auth",), **spec: Any) -> Any:
    subject = [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject.append(x509.NameAttribute(x509.NameOID.COMMON_NAME, name))
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject)).sign(KEY, SHA256())
    pem = base64.b64encode(made.public_bytes(Encoding.PEM)).decode()
    return {"metadata": {"name": "r"}, "spec": {"request": pem, "signerName": signer, "usages": list(usages), **spec}}


def decided(found: Any, kind: str = "Approved") -> Any:
    return {**found, "status": {"conditions": [{"type": kind, "status": "True", "reason": "Test", "message": "m"}]}}


async def issued(send: Send, name: str = "r") -> Any:
    async with asyncio.timeout(5):
        while True:
            _, found = await send("admin", "GET", f"{CSRS}/{name}")
            if (found.get("status") or {}).get("certificate"):
                return found
            await asyncio.sleep(0.01)


async def test_a_certificate_is_asked_for_approved_signed_and_let_in(
    server: ApiServer, send: Send, tmp_path: Path
) -> None:
    code, made = await send("admin", "POST", CSRS, csr("jane", "devs", expirationSeconds=3600, username="liar"))
    assert code == 201
    assert made["spec"]["username"] == "root"
    assert "system:masters" in made["spec"]["groups"]
    code, approved = await send("admin", "PUT", f"{CSRS}/r/approval", decided(made))
    assert (code, approved["status"]["conditions"][0]["type"]) == (200, "Approved")
    assert approved["status"]["conditions"][0]["lastUpdateTime"]
    found = await issued(send)
    pem = base64.b64decode(found["status"]["certificate"])
    certificate = x509.load_pem_x509_certificate(pem)
    left = certificate.not_valid_after_utc.timestamp() - time.time()
    assert 3500 < left < 3700
    file = tmp_path / "client.pem"
    file.write_bytes(pem + KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = trusting(server)
    context.load_cert_chain(file)
    async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(ssl=context)) as client:
        async with client.post(WHO, json=SELF) as answer:
            assert (await answer.json())["status"]["userInfo"] == {
                "username": "jane",
                "groups": ["devs", "system:authenticated"],
            }
        async with client.get(MAPS) as answer:
            assert answer.status == 403
        # A wrong token is not made good by a certificate.
        async with client.get("/api", headers={"Authorization": "Bearer wrong"}) as answer:
            assert answer.status == 401
    code, _ = await send("admin", "PUT", f"{CSRS}/r/approval", decided(found, "Denied"))
    assert code == 422
    # What was asked for stays as it was asked.
    merge = {"kind": "application/merge-patch+json"}
    code, kept = await send("admin", "PATCH", f"{CSRS}/r", {"spec": {"signerName": "a.b/c"}}, **merge)
    assert (code, kept["spec"]) == (200, found["spec"])


async def test_what_a_signer_does_not_sign_says_why_and_others_requests_are_left_alone(send: Send) -> None:
    cases = [
        (csr("n", signer=CLIENT, usages=("server auth",)), "usages"),
        (
            csr("n", signer=f"{CLIENT}-kubelet", usages=("client auth", "digital signature")),
            "node",
        ),
        (
            csr(
                "system:node:a",
                "system:nodes",
                signer="kubernetes.io/kubelet-serving",
                usages=("server auth", "digital signature"),
            ),
            "DNS or IP",
        ),
    ]
    for number, (body, why) in enumerate(cases):
        body["metadata"]["name"] = f"r{number}"
        _, made = await send("admin", "POST", CSRS, body)
        await send("admin", "PUT", f"{CSRS}/r{number}/approval", decided(made))
        async with asyncio.timeout(5):
            while True:
                _, found = await send("admin", "GET", f"{CSRS}/r{number}")
                types = {condition["type"]: condition for condition in found["status"]["conditions"]}
                if "Failed" in types:
                    break
                await asyncio.sleep(0.01)
        assert why in types["Failed"]["message"]
        assert "certificate" not in found["status"]
    foreign = csr("n", signer="example.com/mine")
    foreign["metadata"]["name"] = "foreign"
    _, made = await send("admin", "POST", CSRS, foreign)
    _, made = await send("admin", "PUT", f"{CSRS}/foreign/approval", decided(made))
    assert [condition["type"] for condition in made["status"]["conditions"]] == ["Approved"]
    made["status"]["certificate"] = base64.b64encode(b"theirs").decode()
    assert (await send("admin", "PUT", f"{CSRS}/foreign/status", made))[0] == 422
    pem = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    made["status"]["certificate"] = base64.b64encode(pem).decode()
    code, made = await send("admin", "PUT", f"{CSRS}/foreign/status", made)
    assert code == 200
    assert [condition["type"] for condition in made["status"]["conditions"]] == ["Approved"]


async def test_requests_that_are_none_are_refused_by_field(send: Send) -> None:
    good = csr("n")
    cases = [
        ({"request": "!"}, "spec.request"),
        ({"request": base64.b64encode(b"x").decode()}, "spec.request"),
        ({"signerName": "nothing"}, "spec.signerName"),
        ({"expirationSeconds": 5}, "spec.expirationSeconds"),
        ({"usages": ["to fly"]}, "spec.usages[0]"),
        ({"usages": []}, "spec.usages"),
    ]
    for change, field in cases:
        code, said = await send("admin", "POST", CSRS, {**good, "spec": good["spec"] | change})
        assert (code, said["details"]["causes"][0]["field"]) == (422, field)


async def test_approving_takes_the_right_for_the_signer(send: Send) -> None:
    group = "rbac.authorization.k8s.io"
    rbac = f"/apis/{group}/v1"
    rules = [
        {
            "verbs": ["create", "get", "update"],
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["certificatesigningrequests", "certificatesigningrequests/approval"],
        },
    ]
    await send("admin", "POST", f"{rbac}/clusterroles", {"metadata": {"name": "csr"}, "rules": rules})
    approver = "system:certificates.k8s.io:kube-apiserver-client-approver"

    async def bind(role: str) -> None:
        subject = {"kind": "User", "name": "bob", "apiGroup": group}
        reference = {"kind": "ClusterRole", "name": role}
        body = {"metadata": {"name": role}, "roleRef": reference, "subjects": [subject]}
        assert (await send("admin", "POST", f"{rbac}/clusterrolebindings", body))[0] == 201

    await bind("csr")
    _, made = await send("bob", "POST", CSRS, csr("jane"))
    assert made["spec"]["username"] == "bob"
    code, said = await send("bob", "PUT", f"{CSRS}/r/approval", decided(made))
    assert code == 403
    assert f'not permitted to approve requests with signerName "{CLIENT}"' in said["message"]
    await bind(approver)
    assert (await send("bob", "PUT", f"{CSRS}/r/approval", decided(made)))[0] == 200
    await issued(send)


async def test_a_service_accounts_token_is_good_until_the_account_is_gone(server: ApiServer, send: Send) -> None:
    await send("admin", "POST", ACCOUNTS, {"metadata": {"name": "robot"}})
    request = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"expirationSeconds": 900}}
    code, answer = await send("admin", "POST", f"{ACCOUNTS}/robot/token", request)
    assert code == 201
    token = answer["status"]["token"]
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["sub"] == "system:serviceaccount:default:robot"
    assert 890 <= claims["exp"] - time.time() <= 901
    _, who = await send(token, "POST", WHO, SELF)
    assert who["status"]["userInfo"]["username"] == "system:serviceaccount:default:robot"
    assert set(who["status"]["userInfo"]["groups"]) == {
        "system:serviceaccounts",
        "system:serviceaccounts:default",
        "system:authenticated",
    }
    assert (await send(token, "GET", MAPS))[0] == 403
    head, body, signature = token.split(".")
    forged = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "x"}).encode()).rstrip(b"=").decode()
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    for bad in (f"{head}.{forged}.{signature}", f"{none}.{body}.", f"{head}.{body}.{signature[:-4]}AAAA", "a.b.c"):
        assert (await send(bad, "GET", "/api"))[0] == 401
    # Another logical cluster has other accounts.
    assert (await send(token, "GET", "/clusters/x/api"))[0] == 401
    await send("admin", "DELETE", f"{ACCOUNTS}/robot")
    assert (await send(token, "GET", "/api"))[0] == 401
    await send("admin", "POST", ACCOUNTS, {"metadata": {"name": "robot"}})
    assert (await send(token, "GET", "/api"))[0] == 401


async def test_tokens_for_others_bound_tokens_and_reviews(send: Send) -> None:
    await send("admin", "POST", ACCOUNTS, {"metadata": {"name": "robot"}})
    _, secret = await send("admin", "POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})

    async def token(**spec: Any) -> str:
        code, answer = await send("admin", "POST", f"{ACCOUNTS}/robot/token", {"spec": spec})
        assert code == 201, answer
        return str(answer["status"]["token"])

    async def review(text: str, *audiences: str) -> Any:
        spec = {"token": text, "audiences": list(audiences)}
        body = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": spec}
        return (await send("admin", "POST", "/apis/authentication.k8s.io/v1/tokenreviews", body))[1]["status"]

    other = await token(audiences=["vault"])
    assert (await send(other, "GET", "/api"))[0] == 401
    assert (await review(other)).get("authenticated") is None
    assert (await review(other, "vault", "x"))["audiences"] == ["vault"]
    assert (await review("bob"))["user"]["username"] == "bob"
    bound = await token(boundObjectRef={"kind": "Secret", "apiVersion": "v1", "name": "s"})
    assert (await send(bound, "GET", "/api"))[0] == 200
    await send("admin", "DELETE", "/api/v1/namespaces/default/secrets/s")
    assert (await send(bound, "GET", "/api"))[0] == 401
    wrong = [
        ({"expirationSeconds": 5}, 422),
        ({"expirationSeconds": "x"}, 400),
        ({"audiences": "x"}, 400),
        ({"boundObjectRef": {"kind": "Cat", "name": "x"}}, 400),
        ({"boundObjectRef": {"kind": "Secret", "name": "none"}}, 404),
    ]
    for spec, code in wrong:
        assert (await send("admin", "POST", f"{ACCOUNTS}/robot/token", {"spec": spec}))[0] == code
    assert (await send("admin", "POST", f"{ACCOUNTS}/none/token", {}))[0] == 404
    assert (await send("bob", "POST", f"{ACCOUNTS}/robot/token", {}))[0] == 403
    assert secret["metadata"]["name"] == "s"


async def test_tokens_of_service_accounts_survive_a_restart(tmp_path: Path) -> None:
    token = ""
    for _ in range(2):
        async with serve(tmp_path / "api") as server, aiohttp.ClientSession(server.url) as client:
            admin = {"Authorization": f"Bearer {server.token}"}
            if not token:
                await (await client.post(ACCOUNTS, json={"metadata": {"name": "a"}}, headers=admin)).read()
                async with client.post(f"{ACCOUNTS}/a/token", json={}, headers=admin) as answer:
                    token = (await answer.json())["status"]["token"]
            async with client.get("/openid/v1/jwks", headers=admin) as answer:
                assert (await answer.json())["keys"][0]["alg"] == "ES256"
            async with client.get("/api", headers={"Authorization": f"Bearer {token}"}) as answer:
                assert answer.status == 200
