"""Real calls in both directions: who makes them, what they ask for, and whether it is allowed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from fedsm.names import pipeline_name, site_prefix
from tests.local.conftest import client_of
from tests.policies.place import Ask, Probe, Site, definition, job_request
from tests.policies.world import DIGEST, OTHER_DIGEST, REGION, arn

SAGEMAKER = "sagemaker.amazonaws.com"
FRESH = {"s3:if-none-match": ["*"]}
GROUP = "/aws/sagemaker/TrainingJobs"
EXPIRED = "ef" * 32
PASSED = {"iam:PassedToService": [SAGEMAKER]}
NEW = "9" * 64


def s3(operation: str, **arguments: Any) -> Callable[[Any], Any]:
    return call("s3", operation, **arguments)


def call(service: str, operation: str, **arguments: Any) -> Callable[[Any], Any]:
    def run(session: Any) -> Any:
        return getattr(client_of(session, service), operation)(**arguments)

    return run


def of_objects(site: Site) -> Iterator[Probe]:
    """Objects: the publisher writes bundles and nothing else, the server reads nothing."""
    code, data = site.bucket("code"), site.bucket("data")
    bundle, key = (
        f"arn:aws:s3:::{code}/fedsm/{DIGEST}/source.tar.gz",
        f"fedsm/{DIGEST}/source.tar.gz",
    )
    new = f"fedsm/{NEW}/source.tar.gz"
    people = ("publisher", "approver") if site.invitation.launch == "pipeline" else ("publisher",)
    for who in (*people, "kickoff", "coordinator", "admin"):
        reads = who in (*people, "admin")
        get: Ask = ("s3:GetObject", bundle, {})
        yield Probe("get bundle", who, reads, (get,), s3("get_object", Bucket=code, Key=key))
        train = f"arn:aws:s3:::{data}/train/x.csv"
        yield Probe(
            "get data",
            who,
            who == "admin",
            (("s3:GetObject", train, {}),),
            s3("get_object", Bucket=data, Key="train/x.csv"),
        )
        for name, fresh in (("new", {"IfNoneMatch": "*"}), ("overwriting", {})):
            yield Probe(
                f"put {name} bundle",
                who,
                who == "publisher" and bool(fresh),
                (("s3:PutObject", f"arn:aws:s3:::{code}/{new}", FRESH if fresh else {}),),
                s3("put_object", Bucket=code, Key=new, Body=b"x", **fresh),
            )
        yield Probe(
            "put beside the bundles",
            who,
            who == "admin",
            (("s3:PutObject", f"arn:aws:s3:::{code}/else/x", FRESH),),
            s3("put_object", Bucket=code, Key="else/x", Body=b"x", IfNoneMatch="*"),
        )
        for name, prefix in (("bundles", "fedsm/"), ("everything", "")):
            listing: Ask = ("s3:ListBucket", f"arn:aws:s3:::{code}", {"s3:prefix": [prefix]})
            yield Probe(
                f"list {name}",
                who,
                reads and (prefix != "" or who == "admin"),
                (listing,),
                s3("list_objects_v2", Bucket=code, Prefix=prefix),
            )
        yield Probe(
            "delete bundle",
            who,
            False,
            (("s3:DeleteObject", bundle, {}),),
            s3("delete_object", Bucket=code, Key=key),
        )
        yield Probe(
            "read the bucket's policy",
            who,
            who == "admin",
            (("s3:GetBucketPolicy", f"arn:aws:s3:::{code}", {}),),
            s3("get_bucket_policy", Bucket=code),
        )


def creation(
    site: Site, name: str, request: dict[str, Any], *, pipeline: bool = False
) -> tuple[Ask, ...]:
    """What ``CreateTrainingJob`` asks for."""
    job = arn("sagemaker", f"training-job/{name}")
    resources, vpc = request["ResourceConfig"], request.get("VpcConfig", {})
    tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
    if pipeline:  # SageMaker adds its own.
        tags |= {"sagemaker:pipeline-execution-arn": "x", "sagemaker:pipeline-step-name": "x"}
    context = {f"aws:RequestTag/{key}": [value] for key, value in tags.items()}
    context |= {"aws:TagKeys": list(tags)} if tags else {}
    given = {
        "InstanceTypes": [resources["InstanceType"]],
        "MaxRuntimeInSeconds": [str(request["StoppingCondition"]["MaxRuntimeInSeconds"])],
        "VpcSubnets": vpc.get("Subnets", []),
        "VpcSecurityGroupIds": vpc.get("SecurityGroupIds", []),
        "VolumeKmsKey": [k for k in [resources.get("VolumeKmsKeyId")] if k],
        "OutputKmsKey": [k for k in [request["OutputDataConfig"].get("KmsKeyId")] if k],
        "InterContainerTrafficEncryption": [
            "true" for _ in [1] if request.get("EnableInterContainerTrafficEncryption")
        ],
    }
    context |= {f"sagemaker:{key}": values for key, values in given.items() if values}
    tagging = {**context, "sagemaker:TaggingAction": ["CreateTrainingJob"]}
    return (
        ("sagemaker:CreateTrainingJob", job, context),
        *([("sagemaker:AddTags", job, tagging)] if tags else []),
        ("iam:PassRole", request["RoleArn"], PASSED),
    )


def variations(site: Site) -> Iterator[tuple[str, bool, dict[str, Any]]]:
    """Requests for a job: as agreed, and with one field that is not."""
    agreed = job_request(site)
    yield "as agreed", True, agreed
    shorter = {"StoppingCondition": {"MaxRuntimeInSeconds": 60}}
    yield "shorter", True, agreed | shorter
    longer = {"StoppingCondition": {"MaxRuntimeInSeconds": 601}}
    yield "longer", False, agreed | longer
    huge = {"ResourceConfig": agreed["ResourceConfig"] | {"InstanceType": "ml.p5.48xlarge"}}
    yield "huge instance", False, agreed | huge
    yield "untagged", False, {k: v for k, v in agreed.items() if k != "Tags"}
    other_site = {"Tags": [{"Key": "fedsm:site", "Value": "other"}]}
    yield "tagged as another site's", False, agreed | other_site
    yield "another role", False, agreed | {"RoleArn": site.role("publisher")}
    network = {"Subnets": ["subnet-0e"], "SecurityGroupIds": ["sg-0e"]}
    yield "in another network", False, agreed | {"VpcConfig": network}
    key = arn("kms", "key/1f2e3d4c")
    output, volume = agreed["OutputDataConfig"], agreed["ResourceConfig"]
    other_key = {"OutputDataConfig": output | {"KmsKeyId": key}}
    yield "with another key for the output", False, agreed | other_key
    other_key = {"ResourceConfig": volume | {"VolumeKmsKeyId": key}}
    yield "with another key for the volume", False, agreed | other_key
    if site.terms.kms_key_arn is not None:
        plain = {"OutputDataConfig": {"S3OutputPath": site.terms.output}}
        yield "without a key for the output", False, agreed | plain
        without = {name: value for name, value in volume.items() if name != "VolumeKmsKeyId"}
        yield "without a key for the volume", False, agreed | {"ResourceConfig": without}
        without = {name: value for name, value in agreed.items() if name != "VpcConfig"}
        yield "in no network", False, without
    between = {"EnableInterContainerTrafficEncryption": True}
    yield "encryption between containers", False, agreed | between


def of_direct_jobs(site: Site) -> Iterator[Probe]:
    """The direct launch: jobs as agreed, of this site's names."""
    prefix = site_prefix("heart", site.name)
    for name, allowed, request in variations(site):
        job = f"{prefix}{uuid.uuid4().hex[:8]}"
        create = call("sagemaker", "create_training_job", TrainingJobName=job, **request)
        yield Probe(f"job {name}", "kickoff", allowed, creation(site, job, request), create)
    tagged = job_request(site)
    tagged["Tags"] = [*tagged["Tags"], {"Key": "department", "Value": "x"}]
    for job, request in ((f"{prefix}tags", tagged), ("fedsm-heart-2--west--x", job_request(site))):
        create = call("sagemaker", "create_training_job", TrainingJobName=job, **request)
        yield Probe(f"job {job}", "kickoff", False, creation(site, job, request), create)
    for job, allowed in ((f"{prefix}gone", True), ("other-gone", False)):
        for operation, action in (("describe", "Describe"), ("stop", "Stop")):
            asks: tuple[Ask, ...] = (
                (f"sagemaker:{action}TrainingJob", arn("sagemaker", f"training-job/{job}"), {}),
            )
            done = call("sagemaker", f"{operation}_training_job", TrainingJobName=job)
            yield Probe(f"{operation} {job}", "kickoff", allowed, asks, done)


