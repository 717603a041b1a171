"""An owner's account: set up, changed, approved and taken away, without touching anything else."""

from __future__ import annotations

import hashlib
import io
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from fedsm import onboarding
from fedsm.agreement import Invitation, Terms
from fedsm.aws.approvals import approvals, approve, disapprove, withdraw_stale
from fedsm.aws.documents import merged, same
from fedsm.aws.owner import apply, revoke
from fedsm.aws.steps import Step
from fedsm.clouds import role_session
from fedsm.errors import AccessError, BundleError, ConfigError
from fedsm.names import approved_name, pipeline_name, role_arn, role_name
from tests.aws.conftest import OWNER, REGION
from tests.support import agreement

FOREIGN = {
    "Sid": "Theirs",
    "Effect": "Deny",
    "Principal": "*",
    "Action": "s3:DeleteBucket",
    "Resource": "*",
}


class Place:
    """Agreements over buckets of one test's own, and what stands in the account."""

    def __init__(self, session: boto3.Session) -> None:
        self.session = session
        self.mark = uuid.uuid4().hex[:8]

    def agree(
        self, site: str, terms: dict[str, Any] | None = None, **invited: Any
    ) -> tuple[Invitation, Terms]:
        site = f"{site}-{self.mark}"
        own = {
            "channels": {"train": f"s3://data-{self.mark}/{site}/train/"},
            "output": f"s3://models-{self.mark}/{site}",
            "code": f"s3://code-{self.mark}/{site}",
        }
        return agreement(terms={**own, **(terms or {})}, site=site, **invited)

    def apply(self, agreed: tuple[Invitation, Terms]) -> tuple[Step, ...]:
        return apply(self.session, onboarding.account(*agreed))

    def revoke(self, agreed: tuple[Invitation, Terms]) -> tuple[Step, ...]:
        return revoke(self.session, onboarding.account(*agreed))

    def publish(self, agreed: tuple[Invitation, Terms], data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        bucket, _, prefix = agreed[1].code.removeprefix("s3://").partition("/")
        self.role(agreed, "publisher").client("s3").put_object(
            Bucket=bucket, Key=f"{prefix}/{digest}/source.tar.gz", Body=data, IfNoneMatch="*"
        )
        return digest

    def approve(
        self, agreed: tuple[Invitation, Terms], digest: str, until: datetime | None = None
    ) -> Any:
        session = self.role(agreed, "approver")
        return approve(session, *agreed, digest, until, "fedsm/local", "print(1)")

    def role(self, agreed: tuple[Invitation, Terms], kind: Any) -> boto3.Session:
        arn = role_arn(OWNER, agreed[0].federation, agreed[0].site, kind)
        return role_session(self.session, agreed[0].site, arn, REGION)

    def policy(self, bucket: str) -> dict[str, Any]:
        s3 = self.session.client("s3")
        try:
            found = s3.get_bucket_policy(Bucket=bucket)["Policy"]
        except ClientError:
            return {"Statement": []}
        return dict(json.loads(found))


@pytest.fixture
def place(owner: boto3.Session) -> Place:
    return Place(owner)


def state(session: boto3.Session, site: str) -> dict[str, Any]:
    """All that stands in the account for a site: roles, policies, boundaries, pipelines."""
    iam, found = session.client("iam"), {}
    for role in iam.list_roles()["Roles"]:
        name = role["RoleName"]
        if site in name:
            names = iam.list_role_policies(RoleName=name)["PolicyNames"]
            found[name] = [
                iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"],
                iam.get_role(RoleName=name)["Role"].get("PermissionsBoundary"),
                *(
                    iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
                    for policy in sorted(names)
                ),
            ]
    for policy in iam.list_policies(Scope="Local")["Policies"]:
        if site in policy["PolicyName"]:
            found[policy["PolicyName"]] = iam.get_policy_version(
                PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"]
            )["PolicyVersion"]["Document"]
    for pipeline in session.client("sagemaker").list_pipelines()["PipelineSummaries"]:
        if site in pipeline["PipelineName"]:
            found[pipeline["PipelineName"]] = pipeline["CreationTime"]
    return found


def test_what_is_there_is_left_alone(place: Place) -> None:
    agreed = place.agree("a")
    first = place.apply(agreed)
    assert {step.change for step in first} == {"created", "changed"}
    assert place.apply(agreed) == ()
    versions = place.session.client("s3").get_bucket_versioning(Bucket=f"code-{place.mark}")
    assert versions["Status"] == "Enabled"
    assert len(state(place.session, agreed[0].site)) == len(onboarding.account(*agreed).roles) + 2


def test_a_change_changes_what_differs_alone(place: Place) -> None:
    agreed = place.agree("a")
    place.apply(agreed)
    iam = place.session.client("iam")
    role = role_name("heart", agreed[0].site, "execution")
    iam.put_role_policy(
        RoleName=role, PolicyName=approved_name("0" * 64), PolicyDocument=json.dumps(_nothing())
    )
    changed = place.agree("a", {"instance_type": "ml.m5.4xlarge", "server_reads_logs": True})
    steps = place.apply(changed)
    assert {step.change for step in steps} == {"changed"}
    assert approved_name("0" * 64) in iam.list_role_policies(RoleName=role)["PolicyNames"]
    assert place.apply(changed) == ()
    for i in range(6):  # a managed policy keeps five versions
        place.apply(place.agree("a", {"server_reads_logs": i % 2 == 0}))
    place.revoke(changed)
    assert state(place.session, agreed[0].site) == {}


def test_a_role_with_rights_of_others_is_not_adopted(place: Place) -> None:
    agreed = place.agree("a")
    iam, role = place.session.client("iam"), role_name("heart", agreed[0].site, "kickoff")
    trust = onboarding.account(*agreed).role("kickoff").trust
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust))
    everything = json.dumps(_allow_everything())
    iam.put_role_policy(RoleName=role, PolicyName="stale", PolicyDocument=everything)
    policy = iam.create_policy(PolicyName=f"more-{place.mark}", PolicyDocument=everything)
    managed = policy["Policy"]["Arn"]
    iam.attach_role_policy(RoleName=role, PolicyArn=managed)
    with pytest.raises(ConfigError, match=f"{role} has rights .*: stale, {managed}") as caught:
        place.apply(agreed)
    assert "take them away" in str(caught.value)
    iam.detach_role_policy(RoleName=role, PolicyArn=managed)
    iam.delete_role_policy(RoleName=role, PolicyName="stale")
    place.apply(agreed)
    place.revoke(agreed)


