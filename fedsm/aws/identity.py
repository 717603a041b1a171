"""Checks a job's identity proof by sending the rebuilt request to STS."""

from __future__ import annotations

import re
from typing import Any

import boto3
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session
from botocore.parsers import ResponseParserError, create_parser

from fedsm.client.sts_request import endpoint, host_of, rebuild
from fedsm.errors import IdentityRefused
from fedsm.transport.identity import Proof

_ROLE = re.compile(r"^arn:aws[a-z-]*:sts::(\d{12}):assumed-role/([\w+=,.@-]+)/[^/]+$")
_TIMEOUT = 10


class ProofChecker:
    """Callable ``(proof, binding, region) -> (account id, role name)``.

    Sends nothing but the job's own signed request, to the STS of the Region that the coordinator
    chose, and needs no right of the coordinator's.

    Parameters
    ----------
    session : boto3.Session
        Says which endpoint stands for STS.
    """

    def __init__(self, session: boto3.Session) -> None:
        core: Any = session._session
        self._environment = {"AWS_ENDPOINT_URL": core.get_config_variable("endpoint_url") or ""}
        model = core.get_service_model("sts")
        self._shape = model.operation_model("GetCallerIdentity").output_shape
        self._http = URLLib3Session(timeout=_TIMEOUT, max_pool_connections=8)

    def __call__(self, proof: Proof, binding: str, region: str) -> tuple[str, str]:
        """Ask STS whose request it is.

        Raises
        ------
        IdentityRefused
            STS refused it, did not answer, or the caller is not an assumed role.
        """
        url = endpoint(region, self._environment)
        method, path, headers, body = rebuild(proof, binding, region, host_of(url))
        request = AWSRequest(method, url + path, headers, body).prepare()
        try:
            answer = self._http.send(request)
            parsed = create_parser("query").parse(
                {
                    "body": answer.content,
                    "headers": answer.headers,
                    "status_code": answer.status_code,
                },
                self._shape,
            )
        except (BotoCoreError, ResponseParserError) as error:
            raise _refused(f"STS in {region} gave no usable answer ({type(error).__name__})") from (
                error
            )
        if answer.status_code != 200:
            code = parsed.get("Error", {}).get("Code", answer.status_code)
            raise _refused(f"STS refused its proof ({code})")
        found = _ROLE.match(str(parsed.get("Arn", "")))
        if found is None:
            raise _refused("its caller is not an assumed role")
        return found[1], found[2]


def _refused(what: str) -> IdentityRefused:
    return IdentityRefused(
        what, action="check that the job runs with the site's execution role and a right clock"
    )
