"""Keys: their policies, grants and IAM decide together, over HTTP and for objects in S3."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from tests.local.conftest import (
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

HERE = trust({"AWS": SITE})
ROOT = {
    "Effect": "Allow",
    "Principal": {"AWS": f"arn:aws:iam::{SITE}:root"},
    "Action": "kms:*",
    "Resource": "*",
}


def use(principal: str, *actions: str, **condition: Any) -> dict[str, Any]:
    """A statement of a key's policy."""
    allow = {"Effect": "Allow", "Principal": {"AWS": principal}, "Resource": "*"}
    found = allow | {"Action": [f"kms:{action}" for action in actions]}
    return found | ({"Condition": condition} if condition else {})


class Keys:
    """The site's keys, and who may use them."""

    def __init__(self, world: World) -> None:
        self.world, self.admin = world, client_of(world.admin(), "kms")

    def make(self, *statements: dict[str, Any]) -> str:
        more = {"Policy": document(*statements)} if statements else {}
        return str(self.admin.create_key(**more)["KeyMetadata"]["Arn"])

    def role(self, account: str, *statements: dict[str, Any]) -> tuple[str, boto3.Session]:
        """A fresh role's ARN, and a session of it."""
        arn = self.world.role(account, "user", trust({"AWS": account}), *statements)
        return arn, self.world.assume(self.world.admin(account), arn)


@pytest.fixture(scope="module")
def keys(world: World) -> Keys:
    return Keys(world)


def encrypts(session: boto3.Session, key: str, **context: str) -> bool:
    """Whether a session may encrypt with a key."""
    client = client_of(session, "kms")
    try:
        client.encrypt(KeyId=key, Plaintext=b"1", EncryptionContext=context)
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "AccessDeniedException":
            raise
        return False
    return True


def test_a_keys_policy_may_hand_the_decision_to_iam(keys: Keys) -> None:
    allow = statement("Allow", "kms:Encrypt")
    _, with_rights = keys.role(SITE, allow)
    named, without = keys.role(SITE)
    handed, closed = keys.make(), keys.make(use(named, "Encrypt"))
    assert encrypts(with_rights, handed)
    assert not encrypts(without, handed)
    assert not encrypts(with_rights, closed)
    assert encrypts(without, closed)
    said = refused(with_rights, "kms", "encrypt", KeyId=closed, Plaintext=b"1")
    assert "because no resource-based policy allows the kms:Encrypt action" in said
    said = refused(keys.world.admin(), "kms", "put_key_policy", KeyId=closed, Policy=document(ROOT))
    assert "not authorized to perform: kms:PutKeyPolicy" in said
    other, own = keys.make(), statement("Allow", "kms:Encrypt", handed)
    _, limited = keys.role(SITE, own)
    assert encrypts(limited, handed)
    assert not encrypts(limited, other)


def test_another_account_needs_both_sides(keys: Keys) -> None:
    allow = statement("Allow", ["kms:Encrypt", "kms:GetKeyPolicy"])
    role, session = keys.role(SERVER, allow)
    _, powerless = keys.role(SERVER)
    key = keys.make(ROOT)
    assert not encrypts(session, key)
    policy = document(ROOT, use(f"arn:aws:iam::{SERVER}:root", "Encrypt", "GetKeyPolicy"))
    keys.admin.put_key_policy(KeyId=key, Policy=policy)
    assert encrypts(session, key)
    assert not encrypts(powerless, key)
    assert "AccessDenied" in refused(session, "kms", "get_key_policy", KeyId=key)
    keys.admin.put_key_policy(KeyId=key, Policy=document(ROOT, use(role, "Decrypt")))
    assert not encrypts(session, key)


def test_a_grant_opens_a_key_to_its_grantee(keys: Keys) -> None:
    role, session = keys.role(SITE)
    key = keys.make()
    call = {"KeyId": key, "GranteePrincipal": role, "Operations": ["Encrypt"]}
    subset = {"EncryptionContextSubset": {"site": "north"}}
    grant = keys.admin.create_grant(**call, Constraints=subset)["GrantId"]
    assert encrypts(session, key, site="north", more="x")
    assert not encrypts(session, key)
    assert not encrypts(session, key, site="south")
    keys.admin.revoke_grant(KeyId=key, GrantId=grant)
    assert not encrypts(session, key, site="north")
    exact = {"EncryptionContextEquals": {"site": "north"}}
    keys.admin.create_grant(**call, Constraints=exact)
    assert encrypts(session, key, site="north")
    assert not encrypts(session, key, site="north", more="x")
    assert "AccessDenied" in refused(session, "kms", "decrypt", CiphertextBlob=sealed(keys, key))


def sealed(keys: Keys, key: str) -> bytes:
    return bytes(keys.admin.encrypt(KeyId=key, Plaintext=b"1")["CiphertextBlob"])


