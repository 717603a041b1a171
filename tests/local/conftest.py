"""A local cloud of two accounts with a bucket, an execution role and a server's role each."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import textwrap
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError

from fedsm.local import Endpoint, down, up

SERVER, SITE = "111111111111", "222222222222"
REGION = "eu-west-1"
EXECUTION = f"arn:aws:iam::{SITE}:role/fedsm/execution"
KICKOFF = f"arn:aws:iam::{SITE}:role/kickoff"
COORDINATOR = f"arn:aws:iam::{SERVER}:role/coordinator"
LOOK = ["NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups"]
MAKE = [
    f"ec2:{verb}NetworkInterface{what}"
    for verb in ("Create", "Delete")
    for what in ("", "Permission")
]
NETWORK = [*MAKE, *(f"ec2:Describe{what}" for what in LOOK)]
PULL = [
    "ecr:GetAuthorizationToken",
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
]
LOADER = (
    "import base64,sys,zlib;"
    "exec(zlib.decompress(base64.b64decode(''.join(sys.argv[1:]))), {'__name__': '__main__'})"
)


def statement(effect: str, action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def trust(principal: dict[str, Any], *actions: str, **condition: Any) -> str:
    allow: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": principal,
        "Action": list(actions) or ["sts:AssumeRole"],
    }
    if condition:
        allow["Condition"] = condition
    return document(allow)


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


@lru_cache(maxsize=256)
def client_of(session: boto3.Session, service: str) -> Any:
    """A session's client; to make one takes longer than most calls."""
    return session.client(service, region_name=REGION)  # type: ignore[call-overload]


def refused(session: boto3.Session, service: str, operation: str, **arguments: Any) -> str:
    """The error code and message of a call that must fail."""
    with pytest.raises(ClientError) as caught:
        getattr(client_of(session, service), operation)(**arguments)
    return f"{code_of(caught)}: {caught.value.response['Error'].get('Message', '')}"


