"""Which address the jobs dial."""

from __future__ import annotations

import pytest

from fedsm.address import choose, host_addresses, listen_host, resolve
from fedsm.config import Coordinator
from fedsm.errors import ConfigError


def test_the_one_address_inside_the_vpc() -> None:
    assert choose(["10.0.1.5", "127.0.0.1", "192.168.0.9"], ["10.0.0.0/16"]) == "10.0.1.5"


def test_none_or_several_lists_the_candidates() -> None:
    with pytest.raises(ConfigError, match=r"none of .*\(127.0.0.1, 192.168.0.9\)"):
        choose(["127.0.0.1", "192.168.0.9"], ["10.0.0.0/16"])
    with pytest.raises(ConfigError, match=r"several of .*\(10.0.1.5, 10.0.2.5\)"):
        choose(["10.0.1.5", "10.0.2.5", "127.0.0.1"], ["10.0.0.0/16"])


def test_the_host_knows_its_own() -> None:
    assert "127.0.0.1" in host_addresses()
    assert listen_host("127.0.0.1") == "127.0.0.1"
    assert listen_host("coordinator.example") == "0.0.0.0"


def test_auto_is_loopback_on_the_local_cloud_only() -> None:
    base = {"account_id": "1" * 12, "region": "us-east-1"}
    assert resolve(Coordinator.model_validate(base), "local") == "127.0.0.1"
    given = Coordinator.model_validate({**base, "address": "10.1.2.3"})
    assert resolve(given, "aws") == "10.1.2.3"