def test_another_server_does_not_inherit_the_kickoff_role(place: Place) -> None:
    agreed = place.agree("a")
    place.apply(agreed)
    before = state(place.session, agreed[0].site)
    aws = place.session.client("iam")
    for change in (
        {"external_id": "another"},
        {"server_role_arn": f"arn:aws:iam::{OWNER}:role/x", "server_account": OWNER},
    ):
        other = place.agree("a", **change)
        with pytest.raises(ConfigError, match="trusts another server, or another external id") as e:
            place.apply(other)
        assert "fedsm site revoke" in str(e.value)
        assert state(place.session, agreed[0].site) == before
    # What else differs in the trust is mended.
    role = onboarding.account(*agreed).role("kickoff")
    first = {"Version": "2012-10-17", "Statement": role.trust["Statement"][0]}
    aws.update_assume_role_policy(RoleName=role.name, PolicyDocument=json.dumps(first))
    assert [step.action for step in place.apply(agreed)] == ["iam:UpdateAssumeRolePolicy"]
    place.revoke(agreed)
    place.apply(place.agree("a", external_id="another"))


def _allow_everything() -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _nothing() -> dict[str, Any]:
    statement = {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def test_sites_that_share_buckets_leave_each_other_alone(place: Place) -> None:
    s3, bucket = place.session.client("s3"), f"code-{place.mark}"
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_policy(
        Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": FOREIGN})
    )
    one, other = place.agree("a"), place.agree("a-2")
    place.apply(one)
    before = place.policy(bucket)["Statement"]
    place.apply(other)
    digest = place.publish(one, b"bundle")
    place.approve(one, digest)
    kept = state(place.session, one[0].site)
    # What is the other's has a name that begins as this one's; drop it from the comparison.
    kept = {name: held for name, held in kept.items() if other[0].site not in name}
    assert place.policy(bucket)["Statement"][: len(before)] == before
    place.apply(place.agree("a-2", {"volume_gb": 20, "server_reads_logs": True}))
    other_digest = place.publish(other, b"another")
    place.approve(other, other_digest)
    disapprove(place.role(other, "approver"), *other, other_digest)
    place.revoke(other)
    assert state(place.session, one[0].site) == kept
    assert place.policy(bucket)["Statement"] == before
    place.revoke(one)
    assert place.policy(bucket)["Statement"] == [FOREIGN]
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 2


def test_a_first_apply_that_fails_leaves_nothing(place: Place) -> None:
    agreed = place.agree("a")
    total = len(place.apply(agreed))
    place.revoke(agreed)
    s3 = place.session.client("s3")
    for name in ("data", "models", "code"):
        s3.delete_bucket(Bucket=f"{name}-{place.mark}")
    for fail_at in range(1, total + 1, 2):
        with pytest.raises(AccessError, match="mend what AWS names") as caught:
            apply(Failing(place.session, fail_at), onboarding.account(*agreed))  # type: ignore[arg-type]
        assert "could not be undone" not in str(caught.value)
        assert state(place.session, agreed[0].site) == {}
        buckets = [b["Name"] for b in s3.list_buckets()["Buckets"]]
        assert not [name for name in buckets if place.mark in name]


class Failing:
    """A session whose calls that change something fail from one on, until they undo."""

    def __init__(self, session: boto3.Session, fail_at: int) -> None:
        self._session, self._left = session, fail_at

    def client(self, *arguments: Any, **options: Any) -> Any:
        client = self._session.client(*arguments, **options)

        def count(model: Any, **_: Any) -> None:
            if model.name.startswith(("Create", "Put", "Update")):
                self._left -= 1
                if self._left == 0:
                    said = {"Error": {"Code": "Broken", "Message": "as the test wants it"}}
                    raise ClientError(said, model.name)

        client.meta.events.register("before-call", count)
        return client


def test_what_cannot_be_undone_is_named(place: Place) -> None:
    agreed = place.agree("a")
    seen: list[Step] = []

    class Stubborn(Failing):
        def client(self, *arguments: Any, **options: Any) -> Any:
            client = super().client(*arguments, **options)

            def refuse(model: Any, **_: Any) -> None:
                if model.name == "DeleteRole":
                    said = {"Error": {"Code": "AccessDenied", "Message": "no"}}
                    raise ClientError(said, model.name)

            client.meta.events.register("before-call", refuse)
            return client

    with pytest.raises(AccessError, match=r"could not be undone: iam:CreateRole of arn") as caught:
        apply(Stubborn(place.session, 10), onboarding.account(*agreed), seen.append)  # type: ignore[arg-type]
    assert "fedsm site revoke" in str(caught.value)
    assert {"left", "undone", "created"} <= {step.change for step in seen}
    place.revoke(agreed)
    assert state(place.session, agreed[0].site) == {}


def test_a_bucket_that_is_missing_or_not_ours(place: Place, cloud: Any) -> None:
    missing = place.agree("a", {"create_buckets": False})
    with pytest.raises(ConfigError, match=f"there is no bucket code-{place.mark}"):
        place.apply(missing)
    theirs = f"theirs-{place.mark}"
    cloud.session("111111111111", REGION).client("s3").create_bucket(Bucket=theirs)
    with pytest.raises(AccessError, match=theirs):
        place.apply(place.agree("a", {"output": f"s3://{theirs}/out"}))
    assert state(place.session, missing[0].site) == {}


def test_a_keys_policy_is_merged_and_cleaned(place: Place) -> None:
    kms = place.session.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]

    def statements() -> Any:
        return json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])[
            "Statement"
        ]

    before = statements()
    agreed = place.agree("a", {"kms_key_arn": key})
    place.apply(agreed)
    assert statements()[: len(before)] == before
    assert len(statements()) > len(before)
    assert place.apply(agreed) == ()
    place.revoke(agreed)
    assert statements() == before