def of_the_execution_role(
    site: Site, subnet: str, group: str
) -> Iterator[tuple[str, bool, dict[str, Any], tuple[Ask, ...]]]:
    """Jobs of an administrator, for whom it is SageMaker that needs the execution role's rights."""
    agreed, own = job_request(site), site.terms
    key = ("kms:CreateGrant", str(own.kms_key_arn), {"kms:GrantIsForAWSResource": ["true"]})
    vpc = {"ec2:Vpc": [arn("ec2", f"vpc/{own.vpc_id}")]}
    region = {"aws:RequestedRegion": [REGION]}

    def network(subnet: str, group: str) -> tuple[Ask, ...]:
        of_subnet = arn("ec2", f"subnet/{subnet}")
        interface = arn("ec2", "network-interface/eni-00000000000000000")
        made = {**vpc, "ec2:Subnet": [of_subnet]}
        return (
            ("ec2:DescribeSubnets", "*", region),
            ("ec2:CreateNetworkInterface", of_subnet, vpc),
            ("ec2:CreateNetworkInterface", arn("ec2", f"security-group/{group}"), vpc),
            ("ec2:CreateNetworkInterface", arn("ec2", "network-interface/*"), {}),
            ("ec2:CreateNetworkInterfacePermission", interface, made),
            ("ec2:DeleteNetworkInterface", interface, made),
        )

    def pull(repository: str) -> tuple[Ask, ...]:
        return (
            ("ecr:GetAuthorizationToken", "*", {}),
            ("ecr:BatchGetImage", arn("ecr", f"repository/{repository}"), {}),
        )

    good = (*pull("fedsm"), *network(own.subnets[0], own.security_groups[0]), key)
    yield "as agreed", True, agreed, good
    for name, subnets, groups in (
        ("subnet", subnet, own.security_groups[0]),
        ("group", own.subnets[0], group),
    ):
        config = {"VpcConfig": {"Subnets": [subnets], "SecurityGroupIds": [groups]}}
        yield f"another {name}", False, agreed | config, network(subnets, groups)
    image = str(own.image).replace("/fedsm:", "/fedsm/other:")
    algorithm = {
        "AlgorithmSpecification": agreed["AlgorithmSpecification"] | {"TrainingImage": image}
    }
    yield "another image", False, agreed | algorithm, pull("fedsm/other")


