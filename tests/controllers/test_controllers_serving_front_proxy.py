"""Whom the API server speaks for is believed of the API server only."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from multidict import CIMultiDict

from hub.api.errors import NotFoundError, UnauthorizedError
from hub.api.resource import Resource
from hub.controllers.permission import Caller
from hub.controllers.serving.certificates import renewed
from hub.controllers.serving.front_proxy import FrontProxy, ProxyTrust, caller_of, read_trust
from hub.controllers.serving.secure_server import SecureServer, server_context
from hub.controllers.serving.trust import load

Json = dict[str, Any]
NOW = datetime.now(UTC)


class Issuer:
    def __init__(self, directory: Path, name: str) -> None:
        self._directory, self._key = directory, ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = _builder(self._name, self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM).decode()

    def client(self, common_name: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common_name), self._name, key.public_key())
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = builder.add_extension(usage, critical=False).sign(self._key, SHA256())
        files = self._directory / f"{common_name}.crt", self._directory / f"{common_name}.key"
        files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(*files)
        return context


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(hours=1))
    )


class Api:
    def __init__(self, data: Json | None) -> None:
        self.data = data

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Json:
        assert (resource.plural, name, namespace) == (
            "configmaps",
            "extension-apiserver-authentication",
            "kube-system",
        )
        if self.data is None:
            raise NotFoundError(404, {"message": "not found"})
        return {"data": self.data}


async def by_token(authorization: str) -> Caller:
    if authorization != "Bearer mine":
        raise UnauthorizedError(401, {"message": "who are you?"})
    return Caller("by-token")


SAID = CIMultiDict(
    [("X-Remote-User", "ann"), ("X-Remote-Group", "a"), ("X-Remote-Group", "b"), ("X-Remote-Extra-Q", "1")]
)


async def asks(server: SecureServer, context: ssl.SSLContext, headers: Any) -> tuple[int, Json]:
    url = f"https://127.0.0.1:{server.port}/who"
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers, ssl=context) as answer:
        return answer.status, await answer.json()


async def test_headers_count_with_the_proxys_certificate_only(tmp_path: Path) -> None:
    proxies, strangers = Issuer(tmp_path, "front-proxy"), Issuer(tmp_path, "strangers")
    context = server_context()
    load(context, renewed(None, ["127.0.0.1"], NOW))
    api = Api({"requestheader-client-ca-file": proxies.pem, "requestheader-allowed-names": '["aggregator"]'})
    front = FrontProxy(api, context, by_token)  # type: ignore[arg-type]

    async def who(request: web.Request) -> web.Response:
        try:
            caller = await front.identify(request)
        except UnauthorizedError:
            return web.json_response({}, status=401)
        return web.json_response({"user": caller.user, "groups": caller.groups, "extra": dict(caller.extra)})

    nobody = ssl.create_default_context()
    nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
    async with SecureServer("127.0.0.1:0", "--api-listen", context, [web.get("/who", who)]) as server:
        await front.step()
        told = (200, {"user": "ann", "groups": ["a", "b"], "extra": {"q": ["1"]}})
        assert await asks(server, proxies.client("aggregator"), SAID) == told
        # Of the same authority, but for something else.
        assert await asks(server, proxies.client("other"), SAID) == (401, {})
        # Without a certificate headers say nothing; a token does.
        assert await asks(server, nobody, SAID) == (401, {})
        token = {"Authorization": "Bearer mine", **SAID}
        assert (await asks(server, nobody, token))[1]["user"] == "by-token"
        # A stranger's certificate is no certificate.
        with pytest.raises((aiohttp.ClientError, OSError)):
            await asks(server, strangers.client("aggregator"), SAID)


async def test_an_api_server_that_passes_nothing_on_leaves_tokens() -> None:
    for data in (None, {}, {"requestheader-client-ca-file": " "}):
        front = FrontProxy(Api(data), server_context(), by_token)  # type: ignore[arg-type]
        await front.step()
        assert front._trust is None


@pytest.mark.parametrize(
    ("names", "common", "user", "believed"),
    [((), "any", "ann", True), (("a",), "a", "ann", True), (("a",), "b", "ann", False), ((), "any", "", False)],
)
def test_who_may_speak(names: tuple[str, ...], common: str, user: str, believed: bool) -> None:
    headers = CIMultiDict([("X-Remote-User", user)])
    assert (caller_of(ProxyTrust("pem", names), common, headers) is not None) is believed


def test_what_the_config_map_says_is_read() -> None:
    found = read_trust(
        {
            "data": {
                "requestheader-client-ca-file": "pem",
                "requestheader-username-headers": '["X-U", "X-V"]',
                "requestheader-group-headers": "no json",
                "requestheader-extra-headers-prefix": '["X-E-"]',
            }
        }
    )
    assert found == ProxyTrust("pem", user=("X-U", "X-V"), extra=("X-E-",))


async def test_a_rotated_authority_is_taken_in(tmp_path: Path) -> None:
    first, second = Issuer(tmp_path, "one"), Issuer(tmp_path, "two")
    context = server_context()
    load(context, renewed(None, ["127.0.0.1"], NOW))
    api = Api({"requestheader-client-ca-file": first.pem})
    front = FrontProxy(api, context, by_token)  # type: ignore[arg-type]

    async def who(request: web.Request) -> web.Response:
        return web.json_response({"user": (await front.identify(request)).user})

    async with SecureServer("127.0.0.1:0", "--api-listen", context, [web.get("/who", who)]) as server:
        await front.step()
        api.data = {"requestheader-client-ca-file": first.pem + second.pem}
        await front.step()
        for issuer in (first, second):
            assert (await asks(server, issuer.client("p"), SAID))[1] == {"user": "ann"}
    await asyncio.sleep(0)
