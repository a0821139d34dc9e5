"""`python -m hub.apiserver --data DIR --listen HOST:PORT`: the embedded API as a process of its own.

Prints where it listens, never a token. SIGTERM and SIGINT end it in order; anything that keeps it from starting is one
line and exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import ssl
import sys
from pathlib import Path

from hub.api.errors import QuarterdeckError, UsageError
from hub.apiserver.aggregation import read_aggregated
from hub.apiserver.audit import DEFAULT_POLICY, AuditLog, read_policy
from hub.apiserver.auth import make_admin_token
from hub.apiserver.kubeconfig import write_kubeconfig
from hub.apiserver.server import ApiServer


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # Objects live long and in no cycles: looking for cycles among 100,000 of them all the time is wasted.
    gc.set_threshold(50_000, 50, 50)
    try:
        _run(options)
    except QuarterdeckError as error:
        sys.stderr.write(f"error: {error}" + (f" {error.hint}" if error.hint else "") + "\n")
        return 1
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hub.apiserver", description="The embedded Kubernetes API.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="where the store is kept")
    parser.add_argument("--listen", default="127.0.0.1:6443", metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument("--tokens", type=Path, metavar="FILE", help="who may come in; default: DIR/tokens.json")
    parser.add_argument(
        "--self-signed",
        action="store_true",
        help="serve HTTPS with a certificate of our own, as it does anyway beyond loopback; kubectl needs it",
    )
    parser.add_argument(
        "--tls-name",
        action="append",
        default=[],
        metavar="NAME",
        help="another name or address that is in the certificate of our own",
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve HTTPS with this certificate chain")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="the certificate's key")
    parser.add_argument(
        "--insecure-listen", action="store_true", help="plain HTTP beyond loopback: tokens cross the network readable"
    )
    parser.add_argument(
        "--power-safe", action="store_true", help="flush each commit to the disk: safe against power cuts, slower"
    )
    parser.add_argument(
        "--authorization-mode",
        choices=("RBAC", "AlwaysAllow"),
        default="RBAC",
        help="who may do what: roles and bindings say it, or everybody who is known may do everything",
    )
    parser.add_argument("--audit-log", type=Path, metavar="FILE", help="write who did what there, a line a request")
    parser.add_argument(
        "--audit-policy",
        type=Path,
        metavar="FILE",
        help="what is logged: a Policy of audit.k8s.io/v1; default: all, Metadata",
    )
    parser.add_argument(
        "--audit-log-maxsize", type=int, default=100, metavar="MIB", help="rotate beyond this; default: %(default)s"
    )
    parser.add_argument(
        "--audit-log-maxbackup", type=int, default=5, metavar="N", help="old logs that are kept; default: %(default)s"
    )
    parser.add_argument(
        "--aggregate",
        action="append",
        default=[],
        metavar="GROUP=URL",
        help="pass GET requests about this API group on to whoever serves it there",
    )
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> None:
    host, port = _address(options.listen)
    tokens = options.tokens or options.data / "tokens.json"
    server = ApiServer(
        options.data,
        host=host,
        port=port,
        tokens=tokens,
        tls=_tls(options.tls_cert, options.tls_key),
        self_signed=options.self_signed,
        insecure=options.insecure_listen,
        power_safe=options.power_safe,
        aggregated=read_aggregated(options.aggregate),
        audit=_audit(options),
        authorization=options.authorization_mode,
        names=options.tls_name,
    )
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.run(_serve(server, tokens, made=_ensure_tokens(options.data, tokens)))
        return
    asyncio.run(_serve(server, tokens, made=_ensure_tokens(options.data, tokens)))


async def _serve(server: ApiServer, tokens: Path, *, made: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with server:
        gc.collect()
        gc.freeze()
        store = server.plane.store
        count = sum(map(len, store.collections.values()))
        logging.getLogger("hub.apiserver").info(
            "listening on %s; %d objects read in %.2f s", server.url, count, store.recovery_seconds
        )
        if made:
            kubeconfig = tokens.with_name("kubeconfig")
            write_kubeconfig(kubeconfig, server.url, made, user="admin", ca=server.authority)
            sys.stdout.write(f"no tokens were in {tokens}: made one for `admin`, kept in {kubeconfig}\n")
            sys.stdout.flush()
        await stop.wait()


def _ensure_tokens(data: Path, tokens: Path) -> str:
    """The token of the administrator that was made because there was no token file; empty when there is one."""
    return "" if tokens.exists() else make_admin_token(tokens)


def _audit(options: argparse.Namespace) -> AuditLog | None:
    policy = read_policy(options.audit_policy) if options.audit_policy is not None else DEFAULT_POLICY
    if options.audit_log is None:
        if options.audit_policy is not None:
            raise UsageError("a policy needs a log", field="--audit-log")
        return None
    size, keep = options.audit_log_maxsize, options.audit_log_maxbackup
    return AuditLog(options.audit_log, policy, max_mebibytes=max(1, size), keep=max(0, keep))


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"found {listen!r}; expected HOST:PORT such as 127.0.0.1:6443", field="--listen")
    return host.strip("[]"), int(port)


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UsageError("--tls-cert and --tls-key go together", field="--tls-cert")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"the certificate cannot be used: {error}", field="--tls-cert") from error
    return context


if __name__ == "__main__":
    raise SystemExit(main())