def of_logs(site: Site) -> Iterator[Probe]:
    """Logs are read only where the terms grant it."""
    granted, group = site.terms.server_reads_logs, arn("logs", f"log-group:{GROUP}:log-stream:")
    own = f"{site_prefix('heart', site.name)}x/algo-1"
    for stream, allowed in ((own, granted), ("other-job/algo-1", False)):
        yield Probe(
            f"read log {stream}",
            "kickoff",
            allowed,
            (("logs:GetLogEvents", f"{group}{stream}", {}),),
            call("logs", "get_log_events", logGroupName=GROUP, logStreamName=stream),
        )
    yield Probe(
        "find logs",
        "kickoff",
        granted,
        (("logs:DescribeLogStreams", group, {}),),
        call("logs", "describe_log_streams", logGroupName=GROUP),
    )


def of_executions(site: Site, execution: str) -> Iterator[Probe]:
    """The pipeline launch: the server starts what is approved, watches and stops it."""
    for name, digest, allowed in (
        ("approved", DIGEST, True),
        ("unapproved", OTHER_DIGEST, False),
        ("expired", EXPIRED, False),
    ):
        pipeline = pipeline_name("heart", site.name, digest)
        yield Probe(
            f"start the {name} pipeline",
            "kickoff",
            allowed,
            (("sagemaker:StartPipelineExecution", site.pipeline(digest), {}),),
            call(
                "sagemaker",
                "start_pipeline_execution",
                PipelineName=pipeline,
                ClientRequestToken=uuid.uuid4().hex,
            ),
        )
    own = {"PipelineExecutionArn": execution}
    for operation, action, more in (
        ("describe_pipeline_execution", "DescribePipelineExecution", {}),
        ("list_pipeline_execution_steps", "ListPipelineExecutionSteps", {}),
        ("stop_pipeline_execution", "StopPipelineExecution", {"ClientRequestToken": "x" * 32}),
    ):
        for arguments, allowed in (
            (own, True),
            ({"PipelineExecutionArn": execution.replace("heart--", "heart-2--")}, False),
        ):
            asks: tuple[Ask, ...] = (
                (f"sagemaker:{action}", arguments["PipelineExecutionArn"], {}),
            )
            done = call("sagemaker", operation, **arguments, **more)
            yield Probe(f"{operation} {allowed}", "kickoff", allowed, asks, done)
    for operation, action in (
        ("describe_pipeline", "DescribePipeline"),
        ("delete_pipeline", "DeletePipeline"),
        ("update_pipeline", "UpdatePipeline"),
    ):
        token = {"ClientRequestToken": "x" * 32} if operation == "delete_pipeline" else {}
        yield Probe(
            operation,
            "kickoff",
            False,
            ((f"sagemaker:{action}", site.pipeline(DIGEST), {}),),
            call(
                "sagemaker",
                operation,
                PipelineName=pipeline_name("heart", site.name, DIGEST),
                **token,
            ),
        )
    name, request = f"{site_prefix('heart', site.name)}x", job_request(site)
    create = call("sagemaker", "create_training_job", TrainingJobName=name, **request)
    yield Probe("job", "kickoff", False, creation(site, name, request), create)


