"""A site's reply as the strategy sees it; one that cannot be read becomes an Error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.app import Error

from fedsm.errors import WireError
from fedsm.transport import flower, notes, records
from fedsm.transport.ledger import Pending
from fedsm.transport.text import MAX_REASON, clean
from fedsm.transport.wire import Limits


def settle(
    pending: Pending, envelope: Mapping[str, Any], segments: list[bytes], limits: Limits
) -> None:
    """Settle an instruction with what came in reply; safe in any thread."""
    content, error = envelope.get("content"), envelope.get("error")
    try:
        if error is None:
            records.check_amount(content, limits)
            loaded = records.load(content, segments)
            notes.restore(loaded)
            reply = flower.reply(pending.message, loaded)
        else:
            reply = flower.reply(pending.message, _error(error))
    except Exception as fault:  # whatever Flower or NumPy make of it: it is this site's alone
        refuse(pending, str(fault))
    else:
        pending.settle(pending, reply)


def fits(pending: Pending, size: int, limits: Limits) -> bool:
    """Whether a reply's body of ``size`` bytes is to be read; if not, the Error is settled."""
    limit = limits.of_reply(pending.payload.size).max_message
    if size > limit:
        refuse(pending, f"{size:,} bytes of arrays came, at most {limit:,} may")
    return size <= limit


def refuse(pending: Pending, reason: str) -> None:
    """Settle an instruction with an Error of its site."""
    said = clean(f"the reply cannot be read: {reason}", MAX_REASON)
    pending.fail(flower.UNREADABLE, said)


def _error(said: Any) -> Error:
    code, reason = said
    if type(code) is not int or not isinstance(reason, str | None):
        raise WireError("an error's code and reason are not of their types")
    return Error(code, None if reason is None else clean(reason, MAX_REASON))