@dataclass
class World:
    """The cloud of a test, and what tests do with it."""

    endpoint: Endpoint
    project: Path
    bucket: str = "site-data"

    admins: dict[str, boto3.Session] = field(default_factory=dict)

    def admin(self, account: str = SITE) -> boto3.Session:
        if account not in self.admins:
            self.admins[account] = self.endpoint.session(account, REGION)
        return self.admins[account]

    def role(self, account: str, name: str, trusted: str, *statements: dict[str, Any]) -> str:
        """Make a role of a fresh name; returns its ARN."""
        name = f"{name}-{uuid.uuid4().hex[:8]}"
        iam = client_of(self.admin(account), "iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trusted)
        if statements:
            iam.put_role_policy(
                RoleName=name, PolicyName="rights", PolicyDocument=document(*statements)
            )
        return f"arn:aws:iam::{account}:role/{name}"

    def assume(self, base: boto3.Session, arn: str, **more: Any) -> boto3.Session:
        name = more.pop("RoleSessionName", "test")
        answer = client_of(base, "sts").assume_role(RoleArn=arn, RoleSessionName=name, **more)
        return self.session(answer["Credentials"])

    def session(self, credentials: dict[str, Any]) -> boto3.Session:
        core = botocore.session.Session()
        core.set_credentials(
            credentials["AccessKeyId"],
            credentials["SecretAccessKey"],
            credentials.get("SessionToken"),
        )
        store = core.get_component("config_store")
        store.set_config_variable("endpoint_url", self.endpoint.url)
        return boto3.Session(botocore_session=core, region_name=REGION)

    def as_role(self, account: str, *statements: dict[str, Any], **more: Any) -> boto3.Session:
        """A session of a fresh role that has exactly these rights."""
        arn = self.role(account, "role", trust({"AWS": account}), *statements)
        return self.assume(self.admin(account), arn, **more)

    def put(self, key: str, content: bytes | str) -> None:
        data = content.encode() if isinstance(content, str) else content
        client_of(self.admin(), "s3").put_object(Bucket=self.bucket, Key=key, Body=data)

    def request(self, program: str = "pass", **more: Any) -> dict[str, Any]:
        """A CreateTrainingJob request whose job runs a Python program."""
        name = f"job-{uuid.uuid4().hex[:12]}"
        packed = base64.b64encode(zlib.compress(textwrap.dedent(program).encode())).decode()
        return {
            "TrainingJobName": name,
            "AlgorithmSpecification": {
                "TrainingImage": "fedsm/local",
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["python3", "-c", LOADER],
                "ContainerArguments": textwrap.wrap(packed, 256),
            },
            "RoleArn": EXECUTION,
            "OutputDataConfig": {"S3OutputPath": f"s3://{self.bucket}/output"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "VolumeSizeInGB": 5,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            **more,
        }

    def channel(self, name: str, uri: str) -> dict[str, Any]:
        source = {
            "S3DataType": "S3Prefix",
            "S3Uri": uri,
            "S3DataDistributionType": "FullyReplicated",
        }
        return {"ChannelName": name, "DataSource": {"S3DataSource": source}}

    def describe(self, name: str) -> dict[str, Any]:
        client = client_of(self.admin(), "sagemaker")
        return dict(client.describe_training_job(TrainingJobName=name))

    def wait(self, name: str, *statuses: str, timeout: float = 60) -> dict[str, Any]:
        """Poll until the job's status or secondary status is one of these, or terminal."""
        client = client_of(self.admin(), "sagemaker")
        deadline = time.monotonic() + timeout
        wanted = {"Completed", "Failed", "Stopped", *statuses}
        while True:
            found: dict[str, Any] = client.describe_training_job(TrainingJobName=name)
            if {found["TrainingJobStatus"], found["SecondaryStatus"]} & wanted:
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def ready(self, name: str) -> None:
        """Poll until the job's program has said ``ready``: before, it would not hear SIGTERM."""
        self.wait(name, "Training")
        deadline = time.monotonic() + 20
        while True:
            with suppress(ClientError):  # its log is not there yet
                if "ready" in self.logs(name):
                    return
            assert time.monotonic() < deadline, name
            time.sleep(0.05)

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Create a job as the site's administrator and wait for its end."""
        client_of(self.admin(), "sagemaker").create_training_job(**request)
        return self.wait(request["TrainingJobName"])

    def logs(self, name: str) -> list[str]:
        client = client_of(self.admin(), "logs")
        group = "/aws/sagemaker/TrainingJobs"
        streams = client.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")
        return [
            event["message"]
            for stream in streams["logStreams"]
            for event in client.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
        ]


def prepare(world: World) -> None:
    """Bucket, execution role with the rights of a site, kickoff role for the coordinator."""
    site, server = world.admin(SITE), world.admin(SERVER)
    site.client("s3").create_bucket(
        Bucket=world.bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    iam = site.client("iam")
    iam.create_role(
        RoleName="execution",
        Path="/fedsm/",
        AssumeRolePolicyDocument=trust({"Service": "sagemaker.amazonaws.com"}),
    )
    logs = f"arn:aws:logs:{REGION}:{SITE}:log-group:/aws/sagemaker/TrainingJobs*"
    iam.put_role_policy(
        RoleName="execution",
        PolicyName="rights",
        PolicyDocument=document(
            statement("Allow", "s3:ListBucket", f"arn:aws:s3:::{world.bucket}"),
            statement("Allow", "s3:GetObject", f"arn:aws:s3:::{world.bucket}/data/*"),
            statement("Allow", "s3:PutObject", f"arn:aws:s3:::{world.bucket}/output/*"),
            statement("Allow", ["logs:CreateLog*", "logs:PutLogEvents"], logs),
            statement("Allow", [*NETWORK, *PULL]),
        ),
    )
    server.client("iam").create_role(
        RoleName="coordinator", AssumeRolePolicyDocument=trust({"AWS": SERVER})
    )
    server.client("iam").put_role_policy(
        RoleName="coordinator",
        PolicyName="rights",
        PolicyDocument=document(
            statement("Allow", ["sts:AssumeRole", "sts:SetSourceIdentity"], KICKOFF)
        ),
    )
    allow: dict[str, Any] = {"Effect": "Allow", "Principal": {"AWS": COORDINATOR}}
    external = {"StringEquals": {"sts:ExternalId": "secret-id"}}
    named = {"StringLike": {"sts:SourceIdentity": "fedsm-*"}}
    iam.create_role(
        RoleName="kickoff",
        AssumeRolePolicyDocument=document(
            allow | {"Action": "sts:AssumeRole", "Condition": external},
            allow | {"Action": "sts:SetSourceIdentity", "Condition": named},
        ),
    )
    iam.put_role_policy(
        RoleName="kickoff",
        PolicyName="rights",
        PolicyDocument=document(
            statement("Allow", "sagemaker:*TrainingJob", "*"),
            statement("Allow", "sagemaker:AddTags", "*"),
            statement(
                "Allow",
                "iam:PassRole",
                EXECUTION,
                Condition={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
            ),
        ),
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    project = tmp_path_factory.mktemp("cloud")
    endpoint = up(project, accounts=[SERVER, SITE], stop_grace=2.0)
    try:
        made = World(endpoint, project)
        prepare(made)
        yield made
    finally:
        down(project)


def members(world: World, uri: str) -> dict[str, bytes]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body = world.admin().client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        files = [member for member in tar.getmembers() if member.isfile()]
        return {f.name: tar.extractfile(f).read() for f in files}  # type: ignore[union-attr]
