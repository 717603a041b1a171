"""Text of a peer, made fit for the journal and the terminal."""

from __future__ import annotations

MAX_REASON = 500
"""Characters of a peer's reason that are kept."""


def clean(text: object, limit: int) -> str:
    """Escape what a terminal would obey or a file refuse, and cut to ``limit`` characters.

    Parameters
    ----------
    text : object
        As it came. What is neither text nor number is named by its type only.
    limit : int
        Most characters of the result; a cut shows as ``...``.

    Returns
    -------
    str
        Printable: control characters, line breaks, changes of direction and lone surrogates stand
        as ``\\xNN`` or ``\\uNNNN``.
    """
    shown = str(text) if isinstance(text, str | int | float) else type(text).__name__
    # Only what can be left after the cut is escaped: the text may be megabytes long.
    escaped = "".join(c if c.isprintable() else _escaped(c) for c in shown[: limit + 1])
    if len(escaped) <= limit:
        return escaped
    return escaped[: max(0, limit - 3)] + "..."[:limit]


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
