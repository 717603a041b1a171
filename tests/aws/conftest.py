"""A local cloud of a server's and an owner's account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from fedsm.local import Endpoint, down, up

SERVER, OWNER = "111111111111", "222222222222"
REGION = "us-east-1"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    place = tmp_path_factory.mktemp("cloud")
    endpoint = up(place, accounts=[SERVER, OWNER])
    trust: dict[str, Any] = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": SERVER}, "Action": "sts:AssumeRole"}
        ],
    }
    endpoint.session(SERVER, REGION).client("iam").create_role(
        RoleName="fedsm-coordinator", AssumeRolePolicyDocument=json.dumps(trust)
    )
    yield endpoint
    down(place)


@pytest.fixture
def owner(cloud: Endpoint) -> boto3.Session:
    return cloud.session(OWNER, REGION)
