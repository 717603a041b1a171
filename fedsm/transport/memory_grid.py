"""Flower's ``Grid`` over ClientApps in this process: nothing travels."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fedsm.transport import flower
from fedsm.transport.notes import take_head
from fedsm.transport.site_grid import SiteGrid

SITE = "site"
"""Key of a context's node config: the site's name."""

_RUN = flower.run_number("simulation")
_RAISED = 2
"""Flower's code of an app that raised."""

log = logging.getLogger(__name__)


class MemoryGrid(SiteGrid):
    """One ClientApp, and a context a site; a message is answered when it is pushed.

    Parameters
    ----------
    app : ClientApp
    sites : sequence of str
    run_config : mapping
        Hyperparameters by name.

    Attributes
    ----------
    contexts : dict of str to Context
        Site to its context, with the state that the app left there.
    """

    def __init__(self, app: ClientApp, sites: Sequence[str], run_config: Mapping[str, Any]) -> None:
        self._app = app
        self.set_run(flower.empty_run(_RUN))
        self._names = dict(enumerate(sites, start=flower.COORDINATOR_NODE + 1))
        self.contexts = {
            site: Context(_RUN, node, {SITE: site}, RecordDict(), dict(run_config))
            for node, site in self._names.items()
        }
        self._replies: dict[str, Message] = {}
        self._warned: set[str] = set()

    def get_node_ids(self) -> Iterable[int]:
        """All sites' node ids."""
        return list(self._names)

    def site_of(self, node_id: int) -> str:
        """The site's name for a node id; ``KeyError`` if there is none."""
        return self._names[node_id]

    def wait_for_sites(self, count: int, timeout: float) -> list[str]:
        """All sites, at once."""
        return list(self._names.values())

    def traffic(self) -> dict[str, tuple[int, int]]:
        """Nothing travels."""
        return {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Let each site answer in turn; returns the messages' ids."""
        ids = []
        for message in messages:
            flower.assign_id(message, uuid.uuid4().hex)
            ids.append(message.metadata.message_id)
            self._replies[ids[-1]] = self._answer(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Take the replies."""
        return [self._replies.pop(id_) for id_ in message_ids if id_ in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Let each site answer in turn, however long that takes."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message:
        metadata = message.metadata
        site = self._names[metadata.dst_node_id]
        # Messages share their content: a site gets records of its own, as over a network.
        own = RecordDict({name: _copy(record) for name, record in message.content.items()})
        take_head(own)
        told = flower.instruction(
            own,
            run_id=_RUN,
            message_id=metadata.message_id,
            node_id=metadata.dst_node_id,
            message_type=metadata.message_type,
            group_id=metadata.group_id,
            created_at=metadata.created_at,
            ttl=metadata.ttl,
        )
        try:
            reply = self._app(told, self.contexts[site])
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self._warn(f"site {site} could not answer {metadata.message_type}", reason, error)
            return flower.reply(message, Error(_RAISED, reason))
        return flower.reply(message, reply.error if reply.has_error() else reply.content)

    def _warn(self, what: str, reason: str, error: Exception) -> None:
        """With the traceback, for the app is the caller's; once a reason, for sites are alike."""
        if reason not in self._warned:
            self._warned.add(reason)
            log.warning(what, exc_info=error)


def _copy(record: Any) -> Any:
    return type(record)(dict(record))