def test_condition_keys(keys: Keys) -> None:
    key = keys.make()
    for_aws = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    via = {"StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}}
    context = {"StringEquals": {"kms:EncryptionContext:site": "north"}}
    role, session = keys.role(
        SITE,
        statement("Allow", "kms:CreateGrant", key, Condition=for_aws),
        statement("Allow", "kms:Decrypt", key, Condition=via),
        statement("Allow", "kms:Encrypt", key, Condition=context),
    )
    call = {"KeyId": key, "GranteePrincipal": role, "Operations": ["Encrypt"]}
    assert "kms:CreateGrant" in refused(session, "kms", "create_grant", **call)
    assert "kms:Decrypt" in refused(session, "kms", "decrypt", CiphertextBlob=sealed(keys, key))
    assert encrypts(session, key, site="north")
    assert not encrypts(session, key, site="south")
    caller = {"StringEquals": {"kms:CallerAccount": SERVER}}
    keys.admin.put_key_policy(
        KeyId=key, Policy=document(ROOT, {**ROOT, "Effect": "Deny", "Condition": caller})
    )
    assert encrypts(session, key, site="north")
    grants = {"StringEquals": {"kms:GrantConstraintType": "x"}}
    _, session = keys.role(SITE, statement("Allow", "kms:CreateGrant", Condition=grants))
    said = refused(session, "kms", "create_grant", **call)
    assert "does not model the condition key kms:GrantConstraintType" in said


def test_keys_are_found_and_refused_by_name(keys: Keys) -> None:
    key, admin = keys.make(), keys.world.admin()
    keys.admin.create_alias(AliasName="alias/fedsm", TargetKeyId=key)
    assert keys.admin.describe_key(KeyId="alias/fedsm")["KeyMetadata"]["Arn"] == key
    assert keys.admin.decrypt(CiphertextBlob=sealed(keys, key))["Plaintext"] == b"1"
    _, session = keys.role(SITE, statement("Allow", "kms:CreateAlias", "arn:aws:kms:*:*:alias/*"))
    call = {"AliasName": "alias/more", "TargetKeyId": key}
    assert f"kms:CreateAlias on resource: {key}" in refused(session, "kms", "create_alias", **call)
    absent = key[:-4] + "0000"
    assert refused(admin, "kms", "describe_key", KeyId=absent).startswith("NotFound")
    missing = {"AWS": f"arn:aws:iam::{SITE}:role/absent"}
    for policy in ("{", document({**ROOT, "Principal": missing})):
        said = refused(admin, "kms", "put_key_policy", KeyId=key, Policy=policy)
        assert said.startswith("MalformedPolicyDocumentException")
    said = refused(
        admin, "kms", "generate_mac", KeyId=key, Message=b"1", MacAlgorithm="HMAC_SHA_256"
    )
    assert "does not model kms:GenerateMac" in said
    keys.admin.disable_key(KeyId=key)
    assert refused(admin, "kms", "encrypt", KeyId=key, Plaintext=b"1").startswith("Disabled")


# S3 -----------------------------------------------------------------------------------------


def test_objects_under_a_key_need_its_rights(world: World, keys: Keys) -> None:
    key = keys.make()
    s3 = statement("Allow", "s3:*")
    _, both = keys.role(SITE, s3, statement("Allow", ["kms:GenerateDataKey", "kms:Decrypt"], key))
    _, writer = keys.role(SITE, s3, statement("Allow", "kms:GenerateDataKey", key))
    _, neither = keys.role(SITE, s3)
    put = {
        "Bucket": world.bucket,
        "Key": "under/key",
        "Body": b"1",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": key,
    }
    get = {"Bucket": world.bucket, "Key": "under/key"}
    made = client_of(writer, "s3").put_object(**put)
    assert (made["ServerSideEncryption"], made["SSEKMSKeyId"]) == ("aws:kms", key)
    assert client_of(both, "s3").get_object(**get)["Body"].read() == b"1"
    assert client_of(writer, "s3").head_object(**get)["SSEKMSKeyId"] == key
    assert f"kms:GenerateDataKey on resource: {key}" in refused(neither, "s3", "put_object", **put)
    assert f"kms:Decrypt on resource: {key}" in refused(writer, "s3", "get_object", **get)
    source = {"Bucket": world.bucket, "CopySource": get, "Key": "copied"}
    assert "kms:Decrypt" in refused(writer, "s3", "copy_object", **source)
    upload = {name: value for name, value in put.items() if name != "Body"}
    assert "kms:Decrypt" in refused(writer, "s3", "create_multipart_upload", **upload)
    client_of(both, "s3").create_multipart_upload(**upload)
    absent = put | {"SSEKMSKeyId": key[:-4] + "0000"}
    assert refused(both, "s3", "put_object", **absent).startswith("KMS.NotFoundException")


def test_a_buckets_default_key_counts(world: World, keys: Keys) -> None:
    key, name = keys.make(), "sealed-by-default"
    s3 = client_of(world.admin(), "s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    rule = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    s3.put_bucket_encryption(
        Bucket=name,
        ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": rule}]},
    )
    _, session = keys.role(SITE, statement("Allow", "s3:*"))
    call = {"Bucket": name, "Key": "x", "Body": b"1"}
    assert "kms:GenerateDataKey" in refused(session, "s3", "put_object", **call)
    assert s3.put_object(**call)["SSEKMSKeyId"] == key


def test_another_accounts_key_closes_an_open_bucket(world: World, keys: Keys) -> None:
    key, name = keys.make(), "open-to-the-server"
    s3 = client_of(world.admin(), "s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    everyone = {"Principal": {"AWS": SERVER}, "Resource": f"arn:aws:s3:::{name}/*"}
    s3.put_bucket_policy(
        Bucket=name, Policy=json.dumps({"Statement": [statement("Allow", "s3:*") | everyone]})
    )
    s3.put_object(Bucket=name, Key="plain", Body=b"1")
    s3.put_object(
        Bucket=name, Key="sealed", Body=b"1", ServerSideEncryption="aws:kms", SSEKMSKeyId=key
    )
    role, session = keys.role(SERVER, statement("Allow", ["s3:*", "kms:*"]))
    client_of(session, "s3").get_object(Bucket=name, Key="plain")
    said = refused(session, "s3", "get_object", Bucket=name, Key="sealed")
    assert f"not authorized to perform: kms:Decrypt on resource: {key}" in said
    keys.admin.put_key_policy(KeyId=key, Policy=document(ROOT, use(role, "Decrypt")))
    client_of(session, "s3").get_object(Bucket=name, Key="sealed")
