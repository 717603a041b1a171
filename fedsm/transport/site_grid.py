"""What the rounds need of a grid: Flower's ``Grid`` over sites that have names."""

from __future__ import annotations

from abc import abstractmethod

from flwr.serverapp import Grid


class SiteGrid(Grid):
    """A Flower grid whose nodes are sites that join, leave, and have names."""

    @abstractmethod
    def site_of(self, node_id: int) -> str:
        """The site's name for a node id; ``KeyError`` if there is none."""

    @abstractmethod
    def wait_for_sites(self, count: int, timeout: float) -> list[str]:
        """Wait until ``count`` sites are there or ``timeout`` seconds have passed; their names."""

    @abstractmethod
    def traffic(self) -> dict[str, tuple[int, int]]:
        """Application bytes sent to and received from each site so far."""
