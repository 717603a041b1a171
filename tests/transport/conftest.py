from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.transport.proxy import FaultProxy
from tests.transport.world import World


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    """Make worlds that end with the test."""
    worlds: list[World] = []

    def make(*arguments: Any, **options: Any) -> World:
        worlds.append(World(*arguments, **options))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def make_proxy() -> Iterator[Callable[[int], FaultProxy]]:
    """Make proxies to a port; they end with the test."""
    proxies: list[FaultProxy] = []

    def make(port: int) -> FaultProxy:
        proxies.append(FaultProxy(port))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()
