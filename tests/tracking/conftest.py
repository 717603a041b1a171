"""Fixtures of the tracking tests."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import boto3
import pytest

from fedsm import local
from fedsm.events import Journal

REGION = "eu-west-1"
_numbers = count(1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "events.jsonl")
    yield opened
    opened.close()


@pytest.fixture(scope="package")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of one local cloud for all tests of this folder."""
    directory = tmp_path_factory.mktemp("cloud")
    local.up(directory, accounts=[])
    yield directory
    local.down(directory)


def new_account(cloud: Path) -> boto3.Session:
    """The administrator of an account in which there is nothing."""
    account = f"{next(_numbers):012d}"
    return local.up(cloud, accounts=[account]).session(account, REGION)


@pytest.fixture
def server_account(cloud: Path) -> boto3.Session:
    """The server account, one for each test."""
    return new_account(cloud)
