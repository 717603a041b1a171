"""A local cloud with two sites, set up from their accounts' data; and what the judges are told."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import boto3
import botocore.session
from botocore.exceptions import ClientError

from fedsm import onboarding, policies
from fedsm.agreement import Invitation, Terms
from fedsm.local import Endpoint
from fedsm.names import pipeline_name, step_name
from fedsm.onboarding import Account
from tests.policies.judges import Bears, Case
from tests.policies.world import COORDINATOR, OWNER, REGION, SERVER, arn

STEWARD, OFFICER = (f"arn:aws:iam::{OWNER}:role/{name}" for name in ("data-steward", "officer"))
ADMIN = f"arn:aws:iam::{OWNER}:user/admin"
SAGEMAKER_ROLES = ("pipeline", "execution")
LOADER = "import sys,base64,zlib;exec(zlib.decompress(base64.b64decode(''.join(sys.argv[1:]))))"
# Errors of a call that was let through.
PASSED = {
    "404",
    "NoSuchEntity",
    "NoSuchKey",
    "PreconditionFailed",
    "ResourceInUse",
    "ResourceNotFound",
    "ResourceNotFoundException",
    "ValidationException",
}
DENIED = {"403", "AccessDenied", "AccessDeniedException"}

Context = Mapping[str, Sequence[str]]
Ask = tuple[str, str, Context]
"""Action, resource and condition keys."""


@dataclass(frozen=True)
class Probe:
    """One call, by whom, what it asks for, and whether all of that is allowed."""

    name: str
    who: str
    allowed: bool
    asks: tuple[Ask, ...]
    call: Callable[[boto3.Session], Any] = field(compare=False)


@dataclass
class Site:
    """One site of the cloud."""

    name: str
    invitation: Invitation
    terms: Terms
    account: Account
    approved: dict[str, list[policies.Document]] = field(default_factory=dict)

    @property
    def key_policy(self) -> policies.Document:
        """Of every key: the account's own policies decide, and the site's statements are added."""
        own = [dict(statement) for key in self.account.keys for statement in key.statements]
        root = {"AWS": f"arn:aws:iam::{OWNER}:root"}
        return policies.document(
            {"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"}, *own
        )

    def role(self, kind: Any) -> str:
        return self.account.role(kind).arn

    def pipeline(self, digest: str) -> str:
        return arn("sagemaker", f"pipeline/{pipeline_name('heart', self.name, digest)}")

    def bucket(self, what: str) -> str:
        return f"{self.name}-{what}"

    def bears(self, who: str, ask: Ask) -> Bears:
        """The documents that bear on what one of the site's roles, or a stranger, asks."""
        resource = self.key_policy if ask[0].startswith("kms:") else None
        for rule in self.account.buckets:
            arns = (f"arn:aws:s3:::{rule.bucket}", f"arn:aws:s3:::{rule.bucket}/")
            if rule.statements and (ask[1] == arns[0] or ask[1].startswith(arns[1])):
                resource = policies.document(*rule.statements)
        must = ask[0].startswith("kms:")
        if who == "admin":
            return Bears((ALL,), None, resource, must)
        if who == "coordinator":
            return Bears((COORDINATORS,), None, resource)
        role = self.account.role(who)  # type: ignore[arg-type]
        bounds = {bound.arn: bound.document for bound in self.account.boundaries}
        identity = (*role.policies.values(), *self.approved.get(who, []))
        return Bears(identity, bounds.get(role.boundary or ""), resource, must)

    def case(self, who: str, ask: Ask) -> Case:
        action, resource, context = ask
        known = {"admin": ADMIN, "coordinator": COORDINATOR}
        role = known[who] if who in known else self.role(who)
        return Case("", True, action, resource, context, role)


ALL: policies.Document = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
COORDINATORS = policies.coordinator_policy(
    SERVER,
    REGION,
    [
        f"arn:aws:iam::{OWNER}:role/fedsm-heart--{name}-kickoff"
        for name in ("north", "west", "east")
    ],
    "fedsm",
)


def packed(program: str) -> dict[str, list[str]]:
    """A program as a job's entry point."""
    text = base64.b64encode(zlib.compress(program.encode())).decode()
    pieces = [text[i : i + 256] for i in range(0, len(text), 256)]
    return {"ContainerEntrypoint": ["python3", "-c", LOADER], "ContainerArguments": pieces}


def job_request(site: Site, program: str = "pass", **more: Any) -> dict[str, Any]:
    """A training job as the agreement allows it, but for its name."""
    tags, terms = {"fedsm:run": "run", "fedsm:site": site.name}, site.terms
    key = terms.kms_key_arn
    network = {"Subnets": list(terms.subnets), "SecurityGroupIds": list(terms.security_groups)}
    return {
        "AlgorithmSpecification": {
            "TrainingImage": terms.image,
            "TrainingInputMode": "File",
            **packed(program),
        },
        "RoleArn": site.role("execution"),
        "OutputDataConfig": {"S3OutputPath": terms.output, **({"KmsKeyId": key} if key else {})},
        "ResourceConfig": {
            "InstanceType": "ml.m5.xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 10,
            **({"VolumeKmsKeyId": key} if key else {}),
        },
        **({"VpcConfig": network} if terms.subnets else {}),
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        **more,
    }