def of_approvals(site: Site) -> Iterator[Probe]:
    """The approver makes pipelines and puts approvals into two roles."""
    for name, digest, role, allowed in (
        (pipeline_name("heart", site.name, NEW), NEW, "pipeline", True),
        (pipeline_name("heart", "other", NEW), NEW, "pipeline", False),
        (pipeline_name("heart", site.name, "8" * 64), "8" * 64, "execution", False),
    ):
        own = arn("sagemaker", f"pipeline/{name}")
        create = call(
            "sagemaker",
            "create_pipeline",
            PipelineName=name,
            RoleArn=site.role(role),
            PipelineDefinition=definition(site, job_request(site)),
            ClientRequestToken=digest,
            Tags=[{"Key": "fedsm:site", "Value": site.name}],
        )
        tags = {"aws:RequestTag/fedsm:site": [site.name], "aws:TagKeys": ["fedsm:site"]}
        asks: tuple[Ask, ...] = (
            ("sagemaker:CreatePipeline", own, tags),
            ("sagemaker:AddTags", own, {**tags, "sagemaker:TaggingAction": ["CreatePipeline"]}),
            ("iam:PassRole", site.role(role), PASSED),
        )
        yield Probe(f"create {name} with {role}", "approver", allowed, asks, create)
    name = pipeline_name("heart", site.name, NEW)
    for operation, action, allowed, more in (
        ("describe_pipeline", "DescribePipeline", True, {}),
        ("update_pipeline", "UpdatePipeline", False, {}),
        ("start_pipeline_execution", "StartPipelineExecution", False, {"ClientRequestToken": NEW}),
        ("delete_pipeline", "DeletePipeline", True, {"ClientRequestToken": NEW}),
    ):
        asks = ((f"sagemaker:{action}", site.pipeline(NEW), {}),)
        done = call("sagemaker", operation, PipelineName=name, **more)
        yield Probe(operation, "approver", allowed, asks, done)
    tag = {"ResourceArn": site.pipeline(DIGEST), "Tags": [{"Key": "a", "Value": "b"}]}
    yield Probe(
        "tag later",
        "approver",
        False,
        (("sagemaker:AddTags", site.pipeline(DIGEST), {"aws:TagKeys": ["a"]}),),
        call("sagemaker", "add_tags", **tag),
    )
    nothing = {"Effect": "Deny", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::none/*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [nothing]})
    for kind in ("kickoff", "execution", "pipeline", "publisher"):
        role = site.account.role(kind)  # type: ignore[arg-type]
        bound = {"iam:PermissionsBoundary": [role.boundary]} if role.boundary else {}
        rights = {"RoleName": role.name, "PolicyName": "probe"}
        put = call("iam", "put_role_policy", **rights, PolicyDocument=document)
        allowed = kind in ("kickoff", "execution")
        yield Probe(
            f"put {kind}", "approver", allowed, (("iam:PutRolePolicy", role.arn, bound),), put
        )
        delete = call("iam", "delete_role_policy", **rights)
        yield Probe(
            f"take {kind}",
            "approver",
            allowed,
            (("iam:DeleteRolePolicy", role.arn, bound),),
            delete,
        )
        for operation, action in (
            ("delete_role_permissions_boundary", "DeleteRolePermissionsBoundary"),
            ("list_attached_role_policies", "ListAttachedRolePolicies"),
        ):
            asks = ((f"iam:{action}", role.arn, bound),)
            done = call("iam", operation, RoleName=role.name)
            yield Probe(f"{operation} {kind}", "approver", False, asks, done)
        listed = call("iam", "list_role_policies", RoleName=role.name)
        yield Probe(
            f"list {kind}", "approver", allowed, (("iam:ListRolePolicies", role.arn, {}),), listed
        )


def of_assumptions(site: Site) -> Iterator[tuple[str, dict[str, str], bool, str]]:
    """Who takes a role, under which conditions, and whether it is allowed; last the role's kind."""
    good = {"ExternalId": site.invitation.external_id, "SourceIdentity": "fedsm-run"}
    yield "coordinator", good, True, "kickoff"
    yield "coordinator", {**good, "ExternalId": "guess"}, False, "kickoff"
    for missing in good:
        left = {key: value for key, value in good.items() if key != missing}
        yield "coordinator", left, False, "kickoff"
    yield "admin", good, False, "kickoff"
    for kind in {role.kind for role in site.account.roles} - {"kickoff"}:
        for who in ("admin", "coordinator", "kickoff"):
            # The people are named in the terms, so not even an administrator of the account.
            yield who, {}, False, kind
