"""The STS request behind an identity proof, built alike by the job and by the coordinator.

The job signs it and sends key id, session token, date and signature; the coordinator rebuilds the
rest itself, so that method, path, body, host and headers are of its own choosing. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from fedsm.errors import ConfigError, IdentityRefused
from fedsm.transport.identity import BINDING_HEADER, Proof

METHOD, PATH = "POST", "/"
BODY = b"Action=GetCallerIdentity&Version=2011-06-15"
CONTENT_TYPE = "application/x-www-form-urlencoded; charset=utf-8"
SERVICE = "sts"

_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")
_BINDING = re.compile(r"[0-9a-f]{64}")

_DNS_SUFFIXES = {
    "cn": "amazonaws.com.cn",
    "us-iso": "c2s.ic.gov",
    "us-isob": "sc2s.sgov.gov",
    "us-isof": "csp.hci.ic.gov",
    "eu-isoe": "cloud.adc-e.uk",
    "eusc": "amazonaws.eu",
}


def endpoint(region: str, environ: Mapping[str, str]) -> str:
    """URL of the STS of a Region.

    ``AWS_ENDPOINT_URL_STS`` and ``AWS_ENDPOINT_URL`` go before ``https://sts.<region>.<suffix>``,
    as in the AWS SDKs.

    Raises
    ------
    ConfigError
        ``region`` is not of a Region's form.
    """
    if not _REGION.fullmatch(region):
        raise ConfigError(
            f"{region!r} is not an AWS Region",
            where="FEDSM_STS_REGION",
            action="give the coordinator's Region",
        )
    override = environ.get("AWS_ENDPOINT_URL_STS") or environ.get("AWS_ENDPOINT_URL")
    if override:
        return override.rstrip("/")
    partition = re.split(r"-[a-z]+-\d+$", region)[0]
    return f"https://sts.{region}.{_DNS_SUFFIXES.get(partition, 'amazonaws.com')}"


def host_of(url: str) -> str:
    """The ``Host`` header for a URL: its port is named unless it is the scheme's own."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    name = parts.hostname or ""
    return name if parts.port in (None, default) else f"{name}:{parts.port}"


def headers_to_sign(binding: str) -> dict[str, str]:
    """Headers beside those that SigV4 adds (host, date, token)."""
    return {"Content-Type": CONTENT_TYPE, BINDING_HEADER: binding}


def rebuild(
    proof: Proof, binding: str, region: str, host: str
) -> tuple[str, str, dict[str, str], bytes]:
    """The signed request, to be sent to the STS at ``host``.

    Parameters
    ----------
    proof : Proof
        From the job, its fields already held to their forms by ``Proof.from_dict``.
    binding : str
        64 hex digits, computed by the coordinator for this very connection.
    region, host : str
        Of the coordinator's choosing.

    Returns
    -------
    tuple of str, str, dict of str to str, bytes
        Method, path, headers and body.

    Raises
    ------
    IdentityRefused
        The proof or the binding could not be part of such a request.
    """
    # The fields become header lines: their form is checked again where that matters.
    try:
        Proof.from_json(proof.to_json())
    except Exception as error:
        raise _refused("the proof is not of its form") from error
    if not _BINDING.fullmatch(binding):
        raise _refused("the binding is not 64 hex digits")
    headers = {**headers_to_sign(binding), "Host": host, "X-Amz-Date": proof.date}
    if proof.session_token:
        headers["X-Amz-Security-Token"] = proof.session_token
    signed = ";".join(sorted(name.lower() for name in headers))
    scope = f"{proof.date[:8]}/{region}/{SERVICE}/aws4_request"
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={proof.access_key_id}/{scope}, "
        f"SignedHeaders={signed}, Signature={proof.signature}"
    )
    return METHOD, PATH, headers, BODY


def _refused(what: str) -> IdentityRefused:
    return IdentityRefused(what, action="start the job with the site's execution role")
