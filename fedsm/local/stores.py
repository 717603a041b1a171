"""Reads of moto's buckets, keys, repositories, subnets and experiments, without anyone's rights."""

from __future__ import annotations

import re
import sys
from typing import Any

from moto.kms.models import kms_backends
from moto.s3.models import s3_backends

# Keys ---------------------------------------------------------------------------------------


def kms_key(identifier: str, account: str, region: str) -> Any | None:
    """moto's key of an id, ARN, alias or alias ARN; None when there is none.

    The ARN's account and Region go before the given ones.
    """
    found = re.fullmatch(r"arn:aws:kms:([a-z0-9-]+):(\d{12}):(key/.+|alias/.+)", identifier)
    if found:
        region, account, identifier = found[1], found[2], found[3].removeprefix("key/")
    keys: dict[str, Any] = kms_backends[account][region].keys
    if identifier.startswith("alias/"):
        return next((key for key in list(keys.values()) if identifier in key.aliases), None)
    return keys.get(identifier)


def key_of_ciphertext(ciphertext: bytes, account: str, region: str) -> Any | None:
    """moto's key with which something was encrypted."""
    key = ciphertext[:36].decode("ascii", "replace")
    return kms_key(key, account, region)


def key_tags(key: Any) -> dict[str, str]:
    """Tags of a key."""
    backend: Any = kms_backends[key.account_id][key.region]
    listed = backend.list_resource_tags(key.id)["Tags"]
    return {tag["TagKey"]: tag["TagValue"] for tag in listed}


# Images and networks ------------------------------------------------------------------------


def repository_policy(account: str, region: str, name: str) -> str | None:
    """Policy of an ECR repository; None when it has none, or is none."""
    backend = _used("ecr", account, region)
    repository = backend.repositories.get(name) if backend else None
    return repository.policy if repository else None


def vpc_of_subnet(account: str, region: str, subnet: str) -> str | None:
    """Id of the VPC in which a subnet lies; None when there is no such subnet."""
    backend = _used("ec2", account, region)
    zones = list(backend.subnets.values()) if backend else []
    return next((found[subnet].vpc_id for found in zones if subnet in found), None)


def _used(service: str, account: str, region: str) -> Any | None:
    """moto's backend of a service; None before the first call to it, which loads it: it is slow."""
    module = sys.modules.get(f"moto.{service}.models")
    return None if module is None else getattr(module, f"{service}_backends")[account][region]


# Experiments --------------------------------------------------------------------------------


def experiments(account: str, region: str) -> dict[str, dict[str, Any]]:
    """moto's experiments, trials and trial components of an account, by kind and name."""
    from moto.sagemaker.models import sagemaker_backends  # large, and not every cloud needs it

    backend: Any = sagemaker_backends[account][region]
    return {
        "Experiment": backend.experiments,
        "Trial": backend.trials,
        "TrialComponent": backend.trial_components,
    }


# Buckets ------------------------------------------------------------------------------------


def bucket_owner(name: str) -> str | None:
    """Account that owns a bucket, None when there is no such bucket."""
    found = s3_backends.bucket_accounts.get(name)
    return None if found is None else found[1]


def bucket_policy(name: str) -> str | None:
    """The bucket policy, None when it has none."""
    owner = bucket_owner(name)
    policy = s3_backends[owner]["aws"].buckets[name].policy if owner else None
    return policy.decode() if isinstance(policy, bytes) else policy


def encryption(bucket: str, key: str = "", version: str | None = None) -> tuple[str, str]:
    """Algorithm and key of an object, or without ``key`` those of a bucket by default."""
    owner = bucket_owner(bucket)
    if owner is None:
        return "", ""
    backend = s3_backends[owner]["aws"]
    if key:
        found: Any = backend.get_object(bucket, key, version_id=version)
        return (getattr(found, "encryption", "") or "", getattr(found, "kms_key_id", "") or "")
    rule = (backend.buckets[bucket].encryption or {}).get("Rule", {})
    default = rule.get("ApplyServerSideEncryptionByDefault", {})
    return default.get("SSEAlgorithm", ""), default.get("KMSMasterKeyID", "")


def has_object(bucket: str, key: str) -> bool:
    """Whether a key exists, without the rights of anyone."""
    owner = bucket_owner(bucket)
    return owner is not None and key in s3_backends[owner]["aws"].buckets[bucket].keys
