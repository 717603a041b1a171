"""Attacks on the owner's buckets: data, code, models."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.attacks.tries import Try, api, attack
from tests.attacks.world import World

DATA, CODE, MODELS = (f"heart-north-{name}" for name in ("data", "code", "models"))


def _reads(world: World, bucket: str, key: str) -> Iterator[Try]:
    for session in world.attackers.values():
        yield api(session, "s3", "get_object", Bucket=bucket, Key=key)
        folder = key.partition("/")[0]
        yield api(session, "s3", "list_objects_v2", Bucket=bucket, Prefix=folder)


@attack("read-data")
def read_data(world: World) -> Iterator[Try]:
    yield from _reads(world, DATA, "train/rows.csv")


@attack("read-code")
def read_code(world: World) -> Iterator[Try]:
    yield from _reads(world, CODE, f"fedsm/{world.approved.key}")


@attack("read-models")
def read_models(world: World) -> Iterator[Try]:
    yield from _reads(world, MODELS, "output/old/model.tar.gz")


@attack("write-data")
def write_data(world: World) -> Iterator[Try]:
    for session in world.attackers.values():
        for bucket, key in ((DATA, "train/more.csv"), (MODELS, "output/old/model.tar.gz")):
            yield api(session, "s3", "put_object", Bucket=bucket, Key=key, Body=b"1")
            yield api(session, "s3", "delete_object", Bucket=bucket, Key=key)


@attack("overwrite-bundle")
def overwrite_bundle(world: World) -> Iterator[Try]:
    place = {"Bucket": CODE, "Key": f"fedsm/{world.approved.key}"}
    for session in world.attackers.values():
        yield api(session, "s3", "put_object", **place, Body=b"other")
        yield api(session, "s3", "put_object", **place, Body=b"other", IfNoneMatch="*")
        yield api(session, "s3", "delete_object", **place)


@attack("plant-bundle")
def plant_bundle(world: World) -> Iterator[Try]:
    """A new one, or a second file where jobs look for the approved one."""
    for session in world.attackers.values():
        for key in (f"{'0' * 64}/source.tar.gz", f"{world.approved.key}.tar.gz"):
            place = {"Bucket": CODE, "Key": f"fedsm/{key}"}
            yield api(session, "s3", "put_object", **place, Body=b"x", IfNoneMatch="*")


@attack("change-bucket")
def change_bucket(world: World) -> Iterator[Try]:
    """Its policy, and whether it keeps versions."""
    opened = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": [f"arn:aws:s3:::{DATA}/*"],
                }
            ],
        }
    )
    off = {"Status": "Suspended"}
    for session in world.attackers.values():
        for bucket in (DATA, CODE):
            yield api(session, "s3", "get_bucket_policy", Bucket=bucket)
            yield api(session, "s3", "put_bucket_policy", Bucket=bucket, Policy=opened)
            yield api(session, "s3", "delete_bucket_policy", Bucket=bucket)
        versioning = {"Bucket": CODE, "VersioningConfiguration": off}
        yield api(session, "s3", "put_bucket_versioning", **versioning)
