"""What stands on the owner's own resources: bucket, key and endpoint policies.

The statements are merged by Sid into what a bucket or key has already. A Sid begins with a mark of
federation and site, so that one site's statements come and go without touching another's.
"""

from __future__ import annotations

from fedsm.config import Site
from fedsm.names import statement_prefix
from fedsm.policies.documents import (
    Document,
    Statement,
    bucket_and_prefix,
    bucket_arn,
    deny_everyone,
    document,
    objects,
    partition,
    s3_service,
)


def code_statements(site: Site, federation: str, publisher_arn: str) -> tuple[Statement, ...]:
    """What the code bucket's policy says of the bundle prefix."""
    mark = statement_prefix(federation, site.name)
    bundles = objects(site, [site.code])
    return (
        deny_everyone(
            f"{mark}OnlyThePublisherWrites",
            "denies everybody but this site's publisher to write below the bundle prefix, the "
            "account's administrators too, so that who publishes is one known role",
            ["s3:PutObject", "s3:PutObjectAcl", "s3:ReplicateObject"],
            bundles,
            {"ArnNotEquals": {"aws:PrincipalArn": publisher_arn}},
        ),
        deny_everyone(
            f"{mark}NobodyOverwrites",
            "denies a write that does not ask S3 to refuse it where an object is there already, so "
            "that a digest keeps its bytes",
            ["s3:PutObject"],
            bundles,
            {"Null": {"s3:if-none-match": "true"}},
        ),
        deny_everyone(
            f"{mark}NobodyDeletes",
            "denies everybody to delete a bundle or a version of it, so that what ran can be "
            "looked at later",
            ["s3:DeleteObject", "s3:DeleteObjectVersion"],
            bundles,
        ),
        deny_everyone(
            f"{mark}OnlyTls",
            "denies any access to bundles that is not encrypted on its way",
            ["s3:*"],
            bundles,
            {"Bool": {"aws:SecureTransport": "false"}},
        ),
    )


def key_statements(site: Site, federation: str) -> tuple[Statement, ...]:
    """What the key's policy says of the execution role; none where the terms name no key.

    The resource of a key policy is always that key, which AWS writes as ``*``.
    """
    if site.kms_key_arn is None:
        return ()
    mark = statement_prefix(federation, site.name)
    jobs = {"Principal": {"AWS": site.execution_role_arn}, "Resource": ["*"]}
    return (
        Statement(
            "lets jobs encrypt their output with this key and read what is encrypted with it, "
            "through S3 only",
            {
                "Sid": f"{mark}UseTheKey",
                "Effect": "Allow",
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                **jobs,
                "Condition": {"StringEquals": {"kms:ViaService": s3_service(site)}},
            },
        ),
        Statement(
            "lets SageMaker, in the execution role, grant the job's volume its use of this key, "
            "and refuses grants to anybody but AWS services",
            {
                "Sid": f"{mark}GrantTheKeyToAws",
                "Effect": "Allow",
                "Action": ["kms:CreateGrant"],
                **jobs,
                "Condition": {"Bool": {"kms:GrantIsForAWSResource": "true"}},
            },
        ),
    )


def endpoint_policy(site: Site) -> Document:
    """Policy of the S3 endpoint of the jobs' VPC: this account's principals, its own buckets.

    So code in a job can neither carry data to a bucket of another account, nor use another
    account's credentials, whatever it holds.
    """
    aws, own = partition(site.role_arn), site.account_id
    uris = [*site.channels.values(), site.code, site.output]
    buckets = sorted({bucket_arn(site, bucket_and_prefix(uri)[0]) for uri in uris})
    condition = {"StringEquals": {"aws:PrincipalAccount": own, "aws:ResourceAccount": own}}
    return document(
        Statement(
            "lets jobs read and write through this endpoint what their role allows, in the owner's "
            "own account only, so that no data leave it for a stranger's bucket",
            {
                "Sid": "OwnObjects",
                "Effect": "Allow",
                "Principal": "*",
                "Action": ["s3:GetObject", "s3:PutObject"],
                "Resource": objects(site, uris),
                "Condition": condition,
            },
        ),
        Statement(
            "lets jobs find the objects of the owner's own buckets through this endpoint",
            {
                "Sid": "OwnBuckets",
                "Effect": "Allow",
                "Principal": "*",
                "Action": ["s3:ListBucket"],
                "Resource": buckets,
                "Condition": condition,
            },
        ),
        # ECR keeps the layers of images in buckets of AWS; source: Amazon ECR User Guide, "Create
        # the Amazon S3 gateway endpoint".
        Statement(
            "lets images be pulled: ECR serves their layers from this bucket of AWS, which nobody "
            "can write",
            {
                "Sid": "ImageLayers",
                "Effect": "Allow",
                "Principal": "*",
                "Action": ["s3:GetObject"],
                "Resource": [f"arn:{aws}:s3:::prod-{site.region}-starport-layer-bucket/*"],
            },
        ),
    )
