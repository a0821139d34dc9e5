"""IP addresses, networks and URLs in CEL, as Kubernetes has them: each is text in its canonical form.

What is wrong with an argument is an exception here and an evaluation error there. Imported with the engine only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cel_expr_python import cel

_T = cel.Type


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    found = ipaddress.ip_address(text)
    if isinstance(found, ipaddress.IPv6Address) and (found.scope_id or found.ipv4_mapped):
        raise ValueError(f"{text} has a zone or is an IPv4 address written as IPv6")
    return found


def _network(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    if "/" not in text:
        raise ValueError(f"{text} is no CIDR")
    return ipaddress.ip_interface(text)


def _url(text: str) -> str:
    parts = urlsplit(text)
    if not (text.startswith("/") or (parts.scheme and (parts.netloc or parts.path))):
        raise ValueError(f"{text!r} is no absolute URL")
    _ = parts.port
    return text


def _is(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def test(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return test


def _host(text: str) -> str:
    name = urlsplit(text).netloc.rpartition("@")[2]
    return name


def _hostname(text: str) -> str:
    name = _host(text)
    return name[1 : name.index("]")] if name.startswith("[") and "]" in name else name.partition(":")[0]


def _contains(network: str, other: str) -> bool:
    outer = _network(network).network
    inner = _network(other).network if "/" in other else ipaddress.ip_network(_ip(other))
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def add_addresses(add: Callable[..., None]) -> None:
    """Declares them all by `add(name, returns, parameters, impl, member=…)`."""
    text, number, whether = _T.STRING, _T.INT, _T.BOOL
    add("isIP", whether, [text], _is(_ip))
    add("ip", text, [text], lambda a: str(_ip(a)))
    add("ip.isCanonical", whether, [text], lambda a: str(_ip(a)) == a)
    add("family", number, [text], lambda a: _ip(a).version, member=True)
    add("isUnspecified", whether, [text], lambda a: _ip(a).is_unspecified, member=True)
    add("isLoopback", whether, [text], lambda a: _ip(a).is_loopback, member=True)
    add("isLinkLocalUnicast", whether, [text], lambda a: _ip(a).is_link_local, member=True)
    add("isGlobalUnicast", whether, [text], _is_global_unicast, member=True)
    add("isCIDR", whether, [text], _is(_network))
    add("cidr", text, [text], lambda a: str(_network(a)))
    add("containsIP", whether, [text, text], _contains, member=True)
    add("containsCIDR", whether, [text, text], _contains, member=True)
    add("ip", text, [text], lambda a: str(_network(a).ip), member=True)
    add("masked", text, [text], lambda a: str(_network(a).network), member=True)
    add("prefixLength", number, [text], lambda a: _network(a).network.prefixlen, member=True)
    add("isURL", whether, [text], _is(_url))
    add("url", text, [text], _url)
    add("getScheme", text, [text], lambda a: urlsplit(a).scheme, member=True)
    add("getHost", text, [text], _host, member=True)
    add("getHostname", text, [text], _hostname, member=True)
    add("getPort", text, [text], lambda a: str(urlsplit(a).port or ""), member=True)
    add("getEscapedPath", text, [text], lambda a: urlsplit(a).path, member=True)
    add("getQuery", _T.Map(text, _T.List(text)), [text], _query, member=True)


def _is_global_unicast(text: str) -> bool:
    found: Any = _ip(text)
    broadcast = found.version == 4 and str(found) == "255.255.255.255"
    return not (found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local or broadcast)


def _query(text: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(text).query, keep_blank_values=True)
