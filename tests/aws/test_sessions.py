"""Cross-account sessions on the local cloud: chaining, source identity, refresh, refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from fedsm import local, policies
from fedsm.aws.sessions import Sessions
from fedsm.errors import AccessError

SERVER, OWNER, REGION = "111111111111", "222222222222", "eu-west-1"
SERVER_ROLE = f"arn:aws:iam::{SERVER}:role/fedsm-coordinator"
KICKOFF = f"arn:aws:iam::{OWNER}:role/fedsm-kickoff"
SILENT = f"arn:aws:iam::{OWNER}:role/no-source-identity"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[boto3.Session]:
    """The server account's administrator; roles stand in both accounts."""
    directory = tmp_path_factory.mktemp("cloud")
    endpoint = local.up(directory, accounts=[SERVER, OWNER])
    admin, owner = endpoint.session(SERVER, REGION), endpoint.session(OWNER, REGION)
    make_role(admin, SERVER_ROLE, policies.coordinator_trust(SERVER))
    admin.client("iam").put_role_policy(
        RoleName="fedsm-coordinator",
        PolicyName="fedsm",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": {
                    "Effect": "Allow",
                    "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"],
                    "Resource": [KICKOFF, SILENT],
                },
            }
        ),
    )
    make_role(owner, KICKOFF, policies.kickoff_trust(SERVER_ROLE, "agreed"))
    silent = policies.kickoff_trust(SERVER_ROLE, "agreed")
    silent["Statement"] = silent["Statement"][:1]
    del silent["Statement"][0]["Condition"]["StringLike"]
    make_role(owner, SILENT, silent)
    yield admin
    local.down(directory)


def make_role(session: boto3.Session, arn: str, trust: dict[str, Any]) -> None:
    session.client("iam").create_role(
        RoleName=arn.rpartition("/")[2], AssumeRolePolicyDocument=json.dumps(trust)
    )


def caller(session: boto3.Session) -> str:
    return str(session.client("sts").get_caller_identity()["Arn"])


def test_a_site_session_is_chained_and_names_the_run(server: boto3.Session) -> None:
    sessions = Sessions(server, "fedsm-run-1")
    source = sessions.coordinator(REGION, SERVER_ROLE)
    assert caller(source) == f"arn:aws:sts::{SERVER}:assumed-role/fedsm-coordinator/fedsm-run-1"
    site = sessions.assume(source, "north", KICKOFF, REGION, "agreed")
    assert caller(site) == f"arn:aws:sts::{OWNER}:assumed-role/fedsm-kickoff/fedsm-run-1"
    assert sessions.assume(source, "north", KICKOFF, REGION, "agreed") is site
    calls = sessions.counter.as_data()
    assert calls["north"]["sts:AssumeRole"] == 1


def test_what_sts_says_of_each_session_is_told(server: boto3.Session) -> None:
    told: list[tuple[str, dict[str, str]]] = []
    sessions = Sessions(
        server, "fedsm-run-6", on_assumed=lambda where, answer: told.append((where, answer))
    )
    source = sessions.coordinator(REGION, SERVER_ROLE)
    sessions.assume(source, "north", KICKOFF, REGION, "agreed")
    with pytest.raises(AccessError):
        sessions.assume(source, "south", KICKOFF, REGION, "guessed")
    assert told == [
        (
            where,
            {
                "role": role,
                "session": f"arn:aws:sts::{account}:assumed-role/{name}/fedsm-run-6",
                "source_identity": "fedsm-run-6",
            },
        )
        for where, role, account, name in (
            ("coordinator", SERVER_ROLE, SERVER, "fedsm-coordinator"),
            ("north", KICKOFF, OWNER, "fedsm-kickoff"),
        )
    ]


def test_it_refreshes_itself_before_it_expires(
    server: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All of a session of 15 minutes lies inside botocore's window for refreshing.
    monkeypatch.setattr("fedsm.aws.sessions.DURATION", 900)
    sessions = Sessions(server, "fedsm-run-2")
    source = sessions.coordinator(REGION, SERVER_ROLE)
    site = sessions.assume(source, "north", KICKOFF, REGION, "agreed")
    first: Any = site.get_credentials()
    before = first.get_frozen_credentials().access_key
    assert caller(site).endswith("fedsm-run-2")
    assert first.get_frozen_credentials().access_key != before
    assert sessions.counter.as_data()["north"]["sts:AssumeRole"] > 1


def test_a_trust_policy_without_source_identity_still_works(server: boto3.Session) -> None:
    # The server's own session must not carry one, for it could not be dropped.
    sessions = Sessions(plain_role_session(server), "fedsm-run-3")
    source = sessions.coordinator(REGION, None)
    site = sessions.assume(source, "north", SILENT, REGION, "agreed")
    assert caller(site).endswith("no-source-identity/fedsm-run-3")


def test_an_inherited_source_identity_is_kept(server: boto3.Session) -> None:
    sessions = Sessions(plain_role_session(server, SourceIdentity="alice"), "fedsm-run-4")
    source = sessions.coordinator(REGION, None)
    site = sessions.assume(source, "north", KICKOFF, REGION, "agreed")
    assert caller(site).endswith("fedsm-kickoff/fedsm-run-4")


def plain_role_session(server: boto3.Session, **options: str) -> boto3.Session:
    found: Any = server.client("sts").assume_role(
        RoleArn=SERVER_ROLE, RoleSessionName="by-hand", **options
    )["Credentials"]
    core = boto3.Session(
        found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"], REGION
    )
    store: Any = core._session.get_component("config_store")
    endpoint = server._session.get_config_variable("endpoint_url")
    store.set_config_variable("endpoint_url", endpoint)
    return core


@pytest.mark.parametrize(
    ("role", "external_id"),
    [(KICKOFF, "guessed"), (KICKOFF.replace("kickoff", "nobody"), "agreed")],
)
def test_a_refusal_says_what_the_trust_policy_must_hold(
    server: boto3.Session, role: str, external_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = Sessions(server, "fedsm-run-5")
    source = sessions.coordinator(REGION, SERVER_ROLE)
    with pytest.raises(AccessError) as caught:
        sessions.assume(source, "north", role, REGION, external_id)
    message = str(caught.value)
    for text in ("north", role, SERVER_ROLE, "sts:ExternalId", "sts:AssumeRole", OWNER):
        assert text in message
    assert external_id not in message.replace(role, "")
    assert not caplog.records
