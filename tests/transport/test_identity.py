from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsm.errors import IdentityRefused, WireError
from fedsm.transport.identity import (
    Expected,
    Proof,
    binding,
    make_certificate,
    match,
    pem_from_der,
)
from tests.transport.world import sign


def test_the_certificate_is_small_backdated_and_named_fedsm_alone() -> None:
    made = make_certificate()
    certificate = x509.load_der_x509_certificate(made.der)
    assert len(made.der_base64) <= 512
    assert certificate == x509.load_pem_x509_certificate(made.pem_certificate)
    assert certificate == x509.load_pem_x509_certificate(pem_from_der(made.der))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("fedsm")]
    assert certificate.not_valid_before_utc < datetime.now(UTC) - timedelta(hours=23)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    certificate.verify_directly_issued_by(certificate)


def test_two_runs_share_no_certificate() -> None:
    assert make_certificate().der != make_certificate().der


def test_a_certificate_does_not_print_its_key() -> None:
    made = make_certificate()
    assert "PRIVATE" not in repr(made)
    assert base64.b64decode(made.der_base64) == made.der


parts = st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), max_size=6)] * 4)


@settings(deadline=None)
@given(parts, parts)
def test_different_parts_never_bind_alike(one: tuple[str, ...], two: tuple[str, ...]) -> None:
    assert (binding(b"der", *one) == binding(b"der", *two)) == (one == two)


def test_the_binding_covers_the_certificate() -> None:
    assert binding(b"one", "r", "s", "j", "n") != binding(b"two", "r", "s", "j", "n")


def test_a_proof_comes_back_from_json() -> None:
    proof = Proof("ASIA" + "X" * 16, "tok/en+=", "20260101T000000Z", "ab" * 32)
    assert Proof.from_json(proof.to_json()) == proof
    assert "tok/en" not in repr(proof)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("access_key_id", "short"),
        ("access_key_id", "A" * 200),
        ("access_key_id", None),
        ("session_token", "t" * 9000),
        ("session_token", "line\nfeed"),
        ("date", "2026-01-01"),
        ("signature", "AB" * 32),
        ("signature", "ab" * 33),
        ("extra", "field"),
    ],
)
def test_a_proof_of_another_form_is_refused(field: str, value: Any) -> None:
    fields = vars(sign("ab" * 32)) | {field: value}
    with pytest.raises(WireError, match="proof"):
        Proof.from_dict(fields)


@settings(deadline=None)
@given(st.text())
def test_a_proof_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        Proof.from_json(text)


def test_account_and_role_must_both_match() -> None:
    expected = Expected("a", 2, "111122223333", "execution", "j")
    match(expected, "111122223333", "execution")
    for account, role in (("999922223333", "execution"), ("111122223333", "other")):
        with pytest.raises(IdentityRefused, match="a: proved to be"):
            match(expected, account, role)


def test_the_digits_of_a_proofs_date_are_ascii() -> None:
    with pytest.raises(WireError, match="date"):
        Proof.from_dict(vars(sign("ab" * 32)) | {"date": "٢0260101T000000Z"})