def test_a_site_that_moves_leaves_nothing_behind(place: Place) -> None:
    kms = place.session.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    before = kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]
    agreed = place.agree("a", {"kms_key_arn": key})
    place.apply(agreed)
    moved = place.agree("a", {"code": f"s3://moved-{place.mark}/code"})
    earlier = onboarding.account(*agreed).site
    apply(place.session, onboarding.account(*moved), earlier=earlier)
    assert place.policy(f"code-{place.mark}")["Statement"] == []
    assert len(place.policy(f"moved-{place.mark}")["Statement"]) > 2
    assert same(
        json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]),
        json.loads(before),
    )
    revoke(place.session, onboarding.account(*agreed), earlier=onboarding.account(*moved).site)
    assert place.policy(f"moved-{place.mark}")["Statement"] == []


# Approvals ------------------------------------------------------------------------------------


@pytest.fixture
def agreed(place: Place) -> tuple[Invitation, Terms]:
    found = place.agree("a", hyperparameters={"c": {"low": 0.1, "high": 10}})
    place.apply(found)
    return found


def test_an_approval_comes_and_goes(place: Place, agreed: tuple[Invitation, Terms]) -> None:
    digest = place.publish(agreed, b"bundle")
    until = datetime(2030, 1, 1, tzinfo=UTC)
    approval = place.approve(agreed, digest, until)
    assert approval.bundle == digest
    assert approval.pipeline_arn.endswith(pipeline_name("heart", agreed[0].site, digest))
    assert "-approver/" in approval.approved_by
    before = state(place.session, agreed[0].site)
    again = place.approve(agreed, digest, until)
    assert again.definition_sha256 == approval.definition_sha256
    assert state(place.session, agreed[0].site) == before
    approver = place.role(agreed, "approver")
    (found,) = approvals(approver, *agreed)
    assert (found.bundle, found.until, found.complete) == (digest, until, True)
    place.approve(agreed, digest, until + timedelta(days=1))
    assert approvals(approver, *agreed)[0].until == until + timedelta(days=1)
    steps = disapprove(approver, *agreed, digest)
    assert "kickoff" in steps[0].target
    assert [step.change for step in steps] == ["deleted"] * 3
    assert approvals(approver, *agreed) == []
    assert disapprove(approver, *agreed, digest) == ()
    assert not [name for name in state(place.session, agreed[0].site) if digest in name]


