"""Signs the identity proof with the credentials of the job's execution role."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from fedsm.client.sts_request import BODY, METHOD, PATH, SERVICE, endpoint, headers_to_sign
from fedsm.errors import AccessError
from fedsm.transport.identity import Proof


def make_signer(region: str, environ: Mapping[str, str]) -> Callable[[str], Proof]:
    """A function from a binding to a proof, for the STS of ``region``.

    Credentials come from botocore's chain, in a job from the container endpoint, and are refreshed
    by it. Nothing is sent.

    Raises
    ------
    AccessError
        When called: there are no credentials, or they cannot be refreshed.
    """
    import botocore.exceptions
    import botocore.session
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    url = endpoint(region, environ) + PATH
    session = botocore.session.get_session()

    def sign(binding: str) -> Proof:
        try:
            credentials = session.get_credentials()
            if credentials is None:
                raise _no_credentials("there are none")
            frozen = credentials.get_frozen_credentials()
        except botocore.exceptions.BotoCoreError as error:
            raise _no_credentials(type(error).__name__) from error
        request = AWSRequest(method=METHOD, url=url, data=BODY, headers=headers_to_sign(binding))
        SigV4Auth(frozen, SERVICE, region).add_auth(request)
        found = re.search(r"Signature=([0-9a-f]{64})$", request.headers["Authorization"])
        assert found is not None  # noqa: S101
        return Proof(
            access_key_id=frozen.access_key or "",
            session_token=frozen.token or "",
            date=request.headers["X-Amz-Date"],
            signature=found.group(1),
        )

    return sign


def _no_credentials(why: str) -> AccessError:
    return AccessError(
        f"no credentials of the execution role: {why}",
        where="the job",
        action="start the job with an execution role",
    )
