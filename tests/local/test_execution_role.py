"""What a job asks of its execution role before and while it runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.local.conftest import (
    LOOK,
    MAKE,
    NETWORK,
    PULL,
    REGION,
    SERVER,
    SITE,
    World,
    client_of,
    document,
    refused,
    statement,
    trust,
)

TRUSTED = trust({"Service": "sagemaker.amazonaws.com"})
SUBNET, GROUP = "subnet-0aaaaaaaaaaaaaaaa", "sg-0aaaaaaaaaaaaaaaa"
VPC = {"SecurityGroupIds": [GROUP], "Subnets": [SUBNET]}
EC2 = f"arn:aws:ec2:{REGION}:{SITE}"
OUTPUT = statement("Allow", ["s3:PutObject", "kms:*"])
SKLEARN = "141502667606.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py312"


def create(world: World, *rights: dict[str, Any], image: str = "", **more: Any) -> str:
    """Create a job with a role of these rights, and more; returns its name, or the refusal."""
    role = world.role(SITE, "execution", TRUSTED, OUTPUT, *rights)
    request = world.request(RoleArn=role, **more)
    if image:
        request["AlgorithmSpecification"]["TrainingImage"] = image
    client = client_of(world.admin(), "sagemaker")
    try:
        client.create_training_job(**request)
    except client.exceptions.ClientError as error:
        said = error.response["Error"]
        return f"{said['Code']}: {said['Message']}"
    return str(request["TrainingJobName"])


def without(actions: list[str], action: str) -> dict[str, Any]:
    return statement("Allow", [name for name in actions if name != action])


@pytest.mark.parametrize("action", NETWORK)
def test_a_network_needs_each_right_on_interfaces(world: World, action: str) -> None:
    said = create(world, without(NETWORK, action), VpcConfig=VPC)
    assert said.startswith("AccessDenied")
    assert f"/SageMaker is not authorized to perform: {action} on resource" in said


def limited(subnet: str = SUBNET, group: str = GROUP, **condition: Any) -> list[dict[str, Any]]:
    """Rights on the interfaces of one subnet and group only."""
    own = [f"{EC2}:subnet/{subnet}", f"{EC2}:security-group/{group}", f"{EC2}:network-interface/*"]
    rest = [action for action in MAKE if action != "ec2:CreateNetworkInterface"]
    more = {"Condition": condition} if condition else {}
    return [
        statement("Allow", [f"ec2:Describe{what}" for what in LOOK]),
        statement("Allow", "ec2:CreateNetworkInterface", own),
        statement("Allow", rest, f"{EC2}:network-interface/*", **more),
    ]


def test_interfaces_are_limited_by_subnet_group_and_vpc(world: World) -> None:
    ec2 = client_of(world.admin(), "ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    inside = {"ArnEquals": {"ec2:Subnet": f"{EC2}:subnet/{SUBNET}"}}
    assert create(world, *limited(**inside), VpcConfig=VPC).startswith("job-")
    for rights, change in (
        (limited(), {"Subnets": [SUBNET, "subnet-0b"]}),
        (limited(), {"SecurityGroupIds": ["sg-0b"]}),
        (limited("subnet-0b", **inside), {"Subnets": ["subnet-0b"]}),
    ):
        said = create(world, *rights, VpcConfig=VPC | change)
        assert said.startswith("AccessDenied"), said
    own = {"ArnEquals": {"ec2:Vpc": f"{EC2}:vpc/{vpc}"}}
    there = {"Subnets": [subnet], "SecurityGroupIds": [GROUP]}
    assert create(world, *limited(subnet, **own), VpcConfig=there).startswith("job-")
    other = {"ArnEquals": {"ec2:Vpc": f"{EC2}:vpc/vpc-0b"}}
    assert "AccessDenied" in create(world, *limited(subnet, **other), VpcConfig=there)
    said = create(world, *limited(**own), VpcConfig=VPC)
    assert "does not model the condition key ec2:Vpc of this request" in said


@pytest.mark.parametrize("action", PULL)
def test_an_image_of_a_registry_needs_the_rights_to_pull(world: World, action: str) -> None:
    own = f"{SITE}.dkr.ecr.{REGION}.amazonaws.com/fedsm/heart:1"
    said = create(world, without(PULL, action), image=own)
    assert said.startswith("ValidationException")
    assert f"Access denied for repository: fedsm/heart in registry ID: {SITE}" in said
    assert action in said


def test_an_image_may_be_one_repositorys_only(world: World) -> None:
    repository = f"arn:aws:ecr:{REGION}:{SITE}:repository/fedsm/heart"
    rights = [statement("Allow", PULL[0]), statement("Allow", PULL[1:], repository)]
    registry = f"{SITE}.dkr.ecr.{REGION}.amazonaws.com"
    assert create(world, *rights, image=f"{registry}/fedsm/heart:1").startswith("job-")
    said = create(world, *rights, image=f"{registry}/fedsm/lung:1")
    assert "Access denied for repository: fedsm/lung" in said
    foreign = f"{SERVER}.dkr.ecr.{REGION}.amazonaws.com/fedsm/heart:1"
    assert "no resource-based policy" in create(world, statement("Allow", PULL), image=foreign)
    assert create(world, statement("Allow", PULL), image=SKLEARN).startswith("job-")


def test_a_boundary_holds_in_the_job(world: World) -> None:
    iam = client_of(world.admin(), "iam")
    role = world.role(SITE, "bounded", TRUSTED, statement("Allow", ["s3:*", "sagemaker:*"]))
    within = document(statement("Allow", "s3:PutObject"), statement("Deny", "s3:ListAllMyBuckets"))
    boundary = iam.create_policy(PolicyName="job-boundary", PolicyDocument=within)["Policy"]["Arn"]
    iam.put_role_permissions_boundary(
        RoleName=role.rpartition("/")[2], PermissionsBoundary=boundary
    )
    program = """
        import boto3
        said = []
        for service, operation in (("s3", "list_buckets"), ("sagemaker", "list_training_jobs")):
            try:
                getattr(boto3.client(service), operation)()
            except Exception as error:
                said.append(str(error))
        assert "explicit deny in a permissions boundary" in said[0], said
        assert "no permissions boundary allows the sagemaker:ListTrainingJobs" in said[1], said
    """
    request = world.request(program, RoleArn=role)
    found = world.run(request)
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    request = world.request("pass", RoleArn=role)
    request["InputDataConfig"] = [world.channel("train", f"s3://{world.bucket}/data/")]
    found = world.run(request)
    assert "no permissions boundary allows the s3:ListBucket action" in found["FailureReason"]


def test_a_role_may_trust_sagemaker_for_one_job_only(world: World) -> None:
    jobs = f"arn:aws:sagemaker:{REGION}:{SITE}:training-job/fedsm-*"
    trusted = trust({"Service": "sagemaker.amazonaws.com"}, ArnLike={"aws:SourceArn": jobs})
    role = world.role(SITE, "sourced", trusted, OUTPUT)
    request = world.request(RoleArn=role)
    said = refused(world.admin(), "sagemaker", "create_training_job", **request)
    assert "Could not assume role" in said
    assert world.run(request | {"TrainingJobName": "fedsm-own"})["TrainingJobStatus"] == "Completed"


# Keys ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def key(world: World) -> str:
    made = client_of(world.admin(), "kms").create_key(Description="volumes and outputs")
    return str(made["KeyMetadata"]["Arn"])


def volume(key: str) -> dict[str, Any]:
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5}
    return {"ResourceConfig": resources | {"VolumeKmsKeyId": key}}


def grants(key: str, **more: Any) -> dict[str, Any]:
    return statement("Allow", "kms:CreateGrant", key, **more)


def test_a_volumes_key_needs_a_grant_for_aws(world: World, key: str) -> None:
    iam_only = statement("Allow", ["sagemaker:*", "iam:PassRole"])
    for_aws = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    service = {"StringEquals": {"kms:ViaService": f"sagemaker.{REGION}.amazonaws.com"}}
    output = statement("Allow", "s3:PutObject")

    def made(creator: list[dict[str, Any]], rights: list[dict[str, Any]]) -> str:
        role = world.role(SITE, "volume", TRUSTED, output, *rights)
        session = world.as_role(SITE, iam_only, *creator)
        request = world.request(RoleArn=role, **volume(key))
        client = session.client("sagemaker")
        try:
            return str(client.create_training_job(**request)["TrainingJobArn"])
        except client.exceptions.ClientError as error:
            return str(error)

    assert made([], [grants(key, Condition=for_aws)]).startswith("arn:")
    assert made([], [grants(key, Condition=service)]).startswith("arn:")
    assert made([grants(key, Condition=for_aws)], []).startswith("arn:")
    said = made([], [])
    assert "/SageMaker is not authorized to perform: kms:CreateGrant on resource: " + key in said
    other = {"StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}}
    assert "kms:CreateGrant" in made([], [grants(key, Condition=other)])
    assert "cannot be used" in create(world, **volume(key[:-4] + "0000"))


def test_output_is_encrypted_with_the_rights_of_the_role(world: World, key: str) -> None:
    output = statement("Allow", "s3:PutObject", f"arn:aws:s3:::{world.bucket}/output/*")
    encrypt = statement(
        "Allow",
        "kms:GenerateDataKey",
        key,
        Condition={"StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}},
    )
    config = {"S3OutputPath": f"s3://{world.bucket}/output", "KmsKeyId": key}
    role = world.role(SITE, "encrypting", TRUSTED, output, encrypt)
    found = world.run(world.request(RoleArn=role, OutputDataConfig=config))
    assert found["TrainingJobStatus"] == "Completed", found.get("FailureReason")
    path = found["ModelArtifacts"]["S3ModelArtifacts"].removeprefix(f"s3://{world.bucket}/")
    head = client_of(world.admin(), "s3").head_object(Bucket=world.bucket, Key=path)
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)
    role = world.role(SITE, "plain", TRUSTED, output)
    found = world.run(world.request(RoleArn=role, OutputDataConfig=config))
    assert found["TrainingJobStatus"] == "Failed"
    assert "Artifact upload failed" in found["FailureReason"]
    assert "kms:GenerateDataKey" in found["FailureReason"]


def test_encrypted_data_are_read_with_the_right_to_decrypt(world: World, key: str) -> None:
    client_of(world.admin(), "s3").put_object(
        Bucket=world.bucket,
        Key="sealed/x",
        Body=b"1",
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId=key,
    )
    reads = statement("Allow", ["s3:ListBucket", "s3:GetObject", "s3:PutObject"])
    decrypts = statement("Allow", "kms:Decrypt", key)
    for rights, status in (([reads, decrypts], "Completed"), ([reads], "Failed")):
        role = world.role(SITE, "reading", TRUSTED, *rights)
        request = world.request(RoleArn=role)
        request["InputDataConfig"] = [world.channel("train", f"s3://{world.bucket}/sealed/")]
        found = world.run(request)
        assert found["TrainingJobStatus"] == status, found.get("FailureReason")
    assert "kms:Decrypt" in found["FailureReason"]
