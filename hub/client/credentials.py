"""Where the API server is and how to prove who we are: kubeconfig files, pods, or plain arguments.

The plain cases (server, CA, token, client certificate) are read here. Exec plugins and auth providers are left to the
official client, imported only then: it costs half a second and 20 MB that an agent does not have to spare. A source can
tell when what it read has changed (a rotated token, a rewritten kubeconfig), so that a session never has to restart.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hub.api.errors import UsageError

_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Connection:
    """What a request needs. `expires` is a Unix time after which it must be loaded anew."""

    server: str
    authorization: str = ""
    ssl: ssl.SSLContext | bool = True
    server_hostname: str | None = None
    proxy: str | None = None
    namespace: str = "default"
    expires: float | None = None


class CredentialSource(Protocol):
    async def load(self) -> Connection:
        """Raises `UsageError` when it cannot work as written."""
        ...

    def stamp(self) -> object:
        """Differs from an earlier stamp when `load` would give something else. Cheap: asked every few seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    connection: Connection

    async def load(self) -> Connection:
        return self.connection

    def stamp(self) -> object:
        return None


@dataclass(slots=True)
class InCluster:
    """A pod's service account."""

    directory: Path = _POD
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    async def load(self) -> Connection:
        host, port = self.environ.get("KUBERNETES_SERVICE_HOST"), self.environ.get("KUBERNETES_SERVICE_PORT")
        token = self.directory / "token"
        if not (host and port and token.is_file()):
            raise UsageError(
                "this process does not run in a pod with a service account", hint="Give it a kubeconfig instead."
            )
        namespace = self.directory / "namespace"
        return Connection(
            server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            authorization=f"Bearer {token.read_text().strip()}",
            ssl=_tls(ca_file=str(self.directory / "ca.crt")),
            namespace=namespace.read_text().strip() if namespace.is_file() else "default",
        )

    def stamp(self) -> object:
        return _stamp(self.directory / "token"), _stamp(self.directory / "ca.crt")


class Kubeconfig:
    """One context of one kubeconfig file. Relative paths in it are relative to the file, as kubectl reads them."""

    def __init__(self, path: Path, context: str | None = None) -> None:
        self.path = path
        self.context = context
        self._files: tuple[Path, ...] = ()

    async def load(self) -> Connection:
        cluster, user, namespace = self.read()
        if "exec" in user or "auth-provider" in user:
            return await self._load_official(namespace)
        return self.plain(cluster, user, namespace)

    def stamp(self) -> object:
        return tuple(_stamp(path) for path in (self.path, *self._files))

    def read(self) -> tuple[dict[str, Any], dict[str, Any], str]:
        """The cluster, the user and the default namespace of the context. Raises `UsageError`."""
        document = _parse(self.path)
        name = self.context or document.get("current-context")
        if not name:
            raise UsageError(f"{self.path} has no current-context", hint="Name one with --context.")
        context = _named(document, "contexts", name, "context", self.path)
        cluster = _named(document, "clusters", context.get("cluster"), "cluster", self.path)
        user = _named(document, "users", context["user"], "user", self.path) if context.get("user") else {}
        if not cluster.get("server"):
            raise UsageError(f"{self.path}: cluster {context.get('cluster')} has no server")
        return cluster, user, str(context.get("namespace") or "default")

    def plain(self, cluster: dict[str, Any], user: dict[str, Any], namespace: str) -> Connection:
        files: list[Path] = []

        def file_of(section: dict[str, Any], key: str) -> str | None:
            if not section.get(key):
                return None
            path = self.path.parent / Path(str(section[key])).expanduser()
            files.append(path)
            return str(path)

        authorization = ""
        if token_file := file_of(user, "tokenFile"):
            authorization = f"Bearer {_read(Path(token_file)).decode().strip()}"
        elif user.get("token"):
            authorization = f"Bearer {user['token']}"
        elif user.get("username") and user.get("password"):
            pair = f"{user['username']}:{user['password']}".encode()
            authorization = f"Basic {base64.b64encode(pair).decode()}"
        server = str(cluster["server"]).rstrip("/")
        context: ssl.SSLContext | bool = True
        if server.startswith("https"):
            context = _tls(
                ca_data=self._decode(cluster, "certificate-authority-data"),
                ca_file=file_of(cluster, "certificate-authority"),
                certificate=self._decode(user, "client-certificate-data") or file_of(user, "client-certificate"),
                key=self._decode(user, "client-key-data") or file_of(user, "client-key"),
                verify=not cluster.get("insecure-skip-tls-verify"),
            )
        self._files = tuple(files)
        return Connection(
            server=server,
            authorization=authorization,
            ssl=context,
            server_hostname=cluster.get("tls-server-name"),
            proxy=cluster.get("proxy-url"),
            namespace=namespace,
        )

    def _decode(self, section: dict[str, Any], key: str) -> bytes | None:
        if not section.get(key):
            return None
        try:
            return base64.b64decode(section[key], validate=False)
        except (binascii.Error, TypeError) as error:
            raise UsageError(f"{self.path}: {key} is not base64") from error

    async def _load_official(self, namespace: str) -> Connection:
        from kubernetes.aio.client import Configuration
        from kubernetes.aio.config import load_kube_config

        configuration: Any = Configuration()
        try:
            loader: Any = await load_kube_config(
                str(self.path), context=self.context, client_configuration=configuration, persist_config=False
            )
        except Exception as error:  # the official loader raises a dozen unrelated classes
            raise UsageError(f"{self.path}: {error}") from error
        token = configuration.api_key.get("BearerToken", "")
        if not token and not configuration.cert_file:
            raise UsageError(
                f"{self.path}: the credential plugin gave neither a token nor a certificate",
                hint="Run the plugin's command by hand; its own message says why.",
            )
        expiry = getattr(loader, "exec_plugin_expiry", None)
        return Connection(
            server=configuration.host,
            authorization=token,
            ssl=_tls(
                ca_file=configuration.ssl_ca_cert,
                certificate=configuration.cert_file,
                key=configuration.key_file,
                verify=bool(configuration.verify_ssl),
            ),
            server_hostname=getattr(configuration, "tls_server_name", None),
            proxy=getattr(configuration, "proxy", None),
            namespace=namespace,
            expires=expiry.timestamp() if expiry is not None else None,
        )


