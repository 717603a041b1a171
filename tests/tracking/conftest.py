"""Fixtures of the tracking tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from fedsm.events import Journal
from tests.tracking import emulator


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "events.jsonl")
    yield opened
    opened.close()


@pytest.fixture
def server_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    """The server account, answered by moto in this process."""
    emulator.faithful(monkeypatch)
    with mock_aws():
        yield emulator.session()
