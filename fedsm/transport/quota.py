"""How much one peer may have of what all share."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class PerMinute:
    """So many a minute, and no more until the next."""

    most: int
    _began: float = field(default_factory=time.monotonic)
    _count: int = 0

    def allow(self) -> bool:
        """Whether there is room for one more; it is counted."""
        if time.monotonic() - self._began > 60:
            self._began, self._count = time.monotonic(), 0
        self._count += 1
        return self._count <= self.most


@dataclass(slots=True)
class Shares:
    """So many at a time for each key."""

    most: int
    _taken: Counter[str] = field(default_factory=Counter)

    def take(self, key: str) -> bool:
        """Take one; False if the key has all that it may."""
        if self._taken[key] >= self.most:
            return False
        self._taken[key] += 1
        return True

    def give_back(self, key: str) -> None:
        """Give one back."""
        self._taken[key] -= 1
        if not self._taken[key]:
            del self._taken[key]


def address(peer: str) -> str:
    """The address of a peer as gRPC names it, without the port."""
    return peer.rpartition(":")[0]