def default_kubeconfig() -> Path:
    """The first existing file of ``$KUBECONFIG``, or ``~/.kube/config``."""
    named = [Path(part).expanduser() for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return next((path for path in named if path.exists()), named[0] if named else Path("~/.kube/config").expanduser())


def _parse(path: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.load(_read(path), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path} is not a kubeconfig: expected a mapping with clusters, users and contexts")
    return document


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", hint="Name the kubeconfig with --kubeconfig or $KUBECONFIG."
        ) from error


def _named(document: dict[str, Any], section: str, name: object, key: str, path: Path) -> dict[str, Any]:
    entries = [entry for entry in document.get(section) or () if isinstance(entry, dict)]
    for entry in entries:
        if entry.get("name") == name:
            return dict(entry.get(key) or {})
    known = ", ".join(sorted(str(entry.get("name")) for entry in entries)) or "none"
    raise UsageError(f"{path} has no {key} named {name}; it has: {known}")


def _stamp(path: Path) -> object:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _tls(
    *,
    ca_data: bytes | None = None,
    ca_file: str | None = None,
    certificate: bytes | str | None = None,
    key: bytes | str | None = None,
    verify: bool = True,
) -> ssl.SSLContext:
    try:
        if ca_data:
            context = ssl.create_default_context(cadata=ca_data.decode())
        else:
            context = ssl.create_default_context(cafile=ca_file)
        # Clusters' own CAs often lack extensions that strict verification (the default from Python 3.13 on) demands.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate:
            _load_certificate(context, certificate, key)
    except (OSError, ssl.SSLError, UnicodeDecodeError) as error:
        raise UsageError(f"the TLS files of this connection cannot be used: {error}") from error
    return context


def _load_certificate(context: ssl.SSLContext, certificate: bytes | str, key: bytes | str | None) -> None:
    # OpenSSL takes these from files only; data is written where only we can read it, and removed at once.
    with tempfile.TemporaryDirectory() as directory:

        def path_of(part: bytes | str | None, name: str) -> str | None:
            if not isinstance(part, bytes):
                return part
            path = Path(directory, name)
            path.touch(mode=0o600)
            path.write_bytes(part)
            return str(path)

        context.load_cert_chain(path_of(certificate, "certificate"), path_of(key, "key"))  # type: ignore[arg-type]  # never None here
