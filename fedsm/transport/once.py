"""The preparation's values travel to each job once; after that a digest stands for them.

They are the keys ``prepare-...`` of a message's configuration, about a megabyte for 22,100
features. A job that got them says so beside its reply, by their digest; from then on the
coordinator sends ``prepare-digest`` in their place, and the job puts the values in again before its
app sees the message. A job that does not have them any more refuses the message, and gets it in
full. An app that runs without fedsm's job says nothing, and always gets the values.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict

PREFIX, DIGEST = "prepare-", "prepare-digest"

KNOWN = "fedsm.prepared"
"""Name of the record by which a job says which values it has."""

UNKNOWN = 60
"""Code of the Error by which it says that it does not have them."""

REFUSED = "Refused: the job does not have the prepared values that the message refers to."


def digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of values by key, in hexadecimal digits."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=_text)
    return hashlib.sha256(text.encode()).hexdigest()


class Sender:
    """The coordinator's end: who knows the values."""

    def __init__(self) -> None:
        self._values: Mapping[str, Any] = {}
        self._digest = ""
        self._knowing: set[int] = set()

    def share(self, values: Mapping[str, Any]) -> None:
        """These are the values from now on; nobody knows them yet."""
        self._values, self._digest = dict(values), digest(values)
        self._knowing.clear()

    def shorten(self, messages: Iterable[Message]) -> dict[int, RecordDict]:
        """Leave the values out of messages to those who know them.

        Messages that shared a content share what is left of it: it is encoded once.

        Returns
        -------
        dict of int to RecordDict
            Node to the full content, for those whose message was shortened.
        """
        short: dict[int, RecordDict] = {}
        full: dict[int, RecordDict] = {}
        for message in messages:
            node, content = message.metadata.dst_node_id, message.content
            if node in self._knowing:
                full[node] = content  # which also keeps its id from being given away
                if id(content) not in short:
                    short[id(content)] = RecordDict(
                        {name: self._short(record) for name, record in content.items()}
                    )
                message.content = short[id(content)]
        return full

    def told(self, reply: Message) -> None:
        """Take note of whether the sender of a reply knows the values."""
        record = reply.content.pop(KNOWN, None) if reply.has_content() else None
        digest = record.get("digest") if isinstance(record, ConfigRecord) else None
        if self._digest and digest == self._digest:
            self._knowing.add(reply.metadata.src_node_id)
        elif lacks(reply):
            self._knowing.discard(reply.metadata.src_node_id)

    def for_all(self, nodes: Iterable[int]) -> dict[str, Any]:
        """What to tell these nodes at once: the digest where all know the values."""
        nodes = set(nodes)
        return {DIGEST: self._digest} if nodes and nodes <= self._knowing else dict(self._values)

    def _short(self, record: Any) -> Any:
        if not isinstance(record, ConfigRecord) or not self._values:
            return record
        if any(key not in record or record[key] != self._values[key] for key in self._values):
            return record
        rest = {key: value for key, value in record.items() if key not in self._values}
        return ConfigRecord({**rest, DIGEST: self._digest})


class Receiver:
    """The job's end: the values that came last."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._digest = ""

    def fill(self, content: RecordDict) -> ConfigRecord | None:
        """Keep a message's values, or put those in that it refers to.

        Returns
        -------
        ConfigRecord or None
            What to say of it beside the reply; None for a message without values.

        Raises
        ------
        LookupError
            It refers to values that this job does not have.
        """
        found = False
        for record in content.config_records.values():
            if (wanted := record.get(DIGEST)) is not None:
                if wanted != self._digest:
                    raise LookupError(REFUSED)
                del record[DIGEST]
                record.update(self._values)
                found = True
            elif values := {k: v for k, v in record.items() if k.startswith(PREFIX)}:
                if values != self._values:
                    self._values, self._digest = values, digest(values)
                found = True
        return ConfigRecord({"digest": self._digest}) if found else None


def lacks(reply: Message) -> bool:
    """Whether a job refused a message for want of the values."""
    return reply.has_error() and reply.error.code == UNKNOWN


def _text(value: object) -> str:
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} is not of a ConfigRecord")
    return "b:" + base64.b64encode(value).decode()
