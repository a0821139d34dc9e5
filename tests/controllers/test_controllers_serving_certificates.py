"""A rotation cuts nobody off: at every step who trusts the bundle of the step before trusts the server."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.controllers.serving import certificates
from hub.controllers.serving.certificates import Material, from_data, renewed, to_data

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("quarterdeck-hub.quarterdeck-system.svc", "127.0.0.1")


def trusted(bundle: bytes, material: Material, at: datetime) -> None:
    """Raises where a client that knows `bundle` would hang up."""
    store = Store(x509.load_pem_x509_certificates(bundle))
    verifier = PolicyBuilder().store(store).time(at).build_server_verifier(x509.DNSName(NAMES[0]))
    verifier.verify(x509.load_pem_x509_certificate(material.certificate), [])


def test_nothing_is_due_the_next_day() -> None:
    first = renewed(None, NAMES, START)
    assert renewed(first, NAMES, START + timedelta(days=1)) == first
    trusted(first.bundle, first, START)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(min_value=6, max_value=24 * 25), min_size=20, max_size=40))
def test_who_knew_the_bundle_before_still_trusts_the_server(hours: list[int]) -> None:
    at, material = START, renewed(None, NAMES, START)
    for step in hours:
        before = material.bundle
        at += timedelta(hours=step)
        material = renewed(material, NAMES, at)
        trusted(before, material, at)
        trusted(material.bundle, material, at)
        assert from_data(to_data(material)) == material


def test_an_authority_is_known_a_day_before_it_signs_and_the_old_one_to_its_end() -> None:
    first = renewed(None, NAMES, START)
    due = START + certificates.AUTHORITY_VALID - certificates.AUTHORITY_RENEWED + timedelta(hours=1)
    announced = renewed(first, NAMES, due)
    assert announced.next_authority
    assert announced.authority == first.authority
    assert len(x509.load_pem_x509_certificates(announced.bundle)) == 2
    assert renewed(announced, NAMES, due + timedelta(hours=12)).authority == first.authority
    changed = renewed(announced, NAMES, due + certificates.ANNOUNCED)
    assert changed.authority == announced.next_authority
    assert changed.certificate != announced.certificate
    assert not changed.next_authority
    assert len(x509.load_pem_x509_certificates(changed.bundle)) == 2
    ended = renewed(changed, NAMES, START + certificates.AUTHORITY_VALID + timedelta(days=1))
    assert ended.bundle == ended.authority


def test_another_name_makes_another_certificate_by_the_same_authority() -> None:
    first = renewed(None, NAMES[:1], START)
    second = renewed(first, NAMES, START)
    assert (second.authority, second.bundle) == (first.authority, first.bundle)
    assert second.certificate != first.certificate


@pytest.mark.parametrize("lost", ["authority.crt", "authority.key", "ca.crt", "tls.crt", "tls.key"])
@pytest.mark.parametrize("damage", [b"", b"no certificate"])
def test_what_is_damaged_counts_as_nothing(lost: str, damage: bytes) -> None:
    data = to_data(renewed(None, NAMES, START))
    assert from_data({**data, lost: damage}) is None
    assert from_data({}) is None


def test_openssl_takes_them(tmp_path: Path) -> None:
    material = renewed(None, NAMES, datetime.now(UTC))
    (tmp_path / "crt").write_bytes(material.certificate)
    (tmp_path / "key").write_bytes(material.key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "crt", tmp_path / "key")
    ssl.create_default_context(cadata=material.bundle.decode())