def test_changed_terms_make_the_pipeline_anew(
    place: Place, agreed: tuple[Invitation, Terms]
) -> None:
    digest = place.publish(agreed, b"bundle")
    first = place.approve(agreed, digest)
    changed = agreed[0], agreed[1].model_copy(update={"volume_gb": 20})
    second = place.approve(changed, digest)
    assert second.pipeline_arn == first.pipeline_arn
    assert second.definition_sha256 != first.definition_sha256
    found = place.session.client("sagemaker").describe_pipeline(
        PipelineName=first.pipeline_arn.rpartition("/")[2]
    )
    assert '"VolumeSizeInGB":20' in found["PipelineDefinition"]
    assert len(approvals(place.role(agreed, "approver"), *agreed)) == 1


def test_a_pipeline_that_was_updated_is_made_anew(
    place: Place, agreed: tuple[Invitation, Terms]
) -> None:
    digest = place.publish(agreed, b"bundle")
    name = place.approve(agreed, digest).pipeline_arn.rpartition("/")[2]
    sagemaker = place.session.client("sagemaker")
    before = sagemaker.describe_pipeline(PipelineName=name)
    time.sleep(0.01)
    sagemaker.update_pipeline(
        PipelineName=name, PipelineDefinition=before["PipelineDefinition"].replace("8443", "0")
    )
    sagemaker.update_pipeline(PipelineName=name, PipelineDefinition=before["PipelineDefinition"])
    place.approve(agreed, digest)
    after = sagemaker.describe_pipeline(PipelineName=name)
    assert after["PipelineDefinition"] == before["PipelineDefinition"]
    assert after["CreationTime"] == after["LastModifiedTime"] > before["CreationTime"]