def definition(site: Site, request: Mapping[str, Any]) -> str:
    """A pipeline of one training step."""
    step = {"Name": step_name("heart", site.name), "Type": "Training", "Arguments": request}
    return json.dumps({"Version": "2020-12-01", "Parameters": [], "Steps": [step]})


@dataclass
class Place:
    """The cloud, and sessions of everybody in it."""

    endpoint: Endpoint
    sites: dict[str, Site]
    spare: tuple[str, str] = ("", "")
    """A subnet and a security group that no terms name."""
    _sessions: dict[tuple[str, str], boto3.Session] = field(default_factory=dict)

    def session(self, who: str, site: str) -> boto3.Session:
        """A session of a role, made once."""
        if (who, site) not in self._sessions:
            self._sessions[who, site] = self._session(who, site)
        return self._sessions[who, site]

    def _session(self, who: str, site: str) -> boto3.Session:
        """A session of a role, taken in the way in which it is meant to be."""
        if who == "admin":
            return self.endpoint.session(OWNER, REGION)
        if who == "coordinator":
            return self.assume(self.endpoint.session(SERVER, REGION), COORDINATOR)
        one = self.sites[site]
        if who == "kickoff":
            base = self.session("coordinator", site)
            return self.assume(
                base,
                one.role("kickoff"),
                ExternalId=one.invitation.external_id,
                SourceIdentity="fedsm-run",
            )
        person = self.assume(
            self.session("admin", site), STEWARD if who == "publisher" else OFFICER
        )
        return self.assume(person, one.role(who))

    def assume(self, base: boto3.Session, role: str, **more: Any) -> boto3.Session:
        sts = base.client("sts", region_name=REGION)
        found: Any = sts.assume_role(RoleArn=role, RoleSessionName="run", **more)["Credentials"]
        core = botocore.session.Session()
        core.set_credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
        store: Any = core.get_component("config_store")
        store.set_config_variable("endpoint_url", self.endpoint.url)
        return boto3.Session(botocore_session=core, region_name=REGION)

    def create(self, session: boto3.Session, role: str, trust: policies.Document) -> None:
        session.client("iam").create_role(
            RoleName=role.rpartition("/")[2], AssumeRolePolicyDocument=json.dumps(trust)
        )

    def set_up(self) -> None:
        """All that the accounts say, by an administrator's hand."""
        server, owner = self.endpoint.session(SERVER, REGION), self.session("admin", "")
        self.create(server, COORDINATOR, policies.coordinator_trust(SERVER))
        server.client("iam").put_role_policy(
            RoleName="fedsm-coordinator",
            PolicyName="fedsm",
            PolicyDocument=json.dumps(COORDINATORS),
        )
        for person in (STEWARD, OFFICER):
            self.create(owner, person, policies.person_trust("Person", OWNER))
        for site in self.sites.values():
            self._set_up(owner, site)

    def _set_up(self, owner: boto3.Session, site: Site) -> None:
        iam, s3 = owner.client("iam"), owner.client("s3")
        for bound in site.account.boundaries:
            iam.create_policy(PolicyName=bound.name, PolicyDocument=json.dumps(bound.document))
        for role in site.account.roles:
            more = {"PermissionsBoundary": role.boundary} if role.boundary else {}
            iam.create_role(
                RoleName=role.name, AssumeRolePolicyDocument=json.dumps(role.trust), **more
            )
            for name, rights in role.policies.items():
                iam.put_role_policy(
                    RoleName=role.name, PolicyName=name, PolicyDocument=json.dumps(rights)
                )
        for rule in site.account.buckets:
            s3.create_bucket(
                Bucket=rule.bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
            )
            if rule.versioned:
                s3.put_bucket_versioning(
                    Bucket=rule.bucket, VersioningConfiguration={"Status": "Enabled"}
                )
            if rule.statements:
                text = json.dumps(policies.document(*rule.statements))
                s3.put_bucket_policy(Bucket=rule.bucket, Policy=text)

        for key in site.account.keys:
            owner.client("kms").put_key_policy(
                KeyId=key.key_arn, PolicyName="default", Policy=json.dumps(site.key_policy)
            )

    def approve(self, site: Site, digest: str, until: Any = None) -> None:
        """Put an approval into the two roles, as the approver."""
        iam = self.session("approver", site.name).client("iam")
        approval = onboarding.approval(site.invitation, site.terms, digest, until)
        for kind, (name, rights) in approval.items():
            iam.put_role_policy(
                RoleName=site.account.role(kind).name,
                PolicyName=name,
                PolicyDocument=json.dumps(rights),
            )
            site.approved.setdefault(kind, []).append(rights)

    def allowed(self, probe: Probe, site: str) -> bool:
        """Whether the cloud lets the call through."""
        try:
            probe.call(self.session(probe.who, site))
        except ClientError as error:
            code = error.response["Error"]["Code"]
            # SageMaker refuses in its own code what its roles may not do.
            said = error.response["Error"].get("Message", "")
            if code in DENIED or "is not authorized to perform" in said:
                return False
            if code not in PASSED:
                raise
        return True
