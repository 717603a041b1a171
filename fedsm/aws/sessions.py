"""Where boto3 sessions come from: the one difference between the two clouds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import boto3
from botocore.credentials import AssumeRoleCredentialFetcher, RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session as BotocoreSession

from fedsm.aws.calls import CLIENT_CONFIG, CallCounter, error_code
from fedsm.errors import AccessError

# Role chaining caps a session at one hour; anything near botocore's 15-minute refresh window would
# be refreshed at each call.
DURATION = 3600


class Sessions:
    """Sessions of one run: the coordinator's own and one for each site, each made once.

    Parameters
    ----------
    base : boto3.Session
        The ambient credentials.
    run : str
        Names the role sessions, so that CloudTrail of every account shows the run.
    counter : CallCounter, optional
        Counts the calls of every client made here.
    on_assumed : callable, optional
        Told where, and ``role``, ``session`` and ``source_identity`` as STS answered, each time a
        role is assumed.
    """

    def __init__(
        self,
        base: boto3.Session,
        session_name: str,
        counter: CallCounter | None = None,
        on_assumed: Callable[[str, dict[str, str]], None] | None = None,
    ) -> None:
        self._base = base
        self._name = session_name
        self._on_assumed = on_assumed
        self.counter = counter or CallCounter()
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._sessions: dict[str, boto3.Session] = {}
        # boto3 sessions are not thread-safe while they make clients; clients are.
        self._lock = threading.RLock()

    def coordinator(self, region: str, role_arn: str | None) -> boto3.Session:
        """The coordinator's session: the ambient one, or that of its own role."""
        with self._lock:
            key = f"coordinator {role_arn}"
            if key not in self._sessions:
                self._sessions[key] = (
                    self._base
                    if role_arn is None
                    else self._assumed(self._base, "coordinator", role_arn, region, None)
                )
            return self._sessions[key]

    def assume(
        self, source: boto3.Session, where: str, role_arn: str, region: str, external_id: str
    ) -> boto3.Session:
        """A site's session, which refreshes itself before it expires.

        Raises
        ------
        AccessError
            The role cannot be assumed; says what its trust policy must hold.
        """
        with self._lock:
            key = f"{where} {role_arn}"
            if key not in self._sessions:
                self._sessions[key] = self._assumed(source, where, role_arn, region, external_id)
            return self._sessions[key]

    def client(self, session: boto3.Session, service: str, where: str, region: str) -> Any:
        """A counted client of ``session`` with standard retries, made once."""
        with self._lock:
            key = (where, service, region)
            if key not in self._clients:
                made = session.client(service, region_name=region, config=CLIENT_CONFIG)  # type: ignore[call-overload]
                self._clients[key] = self.counter.watch(made, where)
            return self._clients[key]

    def _assumed(
        self,
        source: boto3.Session,
        where: str,
        role_arn: str,
        region: str,
        external_id: str | None,
    ) -> boto3.Session:
        if source.get_credentials() is None:
            raise no_credentials(where)
        extra: dict[str, Any] = {"RoleSessionName": self._name, "DurationSeconds": DURATION}
        if external_id:
            extra["ExternalId"] = external_id
        # An inherited source identity cannot be changed, and a trust policy may not allow to set
        # one: then the session goes without, and keeps what it inherited.
        attempts: tuple[dict[str, Any], ...] = ({**extra, "SourceIdentity": self._name}, extra)
        error: Exception | None = None
        for attempt in attempts:
            fetcher = AssumeRoleCredentialFetcher(
                client_creator=self._creator(source, where, role_arn),
                source_credentials=source.get_credentials(),
                role_arn=role_arn,
                extra_args=attempt,
            )
            try:
                first = fetcher.fetch_credentials()
            except ClientError as refused:
                error = refused
                if error_code(refused) != "AccessDenied":
                    break
            except BotoCoreError as failed:
                error = failed
                break
            else:
                credentials = RefreshableCredentials.create_from_metadata(
                    first, refresh_using=fetcher.fetch_credentials, method="assume-role"
                )
                return _session(source, credentials, region)
        raise _cannot_assume(where, role_arn, external_id, self._caller(source), error) from error

    def _creator(self, source: boto3.Session, where: str, role_arn: str) -> Any:
        def tell(http_response: Any, parsed: dict[str, Any], **_: Any) -> None:
            if self._on_assumed is not None and http_response.status_code == 200:
                answer = {
                    "role": role_arn,
                    "session": parsed["AssumedRoleUser"]["Arn"],
                    "source_identity": parsed.get("SourceIdentity", ""),
                }
                self._on_assumed(where, answer)

        def create(service: str, **kwargs: Any) -> Any:
            endpoint = source._session.get_config_variable("endpoint_url")
            client = source._session.create_client(
                service,
                region_name=source.region_name,
                endpoint_url=endpoint,
                **{**kwargs, "config": CLIENT_CONFIG},
            )
            client.meta.events.register("after-call.sts.AssumeRole", tell)
            return self.counter.watch(client, where)

        return create

    def _caller(self, source: boto3.Session) -> str:
        try:
            sts = source.client("sts", config=CLIENT_CONFIG)
            return str(sts.get_caller_identity()["Arn"])
        except (ClientError, BotoCoreError):
            return "the server's role"


def no_credentials(where: str) -> AccessError:
    """There are no AWS credentials at all."""
    return AccessError(
        "there are no AWS credentials",
        where=where,
        action="sign in, for example with `aws sso login`, or set AWS_PROFILE",
    )


def _session(source: boto3.Session, credentials: Any, region: str) -> boto3.Session:
    """A session with these credentials and the endpoint of ``source``."""
    core = BotocoreSession()
    # To read the service models again takes longer than all of a set-up's calls.
    loader = source._session.get_component("data_loader")
    core.register_component("data_loader", loader)
    core._credentials = credentials  # type: ignore[attr-defined]
    core.set_config_variable("region", region)
    endpoint = source._session.get_config_variable("endpoint_url")
    if endpoint:
        # The session's own variable gives way to botocore's provider of endpoints; the store's not.
        core.get_component("config_store").set_config_variable("endpoint_url", endpoint)
    session = boto3.Session(botocore_session=core, region_name=region)
    # Each boto3 session adds its own folder once more.
    loader.search_paths[:] = dict.fromkeys(loader.search_paths)
    return session


def _cannot_assume(
    where: str, role_arn: str, external_id: str | None, caller: str, error: Exception | None
) -> AccessError:
    reason = ""
    if isinstance(error, ClientError):
        reason = f" ({error_code(error)})"
    elif error is not None:
        reason = f" ({error})"
    role = role_arn.split(":")[4]
    principal = _role_arn(caller)
    condition = (
        ' under the condition StringEquals {"sts:ExternalId": the site\'s external_id}'
        if external_id
        else ""
    )
    return AccessError(
        f"cannot assume {role_arn}{reason}",
        where=where,
        action=(
            f"let the owner of account {role} see that the role exists and that its trust policy "
            f"allows sts:AssumeRole to {principal}{condition}; the server's own policy must allow "
            f"sts:AssumeRole on it"
        ),
    )


def _role_arn(caller: str) -> str:
    """The role behind an assumed-role ARN, as a trust policy names it."""
    parts = caller.split(":")
    if len(parts) == 6 and parts[5].startswith("assumed-role/"):
        return f"arn:{parts[1]}:iam::{parts[4]}:role/{parts[5].split('/')[1]}"
    return caller