def test_stricter_terms_take_the_start_of_what_was_approved(
    place: Place, agreed: tuple[Invitation, Terms]
) -> None:
    digest = place.publish(agreed, b"bundle")
    place.approve(agreed, digest)
    other = place.publish(agreed, b"another")
    changed = agreed[0], agreed[1].model_copy(update={"smallest_count": 50})
    place.approve(changed, other)

    def withdraw() -> list[str]:
        return withdraw_stale(place.session, *changed, "fedsm/local", "print(1)")

    assert withdraw() == [digest]
    approver = place.role(agreed, "approver")
    assert [each.bundle for each in approvals(approver, *agreed)] == [other]
    assert withdraw() == []
    place.approve(changed, digest)
    assert len(approvals(approver, *agreed)) == 2


def test_only_the_bytes_of_the_digest_are_approved(
    place: Place, agreed: tuple[Invitation, Terms]
) -> None:
    with pytest.raises(BundleError, match="is not there"):
        place.approve(agreed, "0" * 64)
    digest = hashlib.sha256(b"reviewed").hexdigest()
    bucket, _, prefix = agreed[1].code.removeprefix("s3://").partition("/")
    place.role(agreed, "publisher").client("s3").put_object(
        Bucket=bucket,
        Key=f"{prefix}/{digest}/source.tar.gz",
        Body=io.BytesIO(b"another"),
        IfNoneMatch="*",
    )
    with pytest.raises(BundleError, match="other bytes than its digest"):
        place.approve(agreed, digest)
    assert approvals(place.role(agreed, "approver"), *agreed) == []


def test_an_approval_that_fails_is_undone(place: Place, agreed: tuple[Invitation, Terms]) -> None:
    digest = place.publish(agreed, b"bundle")
    before = state(place.session, agreed[0].site)
    for fail_at in (1, 2, 3):
        session = Failing(place.role(agreed, "approver"), fail_at)
        with pytest.raises(AccessError, match="as the test wants it"):
            approve(session, *agreed, digest, None, "fedsm/local", "print(1)")  # type: ignore[arg-type]
        assert state(place.session, agreed[0].site) == before


def test_the_approver_can_do_no_more(place: Place, agreed: tuple[Invitation, Terms]) -> None:
    digest = place.publish(agreed, b"bundle")
    place.approve(agreed, digest)
    session = place.role(agreed, "approver")
    sagemaker, iam = session.client("sagemaker"), session.client("iam")
    name = pipeline_name("heart", agreed[0].site, digest)
    role = role_name("heart", agreed[0].site, "approver")
    everything = json.dumps(_allow_everything())
    refused: list[Callable[[], Any]] = [
        lambda: sagemaker.update_pipeline(PipelineName=name, PipelineDescription="x"),
        lambda: sagemaker.start_pipeline_execution(PipelineName=name),
        lambda: iam.put_role_policy(RoleName=role, PolicyName="x", PolicyDocument=everything),
        lambda: iam.delete_role_permissions_boundary(
            RoleName=role_name("heart", agreed[0].site, "kickoff")
        ),
        lambda: session.client("s3").put_object(
            Bucket=f"code-{place.mark}", Key=f"{agreed[0].site}/x", Body=b"", IfNoneMatch="*"
        ),
    ]
    for call in refused:
        with pytest.raises(ClientError, match="AccessDenied"):
            call()


# Documents ------------------------------------------------------------------------------------


def test_documents_are_compared_as_aws_keeps_them() -> None:
    ours = {"Statement": [{"Action": ["s3:GetObject"], "Resource": ["b", "a"], "Effect": "Allow"}]}
    theirs = {"Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": ["a", "b"]}}
    assert same(ours, theirs)
    assert not same(ours, {"Statement": {**theirs["Statement"], "Effect": "Deny"}})
    assert merged(theirs, [{"Sid": "x1"}], "x")["Statement"] == [
        theirs["Statement"],
        {"Sid": "x1"},
    ]
    assert merged({"Id": "i", "Statement": [{"Sid": "x2"}, FOREIGN]}, [], "x") == {
        "Id": "i",
        "Statement": [FOREIGN],
    }
