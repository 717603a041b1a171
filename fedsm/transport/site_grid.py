"""What the rounds need of a grid: Flower's ``Grid`` over sites that have names."""

from __future__ import annotations

from abc import abstractmethod

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedsm.transport import flower


class SiteGrid(Grid):
    """A Flower grid whose nodes are sites that join, leave, and have names."""

    _run: flower.Run

    def set_run(self, run: flower.Run) -> None:
        """Set the run; only its id is used."""
        self._run = run
        flower.set_identity(run.run_id, flower.COORDINATOR_NODE)

    @property
    def run(self) -> flower.Run:
        """The run as Flower names it."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make an instruction message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    @abstractmethod
    def site_of(self, node_id: int) -> str:
        """The site's name for a node id; ``KeyError`` if there is none."""

    @abstractmethod
    def wait_for_sites(self, count: int, timeout: float) -> list[str]:
        """Wait until ``count`` sites are there or ``timeout`` seconds have passed; their names."""

    @abstractmethod
    def traffic(self) -> dict[str, tuple[int, int]]:
        """Application bytes sent to and received from each site so far."""
