"""The one place for what Flower 1.41 keeps private: task identity, run, and ids of messages."""

from __future__ import annotations

import hashlib

from flwr.app import Error, Message, Metadata, RecordDict
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "COORDINATOR_NODE",
    "NODE_UNAVAILABLE",
    "REPLY_UNAVAILABLE",
    "UNREADABLE",
    "Run",
    "assign_id",
    "empty_run",
    "instruction",
    "reply",
    "run_number",
    "set_identity",
]

COORDINATOR_NODE = 1
"""Node id of the coordinator, as of Flower's own SuperLink."""

UNREADABLE, REPLY_UNAVAILABLE, NODE_UNAVAILABLE = 0, 4, 5
"""Codes of Flower's errors: unknown, no reply in time, node unavailable."""


def run_number(run: str) -> int:
    """Flower's integer run id for a run: 63 bits of its SHA-256."""
    return int.from_bytes(hashlib.sha256(run.encode()).digest()[:8], "big") >> 1


def set_identity(run_id: int, node_id: int) -> None:
    """Say who this process is; ``flwr.app.Message`` cannot be made before.

    Parameters
    ----------
    run_id, node_id : int
        Flower's ids, see :func:`run_number` and :data:`COORDINATOR_NODE`.
    """
    TaskIdentity.task_id = 1
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = node_id


def empty_run(run_id: int) -> Run:
    """A ``Run`` that holds the id only."""
    return Run.create_empty(run_id)


def assign_id(message: Message, message_id: str) -> None:
    """Give a message its id, as Flower's SuperLink does when it takes one."""
    message.metadata.__dict__["_message_id"] = message_id


def instruction(
    content: RecordDict,
    *,
    run_id: int,
    message_id: str,
    node_id: int,
    message_type: str,
    group_id: str,
    created_at: float,
    ttl: float,
) -> Message:
    """The coordinator's message as the job's ClientApp sees it.

    Raises
    ------
    ValueError
        ``message_type`` is not one of Flower's.
    """
    metadata = Metadata(
        run_id=run_id,
        message_id=message_id,
        src_node_id=COORDINATOR_NODE,
        dst_node_id=node_id,
        reply_to_message_id="",
        group_id=group_id,
        created_at=created_at,
        ttl=ttl,
        message_type=message_type,
    )
    return Message(content=content, metadata=metadata)  # type: ignore[call-overload, no-any-return]


def reply(to: Message, content: RecordDict | Error) -> Message:
    """A site's answer as the strategy sees it."""
    if isinstance(content, Error):
        return Message(content, reply_to=to)
    return Message(content, reply_to=to)
