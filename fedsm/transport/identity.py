"""Who is at the other end: the run's certificate, the proof and what it is signed over.

The coordinator's self-signed certificate is the only root of trust of a run's connections. A job
answers the coordinator's nonce with a signed STS ``GetCallerIdentity`` request that carries
:data:`BINDING_HEADER`; since the binding covers certificate, run, site, join id and nonce, the
proof is of no use on any other connection.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedsm.errors import IdentityRefused, WireError

SERVER_NAME = "fedsm"
"""The sole name in the certificate; clients override the TLS target name with it."""

BINDING_HEADER = "x-fedsm-binding"
"""The extra signed header of the identity proof's request."""

VALIDITY = timedelta(days=30)

_ACCESS_KEY = re.compile(r"[A-Za-z0-9_]{16,128}")
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_TOKEN = re.compile(r"[\x21-\x7e]{0,8192}")


@dataclass(frozen=True)
class Certificate:
    """A run's TLS identity.

    Attributes
    ----------
    pem_certificate, pem_key : bytes
        What the coordinator's server presents; the key never leaves the process.
    der_base64 : str
        The certificate for the job's environment, at most 512 characters.
    """

    pem_certificate: bytes
    pem_key: bytes
    der_base64: str

    def __repr__(self) -> str:
        return f"Certificate({self.der_base64[:16]}...)"

    @property
    def der(self) -> bytes:
        """The certificate as DER."""
        return base64.b64decode(self.der_base64)


def make_certificate() -> Certificate:
    """Make a P-256 key and a self-signed certificate whose sole name is ``fedsm``.

    It is backdated a day, so that a job whose clock is behind accepts it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    start = datetime.now(UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + VALIDITY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Certificate(
        pem_certificate=certificate.public_bytes(serialization.Encoding.PEM),
        pem_key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        der_base64=base64.b64encode(der).decode(),
    )


def pem_from_der(der: bytes) -> bytes:
    """Wrap a DER certificate as PEM without judging its content."""
    body = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"


def binding(certificate_der: bytes, run: str, site: str, join_id: str, nonce: str) -> str:
    """Hex SHA-256 over the digest of the certificate, run, site, join id and nonce.

    Every part is preceded by its length, so that no two tuples of parts encode alike.
    """
    parts = [
        hashlib.sha256(certificate_der).digest(),
        *(part.encode() for part in (run, site, join_id, nonce)),
    ]
    digest = hashlib.sha256(b"fedsm binding 1")
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


@dataclass(frozen=True)
class Proof:
    """What a job sends of its signed request; the coordinator rebuilds the rest.

    Attributes
    ----------
    access_key_id, session_token : str
        Of the job's execution role. The secret key stays in the job.
    date : str
        ``X-Amz-Date``, as ``YYYYMMDDTHHMMSSZ``.
    signature : str
        SigV4 signature, 64 hex digits.
    """

    access_key_id: str
    session_token: str
    date: str
    signature: str

    def __repr__(self) -> str:
        return f"Proof(access_key_id={self.access_key_id!r}, date={self.date!r})"

    def to_json(self) -> str:
        """The proof as a JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Proof:
        """Read a proof back.

        Raises
        ------
        WireError
            A field is missing, too long or not of its form.
        """
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise WireError("the identity proof is not JSON") from error

    @classmethod
    def from_dict(cls, fields: object) -> Proof:
        """Read a proof from decoded JSON; raises as :meth:`from_json` does."""
        patterns = {
            "access_key_id": _ACCESS_KEY,
            "session_token": _TOKEN,
            "date": _DATE,
            "signature": _SIGNATURE,
        }
        if not isinstance(fields, dict) or set(fields) != set(patterns):
            raise WireError("the identity proof does not hold the fields of a proof")
        for name, pattern in patterns.items():
            if not isinstance(fields[name], str) or not pattern.fullmatch(fields[name]):
                raise WireError(f"the identity proof's {name} is not of its form")
        return cls(**fields)


@dataclass(frozen=True)
class Expected:
    """A site that may join: its node id and the identity its job must prove."""

    site: str
    node_id: int
    account_id: str
    role_name: str
    join_id: str


def match(expected: Expected, account_id: str, role_name: str) -> None:
    """Check a proven identity against what the site's job must be.

    Raises
    ------
    IdentityRefused
        Account or role differ; the message names both sides of the difference.
    """
    if (account_id, role_name) != (expected.account_id, expected.role_name):
        raise IdentityRefused(
            f"proved to be role {role_name} of account {account_id}, "
            f"not {expected.role_name} of {expected.account_id}",
            where=expected.site,
            action="start the job with the site's execution role",
        )
